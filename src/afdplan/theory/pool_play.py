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

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["PoolPlay", "PoolTimes", "play_pool"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
WARM_UP_ROUNDS = 16
ROUNDS = 24
MOST_DEPARTURES = 1000
"""Enough where nearly every call departs alone: there the calls hardly meet."""
TELLING = 0.06
"""Relative difference of two rhythms that is no noise of the draws."""
CHECK = 8
"""Departures between two looks at how far the play is."""


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
    rounds
        Times of all rounds that were played, shape (rounds,) [time].
    round_time, round_variance
        Of each cell, from boarding to boarding, shape (n, A, m) [time, time^2].
    """

    calls_per_time: FloatArray
    calls_per_departure: float
    ffn_busy: float
    attention_busy: float
    wait: float
    rounds: FloatArray
    round_time: FloatArray
    round_variance: FloatArray

    @property
    def mean_round(self) -> float:
        """Mean time of a round over all rounds; each draw lasts as long as its rounds do."""
        calls = int(self.round_time[0].size)
        rounds = calls / self.calls_per_time
        return float((rounds[::2] if self.other_rhythm else rounds).mean())

    @property
    def other_rhythm(self) -> float:
        """How much longer rounds are where calls begin apart (odd draws), 0 where that is noise.

        A bundle may have two rhythms that loads do not break; `mean_round` is then that of calls
        that begin together (even draws), as workers do that start together.
        """
        apart = float(np.mean(1 / self.calls_per_time[1::2]))
        change = apart / float(np.mean(1 / self.calls_per_time[::2])) - 1
        return change if abs(change) > TELLING else 0.0


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
        Of the phases in which calls begin, and of fresh times.
    """
    play = _Play(times, least_calls, longest_wait, most_calls, generator)
    play.run(WARM_UP_ROUNDS)
    play.start_counting()
    play.run(ROUNDS)
    return play.result()


class _Play:
    """All draws of one bundle, a departure at a time.

    Cells are counted draw by draw, worker by worker, microbatch by microbatch. The calls of one
    worker never overtake one another: they come round in a fixed order, `turn` says who is next.
    """

    def __init__(
        self,
        times: PoolTimes,
        least_calls: int,
        longest_wait: float | None,
        most_calls: int | None,
        generator: np.random.Generator,
    ) -> None:
        self.times, self.generator = times, generator
        self.draws, workers, self.microbatches, kinds = times.attention.shape
        self.calls = workers * self.microbatches
        self.attention = times.attention.reshape(-1, kinds)
        self.least, self.wait = least_calls, longest_wait
        self.most = None if most_calls is None or most_calls >= self.calls else most_calls
        cells, rows = self.draws * self.calls, self.draws * workers
        self.layer: IntArray | None = None
        if kinds > 1 or times.overhead > 0:
            self.layer = generator.integers(times.kind_of_layer.size, size=cells)
        attention = float(times.attention.mean())
        trip = attention + times.out + times.back + float(times.ffn[-1]) / 2
        begin = generator.random((rows, self.microbatches))
        begin = np.sort(begin, axis=1) * max(attention * self.microbatches, trip)
        together = np.cumsum(times.attention[..., 0], axis=2) + times.out
        arrival = np.where(
            (np.arange(self.draws) % 2 == 0)[:, None, None],
            together,
            begin.reshape(together.shape),
        )
        self.arrival = arrival.ravel()
        self.leave = np.full(cells, np.inf)  # waits for the shared link since then
        self.turn = np.zeros(rows, dtype=np.int64)
        self.attention_free, self.send_free, self.receive_free = (np.zeros(rows) for _ in range(3))
        self.shared_out, self.shared_back = np.zeros(self.draws), np.zeros(self.draws)
        self.free = np.zeros(self.draws)
        self.done = np.zeros(cells, dtype=np.int64)
        self.last = np.zeros(cells)
        self.start_counting()

    def start_counting(self) -> None:
        """Forget what has been counted."""
        self.begin, self.first = self.free.copy(), self.last.copy()
        self.done[:] = 0
        self.squares = np.zeros(self.done.size)
        self.rounds: list[FloatArray] = []
        self.departures, self.waited, self.work = 0, 0.0, np.zeros(self.draws)
        self.busy = np.zeros(self.draws)

    def run(self, rounds: int) -> None:
        """Play until every draw has made so many rounds on average over its calls."""
        while True:
            for _ in range(CHECK):
                self._depart()
            done = self.done.reshape(self.draws, self.calls)
            is_long = done.sum(axis=1).min() >= rounds * self.calls
            if (is_long or self.departures >= MOST_DEPARTURES) and done.min() > 0:
                return

    def _scattered(self, time: float | FloatArray, cv: float, size: int) -> float | FloatArray:
        if cv == 0:
            return time
        factors: FloatArray = self.generator.standard_gamma(1 / cv**2, size) * cv**2
        return time * factors

    def _depart(self) -> None:
        """Let the pool of every draw leave once."""
        times = self.times
        begins = self._reach_pool() if times.shares_link else None
        arrival = self.arrival.reshape(self.draws, self.calls)
        first = arrival.min(axis=1)
        start = first
        if self.least > self.calls:
            start = np.full_like(first, np.inf)
        elif self.least > 1:
            start = np.partition(arrival, self.least - 1, axis=1)[:, self.least - 1]
        if self.wait is not None:
            start = np.minimum(start, first + self.wait)
        start = np.maximum(start, self.free)
        latest = start
        if self.most is not None:
            last = np.partition(arrival, self.most - 1, axis=1)[:, self.most - 1]
            latest = np.minimum(start, last)
        board = arrival <= latest[:, None]
        count = board.sum(axis=1)
        cells = np.flatnonzero(board)
        service = times.ffn[count]
        if times.ffn_cv is not None:
            cv = np.maximum(times.ffn_cv[count], 1e-6)
            service = service * self.generator.standard_gamma(1 / cv**2) * cv**2
        end = start + service
        self.free = end
        self.busy += service
        self.departures += 1
        left = start[cells // self.calls]
        self.waited += float((left - self.arrival[cells]).sum())
        lasted = left - self.last[cells]
        self.squares[cells] += lasted * lasted
        self.rounds.append(lasted)
        self.last[cells] = left
        self.done[cells] += 1
        if begins is not None:
            sent = begins <= start[:, None]
            self.leave[np.flatnonzero(sent)] = np.inf
            occupied = np.where(sent, begins, -np.inf).max(axis=1) + times.out_occupied
            self.shared_out = np.maximum(self.shared_out, occupied)
        self._send_back(cells, count, end)

    def _reach_pool(self) -> FloatArray:
        """Pass the calls that wait for the shared link over it; returns when each begins."""
        leave = self.leave.reshape(self.draws, self.calls)
        order = leave.argsort(axis=1)
        turn = np.arange(self.calls) * self.times.out_occupied
        ordered = np.take_along_axis(leave, order, 1) - turn
        begin = np.maximum(np.maximum.accumulate(ordered, axis=1), self.shared_out[:, None]) + turn
        begins = np.empty_like(begin)
        np.put_along_axis(begins, order, begin, 1)
        waiting = np.isfinite(leave)
        arrival = self.arrival.reshape(self.draws, self.calls)
        arrival[waiting] = begins[waiting] + self.times.out
        begins[~waiting] = np.inf
        return begins

    def _send_back(self, cells: IntArray, count: IntArray, end: FloatArray) -> None:
        """Return the calls on board to their workers and play their attention, in order."""
        times, m = self.times, self.microbatches
        back = end
        if times.back_of_calls is not None:
            way, occupied = times.back_of_calls[:, count]
            begin = np.maximum(end, self.shared_back)
            self.shared_back = begin + occupied
            back = begin + way
        if m == 1:
            self._attend(cells, cells, back)
            return
        rows = cells // m
        place = (cells % m - self.turn[rows]) % m
        for j in range(m):
            on = cells[place == j]
            if on.size == 0:
                break
            self._attend(on, on // m, back)
        np.add.at(self.turn, rows, 1)

    def _attend(self, cells: IntArray, rows: IntArray, back: FloatArray) -> None:
        """Play the link back, attention and the link out of one call per worker."""
        times = self.times
        draws = cells // self.calls
        returned = back[draws]
        if times.back_of_calls is None:
            returned = np.maximum(returned, self.receive_free[rows])
            returned = returned + self._scattered(times.back, times.receive_cv, cells.size)
            self.receive_free[rows] = returned
        attention = self._attention(cells)
        finish = np.maximum(returned, self.attention_free[rows]) + attention
        self.attention_free[rows] = finish
        self.work += np.bincount(draws, attention, self.draws)
        if times.shares_link:
            self.leave[cells] = finish
            self.arrival[cells] = np.inf  # until the link has been played
            return
        reached = np.maximum(finish, self.send_free[rows])
        reached = reached + self._scattered(times.out, times.send_cv, cells.size)
        self.send_free[rows] = reached
        self.arrival[cells] = reached

    def _attention(self, cells: IntArray) -> FloatArray:
        """Return the attention times of calls in their next layer."""
        times = self.times
        if self.layer is None:
            kind: IntArray | int = 0
        else:
            layer = (self.layer[cells] + 1) % times.kind_of_layer.size
            self.layer[cells] = layer
            kind = times.kind_of_layer[layer]
        attention: FloatArray = self.attention[cells, kind]
        if times.attention_cv > 0:
            attention = attention * self._scattered(1.0, times.attention_cv, cells.size)
        if self.layer is not None and times.overhead > 0:
            begins = (self.layer[cells] == 0) & (cells % self.microbatches == 0)
            attention = attention + np.where(begins, times.overhead, 0.0)
        return attention

    def result(self) -> PoolPlay:
        """Return what has been counted."""
        calls = self.done.reshape(self.draws, self.calls).sum(axis=1)
        span = self.free - self.begin
        mean = (self.last - self.first) / self.done
        shape = self.times.attention.shape[:3]
        workers = shape[1]
        return PoolPlay(
            calls_per_time=calls / span,
            calls_per_departure=float(calls.sum() / (self.departures * self.draws)),
            ffn_busy=float((self.busy / span).mean()),
            attention_busy=float((self.work / span).mean() / workers),
            wait=float(self.waited / calls.sum()),
            rounds=np.concatenate(self.rounds),
            round_time=mean.reshape(shape),
            round_variance=np.maximum(self.squares / self.done - mean**2, 0.0).reshape(shape),
        )
