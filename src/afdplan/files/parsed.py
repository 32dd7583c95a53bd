"""Which value does TOML or JSON text hold, read strictly?"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections import Counter
from typing import Any

__all__ = ["from_json", "from_toml"]

LONG_KEY = re.compile(r"""(?<![\w"'-])(?:[\w"'-]++\s*+\.\s*+){100}""")


def from_toml(text: str) -> dict[str, Any]:
    """Return the table of a TOML text; a key of hundreds of parts takes their square to read.

    Raises
    ------
    ValueError, RecursionError
        If it is no TOML, or too deeply nested.

    Examples
    --------
    >>> from_toml("a.b = 1")
    {'a': {'b': 1}}
    """
    if LONG_KEY.search(text):
        raise RecursionError("its keys are nested too deeply")
    return tomllib.loads(text)


def from_json(text: str, *, is_finite: bool) -> Any:
    """Return the value of a JSON text, in which every key of an object occurs once.

    Parameters
    ----------
    text
        Of the file.
    is_finite
        Whether NaN and infinities, which Python writes, are refused.

    Raises
    ------
    ValueError, RecursionError
        If it is no JSON, breaks a rule, or is too deeply nested.

    Examples
    --------
    >>> from_json('{"a": [1, 2.5]}', is_finite=True)
    {'a': [1, 2.5]}
    """
    number = _finite if is_finite else float
    return json.loads(
        text,
        parse_float=number,
        parse_constant=number,
        object_pairs_hook=_object_without_repeats,
    )


def _finite(written: str) -> float:
    number = float(written)
    if not math.isfinite(number):
        raise ValueError(f"numbers must be finite, got {written:.40}")
    return number


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        counted = Counter(key for key, _ in pairs)
        repeated = next(key for key, times in counted.items() if times > 1)
        raise ValueError(f"every key must occur once in an object, got {repeated!r:.80} twice")
    return result
