"""What can every answer do for a notebook or a script?"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from polars import DataFrame

__all__ = ["Answer"]


class Answer:
    """Base of answers: they show, save and draw themselves.

    What they are told with stands on higher floors and is looked up when it is first asked for:
    an answer itself knows nothing of tables, pages and pictures.

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
        return str(_media().sentence(self))

    def _repr_html_(self) -> str:
        """Return what a notebook shows: a screen of it."""
        return str(_media().html(self))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data by the names that the command prints with ``--json``."""
        found: dict[str, Any] = _media().to_dict(self)
        return found

    def frame(self) -> DataFrame:
        """Return the rows behind the answer: a curve, designs, or figures."""
        rows: DataFrame = _media().frame(self)
        return rows

    def plot(self, path: str | None = None) -> Figure:
        """Return the picture of the answer, and write it to a .png or .svg file if one is named.

        Raises
        ------
        UnsupportedError
            If the answer has no picture.
        """
        picture: Figure = _media().plot(self, path)
        return picture

    def report(self, path: str) -> None:
        """Write the page of the answer to one .html file; what stands around it takes seconds."""
        _media().report(self, path)


def _media() -> Any:
    return importlib.import_module("afdplan.media")
