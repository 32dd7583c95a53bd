"""What is said of one answer, whatever shows it, and how does a terminal show all of it?"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from afdplan.report.quantities import plain
from afdplan.report.tables import TextTable, to_rich

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

__all__ = ["Fact", "Later", "Telling", "facts_grid", "to_terminal", "whole_words", "wrapped"]


class Fact(NamedTuple):
    """A number worth seeing at once: its name, its value with a unit, and a remark."""

    name: str
    value: str
    remark: str = ""


class Later(Sequence[TextTable]):
    """Tables that are made when they are shown: a short text only says how many there are."""

    def __init__(self, *makers: Callable[[], TextTable]) -> None:
        self._makers = makers

    @classmethod
    def joined(cls, *tables: Sequence[TextTable]) -> Later:
        """Return the tables of all, one after another; those that are not made yet stay so."""
        return cls(*(partial(each.__getitem__, at) for each in tables for at in range(len(each))))

    def __len__(self) -> int:
        return len(self._makers)

    def __iter__(self) -> Iterator[TextTable]:
        return (make() for make in self._makers)

    def __getitem__(self, at: int) -> TextTable:  # type: ignore[override]  # never sliced
        return self._makers[at]()


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """Sentences, facts and tables of one answer, in the order of reading.

    Attributes
    ----------
    subject
        What was examined, a short line.
    answer
        The answer in one sentence.
    facts
        The numbers behind it.
    words
        Facts told in words, too long to stand beside numbers on a page.
    tables
        What a terminal shows; a page may show more.
    warnings, assumptions
        One sentence each.
    style
        Colour of the answer on a terminal; empty for none.
    verdict, brief, choice
        What the short text of a terminal says instead of `answer`, facts and tables; nothing
        where those are short themselves.
    following
        The command that comes next; empty for none.
    """

    subject: str = ""
    answer: str = ""
    facts: tuple[Fact, ...] = ()
    words: tuple[Fact, ...] = ()
    tables: Sequence[TextTable] = ()
    warnings: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    style: str = ""
    verdict: str = ""
    brief: tuple[Fact, ...] = ()
    choice: TextTable | None = None
    following: str = ""


def to_terminal(told: Telling, width: int = 80) -> Group:
    """Return all of it for a terminal of that many columns: the answer first, last what to mind."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = []
    if told.answer:
        parts.append(whole_words(told.answer, width, f"bold {told.style}".strip()))
    if told.subject:
        parts.append(whole_words(told.subject, width, "dim"))
    if told.facts or told.words:
        parts += [Text()] * bool(parts) + [facts_grid((*told.facts, *told.words), width)]
    for table in told.tables:
        parts += [Text()] * bool(parts) + [to_rich(table, width)]
    for head, sentences, style in (
        ("assumed: ", told.assumptions, "dim"),
        ("warning: ", told.warnings, "yellow"),
    ):
        parts += [Text()] * bool(sentences)
        parts += [_hanging(head, sentence, style) for sentence in sentences]
    return Group(*parts)


def facts_grid(facts: Sequence[Fact], width: int) -> RenderableType:
    """Return names with their values beside them, in lines that keep a number and its per cent."""
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column(overflow="fold")
    room = width - max((cell_len(plain(fact.name)) for fact in facts), default=0) - 2
    for fact in facts:
        said = plain(fact.value)
        value = Text(wrapped(f"{said}, {plain(fact.remark)}" if fact.remark else said, room))
        value.stylize("dim", len(said))  # a line ends where a space stood
        grid.add_row(Text(plain(fact.name)), value)
    return grid


def wrapped(text: str, width: int, indent: str = "") -> str:
    """Return text in lines, numbers and their per cent on the same one.

    Examples
    --------
    >>> print(wrapped("a cost of 0.03 %", 15))
    a cost of
    0.03 %
    """
    together = plain(text).replace(" %", "\u00a0%")
    lines = textwrap.wrap(
        together,
        max(width, 8),
        subsequent_indent=indent,
        break_on_hyphens=bool(indent),
        break_long_words=False,
    )
    return "\n".join(lines).replace("\u00a0", " ")


def whole_words(text: str, width: int, style: str) -> RenderableType:
    """Return text in lines; a long path stays whole, for it is copied: a terminal breaks it."""
    from rich.text import Text

    return Text(wrapped(text, width), style=style, no_wrap=True, overflow="ignore")


def _hanging(head: str, sentence: str, style: str) -> RenderableType:
    """Return a sentence whose further lines begin below its first word."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid()
    grid.add_column(no_wrap=True, style=style)
    grid.add_column(overflow="fold", style=style)
    grid.add_row(Text(head), Text(plain(sentence)))
    return grid
