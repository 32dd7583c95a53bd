"""What does every command print for machines?"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from afdplan.model.chosen import chosen
from afdplan.model.estimate import Estimate
from afdplan.model.latency import TimeUnit
from afdplan.version import __version__

__all__ = ["SCHEMA_VERSION", "document", "to_json"]

SCHEMA_VERSION = 1


def document(
    *,
    time_unit: TimeUnit,
    inputs: Mapping[str, Any],
    warnings: Sequence[str],
    answer: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the JSON document of a command: the common head, then its answer.

    Parameters
    ----------
    time_unit
        Unit of every time in the answer, ``s`` or ``abstract``.
    inputs
        What was asked, with every default resolved.
    warnings
        One sentence each.
    answer
        The names that the command's contract promises.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "afdplan_version": __version__,
        "time_unit": time_unit,
        "inputs": dict(inputs),
        "warnings": list(warnings),
        **answer,
    }


def to_json(value: Any, indent: int | None = 2) -> str:
    """Return `value` as indented JSON; dataclasses become objects, NaN is refused.

    The end of an interval that reaches to infinity becomes null. Halves of characters, which a
    file name may hold, are escaped: they could not be written otherwise.
    """
    text = json.dumps(value, indent=indent, allow_nan=False, default=_plain, ensure_ascii=False)
    return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)


def _plain(value: Any) -> Any:
    if isinstance(value, Estimate):
        ends = chosen(value, "low high").items()
        known = {name: end if math.isfinite(end) else None for name, end in ends}
        return {"value": value.value, **known, **chosen(value, "confidence method")}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value) if not f.name.startswith("_")]
        return {name: getattr(value, name) for name in names}
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"no JSON form for {type(value).__name__}")
