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

__all__ = ["play_departures", "seeded"]

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
def attend(stages: Stages, state: State, d: int, worker: int, cell: int, back: float) -> None:
    """Play the link back, attention and the link out of one call."""
    returned = back
    if stages.back_of_calls.shape[1] == 0:
        returned = max(returned, state.receive_free[d, worker])
        returned += scattered(stages.back, stages.receive_cv)
        state.receive_free[d, worker] = returned
    layer = (state.layer[d, cell] + 1) % stages.kind_of_layer.size
    state.layer[d, cell] = layer
    time = stages.attention[d, cell, stages.kind_of_layer[layer]]
    time *= scattered(1.0, stages.attention_cv)
    if layer == 0 and cell % (state.arrival.shape[1] // state.turn.shape[1]) == 0:
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
def depart(stages: Stages, rule: Rule, state: State, d: int) -> None:
    """Let the pool of a draw leave once."""
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
    count = 0
    for cell in range(calls):
        if arrival[cell] <= latest:
            count += 1
            state.waited[d] += start - arrival[cell]
            lasted = start - state.last[d, cell]
            state.squares[d, cell] += lasted * lasted
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
    workers = state.turn.shape[1]
    m = calls // workers
    for worker in range(workers):
        turn, boarded = state.turn[d, worker], 0
        for j in range(m):
            cell = worker * m + (turn + j) % m
            if state.arrival[d, cell] <= latest:
                attend(stages, state, d, worker, cell, back)
                boarded += 1
        state.turn[d, worker] = turn + boarded


@compiled
def play_departures(stages: Stages, rule: Rule, state: State, departures: int) -> None:
    """Let the pool of every draw leave so many times."""
    for d in range(state.free.size):
        for _ in range(departures):
            depart(stages, rule, state, d)
