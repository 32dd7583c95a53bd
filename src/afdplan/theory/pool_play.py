"""How does a barrier-free bundle run while loads stand still?

Loads move slowly and calls quickly, so that the quick part is played with frozen loads and its
pace averaged over their law, as the barrier's round is. A frozen bundle is a deterministic
max-plus system: workers and links serve in order of arrival, the pool leaves at

    s = max(free, arrival number K)                        K = least calls

(earlier once a call has waited `longest_wait`), takes the n calls that are there, and is busy for
f(n). It locks into a rhythm: with equal attention times a, the calls C of the bundle part into g
groups, and a round takes ``sum of the g departures``, with g the number that fits into the way of
one group, ``(g - 2) f(C/g) <= a + c <= (g - 1) f(C/g)``; loads that differ move calls from group to
group. No distribution of waits describes that, so it is played: all draws of the loads at once,
one departure of each at a time, a few dozen rounds long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.theory.pool_state import Rule, Stages, State

__all__ = ["PoolPlay", "PoolTimes", "play_pool"]

WARM_UP_ROUNDS = 16
ROUNDS = 24
MOST_DEPARTURES = 1000
"""Enough where nearly every call departs alone: there the calls hardly meet."""
TELLING, SURE = 0.015, 3.0
"""Relative difference of two rhythms that counts, and its least number of standard errors."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoolTimes:
    """Times of one bundle in n draws of its loads.

    Attributes
    ----------
    attention
        Of each draw, worker, microbatch and kind of layer, shape (n, A, m, kinds) [time].
    kind_of_layer
        Shape (L,).
    overhead
        Added once per step to the first microbatch of a worker [time].
    ffn, ffn_cv
        Of a departure with 0, 1, ... C calls, and how it scatters afresh, shape (C + 1,) [time].
    out, back
        A call's way to the pool and back [time].
    out_occupied
        Share of `out` in which no other call can use the link: the worker's own, or the pool's.
    shares_link
        Whether all workers share one link out.
    back_of_calls
        Where the way back depends on the departure: its time and the part in which the link is
        occupied, for 0 ... C calls, shape (2, C + 1) [time]; None for links of the workers.
    attention_cv, send_cv, receive_cv
        How the stages scatter afresh.
    """

    attention: FloatArray
    kind_of_layer: IntArray
    overhead: float
    ffn: FloatArray
    ffn_cv: FloatArray | None
    out: float
    back: float
    out_occupied: float
    shares_link: bool
    back_of_calls: FloatArray | None
    attention_cv: float = 0.0
    send_cv: float = 0.0
    receive_cv: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoolPlay:
    """What the play showed.

    Attributes
    ----------
    calls_per_time
        Of the whole bundle, shape (n,).
    calls_per_departure
        Mean over departures.
    ffn_busy, attention_busy
        Shares of the time.
    wait
        Mean wait of a call for its departure [time].
    rounds, draw_of_round
        Times of all rounds that were played, and in which draw, shape (rounds,) [time].
    round_time, round_variance
        Of each cell, from boarding to boarding, shape (n, A, m) [time, time^2].
    is_held
        Whether the pool waits for calls however long, which keeps a rhythm as it began.
    """

    calls_per_time: FloatArray
    calls_per_departure: float
    ffn_busy: float
    attention_busy: float
    wait: float
    rounds: FloatArray
    draw_of_round: IntArray
    round_time: FloatArray
    round_variance: FloatArray
    is_held: bool

    @property
    def has_one_law(self) -> bool:
        """Whether rounds are alike however calls begin; else only even draws, that begin together.

        A bundle stays in the rhythm in which it began, and a few long rounds of draws that begin
        apart would be the tail of a law that no single bundle has.
        """
        return not self.is_held and not self.other_rhythm

    @property
    def mean_round(self) -> float:
        """Mean time of a round over all rounds; each draw lasts as long as its rounds do."""
        return float((self._rounds[::2] if self.other_rhythm else self._rounds).mean())

    @property
    def other_rhythm(self) -> float:
        """How much longer rounds are where calls begin apart (odd draws), 0 where that is noise.

        A bundle may have two rhythms that loads do not break; `mean_round` is then that of calls
        that begin together (even draws), as workers do that start together.
        """
        parts = self._rounds[::2], self._rounds[1::2]
        together, apart = (float(part.mean()) for part in parts)
        noise = math.hypot(*(float(part.std()) / math.sqrt(part.size) for part in parts))
        change = apart / together - 1
        return change if abs(change) > max(TELLING, SURE * noise / together) else 0.0

    @property
    def farthest_rhythm(self) -> float:
        """Error of `mean_round` if the bundle ran as the draw does that is farthest from it."""
        return float(np.abs(self.mean_round / self._rounds - 1).max())

    @property
    def _rounds(self) -> FloatArray:
        calls = int(self.round_time[0].size)
        return calls / self.calls_per_time


