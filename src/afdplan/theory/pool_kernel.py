"""How does the frozen bundle without the barrier move from departure to departure? Compiled.

What each step means is said in `pool_play.py`. Cells (calls) of a draw are counted worker by
worker, microbatch by microbatch. The calls of one worker never overtake one another: they come
round in a fixed order, `turn` says who is next.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from afdplan.compile import Real, compiled, inlined
from afdplan.theory.pool_state import Rule, Stages, State

__all__ = ["play_rounds", "seeded"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


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
def ranked(values: FloatArray, scratch: FloatArray, rank: int) -> Real:
    """Return the value with `rank` smaller ones, by halving the range that holds it."""
    low, high = 0, values.size - 1
    for k in range(values.size):
        scratch[k] = values[k]
    while low < high:
        pivot, i, j = scratch[(low + high) // 2], low, high
        while i <= j:
            while scratch[i] < pivot:
                i += 1
            while scratch[j] > pivot:
                j -= 1
            if i <= j:
                scratch[i], scratch[j] = scratch[j], scratch[i]
                i += 1
                j -= 1
        if rank <= j:
            high = j
        elif rank >= i:
            low = i
        else:
            break
    return scratch[rank]


@inlined
def reach_pool(stages: Stages, state: State, d: int) -> None:
    """Pass the calls that wait for the shared link over it, in the order in which they left."""
    leave, order = state.leave[d], state.order[d]
    for k in range(1, order.size):
        cell = order[k]
        at = k
        while at > 0 and leave[order[at - 1]] > leave[cell]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = cell
    link = state.shared_out[d]
    for k in range(order.size):
        cell = order[k]
        state.begins[cell] = np.inf
        if leave[cell] < np.inf:
            begin = max(leave[cell], link)
            link = begin + stages.out_occupied
            state.begins[cell] = begin
            state.arrival[d, cell] = begin + stages.out


@inlined
def attend(stages: Stages, state: State, d: int, cell: int, back: float) -> None:
    """Play the link back, attention and the link out of one call."""
    m = state.arrival.shape[1] // state.turn.shape[1]
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
def board(state: State, d: int, latest: float) -> int:
    """List the calls that were there by `latest`, of each worker in turn, and count them."""
    arrival, workers = state.arrival[d], state.turn.shape[1]
    m = arrival.size // workers
    count = 0
    for worker in range(workers):
        at, before = state.turn[d, worker], count
        for _ in range(m):
            cell = worker * m + at
            if arrival[cell] <= latest:
                state.boarded[count] = cell
                count += 1
            at = at + 1 if at + 1 < m else 0
        at += count - before
        state.turn[d, worker] = at if at < m else at - m
    return count


@inlined
def depart(stages: Stages, rule: Rule, state: State, d: int) -> int:
    """Let the pool of a draw leave once, and return how many calls were on board."""
    if stages.shares_link:
        reach_pool(stages, state, d)
    arrival, calls = state.arrival[d], state.arrival.shape[1]
    first = arrival[0]
    for cell in range(1, calls):
        first = min(first, arrival[cell])
    start = first
    if rule.least > calls:
        start = np.inf
    elif rule.least > 1:
        start = ranked(arrival, state.scratch, rule.least - 1)
    start = max(min(start, first + rule.wait), state.free[d])
    latest = start
    if rule.most < calls:
        latest = min(start, ranked(arrival, state.scratch, rule.most - 1))
    count = board(state, d, latest)
    for k in range(count):
        cell = state.boarded[k]
        state.waited[d] += start - arrival[cell]
        lasted = start - state.last[d, cell]
        state.squares[d, cell] += lasted * lasted
        if state.counted[0] < state.rounds.size:
            state.rounds[state.counted[0]] = lasted
            state.counted[0] += 1
        state.last[d, cell] = start
        state.done[d, cell] += 1
    service = scattered(stages.ffn[count], stages.ffn_cv[count])
    end = start + service
    state.free[d] = end
    state.busy[d] += service
    if stages.shares_link:
        for cell in range(calls):
            if state.begins[cell] <= start:
                state.leave[d, cell] = np.inf
                occupied = state.begins[cell] + stages.out_occupied
                state.shared_out[d] = max(state.shared_out[d], occupied)
    back = end
    if stages.back_of_calls.shape[1] > 0:
        begin = max(end, state.shared_back[d])
        state.shared_back[d] = begin + stages.back_of_calls[1, count]
        back = begin + stages.back_of_calls[0, count]
    for k in range(count):
        attend(stages, state, d, state.boarded[k], back)
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
