"""Who is in which slot, and what load does that put on a worker? Compiled, for both kernels.

Names as in `kernel.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from afdplan.compile import (
    EXTRAS,
    ZERO,
    Truth,
    U,
    Whole,
    bits_of,
    inlined,
    of_bits,
    part,
    trailing_zeros,
    vector,
    window,
)
from afdplan.simulation import state as ix
from afdplan.simulation.slot_calendar import (
    bucket_of_step,
    first_of,
    last_of,
    schedule,
    unschedule,
)
from afdplan.simulation.tallies import count

__all__ = [
    "end_requests",
    "fits",
    "give_back",
    "grow",
    "hear",
    "make_room",
    "next_free",
    "place",
    "take",
]


@inlined
def hear(t: Any, n: Any, x: Any, v: Any, clock: Any) -> None:
    """Let the requests into the queue that have arrived by now."""
    if t.open:
        queued = n[ix.ARRIVED] - n[ix.HEAD] + n[ix.RETURNED]
        x[ix.QUEUE_AREA] += queued * (clock - x[ix.QUEUE_TIME])
        x[ix.QUEUE_TIME] = clock
        while n[ix.ARRIVED] < n[ix.AVAILABLE] and v[U(t.arrival_at + n[ix.ARRIVED])] <= clock:
            x[ix.QUEUE_AREA] += clock - v[U(t.arrival_at + n[ix.ARRIVED])]
            n[ix.ARRIVED] += 1
    else:
        n[ix.ARRIVED] = n[ix.AVAILABLE]


@inlined
def take(t: Any, n: Any, x: Any, r: Any, v: Any, k: Any) -> Truth:
    """Take the next waiting request out of its queue as number k; says whether there was one."""
    row = t.chosen + 7 * k
    times = t.chosen_times + 2 * k
    if n[ix.RETURNED] > 0:
        at = n[ix.RETURNED_HEAD]
        for column in range(6):
            n[U(row + column)] = n[U(t.returned + 6 * at + column)]
        x[U(times)] = x[U(t.returned_times + 2 * at)]
        x[U(times + 1)] = x[U(t.returned_times + 2 * at + 1)]
        n[ix.RETURNED_HEAD] = at + 1 if at + 1 < t.rows else 0
        n[ix.RETURNED] -= 1
        return True
    at = n[ix.HEAD]
    if at >= n[ix.ARRIVED]:
        return False
    n[ix.HEAD] += 1
    decode = r[U(3 * at + 1)]
    unfit = r[U(3 * at + 2)]
    n[ix.ENTERED] += 1 + unfit
    n[ix.REJECTED] += unfit
    n[U(row + ix.PROMPT)] = r[U(3 * at)] * t.denominator
    n[U(row + ix.STEPS)] = decode
    if EXTRAS and t.numerator != 1:
        n[U(row + ix.STEPS)] = (decode * t.denominator + t.numerator - 1) // t.numerator
    n[U(row + ix.OUTPUT)] = decode * t.denominator
    n[U(row + ix.TOKENS)] = decode
    n[U(row + ix.PREEMPTIONS)] = 0
    n[U(row + ix.PASSED)] = 0
    x[U(times)] = ix.NOT_BEGUN
    x[U(times + 1)] = v[U(t.arrival_at + at)] if t.open else 0.0
    return True


@part
def give_back(t: Any, n: Any, x: Any, k: Any) -> None:
    """Put the chosen request number k before all that wait."""
    at = n[ix.RETURNED_HEAD] - 1
    if at < 0:
        at = t.rows - 1
    n[ix.RETURNED_HEAD] = at
    n[ix.RETURNED] += 1
    for column in range(6):
        n[U(t.returned + 6 * at + column)] = n[U(t.chosen + 7 * k + column)]
    x[U(t.returned_times + 2 * at)] = x[U(t.chosen_times + 2 * k)]
    x[U(t.returned_times + 2 * at + 1)] = x[U(t.chosen_times + 2 * k + 1)]


@inlined
def fits(t: Any, n: Any, i: Any, k: Any) -> Truth:
    """Say whether worker i has KV memory for the chosen request number k."""
    if not EXTRAS or t.capacity < 0:
        return True
    row = t.chosen + 7 * k
    held = n[U(row + ix.PROMPT)]
    if t.preempt:
        held += n[U(t.held + i)]
    else:
        held += n[U(t.reserved + i)] + t.numerator * (n[U(row + ix.STEPS)] - 1)
    return held <= t.capacity


@inlined
def next_free(t: Any, n: Any, u: Any, i: Any) -> Whole:
    """Return the first worker from i on, around, that has a free slot; -1 if none has."""
    words = t.words
    at = t.free_words + u * words
    w = i >> 6
    bits = n[U(at + w)] & (-1 << (i & 63))
    # A choice without a jump: whether one is left above i cannot be foretold.
    other = w + 1 if w + 1 < words else 0
    w = w if bits != 0 else other
    bits = bits if bits != 0 else n[U(at + other)]
    left = words
    while bits == 0:
        if left == 0:
            return -1
        left -= 1
        w = w + 1 if w + 1 < words else 0
        bits = n[U(at + w)]
    return (w << 6) + trailing_zeros(bits)


@inlined
def settle(
    t: Any, n: Any, calendar: Any, u: Any, i: Any, prompt: Any, steps: Any, tokens: Any, now: Any
) -> Whole:
    """Give a request a free slot of worker i until its last step ends; returns the slot."""
    c = u * t.attention_workers + i
    slot = n[U(t.free_first + c)]
    after = n[U(t.following + ix.ROW * slot)]
    n[U(t.free_first + c)] = after
    n[U(t.free_words + u * t.words + (i >> 6))] &= ~((after >> 63) & (1 << (i & 63)))
    n[U(t.prompt + ix.ROW * slot)] = prompt
    n[U(t.steps + ix.ROW * slot)] = steps
    n[U(t.tokens + ix.ROW * slot)] = tokens
    n[U(t.active + c)] += 1
    n[U(t.loads + c)] += prompt
    if EXTRAS:
        n[U(t.growing + c)] += 1
        n[U(t.held + i)] += prompt
    schedule(t, n, ZERO, calendar, slot, now + steps - 1, now)
    return slot


@inlined
def place(t: Any, n: Any, x: Any, u: Any, i: Any, k: Any, now: Any, clock: Any) -> None:
    """Put the chosen request number k into a free slot."""
    c = u * t.attention_workers + i
    row = t.chosen + 7 * k
    times = t.chosen_times + 2 * k
    prompt = n[U(row + ix.PROMPT)]
    steps = n[U(row + ix.STEPS)]
    calendar = c if t.barrier_free else u
    slot = settle(t, n, calendar, u, i, prompt, steps, n[U(row + ix.TOKENS)], now)
    n[U(t.output + ix.ROW * slot)] = n[U(row + ix.OUTPUT)]
    begun = x[U(times)]
    if begun == ix.NOT_BEGUN:
        begun = clock
        n[ix.STARTED] += 1
        if t.open:
            x[ix.WAIT] += clock - x[U(times + 1)]
            n[ix.WAITED] += 1
            count(t, n, x, ix.WAITS, clock - x[U(times + 1)])
    n[U(t.begun + ix.ROW * slot)] = bits_of(begun)
    if EXTRAS and t.tracked:
        n[U(t.preemptions + slot)] = n[U(row + ix.PREEMPTIONS)]
        x[U(t.arrival + slot)] = x[U(times + 1)]
        n[U(t.order + slot)] = n[ix.PLACED]
        n[U(t.reserved + i)] += prompt + t.numerator * (steps - 1)
    if EXTRAS and t.placement_window > 1 and x[U(times)] == ix.NOT_BEGUN:
        count(t, n, x, ix.PASSES, float(n[U(row + ix.PASSED)]))
    n[ix.PLACED] += 1
    n[ix.ACTIVE] += 1
    n[U(t.present + u)] += 1
    if EXTRAS:
        for w in range(t.queues - 1):
            at = (1 + w) * t.cells + c
            window = n[U(t.windows + w)]
            if prompt >= window:
                n[U(t.loads + at)] += window
            else:
                n[U(t.loads + at)] += prompt
                n[U(t.growing + at)] += 1
                full = (window - prompt + t.numerator - 1) // t.numerator
                if full <= steps - 1:
                    schedule(t, n, 1 + w, calendar, slot, now + full - 1, now)


@inlined
def _since(t: Any, n: Any, slot: Any) -> Whole:
    """Return the first step of the request in a slot."""
    return n[U(t.due + ix.ROW * slot)] - n[U(t.steps + ix.ROW * slot)] + 1


@inlined
def _leave(t: Any, n: Any, u: Any, c: Any, slot: Any, done: Any) -> None:
    """Take a request that is in its slot's step number `done` off the loads of its worker."""
    load = n[U(t.prompt + ix.ROW * slot)] + (t.numerator * (done - 1) if EXTRAS else done - 1)
    n[U(t.loads + c)] -= load
    i = c - u * t.attention_workers
    if EXTRAS:
        n[U(t.growing + c)] -= 1
        n[U(t.held + i)] -= load
        for w in range(t.queues - 1):
            at = (1 + w) * t.cells + c
            window = n[U(t.windows + w)]
            if load >= window:
                n[U(t.loads + at)] -= window
            else:
                n[U(t.loads + at)] -= load
                n[U(t.growing + at)] -= 1
    if EXTRAS and t.capacity >= 0:
        n[U(t.reserved + i)] -= n[U(t.prompt + ix.ROW * slot)] + t.numerator * (
            n[U(t.steps + ix.ROW * slot)] - 1
        )
    n[U(t.following + ix.ROW * slot)] = n[U(t.free_first + c)]
    n[U(t.free_first + c)] = slot
    n[U(t.free_words + u * t.words + (i >> 6))] |= 1 << (i & 63)
    n[U(t.active + c)] -= 1


