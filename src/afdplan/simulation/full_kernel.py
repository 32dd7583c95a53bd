"""What does a bundle do that is always full? Compiled; the digits of `kernel.py`, sooner.

Where enough waits and nothing limits who enters, a slot is filled again in the step in which its
request ends. Which slot it is changes nothing, so none is kept: a request is a record, next to
those that end in the same window of steps, and leaves the cache only while it has long to go.

A list of chunks of records per microbatch and window; when a window begins, its records are
linked into a list per step. Names as in `kernel.py`; `k` is a record, `b` where a list is kept.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from afdplan.compile import (
    ZERO,
    U,
    Whole,
    bits_of,
    compiled,
    inlined,
    of_bits,
    part,
    trailing_zeros,
    vector,
    window,
)
from afdplan.simulation import state as ix
from afdplan.simulation.admission import choose
from afdplan.simulation.pipeline import is_simple, pipeline
from afdplan.simulation.slot_calendar import append_to, first_of, last_of
from afdplan.simulation.stage_times import set_attention_times, set_stage_times
from afdplan.simulation.tallies import count, sample_memory, tally_step

__all__ = ["advance_full"]


@part
def _new_chunk(t: Any, n: Any, b: Any, end: Any) -> Whole:
    """Append a chunk to a list; returns its first record."""
    chunk = n[U(t.free_chunk)]
    if chunk >= 0:
        n[U(t.free_chunk)] = n[U(t.next_chunk + chunk)]
    else:
        chunk = n[U(t.chunks_used)]
        n[U(t.chunks_used)] += 1
    if end == 0:
        n[U(b)] = chunk
    else:
        n[U(t.next_chunk + (end - 1) // ix.CHUNK)] = chunk
    return chunk * ix.CHUNK


@inlined
def _new_record(t: Any, n: Any, b: Any) -> Whole:
    """Append a record to a list: its first chunk, and one more than its last record."""
    k = n[U(b + 1)]
    if k & (ix.CHUNK - 1) == 0:
        k = _new_chunk(t, n, b, k)
    n[U(b + 1)] = k + 1
    return k


@inlined
def _lists(t: Any, u: Any) -> Whole:
    """Return where the lists of a microbatch are kept: a ring of windows, then two more."""
    return t.window_lists + 2 * (ix.WINDOWS + 2) * u


@inlined
def _link(t: Any, n: Any, u: Any, k: Any, due: Any) -> None:
    """Append a record to those that end in a step of the present window."""
    b = t.step_lists + u * ix.WINDOW + (due & (ix.WINDOW - 1))
    append_to(n, b, t.records + ix.DUE, ix.RECORD, k)


@inlined
def _in_turn(bits: Any, after: Any) -> Whole:
    """Return the first worker from `after` on, around, of those a bit is set of in one word."""
    above = bits & (-1 << (after & 63))
    # A choice without a jump: whether one is left above cannot be foretold.
    return trailing_zeros(above if above != 0 else bits)


@inlined
def _enter(
    t: Any, n: Any, u: Any, i: Any, prompt: Any, steps: Any, tokens: Any, begun: Any, now: Any
) -> None:
    """Let a request begin at worker i, which has room for it, until its last step ends."""
    c = u * t.attention_workers + i
    active = n[U(t.active + c)] + 1
    n[U(t.active + c)] = active
    n[U(t.loads + c)] += prompt
    n[U(t.free_words + u * t.words + (i >> 6))] &= ~(np.int64(active == t.batch_size) << (i & 63))
    due = now + steps - 1
    is_near = due // ix.WINDOW == now // ix.WINDOW
    if is_near and n[U(t.spare + u)] >= 0:
        k = n[U(t.spare + u)]
        n[U(t.spare + u)] = n[U(t.records + ix.RECORD * k + ix.DUE)]
    else:
        place = ix.WINDOWS if is_near else due // ix.WINDOW & (ix.WINDOWS - 1)
        k = _new_record(t, n, _lists(t, u) + 2 * place)
    at = t.records + ix.RECORD * k
    n[U(at)] = prompt + steps
    n[U(at + ix.BEGUN)] = begun
    n[U(at + ix.WHOSE)] = tokens << 32 | i
    n[U(at + ix.DUE)] = due
    if is_near:
        _link(t, n, u, k, due)


@part
def _worker(t: Any, n: Any, u: Any) -> Whole:
    """Return the worker that the policy gives a request to."""
    return choose(t, n, u, ZERO)


@part
def _fill(t: Any, n: Any, x: Any, r: Any) -> None:
    """Fill all slots at the beginning, first with what is found in them."""
    clock = x[ix.CLOCK]
    together = t.attention_workers * t.batch_size
    for u in range(t.microbatches):
        for _ in range(together):
            i = _worker(t, n, u)
            if n[ix.RETURNED] > 0:
                row = t.returned + 6 * n[ix.RETURNED_HEAD]
                prompt, steps = n[U(row + ix.PROMPT)], n[U(row + ix.STEPS)]
                tokens = n[U(row + ix.TOKENS)]
                begun = x[U(t.returned_times + 2 * n[ix.RETURNED_HEAD])]
                n[ix.RETURNED] -= 1
                n[ix.RETURNED_HEAD] += 1
            else:
                prompt, steps = r[U(3 * n[ix.HEAD])], r[U(3 * n[ix.HEAD] + 1)]
                tokens, begun = steps, clock
                for total in (ix.HEAD, ix.ENTERED, ix.STARTED):
                    n[total] += 1
            _enter(t, n, u, i, prompt, steps, tokens, bits_of(begun), n[ix.STEP])
        n[ix.PLACED] += together
        n[ix.ACTIVE] += together
        n[U(t.present + u)] = together
        set_stage_times(t, n, x, u)


@inlined
def _leave(t: Any, n: Any, x: Any, u: Any, clock: Any) -> Whole:
    """Let all requests leave whose last step has just ended; returns their number."""
    b = t.step_lists + u * ix.WINDOW + (n[ix.STEP] & (ix.WINDOW - 1))
    bucket = n[U(b)]
    if bucket < 0:
        return 0
    n[U(b)] = -1
    k = first_of(bucket)
    tail = last_of(bucket)
    first = u * t.attention_workers
    words = t.free_words + u * t.words
    spare = n[U(t.spare + u)]
    n[U(t.spare + u)] = k
    ended = 0
    found = 0
    time_per_token = x[ix.TIME_PER_TOKEN]
    while True:
        at = t.records + ix.RECORD * k
        i = first_of(n[U(at + ix.WHOSE)])
        n[U(t.loads + first + i)] -= n[U(at)]
        n[U(t.active + first + i)] -= 1
        n[U(words + (i >> 6))] |= 1 << (i & 63)
        ended += 1
        begun = of_bits(n[U(at + ix.BEGUN)])
        if begun == ix.FOUND_IN_SLOT:
            found += 1
        else:
            per_token = (clock - begun) / last_of(n[U(at + ix.WHOSE)])
            time_per_token += per_token
            count(t, n, x, ix.TOKEN_TIMES, per_token)
        if k == tail:
            break
        k = n[U(at + ix.DUE)]
    n[U(t.records + ix.RECORD * tail + ix.DUE)] = spare
    x[ix.TIME_PER_TOKEN] = time_per_token
    n[ix.TIMED] += ended - found
    n[ix.COMPLETED] += ended
    return ended


@part
def _turn(t: Any, n: Any, u: Any, now: Any) -> None:
    """Begin a window: link its records into a list per step, and let go of the one before."""
    near = _lists(t, u) + 2 * ix.WINDOWS
    present = near + 2
    for b in (near, present):
        end = n[U(b + 1)]
        if end > 0:
            n[U(t.next_chunk + (end - 1) // ix.CHUNK)] = n[U(t.free_chunk)]
            n[U(t.free_chunk)] = n[U(b)]
            n[U(b + 1)] = 0
    n[U(t.spare + u)] = -1
    window = now // ix.WINDOW
    b = _lists(t, u) + 2 * (window & (ix.WINDOWS - 1))
    end = n[U(b + 1)]
    if end == 0:
        return
    n[U(present)] = n[U(b)]
    n[U(present + 1)] = end
    n[U(b + 1)] = 0
    k = n[U(b)] * ix.CHUNK
    while True:
        at = t.records + ix.RECORD * k
        due = n[U(at + ix.DUE)]
        if due // ix.WINDOW == window:
            _link(t, n, u, k, due)
        else:  # later by the whole ring
            to = t.records + ix.RECORD * _new_record(t, n, b)
            for column in range(ix.RECORD):
                n[U(to + column)] = n[U(at + column)]
        k += 1
        if k == end:
            return
        if k & (ix.CHUNK - 1) == 0:
            k = n[U(t.next_chunk + k // ix.CHUNK - 1)] * ix.CHUNK


@inlined
def _end_step(t: Any, n: Any, x: Any, r: Any, u: Any) -> None:
    """End a microbatch's step: loads grow, requests leave, as many enter."""
    clock = x[U(t.back + u)]
    x[ix.CLOCK] = clock
    step_time = clock - x[U(t.step_end + u)]
    x[U(t.step_end + u)] = clock
    tally_step(t, n, x, n[U(t.present + u)], step_time)
    now = n[ix.STEP] + 1
    _grow(window(n, t.loads + u * t.attention_workers, t.attention_workers), t.batch_size)
    ended = _leave(t, n, x, u, clock)
    if now & (ix.WINDOW - 1) == 0:
        _turn(t, n, u, now)
    head = n[ix.HEAD]
    in_turn = t.policy == ix.ROUND_ROBIN and t.words == 1
    after = n[ix.NEXT_WORKER]
    for k in range(head, head + ended):
        if in_turn:
            i = _in_turn(n[U(t.free_words + u)], after)
            after = i + 1
        else:
            i = _worker(t, n, u)
        tokens = r[U(3 * k + 1)]
        _enter(t, n, u, i, r[U(3 * k)], tokens, tokens, bits_of(clock), now)
    if in_turn:
        n[ix.NEXT_WORKER] = after if after < t.attention_workers else 0
    for total in (ix.HEAD, ix.ENTERED, ix.STARTED, ix.PLACED):
        n[total] += ended


