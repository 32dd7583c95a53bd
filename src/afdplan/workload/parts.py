"""Which stretches of a trace can be told apart, and which requests does a window hold?"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass, replace

import numpy as np

from afdplan.errors import InsufficientDataError, InvalidInputError
from afdplan.model.trace import Trace
from afdplan.statistics.bootstrap import block_error
from afdplan.workload.interval import request_loads

__all__ = ["TracePart", "cut_by_clock", "select_window", "stretches", "tell_apart"]

MOST_PARTS = 12
FEWEST_REQUESTS = 200
"""Requests that a part needs."""
BLOCKS, BLOCK_REQUESTS = 8, 50
"""Least blocks of a stretch, and requests of a block of long ones."""
BEYOND = 4.0
"""Standard errors by which two neighbours must differ to be told apart."""
RATE_CHANGE = 0.1
"""Least relative difference of two rates that is told apart."""
DAY = 86_400.0
FEWEST_IN_WINDOW = 30
"""Requests that a window of the clock needs."""
MOST_WINDOWS = 100_000
PEAK = 3600.0
"""Seconds of the window in which ``peak`` looks for the most output tokens."""
CLOCK_WINDOW = re.compile(r"\s*(\d{1,2}):(\d\d)\s*-\s*(\d{1,2}):(\d\d)\s*")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TracePart:
    """A stretch of a trace.

    Attributes
    ----------
    name
        When or where, for people.
    trace
        Its requests.
    arrival_rate
        Requests per second; None without arrivals.
    number
        Which window of the clock, those left out counted; 0 for other parts.
    """

    name: str
    trace: Trace
    arrival_rate: float | None
    number: int = 0


def tell_apart(trace: Trace) -> tuple[TracePart, ...]:
    """Return the parts of a trace whose load or rate differs beyond chance, in its order.

    Up to 12 stretches of even time (of even numbers of requests without arrivals), of at least
    200 requests each; neighbours are joined, the most alike first, until all differ by more than
    four standard errors in mean token load, or by a tenth and four deviations in rate.

    Returns
    -------
    tuple
        Empty if nothing can be told apart.

    Examples
    --------
    >>> low, high = np.arange(50, 150), np.arange(500, 600)
    >>> prompt = np.concatenate([np.tile(low, 6), np.tile(high, 6)])
    >>> trace = Trace(prompt_tokens=prompt, decode_tokens=np.full(1200, 20))
    >>> [part.name for part in tell_apart(trace)]
    ['requests 1 to 600', 'requests 601 to 1,200']
    """
    edges = _edges(trace)
    while len(edges) > 2:
        figures = [_Figures.of(trace, a, b) for a, b in itertools.pairwise(edges)]
        distances = [one.distance(other) for one, other in itertools.pairwise(figures)]
        nearest = int(np.argmin(distances))
        if distances[nearest] > 1:
            break
        del edges[nearest + 1]
    if len(edges) <= 2:
        return ()
    return tuple(_part(trace, a, b) for a, b in itertools.pairwise(edges))


def select_window(trace: Trace, window: str) -> TracePart:
    """Return the requests that a plan is made for.

    Parameters
    ----------
    trace
        In the order of arrival.
    window
        ``all``; ``peak``, the hour (or twelfth, of shorter traces) in which most output tokens
        are asked for per second, by mean token load without arrivals; or ``HH:MM-HH:MM`` of every
        day by the clock of the file, past midnight too.

    Raises
    ------
    InvalidInputError
        If the window has no such form, or the trace no clock.
    InsufficientDataError
        If fewer than two requests are in it.

    Examples
    --------
    >>> trace = Trace(prompt_tokens=[5, 6, 7], decode_tokens=[1, 2, 3], arrival_times=[0, 60, 7200],
    ...     clock=9 * 3600.0)
    >>> select_window(trace, "08:30-10:00").trace.prompt_tokens.tolist()
    [5, 6]
    """
    if window == "all":
        return replace(_part(trace, 0, trace.requests), name="all requests")
    if window == "peak":
        return _peak(trace)
    found = CLOCK_WINDOW.fullmatch(window)
    if found is None:
        raise InvalidInputError(
            f"window must be peak, all or HH:MM-HH:MM (18:00-20:30), got {window!r:.40}"
        )
    start, end = (60 * int(found[k]) + int(found[k + 1]) for k in (1, 3))
    if max(int(found[1]), int(found[3])) > 24 or max(int(found[2]), int(found[4])) > 59:
        raise InvalidInputError(
            f"window must be times of a day, 00:00 to 24:00, got {window!r:.40}"
        )
    if trace.arrival_times is None or trace.clock is None:
        raise InvalidInputError(
            f"window {window} needs the time of day of the arrivals, which {trace.source} does not "
            "tell: give peak or all"
        )
    length = (60.0 * (end - start)) % DAY or DAY
    since = trace.clock + trace.arrival_times - 60.0 * start
    days = np.floor(since / DAY)
    second = since - days * DAY
    inside = np.flatnonzero(second < length)
    if inside.size < 2:
        raise InsufficientDataError(
            f"window {window} holds {inside.size} of {trace.requests} requests of {trace.source}: "
            "give another"
        )
    # Days are put end to end: what lies between the windows is no time without arrivals.
    times = (days[inside] - days[inside[0]]) * length + second[inside]
    part = Trace(
        prompt_tokens=trace.prompt_tokens[inside],
        decode_tokens=trace.decode_tokens[inside],
        arrival_times=times - times[0],
        session_ids=None if trace.session_ids is None else trace.session_ids[inside],
        source=f"{trace.source}, {window}",
        format=trace.format,
        time_unit_in_file=trace.time_unit_in_file,
        notes=trace.notes,
        doubts=trace.doubts,
    )
    return TracePart(name=window, trace=part, arrival_rate=_rate(part))


def _peak(trace: Trace) -> TracePart:
    duration = trace.duration
    if duration is None or duration <= 0:
        edges = _edges(trace)
        loads = [_Figures.of(trace, a, b).load for a, b in itertools.pairwise(edges)]
        at = int(np.argmax(loads))
        return _part(trace, edges[at], edges[at + 1])
    assert trace.arrival_times is not None
    length = PEAK if duration >= 2 * PEAK else duration / MOST_PARTS
    times = trace.arrival_times
    tokens = np.append(0.0, np.cumsum(trace.decode_tokens, dtype=np.float64))
    # The window may begin with any request; the last ones have no whole window before them.
    first = np.flatnonzero(times + length <= times[-1])
    last = np.searchsorted(times, times[first] + length, side="left")
    held = last - first >= 2
    if not held.any():
        raise InsufficientDataError(
            f"{trace.source}: no window of {length:,.0f} s holds two requests: give all"
        )
    asked = np.where(held, tokens[last] - tokens[first], -1.0)
    at = int(np.argmax(asked))
    return _part(trace, int(first[at]), int(last[at]))


@dataclass(frozen=True, slots=True)
class _Figures:
    """Load and rate of a stretch with their standard errors."""

    load: float
    load_error: float
    rate: float
    rate_error: float

    @classmethod
    def of(cls, trace: Trace, first: int, last: int) -> _Figures:
        part = trace.part(first, last)
        loads = request_loads(part)
        error = 0.0
        if part.requests > 1:
            blocks = max(BLOCKS, part.requests // BLOCK_REQUESTS)
            error = block_error(loads, part.decode_tokens, blocks, part.session_ids)
        rate = _rate(part) or 0.0
        return cls(
            float(loads.sum() / part.decode_tokens.sum()),
            error,
            rate,
            rate / math.sqrt(part.requests),
        )

    def distance(self, other: _Figures) -> float:
        """Return how far apart two stretches are; more than 1 tells them apart."""
        load = abs(self.load - other.load)
        rate = abs(self.rate - other.rate)
        least_load = BEYOND * math.hypot(self.load_error, other.load_error)
        least_rate = max(
            BEYOND * math.hypot(self.rate_error, other.rate_error),
            RATE_CHANGE * max(self.rate, other.rate),
        )
        rounding = 1e-9 * max(self.load, other.load)
        return max(load / max(least_load, rounding, 1e-300), rate / max(least_rate, 1e-300))


def _edges(trace: Trace) -> list[int]:
    return stretches(trace, MOST_PARTS, FEWEST_REQUESTS, by_time=bool(trace.duration))


def stretches(trace: Trace, most: int, fewest: int, *, by_time: bool) -> list[int]:
    """Return the request numbers where alike stretches begin, and the end.

    Parameters
    ----------
    trace
        Whose requests, in the order of their arrival.
    most, fewest
        Stretches at most, each of so many requests at least.
    by_time
        Whether they take alike times; else they hold alike many requests.
    """
    count = max(min(most, trace.requests // fewest), 1)
    if by_time and trace.arrival_times is not None and trace.duration is not None:
        cuts = trace.duration * np.arange(1, count) / count
        candidates = np.searchsorted(trace.arrival_times, cuts).tolist()
    else:
        candidates = (np.arange(1, count) * trace.requests // count).tolist()
    edges = [0]
    for cut in candidates:
        if cut - edges[-1] >= fewest and trace.requests - cut >= fewest:
            edges.append(int(cut))
    return [*edges, trace.requests]


def _rate(trace: Trace) -> float | None:
    if trace.arrival_times is None or not trace.duration:
        return None
    return (trace.requests - 1) / trace.duration


def _part(trace: Trace, first: int, last: int) -> TracePart:
    part = trace.part(first, last)
    return TracePart(name=_name(trace, first, last), trace=part, arrival_rate=_rate(part))


def _name(trace: Trace, first: int, last: int) -> str:
    times = trace.arrival_times
    if times is None or not trace.duration:
        return f"requests {first + 1:,} to {last:,}"
    start, end = float(times[first]), float(times[last - 1])
    if trace.clock is None:
        scale, unit = (3600.0, "h") if trace.duration >= 2 * 3600 else (60.0, "min")
        return f"{start / scale:.1f} to {end / scale:.1f} {unit} after the first arrival"
    return f"{_moment(trace, start)} to {_moment(trace, end)}"


def _moment(trace: Trace, seconds: float) -> str:
    """Return a time after the first arrival by the clock of the file, else as hours."""
    days, second = divmod((trace.clock or 0.0) + seconds, DAY)
    hour, rest = divmod(int(second), 3600)
    many = (trace.clock or 0.0) + (trace.duration or 0.0) >= DAY
    prefix = f"day {days + 1:.0f} " if many else ""
    return f"{prefix}{hour:02d}:{rest // 60:02d}"


def cut_by_clock(
    trace: Trace, duration: float, fewest: int = FEWEST_IN_WINDOW
) -> tuple[tuple[TracePart, ...], int]:
    """Return the windows of a duration, and how many were left out for want of requests.

    Windows begin at whole multiples of the duration by the clock of the file (of the first
    arrival, if it tells none).

    Parameters
    ----------
    trace
        With arrivals.
    duration
        Of a window [s], > 0.
    fewest
        Requests that a window needs, >= 2.

    Raises
    ------
    InvalidInputError
        If the trace has no arrivals, or would be cut into more than 100,000 windows.
    InsufficientDataError
        If no window holds enough requests.

    Examples
    --------
    >>> trace = Trace(prompt_tokens=[5] * 4, decode_tokens=[1] * 4, clock=9 * 3600.0 + 1800,
    ...     arrival_times=[0, 60, 2000, 2100])
    >>> [(w.name, w.trace.requests) for w in cut_by_clock(trace, 3600.0, fewest=2)[0]]
    [('09:00', 2), ('10:00', 2)]
    """
    times = trace.arrival_times
    if times is None or not trace.duration:
        raise InvalidInputError(
            f"{trace.source} has no arrival times, which windows of time need: name their column"
        )
    offset = (trace.clock or 0.0) % duration
    count = int((times[-1] + offset) // duration) + 1
    if count > MOST_WINDOWS:
        raise InvalidInputError(
            f"windows of {duration:g} s cut {trace.source} into {count:,}, at most "
            f"{MOST_WINDOWS:,}: give longer ones"
        )
    starts = np.arange(count + 1) * duration - offset
    places = np.searchsorted(times, starts, side="left")
    places[-1] = times.size
    parts = []
    bounds = zip(starts[:-1].tolist(), places[:-1].tolist(), places[1:].tolist(), strict=True)
    for number, (start, first, last) in enumerate(bounds):
        if last - first < fewest:
            continue
        held = min(start + duration, float(times[-1])) - max(start, 0.0)
        part = trace.part(first, last, f"{trace.source}, {_moment(trace, start)}")
        parts.append(
            TracePart(
                name=_moment(trace, start),
                number=number,
                trace=part,
                arrival_rate=(last - first) / held if held > 0 else None,
            )
        )
    if not parts:
        raise InsufficientDataError(
            f"no window of {duration:g} s holds {fewest} requests of {trace.source}: give longer "
            "ones"
        )
    return tuple(parts), count - len(parts)
