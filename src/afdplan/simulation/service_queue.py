"""When does each request get its first token, if recorded arrivals meet a pool of prefill workers?

Every request waits for one of N alike workers. A free worker takes the next waiting prompt, and
with it, unless another worker is idle, those behind it that fit the same pass (at most C tokens
together, all arrived by then); a prompt longer than C has its passes for itself. The cache then
travels to the decode side, where the request waits for one of S slots, first come first served,
and keeps it for its output.

Exact for the arrivals that are given: no law is fitted, nothing is drawn. Kernels, because a
search replays a trace a hundred times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from afdplan.compile import compiled, inlined
from afdplan.model.plan_parameters import PrefillPolicy
from afdplan.model.prefill import PrefillModel

__all__ = ["PromptLine", "prefill_finishes", "slot_starts"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PromptLine:
    """Prompts in the order of their arrival, with what they cost a worker, shape (n,) each.

    Attributes
    ----------
    model
        The worker.
    tokens
        To compute, at least 1.
    pair_times
        Of their causal pairs [s].
    alone
        Whole time of each without company [s].
    shares_passes
        Whether waiting prompts share a pass; else one prompt at a time.
    """

    model: PrefillModel
    tokens: FloatArray
    pair_times: FloatArray
    alone: FloatArray
    shares_passes: bool = True

    @classmethod
    def of(
        cls, model: PrefillModel, prompts: IntArray, cached: IntArray, shares_passes: bool = True
    ) -> PromptLine:
        """Return the line of prompts of which a prefix is cached.

        Examples
        --------
        >>> from afdplan.model.curve import LinearCurve
        >>> model = PrefillModel(name="x", compute=LinearCurve(slope=1.0))
        >>> line = PromptLine.of(model, np.array([3, 5]), np.array([0, 4]))
        >>> line.tokens.tolist(), line.alone.tolist()
        ([3.0, 1.0], [3.0, 1.0])
        """
        tokens = np.maximum(prompts - cached, 1).astype(np.float64)
        return cls(
            model=model,
            tokens=tokens,
            pair_times=model.pair_times(tokens, cached),
            alone=model.times(tokens, cached),
            shares_passes=shares_passes,
        )


def prefill_finishes(
    line: PromptLine, arrivals: FloatArray, workers: int, policy: PrefillPolicy = "first-come"
) -> FloatArray:
    """Return when each prompt is computed [s], shape (n,).

    Parameters
    ----------
    line
        Prompts in the order of their arrival.
    arrivals
        Non-decreasing times [s], shape (n,).
    workers
        N, >= 1.
    policy
        ``first-come``, or ``shortest-prompt``: fewest tokens to compute first, without breaking
        off what runs; equal ones as they came.

    Examples
    --------
    >>> from afdplan.model.curve import LinearCurve
    >>> model = PrefillModel(name="x", compute=LinearCurve(slope=1.0), chunk_tokens=4)
    >>> line = PromptLine.of(model, np.array([3, 4, 2, 2]), np.zeros(4, np.int64))
    >>> prefill_finishes(line, np.zeros(4), 1).tolist()  # the last two share a pass
    [3.0, 7.0, 11.0, 11.0]
    """
    segments = line.model.compute.segments()
    finishes = np.empty(arrivals.size)
    waiting = np.empty(arrivals.size, np.int64)
    _serve(
        arrivals,
        line.tokens,
        line.pair_times,
        line.alone,
        segments.starts,
        segments.values,
        segments.slopes,
        float(line.model.chunk_tokens) if line.shares_passes else 0.0,
        policy == "shortest-prompt",
        np.full(workers, -np.inf),
        waiting,
        finishes,
    )
    return finishes


def slot_starts(ready: FloatArray, holds: FloatArray, slots: int) -> FloatArray:
    """Return when each request gets one of S slots [s], in the order in which they are ready.

    Parameters
    ----------
    ready
        When each may start [s], in any order, shape (n,).
    holds
        How long it keeps its slot [s].
    slots
        S, >= 1.

    Examples
    --------
    >>> slot_starts(np.array([0.0, 1.0, 2.0]), np.full(3, 5.0), 2).tolist()
    [0.0, 1.0, 5.0]
    """
    order = np.argsort(ready, kind="stable")
    starts = np.empty(ready.size)
    _occupy(ready[order], holds[order], np.full(min(slots, ready.size), -np.inf), starts)
    found = np.empty(ready.size)
    found[order] = starts
    return found


@inlined
def _sink(heap: FloatArray, value: float) -> None:
    """Replace the least of a binary heap."""
    size, at = heap.size, 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= value:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = value


@compiled
def _occupy(ready: FloatArray, holds: FloatArray, free: FloatArray, starts: FloatArray) -> None:
    for i in range(ready.size):
        start = max(ready[i], free[0])
        starts[i] = start
        _sink(free, start + holds[i])


@inlined
def _is_before(tokens: FloatArray, one: int, other: int) -> bool:
    return tokens[one] < tokens[other] or (tokens[one] == tokens[other] and one < other)


@inlined
def _push(waiting: IntArray, size: int, tokens: FloatArray, item: int) -> None:
    at = size
    while at > 0:
        above = (at - 1) // 2
        if not _is_before(tokens, item, waiting[above]):
            break
        waiting[at] = waiting[above]
        at = above
    waiting[at] = item


@inlined
def _pop(waiting: IntArray, size: int, tokens: FloatArray) -> int:
    """Return the shortest; the heap has size - 1 entries afterwards."""
    least: int = waiting[0]
    item = waiting[size - 1]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size - 1:
            break
        if child + 2 < size and _is_before(tokens, waiting[child + 1], waiting[child]):
            child += 1
        if _is_before(tokens, item, waiting[child]):
            break
        waiting[at] = waiting[child]
        at = child
    waiting[at] = item
    return least


@compiled
def _serve(
    arrivals: FloatArray,
    tokens: FloatArray,
    pair_times: FloatArray,
    alone: FloatArray,
    starts: FloatArray,
    values: FloatArray,
    slopes: FloatArray,
    chunk: float,
    is_shortest: bool,
    free: FloatArray,
    waiting: IntArray,
    finishes: FloatArray,
) -> None:
    """Serve all prompts; `waiting` is a heap (shortest) or the pass at hand (first come)."""
    count = arrivals.size
    ahead = 0  # arrived or served, the next to come
    queued = 0  # in the heap of the shortest
    served = 0
    clock = -np.inf
    while served < count:
        start = free[0]
        if is_shortest:
            # An idle worker starts no earlier than what waits has come.
            start = max(start, clock)
            if queued == 0 and arrivals[ahead] > start:
                start = arrivals[ahead]
            clock = start
            while ahead < count and arrivals[ahead] <= start:
                _push(waiting, queued, tokens, ahead)
                queued += 1
                ahead += 1
            first = _pop(waiting, queued, tokens)
            queued -= 1
        else:
            first = ahead
            ahead += 1
            start = max(start, arrivals[first])
        total = tokens[first]
        shared = pair_times[first]
        company = 0
        # Nobody shares a pass while another worker is idle. Its company is kept behind the heap,
        # where nothing else stands.
        others = min(free[1], free[min(2, free.size - 1)]) if free.size > 1 else np.inf
        while total < chunk and others > start:
            if is_shortest:
                if queued == 0 or total + tokens[waiting[0]] > chunk:
                    break
                other = _pop(waiting, queued, tokens)
                queued -= 1
            else:
                if ahead >= count or arrivals[ahead] > start or total + tokens[ahead] > chunk:
                    break
                other = ahead
                ahead += 1
            total += tokens[other]
            shared += pair_times[other]
            company += 1
            waiting[count - company] = other
        time = alone[first]
        if company > 0:
            piece = 0
            while piece + 1 < starts.size and starts[piece + 1] <= total:
                piece += 1
            time = values[piece] + slopes[piece] * (total - starts[piece]) + shared
        finish = start + time
        finishes[first] = finish
        for k in range(company):
            finishes[waiting[count - 1 - k]] = finish
        served += 1 + company
        _sink(free, finish)
