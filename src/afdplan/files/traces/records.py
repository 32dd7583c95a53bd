"""Which request records does JSON text hold, bundled or hidden as they may be?"""

from __future__ import annotations

import json
import re
from typing import Any

from afdplan.errors import TraceError
from afdplan.files.traces.table import shown

__all__ = ["Record", "decode", "is_arrays", "is_bundle", "parts", "records_of", "where"]

Record = dict[str, Any]

RECORD_LISTS = ("resourceSpans", "requests", "data", "records", "spans", "rows", "logs", "results")


def decode(data: bytes) -> Any:
    """Return the value of JSON text; raises ValueError for what is none, however hostile."""
    import msgspec

    try:
        return msgspec.json.decode(data)
    except RecursionError:
        raise ValueError("values are nested too deeply") from None
    except msgspec.DecodeError as error:
        reason = str(error)
    try:  # benchmark clients write Infinity and NaN, which only the standard library reads
        return json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError(reason) from None


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
    line = data[: int(match.group(1))].count(b"\n") + 1
    return f"is no JSON in line {line} ({reason}); mend the file"


def records_of(name: str, value: Any) -> list[Record]:
    """Return the objects that one JSON value holds."""
    if isinstance(value, dict):
        for key in RECORD_LISTS:
            inner = value.get(key)
            if isinstance(inner, list) and inner and all(isinstance(x, dict) for x in inner):
                value = [value] if key == "resourceSpans" else inner
                break
        else:
            value = [value]
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
    if not value:
        raise TraceError(f"{name}: holds no requests; a trace needs at least one")
    return [span for record in value for span in parts(record)]


def is_arrays(record: Record) -> bool:
    """Return whether one record holds many requests, as arrays of equal meaning."""
    return all(isinstance(record.get(key), list) for key in ("input_lens", "output_lens"))


def is_bundle(record: Record) -> bool:
    """Return whether a record is more than one request, or hides its keys in a list."""
    return (
        "resourceSpans" in record or is_arrays(record) or isinstance(record.get("attributes"), list)
    )


def parts(record: Record) -> list[Record]:
    """Return `record`, or, of OpenTelemetry's export, its spans with attributes as keys."""
    groups = record.get("resourceSpans")
    if not isinstance(groups, list):
        return [_with_attributes(record)]
    spans: list[Record] = []
    for group in groups:
        for scope in _objects(group, "scopeSpans"):
            spans += [_with_attributes(span) for span in _objects(scope, "spans")]
    # Spans of tools or of the server around them carry no tokens: they are no requests.
    return [
        span
        for span in spans
        if any(key.startswith("gen_ai.usage.") for key in span.get("attributes") or ())
    ]


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
