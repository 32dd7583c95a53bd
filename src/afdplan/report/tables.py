"""How does one table become terminal output, Markdown and part of a page?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from afdplan.report.quantities import plain

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["TextTable", "to_markdown", "to_rich"]

Row = TypeVar("Row")
WORDY = 24
"""Letters beyond which a cell holds words that need room on a page."""
FEWEST_ROWS = 3
"""Rows from which on a column of one and the same cell is no column."""
BAR = 10
"""Columns of a bar on a terminal."""
SCREEN = 80
"""Columns of a terminal that tables are made for; on a narrower one some leave columns out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """Cells as text, for people; `page.html` draws the same value that `to_rich` does.

    Attributes
    ----------
    title
        What the table shows; one line.
    columns
        Their headings; with a unit where there is one.
    rows
        Cells, one tuple per row; the first names the row.
    left
        Columns of words: aligned left, the others right.
    note
        What must be known to read it; may be empty.
    is_open
        Whether a page shows it without being asked.
    strong
        Row that is the answer; None if none is.
    bars
        Lengths in [0, 1] that a terminal draws beside the rows; pages have figures.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    left: int = 1
    note: str = ""
    is_open: bool = False
    strong: int | None = None
    bars: Sequence[float] = ()

    @classmethod
    def of(
        cls, title: str, rows: Iterable[Row], cells: Mapping[str, Callable[[Row], str]], **look: Any
    ) -> TextTable:
        """Return the table that says the same of every row: what, stands beside its heading.

        Parameters
        ----------
        title
            What the table shows.
        rows
            What it is about, one after another.
        cells
            By heading, what is said of one of them.
        **look
            The other attributes.

        Examples
        --------
        >>> TextTable.of("T", [1, 2], {"n": str, "square": lambda n: str(n * n)}).rows
        [('1', '1'), ('2', '4')]
        """
        told = [tuple(tell(row) for tell in cells.values()) for row in rows]
        return cls(title=title, columns=tuple(cells), rows=told, **look)

    @property
    def is_wordy(self) -> bool:
        """Whether its cells are sentences: a phone then shows rows as blocks, not as columns."""
        return any(len(cell) > WORDY for row in self.rows for cell in row[1 : self.left])

    @property
    def has_long_names(self) -> bool:
        """Whether the names of its rows need room."""
        return any(len(row[0]) > WORDY for row in self.rows)


def to_rich(
    table: TextTable, width: int = 80, *, compact: bool = False, title: bool = True
) -> RenderableType:
    """Return the table for a terminal of that many columns; `compact` leaves the rule out.

    Columns that say the same in every row are told below the table instead.
    """
    from rich.bar import Bar
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = _without_constants(table)
    if width < SCREEN:
        table = _narrowed(table, width)
    widths, gap = _widths(table, width)
    shown = Table(
        box=None if compact else SIMPLE_HEAD,
        header_style="dim" if compact else "table.header",
        pad_edge=False,
        show_edge=False,
        padding=(0, gap if compact else gap - 1, 0, 0),
    )
    is_wordy = table.is_wordy or table.has_long_names
    for k, (column, columns) in enumerate(zip(table.columns, widths, strict=True)):
        # Folded, never cut off: a digit or a word that is left out would mislead.
        shown.add_column(
            Text(plain(column)),
            justify="left" if k < table.left else "right",
            overflow="fold",
            width=columns,
            vertical="top" if is_wordy else "bottom",
        )
    if table.bars:
        shown.add_column("", width=BAR)
    for at, row in enumerate(table.rows):
        is_strong = at == table.strong
        cells: list[Text | Bar] = [Text(plain(cell)) for cell in row]
        if table.bars:
            cells.append(Bar(1.0, 0.0, table.bars[at], color="green" if is_strong else "default"))
        shown.add_row(*cells, style="bold" if is_strong else None)
    # Not the table's own title and caption, which would be as narrow as the table.
    head = [Text(plain(table.title), style="bold")] * bool(title)
    note = [Text(plain(table.note), style="italic dim")] * bool(table.note)
    return Group(*head, shown, *note)


def _without_constants(table: TextTable) -> TextTable:
    """Return the table without columns of one and the same cell, which its note then says."""
    if len(table.rows) < FEWEST_ROWS:
        return table
    columns = list(zip(*table.rows, strict=True))
    same = [k for k, cells in enumerate(columns) if k and len(set(cells)) == 1]
    if not same:
        return table
    kept = [k for k in range(len(columns)) if k not in same]
    said = [f"{table.columns[k]}: {columns[k][0]}" for k in same if columns[k][0]]
    note = f"In every row {'; '.join(said)}." if said else ""
    return replace(
        table,
        columns=tuple(table.columns[k] for k in kept),
        rows=[tuple(row[k] for k in kept) for row in table.rows],
        left=sum(k < table.left for k in kept),
        note=" ".join(text for text in (note, table.note) if text),
    )


def _narrowed(table: TextTable, width: int) -> TextTable:
    """Return as much of a table as fits: without bars, then without its last columns."""
    fitting = table
    while _widths(fitting, width)[0][0] is None and (fitting.bars or len(fitting.columns) > 2):
        if fitting.bars:
            fitting = replace(fitting, bars=())
        else:
            rows = [row[:-1] for row in fitting.rows]
            left = min(table.left, len(fitting.columns) - 1)
            fitting = replace(fitting, columns=fitting.columns[:-1], rows=rows, left=left)
    if _widths(fitting, width)[0][0] is None:  # a name is too long: that breaks, whatever goes
        return replace(table, bars=())
    gone = ", ".join(table.columns[len(fitting.columns) :])
    notes = (f"A wider terminal also shows: {gone}." * bool(gone), table.note)
    return replace(fitting, note=" ".join(filter(None, notes)))


def _widths(table: TextTable, width: int) -> tuple[list[int | None], int]:
    """Return how wide each column is, and what stands between two of them.

    Words wrap first, then headings between their words, then columns move closer; a heading breaks
    inside a word only where that is not enough, a number never.
    """
    cells, words, wanted = [], [], []
    for k, (heading, *column) in enumerate(zip(table.columns, *table.rows, strict=True)):
        whole = column if k >= table.left else [word for cell in column for word in cell.split()]
        cells.append(max(map(len, (*whole, " "))))
        words.append(max(map(len, (*whole, *heading.split(), " "))))
        wanted.append(max(map(len, (*column, heading if k < table.left else heading[::2]))))
    whole_words = [max(pair) for pair in zip(wanted, map(len, table.columns), strict=True)]
    for gap, least in ((2, whole_words), (2, words), (1, words), (1, cells)):
        room = width - (gap * len(table.columns) - 1) - (BAR + gap) * bool(table.bars)
        spare = room - sum(least)
        if spare >= 0:
            asked = [max(want - have, 0) for want, have in zip(wanted, least, strict=True)]
            part = min(1.0, spare / max(sum(asked), 1))
            return [have + int(part * more) for have, more in zip(least, asked, strict=True)], gap
    return [None] * len(words), 2


def to_markdown(table: TextTable) -> str:
    """Return the table as Markdown, its title a heading of the second level.

    Examples
    --------
    >>> print(to_markdown(TextTable(title="T", columns=("a", "b"), rows=[("x", "1")])))
    ## T
    <BLANKLINE>
    | a | b |
    |---|---:|
    | x | 1 |
    <BLANKLINE>
    """
    marks = ["---" if k < table.left else "---:" for k in range(len(table.columns))]
    lines = [f"## {_marked(table.title)}", "", f"| {' | '.join(map(_marked, table.columns))} |"]
    lines.append(f"|{'|'.join(marks)}|")
    lines += [f"| {' | '.join(map(_marked, row))} |" for row in table.rows]
    lines.append("")
    if table.note:
        lines += [_marked(table.note), ""]
    return "\n".join(lines)


def _marked(text: str) -> str:
    """Return text that Markdown shows as it is; underscores inside words mark nothing."""
    text = re.sub(r"([\\`*<>\[\]|&~])", r"\\\1", plain(text))
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)
