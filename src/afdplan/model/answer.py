"""What can every answer do for a notebook or a script?"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from polars import DataFrame

__all__ = ["Answer", "Teller", "tell_by"]


class Teller(Protocol):
    """Who tells answers: it knows each kind of them, and text, data, rows, pictures and pages."""

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


class Answer:
    """Base of answers: they show, save and draw themselves.

    An answer itself knows nothing of tables, pages and pictures: who tells it is named from above
    (`tell_by`), and is opened when an answer is first told.

    Examples
    --------
    >>> import afdplan
    >>> lengths = afdplan.IndependentLengths(prompt="geometric:100", decode="geometric:500")
    >>> latency = afdplan.load_latency("deepseek-v3-ascend-910c")
    >>> answer = afdplan.recommend_ratio(lengths, latency, batch_size=256)
    >>> answer.to_dict()["optimal_attention_workers"]
    7
    >>> answer.frame().columns[:2]
    ['attention_workers', 'cycle_time']
    """

    __slots__ = ()
    _teller: ClassVar[Callable[[], Teller]]

    def __str__(self) -> str:
        """Return the answer in a sentence."""
        return type(self)._teller().sentence(self)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: a screen of it."""
        return type(self)._teller().html(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data by the names that the command prints with ``--json``."""
        return type(self)._teller().to_dict(self)

    def frame(self) -> DataFrame:
        """Return the rows behind the answer: a curve, designs, or figures."""
        return type(self)._teller().frame(self)

    def plot(self, path: str | None = None) -> Figure:
        """Return the picture of the answer, and write it to a .png or .svg file if one is named.

        Raises
        ------
        UnsupportedError
            If the answer has no picture.
        """
        return type(self)._teller().plot(self, path)

    def report(self, path: str) -> None:
        """Write the page of the answer to one .html file; what stands around it takes seconds."""
        type(self)._teller().report(self, path)


def tell_by(teller: Callable[[], Teller]) -> None:
    """Name who tells answers; it is called at each telling, and not before the first."""
    Answer._teller = teller