@vector
def _grow(loads: Any, requests: Any) -> None:
    """Let loads grow by a step."""
    for i in range(loads.size):
        loads[i] += requests


@vector
def _on_a_line(times: Any, loads: Any, value: Any, slope: Any, of_requests: Any) -> None:
    """Set times that grow linearly with load, of workers that are full."""
    for i in range(times.size):
        times[i] = (value + slope * loads[i]) + of_requests


def _advance_full(
    t: Any, n: Any, x: Any, r: Any, v: Any, g: Any, stop_step: Any, stop_completed: Any
) -> Any:
    """Play whole steps as `kernel._advance` does: same arguments, stops and reasons to return."""
    workers = t.attention_workers
    if n[ix.ACTIVE] == 0:
        if n[ix.AVAILABLE] < t.slots + 1:
            return ix.NEED_REQUESTS
        _fill(t, n, x, r)
    n[ix.ARRIVED] = n[ix.AVAILABLE]
    is_line = t.kinds == 1 and n[U(t.curve_first + 1)] == n[U(t.curve_first)] + 1
    is_line = is_line and t.denominator == 1 and x[U(t.time_per_context)] == 0.0
    value, slope = x[U(t.curve_values)], x[U(t.curve_slopes)]
    of_requests = x[U(t.time_per_request)] * t.batch_size
    while True:
        u = n[ix.POSITION]
        layer = n[ix.LAYER]
        if n[ix.PENDING] == 0:
            if layer == 0:
                if u == 0 and (n[ix.STEP] >= stop_step or n[ix.COMPLETED] >= stop_completed):
                    if n[ix.KV_SAMPLES] < n[ix.STEP] * workers:
                        sample_memory(t, n, x)
                    return ix.STOPPED
                # Late, so that what the step before has stored is at hand.
                if is_line:
                    times = window(x, t.attention_time + u * workers, workers)
                    loads = window(n, t.loads + u * workers, workers)
                    _on_a_line(times, loads, value, slope, of_requests)
                else:
                    set_attention_times(t, n, x, u * workers, workers)
            pipeline(t, n, x, v, g, u, layer, is_simple(t))
            n[ix.ROUNDS] += 1
            n[ix.PENDING] = 1
            if n[ix.KV_SAMPLES] < n[ix.STEP] * workers:
                # Of the step before: right after it, loads would wait for what has been stored.
                sample_memory(t, n, x)
        if layer == t.layers - 1:
            if n[ix.AVAILABLE] - n[ix.HEAD] < t.together:
                return ix.NEED_REQUESTS
            _end_step(t, n, x, r, u)
        n[ix.PENDING] = 0
        n[ix.POSITION] += 1
        if n[ix.POSITION] < t.microbatches:
            continue
        n[ix.POSITION] = 0
        n[ix.LAYER] += 1
        if n[ix.LAYER] == t.layers:
            n[ix.LAYER] = 0
            n[ix.STEP] += 1
            if t.drain:
                x[ix.GATE] = x[ix.CLOCK]


advance_full = compiled(_advance_full, EXTRAS=False)
