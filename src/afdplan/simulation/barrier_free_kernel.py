"""What happens next without a barrier? Compiled; `tests/twin` has `barrier_free_reference.py`.

Every microbatch of every attention worker (a cell) goes its own way: attention, link out, the
queue before the FFN pool, a departure, link back. Workers and links serve in order of arrival, so
that all their times are known ahead: a call stands in the pool's queue, by its arrival, as soon as
that is known. What remains is one event per cell: its call returns to the worker (and may end its
step), or leaves it (only where all share one link out). At equal times events come before
departures, and cells in their order.

Names as in `kernel.py`, whose requests, slots and loads these are (`slots.py`).
"""

from __future__ import annotations

from typing import Any

from afdplan.compile import EXTRAS, ZERO, Real, U, compiled, inlined, part
from afdplan.simulation import state as ix
from afdplan.simulation.blocks import factors_suffice, requests_suffice
from afdplan.simulation.event_heap import join, pop, push
from afdplan.simulation.slot_calendar import cascade
from afdplan.simulation.slots import (
    end_requests,
    fits,
    give_back,
    grow,
    hear,
    make_room,
    place,
    take,
)
from afdplan.simulation.stage_times import curve, set_attention_times
from afdplan.simulation.tallies import log_is_full, log_stage, sample_memory, tally_step

__all__ = ["advance_barrier_free", "advance_barrier_free_plainly"]


@inlined
def _log(t: Any, n: Any, g: Any, stage: Any, i: Any, c: Any, u: Any, start: Any, end: Any) -> None:
    """Note one stage of the cell's call."""
    if EXTRAS and t.stage_room > 0:
        log_stage(t, n, g, stage, i, u, n[U(t.own_step + c)], n[U(t.layer + c)], start, end)


@inlined
def _attend(t: Any, n: Any, x: Any, v: Any, g: Any, c: Any, ready: Any) -> None:
    """Play the attention of a cell that is back at its worker, and the link out."""
    workers = t.attention_workers
    u = c // workers
    i = c - u * workers
    free = x[U(t.attention_free + i)]
    back = max(free, ready)
    gap = back - free
    # Split the worker's wait, from its end: the link back, the FFN, the queue, the link out.
    returning = min(gap, ready - x[U(t.served + c)])
    served = min(gap - returning, x[U(t.served + c)] - x[U(t.boarded + c)])
    queued = min(gap - returning - served, x[U(t.boarded + c)] - x[U(t.arrived + c)])
    idle = t.idle + i
    x[U(idle + ix.IDLE_BARRIER * workers)] += queued
    x[U(idle + ix.IDLE_OTHER_SIDE * workers)] += served
    x[U(idle + ix.IDLE_TRANSFER * workers)] += gap - served - queued
    layer = n[U(t.layer + c)]
    start = back
    if EXTRAS and layer == 0 and u == 0:
        start = back + t.overhead
        x[U(idle + ix.IDLE_OVERHEAD * workers)] += t.overhead
    time = x[U(t.attention_time + n[U(t.kind_of_layer + layer)] * t.cells + c)]
    if EXTRAS and t.vary_attention:
        time *= v[U(t.attention_at + n[ix.AT_ATTENTION])]
        n[ix.AT_ATTENTION] += 1
    end = start + time
    x[U(t.attention_free + i)] = end
    x[U(t.busy + i)] += time
    x[U(t.sent + c)] = end
    _log(t, n, g, ix.ATTENTION, i, c, u, start, end)
    if EXTRAS and t.send_aggregate:
        push(t, n, x, c, ix.LEAVES, end)
        return
    time = x[U(t.send_time + c)]
    if EXTRAS and t.vary_send:
        time *= v[U(t.send_at + n[ix.AT_SEND])]
        n[ix.AT_SEND] += 1
    start = max(end, x[U(t.send_free + i)])
    end = start + time
    x[U(t.send_free + i)] = end
    _log(t, n, g, ix.SEND, i, c, u, start, end)
    join(t, n, x, c, end)


