"""Who tells answers as text, data, rows, pictures and pages?

It stands on a floor far above them and is named by the face of the package, so that no answer
needs to know it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from polars import DataFrame

__all__ = ["Teller", "tell_by", "teller"]


class Teller(Protocol):
    """What knows every kind of answer."""

    def sentence(self, answer: Any) -> str:
        """Return the answer in a sentence."""

    def html(self, answer: Any) -> str:
        """Return a screen of it as a fragment of a page."""

    def to_dict(self, answer: Any) -> dict[str, Any]:
        """Return plain data."""

    def frame(self, answer: Any) -> DataFrame:
        """Return the rows behind it."""

    def plot(self, answer: Any, path: str | None) -> Figure:
        """Return its picture, written if a path is given."""

    def report(self, answer: Any, path: str) -> None:
        """Write its page."""


_named: list[Callable[[], Teller]] = []


def tell_by(opened: Callable[[], Teller]) -> None:
    """Name who tells answers, by what opens it: not before one is told."""
    _named[:] = [opened]


def teller() -> Teller:
    """Return who tells answers."""
    return _named[0]()
