"""What can every answer do for a notebook or a script?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from afdplan.model.teller import teller

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from polars import DataFrame

__all__ = ["Answer"]


class Answer:
    """Base of answers: they show, save and draw themselves.

    An answer itself knows nothing of tables, pages and pictures: who tells it
    (`afdplan.model.teller`) is named from above, and opened when an answer is first told.

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

    def __str__(self) -> str:
        """Return the answer in a sentence."""
        return teller().sentence(self)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: a screen of it."""
        return teller().html(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data by the names that the command prints with ``--json``."""
        return teller().to_dict(self)

    def frame(self) -> DataFrame:
        """Return the rows behind the answer: a curve, designs, or figures."""
        return teller().frame(self)

    def plot(self, path: str | None = None) -> Figure:
        """Return the picture of the answer, and write it to a .png or .svg file if one is named.

        Raises
        ------
        UnsupportedError
            If the answer has no picture.
        """
        return teller().plot(self, path)

    def report(self, path: str) -> None:
        """Write the page of the answer to one .html file; what stands around it takes seconds."""
        teller().report(self, path)