@inlined
def _leave_on_shared_link(t: Any, n: Any, x: Any, v: Any, g: Any, c: Any) -> None:
    """Send a call over the link of all workers: its latency does not keep the next one."""
    time = x[U(t.send_time + c)]
    factor = 1.0
    if EXTRAS and t.vary_send:
        factor = v[U(t.send_at + n[ix.AT_SEND])]
        n[ix.AT_SEND] += 1
    start = max(x[U(t.sent + c)], x[ix.SEND_FREE])
    end = start + time * factor
    x[ix.SEND_FREE] = start + (time - curve(t, n, x, t.kinds + 1, 0.0)) * factor
    _log(t, n, g, ix.SEND, ZERO, c, c // t.attention_workers, start, end)
    join(t, n, x, c, end)


@inlined
def _departure_time(t: Any, n: Any, x: Any) -> Real:
    """Return when the pool leaves unless other calls come before, infinity if it waits for them."""
    calls = n[ix.CALLS]
    leaves = ix.NEVER
    if calls >= t.least_calls:
        at = n[ix.FIRST_CALL] + t.least_calls - 1
        if at >= t.cells:
            at -= t.cells
        leaves = max(x[ix.FFN_FREE], x[U(t.arrived + n[U(t.calls + at)])])
    if t.longest_wait >= 0.0 and calls > 0:
        first = n[U(t.calls + n[ix.FIRST_CALL])]
        leaves = min(leaves, max(x[ix.FFN_FREE], x[U(t.arrived + first)] + t.longest_wait))
    return leaves


@inlined
def _depart(t: Any, n: Any, x: Any, v: Any, g: Any, start: Any) -> None:
    """Serve the calls that wait, first come first served, and send them back."""
    workers = t.attention_workers
    first = n[ix.FIRST_CALL]
    oldest = n[U(t.calls + first)]
    free = x[ix.FFN_FREE]
    gap = start - free
    # Split the pool's wait: held back by the boarding rule, the first call's way, no call at all.
    held = min(gap, start - x[U(t.arrived + oldest)])
    sending = min(gap - held, x[U(t.arrived + oldest)] - x[U(t.sent + oldest)])
    x[U(t.ffn_idle + ix.IDLE_BARRIER)] += held
    x[U(t.ffn_idle + ix.IDLE_TRANSFER)] += sending
    x[U(t.ffn_idle + ix.IDLE_OTHER_SIDE)] += gap - held - sending

    tokens = ZERO
    calls = ZERO
    at = first
    while calls < n[ix.CALLS]:
        c = n[U(t.calls + at)]
        if x[U(t.arrived + c)] > start:
            break
        own = t.batch_size if t.padded else n[U(t.active + c)]
        if calls > 0 and t.most_tokens >= 0 and tokens + own > t.most_tokens:
            break
        tokens += own
        calls += 1
        x[U(t.boarded + c)] = start
        x[ix.CALL_WAIT] += start - x[U(t.arrived + c)]
        at = at + 1 if at + 1 < t.cells else ZERO
    n[ix.FIRST_CALL] = at
    n[ix.CALLS] -= calls
    n[ix.DEPARTURES] += 1
    n[ix.BOARDED] += calls

    shared = tokens / t.ffn_workers
    time = curve(t, n, x, t.kinds, shared)
    if EXTRAS and t.uneven:
        load = shared * v[U(t.experts_at + n[ix.AT_EXPERTS])]
        n[ix.AT_EXPERTS] += 1
        time = time + t.expert_share * (curve(t, n, x, t.kinds, load) - time)
    if EXTRAS and t.vary_ffn:
        time *= v[U(t.ffn_at + n[ix.AT_FFN])]
        n[ix.AT_FFN] += 1
    end = start + time
    x[ix.FFN_FREE] = end
    x[ix.FFN_BUSY] += time
    _log(t, n, g, ix.FFN, ZERO, oldest, calls, start, end)

    together = 0.0
    if EXTRAS and t.receive_aggregate:
        time = curve(t, n, x, t.kinds + 2, shared)
        factor = 1.0
        if EXTRAS and t.vary_receive:
            factor = v[U(t.receive_at + n[ix.AT_RECEIVE])]
            n[ix.AT_RECEIVE] += 1
        back = max(end, x[ix.RECEIVE_FREE])
        together = back + time * factor
        x[ix.RECEIVE_FREE] = back + (time - curve(t, n, x, t.kinds + 2, 0.0)) * factor
        _log(t, n, g, ix.RECEIVE, ZERO, oldest, calls, back, together)
    at = first
    for _ in range(calls):
        c = n[U(t.calls + at)]
        at = at + 1 if at + 1 < t.cells else ZERO
        x[U(t.served + c)] = end
        if EXTRAS and t.receive_aggregate:
            push(t, n, x, c, ix.RETURNS, together)
            continue
        u = c // workers
        i = c - u * workers
        time = x[U(t.receive_time + c)]
        if EXTRAS and t.vary_receive:
            time *= v[U(t.receive_at + n[ix.AT_RECEIVE])]
            n[ix.AT_RECEIVE] += 1
        back = max(end, x[U(t.receive_free + i)])
        x[U(t.receive_free + i)] = back + time
        _log(t, n, g, ix.RECEIVE, i, c, u, back, back + time)
        push(t, n, x, c, ix.RETURNS, back + time)


@inlined
def _admit_own(t: Any, n: Any, x: Any, r: Any, v: Any, c: Any, clock: Any) -> None:
    """Fill the free slots of one cell, first come first served; then set its stage times."""
    workers = t.attention_workers
    u = c // workers
    i = c - u * workers
    hear(t, n, x, v, clock)
    now = n[U(t.own_step + c)]
    while n[U(t.active + c)] < t.batch_size and take(t, n, x, r, v, ZERO):
        if not fits(t, n, i, ZERO):
            give_back(t, n, x, ZERO)
            break
        place(t, n, x, u, i, ZERO, now, clock)
    set_attention_times(t, n, x, c, 1)
    own = float(t.batch_size if t.padded else n[U(t.active + c)])
    out = own / t.ffn_workers if EXTRAS and t.send_aggregate else own
    x[U(t.send_time + c)] = curve(t, n, x, t.kinds + 1, out)
    x[U(t.receive_time + c)] = curve(t, n, x, t.kinds + 2, own)


@part
def _admit_to_sleeper(t: Any, n: Any, x: Any, r: Any, v: Any, g: Any, c: Any, clock: Any) -> None:
    """Let requests into a cell that holds none; it begins a step if there is one that fits."""
    _admit_own(t, n, x, r, v, c, clock)
    if n[U(t.active + c)] == 0:
        return
    i = c % t.attention_workers
    n[U(t.sleeps + c)] = 0
    n[ix.SLEEPING] -= 1
    free = x[U(t.attention_free + i)]
    if clock > free:
        x[U(t.idle + ix.IDLE_EMPTY * t.attention_workers + i)] += clock - free
        x[U(t.attention_free + i)] = clock
    x[U(t.cell_end + c)] = clock
    x[U(t.arrived + c)] = clock
    x[U(t.boarded + c)] = clock
    x[U(t.served + c)] = clock
    _attend(t, n, x, v, g, c, clock)


@part
def _rouse(t: Any, n: Any, x: Any, r: Any, v: Any, g: Any, clock: Any) -> None:
    """Let sleeping cells have what waits, in turn."""
    hear(t, n, x, v, clock)
    c = n[ix.NEXT_WORKER]
    for _ in range(t.cells):
        if n[ix.ARRIVED] == n[ix.HEAD] and n[ix.RETURNED] == 0:
            return
        after = c + 1 if c + 1 < t.cells else ZERO
        if n[U(t.sleeps + c)]:
            _admit_to_sleeper(t, n, x, r, v, g, c, clock)
            if not n[U(t.sleeps + c)]:
                n[ix.NEXT_WORKER] = after
        c = after


@part
def _wake(t: Any, n: Any, x: Any, r: Any, v: Any, g: Any, clock: Any) -> None:
    """Let requests that have arrived into cells that sleep."""
    if n[ix.SLEEPING] == t.cells and clock > x[ix.CLOCK]:
        x[U(t.ffn_idle + ix.IDLE_OTHER_SIDE)] += x[ix.CLOCK] - x[ix.FFN_FREE]
        x[U(t.ffn_idle + ix.IDLE_EMPTY)] += clock - x[ix.CLOCK]
        x[ix.FFN_FREE] = clock
        x[ix.ASLEEP] += clock - x[ix.CLOCK]
    x[ix.CLOCK] = max(clock, x[ix.CLOCK])
    _rouse(t, n, x, r, v, g, clock)


@part
def _begin(t: Any, n: Any, x: Any, r: Any, v: Any, g: Any) -> None:
    """Fill all cells at time zero; those without requests sleep."""
    for c in range(t.cells):
        n[U(t.sleeps + c)] = 1
    n[ix.SLEEPING] = t.cells
    if t.open:
        return
    for c in range(t.cells):
        _admit_to_sleeper(t, n, x, r, v, g, c, 0.0)


@inlined
def _end_own_step(t: Any, n: Any, x: Any, r: Any, v: Any, g: Any, c: Any, clock: Any) -> None:
    """End the step of one cell: requests leave, loads grow, requests enter."""
    workers = t.attention_workers
    u = c // workers
    active = n[U(t.active + c)]
    step_time = clock - x[U(t.cell_end + c)]
    x[U(t.cell_end + c)] = clock
    tally_step(t, n, x, active, step_time)
    step = n[U(t.own_step + c)]
    if EXTRAS and t.log_steps:
        row = ix.LOG_COLUMNS * (t.request_room + n[ix.STEP_ROWS])
        n[ix.STEP_ROWS] += 1
        g[row], g[row + 1], g[row + 2], g[row + 3] = step, u, clock, step_time
        g[row + 4], g[row + 5] = active, n[U(t.loads + c)] / t.denominator
        g[row + 6] = c - u * workers
        g[row + 7] = n[ix.ARRIVED] - n[ix.HEAD] + n[ix.RETURNED] if t.open else 0
    n[U(t.own_step + c)] = step + 1
    end_requests(t, n, x, g, c, u, step, clock)
    grow(t, n, c, c, 1, step + 1)
    if EXTRAS and t.preempt:
        make_room(t, n, x, u, c, c - u * workers, step + 1)
    if (step + 1) & (ix.WHEEL - 1) == 0:
        for q in range(t.queues):
            cascade(t, n, q, c, step + 1)
    _admit_own(t, n, x, r, v, c, clock)
    n[ix.CELL_STEPS] += 1
    if n[ix.CELL_STEPS] == (n[ix.STEP] + 1) * t.cells:
        n[ix.STEP] += 1
        sample_memory(t, n, x)


@inlined
def _return(t: Any, n: Any, x: Any, r: Any, v: Any, g: Any, c: Any, clock: Any) -> None:
    """Let a call come back to its worker: the next layer, or the end of its step."""
    layer = n[U(t.layer + c)] + 1
    if layer < t.layers:
        n[U(t.layer + c)] = layer
        _attend(t, n, x, v, g, c, clock)
        return
    n[U(t.layer + c)] = 0
    _end_own_step(t, n, x, r, v, g, c, clock)
    if n[U(t.active + c)] > 0:
        _attend(t, n, x, v, g, c, clock)
    else:
        n[U(t.sleeps + c)] = 1
        n[ix.SLEEPING] += 1
    if n[ix.SLEEPING] > 0:
        _rouse(t, n, x, r, v, g, clock)


def _advance_barrier_free(
    t: Any, n: Any, x: Any, r: Any, v: Any, g: Any, stop_step: Any, stop_completed: Any
) -> Any:
    """Play events until one of the stops is reached or a block is used up.

    Parameters
    ----------
    t, n, x, r, v, g
        Constants, integers, floats, requests, factors and log of a `State`.
    stop_step, stop_completed
        Return `STOPPED` after that many steps (of all cells on average), or finished requests.

    Returns
    -------
    int
        Why it returned: see `state.py`. Nothing is half done; calling again goes on.
    """
    if n[ix.EVENTS] == 0 and n[ix.CALLS] == 0 and n[ix.SLEEPING] == 0:
        if not t.open and n[ix.AVAILABLE] - n[ix.HEAD] < t.slots:
            return ix.NEED_REQUESTS
        if EXTRAS and not factors_suffice(t, n, t.cells, t.cells, t.cells):
            return ix.NEED_FACTORS
        _begin(t, n, x, r, v, g)
    while True:
        if n[ix.STEP] >= stop_step or n[ix.COMPLETED] >= stop_completed:
            return ix.STOPPED
        if EXTRAS and not factors_suffice(t, n, t.cells, t.cells, t.cells):
            return ix.NEED_FACTORS
        most = t.batch_size * (1 + n[ix.SLEEPING])
        due = ix.NEVER
        if n[ix.EVENTS] > 0:
            due = x[U(t.event + n[U(t.heap)])]
        leaves = _departure_time(t, n, x)
        wake = ix.NEVER
        if t.open and n[ix.SLEEPING] > 0:
            if n[ix.ARRIVED] < n[ix.AVAILABLE]:
                wake = v[U(t.arrival_at + n[ix.ARRIVED])]
            elif not n[ix.EXHAUSTED]:
                return ix.NEED_REQUESTS
        if due <= leaves and due <= wake:
            if due == ix.NEVER:
                return ix.FINISHED
            c = n[U(t.heap)]
            kind = n[U(t.next + c)]
            if not EXTRAS or kind == ix.RETURNS:
                if n[U(t.layer + c)] == t.layers - 1:
                    if not requests_suffice(t, n, v, most, due):
                        return ix.NEED_REQUESTS
                    if EXTRAS and log_is_full(t, n, t.batch_size):
                        return ix.LOG_FULL
                pop(t, n, x)
                x[ix.CLOCK] = due
                _return(t, n, x, r, v, g, c, due)
            elif EXTRAS:
                pop(t, n, x)
                _leave_on_shared_link(t, n, x, v, g, c)
        elif leaves < wake:
            _depart(t, n, x, v, g, leaves)
        else:
            if not requests_suffice(t, n, v, most, wake):
                return ix.NEED_REQUESTS
            _wake(t, n, x, r, v, g, wake)


advance_barrier_free = compiled(_advance_barrier_free)
advance_barrier_free_plainly = compiled(_advance_barrier_free, EXTRAS=False)