def play_pool(
    times: PoolTimes,
    *,
    least_calls: int,
    longest_wait: float | None,
    most_calls: int | None,
    generator: np.random.Generator,
) -> PoolPlay:
    """Return how a bundle runs whose loads stand still.

    Parameters
    ----------
    times
        Of its stages.
    least_calls, longest_wait, most_calls
        The boarding rule.
    generator
        Of the phases in which calls begin; fresh times are the same in every play.
    """
    from afdplan.theory.pool_kernel import play_rounds, seeded

    n, workers, m, kinds = times.attention.shape
    calls = workers * m
    layers = times.kind_of_layer.size
    layer: IntArray = np.zeros(n * calls, dtype=np.int64)
    if kinds > 1 or times.overhead > 0:
        layer = generator.integers(layers, size=n * calls)
    arrival = _first_arrivals(times, generator)
    state = State(
        arrival=arrival,
        leave=np.full((n, calls), np.inf),  # waits for the shared link since then
        order=np.tile(np.arange(calls), (n, 1)),
        in_line=np.zeros(n, dtype=np.int64),
        begins=np.full((n, calls), np.inf),
        others=np.empty(calls, dtype=np.int64),
        spare=np.empty(calls, dtype=np.int64),
        layer=layer.reshape(n, calls),
        queue=np.argsort(arrival, axis=1, kind="stable"),
        head=np.zeros(n, dtype=np.int64),
        attention_free=np.zeros((n, workers)),
        send_free=np.zeros((n, workers)),
        receive_free=np.zeros((n, workers)),
        shared_out=np.zeros(n),
        shared_back=np.zeros(n),
        free=np.zeros(n),
        done=np.zeros((n, calls), dtype=np.int64),
        last=np.zeros((n, calls)),
        squares=np.zeros((n, calls)),
        work=np.zeros(n),
        busy=np.zeros(n),
        waited=np.zeros(n),
        departures=np.zeros(n, dtype=np.int64),
        rounds=np.empty((max(WARM_UP_ROUNDS, ROUNDS) + 1) * n * calls),
        counted=np.zeros(1, dtype=np.int64),
        ends=np.zeros(n, dtype=np.int64),
    )
    stages = Stages(
        attention=np.ascontiguousarray(times.attention.reshape(n, calls, kinds)),
        kind_of_layer=times.kind_of_layer.astype(np.int64),
        overhead=float(times.overhead),
        ffn=times.ffn,
        ffn_cv=np.zeros(calls + 1) if times.ffn_cv is None else times.ffn_cv,
        out=float(times.out),
        back=float(times.back),
        out_occupied=float(times.out_occupied),
        shares_link=bool(times.shares_link),
        back_of_calls=np.empty((2, 0)) if times.back_of_calls is None else times.back_of_calls,
        attention_cv=float(times.attention_cv),
        send_cv=float(times.send_cv),
        receive_cv=float(times.receive_cv),
    )
    wait = np.inf if longest_wait is None else float(longest_wait)
    rule = Rule(least=least_calls, wait=wait, most=calls if most_calls is None else most_calls)
    seeded(0)
    play_rounds(stages, rule, state, WARM_UP_ROUNDS, MOST_DEPARTURES)
    begin, first = state.free.copy(), state.last.copy()
    for counted in (state.done, state.squares, state.work, state.busy, state.waited, state.counted):
        counted[:] = 0
    play_rounds(stages, rule, state, ROUNDS, MOST_DEPARTURES)
    done, span = state.done.sum(axis=1), state.free - begin
    mean = (state.last - first) / state.done
    return PoolPlay(
        calls_per_time=done / span,
        calls_per_departure=float(done.sum() / state.departures.sum()),
        ffn_busy=float((state.busy / span).mean()),
        attention_busy=float((state.work / span).mean() / workers),
        wait=float(state.waited.sum() / done.sum()),
        rounds=state.rounds[: state.counted[0]],
        draw_of_round=np.repeat(np.arange(n), np.diff(state.ends, prepend=0)),
        round_time=mean.reshape(n, workers, m),
        round_variance=np.maximum(state.squares / state.done - mean**2, 0.0).reshape(n, workers, m),
        is_held=least_calls > 1 and longest_wait is None,
    )


def _first_arrivals(times: PoolTimes, generator: np.random.Generator) -> FloatArray:
    """Return when calls first reach the pool: together in even draws, apart in odd ones."""
    draws, workers, m, _ = times.attention.shape
    attention = float(times.attention.mean())
    trip = attention + times.out + times.back + float(times.ffn[-1]) / 2
    begin = np.sort(generator.random((draws * workers, m)), axis=1) * max(attention * m, trip)
    together = np.cumsum(times.attention[..., 0], axis=2) + times.out
    is_even = (np.arange(draws) % 2 == 0)[:, None, None]
    arrival: FloatArray = np.where(is_even, together, begin.reshape(together.shape))
    return arrival.reshape(draws, -1)
