"""When is each prompt computed, and when does each request get a slot, replay after replay?

The loops behind `afdplan.simulation.service_queue`, for themselves so that only who replays loads
the compiler.
"""

from __future__ import annotations

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.compile import compiled, inlined

__all__ = ["occupy", "serve"]


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
def occupy(ready: FloatArray, holds: FloatArray, free: FloatArray, starts: FloatArray) -> None:
    """Give each request the slot that is free first; `free` is a heap, `starts` is filled."""
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
def serve(
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
