"""How fast is a bundle without the barrier, and how long does each request wait for a token?"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.lengths.token_load import SlotLoad
from afdplan.model.curve import Curve
from afdplan.theory.attention_time import TimeLaw, constant_time, exact_time, gaussian_time
from afdplan.theory.cycle import StepTimes, objective
from afdplan.theory.fresh_times import ffn_times
from afdplan.theory.layer_cycle import Bottleneck
from afdplan.theory.pool_play import PoolPlay, PoolTimes, play_pool
from afdplan.theory.problem import RatioProblem
from afdplan.theory.validity import BARRIER_FREE_ERROR

__all__ = ["BarrierFreeModel", "step_quantiles"]

CELLS_DRAWN = 2048
"""Loads drawn in all: few calls need many draws, many calls average by themselves."""
FEWEST_DRAWS, MOST_DRAWS = 24, 160
CELLS_GLANCED, FEWEST_GLANCED = 256, 8
"""The same of a glance."""
MANY_LAYERS = 8
SMALL_OVERHEAD = 0.1
"""Above so many layers, an overhead below that share of attention's step is spread over them."""
TAIL, TAIL_ERROR = (0.95, 0.998), 0.04
"""Probabilities between whose quantiles the 99th percentile of a step is sure to be, but for that
relative error: the law of a step that falls into a rhythm jumps (docs/theory/barrier-free.md)."""
BINS = 16
"""Of levels of the load, in which slowness is told apart."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Played:
    """A play and the levels of the loads in it, shape (draws, cells)."""

    play: PoolPlay
    levels: FloatArray


class BarrierFreeModel:
    """The steps of a bundle without the barrier as a function of its attention workers.

    Answers what `CycleModel` does, for whole numbers of workers.

    Parameters
    ----------
    problem
        Everything but the number of attention workers.
    slots
        `problem.slot_loads()`.

    Notes
    -----
    Loads are frozen while the bundle is played (`pool_play.py`), and drawn by Latin hypercube from
    their law. That law is one over steps, and a slow cell stays longer in its step: over time it
    is met more often, by its slowness, which a first play shows. Draws are then weighted by their
    own round time, so that the pace is the mean of round times.
    """

    whole_numbers = True

    def __init__(self, problem: RatioProblem, slots: tuple[SlotLoad, ...]) -> None:
        self.problem = problem
        self.mean_token_loads = problem.mean_token_loads(slots)
        self._laws = [_time_law(problem, slot, at) for at, slot in enumerate(slots)]
        self._played: dict[int, _Played] = {}

    def under(self, least_calls: int) -> BarrierFreeModel:
        """Return the same bundle with a pool that waits for so many calls."""
        other = copy(self)
        other.problem = replace(self.problem, least_calls=least_calls)
        other._played = {}
        return other

    def glance(self, attention_workers: int) -> float:
        """Return the objective from a few draws: good to a per cent or two, in a millisecond."""
        cells = attention_workers * self.problem.microbatches
        play = self._play(attention_workers, max(CELLS_GLANCED // cells, FEWEST_GLANCED)).play
        count = np.array([float(attention_workers)])
        step = np.array([self.problem.latency.layers * play.mean_round])
        return float(self.objective(count, step, self.problem.ffn_weight)[0])

    def play(self, attention_workers: int) -> _Played:
        """Return how a bundle with `attention_workers` A runs."""
        if attention_workers not in self._played:
            cells = attention_workers * self.problem.microbatches
            draws = min(max(CELLS_DRAWN // cells, FEWEST_DRAWS), MOST_DRAWS)
            pilot = self._play(attention_workers, -(-draws // 2))
            self._played[attention_workers] = self._play(attention_workers, draws, _slowness(pilot))
        return self._played[attention_workers]

    def _play(
        self, attention_workers: int, draws: int, slowness: FloatArray | None = None
    ) -> _Played:
        """Play loads drawn from their law, tilted by how slow a cell of each level is."""
        cells = attention_workers * self.problem.microbatches
        generator = np.random.default_rng(0)
        places = generator.random((cells, draws)).argsort(axis=1)
        levels = ((places + generator.random((cells, draws))) / draws).T
        if slowness is not None:
            edges = np.linspace(0, 1, slowness.size + 1)
            levels = np.interp(levels, np.append(0, np.cumsum(slowness)) / slowness.sum(), edges)
        rule, most = self.problem.boarding, self.problem.most_tokens
        found = play_pool(
            self._times(attention_workers, levels),
            # A bundle of fewer calls than the rule asks for waits for all it has.
            least_calls=rule.least_calls
            if rule.longest_wait is not None
            else min(rule.least_calls, cells),
            longest_wait=rule.longest_wait,
            most_calls=None if most is None else max(most // self.problem.batch_size, 1),
            generator=generator,
        )
        return _Played(play=found, levels=levels)

    def stated_error(self, attention_workers: int) -> float:
        """Return the largest relative error to expect of the step time.

        Above `BARRIER_FREE_ERROR` the bundle is outside the declared validity: it has two rhythms,
        and loads so alike that they do not choose.
        """
        play = self.play(attention_workers).play
        return BARRIER_FREE_ERROR + (play.farthest_rhythm if play.other_rhythm else 0.0)

    def p99_between(self, attention_workers: int) -> tuple[float, float]:
        """Return between which times the 99th percentile of a step lies."""
        play, layers = self.play(attention_workers).play, self.problem.latency.layers
        low, high = zip(
            *(step_quantiles(play, layers, TAIL, draws) for draws in (None, 0, 1)), strict=True
        )
        slowest = max(high)
        if layers <= MANY_LAYERS:  # rounds of a step may all be slow
            slowest = max(slowest, layers * float(np.quantile(play.rounds, TAIL[1])))
        return min(low) * (1 - TAIL_ERROR), slowest * (1 + TAIL_ERROR)

    def evaluate(
        self, attention_workers: FloatArray, probabilities: tuple[float, ...] = ()
    ) -> StepTimes:
        """Return the step times of bundles with `attention_workers` A, whole, shape (n,)."""
        latency, m = self.problem.latency, self.problem.microbatches
        plays = [self.play(round(float(count))).play for count in attention_workers]
        mean = latency.layers * np.array([play.mean_round for play in plays])
        quantiles = [step_quantiles(play, latency.layers, probabilities) for play in plays]
        return StepTimes(
            mean=mean,
            quantiles=np.array(quantiles).reshape(len(plays), len(probabilities)),
            cycle=(mean - latency.step_overhead) / (latency.layers * m),
            attention_idle_fraction=np.array([max(1 - p.attention_busy, 0.0) for p in plays]),
            ffn_idle_fraction=np.array([max(1 - p.ffn_busy, 0.0) for p in plays]),
        )

    def objective(
        self, attention_workers: FloatArray, step_time: FloatArray, ffn_weight: float
    ) -> FloatArray:
        """Return ``A m B tokens_per_step / (step (A + w F))`` [tokens/time per unit of cost]."""
        return objective(self.problem, attention_workers, step_time, ffn_weight)

    def resources(self, attention_workers: float) -> dict[Bottleneck, float]:
        """Return how long each resource needs per layer and microbatch of all workers [time].

        ``attention`` is a worker of mean load: nobody waits for the slowest. ``ffn`` serves A calls
        in departures of the mean size, ``latency`` is a call's round trip over the m in flight.
        """
        count = round(attention_workers)
        play, m = self.play(count).play, self.problem.microbatches
        attention = float(np.mean([law.mean for law in self._laws]))
        times = self._times(count, np.full((1, count * m), 0.5))
        ffn = float(np.interp(play.calls_per_departure, np.arange(times.ffn.size), times.ffn))
        trip = attention + times.out + ffn + times.back
        return {
            "attention": attention,
            "communication": max(times.out, times.back),
            "ffn": ffn * count / play.calls_per_departure,
            "latency": trip / m,
        }

    def _times(self, attention_workers: int, levels: FloatArray) -> PoolTimes:
        """Return the times of the stages, with loads at `levels` of their law, (draws, cells)."""
        problem, latency = self.problem, self.problem.latency
        cells = attention_workers * problem.microbatches
        shape = (len(levels), attention_workers, problem.microbatches, len(self._laws))
        attention = np.empty(shape)
        for k, law in enumerate(self._laws):
            drawn = np.interp(levels, law.cumulative, law.support)
            attention[..., k] = drawn.reshape(shape[:3])
        own = float(problem.batch_size)
        tokens: FloatArray = np.arange(cells + 1, dtype=np.float64) * (own / problem.ffn_workers)
        ffn = ffn_times(latency, np.maximum(tokens, tokens[1]), problem.ffn_workers)
        cv = None
        if ffn.fresh is not None and ffn.between is not None:
            cv = np.sqrt(ffn.fresh**2 + ffn.between**2) / np.maximum(ffn.mean, 1e-300)
        shares_out = latency.send.load == "aggregate"
        out = own / problem.ffn_workers if shares_out else own
        back = None
        if latency.receive.load == "aggregate":
            curve = latency.receive.curve
            back = np.stack([curve(tokens), _occupied(curve, tokens)])
        overhead = latency.step_overhead
        work = latency.layers * problem.microbatches * float(attention.mean())
        if latency.layers > MANY_LAYERS and overhead < SMALL_OVERHEAD * work:
            attention[:, :, 0] += overhead / latency.layers
            overhead = 0.0
        return PoolTimes(
            attention=attention,
            kind_of_layer=np.array(latency.kind_of_layer),
            overhead=overhead,
            ffn=ffn.mean,
            ffn_cv=cv,
            out=latency.send.curve(out),
            back=latency.receive.curve(own) if back is None else float(back[0, 1]),
            out_occupied=float(_occupied(latency.send.curve, np.full(1, out, dtype=np.float64))[0]),
            shares_link=shares_out,
            back_of_calls=back,
            attention_cv=latency.scatter.attention,
            send_cv=latency.scatter.send,
            receive_cv=latency.scatter.receive,
        )


def _slowness(pilot: _Played) -> FloatArray:
    """Return the mean round time of cells by the level of their load, relative, per bin."""
    rounds = pilot.play.round_time.reshape(len(pilot.levels), -1)
    relative = (rounds / rounds.mean(axis=1, keepdims=True)).ravel()
    at = np.minimum((pilot.levels.ravel() * BINS).astype(np.int64), BINS - 1)
    means: FloatArray = np.bincount(at, relative, BINS) / np.maximum(np.bincount(at, None, BINS), 1)
    return np.where(means > 0, means, 1.0)


def step_quantiles(
    play: PoolPlay, layers: int, probabilities: tuple[float, ...], draws: int | None = None
) -> tuple[float, ...]:
    """Return quantiles of the time of a step, over the steps of all workers.

    Fast cells make more of them. A step is L rounds of one cell: a mixture of normal laws, each
    with the mean and the variance of its cell's rounds. With one layer steps are rounds.

    Parameters
    ----------
    play
        Of the bundle.
    layers
        L.
    probabilities
        Of the quantiles.
    draws
        0 takes those alone whose calls begin together, 1 the others; by default the first alone
        where the bundle has no one law.
    """
    if not probabilities:
        return ()
    first, every = (draws or 0), 1 if draws is None and play.has_one_law else 2
    if layers == 1:
        rounds = play.rounds[play.draw_of_round % every == first]
        return tuple(np.quantile(rounds, probabilities).tolist())
    from scipy.special import ndtr

    round_time, variance = play.round_time[first::every], play.round_variance[first::every]
    round_time, variance = round_time.ravel(), variance.ravel()
    weights = 1 / round_time
    weights /= weights.sum()
    mean = layers * round_time
    std = np.sqrt(np.maximum(layers * variance, (1e-9 * mean) ** 2))
    low, high = float((mean - 9 * std).min()), float((mean + 9 * std).max())
    found = []
    for probability in probabilities:
        a, b = low, high
        for _ in range(60):
            middle = (a + b) / 2
            if float(weights @ ndtr((middle - mean) / std)) < probability:
                a = middle
            else:
                b = middle
        found.append(b)
    return tuple(found)


def _time_law(problem: RatioProblem, slot: SlotLoad, at: int) -> TimeLaw:
    kind, batch_size = problem.latency.attention[at], problem.batch_size
    if problem.method == "mean-field":
        return constant_time(kind, batch_size * slot.moments.mean, batch_size)
    return (exact_time if problem.method == "exact" else gaussian_time)(slot, kind, batch_size)


def _occupied(curve: Curve, tokens: FloatArray) -> FloatArray:
    """Return how long `tokens` keep a shared link from the next call: all but the latency."""
    busy: FloatArray = curve(tokens) - curve(np.zeros_like(tokens))
    return busy
