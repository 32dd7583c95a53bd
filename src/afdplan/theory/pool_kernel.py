"""How does the frozen bundle without the barrier move from departure to departure? Compiled.

What each step means is said in `pool_play.py`. Cells (calls) of a draw are counted worker by
worker, microbatch by microbatch. When a call will be back at the pool is known as soon as it
leaves, so that all calls stand in one queue, a ring in the order of their arrivals.
"""

from __future__ import annotations

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.compile import Real, compiled, inlined
from afdplan.theory.pool_state import Rule, Stages, State

__all__ = ["play_rounds", "seeded"]

FEW_NEW = 64
"""Calls up to which each is moved to its place; more are sorted, which is stable as well."""


@compiled
def seeded(seed: int) -> None:
    """Begin the stream of fresh times anew."""
    np.random.seed(seed)  # noqa: NPY002 - the only stream that compiled code has


@inlined
def scattered(time: float, cv: float) -> Real:
    """Return a fresh time of that mean and coefficient of variation."""
    if cv == 0:
        return time
    return float(time * np.random.standard_gamma(1 / cv**2) * cv**2)  # noqa: NPY002


@inlined
def settle(state: State, d: int, at: int) -> None:
    """Move the call at that place of the queue before those that arrive later."""
    arrival, queue = state.arrival[d], state.queue[d]
    size, head = queue.size, state.head[d]
    here = head + at
    here -= size if here >= size else 0
    cell = queue[here]
    while at > 0:
        before = here - 1 if here > 0 else size - 1
        if arrival[queue[before]] <= arrival[cell]:
            break
        queue[here] = queue[before]
        here = before
        at -= 1
    queue[here] = cell


@inlined
def sort(key: FloatArray, cells: IntArray, spare: IntArray, first: int, end: int) -> None:
    """Sort the cells of those places by their key; equals keep their order, runs cost little."""
    width = 1
    while width < end - first:
        for left in range(first, end - width, 2 * width):
            middle, right = left + width, min(left + 2 * width, end)
            if key[cells[middle - 1]] <= key[cells[middle]]:
                continue
            for k in range(width):
                spare[k] = cells[left + k]
            i, j, k = 0, middle, left
            while i < width:
                if j < right and key[cells[j]] < key[spare[i]]:
                    cells[k] = cells[j]
                    j += 1
                else:
                    cells[k] = spare[i]
                    i += 1
                k += 1
        width *= 2


@inlined
def settle_new(state: State, d: int, new: int, low: int) -> None:
    """Bring the queue in order whose last `new` calls stand anywhere, none before place `low`."""
    arrival, queue, head = state.arrival[d], state.queue[d], state.head[d]
    calls = queue.size
    if new <= FEW_NEW:
        for at in range(max(low, 1), calls):
            settle(state, d, at)
        return
    for k in range(low, calls):
        state.others[k - low] = queue[(head + k) % calls]
    sort(arrival, state.others, state.spare, 0, calls - low)
    for k in range(low, calls):
        queue[(head + k) % calls] = state.others[k - low]


@inlined
def place_of(state: State, d: int, time: float, calls: int) -> int:
    """Return the first of the queue's `calls` first places whose call is not there by `time`."""
    arrival, queue, head = state.arrival[d], state.queue[d], state.head[d]
    low, high = 0, calls
    while low < high:
        middle = (low + high) // 2
        if arrival[queue[(head + middle) % queue.size]] < time:
            low = middle + 1
        else:
            high = middle
    return low


@inlined
def line_up(state: State, d: int) -> int:
    """Put the calls that leave attention since the last departure in the link's line.

    Return the first place that changed.
    """
    leave, order, calls = state.leave[d], state.order[d], state.order.shape[1]
    old = state.in_line[d]
    new, others = old, 0
    for k in range(old, calls):  # the new ones before the others, each among themselves as before
        cell = order[k]
        if leave[cell] < np.inf:
            order[new] = cell
            new += 1
        else:
            state.others[others] = cell
            others += 1
    for k in range(others):
        order[new + k] = state.others[k]
    first = old
    if new - old > FEW_NEW:
        sort(leave, order, state.spare, old, new)
        while first > 0 and leave[order[first - 1]] > leave[order[old]]:
            first -= 1
        sort(leave, order, state.spare, first, new)
        old = new
    for k in range(old, new):
        cell = order[k]
        at = k
        while at > 0 and leave[order[at - 1]] > leave[cell]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = cell
        first = min(first, at)
    state.in_line[d] = new
    return int(first)


@inlined
def reach_pool(stages: Stages, state: State, d: int) -> None:
    """Pass the calls that wait for the shared link over it, in the order in which they left.

    Those before the first new one in line pass as they did.
    """
    new = -state.in_line[d]
    first = line_up(state, d)
    new += state.in_line[d]
    arrival, leave, begins = state.arrival[d], state.leave[d], state.begins[d]
    order = state.order[d]
    reached, k = np.inf, first  # as it was, of the first call that may reach the pool later now
    while k < state.in_line[d] and reached == np.inf:
        reached = arrival[order[k]]
        k += 1
    low = place_of(state, d, reached, order.size)  # who stands before it stays
    link = state.shared_out[d]
    if first > 0:
        link = begins[order[first - 1]] + stages.out_occupied
    for k in range(first, state.in_line[d]):
        cell = order[k]
        begin = max(leave[cell], link)
        link = begin + stages.out_occupied
        begins[cell] = begin
        arrival[cell] = begin + stages.out
    if first < state.in_line[d]:  # the first calls of a play came without the link, some late
        low = place_of(state, d, arrival[order[first]], low)
    settle_new(state, d, new, low)


