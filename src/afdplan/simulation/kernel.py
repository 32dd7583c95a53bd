"""What does the bundle do next? The compiled recursion; `reference.py` says the same plainly.

No event heap: stages serve microbatches in one fixed cyclic order, so each start is a maximum of
known times (a max-plus recursion). Loads move by arithmetic, one addition per worker, microbatch
and step; requests are touched when they enter and when they leave.

Names: `t` constants and offsets, `n` integers, `x` floats, `r` requests, `v` arrivals and
factors, `g` log; index `u` is a microbatch, `i` a worker, `c = u A + i` their cell, `q` a kind of
load (0 the whole context, else a window). One file, since the cache of compiled code does not
notice edits elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from afdplan.simulation import state as ix
from afdplan.simulation.compile import compiled, inlined

__all__ = ["advance"]

# Typed: a literal would have every function compiled once more.
ZERO: Any = np.int64(0)
# Unsigned: an index that cannot be negative needs no check for counting from the end.
U: Any = np.uint64


@inlined
def _count(t: Any, n: Any, x: Any, histogram: Any, value: Any) -> None:
    """Add a value to a histogram: its exponent and ten leading bits name the bin."""
    x[ix.SCRATCH] = value
    b = (x.view(np.int64)[ix.SCRATCH] >> ix.BIN_SHIFT) - t.bin_base
    n[U(t.histograms + histogram * ix.BINS + min(max(b, 0), ix.BINS - 1))] += 1


@inlined
def _curve(t: Any, n: Any, x: Any, curve: Any, load: Any) -> Any:
    """Return the time of a piecewise-linear curve at a load."""
    k = n[U(t.curve_first + curve)]
    end = n[U(t.curve_first + curve + 1)]
    while k + 1 < end and x[U(t.curve_starts + k + 1)] <= load:
        k += 1
    return x[U(t.curve_values + k)] + x[U(t.curve_slopes + k)] * (load - x[U(t.curve_starts + k)])


@inlined
def _bucket(t: Any, q: Any, u: Any, due: Any, now: Any) -> Any:
    """Return the bucket of an event: near ones have one per step, far ones one per window."""
    b = due & (ix.WHEEL - 1)
    if due // ix.WHEEL != now // ix.WHEEL:
        b = ix.WHEEL + (due // ix.WHEEL & (ix.WHEEL - 1))
    return t.last + (q * t.calendars + u) * 2 * ix.WHEEL + b


@inlined
def _schedule(t: Any, n: Any, q: Any, u: Any, slot: Any, due: Any, now: Any) -> None:
    """Append a slot's event to its bucket: events of a step stay in order of placement."""
    base = q * t.slots
    n[U(t.due + base + slot)] = due
    b = _bucket(t, q, u, due, now)
    tail = n[U(b)]
    n[U(b)] = slot
    following = t.following + base
    head = slot
    if tail < 0:
        tail = slot
    else:
        head = n[U(following + tail)]
    n[U(following + tail)] = slot
    n[U(following + slot)] = head
    if t.preempt:  # who may leave early needs both directions
        n[U(t.preceding + base + slot)] = tail
        n[U(t.preceding + base + head)] = slot


@compiled
def _unschedule(t: Any, n: Any, q: Any, u: Any, slot: Any, now: Any) -> None:
    """Take a slot's event out of the calendar."""
    base = q * t.slots
    b = _bucket(t, q, u, n[U(t.due + base + slot)], now)
    before = n[U(t.preceding + base + slot)]
    after = n[U(t.following + base + slot)]
    if after == slot:
        n[U(b)] = -1
        return
    n[U(t.following + base + before)] = after
    n[U(t.preceding + base + after)] = before
    if n[U(b)] == slot:
        n[U(b)] = before


