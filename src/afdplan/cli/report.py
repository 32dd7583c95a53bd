"""How does an answer reach terminal, page or picture, and how far is long work?"""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from afdplan.plotting.figure import Figure
    from afdplan.report.page import Page
    from afdplan.report.telling import Telling

__all__ = [
    "around_option",
    "command_line",
    "plot_option",
    "progress",
    "report_option",
    "tell",
    "write_picture",
    "write_report",
]

Command = TypeVar("Command", bound=Callable[..., Any])

NARROWEST = 80
"""Columns that text is never squeezed below: a narrower terminal wraps its lines."""
PLAIN = str.maketrans(
    dict(zip("▁▂▃▄▅▆▇█▉▊▋▌▍▎▏", "_.-=+*%########", strict=True)) | {"µ": "u", "±": "+-"}
)
"""What stands for signs that a terminal without Unicode cannot show."""


def _check_page(_: click.Context, __: click.Parameter, path: str | None) -> str | None:
    if path is not None and Path(path).suffix.lower() not in (".html", ".htm"):
        raise click.BadParameter(f"a report's name must end in .html, got {path!r}")
    return _check_folder(path)


def _check_picture(_: click.Context, __: click.Parameter, path: str | None) -> str | None:
    if path is not None:
        from afdplan.plotting.picture import check_picture_name

        check_picture_name(path)
    return _check_folder(path)


def _check_folder(path: str | None) -> str | None:
    if path is not None:
        from afdplan.files.atomic import check_folder

        check_folder(path)
    return path


def report_option(command: Command) -> Command:
    """Add --report FILE.html."""
    return click.option(
        "--report",
        metavar="FILE",
        callback=_check_page,
        help="Write a page with figures to one self-contained .html file.",
    )(command)


def plot_option(what: str) -> Callable[[Command], Command]:
    """Add --plot FILE, a picture of `what`."""
    return click.option(
        "--plot",
        metavar="FILE",
        callback=_check_picture,
        help=f"Draw {what} to a .png or .svg file.",
    )


def around_option(command: Command) -> Command:
    """Add --around, which --report implies."""
    return click.option(
        "--around",
        is_flag=True,
        help="Add to --json what a report shows around the answer; takes seconds.",
    )(command)


def command_line() -> str:
    """Return what was typed, quoted for a shell: it reproduces the page."""
    return shlex.join(["afdplan", *sys.argv[1:]])


def tell(told: Telling) -> None:
    """Print what is said of an answer on standard output."""
    from rich.console import Console

    from afdplan.report.telling import to_terminal

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    console.width = max(console.width, NARROWEST)
    with console.capture() as shown:
        console.print(to_terminal(told, console.width))
    text = re.sub(" +$", "", shown.get(), flags=re.M)
    if not console.encoding.lower().startswith("utf"):
        known = text.translate(PLAIN).encode(console.encoding, "backslashreplace")
        text = known.decode(console.encoding)
    sys.stdout.write(text)


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[[float], None]]:
    """Yield a function that takes the share done, 0 to 1; it moves a bar that leaves no trace.

    Parameters
    ----------
    what
        Names the work in front of the bar.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda done: bar.update(task, completed=done)


def write_picture(path: str, figures: Sequence[Figure], heading: str, columns: int = 1) -> None:
    """Draw figures of one chart each, whole or not at all."""
    from afdplan.files.atomic import write_atomic
    from afdplan.plotting.picture import check_picture_name, draw_figures, picture_bytes

    drawn = draw_figures(figures, heading, columns)
    write_atomic(path, picture_bytes(drawn, check_picture_name(path)))


def write_report(path: str, page: Page) -> None:
    """Write the page whole or not at all, and say so on standard error."""
    from afdplan.files.atomic import write_atomic
    from afdplan.report.page import render_page

    write_atomic(path, render_page(page))
    click.echo(f"afdplan: wrote {path}", err=True)
