"""Who is let in, and to which worker? Compiled; names as in `kernel.py`."""

from __future__ import annotations

from typing import Any

from afdplan.compile import EXTRAS, ZERO, U, Whole, inlined, part
from afdplan.simulation import state as ix
from afdplan.simulation.slots import fits, give_back, hear, next_free, place, take

__all__ = ["admit", "choose"]


@inlined
def _weight(t: Any, n: Any, u: Any, i: Any) -> Whole:
    """Return the load by which worker i is told from others: its microbatch's, or all of it."""
    if EXTRAS and t.policy == ix.LONGEST_REQUEST:
        return n[U(t.foreseen + i)]
    if EXTRAS and t.policy == ix.LONGEST_PROMPT_RANK:
        return n[U(t.held + i)]
    return n[U(t.loads + u * t.attention_workers + i)]


@inlined
def choose(t: Any, n: Any, u: Any, k: Any) -> Whole:
    """Return the worker that the policy gives a request to, -1 if none can take it.

    A new policy is a branch here and in the twin, and a name in `Placement`.
    """
    workers = t.attention_workers
    cell = u * workers
    if t.policy == ix.ROUND_ROBIN:
        after = n[ix.NEXT_WORKER]
        for _ in range(workers):
            i = next_free(t, n, u, after)
            if i < 0:
                return -1
            after = i + 1 if i + 1 < workers else 0
            if fits(t, n, i, k):
                n[ix.NEXT_WORKER] = after
                return i
        return -1
    best = -1
    least = ZERO
    for i in range(workers):
        if n[U(t.active + cell + i)] < t.batch_size:
            if t.policy == ix.FEWEST_REQUESTS:
                value = n[U(t.active + cell + i)]
            else:
                value = _weight(t, n, u, i)
            if (best < 0 or value < least) and fits(t, n, i, k):
                best = i
                least = value
    return best


