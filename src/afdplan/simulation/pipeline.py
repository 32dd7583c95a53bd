"""How is one layer of a microbatch played? Compiled; names as in `kernel.py`."""

from __future__ import annotations

from typing import Any

from afdplan.compile import (
    EXTRAS,
    ZERO,
    Real,
    Truth,
    U,
    bits_of,
    inlined,
    of_bits,
    part,
    vector,
    window,
)
from afdplan.simulation import state as ix
from afdplan.simulation.stage_times import curve
from afdplan.simulation.tallies import log_stage

__all__ = ["is_simple", "overlap_ideally", "pipeline"]


@part
def _of_busiest_rank(t: Any, n: Any, x: Any, v: Any, u: Any, time: Any) -> Real:
    """Return the FFN time when its busiest expert rank has that much more than the mean."""
    total = t.attention_workers * t.batch_size
    if not t.padded:
        total = n[U(t.present + u)]
    load = total / t.ffn_workers * v[U(t.experts_at + n[ix.AT_EXPERTS])]
    return time + t.expert_share * (curve(t, n, x, t.kinds, load) - x[U(t.even_time + u)])


@part
def overlap_ideally(t: Any, n: Any, x: Any, v: Any, g: Any, layer: Any) -> None:
    """Play one layer of the paper's cycle: the slowest of all stages, in perfect overlap."""
    times = t.attention_time + n[U(t.kind_of_layer + layer)] * t.cells
    slowest = 0.0
    total = 0.0
    communication = 0.0
    for i in range(t.attention_workers):
        a = x[U(times + i)]
        if t.vary_attention:
            a *= v[U(t.attention_at + n[ix.AT_ATTENTION] + i)]
        x[U(t.sent + i)] = a
        total += a
        slowest = max(slowest, a)
        c = x[U(t.send_time + i)]
        if t.vary_send:
            c *= v[U(t.send_at + n[ix.AT_SEND] + i)]
        communication = max(communication, c)
        c = x[U(t.receive_time + i)]
        if t.vary_receive:
            c *= v[U(t.receive_at + n[ix.AT_RECEIVE] + i)]
        communication = max(communication, c)
    work = x[U(t.ffn_time)]
    if t.uneven:
        work = _of_busiest_rank(t, n, x, v, ZERO, work)
    if t.vary_ffn:
        work *= v[U(t.ffn_at + n[ix.AT_FFN])]
    work += t.launch
    cycle = max(slowest, communication, work)
    overhead = t.overhead if layer == 0 else 0.0
    start = x[ix.CLOCK] + overhead
    end = start + cycle
    other = max(work, slowest)
    for i in range(t.attention_workers):
        a = x[U(t.sent + i)]
        x[U(t.busy + i)] += a
        idle = t.idle + i
        workers = t.attention_workers
        x[U(idle + ix.IDLE_OVERHEAD * workers)] += overhead
        x[U(idle + ix.IDLE_BARRIER * workers)] += slowest - a
        x[U(idle + ix.IDLE_OTHER_SIDE * workers)] += other - slowest
        x[U(idle + ix.IDLE_TRANSFER * workers)] += cycle - other
        x[U(t.attention_free + i)] = end
        x[U(t.ready + i)] = end
        log_stage(t, n, g, ix.ATTENTION, i, ZERO, n[ix.STEP], layer, start, start + a)
    log_stage(t, n, g, ix.SEND, ZERO, ZERO, n[ix.STEP], layer, start, start + communication)
    log_stage(t, n, g, ix.FFN, ZERO, ZERO, n[ix.STEP], layer, start, start + work)
    x[ix.CLOCK] = end
    x[U(t.back)] = end
    x[ix.FFN_BUSY] += work
    x[U(t.ffn_idle + ix.IDLE_OVERHEAD)] += overhead
    at = work
    until = total / t.attention_workers
    if until > at:
        x[U(t.ffn_idle + ix.IDLE_OTHER_SIDE)] += until - at
        at = until
    if slowest > at:
        x[U(t.ffn_idle + ix.IDLE_BARRIER)] += slowest - at
        at = slowest
    if cycle > at:
        x[U(t.ffn_idle + ix.IDLE_TRANSFER)] += cycle - at
    x[ix.FFN_FREE] = end


@inlined
def _stand_still(t: Any, x: Any, overhead: Any) -> None:
    """Pause everything but the first microbatch, which pauses by starting later."""
    workers = t.attention_workers
    for cell in range(workers, t.cells):
        x[U(t.ready + cell)] += overhead
        x[U(t.sent + cell)] += overhead
    for u in range(1, t.microbatches):
        x[U(t.barrier + u)] += overhead
        x[U(t.delivered + u)] += overhead
        x[U(t.ffn_end + u)] += overhead
    for i in range(workers):
        x[U(t.send_free + i)] += overhead
        x[U(t.receive_free + i)] += overhead
    x[ix.SEND_FREE] += overhead
    x[ix.RECEIVE_FREE] += overhead
    x[ix.FFN_FREE] += overhead
    x[U(t.ffn_idle + ix.IDLE_OVERHEAD)] += overhead


