"""Which requests do the workloads of a study hold, and into which windows are they cut?"""

from __future__ import annotations

import dataclasses
import hashlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from afdplan.errors import InvalidInputError, placed
from afdplan.files.study_file import StudyDocument
from afdplan.files.traces.reader import read_trace
from afdplan.lengths.discrete import parse_law
from afdplan.model.trace import Trace
from afdplan.model.words import nearest
from afdplan.studies.axes import Axis
from afdplan.studies.study import Source, source_key
from afdplan.studies.windows import WindowRule, cut

__all__ = ["WindowAxis", "read_sources"]

_KEYS = ("trace", "format", "columns", "time_format", "prompt", "decode")


@dataclasses.dataclass(frozen=True, slots=True)
class WindowAxis:
    """An axis of traces with each trace replaced by its windows."""

    inner: Axis
    numbers: Sequence[Sequence[int]]
    starts: Sequence[int]

    @classmethod
    def of(cls, inner: Axis, windows: Mapping[str, list[int]], where: str) -> WindowAxis:
        """Return the axis of all windows of all traces of `inner`."""
        numbers = []
        for position in range(inner.size):
            key = source_key(inner.at(position))
            if not windows[key]:
                raise InvalidInputError(
                    f"{where}: [windows] cuts traces, and {key} has laws: give it a trace"
                )
            numbers.append(windows[key])
        return cls(inner, numbers, [0, *accumulate(len(n) for n in numbers)])

    @property
    def names(self) -> tuple[str, ...]:
        """The variables of `inner`, and the window."""
        return (*self.inner.names, "window")

    @property
    def size(self) -> int:
        """Number of windows of all traces."""
        return self.starts[-1]

    def at(self, position: int) -> dict[str, Any]:
        """Return one window of one trace."""
        place = bisect_right(self.starts, position) - 1
        number = self.numbers[place][position - self.starts[place]]
        return {**self.inner.at(place), "window": number}


def read_sources(
    document: StudyDocument,
    used: list[dict[str, Any]],
    rule: WindowRule | None,
    where: str,
) -> tuple[dict[str, Source], tuple[str, ...]]:
    """Return the workloads that cases use, by `source_key`, and what should be known about them.

    Raises
    ------
    InvalidInputError
        If a workload has no definition, a trace cannot be read or cut, or a law has no meaning.
    """
    sources: dict[str, Source] = {}
    notes: list[str] = []
    for values in used:
        for role, minimum in (("prompt", 0), ("decode", 1)):
            if role in values:
                parse_law(values[role], minimum=minimum, role=role)
        key = source_key(values)
        if key in sources or not {"workload", "trace"} & set(values):
            continue
        source = _source(document, values, where)
        trace = source.trace
        if rule is not None and trace is not None:
            windows = cut(trace, rule)
            source = dataclasses.replace(source, windows={w.number: w for w in windows})
            kept = sum(window.last - window.first for window in windows)
            if kept < trace.requests:
                notes.append(
                    f"{trace.source}: {trace.requests - kept:,} of {trace.requests:,} requests "
                    f"are in windows of fewer than {rule.minimum_requests}, which are left out"
                )
        sources[key] = source
    return sources, tuple(notes)


def _source(document: StudyDocument, values: Mapping[str, Any], where: str) -> Source:
    if "workload" not in values:
        return _trace_source(document, {"trace": values["trace"]}, where)
    name = values["workload"]
    if name not in document.workloads:
        raise InvalidInputError(
            f"{where}: workload {name!r} has no [workloads.{name}]; "
            f"{nearest(name, list(document.workloads) or ['none'])}"
        )
    table, place = document.workloads[name], f"{where}: [workloads.{name}]"
    for key, value in table.items():
        if key not in _KEYS:
            raise InvalidInputError(f"{place}: unknown key {key}; {nearest(key, _KEYS)}")
        if isinstance(value, bool | float) or not isinstance(value, str | int):
            raise InvalidInputError(f"{place}: {key} must be text, got {value!r:.40}")
    if "trace" in table and not {"prompt", "decode"} & set(table):
        return _trace_source(document, table, place)
    if set(table) != {"prompt", "decode"}:
        raise InvalidInputError(f"{place}: give trace, or prompt and decode")
    prompt, decode = str(table["prompt"]), str(table["decode"])
    parse_law(prompt, minimum=0, role=f"{place}: prompt")
    parse_law(decode, minimum=1, role=f"{place}: decode")
    return Source(
        prompt=prompt,
        decode=decode,
        names={"prompt": prompt, "decode": decode},
        fingerprint=f"prompt {prompt}, decode {decode}",
    )


def _trace_source(document: StudyDocument, table: Mapping[str, Any], where: str) -> Source:
    path = str(table["trace"])
    with placed(where):
        trace = read_trace(
            document.folder / path,
            format=table.get("format"),
            columns=table.get("columns"),
            time_format=table.get("time_format"),
        )
    return Source(
        trace=dataclasses.replace(trace, source=path),
        names={"trace": path},
        fingerprint=_trace_fingerprint(trace),
    )


def _trace_fingerprint(trace: Trace) -> str:
    digest = hashlib.sha256()
    arrays = (trace.prompt_tokens, trace.decode_tokens, trace.arrival_times, trace.session_ids)
    for array in arrays:
        digest.update(b"none" if array is None else array.tobytes())
        digest.update(b"|")
    return f"trace {digest.hexdigest()}"