@inlined
def _ahead(t: Any, held: Any, steps: Any) -> Whole:
    """Return what a request holds in all over the steps of foresight, `steps` of which it lives."""
    lives = min(steps, t.foresight)
    return lives * held + t.numerator * (lives * (lives - 1) // 2)


@inlined
def _length(t: Any, n: Any, k: Any) -> Whole:
    """Return by what the chosen request number k is ranked: its prompt, or all that is known."""
    row = t.chosen + 7 * k
    if t.policy == ix.LONGEST_REQUEST:
        return _ahead(t, n[U(row + ix.PROMPT)], n[U(row + ix.STEPS)])
    return n[U(row + ix.PROMPT)]


@part
def _foresee(t: Any, n: Any, u: Any, now: Any) -> None:
    """Set what each worker's requests of a microbatch hold over the steps of foresight."""
    for i in range(t.attention_workers):
        first = (u * t.attention_workers + i) * t.batch_size
        total = ZERO
        for slot in range(first, first + t.batch_size):
            left = n[U(t.due + ix.ROW * slot)] - now + 1
            if left > 0:
                done = n[U(t.steps + ix.ROW * slot)] - left
                total += _ahead(t, n[U(t.prompt + ix.ROW * slot)] + t.numerator * done, left)
        n[U(t.foreseen + i)] = total


@part
def _rank_by_prompt(t: Any, n: Any, count: Any) -> None:
    """Rank the chosen requests by falling length; of equals, first come first (merge sort)."""
    to = t.ranking + t.together
    for j in range(count):
        n[U(t.ranking + j)] = j
    width = 1
    while width < count:
        for low in range(0, count, 2 * width):
            middle = min(low + width, count)
            high = min(low + 2 * width, count)
            a, b = low, middle
            for j in range(low, high):
                left = a < middle
                if left and b < high:
                    one = _length(t, n, n[U(t.ranking + a)])
                    left = one >= _length(t, n, n[U(t.ranking + b)])
                if left:
                    n[U(to + j)] = n[U(t.ranking + a)]
                    a += 1
                else:
                    n[U(to + j)] = n[U(t.ranking + b)]
                    b += 1
        for j in range(count):
            n[U(t.ranking + j)] = n[U(to + j)]
        width *= 2


@part
def _admit_by_prompt(
    t: Any, n: Any, x: Any, r: Any, v: Any, u: Any, free: Any, now: Any, clock: Any
) -> None:
    """Let in as many as there are free slots, the longest prompt to the lightest worker first."""
    if free == 0:
        return
    if t.policy == ix.LONGEST_REQUEST:
        _foresee(t, n, u, now)
    taken = 0
    while taken < free + t.placement_window - 1 and take(t, n, x, r, v, taken):
        n[U(t.chosen + 7 * taken + ix.FATE)] = ix.KEPT
        taken += 1
    _rank_by_prompt(t, n, taken)
    if taken > free:
        _keep(t, n, u, free, taken)
    for j in range(taken):
        k = n[U(t.ranking + j)]
        if n[U(t.chosen + 7 * k + ix.FATE)] == ix.KEPT:
            i = choose(t, n, u, k)
            if i >= 0:
                n[U(t.chosen + 7 * k + ix.FATE)] = ix.PLACED_NOW
                place(t, n, x, u, i, k, now, clock)
                n[U(t.foreseen + i)] += _length(t, n, k)
    for k in range(taken - 1, -1, -1):
        if n[U(t.chosen + 7 * k + ix.FATE)] != ix.PLACED_NOW:
            n[U(t.chosen + 7 * k + ix.PASSED)] += 1
            give_back(t, n, x, k)


@part
def _keep(t: Any, n: Any, u: Any, free: Any, taken: Any) -> None:
    """Of more waiting requests than free slots, keep as many as there are slots.

    First those that were passed over often enough, so that none starves; then for every free
    slot of a worker lighter than the mean the longest prompt, for every other the shortest.
    """
    left = free
    for k in range(taken):
        n[U(t.chosen + 7 * k + ix.FATE)] = ix.PASSED_OVER
        if left > 0 and n[U(t.chosen + 7 * k + ix.PASSED)] >= t.placement_window:
            n[U(t.chosen + 7 * k + ix.FATE)] = ix.KEPT
            left -= 1
    total = ZERO
    for i in range(t.attention_workers):
        total += _weight(t, n, u, i)
    longest = ZERO
    for i in range(t.attention_workers):
        if _weight(t, n, u, i) * t.attention_workers < total:
            longest += t.batch_size - n[U(t.active + u * t.attention_workers + i)]
    longest = min(longest, left)
    left -= longest
    for j in range(taken):
        k = n[U(t.ranking + j)]
        if longest > 0 and n[U(t.chosen + 7 * k + ix.FATE)] == ix.PASSED_OVER:
            n[U(t.chosen + 7 * k + ix.FATE)] = ix.KEPT
            longest -= 1
    for j in range(taken - 1, -1, -1):
        k = n[U(t.ranking + j)]
        if left > 0 and n[U(t.chosen + 7 * k + ix.FATE)] == ix.PASSED_OVER:
            n[U(t.chosen + 7 * k + ix.FATE)] = ix.KEPT
            left -= 1


@part
def admit(t: Any, n: Any, x: Any, r: Any, v: Any, u: Any, now: Any, clock: Any) -> None:
    """Fill free slots of a microbatch, first come first served."""
    hear(t, n, x, v, clock)
    free = t.attention_workers * t.batch_size - n[U(t.present + u)]
    if EXTRAS and t.policy >= ix.LONGEST_PROMPT:
        _admit_by_prompt(t, n, x, r, v, u, free, now, clock)
    else:
        while free > 0 and take(t, n, x, r, v, ZERO):
            i = choose(t, n, u, ZERO)
            if i < 0:
                give_back(t, n, x, ZERO)
                break
            place(t, n, x, u, i, ZERO, now, clock)
            free -= 1
