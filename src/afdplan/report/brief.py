"""What does a terminal show unless everything is asked for: at most a screen, the answer first?"""

from __future__ import annotations

import io
import re
from bisect import bisect_left
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from afdplan.report.quantities import counted, plain
from afdplan.report.tables import TextTable, to_rich
from afdplan.report.telling import Later, Telling, facts_grid, whole_words, wrapped

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

__all__ = ["LINES", "ending", "pasted", "shortened", "to_brief"]

LINES = 30
"""Lines that a short answer has at most, at 80 columns."""
FEWEST_FACTS, FEWEST_ROWS = 6, 3
"""Facts, and rows of a table, that are shown however little room is left."""


def to_brief(
    told: Telling, again: str, width: int = 80, more: str = "--full adds", lines: int = LINES
) -> Group:
    """Return the short answer for a terminal: what to do, what holds, what to run next.

    Parameters
    ----------
    told
        The whole answer; its `verdict`, `brief` and `choice` are shown where it has them.
    again
        The command line that prints the same, shown last.
    width
        Columns of the terminal.
    more
        What brings the rest, in front of a list of it.
    lines
        That there are at most.
    """
    from rich.console import Group

    # Long rows may leave no room for a table's note, long names none for the next command.
    for following, note, fewest in (
        (told.following, True, FEWEST_FACTS),
        (told.following, False, FEWEST_FACTS),
        ("", False, FEWEST_FACTS),
        ("", False, FEWEST_ROWS),
    ):
        one = replace(told, following=following)
        parts = _fitted(one, again, width, more, lines, fewest, note=note)
        if sum(_height(part, width) for part in parts) <= lines:
            break
    return Group(*parts)


def _fitted(
    told: Telling, again: str, width: int, more: str, lines: int, fewest: int, *, note: bool
) -> list[RenderableType]:
    """Return the parts of a short answer that keeps so many facts whatever the room."""
    from rich.text import Text

    facts = list(told.brief or told.facts or told.words)
    # A table that was made for a screen follows from what stands above it.
    table, titled = told.choice, told.choice is None
    if not told.brief and table is None and told.tables:
        table = told.tables[0]
    if table is not None and not note:
        table = replace(table, note="")
    head: list[RenderableType] = []
    if told.verdict or told.answer:
        style = f"bold {told.style}".strip()
        head.append(whole_words(told.verdict or told.answer, width, style))
    if told.subject:
        head.append(whole_words(told.subject, width, "dim"))
    warnings = [_warning(text, width) for text in dict.fromkeys(map(shortened, told.warnings))]
    heights = [_height(part, width) for part in warnings]
    tail = ending(told, again, width)
    # Empty lines stand before facts, table and warnings, and one line tells what is left out.
    room = lines - sum(_height(part, width) for part in (*head, *tail))
    room -= 2 + bool(facts) + (table is not None)
    least = sum(heights[:1]) + (0 if table is None else _fitting(table, 0, width, titled)[1])
    dropped = 0
    while len(facts) > fewest and _height(facts_grid(facts, width), width) + least > room:
        facts.pop()
        dropped += 1
    if facts:
        head += [Text()] * bool(head) + [facts_grid(facts, width)]
        room -= _height(head[-1], width)
    if table is not None:
        kept = 2 if least + sum(heights[1:2]) <= room else 1
        table, height = _fitting(table, room - sum(heights[:kept]), width, titled)
        head += [Text()] * bool(head) + [to_rich(table, width, compact=True, title=titled)]
        room -= height
    said = 1
    while said < len(warnings) and sum(heights[: said + 1]) <= room:
        said += 1
    left = _left_out(told, table, dropped, len(warnings[said:]))
    if left:
        tail.insert(0, Text(f"{more} {left}", style="dim"))
    return [*head, *[Text()] * bool(head), *warnings[:said], *tail]


def ending(told: Telling, again: str, width: int) -> list[RenderableType]:
    """Return the last lines of any text: what to run next, and what prints the same again."""
    from rich.text import Text

    return [
        # Not folded: what a shell is to read breaks between its words only.
        Text(line, style="dim", no_wrap=True, overflow="ignore")
        for name, command in (("next: ", told.following), ("again:", again))
        if command
        for line in pasted(f"{name} {plain(command)}", width)
    ]


def shortened(warning: str) -> str:
    """Return the claim and the mend of a warning; what stands between them is told elsewhere.

    Examples
    --------
    >>> shortened("few requests; 10,000 would do: use a longer trace.")
    'few requests: use a longer trace.'
    >>> shortened("the queue grows: give more devices.")
    'the queue grows: give more devices.'
    """
    claim, between, rest = warning.partition("; ")
    if not between:
        return warning
    _, colon, mend = rest.rpartition(": ")
    if not colon:
        mend = rest.rpartition("; ")[2]
    return f"{claim}{': ' if colon else '; '}{mend}"


def pasted(command: str, width: int) -> list[str]:
    r"""Return a command line in lines that a shell reads as one; options stay with their values.

    Examples
    --------
    >>> pasted("afdplan ratio --trace requests.csv --batch-size 8", 42)
    ['afdplan ratio --trace requests.csv \\', '    --batch-size 8']
    """
    words: list[str] = []
    for word in re.findall(r"(?:'[^']*'|\"[^\"]*\"|[^\s'\"])+", command):
        is_value = bool(words) and words[-1][0] == "-" and " " not in words[-1]
        if is_value and word[0] != "-":
            words[-1] += f" {word}"
        else:
            words.append(word)
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) + 3 <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(f"    {word}")
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]


def _warning(text: str, width: int) -> RenderableType:
    from rich.text import Text

    said = wrapped(f"warning: {text}", width, indent="  ")
    return Text(said, style="yellow", overflow="fold")


def _fitting(table: TextTable, room: int, width: int, titled: bool) -> tuple[TextTable, int]:
    """Return a table with as many rows as there is room for, its answer among them."""
    answer, rows = table.strong or 0, range(len(table.rows))
    nearest = sorted(rows, key=lambda at: (abs(at - answer), at))

    def cut(gone: int) -> TextTable:
        kept = sorted(nearest[: len(rows) - gone])
        return replace(
            table,
            rows=[table.rows[at] for at in kept],
            bars=[table.bars[at] for at in kept] if table.bars else (),
            strong=None if table.strong is None else kept.index(table.strong),
        )

    @cache
    def height(gone: int) -> int:
        return _height(to_rich(cut(gone), width, compact=True, title=titled), width)

    most = max(len(rows) - FEWEST_ROWS, 0)
    gone = 0
    if height(0) > room:
        gone = bisect_left(range(most), True, lo=min(1, most), key=lambda n: height(n) <= room)
    return cut(gone), height(gone)


def _left_out(told: Telling, shown: TextTable | None, facts: int, warnings: int) -> str:
    rows = tables = 0
    if isinstance(told.tables, Later):  # only counted: that of the screen is none of them
        tables = len(told.tables)
    for table in () if tables else told.tables:
        if shown is None or table.title != shown.title:
            tables += 1
        else:
            rows = len(table.rows) - len(shown.rows)
    parts = (
        (facts, "more fact"),
        (rows, "more row"),
        (tables, "table"),
        (len(told.assumptions), "assumption"),
        (warnings, "more warning"),
    )
    return ", ".join(counted(count, noun) for count, noun in parts if count > 0)


def _height(part: RenderableType, width: int) -> int:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, color_system=None)
    return len(console.render_lines(part, pad=False))
