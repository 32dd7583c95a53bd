"""What does the bundle do next? The compiled recursion; `reference.py` says the same plainly.

No event heap: stages serve microbatches in one fixed cyclic order, so each start is a maximum of
known times (a max-plus recursion). Loads move by arithmetic, one addition per worker, microbatch
and step; requests are touched when they enter and when they leave.

Names: `t` constants and offsets, `n` integers, `x` floats, `r` requests, `v` arrivals and
factors, `g` log; index `u` is a microbatch, `i` a worker, `c = u A + i` their cell, `q` a kind of
load (0 the whole context, else a window). What both kernels do is in `slots.py`, `stage_times.py`,
`blocks.py` and `tallies.py`.
"""

from __future__ import annotations

from typing import Any

from afdplan.compile import (
    EXTRAS,
    ZERO,
    Real,
    U,
    Whole,
    bits_of,
    compiled,
    inlined,
    of_bits,
    part,
    vector,
    window,
)
from afdplan.simulation import state as ix
from afdplan.simulation.blocks import factors_suffice, requests_suffice
from afdplan.simulation.slot_calendar import cascade
from afdplan.simulation.slots import (
    end_requests,
    fits,
    give_back,
    grow,
    hear,
    make_room,
    next_free,
    place,
    replace,
    take,
)
from afdplan.simulation.stage_times import curve, set_attention_times
from afdplan.simulation.tallies import log_is_full, log_stage, sample_memory, tally_step

__all__ = ["advance", "advance_plainly"]


@inlined
def _weight(t: Any, n: Any, u: Any, i: Any) -> Whole:
    """Return the load by which worker i is told from others: its microbatch's, or all of it."""
    if EXTRAS and t.policy == ix.LONGEST_REQUEST:
        return n[U(t.foreseen + i)]
    if not EXTRAS or t.policy != ix.LONGEST_PROMPT_RANK:
        return n[U(t.loads + u * t.attention_workers + i)]
    held = ZERO
    for k in range(t.microbatches):
        held += n[U(t.loads + k * t.attention_workers + i)]
    return held


@inlined
def _choose(t: Any, n: Any, u: Any, k: Any) -> Whole:
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
        if n[U(t.free_first + cell + i)] >= 0:
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
            i = _choose(t, n, u, k)
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
def _admit(t: Any, n: Any, x: Any, r: Any, v: Any, u: Any, now: Any, clock: Any) -> None:
    """Fill free slots of a microbatch, first come first served; then set its stage times."""
    hear(t, n, x, v, clock)
    free = t.attention_workers * t.batch_size - n[U(t.present + u)]
    if EXTRAS and t.policy >= ix.LONGEST_PROMPT:
        _admit_by_prompt(t, n, x, r, v, u, free, now, clock)
    else:
        endless = not EXTRAS and not t.open
        while free > 0 and not (endless and n[ix.RETURNED] == 0) and take(t, n, x, r, v, ZERO):
            i = _choose(t, n, u, ZERO)
            if i < 0:
                give_back(t, n, x, ZERO)
                break
            place(t, n, x, u, i, ZERO, now, clock)
            free -= 1
        if endless:
            head = n[ix.HEAD]
            for k in range(head, head + free):
                replace(t, n, x, r, u, _choose(t, n, u, ZERO), k, now, clock)
            for total in (ix.HEAD, ix.ENTERED, ix.STARTED, ix.PLACED, ix.ACTIVE):
                n[total] += free
            n[U(t.present + u)] += free

    # How long each stage of the microbatch's next step takes.
    first = u * t.attention_workers
    set_attention_times(t, n, x, first, t.attention_workers)
    if t.padded and x[U(t.ffn_time + u)] > 0.0:
        return  # stage times of padded slots never change
    total = t.attention_workers * t.batch_size
    if not t.padded:
        total = n[U(t.present + u)]
    shared = total / t.ffn_workers
    even = curve(t, n, x, t.kinds, shared)
    x[U(t.even_time + u)] = even
    x[U(t.ffn_time + u)] = even
    if EXTRAS and t.whole_peers:
        shared = t.own_tokens
        x[U(t.ffn_time + u)] = even + t.dense_share * (curve(t, n, x, t.kinds, shared) - even)
    for c in range(first, first + t.attention_workers):
        own = float(t.batch_size if t.padded else n[U(t.active + c)])
        x[U(t.send_time + c)] = curve(t, n, x, t.kinds + 1, shared if t.send_aggregate else own)
        x[U(t.receive_time + c)] = curve(
            t, n, x, t.kinds + 2, shared if t.receive_aggregate else own
        )


