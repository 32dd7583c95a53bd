"""What are the values of one key of JSON records, as a column?"""

from __future__ import annotations

import contextlib
from typing import Any

import polars as pl

__all__ = ["series"]

LONGEST_WORD = 40


def series(values: list[Any]) -> pl.Series:
    """Return the values as numbers if all are numbers, else as text; null stays null.

    Lists of integers are kept, for they may be ids of blocks; others become lists of nothing: only
    how long they are can matter, unless each is one word, such as why a choice ended.
    """
    kinds = set(map(type, values)) - {type(None)}
    if kinds <= {bool}:
        return pl.Series(values, dtype=pl.Boolean if kinds else pl.Null)
    if kinds == {int}:
        known = [v for v in values if v is not None]
        if min(known) >= -(2**63) and max(known) < 2**63:
            return pl.Series(values, dtype=pl.Int64)
    if kinds <= {int, float}:
        return pl.Series([None if v is None else _real(v) for v in values], dtype=pl.Float64)
    if kinds == {list}:
        if all(set(map(type, v)) <= {int} for v in values if v):
            with contextlib.suppress(TypeError, OverflowError):
                return pl.Series(values, dtype=pl.List(pl.Int64))
        if all(len(v) == 1 and _is_word(v[0]) for v in values if v is not None):
            return pl.Series([None if v is None else v[0] for v in values], dtype=pl.String)
        sizes = [None if v is None else [None] * len(v) for v in values]
        return pl.Series(sizes, dtype=pl.List(pl.Null))
    texts = [None if v is None else v if isinstance(v, str) else str(v) for v in values]
    return pl.Series(texts, dtype=pl.String)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value.isidentifier() and len(value) < LONGEST_WORD


def _real(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