@compiled
def _cascade(t: Any, n: Any, q: Any, u: Any, now: Any) -> None:
    """Spread the events of the window that begins now over its steps."""
    b = t.last + (q * t.calendars + u) * 2 * ix.WHEEL
    b += ix.WHEEL + (now // ix.WHEEL & (ix.WHEEL - 1))
    tail = n[U(b)]
    if tail < 0:
        return
    n[U(b)] = -1
    base = q * t.slots
    slot = n[U(t.following + base + tail)]
    while True:
        after = n[U(t.following + base + slot)]
        _schedule(t, n, q, u, slot, n[U(t.due + base + slot)], now)
        if slot == tail:
            return
        slot = after


@inlined
def _leave(t: Any, n: Any, u: Any, c: Any, slot: Any, done: Any) -> None:
    """Take a request that is in its slot's step number `done` off the loads of its worker."""
    load = n[U(t.prompt + 4 * slot)] + t.numerator * (done - 1)
    n[U(t.loads + c)] -= load
    n[U(t.growing + c)] -= 1
    for w in range(t.queues - 1):
        at = (1 + w) * t.cells + c
        window = n[U(t.windows + w)]
        if load >= window:
            n[U(t.loads + at)] -= window
        else:
            n[U(t.loads + at)] -= load
            n[U(t.growing + at)] -= 1
    if t.capacity >= 0:
        i = c % t.attention_workers
        n[U(t.reserved + i)] -= n[U(t.prompt + 4 * slot)] + t.numerator * (
            n[U(t.steps + 4 * slot)] - 1
        )
    n[U(t.following + slot)] = n[U(t.free_first + c)]
    n[U(t.free_first + c)] = slot
    n[U(t.active + c)] -= 1
    n[U(t.present + u)] -= 1
    n[ix.ACTIVE] -= 1


@inlined
def _place(t: Any, n: Any, x: Any, u: Any, i: Any, k: Any, now: Any, clock: Any) -> None:
    """Put the chosen request number k into a free slot."""
    c = u * t.attention_workers + i
    slot = n[U(t.free_first + c)]
    n[U(t.free_first + c)] = n[U(t.following + slot)]
    row = t.chosen + 7 * k
    times = t.chosen_times + 2 * k
    prompt = n[U(row + ix.PROMPT)]
    steps = n[U(row + ix.STEPS)]
    n[U(t.prompt + 4 * slot)] = prompt
    n[U(t.steps + 4 * slot)] = steps
    n[U(t.output + 4 * slot)] = n[U(row + ix.OUTPUT)]
    n[U(t.tokens + 4 * slot)] = n[U(row + ix.TOKENS)]
    x[U(t.begun + slot)] = x[U(times)]
    if x[U(times)] == ix.NOT_BEGUN:
        x[U(t.begun + slot)] = clock
        n[ix.STARTED] += 1
        if t.open:
            x[ix.WAIT] += clock - x[U(times + 1)]
            n[ix.WAITED] += 1
            _count(t, n, x, ix.WAITS, clock - x[U(times + 1)])
    if t.tracked:
        n[U(t.preemptions + slot)] = n[U(row + ix.PREEMPTIONS)]
        x[U(t.arrival + slot)] = x[U(times + 1)]
        n[U(t.since + slot)] = now
        n[U(t.order + slot)] = n[ix.PLACED]
        n[U(t.reserved + i)] += prompt + t.numerator * (steps - 1)
    if t.placement_window > 1 and x[U(times)] == ix.NOT_BEGUN:
        _count(t, n, x, ix.PASSES, float(n[U(row + ix.PASSED)]))
    n[ix.PLACED] += 1
    n[ix.ACTIVE] += 1
    n[U(t.active + c)] += 1
    n[U(t.present + u)] += 1
    n[U(t.loads + c)] += prompt
    n[U(t.growing + c)] += 1
    calendar = c if t.barrier_free else u
    _schedule(t, n, ZERO, calendar, slot, now + steps - 1, now)
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
                _schedule(t, n, 1 + w, calendar, slot, now + full - 1, now)


@inlined
def _fits(t: Any, n: Any, i: Any, k: Any) -> Any:
    """Say whether worker i has KV memory for the chosen request number k."""
    if t.capacity < 0:
        return True
    row = t.chosen + 7 * k
    held = n[U(row + ix.PROMPT)]
    if t.preempt:
        for v in range(t.microbatches):
            held += n[U(t.loads + v * t.attention_workers + i)]
    else:
        held += n[U(t.reserved + i)] + t.numerator * (n[U(row + ix.STEPS)] - 1)
    return held <= t.capacity


@inlined
def _weight(t: Any, n: Any, u: Any, i: Any) -> Any:
    """Return the load by which worker i is told from others: its microbatch's, or all of it."""
    if t.policy != ix.LONGEST_PROMPT_RANK:
        return n[U(t.loads + u * t.attention_workers + i)]
    held = ZERO
    for k in range(t.microbatches):
        held += n[U(t.loads + k * t.attention_workers + i)]
    return held


@inlined
def _choose(t: Any, n: Any, u: Any, k: Any) -> Any:
    """Return the worker that the policy gives a request to, -1 if none can take it.

    A new policy is a branch here and in the twin, and a name in `Placement`.
    """
    workers = t.attention_workers
    cell = u * workers
    if t.policy == ix.ROUND_ROBIN:
        i = n[ix.NEXT_WORKER]
        for _ in range(workers):
            after = i + 1 if i + 1 < workers else 0
            if n[U(t.free_first + cell + i)] >= 0 and _fits(t, n, i, k):
                n[ix.NEXT_WORKER] = after
                return i
            i = after
        return -1
    best = -1
    least = ZERO
    for i in range(workers):
        if n[U(t.free_first + cell + i)] >= 0:
            if t.policy == ix.FEWEST_REQUESTS:
                value = n[U(t.active + cell + i)]
            else:
                value = _weight(t, n, u, i)
            if (best < 0 or value < least) and _fits(t, n, i, k):
                best = i
                least = value
    return best


@inlined
def _take(t: Any, n: Any, x: Any, r: Any, v: Any, k: Any) -> Any:
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
    if t.numerator != 1:
        n[U(row + ix.STEPS)] = (decode * t.denominator + t.numerator - 1) // t.numerator
    n[U(row + ix.OUTPUT)] = decode * t.denominator
    n[U(row + ix.TOKENS)] = decode
    n[U(row + ix.PREEMPTIONS)] = 0
    n[U(row + ix.PASSED)] = 0
    x[U(times)] = ix.NOT_BEGUN
    x[U(times + 1)] = v[U(t.arrival_at + at)] if t.open else 0.0
    return True


@compiled
def _give_back(t: Any, n: Any, x: Any, k: Any) -> None:
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


@compiled
def _rank_by_prompt(t: Any, n: Any, count: Any) -> None:
    """Rank the chosen requests by falling prompt; of equals, first come first (merge sort)."""
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
                    one = n[U(t.chosen + 7 * n[U(t.ranking + a)] + ix.PROMPT)]
                    left = one >= n[U(t.chosen + 7 * n[U(t.ranking + b)] + ix.PROMPT)]
                if left:
                    n[U(to + j)] = n[U(t.ranking + a)]
                    a += 1
                else:
                    n[U(to + j)] = n[U(t.ranking + b)]
                    b += 1
        for j in range(count):
            n[U(t.ranking + j)] = n[U(to + j)]
        width *= 2


@compiled
def _admit_by_prompt(
    t: Any, n: Any, x: Any, r: Any, v: Any, u: Any, free: Any, now: Any, clock: Any
) -> None:
    """Let in as many as there are free slots, the longest prompt to the lightest worker first."""
    if free == 0:
        return
    taken = 0
    while taken < free + t.placement_window - 1 and _take(t, n, x, r, v, taken):
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
                _place(t, n, x, u, i, k, now, clock)
    for k in range(taken - 1, -1, -1):
        if n[U(t.chosen + 7 * k + ix.FATE)] != ix.PLACED_NOW:
            n[U(t.chosen + 7 * k + ix.PASSED)] += 1
            _give_back(t, n, x, k)


@compiled
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


@inlined
def _hear(t: Any, n: Any, x: Any, v: Any, clock: Any) -> None:
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
def _set_attention_times(t: Any, n: Any, x: Any, first: Any, workers: Any) -> None:
    """Set how long the attention of `workers` cells from `first` on takes, per kind of layer."""
    active = n[t.active + first : t.active + first + workers]
    denominator = float(t.denominator)
    for k in range(t.kinds):
        at = t.loads + n[U(t.load_of_kind + k)] * t.cells + first
        loads = n[at : at + workers]
        at = t.attention_time + k * t.cells + first
        times = x[at : at + workers]
        per_request = x[U(t.time_per_request + k)]
        at = n[U(t.curve_first + k)]
        if n[U(t.curve_first + k + 1)] == at + 1:
            value = x[U(t.curve_values + at)]
            slope = x[U(t.curve_slopes + at)]
            if denominator == 1.0:
                for i in range(workers):
                    times[i] = (value + slope * loads[i]) + per_request * active[i]
            else:
                for i in range(workers):
                    times[i] = (value + slope * (loads[i] / denominator)) + per_request * active[i]
        else:
            for i in range(workers):
                time = _curve(t, n, x, k, loads[i] / denominator)
                times[i] = time + per_request * active[i]
        per_context = x[U(t.time_per_context + k)]
        if per_context > 0.0:
            for i in range(workers):
                if active[i] > 0:
                    times[i] += per_context * (loads[i] / denominator / active[i])


@inlined
def _admit(t: Any, n: Any, x: Any, r: Any, v: Any, u: Any, now: Any, clock: Any) -> None:
    """Fill free slots of a microbatch, first come first served; then set its stage times."""
    _hear(t, n, x, v, clock)
    free = t.attention_workers * t.batch_size - n[U(t.present + u)]
    if t.policy >= ix.LONGEST_PROMPT:
        _admit_by_prompt(t, n, x, r, v, u, free, now, clock)
    else:
        while free > 0 and _take(t, n, x, r, v, ZERO):
            i = _choose(t, n, u, ZERO)
            if i < 0:
                _give_back(t, n, x, ZERO)
                break
            _place(t, n, x, u, i, ZERO, now, clock)
            free -= 1

    # How long each stage of the microbatch's next step takes.
    first = u * t.attention_workers
    _set_attention_times(t, n, x, first, t.attention_workers)
    if t.padded and x[U(t.ffn_time + u)] > 0.0:
        return  # stage times of padded slots never change
    total = t.attention_workers * t.batch_size
    if not t.padded:
        total = n[U(t.present + u)]
    shared = total / t.ffn_workers
    x[U(t.ffn_time + u)] = _curve(t, n, x, t.kinds, shared)
    for c in range(first, first + t.attention_workers):
        own = float(t.batch_size if t.padded else n[U(t.active + c)])
        x[U(t.send_time + c)] = _curve(t, n, x, t.kinds + 1, shared if t.send_aggregate else own)
        x[U(t.receive_time + c)] = _curve(
            t, n, x, t.kinds + 2, shared if t.receive_aggregate else own
        )


@compiled
def _log_stage(
    t: Any, n: Any, g: Any, stage: Any, i: Any, u: Any, layer: Any, start: Any, end: Any
) -> None:
    if n[ix.STAGE_ROWS] < t.stage_room:
        row = ix.LOG_COLUMNS * (t.request_room + t.step_room + n[ix.STAGE_ROWS])
        n[ix.STAGE_ROWS] += 1
        g[row], g[row + 1], g[row + 2] = stage, i, u
        g[row + 3], g[row + 4], g[row + 5], g[row + 6] = n[ix.STEP], layer, start, end


@compiled
def _of_busiest_rank(t: Any, n: Any, x: Any, v: Any, u: Any, even: Any) -> Any:
    """Return the FFN time when its busiest expert rank has that much more than the mean."""
    total = t.attention_workers * t.batch_size
    if not t.padded:
        total = n[U(t.present + u)]
    load = total / t.ffn_workers * v[U(t.experts_at + n[ix.AT_EXPERTS])]
    return even + t.expert_share * (_curve(t, n, x, t.kinds, load) - even)


@compiled
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
        _log_stage(t, n, g, ix.ATTENTION, i, ZERO, layer, start, start + a)
    _log_stage(t, n, g, ix.SEND, ZERO, ZERO, layer, start, start + communication)
    _log_stage(t, n, g, ix.FFN, ZERO, ZERO, layer, start, start + work)
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
def _pipeline(t: Any, n: Any, x: Any, v: Any, g: Any, u: Any, layer: Any) -> None:
    """Play one layer of one microbatch: attention, transfer out, FFN, transfer back."""
    workers = t.attention_workers
    cell = u * workers
    at_time = t.attention_time + n[U(t.kind_of_layer + layer)] * t.cells + cell
    # Views of one length: an index known to be in range costs nothing to check.
    attention_time = x[at_time : at_time + workers]
    attention_free = x[t.attention_free : t.attention_free + workers]
    send_time = x[t.send_time + cell : t.send_time + cell + workers]
    send_free = x[t.send_free : t.send_free + workers]
    sent = x[t.sent + cell : t.sent + cell + workers]
    ready = x[t.ready + cell : t.ready + cell + workers]
    busy = x[t.busy : t.busy + workers]
    idle_transfer = x[t.idle : t.idle + workers]
    idle_barrier = x[t.idle + workers : t.idle + 2 * workers]
    idle_other_side = x[t.idle + 2 * workers : t.idle + 3 * workers]
    idle_overhead = x[t.idle + 3 * workers : t.idle + 4 * workers]
    first = layer == 0 and u == 0
    gate = x[ix.GATE] if first else 0.0
    overhead = t.overhead if first else 0.0
    vary_attention = t.vary_attention
    vary_send = t.vary_send
    aggregate = t.send_aggregate
    log = t.stage_room > 0
    if overhead > 0.0:
        _stand_still(t, x, overhead)
    barrier = x[U(t.barrier + u)]
    ffn_time = x[U(t.ffn_end + u)] - x[U(t.delivered + u)]
    last_end = 0.0
    total_end = 0.0
    arrived = 0.0
    for i in range(workers):
        # Split the worker's wait: what the slowest worker cost, then the FFN, then the links.
        free = attention_free[i]
        back = max(free, ready[i])
        gap = back - free
        late = min(gap, barrier - sent[i])
        served = min(gap - late, ffn_time)
        opened = max(back, gate)
        start = opened + overhead
        idle_barrier[i] += late
        idle_other_side[i] += served + (opened - back)
        idle_transfer[i] += gap - late - served
        idle_overhead[i] += start - opened
        time = attention_time[i]
        if vary_attention:
            time *= v[U(t.attention_at + n[ix.AT_ATTENTION] + i)]
        end = start + time
        attention_free[i] = end
        busy[i] += time
        last_end = max(last_end, end)
        total_end += end
        if log:
            _log_stage(t, n, g, ix.ATTENTION, i, u, layer, start, end)
        if not aggregate:
            time = send_time[i]
            if vary_send:
                time *= v[U(t.send_at + n[ix.AT_SEND] + i)]
            start = max(end, send_free[i])
            end = start + time
            send_free[i] = end
            arrived = max(arrived, end)
            if log:
                _log_stage(t, n, g, ix.SEND, i, u, layer, start, end)
        sent[i] = end
    x[U(t.barrier + u)] = arrived
    if aggregate:
        time = send_time[0]
        if vary_send:
            time *= v[U(t.send_at + n[ix.AT_SEND])]
        start = max(last_end, x[ix.SEND_FREE])
        arrived = start + time
        x[ix.SEND_FREE] = arrived
        x[U(t.barrier + u)] = last_end
        _log_stage(t, n, g, ix.SEND, ZERO, u, layer, start, arrived)
    x[U(t.delivered + u)] = arrived

    time = x[U(t.ffn_time + u)]
    if t.uneven:
        time = _of_busiest_rank(t, n, x, v, u, time)
    if t.vary_ffn:
        time *= v[U(t.ffn_at + n[ix.AT_FFN])]
    free = x[ix.FFN_FREE]
    start = max(free, arrived)
    gap = start - free
    late = min(gap, max(last_end - total_end / workers, 0.0))
    sending = min(gap - late, arrived - last_end)
    x[U(t.ffn_idle + ix.IDLE_BARRIER)] += late
    x[U(t.ffn_idle + ix.IDLE_TRANSFER)] += sending
    x[U(t.ffn_idle + ix.IDLE_OTHER_SIDE)] += gap - late - sending
    ffn_end = start + time
    x[ix.FFN_FREE] = ffn_end
    x[ix.FFN_BUSY] += time
    x[U(t.ffn_end + u)] = ffn_end
    if log:
        _log_stage(t, n, g, ix.FFN, ZERO, u, layer, start, ffn_end)

    if t.receive_aggregate:
        time = x[U(t.receive_time + cell)]
        if t.vary_receive:
            time *= v[U(t.receive_at + n[ix.AT_RECEIVE])]
        start = max(ffn_end, x[ix.RECEIVE_FREE])
        end = start + time
        x[ix.RECEIVE_FREE] = end
        for i in range(workers):
            ready[i] = end
        x[U(t.back + u)] = end
        if log:
            _log_stage(t, n, g, ix.RECEIVE, ZERO, u, layer, start, end)
        return
    receive_time = x[t.receive_time + cell : t.receive_time + cell + workers]
    receive_free = x[t.receive_free : t.receive_free + workers]
    vary_receive = t.vary_receive
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
        if log:
            _log_stage(t, n, g, ix.RECEIVE, i, u, layer, start, end)
    x[U(t.back + u)] = latest


@inlined
def _finish(t: Any, n: Any, x: Any, g: Any, u: Any, slot: Any, clock: Any) -> None:
    """Let a request leave that has generated its last token."""
    c = slot // t.batch_size
    steps = n[U(t.steps + 4 * slot)]
    n[ix.UNITS] -= t.numerator * steps - n[U(t.output + 4 * slot)]
    _leave(t, n, u, c, slot, steps)
    n[ix.COMPLETED] += 1
    tokens = n[U(t.tokens + 4 * slot)]
    if x[U(t.begun + slot)] != ix.FOUND_IN_SLOT:
        per_token = (clock - x[U(t.begun + slot)]) / tokens
        x[ix.TIME_PER_TOKEN] += per_token
        n[ix.TIMED] += 1
        _count(t, n, x, ix.TOKEN_TIMES, per_token)
    if t.log_requests:
        row = ix.LOG_COLUMNS * n[ix.REQUEST_ROWS]
        n[ix.REQUEST_ROWS] += 1
        whole = (tokens * t.denominator + t.numerator - 1) // t.numerator
        g[row] = (n[U(t.prompt + 4 * slot)] + t.numerator * (steps - whole)) // t.denominator
        g[row + 1], g[row + 2], g[row + 3] = tokens, x[U(t.arrival + slot)], x[U(t.begun + slot)]
        g[row + 4], g[row + 5], g[row + 6] = clock, c - u * t.attention_workers, u
        g[row + 7] = n[U(t.preemptions + slot)]


@inlined
def _end_requests(
    t: Any, n: Any, x: Any, g: Any, calendar: Any, u: Any, bucket: Any, clock: Any
) -> None:
    """Let all requests leave whose last step has just ended."""
    b = t.last + calendar * 2 * ix.WHEEL + bucket
    tail = n[U(b)]
    if tail >= 0:
        n[U(b)] = -1
        slot = n[U(t.following + tail)]
        while True:
            after = n[U(t.following + slot)]
            _finish(t, n, x, g, u, slot, clock)
            if slot == tail:
                break
            slot = after


@inlined
def _grow(t: Any, n: Any, calendar: Any, first: Any, workers: Any, now: Any) -> None:
    """Let the loads of `workers` cells from `first` on grow by a step; `now` counts it."""
    numerator = t.numerator
    for q in range(t.queues):
        at = q * t.cells + first
        loads = n[t.loads + at : t.loads + at + workers]
        growing = n[t.growing + at : t.growing + at + workers]
        for i in range(workers):
            loads[i] += numerator * growing[i]
    bucket = (now - 1) & (ix.WHEEL - 1)
    for w in range(t.queues - 1):
        # Contexts that have grown beyond a window stop there.
        b = t.last + ((1 + w) * t.calendars + calendar) * 2 * ix.WHEEL + bucket
        tail = n[U(b)]
        if tail < 0:
            continue
        n[U(b)] = -1
        slot = tail
        while True:
            slot = n[U(t.following + (1 + w) * t.slots + slot)]
            c = (1 + w) * t.cells + slot // t.batch_size
            grown = n[U(t.prompt + 4 * slot)] + t.numerator * (now - n[U(t.since + slot)])
            n[U(t.loads + c)] -= grown - n[U(t.windows + w)]
            n[U(t.growing + c)] -= 1
            if slot == tail:
                break


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
    x[ix.STEP_TIME] += step_time
    _count(t, n, x, ix.STEP_TIMES, step_time)
    if t.log_steps:
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
    n[ix.ACTIVE_SUM] += active
    n[ix.UNITS] += t.numerator * active
    x[ix.ACTIVE_AREA] += active * step_time

    now = n[ix.STEP] + 1
    bucket = n[ix.STEP] & (ix.WHEEL - 1)
    _end_requests(t, n, x, g, u, u, bucket, clock)
    _grow(t, n, u, first, t.attention_workers, now)
    if t.preempt:
        for i in range(t.attention_workers):
            _make_room(t, n, x, u, u, i, now)
    if now & (ix.WHEEL - 1) == 0:
        for q in range(t.queues):
            _cascade(t, n, q, u, now)
    _admit(t, n, x, r, v, u, now, clock)


@compiled
def _make_room(t: Any, n: Any, x: Any, u: Any, calendar: Any, i: Any, now: Any) -> None:
    """Take the youngest requests of this microbatch out while worker i's KV memory overflows."""
    c = u * t.attention_workers + i
    while n[U(t.active + c)] > 0:
        held = 0
        for k in range(t.microbatches):
            held += n[U(t.loads + k * t.attention_workers + i)]
        if held <= t.capacity:
            break
        victim = ZERO - 1
        for slot in range(c * t.batch_size, (c + 1) * t.batch_size):
            if n[U(t.due + slot)] >= now and (
                victim < 0 or n[U(t.order + slot)] > n[U(t.order + victim)]
            ):
                victim = slot
        # The calendar still stands at the step that has just ended.
        _unschedule(t, n, ZERO, calendar, victim, now - 1)
        done = now - n[U(t.since + victim)]
        prompt = n[U(t.prompt + 4 * victim)]
        for w in range(t.queues - 1):
            full = (n[U(t.windows + w)] - prompt + t.numerator - 1) // t.numerator
            if done < full <= n[U(t.steps + 4 * victim)] - 1:
                _unschedule(t, n, 1 + w, calendar, victim, now - 1)
        grown = t.numerator * done
        n[U(t.chosen + ix.PROMPT)] = prompt + grown
        n[U(t.chosen + ix.STEPS)] = n[U(t.steps + 4 * victim)] - done
        n[U(t.chosen + ix.OUTPUT)] = n[U(t.output + 4 * victim)] - grown
        n[U(t.chosen + ix.TOKENS)] = n[U(t.tokens + 4 * victim)]
        n[U(t.chosen + ix.PREEMPTIONS)] = n[U(t.preemptions + victim)] + 1
        n[U(t.chosen + ix.PASSED)] = 0
        x[U(t.chosen_times)] = x[U(t.begun + victim)]
        x[U(t.chosen_times + 1)] = x[U(t.arrival + victim)]
        _leave(t, n, u, c, victim, done + 1)
        n[U(t.due + victim)] = -1
        n[ix.PREEMPTED] += 1
        n[ix.RECOMPUTED] += prompt + grown
        _give_back(t, n, x, ZERO)


@compiled
def _admit_to_empty(t: Any, n: Any, x: Any, r: Any, v: Any, u: Any, now: Any, clock: Any) -> None:
    """Do as `_admit`, in a function of its own: rare calls need no second copy of it."""
    _admit(t, n, x, r, v, u, now, clock)


@compiled
def _wake(t: Any, n: Any, x: Any, r: Any, v: Any) -> None:
    """Let an empty bundle sleep until the next arrival; all microbatches then admit."""
    clock = x[ix.CLOCK]
    wake = max(clock, v[U(t.arrival_at + n[ix.HEAD])])
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
        _admit_to_empty(t, n, x, r, v, u, n[ix.STEP], wake)


@compiled
def _begin(t: Any, n: Any, x: Any, r: Any, v: Any) -> Any:
    """Let requests into a bundle that holds none; returns a status, `STOPPED` if all is well."""
    if not t.open:
        if n[ix.AVAILABLE] - n[ix.HEAD] < t.slots + t.placement_window:
            return ix.NEED_REQUESTS
        for u in range(t.microbatches):
            _admit_to_empty(t, n, x, r, v, u, ZERO, 0.0)
        return ix.STOPPED
    if n[ix.HEAD] == n[ix.AVAILABLE]:
        return ix.FINISHED if n[ix.EXHAUSTED] else ix.NEED_REQUESTS
    wake = max(x[ix.CLOCK], v[U(t.arrival_at + n[ix.HEAD])])
    if v[U(t.arrival_at + n[ix.AVAILABLE] - 1)] <= wake and n[ix.EXHAUSTED] == 0:
        return ix.NEED_REQUESTS
    _wake(t, n, x, r, v)
    return ix.STOPPED


@inlined
def _blocks_suffice(t: Any, n: Any, x: Any, v: Any, u: Any) -> Any:
    """Say whether all requests are at hand that may enter when the microbatch ends its step."""
    if not t.open:
        return n[ix.AVAILABLE] - n[ix.HEAD] >= t.together
    if n[ix.EXHAUSTED]:
        return True
    if n[ix.AVAILABLE] == 0:
        return False
    return v[U(t.arrival_at + n[ix.AVAILABLE] - 1)] > x[U(t.back + u)]


@inlined
def _sample_memory(t: Any, n: Any, x: Any) -> None:
    """Note how many KV tokens each worker holds."""
    workers = t.attention_workers
    denominator = float(t.denominator)
    bits = x.view(np.int64)
    counts = n[t.histograms + ix.KV_TOKENS * ix.BINS : t.histograms + (ix.KV_TOKENS + 1) * ix.BINS]
    loads = n[t.loads : t.loads + t.cells]
    bin_base = t.bin_base
    total = 0
    most = n[ix.KV_MAX]
    for i in range(workers):
        held = loads[i]
        for c in range(workers + i, loads.size, workers):
            held += loads[c]
        total += held
        most = max(most, held)
        x[ix.SCRATCH] = held / denominator
        b = (bits[ix.SCRATCH] >> ix.BIN_SHIFT) - bin_base
        counts[min(max(b, 0), ix.BINS - 1)] += 1
    n[ix.KV_SUM] += total
    n[ix.KV_MAX] = most
    n[ix.KV_SAMPLES] += workers


@compiled
def advance(
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
            if n[ix.ACTIVE] == 0:
                said = _begin(t, n, x, r, v)
                if said != ix.STOPPED:
                    return said
            if n[ix.STEP] >= stop_step or n[ix.COMPLETED] >= stop_completed:
                return ix.STOPPED
        u = n[ix.POSITION]
        layer = n[ix.LAYER]
        if n[ix.PENDING] == 0:
            if (
                (t.vary_attention and n[ix.AT_ATTENTION] + workers > n[ix.ATTENTION_FACTORS])
                or (t.vary_send and n[ix.AT_SEND] + send_draws > n[ix.SEND_FACTORS])
                or (t.vary_ffn and n[ix.AT_FFN] + 1 > n[ix.FFN_FACTORS])
                or (t.uneven and n[ix.AT_EXPERTS] + 1 > n[ix.EXPERT_FACTORS])
                or (t.vary_receive and n[ix.AT_RECEIVE] + receive_draws > n[ix.RECEIVE_FACTORS])
            ):
                return ix.NEED_FACTORS
            if t.ideal:
                _overlap_ideally(t, n, x, v, g, layer)
            else:
                _pipeline(t, n, x, v, g, u, layer)
            n[ix.AT_ATTENTION] += workers
            n[ix.AT_SEND] += send_draws
            n[ix.AT_FFN] += 1
            n[ix.AT_EXPERTS] += 1
            n[ix.AT_RECEIVE] += receive_draws
            n[ix.ROUNDS] += 1
            n[ix.PENDING] = 1
        if layer == t.layers - 1:
            if not _blocks_suffice(t, n, x, v, u):
                return ix.NEED_REQUESTS
            if (
                t.log_requests and n[ix.REQUEST_ROWS] + workers * t.batch_size > t.request_room
            ) or (t.log_steps and n[ix.STEP_ROWS] >= t.step_room):
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
            _sample_memory(t, n, x)
