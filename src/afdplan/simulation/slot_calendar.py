"""When does something happen to a slot? A calendar of steps, compiled.

Each kind of load of each microbatch (each cell, without the barrier) has one: a bucket per step
of the present window, and one per window after it. A bucket is a ring of slots.
"""

from __future__ import annotations

from typing import Any

from afdplan.compile import EXTRAS, U, Whole, inlined, part
from afdplan.simulation import state as ix

__all__ = ["cascade", "schedule", "unschedule"]


@inlined
def _bucket(t: Any, q: Any, u: Any, due: Any, now: Any) -> Whole:
    """Return the bucket of an event: near ones have one per step, far ones one per window."""
    b = due & (ix.WHEEL - 1)
    if due // ix.WHEEL != now // ix.WHEEL:
        b = ix.WHEEL + (due // ix.WHEEL & (ix.WHEEL - 1))
    return t.last + (q * t.calendars + u) * 2 * ix.WHEEL + b


@inlined
def schedule(t: Any, n: Any, q: Any, u: Any, slot: Any, due: Any, now: Any) -> None:
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
    if EXTRAS and t.preempt:  # who may leave early needs both directions
        n[U(t.preceding + base + slot)] = tail
        n[U(t.preceding + base + head)] = slot


@part
def unschedule(t: Any, n: Any, q: Any, u: Any, slot: Any, now: Any) -> None:
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


@part
def cascade(t: Any, n: Any, q: Any, u: Any, now: Any) -> None:
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
        schedule(t, n, q, u, slot, n[U(t.due + base + slot)], now)
        if slot == tail:
            return
        slot = after
