"""Into which windows is a trace cut, and which requests does each hold?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from afdplan.errors import InvalidInputError
from afdplan.model.checks import check_count, check_number
from afdplan.model.trace import Trace
from afdplan.model.words import nearest

__all__ = ["MAXIMUM_WINDOWS", "TraceWindow", "WindowRule", "cut", "parse_windows", "window_trace"]

MAXIMUM_WINDOWS = 1_000_000
_KEYS = ("duration", "requests", "minimum_requests")


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRule:
    """How traces are cut.

    Attributes
    ----------
    duration
        Length of a window [s], or None.
    requests
        Requests of a window, or None.
    minimum_requests
        Windows with fewer are left out, >= 2.
    """

    duration: float | None = None
    requests: int | None = None
    minimum_requests: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceWindow:
    """A run of successive requests.

    Attributes
    ----------
    number
        0, 1, ... in the order of time; numbers of windows left out are skipped.
    first, last
        Requests ``first <= i < last`` of the trace.
    start, end
        Seconds after the first arrival; None without arrivals.
    """

    number: int
    first: int
    last: int
    start: float | None
    end: float | None


def parse_windows(table: Mapping[str, Any], where: str) -> WindowRule | None:
    """Return the rule of a [windows] section, None if it is empty."""
    if not table:
        return None
    for key in table:
        if key not in _KEYS:
            raise InvalidInputError(
                f"{where}: unknown key {key} in [windows]; {nearest(key, _KEYS)}"
            )
    if ("duration" in table) == ("requests" in table):
        raise InvalidInputError(
            f"{where}: [windows] needs one of duration (seconds) and requests (per window)"
        )
    duration, requests = table.get("duration"), table.get("requests")
    if duration is not None:
        duration = check_number(f"{where}: duration in [windows]", duration, strict=True)
    if requests is not None:
        requests = check_count(f"{where}: requests in [windows]", requests, 2)
    name = f"{where}: minimum_requests in [windows]"
    minimum = check_count(name, table.get("minimum_requests", min(30, requests or 30)), 2)
    return WindowRule(duration=duration, requests=requests, minimum_requests=minimum)


def cut(trace: Trace, rule: WindowRule) -> tuple[TraceWindow, ...]:
    """Return the windows of a trace that hold enough requests, in the order of time.

    Parameters
    ----------
    trace
        With arrival times if windows have a duration.
    rule
        Window k of a duration d holds the arrivals in ``[k d, (k + 1) d)``; window k of n requests
        holds the requests ``k n <= i < (k + 1) n``.

    Raises
    ------
    InvalidInputError
        If arrivals are missing, or no window or too many windows remain.

    Examples
    --------
    >>> trace = Trace(prompt_tokens=[1] * 5, decode_tokens=[2] * 5, arrival_times=[0, 1, 2, 7, 8])
    >>> rule = WindowRule(duration=3.0, minimum_requests=2)
    >>> [(w.number, w.first, w.last) for w in cut(trace, rule)]
    [(0, 0, 3), (2, 3, 5)]
    """
    times = trace.arrival_times
    if rule.duration is not None:
        if times is None:
            raise InvalidInputError(
                f"{trace.source} has no arrival times, which windows of a duration need: "
                "give requests in [windows], or the column of arrivals"
            )
        windows = int(times[-1] // rule.duration) + 1
        _check_windows(trace, windows)
        edges = np.arange(windows + 1) * rule.duration
        # The last edge is past the last arrival, whatever the rounding of the division.
        places = np.searchsorted(times, edges, side="left")
        places[-1] = times.size
    else:
        assert rule.requests is not None
        windows = -(-trace.requests // rule.requests)
        _check_windows(trace, windows)
        places = np.minimum(np.arange(windows + 1) * rule.requests, trace.requests)
    kept = []
    for number in range(windows):
        first, last = int(places[number]), int(places[number + 1])
        if last - first < rule.minimum_requests:
            continue
        start = end = None
        if rule.duration is not None:
            start, end = number * rule.duration, (number + 1) * rule.duration
        elif times is not None:
            start, end = float(times[first]), float(times[min(last, times.size - 1)])
        kept.append(TraceWindow(number=number, first=first, last=last, start=start, end=end))
    if not kept:
        raise InvalidInputError(
            f"{trace.source}: no window holds {rule.minimum_requests} requests: "
            "make windows longer or lower minimum_requests in [windows]"
        )
    return tuple(kept)


def window_trace(trace: Trace, window: TraceWindow) -> Trace:
    """Return the requests of a window as a trace of its own."""
    return trace.part(window.first, window.last, f"{trace.source}, window {window.number}")


def _check_windows(trace: Trace, windows: int) -> None:
    if windows > MAXIMUM_WINDOWS:
        raise InvalidInputError(
            f"{trace.source} would be cut into {windows:,} windows, at most {MAXIMUM_WINDOWS:,}: "
            "make windows longer"
        )