@inlined
def leave_line(stages: Stages, state: State, d: int, start: float) -> None:
    """Take the calls that began to use the shared link until `start` out of its line."""
    begins, order, waiting = state.begins[d], state.order[d], state.in_line[d]
    gone = 0
    while gone < waiting and begins[order[gone]] <= start:
        cell = order[gone]
        state.shared_out[d] = max(state.shared_out[d], begins[cell] + stages.out_occupied)
        state.leave[d, cell] = np.inf
        state.others[gone] = cell
        gone += 1
    for k in range(gone, waiting):
        order[k - gone] = order[k]
    for k in range(gone):
        order[waiting - gone + k] = state.others[k]
    state.in_line[d] = waiting - gone


@inlined
def attend(stages: Stages, state: State, d: int, cell: int, back: float) -> None:
    """Play the link back, attention and the link out of one call."""
    m = state.arrival.shape[1] // state.attention_free.shape[1]
    worker = cell // m
    returned = back
    if stages.back_of_calls.shape[1] == 0:
        returned = max(returned, state.receive_free[d, worker])
        returned += scattered(stages.back, stages.receive_cv)
        state.receive_free[d, worker] = returned
    layer = state.layer[d, cell] + 1
    if layer == stages.kind_of_layer.size:
        layer = 0
    state.layer[d, cell] = layer
    time = stages.attention[d, cell, stages.kind_of_layer[layer]]
    time *= scattered(1.0, stages.attention_cv)
    if layer == 0 and cell == worker * m:
        time += stages.overhead
    finish = max(returned, state.attention_free[d, worker]) + time
    state.attention_free[d, worker] = finish
    state.work[d] += time
    if stages.shares_link:
        state.leave[d, cell] = finish
        state.arrival[d, cell] = np.inf  # until the link has been played
        return
    reached = max(finish, state.send_free[d, worker]) + scattered(stages.out, stages.send_cv)
    state.send_free[d, worker] = reached
    state.arrival[d, cell] = reached


@inlined
def depart(stages: Stages, rule: Rule, state: State, d: int) -> int:
    """Let the pool of a draw leave once, and return how many calls were on board."""
    if stages.shares_link:
        reach_pool(stages, state, d)
    arrival, queue = state.arrival[d], state.queue[d]
    calls, head = queue.size, state.head[d]
    first = arrival[queue[head]]
    start = np.inf
    if rule.least <= calls:
        start = arrival[queue[(head + rule.least - 1) % calls]]
    start = max(min(start, first + rule.wait), state.free[d])
    count, at = 0, head
    while count < min(rule.most, calls) and arrival[queue[at]] <= start:
        cell = queue[at]
        state.waited[d] += start - arrival[cell]
        lasted = start - state.last[d, cell]
        state.squares[d, cell] += lasted * lasted
        if state.counted[0] < state.rounds.size:
            state.rounds[state.counted[0]] = lasted
            state.counted[0] += 1
        state.last[d, cell] = start
        state.done[d, cell] += 1
        count += 1
        at = at + 1 if at + 1 < calls else 0
    service = scattered(stages.ffn[count], stages.ffn_cv[count])
    end = start + service
    state.free[d] = end
    state.busy[d] += service
    if stages.shares_link:
        leave_line(stages, state, d, start)
    back = end
    if stages.back_of_calls.shape[1] > 0:
        begin = max(end, state.shared_back[d])
        state.shared_back[d] = begin + stages.back_of_calls[1, count]
        back = begin + stages.back_of_calls[0, count]
    # Their places at the end of the queue are where they stood at its head.
    state.head[d] = at
    soonest = np.inf
    for k in range(count):
        cell = queue[(head + k) % calls]
        attend(stages, state, d, cell, back)
        soonest = min(soonest, arrival[cell])
    if not stages.shares_link:  # whose line decides when they arrive, later
        low = calls - count
        settle_new(state, d, count, place_of(state, d, soonest, low) if count > FEW_NEW else low)
    return count


@compiled
def play_rounds(stages: Stages, rule: Rule, state: State, rounds: int, most: int) -> None:
    """Let every draw make so many rounds on average over its calls, or `most` departures.

    It goes on until each of its calls has made one.
    """
    draws, calls = state.arrival.shape
    for d in range(draws):
        done, departures, is_played = 0, 0, False
        while not is_played:
            done += depart(stages, rule, state, d)
            departures += 1
            is_played = done >= rounds * calls or departures >= most
            for cell in range(calls if is_played else 0):
                is_played &= state.done[d, cell] > 0
        state.departures[d] = departures
        state.ends[d] = state.counted[0]
