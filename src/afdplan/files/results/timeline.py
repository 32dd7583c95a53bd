"""How is a timeline written for ui.perfetto.dev and chrome://tracing?"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

__all__ = ["chrome_trace"]


def chrome_trace(
    spans: Iterable[tuple[str, str, str, float, float, dict[str, Any]]], *, microseconds: float
) -> bytes:
    """Return a Trace Event document: one process per kind of stage, one thread per track.

    Parameters
    ----------
    spans
        (process, track, name, start, end, arguments) of each.
    microseconds
        Microseconds per unit of time of the spans.

    References
    ----------
    Trace Event Format, Google (the "X" complete events and "M" metadata events).
    """
    processes: dict[str, int] = {}
    tracks: dict[tuple[str, str], int] = {}
    events: list[dict[str, Any]] = []
    body: list[dict[str, Any]] = []
    for process, track, name, start, end, arguments in spans:
        if process not in processes:
            pid = processes[process] = len(processes) + 1
            label = {"name": process}
            events.append({"ph": "M", "name": "process_name", "pid": pid, "args": label})
            order = {"sort_index": pid}
            events.append({"ph": "M", "name": "process_sort_index", "pid": pid, "args": order})
        pid = processes[process]
        if (process, track) not in tracks:
            tid = tracks[process, track] = len(tracks) + 1
            label = {"name": track}
            events.append({"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": label})
        body.append(
            {
                "ph": "X",
                "name": name,
                "cat": process,
                "pid": pid,
                "tid": tracks[process, track],
                "ts": start * microseconds,
                "dur": (end - start) * microseconds,
                "args": arguments,
            }
        )
    document = {"traceEvents": events + body, "displayTimeUnit": "ms"}
    return json.dumps(document, allow_nan=False).encode()
