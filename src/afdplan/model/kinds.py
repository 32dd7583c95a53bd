"""Is what a caller gives of the kind that a parameter holds? Else, how does one get it?"""

from __future__ import annotations

import os
from typing import Any

from afdplan.errors import InvalidInputError

__all__ = ["check_kind", "check_latency", "check_path"]


def check_kind(name: str, value: Any, kind: type, mend: str) -> None:
    """Raise `InvalidInputError` unless `value` is of a kind; `mend` says how to get one.

    Examples
    --------
    >>> check_kind("columns", "ctx", dict, "give names by meaning")
    Traceback (most recent call last):
    afdplan.errors.InvalidInputError: columns must be a dict, got str: give names by meaning
    """
    if not isinstance(value, kind):
        got = "None" if value is None else type(value).__name__
        raise InvalidInputError(f"{name} must be a {kind.__name__}, got {got}: {mend}")


def check_latency(value: Any, name: str = "latency") -> None:
    """Raise `InvalidInputError` unless `value` is a latency model."""
    from afdplan.model.latency import LatencyModel  # brings NumPy, which no check of a path needs

    mend = "load_latency gives one, and derived_model(MODEL, HARDWARE).latency is one"
    check_kind(name, value, LatencyModel, mend)


def check_path(value: Any, error: type[InvalidInputError] = InvalidInputError) -> None:
    """Raise unless `value` can be the name of a file."""
    if not isinstance(value, str | os.PathLike) or value == "":
        raise error(f"a file must be given by its name, got {value!r:.40}")
