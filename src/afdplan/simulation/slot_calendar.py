"""When does something happen to a slot? A calendar of steps, compiled.

Each kind of load of each microbatch (each cell, without the barrier) has one: a bucket per step
of the present window, and one per window after it. A bucket is a list of slots.
"""

from __future__ import annotations

from typing import Any

from afdplan.compile import EXTRAS, U, Whole, inlined, part
from afdplan.simulation import state as ix

__all__ = ["bucket_of_step", "cascade", "schedule", "unschedule"]


@inlined
def bucket_of_step(t: Any, calendar: Any, q: Any, step: Any) -> Whole:
    """Return the bucket of a step of the present window: its first slot, then its last."""
    return t.buckets + ((q * t.calendars + calendar) * 2 * ix.WHEEL + (step & (ix.WHEEL - 1))) * 2


@inlined
def _bucket(t: Any, q: Any, u: Any, due: Any, now: Any) -> Whole:
    """Return the bucket of an event: near ones have one per step, far ones one per window."""
    b = due & (ix.WHEEL - 1)
    if due // ix.WHEEL != now // ix.WHEEL:
        b = ix.WHEEL + (due // ix.WHEEL & (ix.WHEEL - 1))
    return t.buckets + ((q * t.calendars + u) * 2 * ix.WHEEL + b) * 2


@inlined
def schedule(t: Any, n: Any, q: Any, u: Any, slot: Any, due: Any, now: Any) -> None:
    """Append a slot's event to its bucket: events of a step stay in order of placement."""
    base = ix.ROW * q * t.slots
    n[U(t.due + base + ix.ROW * slot)] = due
    b = _bucket(t, q, u, due, now)
    head = n[U(b)]
    tail = n[U(b + 1)]
    # No jump, since whether the bucket was empty cannot be foretold; nothing is read of the slot
    # before, which is seldom at hand.
    empty = tail >> 63  # all bits or none
    n[U(b)] = head ^ ((head ^ slot) & empty)
    n[U(b + 1)] = slot
    n[U(t.following + base + ix.ROW * (tail ^ ((tail ^ slot) & empty)))] = slot
    if EXTRAS and t.preempt:  # who may leave early needs both directions
        n[U(t.preceding + base + ix.ROW * slot)] = tail


@part
def unschedule(t: Any, n: Any, q: Any, u: Any, slot: Any, now: Any) -> None:
    """Take a slot's event out of the calendar."""
    base = ix.ROW * q * t.slots
    b = _bucket(t, q, u, n[U(t.due + base + ix.ROW * slot)], now)
    before = n[U(t.preceding + base + ix.ROW * slot)]
    after = n[U(t.following + base + ix.ROW * slot)]
    is_last = n[U(b + 1)] == slot
    if before < 0:
        n[U(b)] = after
    else:
        n[U(t.following + base + ix.ROW * before)] = after
    if is_last:
        n[U(b + 1)] = before
    else:
        n[U(t.preceding + base + ix.ROW * after)] = before


@part
def cascade(t: Any, n: Any, q: Any, u: Any, now: Any) -> None:
    """Spread the events of the window that begins now over its steps."""
    b = t.buckets + (q * t.calendars + u) * 4 * ix.WHEEL
    b += 2 * (ix.WHEEL + (now // ix.WHEEL & (ix.WHEEL - 1)))
    slot = n[U(b)]
    tail = n[U(b + 1)]
    if tail < 0:
        return
    n[U(b + 1)] = -1
    base = ix.ROW * q * t.slots
    while True:
        after = n[U(t.following + base + ix.ROW * slot)]
        schedule(t, n, q, u, slot, n[U(t.due + base + ix.ROW * slot)], now)
        if slot == tail:
            return
        slot = after
