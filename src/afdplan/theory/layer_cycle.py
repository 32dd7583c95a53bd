"""How long is one round of one kind of layers, under any overlap and method?"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from afdplan.lengths.load_motion import STILL
from afdplan.lengths.token_load import SlotLoad
from afdplan.model.stages import AttentionLayers
from afdplan.theory.attention_time import TimeLaw, exact_time, gaussian_time
from afdplan.theory.barrier import barrier_mean, barrier_quantile
from afdplan.theory.constant import aligned_loads, constant_round
from afdplan.theory.fresh_times import excess, larger_mean, lateness, scattered
from afdplan.theory.layer_order import order_scores
from afdplan.theory.moving_load import WorkerMotion, moving_load_gain, worker_motion
from afdplan.theory.pipeline import RoundLawTable
from afdplan.theory.problem import Overlap, RatioProblem
from afdplan.theory.shared_times import StageTimes

__all__ = ["Bottleneck", "LayerCycle", "layer_cycle"]

FloatArray = npt.NDArray[np.float64]
Bottleneck = Literal["attention", "communication", "ffn", "latency"]
WAITING = 0.3
"""Share of the longest of m fresh FFN times, over their mean, that a trip waits for."""
EVEN_LEVELS = tuple(((np.arange(16) + 0.5) / 16).tolist())
ABSORBED = 1.0
"""How fast slack lets attention's fresh scatter fade (docs/theory/fresh-times.md)."""
SUM_POINTS = 256
"""On which the density of a worker's round is taken for ties, per level of its grid."""


class LayerCycle(Protocol):
    """The round of one kind of layers under one combination of overlap and method.

    Attributes
    ----------
    attention_mean, attention_std
        Time of one worker on one microbatch, mean and standard deviation [time].
    """

    attention_mean: float
    attention_std: float

    def round(
        self, stages: StageTimes, probabilities: tuple[float, ...]
    ) -> tuple[FloatArray, FloatArray]:
        """Return mean (n,) and quantiles (n, probabilities) of the round [time]."""
        ...

    def slowest_round(self, attention_workers: FloatArray, levels: FloatArray) -> FloatArray:
        """Return quantiles of the slowest worker's round at `levels`, shape (levels, n) [time]."""
        ...

    def slowest_microbatch(self, attention_workers: FloatArray, levels: FloatArray) -> FloatArray:
        """Return the same of one microbatch for itself, shape (levels, n) [time]."""
        ...

    def later(self, added: float) -> LayerCycle:
        """Return the cycle of attention that always takes `added` longer [time]; laws are shared.

        What is `added` may be negative, as long as no time becomes so.
        """
        ...

    def resources(self, stages: StageTimes) -> dict[Bottleneck, FloatArray]:
        """Return how long each resource needs per microbatch, shape (n,) [time]."""
        ...


