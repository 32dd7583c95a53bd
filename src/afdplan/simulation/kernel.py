"""What does the bundle do next? The compiled recursion; plainly: `tests/twin/reference.py`.

No event heap: stages serve microbatches in one fixed cyclic order, so each start is a maximum of
known times (a max-plus recursion). Loads move by arithmetic, one addition per worker, microbatch
and step; requests are touched when they enter and when they leave.

Names: `t` constants and offsets, `n` integers, `x` floats, `r` requests, `v` arrivals and
factors, `g` log; index `u` is a microbatch, `i` a worker, `c = u A + i` their cell, `q` a kind of
load (0 the whole context, else a window). A layer is in `pipeline.py`, who is let in in
`admission.py`; what both kernels do in `slots.py`, `stage_times.py`, `blocks.py`, `tallies.py`.
"""

from __future__ import annotations

from typing import Any

from afdplan.compile import EXTRAS, U, Whole, compiled, inlined, part
from afdplan.simulation import state as ix
from afdplan.simulation.admission import admit
from afdplan.simulation.blocks import factors_suffice, requests_suffice
from afdplan.simulation.pipeline import is_simple, overlap_ideally, pipeline
from afdplan.simulation.slot_calendar import cascade
from afdplan.simulation.slots import end_requests, grow, make_room
from afdplan.simulation.stage_times import set_stage_times
from afdplan.simulation.tallies import log_is_full, sample_memory, tally_step

__all__ = ["advance", "advance_plainly"]


@inlined
def _end_step(t: Any, n: Any, x: Any, r: Any, v: Any, g: Any, u: Any) -> None:
    """End a microbatch's step: requests leave, loads grow, requests enter."""
    first = u * t.attention_workers
    end = first + t.attention_workers
    clock = x[U(t.back + u)]
    active = n[U(t.present + u)]
    x[ix.CLOCK] = clock
    step_time = clock - x[U(t.step_end + u)]
    x[U(t.step_end + u)] = clock
    tally_step(t, n, x, active, step_time)
    if EXTRAS and t.log_steps:
        row = ix.LOG_COLUMNS * (t.request_room + n[ix.STEP_ROWS])
        n[ix.STEP_ROWS] += 1
        g[row], g[row + 1], g[row + 2], g[row + 3] = n[ix.STEP], u, clock, step_time
        total = 0
        heaviest = 0
        for c in range(first, end):
            total += n[U(t.loads + c)]
            heaviest = max(heaviest, n[U(t.loads + c)])
        g[row + 4] = active
        g[row + 5], g[row + 6] = total / t.denominator, heaviest / t.denominator
        g[row + 7] = 0.0
        if t.open:
            g[row + 7] = n[ix.ARRIVED] - n[ix.HEAD] + n[ix.RETURNED]

    now = n[ix.STEP] + 1
    end_requests(t, n, x, g, u, u, now - 1, clock)
    grow(t, n, u, first, t.attention_workers, now)
    if EXTRAS and t.preempt:
        for i in range(t.attention_workers):
            if n[U(t.held + i)] > t.capacity:
                make_room(t, n, x, u, u, i, now)
    if now & (ix.WHEEL - 1) == 0:
        for q in range(t.queues):
            cascade(t, n, q, u, now)
    admit(t, n, x, r, v, u, now, clock)
    set_stage_times(t, n, x, u)


@part
def _wake(t: Any, n: Any, x: Any, r: Any, v: Any, wake: Any) -> None:
    """Let an empty bundle sleep until a time; all microbatches then admit."""
    clock = x[ix.CLOCK]
    x[ix.ASLEEP] += wake - clock
    for i in range(t.attention_workers):
        idle = t.idle + i
        x[U(idle + ix.IDLE_OTHER_SIDE * t.attention_workers)] += clock - x[U(t.attention_free + i)]
        x[U(idle + ix.IDLE_EMPTY * t.attention_workers)] += wake - clock
        x[U(t.attention_free + i)] = wake
    x[U(t.ffn_idle + ix.IDLE_OTHER_SIDE)] += clock - x[ix.FFN_FREE]
    x[U(t.ffn_idle + ix.IDLE_EMPTY)] += wake - clock
    x[ix.FFN_FREE] = wake
    x[ix.CLOCK] = wake
    x[ix.GATE] = wake
    for u in range(t.microbatches):
        x[U(t.step_end + u)] = wake
    for c in range(t.cells):
        x[U(t.ready + c)] = wake
    for u in range(t.microbatches):
        admit(t, n, x, r, v, u, n[ix.STEP], wake)
        set_stage_times(t, n, x, u)


