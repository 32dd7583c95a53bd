"""Which request records does JSON text hold, bundled or hidden as they may be?"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

from afdplan.errors import TraceError
from afdplan.files.traces.table import shown

__all__ = ["RUN", "Record", "decode", "is_arrays", "is_bundle", "parts", "records_of", "where"]

Record = dict[str, Any]
RUN = "benchmark run"
"""Column that numbers the runs of one file, each with a clock and a load of its own."""


def decode(data: bytes) -> Any:
    """Return the value of JSON text; raises ValueError for what is none, however hostile."""
    import msgspec

    try:
        return msgspec.json.decode(data)
    except RecursionError:
        raise ValueError("values are nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = str(error)
    if "truncated" in reason:
        raise ValueError(reason)
    try:  # clients write Infinity, NaN and halves of surrogate pairs: the standard library reads
        return json.loads(_whole_characters(data.decode("utf-8", "replace")))
    except (ValueError, RecursionError):
        raise ValueError(reason) from None


def _whole_characters(text: str) -> str:
    r"""Return JSON text in which an escape that is half a surrogate pair stands for U+FFFD."""
    half = r"\\(?:\\|u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w|(u[dD][89a-fA-F]\w\w))"
    return re.sub(half, lambda found: "\\ufffd" if found.group(1) else found.group(), text)


def where(data: bytes, reason: str) -> str:
    """Return a sentence that says in which line the JSON breaks off."""
    match = re.search(r"byte (\d+)", reason)
    if match is None:
        last = data.rstrip().count(b"\n") + 1
        cut = "truncated" in reason
        return (
            f"the JSON is cut short in line {last}; fetch it again"
            if cut
            else f"is no trace: {reason}"
        )
    if "trailing characters" in reason:
        line = data[: int(match.group(1))].count(b"\n") + 1
        return f"holds another JSON value from line {line} on: write one value per line"
    line = data[: int(match.group(1))].count(b"\n") + 1
    return f"is no JSON in line {line} ({reason}); mend the file"


def records_of(name: str, value: Any) -> list[Record]:
    """Return the objects that one JSON value holds."""
    if isinstance(value, dict):
        return _framed(value) or list(parts(value, itertools.count(1)))
    if not isinstance(value, list) or not all(isinstance(record, dict) for record in value):
        odd = (
            value
            if not isinstance(value, list)
            else next((x for x in value if not isinstance(x, dict)), value)
        )
        raise TraceError(
            f"{name}: every JSON record must be an object with named lengths, got "
            f"{type(odd).__name__} {shown(odd)}; write one object per request"
        )
    runs = itertools.count(1)
    return [part for record in value for part in parts(record, runs)]


def _framed(value: Record) -> list[Record]:
    """Return the rows of a data frame written as one object, in any of pandas' layouts, or none.

    By column (lists, or objects by row), by row (objects of one shape), or split.
    """
    names, rows = value.get("columns"), value.get("data")
    if (
        isinstance(names, list)
        and isinstance(rows, list)
        and {*value} <= {"columns", "index", "data"}
    ):
        good = all(isinstance(row, list) and len(row) == len(names) for row in rows)
        return [dict(zip(map(str, names), row, strict=True)) for row in rows] if good else []
    inner = list(value.values())
    if len(inner) < 2:
        return []
    if all(isinstance(column, list) for column in inner):
        if is_arrays(value) or len({len(column) for column in inner}) > 1:
            return []
        if any(isinstance(cell, dict | list) for column in inner for cell in column):
            return []
        return [dict(zip(value, row, strict=True)) for row in zip(*inner, strict=True)]
    if not all(isinstance(one, dict) and one for one in inner):
        return []
    # Objects of one shape: by row if their own names are numbers, else by column.
    shape = set(inner[0])
    if any(set(one) != shape for one in inner):
        return []
    if all(str(name).isdecimal() for name in shape):
        return [{name: column[row] for name, column in value.items()} for row in inner[0]]
    return inner if all(name.isdecimal() for name in value) else []


def is_arrays(record: Record) -> bool:
    """Return whether one record holds many requests, as arrays of equal meaning."""
    return all(isinstance(record.get(key), list) for key in ("input_lens", "output_lens"))


def is_bundle(record: Record) -> bool:
    """Return whether `parts` makes other records of this one."""
    return (
        "resourceSpans" in record
        or "benchmarks" in record
        or isinstance(record.get("attributes"), list)
    )


def parts(record: Record, runs: Iterator[int]) -> Iterator[Record]:
    """Yield `record`, or, of an OpenTelemetry export, its spans with attributes as keys.

    Of guidellm's benchmarks come the requests that succeeded, erred and were cut off, each with
    its ``guidellm_outcome`` and the number of its benchmark, one of `runs`.
    """
    if isinstance(record.get("resourceSpans"), list):
        for group in _objects(record, "resourceSpans"):
            for key in ("scopeSpans", "instrumentationLibrarySpans"):
                for scope in _objects(group, key):
                    yield from map(_with_attributes, _objects(scope, "spans"))
    elif isinstance(record.get("benchmarks"), list):
        for benchmark in _objects(record, "benchmarks"):
            outcomes = benchmark.get("requests")
            if not isinstance(outcomes, dict):
                yield record
                return
            at = next(runs)
            for outcome, status in GUIDELLM_OUTCOMES.items():
                for request in _objects(outcomes, outcome):
                    yield {**request, "guidellm_outcome": status, RUN: at}
    else:
        yield _with_attributes(record)


GUIDELLM_OUTCOMES = {"successful": "completed", "errored": "errored", "incomplete": "cancelled"}


def _objects(value: Any, key: str) -> list[Record]:
    """Return the objects in the list `value[key]`, none if it is no such list."""
    inner = value.get(key) if isinstance(value, dict) else None
    return [x for x in inner if isinstance(x, dict)] if isinstance(inner, list) else []


def _with_attributes(span: Record) -> Record:
    """Return the span with `attributes`, a list of key and typed value, as an object."""
    attributes = span.get("attributes")
    if not isinstance(attributes, list):
        return span
    pairs = [item for item in attributes if isinstance(item, dict) and "key" in item]
    named = {str(item["key"]): _plain(item.get("value")) for item in pairs}
    return {**span, "attributes": named}


def _plain(value: Any) -> Any:
    return next(iter(value.values()), None) if isinstance(value, dict) else value
