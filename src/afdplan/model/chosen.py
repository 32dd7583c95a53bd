"""Which values of an object does a document hold under their own names?"""

from __future__ import annotations

from typing import Any

__all__ = ["chosen"]


def chosen(value: Any, names: str) -> dict[str, Any]:
    """Return those values of an object that a document calls as the object does.

    Examples
    --------
    >>> from afdplan.model.estimate import Estimate
    >>> chosen(Estimate.exact(2.0), "low high")
    {'low': 2.0, 'high': 2.0}
    """
    return {name: getattr(value, name) for name in names.split()}