@inlined
def _finish(t: Any, n: Any, x: Any, g: Any, u: Any, slot: Any, clock: Any) -> None:
    """Let a request leave that has generated its last token."""
    c = np.int64(U(slot) // U(t.batch_size))
    steps = n[U(t.steps + ix.ROW * slot)]
    if EXTRAS:
        n[ix.UNITS] -= t.numerator * steps - n[U(t.output + ix.ROW * slot)]
    _leave(t, n, u, c, slot, steps)
    tokens = n[U(t.tokens + ix.ROW * slot)]
    begun = of_bits(n[U(t.begun + ix.ROW * slot)])
    if begun != ix.FOUND_IN_SLOT:
        per_token = (clock - begun) / tokens
        x[ix.TIME_PER_TOKEN] += per_token
        n[ix.TIMED] += 1
        count(t, n, x, ix.TOKEN_TIMES, per_token)
    if EXTRAS and t.log_requests:
        row = ix.LOG_COLUMNS * n[ix.REQUEST_ROWS]
        n[ix.REQUEST_ROWS] += 1
        whole = (tokens * t.denominator + t.numerator - 1) // t.numerator
        g[row] = (n[U(t.prompt + ix.ROW * slot)] + t.numerator * (steps - whole)) // t.denominator
        g[row + 1], g[row + 2], g[row + 3] = tokens, x[U(t.arrival + slot)], begun
        g[row + 4], g[row + 5], g[row + 6] = clock, c - u * t.attention_workers, u
        g[row + 7] = n[U(t.preemptions + slot)]


@inlined
def end_requests(
    t: Any, n: Any, x: Any, g: Any, calendar: Any, u: Any, step: Any, clock: Any
) -> None:
    """Let all requests leave whose last step has just ended."""
    b = bucket_of_step(t, calendar, ZERO, step)
    bucket = n[U(b)]
    if bucket >= 0:
        n[U(b)] = -1
        slot = first_of(bucket)
        tail = last_of(bucket)
        ended = ZERO
        while True:
            after = n[U(t.following + ix.ROW * slot)]
            _finish(t, n, x, g, u, slot, clock)
            ended += 1
            if slot == tail:
                break
            slot = after
        n[ix.COMPLETED] += ended
        n[ix.ACTIVE] -= ended
        n[U(t.present + u)] -= ended


@vector
def _grow(loads: Any, growing: Any, numerator: Any) -> None:
    """Let loads grow by a step."""
    for i in range(loads.size):
        loads[i] += numerator * growing[i]


@inlined
def grow(t: Any, n: Any, calendar: Any, first: Any, workers: Any, now: Any) -> None:
    """Let the loads of `workers` cells from `first` on grow by a step; `now` counts it."""
    if not EXTRAS:
        active = window(n, t.active + first, workers)
        _grow(window(n, t.loads + first, workers), active, ZERO + 1)
    else:
        _grow_with_extras(t, n, calendar, first, workers, now)


@inlined
def _grow_with_extras(t: Any, n: Any, calendar: Any, first: Any, workers: Any, now: Any) -> None:
    """Let loads grow that several layers see differently."""
    for q in range(t.queues):
        at = q * t.cells + first
        growing = window(n, t.growing + at, workers)
        _grow(window(n, t.loads + at, workers), growing, t.numerator)
        if q == 0:
            i = first % t.attention_workers
            _grow(window(n, t.held + i, workers), growing, t.numerator)
    for w in range(t.queues - 1):
        # Contexts that have grown beyond a window stop there.
        b = bucket_of_step(t, calendar, 1 + w, now - 1)
        bucket = n[U(b)]
        if bucket < 0:
            continue
        n[U(b)] = -1
        slot = first_of(bucket)
        tail = last_of(bucket)
        while True:
            c = (1 + w) * t.cells + slot // t.batch_size
            grown = n[U(t.prompt + ix.ROW * slot)] + t.numerator * (now - _since(t, n, slot))
            n[U(t.loads + c)] -= grown - n[U(t.windows + w)]
            n[U(t.growing + c)] -= 1
            if slot == tail:
                break
            slot = n[U(t.following + ix.ROW * ((1 + w) * t.slots + slot))]


@part
def make_room(t: Any, n: Any, x: Any, u: Any, calendar: Any, i: Any, now: Any) -> None:
    """Take the youngest requests of this microbatch out while worker i's KV memory overflows."""
    c = u * t.attention_workers + i
    while n[U(t.active + c)] > 0 and n[U(t.held + i)] > t.capacity:
        victim = ZERO - 1
        for slot in range(c * t.batch_size, (c + 1) * t.batch_size):
            if n[U(t.due + ix.ROW * slot)] >= now and (
                victim < 0 or n[U(t.order + slot)] > n[U(t.order + victim)]
            ):
                victim = slot
        # The calendar still stands at the step that has just ended.
        unschedule(t, n, ZERO, calendar, victim, now - 1)
        done = now - _since(t, n, victim)
        prompt = n[U(t.prompt + ix.ROW * victim)]
        for w in range(t.queues - 1):
            full = (n[U(t.windows + w)] - prompt + t.numerator - 1) // t.numerator
            if done < full <= n[U(t.steps + ix.ROW * victim)] - 1:
                unschedule(t, n, 1 + w, calendar, victim, now - 1)
        grown = t.numerator * done
        n[U(t.chosen + ix.PROMPT)] = prompt + grown
        n[U(t.chosen + ix.STEPS)] = n[U(t.steps + ix.ROW * victim)] - done
        n[U(t.chosen + ix.OUTPUT)] = n[U(t.output + ix.ROW * victim)] - grown
        n[U(t.chosen + ix.TOKENS)] = n[U(t.tokens + ix.ROW * victim)]
        n[U(t.chosen + ix.PREEMPTIONS)] = n[U(t.preemptions + victim)] + 1
        n[U(t.chosen + ix.PASSED)] = 0
        x[U(t.chosen_times)] = of_bits(n[U(t.begun + ix.ROW * victim)])
        x[U(t.chosen_times + 1)] = x[U(t.arrival + victim)]
        _leave(t, n, u, c, victim, done + 1)
        n[ix.ACTIVE] -= 1
        n[U(t.present + u)] -= 1
        n[U(t.due + ix.ROW * victim)] = -1
        n[ix.PREEMPTED] += 1
        n[ix.RECOMPUTED] += prompt + grown
        give_back(t, n, x, ZERO)
