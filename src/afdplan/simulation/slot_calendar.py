"""When does something happen to a slot? A calendar of steps, compiled.

Each kind of load of each microbatch (each cell, without the barrier) has one: a bucket per step
of the present window, and one per window after it. A bucket is a list of slots; a number holds
its first and last.
"""

from __future__ import annotations

from typing import Any

from afdplan.compile import EXTRAS, U, Whole, inlined, part
from afdplan.simulation import state as ix

__all__ = [
    "append_to",
    "bucket_of_step",
    "cascade",
    "first_of",
    "last_of",
    "schedule",
    "unschedule",
]


@inlined
def bucket_of_step(t: Any, calendar: Any, q: Any, step: Any) -> Whole:
    """Return the bucket of a step of the present window."""
    return t.buckets + (q * t.calendars + calendar) * 2 * ix.WHEEL + (step & (ix.WHEEL - 1))


@inlined
def first_of(bucket: Any) -> Whole:
    """Return the first slot of a bucket that is not empty: negative is empty."""
    return bucket & (2**32 - 1)


@inlined
def last_of(bucket: Any) -> Whole:
    """Return the last slot of a bucket, negative if there is none."""
    return bucket >> 32


@inlined
def _bucket(t: Any, q: Any, u: Any, due: Any, now: Any) -> Whole:
    """Return the bucket of an event: near ones have one per step, far ones one per window."""
    b = due & (ix.WHEEL - 1)
    if due // ix.WHEEL != now // ix.WHEEL:
        b = ix.WHEEL + (due // ix.WHEEL & (ix.WHEEL - 1))
    return t.buckets + (q * t.calendars + u) * 2 * ix.WHEEL + b


@inlined
def append_to(n: Any, b: Any, following: Any, width: Any, slot: Any) -> Whole:
    """Append a slot to a bucket, whose slots follow each other; returns the one before.

    No jump, since whether the bucket was empty cannot be foretold; nothing is read of the slot
    before, which is seldom at hand.
    """
    bucket = n[U(b)]
    empty = bucket >> 63  # all bits or none
    head = first_of(bucket)
    tail = last_of(bucket)
    n[U(b)] = slot << 32 | head ^ ((head ^ slot) & empty)
    n[U(following + width * (tail ^ ((tail ^ slot) & empty)))] = slot
    return tail


@inlined
def schedule(t: Any, n: Any, q: Any, u: Any, slot: Any, due: Any, now: Any) -> None:
    """Append a slot's event to its bucket: events of a step stay in order of placement."""
    base = ix.ROW * q * t.slots
    n[U(t.due + base + ix.ROW * slot)] = due
    tail = append_to(n, _bucket(t, q, u, due, now), t.following + base, ix.ROW, slot)
    if EXTRAS and t.preempt:  # who may leave early needs both directions
        n[U(t.preceding + base + ix.ROW * slot)] = tail


@part
def unschedule(t: Any, n: Any, q: Any, u: Any, slot: Any, now: Any) -> None:
    """Take a slot's event out of the calendar."""
    base = ix.ROW * q * t.slots
    b = _bucket(t, q, u, n[U(t.due + base + ix.ROW * slot)], now)
    before = n[U(t.preceding + base + ix.ROW * slot)]
    after = n[U(t.following + base + ix.ROW * slot)]
    head = first_of(n[U(b)])
    tail = last_of(n[U(b)])
    if tail == slot:
        tail = before
    else:
        n[U(t.preceding + base + ix.ROW * after)] = before
    if before < 0:
        head = after
    else:
        n[U(t.following + base + ix.ROW * before)] = after
    n[U(b)] = tail << 32 | head


@part
def cascade(t: Any, n: Any, q: Any, u: Any, now: Any) -> None:
    """Spread the events of the window that begins now over its steps."""
    b = t.buckets + (q * t.calendars + u) * 2 * ix.WHEEL
    b += ix.WHEEL + (now // ix.WHEEL & (ix.WHEEL - 1))
    bucket = n[U(b)]
    if bucket < 0:
        return
    n[U(b)] = -1
    base = ix.ROW * q * t.slots
    slot = first_of(bucket)
    tail = last_of(bucket)
    while True:
        after = n[U(t.following + base + ix.ROW * slot)]
        schedule(t, n, q, u, slot, n[U(t.due + base + ix.ROW * slot)], now)
        if slot == tail:
            return
        slot = after