@part
def _begin(t: Any, n: Any, x: Any, r: Any, v: Any) -> Whole:
    """Let requests into a bundle that holds none; returns a status, `STOPPED` if all is well."""
    wake = max(x[ix.CLOCK], x[ix.OPENS])
    if not t.open:
        if n[ix.AVAILABLE] - n[ix.HEAD] < t.slots + t.placement_window:
            return ix.NEED_REQUESTS
        _wake(t, n, x, r, v, wake)
        return ix.STOPPED
    if n[ix.HEAD] == n[ix.AVAILABLE]:
        if n[ix.EXHAUSTED] == 0:
            return ix.NEED_REQUESTS
        if n[ix.RETURNED] == 0:
            return ix.FINISHED
    else:
        if n[ix.RETURNED] == 0:
            wake = max(wake, v[U(t.arrival_at + n[ix.HEAD])])
        if v[U(t.arrival_at + n[ix.AVAILABLE] - 1)] <= wake and n[ix.EXHAUSTED] == 0:
            return ix.NEED_REQUESTS
    if wake >= x[ix.FAILS]:
        return ix.FAILED  # while it was empty
    _wake(t, n, x, r, v, wake)
    return ix.STOPPED


def _advance(
    t: Any, n: Any, x: Any, r: Any, v: Any, g: Any, stop_step: Any, stop_completed: Any
) -> Any:
    """Play whole steps until one of the stops is reached or a block is used up.

    Parameters
    ----------
    t, n, x, r, v, g
        Constants, integers, floats, requests, factors and log of a `State`.
    stop_step, stop_completed
        Return `STOPPED` after that many steps, or finished requests, in total.

    Returns
    -------
    int
        Why it returned: see `state.py`. Nothing is half done; calling again goes on.
    """
    workers = t.attention_workers
    send_draws = 1 if t.send_aggregate and not t.ideal else workers
    receive_draws = 1 if t.receive_aggregate and not t.ideal else workers
    simple = is_simple(t)
    while True:
        if n[ix.POSITION] == 0 and n[ix.LAYER] == 0 and n[ix.PENDING] == 0:
            if x[ix.CLOCK] >= x[ix.FAILS]:
                return ix.FAILED
            if n[ix.ACTIVE] == 0:
                said = _begin(t, n, x, r, v)
                if said != ix.STOPPED:
                    return said
            if n[ix.STEP] >= stop_step or n[ix.COMPLETED] >= stop_completed:
                return ix.STOPPED
        u = n[ix.POSITION]
        layer = n[ix.LAYER]
        if n[ix.PENDING] == 0:
            if EXTRAS and not factors_suffice(t, n, workers, send_draws, receive_draws):
                return ix.NEED_FACTORS
            if EXTRAS and t.ideal:
                overlap_ideally(t, n, x, v, g, layer)
            else:
                pipeline(t, n, x, v, g, u, layer, simple)
            if EXTRAS:
                n[ix.AT_ATTENTION] += workers
                n[ix.AT_SEND] += send_draws
                n[ix.AT_FFN] += 1
                n[ix.AT_EXPERTS] += 1
                n[ix.AT_RECEIVE] += receive_draws
            n[ix.ROUNDS] += 1
            n[ix.PENDING] = 1
        if layer == t.layers - 1:
            if not requests_suffice(t, n, v, t.together, x[U(t.back + u)]):
                return ix.NEED_REQUESTS
            if EXTRAS and log_is_full(t, n, workers * t.batch_size):
                return ix.LOG_FULL
            _end_step(t, n, x, r, v, g, u)
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
            sample_memory(t, n, x)


advance = compiled(_advance)
advance_plainly = compiled(_advance, EXTRAS=False)