@inlined
def is_simple(t: Any) -> Truth:
    """Say whether attention and links take what they take, one beside the other, unlogged."""
    return not EXTRAS or not (
        t.vary_attention
        or t.vary_send
        or t.vary_receive
        or t.send_aggregate
        or t.receive_aggregate
        or t.attention_receives > 0.0
        or t.attention_sends > 0.0
        or t.stage_room > 0
    )


@vector
def _attend(
    attention_time: Any, attention_free: Any, send_time: Any, send_free: Any, sent: Any,
    ready: Any, busy: Any, idle_transfer: Any, idle_barrier: Any, idle_other_side: Any,
    ends: Any, barrier: Any, ffn_time: Any, gate: Any,
) -> None:  # fmt: skip
    """Play attention and the link out of a plain bundle; `ends` gets the last end of each."""
    last_end = 0
    arrived = 0
    for i in range(attention_time.size):
        free = attention_free[i]
        back = max(free, ready[i])
        gap = back - free
        late = min(gap, barrier - sent[i])
        served = min(gap - late, ffn_time)
        idle_transfer[i] += gap - late - served
        start = max(back, gate)
        idle_barrier[i] += late
        idle_other_side[i] += served + (start - back)
        time = attention_time[i]
        end = start + time
        attention_free[i] = end
        busy[i] += time
        last_end = max(last_end, bits_of(end))
        end = max(end, send_free[i]) + send_time[i]
        send_free[i] = end
        sent[i] = end
        arrived = max(arrived, bits_of(end))
    ends[0] = of_bits(last_end)
    ends[1] = of_bits(arrived)


@inlined
def _attend_with_extras(
    t: Any, n: Any, x: Any, v: Any, g: Any, u: Any, layer: Any, attention_time: Any,
    attention_free: Any, send_time: Any, send_free: Any, sent: Any, ready: Any, busy: Any,
    idle_transfer: Any, idle_barrier: Any, idle_other_side: Any, barrier: Any, ffn_time: Any,
    gate: Any, overhead: Any,
) -> Real:  # fmt: skip
    """Play attention and the link out, with all that may add to them; returns the sum of ends."""
    workers = t.attention_workers
    idle_overhead = window(x, t.idle + 3 * workers, workers)
    receives = t.attention_receives
    sends = t.attention_sends
    log = t.stage_room > 0
    last_end = 0.0
    total_end = 0.0
    arrived = 0.0
    for i in range(workers):
        # Split the worker's wait: what the slowest worker cost, then the FFN, then the links.
        free = attention_free[i]
        back = max(free, ready[i] - receives)
        gap = back - free
        late = min(gap, barrier - sent[i])
        served = min(gap - late, ffn_time)
        idle_transfer[i] += gap - late - served + receives
        back += receives
        opened = max(back, gate)
        start = opened + overhead
        idle_barrier[i] += late
        idle_other_side[i] += served + (opened - back)
        idle_overhead[i] += start - opened
        time = attention_time[i]
        if t.vary_attention:
            time *= v[U(t.attention_at + n[ix.AT_ATTENTION] + i)]
        end = start + time
        attention_free[i] = end
        busy[i] += time
        last_end = max(last_end, end)
        total_end += end
        if log:
            log_stage(t, n, g, ix.ATTENTION, i, u, n[ix.STEP], layer, start, end)
        if not t.send_aggregate:
            time = send_time[i]
            if t.vary_send:
                time *= v[U(t.send_at + n[ix.AT_SEND] + i)]
            start = max(end, send_free[i])
            if sends > 0.0:
                idle_transfer[i] += start + sends - end
                attention_free[i] = start + sends
            end = start + time
            send_free[i] = end
            arrived = max(arrived, end)
            if log:
                log_stage(t, n, g, ix.SEND, i, u, n[ix.STEP], layer, start, end)
        sent[i] = end
    x[ix.LAST_END] = last_end
    x[ix.LAST_ARRIVAL] = arrived
    return total_end


@vector
def _return(
    receive_time: Any, receive_free: Any, ready: Any, ends: Any, ffn_end: Any
) -> None:  # fmt: skip
    """Play the link back of a plain bundle; `ends` gets when the last worker has its part."""
    latest = 0
    for i in range(receive_time.size):
        end = max(ffn_end, receive_free[i]) + receive_time[i]
        receive_free[i] = end
        ready[i] = end
        latest = max(latest, bits_of(end))
    ends[0] = of_bits(latest)


@inlined
def _return_with_extras(
    t: Any, n: Any, x: Any, v: Any, g: Any, u: Any, layer: Any, receive_time: Any,
    receive_free: Any, ready: Any, ffn_end: Any,
) -> None:  # fmt: skip
    """Play the link back where it varies or is logged."""
    latest = 0.0
    for i in range(t.attention_workers):
        time = receive_time[i]
        if t.vary_receive:
            time *= v[U(t.receive_at + n[ix.AT_RECEIVE] + i)]
        start = max(ffn_end, receive_free[i])
        end = start + time
        receive_free[i] = end
        ready[i] = end
        latest = max(latest, end)
        if t.stage_room > 0:
            log_stage(t, n, g, ix.RECEIVE, i, u, n[ix.STEP], layer, start, end)
    x[U(t.back + u)] = latest