class _PipelinedCycle:
    """m microbatches in flight, random loads: `RoundLawTable`, less what moving loads gain."""

    def __init__(
        self,
        law: TimeLaw,
        microbatches: int,
        *,
        layers: int,
        motion: WorkerMotion,
        std: float,
        ceiling: float,
        scatter: float = 0.0,
    ) -> None:
        self.attention_mean, self.attention_std = law.mean, std
        self._law = law
        self._layers = layers
        self._motion = motion
        self._ceiling = ceiling
        self._table = RoundLawTable(law, microbatches)
        self._scatter = scatter
        self._afresh = RoundLawTable(scattered(law, scatter), microbatches) if scatter else None
        self._sums = self._table.sum_cumulative(SUM_POINTS)

    def round(
        self, stages: StageTimes, probabilities: tuple[float, ...]
    ) -> tuple[FloatArray, FloatArray]:
        m = self._table.microbatches
        busiest = np.maximum(stages.ffn, np.maximum(stages.out, stages.back))
        trip = stages.trip
        floor, delay, levels = m * busiest, trip, probabilities
        if stages.fresh is not None and m > 1:
            floor = np.maximum(m * np.maximum(stages.out, stages.back), stages.least_ffn_round(m))
            delay = trip + WAITING * float(order_scores(m)[0]) * stages.fresh
            levels = (*probabilities, *EVEN_LEVELS)
        elif self._afresh is not None and probabilities:
            levels = (*probabilities, *EVEN_LEVELS)
        law = self._table.evaluate(
            stages.attention_workers, longest_delay=delay, floor=floor, probabilities=levels
        )
        mean, quantiles = law.mean, law.quantiles
        if self._afresh is not None:
            more = self._afresh.evaluate(
                stages.attention_workers, longest_delay=delay, floor=floor
            ).mean
            added = self._felt(stages, mean) * (more - mean)
            mean = mean + added
            if levels:
                late = lateness(
                    quantiles,
                    len(probabilities),
                    EVEN_LEVELS,
                    m * self.attention_mean,
                    self._scatter / math.sqrt(m),
                    stages.attention_workers,
                )
                quantiles = quantiles + added[:, None] * late
        if stages.fresh is not None and m > 1:
            mean, quantiles = _with_fresh(mean, quantiles, stages, m, len(probabilities))
        quantiles = quantiles[:, : len(probabilities)]
        gain = moving_load_gain(
            *self._sums,
            self._motion,
            attention_workers=stages.attention_workers,
            microbatches=m,
            layers=self._layers,
            floor=m * busiest,
            trip=trip,
            ceiling=self._ceiling,
        )
        # However loads move: no resource does its mean work any faster.
        least = np.maximum(m * np.maximum(busiest, self.attention_mean), self.attention_mean + trip)
        return np.maximum(mean - gain, least), quantiles

    def later(self, added: float) -> LayerCycle:
        other, m = copy.copy(self), self._table.microbatches
        other.attention_mean = self.attention_mean + added
        other._law = replace(self._law, lowest=self._law.lowest + added)
        other._table = self._table.later(added)
        other._afresh = None if self._afresh is None else self._afresh.later(added)
        other._ceiling = self._ceiling + m * added
        times, cumulative = self._sums
        other._sums = times + m * added, cumulative
        return other

    def _felt(self, stages: StageTimes, frozen: FloatArray) -> FloatArray:
        """Return which share of the barrier over fresh attention times is felt, shape (n,)."""
        m = self._table.microbatches
        trip = frozen / m + stages.ffn + stages.out + stages.back - stages.saved
        slack = np.maximum(np.maximum(frozen, m * stages.ffn) - trip, 0.0)
        reach = math.sqrt(m) * self._scatter * self.attention_mean
        reach = reach * np.sqrt(1 + 2 * np.log(np.maximum(stages.attention_workers, 1.0)))
        felt: FloatArray = (reach / (reach + ABSORBED * slack)) ** 2
        return felt

    def slowest_round(self, attention_workers: FloatArray, levels: FloatArray) -> FloatArray:
        each = np.exp(np.log(levels)[:, None] / attention_workers)
        times, cumulative = self._sums
        if self._law.probabilities.size == 1:  # a time that never varies
            return np.full_like(each, self._table.microbatches * self.attention_mean)
        return np.interp(each, cumulative, times)

    def slowest_microbatch(self, attention_workers: FloatArray, levels: FloatArray) -> FloatArray:
        return _slowest(self._law, attention_workers, levels)

    def resources(self, stages: StageTimes) -> dict[Bottleneck, FloatArray]:
        m = self._table.microbatches
        nothing = np.zeros_like(stages.ffn)
        total = self._table.evaluate(stages.attention_workers, longest_delay=nothing, floor=nothing)
        longest = barrier_mean(self._law, m * stages.attention_workers, nothing)
        return {
            "attention": total.mean / m,
            "communication": np.maximum(stages.out, stages.back),
            "ffn": stages.ffn,
            "latency": (longest + stages.ffn + stages.out + stages.back - stages.saved) / m,
        }


class _IdealCycle:
    """The paper's ``tau = max(max_j a_j, t_C, t_F)`` with random loads."""

    def __init__(self, law: TimeLaw) -> None:
        self.attention_mean, self.attention_std = law.mean, law.std
        self._law = law

    def round(
        self, stages: StageTimes, probabilities: tuple[float, ...]
    ) -> tuple[FloatArray, FloatArray]:
        floor = np.maximum(stages.out, stages.back)
        levels = probabilities
        if stages.fresh is None:
            floor = np.maximum(stages.ffn, floor)
        else:
            levels = (*probabilities, *EVEN_LEVELS)
        found = [
            barrier_quantile(self._law, stages.attention_workers, floor, probability)
            for probability in levels
        ]
        mean = barrier_mean(self._law, stages.attention_workers, floor)
        quantiles = np.stack(found, axis=1) if found else np.empty((floor.size, 0))
        if stages.fresh is None:
            return mean, quantiles
        return _with_fresh(mean, quantiles, stages, 1, len(probabilities))

    def slowest_microbatch(self, attention_workers: FloatArray, levels: FloatArray) -> FloatArray:
        return _slowest(self._law, attention_workers, levels)

    slowest_round = slowest_microbatch  # a perfect overlap counts one microbatch

    def later(self, added: float) -> LayerCycle:
        return _IdealCycle(replace(self._law, lowest=self._law.lowest + added))

    def resources(self, stages: StageTimes) -> dict[Bottleneck, FloatArray]:
        nothing = np.zeros_like(stages.ffn)
        return {
            "attention": barrier_mean(self._law, stages.attention_workers, nothing),
            "communication": np.maximum(stages.out, stages.back),
            "ffn": stages.ffn,
        }