@part
def _of_busiest_rank(t: Any, n: Any, x: Any, v: Any, u: Any, time: Any) -> Real:
    """Return the FFN time when its busiest expert rank has that much more than the mean."""
    total = t.attention_workers * t.batch_size
    if not t.padded:
        total = n[U(t.present + u)]
    load = total / t.ffn_workers * v[U(t.experts_at + n[ix.AT_EXPERTS])]
    return time + t.expert_share * (curve(t, n, x, t.kinds, load) - x[U(t.even_time + u)])


@part
def _overlap_ideally(t: Any, n: Any, x: Any, v: Any, g: Any, layer: Any) -> None:
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
def _pipeline(t: Any, n: Any, x: Any, v: Any, g: Any, u: Any, layer: Any) -> None:
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
    idle_overhead = window(x, t.idle + 3 * workers, workers)
    first = layer == 0 and u == 0
    gate = x[ix.GATE] if first else 0.0
    overhead = t.overhead if EXTRAS and first else 0.0
    vary_attention = EXTRAS and t.vary_attention
    vary_send = EXTRAS and t.vary_send
    aggregate = EXTRAS and t.send_aggregate
    receives = t.attention_receives if EXTRAS else 0.0
    sends = t.attention_sends if EXTRAS else 0.0
    log = EXTRAS and t.stage_room > 0
    if EXTRAS and overhead > 0.0:
        _stand_still(t, x, overhead)
    barrier = x[U(t.barrier + u)]
    ffn_time = x[U(t.ffn_end + u)] - x[U(t.delivered + u)]
    last_end = 0.0
    total_end = 0.0
    arrived = 0.0
    if not EXTRAS:
        ends = window(x, ix.LAST_END, 2)
        _attend(
            attention_time, attention_free, send_time, send_free, sent, ready, busy,
            idle_transfer, idle_barrier, idle_other_side, ends, barrier, ffn_time, gate,
        )  # fmt: skip
        last_end, arrived = ends[0], ends[1]
        for i in range(workers):
            total_end += attention_free[i]
    for i in range(workers if EXTRAS else ZERO):
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
        if EXTRAS:
            idle_overhead[i] += start - opened
        time = attention_time[i]
        if vary_attention:
            time *= v[U(t.attention_at + n[ix.AT_ATTENTION] + i)]
        end = start + time
        attention_free[i] = end
        busy[i] += time
        last_end = max(last_end, end)
        total_end += end
        if EXTRAS and log:
            log_stage(t, n, g, ix.ATTENTION, i, u, n[ix.STEP], layer, start, end)
        if not aggregate:
            time = send_time[i]
            if vary_send:
                time *= v[U(t.send_at + n[ix.AT_SEND] + i)]
            start = max(end, send_free[i])
            if sends > 0.0:
                idle_transfer[i] += start + sends - end
                attention_free[i] = start + sends
            end = start + time
            send_free[i] = end
            arrived = max(arrived, end)
            if EXTRAS and log:
                log_stage(t, n, g, ix.SEND, i, u, n[ix.STEP], layer, start, end)
        sent[i] = end
    x[U(t.barrier + u)] = arrived
    if EXTRAS and aggregate:
        time = send_time[0]
        if vary_send:
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
    if EXTRAS and log:
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
        if EXTRAS and log:
            log_stage(t, n, g, ix.RECEIVE, ZERO, u, n[ix.STEP], layer, start, end)
        return
    receive_time = window(x, t.receive_time + cell, workers)
    receive_free = window(x, t.receive_free, workers)
    vary_receive = EXTRAS and t.vary_receive
    if not EXTRAS:
        _return(receive_time, receive_free, ready, window(x, t.back + u, 1), ffn_end)
        return
    latest = 0.0
    for i in range(workers):
        time = receive_time[i]
        if vary_receive:
            time *= v[U(t.receive_at + n[ix.AT_RECEIVE] + i)]
        start = max(ffn_end, receive_free[i])
        end = start + time
        receive_free[i] = end
        ready[i] = end
        latest = max(latest, end)
        if EXTRAS and log:
            log_stage(t, n, g, ix.RECEIVE, i, u, n[ix.STEP], layer, start, end)
    x[U(t.back + u)] = latest


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
            make_room(t, n, x, u, u, i, now)
    if now & (ix.WHEEL - 1) == 0:
        for q in range(t.queues):
            cascade(t, n, q, u, now)
    _admit(t, n, x, r, v, u, now, clock)


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
        _admit(t, n, x, r, v, u, n[ix.STEP], wake)


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
                _overlap_ideally(t, n, x, v, g, layer)
            else:
                _pipeline(t, n, x, v, g, u, layer)
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
