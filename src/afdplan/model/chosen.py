"""Which values of an object, or of a command's options, are handed on under their own names?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["chosen", "picked"]


def chosen(value: Any, names: str) -> dict[str, Any]:
    """Return those values of an object that a document calls as the object does.

    Examples
    --------
    >>> from afdplan.model.estimate import Estimate
    >>> chosen(Estimate.exact(2.0), "low high")
    {'low': 2.0, 'high': 2.0}
    """
    return {name: getattr(value, name) for name in names.split()}


def picked(values: Mapping[str, Any], names: str) -> dict[str, Any]:
    """Return those values of a mapping: options that a function calls as the command does.

    Examples
    --------
    >>> picked({"layers": 61, "noise": 0.01, "role": None}, "layers noise")
    {'layers': 61, 'noise': 0.01}
    """
    return {name: values[name] for name in names.split()}