class _ConstantCycle:
    """Loads that are no random variables: one per age, visited in turn."""

    def __init__(self, attention: FloatArray, microbatches: int, overlap: Overlap) -> None:
        self.attention_mean, self.attention_std = float(attention.mean()), 0.0
        self._attention = attention[:, None]
        self._microbatches = microbatches
        self._overlap = overlap

    def round(
        self, stages: StageTimes, probabilities: tuple[float, ...]
    ) -> tuple[FloatArray, FloatArray]:
        f, out, back = stages.ffn, stages.out, stages.back
        if self._overlap == "ideal":
            rounds = np.maximum(self._attention, np.maximum(f, np.maximum(out, back)))
        else:
            rounds = constant_round(self._attention, f, out, back, self._microbatches, stages.saved)
        return _over_ages(rounds, probabilities)

    def later(self, added: float) -> LayerCycle:
        return _ConstantCycle(self._attention[:, 0] + added, self._microbatches, self._overlap)

    def slowest_microbatch(self, attention_workers: FloatArray, levels: FloatArray) -> FloatArray:
        ages = np.quantile(self._attention[:, 0], levels, method="inverted_cdf")
        return np.multiply.outer(ages, np.ones_like(attention_workers))

    def slowest_round(self, attention_workers: FloatArray, levels: FloatArray) -> FloatArray:
        return self._microbatches * self.slowest_microbatch(attention_workers, levels)

    def resources(self, stages: StageTimes) -> dict[Bottleneck, FloatArray]:
        attention = np.full_like(stages.ffn, self.attention_mean)
        times: dict[Bottleneck, FloatArray] = {
            "attention": attention,
            "communication": np.maximum(stages.out, stages.back),
            "ffn": stages.ffn,
        }
        if self._overlap == "pipelined":
            trip = attention + stages.ffn + stages.out + stages.back - stages.saved
            times["latency"] = trip / self._microbatches
        return times


def _with_fresh(
    mean: FloatArray, quantiles: FloatArray, stages: StageTimes, microbatches: int, wanted: int
) -> tuple[FloatArray, FloatArray]:
    """Return mean and the first `wanted` quantiles of rounds that wait for fresh FFN times too.

    `quantiles` are those of the round without the FFN's floor, even levels behind the wanted.
    A step averages what is fresh: its quantile is that of the loads, at the mean of the rest.
    """
    wanted_levels, even = quantiles[:, :wanted], quantiles[:, wanted:]
    work, scatter = stages.ffn_rounds(microbatches, even.mean(axis=1))
    paid, _ = excess(work[:, None], scatter[:, None], wanted_levels)
    return larger_mean(mean, even, work, scatter), wanted_levels + paid


def _slowest(law: TimeLaw, attention_workers: FloatArray, levels: FloatArray) -> FloatArray:
    nothing = np.zeros_like(attention_workers)
    return np.stack([barrier_quantile(law, attention_workers, nothing, p) for p in levels])


def _over_ages(
    rounds: FloatArray, probabilities: tuple[float, ...]
) -> tuple[FloatArray, FloatArray]:
    quantiles = np.quantile(rounds, probabilities, axis=0, method="inverted_cdf").T
    return rounds.mean(axis=0), quantiles.reshape(rounds.shape[1], len(probabilities))


def layer_cycle(
    problem: RatioProblem, kind: AttentionLayers, slot: SlotLoad, mean_load: float
) -> LayerCycle:
    """Return the cycle of one kind of layers under the problem's overlap and method."""
    batch_size, m = problem.batch_size, problem.counted_microbatches
    if problem.phase == "aligned" or problem.method == "mean-field":
        loads = np.array([mean_load])
        if problem.phase == "aligned":
            loads = aligned_loads(problem.law, kind.context_window)
        return _ConstantCycle(kind.time(batch_size * loads, batch_size), m, problem.overlap)
    time_law = exact_time if problem.method == "exact" else gaussian_time
    latency = problem.latency
    times, scatter = time_law(slot, kind, batch_size), latency.scatter.attention
    if problem.overlap == "ideal":
        return _IdealCycle(scattered(times, scatter))
    # A pipeline that empties after each step starts every step on its own, and between kinds of
    # layers the schedule changes anyway: nothing to gain.
    motion = STILL if latency.drain or len(latency.attention) > 1 else slot.motion
    std, spread = times.std, math.sqrt(batch_size) * slot.moments.std
    return _PipelinedCycle(
        times,
        m,
        layers=latency.layers,
        scatter=scatter,
        std=std,
        ceiling=math.inf
        if kind.context_window is None
        else m * kind.time(float(batch_size * kind.context_window), batch_size),
        motion=worker_motion(
            motion, m * batch_size, std / spread if spread else 0.0, latency.tokens_per_step
        ),
    )
