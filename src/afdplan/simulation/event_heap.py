"""Which cell's event comes first, and which call reaches the pool first? Compiled.

Events lie in a binary heap, calls in a ring in order; of equal times the lower cell comes first.
"""

from __future__ import annotations

from typing import Any

from afdplan.compile import ZERO, U, Whole, inlined
from afdplan.simulation import state as ix

__all__ = ["join", "pop", "push"]


@inlined
def push(t: Any, n: Any, x: Any, c: Any, kind: Any, time: Any) -> None:
    """Put the next event of a cell on the heap."""
    x[U(t.event + c)] = time
    n[U(t.next + c)] = kind
    at = n[ix.EVENTS]
    n[ix.EVENTS] = at + 1
    while at > 0:
        above = (at - 1) >> 1
        other = n[U(t.heap + above)]
        due = x[U(t.event + other)]
        if due < time or (due == time and other < c):
            break
        n[U(t.heap + at)] = other
        at = above
    n[U(t.heap + at)] = c


@inlined
def pop(t: Any, n: Any, x: Any) -> Whole:
    """Take the first event off the heap; returns its cell."""
    first = n[U(t.heap)]
    size = n[ix.EVENTS] - 1
    n[ix.EVENTS] = size
    c = n[U(t.heap + size)]
    time = x[U(t.event + c)]
    at = ZERO
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        one = n[U(t.heap + below)]
        due = x[U(t.event + one)]
        if below + 1 < size:
            other = n[U(t.heap + below + 1)]
            later = x[U(t.event + other)]
            if later < due or (later == due and other < one):
                below += 1
                one = other
                due = later
        if time < due or (time == due and c < one):
            break
        n[U(t.heap + at)] = one
        at = below
    n[U(t.heap + at)] = c
    return first


@inlined
def join(t: Any, n: Any, x: Any, c: Any, arrival: Any) -> None:
    """Put a call into the pool's queue, behind those that arrive before it."""
    x[U(t.event + c)] = arrival
    x[U(t.arrived + c)] = arrival
    calls = n[ix.CALLS]
    n[ix.CALLS] = calls + 1
    at = n[ix.FIRST_CALL] + calls
    if at >= t.cells:
        at -= t.cells
    while calls > 0:
        before = at - 1 if at > 0 else t.cells - 1
        other = n[U(t.calls + before)]
        due = x[U(t.arrived + other)]
        if due < arrival or (due == arrival and other < c):
            break
        n[U(t.calls + at)] = other
        at = before
        calls -= 1
    n[U(t.calls + at)] = c