@inlined
def pipeline(t: Any, n: Any, x: Any, v: Any, g: Any, u: Any, layer: Any, simple: Any) -> None:
    """Play one layer of one microbatch: attention, transfer out, FFN, transfer back."""
    workers = t.attention_workers
    cell = u * workers
    at_time = t.attention_time + n[U(t.kind_of_layer + layer)] * t.cells + cell
    # Views of one length: an index known to be in range costs nothing to check.
    attention_time = window(x, at_time, workers)
    attention_free = window(x, t.attention_free, workers)
    send_time = window(x, t.send_time + cell, workers)
    send_free = window(x, t.send_free, workers)
    sent = window(x, t.sent + cell, workers)
    ready = window(x, t.ready + cell, workers)
    busy = window(x, t.busy, workers)
    idle_transfer = window(x, t.idle, workers)
    idle_barrier = window(x, t.idle + workers, workers)
    idle_other_side = window(x, t.idle + 2 * workers, workers)
    first = layer == 0 and u == 0
    gate = x[ix.GATE] if first else 0.0
    overhead = t.overhead if EXTRAS and first else 0.0
    if EXTRAS and overhead > 0.0:
        _stand_still(t, x, overhead)
    barrier = x[U(t.barrier + u)]
    ffn_time = x[U(t.ffn_end + u)] - x[U(t.delivered + u)]
    total_end = 0.0
    if simple and not (EXTRAS and overhead > 0.0):
        _attend(
            attention_time, attention_free, send_time, send_free, sent, ready, busy,
            idle_transfer, idle_barrier, idle_other_side, window(x, ix.LAST_END, 2),
            barrier, ffn_time, gate,
        )  # fmt: skip
        for i in range(workers):
            total_end += attention_free[i]
    elif EXTRAS:
        total_end = _attend_with_extras(
            t, n, x, v, g, u, layer, attention_time, attention_free, send_time, send_free, sent,
            ready, busy, idle_transfer, idle_barrier, idle_other_side, barrier, ffn_time, gate,
            overhead,
        )  # fmt: skip
    last_end, arrived = x[ix.LAST_END], x[ix.LAST_ARRIVAL]
    x[U(t.barrier + u)] = arrived
    if EXTRAS and t.send_aggregate:
        time = send_time[0]
        if t.vary_send:
            time *= v[U(t.send_at + n[ix.AT_SEND])]
        start = max(last_end, x[ix.SEND_FREE])
        arrived = start + time
        x[ix.SEND_FREE] = arrived
        x[U(t.barrier + u)] = last_end
        log_stage(t, n, g, ix.SEND, ZERO, u, n[ix.STEP], layer, start, arrived)
    x[U(t.delivered + u)] = arrived

    time = x[U(t.ffn_time + u)]
    if EXTRAS and t.uneven:
        time = _of_busiest_rank(t, n, x, v, u, time)
    if EXTRAS and t.vary_ffn:
        time *= v[U(t.ffn_at + n[ix.AT_FFN])]
    time += t.launch
    free = x[ix.FFN_FREE]
    start = max(free, arrived - t.ffn_receives_one)
    gap = start - free
    late = min(gap, max(last_end - total_end / workers, 0.0))
    sending = min(gap - late, arrived - last_end)
    x[U(t.ffn_idle + ix.IDLE_BARRIER)] += late
    x[U(t.ffn_idle + ix.IDLE_TRANSFER)] += sending + t.ffn_receives + t.ffn_sends
    x[U(t.ffn_idle + ix.IDLE_OTHER_SIDE)] += gap - late - sending
    start += t.ffn_receives
    ffn_end = start + time
    x[ix.FFN_FREE] = ffn_end + t.ffn_sends
    x[ix.FFN_BUSY] += time
    if EXTRAS and t.stage_room > 0:
        log_stage(t, n, g, ix.FFN, ZERO, u, n[ix.STEP], layer, start, ffn_end)
    ffn_end += t.ffn_sends_others
    x[U(t.ffn_end + u)] = ffn_end

    if EXTRAS and t.receive_aggregate:
        time = x[U(t.receive_time + cell)]
        if t.vary_receive:
            time *= v[U(t.receive_at + n[ix.AT_RECEIVE])]
        start = max(ffn_end, x[ix.RECEIVE_FREE])
        end = start + time
        x[ix.RECEIVE_FREE] = end
        for i in range(workers):
            ready[i] = end
        x[U(t.back + u)] = end
        if EXTRAS and t.stage_room > 0:
            log_stage(t, n, g, ix.RECEIVE, ZERO, u, n[ix.STEP], layer, start, end)
        return
    receive_time = window(x, t.receive_time + cell, workers)
    receive_free = window(x, t.receive_free, workers)
    if simple:
        _return(receive_time, receive_free, ready, window(x, t.back + u, 1), ffn_end)
    elif EXTRAS:
        _return_with_extras(t, n, x, v, g, u, layer, receive_time, receive_free, ready, ffn_end)
