"""How does one table become terminal output, Markdown and part of a page?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from afdplan.report import page

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["TextTable", "to_markdown", "to_page", "to_rich"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """Cells as text, for people.

    Attributes
    ----------
    title
        What the table shows; one line.
    columns
        Their headings; with a unit where there is one.
    rows
        Cells, one tuple per row.
    left
        Columns of words: aligned left, the others right.
    note
        What must be known to read it; may be empty.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    left: int = 1
    note: str = ""


def to_rich(table: TextTable) -> Table:
    """Return the table for a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    shown = Table(
        title=f"[bold]{escape(table.title)}[/]",
        title_justify="left",
        title_style="",
        caption=escape(table.note) or None,
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for k, column in enumerate(table.columns):
        # Folded, never cut off: a digit or a word that is left out would mislead.
        side = "left" if k < table.left else "right"
        shown.add_column(escape(column), justify=side, overflow="fold")  # type: ignore[arg-type]
    for row in table.rows:
        shown.add_row(*(escape(cell) for cell in row))
    return shown


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
    lines = [f"## {table.title}", ""]
    lines.append(f"| {' | '.join(map(_plain, table.columns))} |")
    lines.append(f"|{'|'.join(marks)}|")
    lines += [f"| {' | '.join(map(_plain, row))} |" for row in table.rows]
    lines.append("")
    if table.note:
        lines += [table.note, ""]
    return "\n".join(lines)


def to_page(table: TextTable, *, is_open: bool = False) -> page.Table:
    """Return the table for a report page.

    Parameters
    ----------
    table
        Cells as text.
    is_open
        Whether it is read without asking for it.
    """
    return page.Table(
        caption=table.title,
        headers=table.columns,
        rows=table.rows,
        is_open=is_open,
        left=table.left,
        note=table.note,
    )


def _plain(cell: str) -> str:
    return cell.replace("|", "\\|")
