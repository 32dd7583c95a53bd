"""How does an answer reach terminal, page or picture, and how far is long work?"""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from afdplan.cli.project import filled_in

if TYPE_CHECKING:
    from afdplan.model.parameter import Parameter
    from afdplan.plotting.figure import Figure
    from afdplan.report.page import Page
    from afdplan.report.telling import Telling

__all__ = [
    "around_option",
    "check_folder",
    "command_line",
    "command_with",
    "documented",
    "json_flag",
    "json_option",
    "plot_option",
    "print_json",
    "progress",
    "reading",
    "report_option",
    "say_wrote",
    "tell",
    "write_picture",
    "write_report",
]

Command = TypeVar("Command", bound=Callable[..., Any])

NARROWEST = 40
"""Columns that text is never squeezed below: a narrower terminal wraps its lines."""
FULL = "afdplan.full"
"""Where a context keeps whether all is printed."""
WROTE = "afdplan.wrote"
"""Where a context counts the lines on files that were written."""
PLAIN = str.maketrans(
    dict(zip("▁▂▃▄▅▆▇█▉▊▋▌▍▎▏", "_.-=+*%########", strict=True)) | {"µ": "u", "±": "+-"}
)
"""What stands for signs that a terminal without Unicode cannot show."""


def _check_page(context: click.Context, given: click.Parameter, path: str | None) -> str | None:
    if path is not None and Path(path).suffix.lower() not in (".html", ".htm"):
        raise click.BadParameter(f"a report's name must end in .html, got {path!r}")
    return check_folder(context, given, path)


def _check_picture(context: click.Context, given: click.Parameter, path: str | None) -> str | None:
    if path is not None:
        from afdplan.plotting.picture import check_picture_name

        check_picture_name(path)
    return check_folder(context, given, path)


def check_folder(_: click.Context, __: click.Parameter, path: str | None) -> str | None:
    """Return the name of a file to write, once its folder is known to be there."""
    if path is not None:
        from afdplan.files import atomic

        atomic.check_folder(path)
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


def _full_option(command: Command) -> Command:
    """Add --full, which `tell` reads."""
    return click.option(
        "--full",
        is_flag=True,
        expose_value=False,
        callback=_remember_full,
        help="Print everything, not what fits on a screen.",
    )(command)


def _remember_full(context: click.Context, _: click.Parameter, full: bool) -> None:
    context.meta[FULL] = full


def json_flag(command: Command) -> Command:
    """Add --json."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document on standard output."
    )(command)


def json_option(command: Command) -> Command:
    """Add --full and --json."""
    return _full_option(json_flag(command))


def command_line() -> str:
    """Return what was typed, quoted for a shell: it reproduces the answer.

    What the project file gave is typed out, for the file may change.
    """
    context, typed = click.get_current_context(silent=True), sys.argv[1:]
    added = [] if context is None else filled_in(context)
    if not added or context is None:
        return shlex.join(["afdplan", *typed])
    at = typed.index(str(context.info_name))
    return shlex.join(["afdplan", "--project", "none", *_without_profile(typed[at:]), *added])


def _without_profile(typed: list[str]) -> list[str]:
    kept, skip = [], False
    for word in typed:
        if skip or word == "--profile":
            skip = not skip
        elif not word.startswith("--profile="):
            kept.append(word)
    return kept


def command_with(name: str, parameters: Sequence[Parameter], *more: str) -> str:
    """Return the line of another command with the options that were given to this one.

    Parameters
    ----------
    name
        Of the other command.
    parameters
        Options that both have.
    more
        What else it is given.
    """
    context, words = click.get_current_context(), ["afdplan", name]
    for one in parameters:
        value = context.params.get(one.key)
        if (
            context.get_parameter_source(one.key) is not ParameterSource.DEFAULT
            and value is not None
        ):
            words += [one.option, str(value)]
    return shlex.join([*words, *more])


def documented(**parts: Any) -> dict[str, Any]:
    """Return the JSON document of a command, with the line that prints it again.

    Parameters
    ----------
    parts
        As of `afdplan.report.document.document`.
    """
    from afdplan.report.document import document

    return document(**parts) | {"command": command_line()}


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document on standard output."""
    from afdplan.report.document import to_json

    click.echo(to_json(document))


def tell(told: Telling, more: str = "--full adds", *, full: bool | None = None) -> None:
    """Print what is said of an answer on standard output: a screen of it, or all.

    Parameters
    ----------
    told
        The answer.
    more
        What brings that which a screen leaves out.
    full
        Whether all is printed; by default what --full says.
    """
    from rich.console import Console, Group
    from rich.text import Text

    from afdplan.report.brief import LINES, ending, to_brief
    from afdplan.report.tables import SCREEN
    from afdplan.report.telling import to_terminal

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    is_unicode = console.encoding.lower().startswith("utf")
    # What stands for a sign elsewhere may be a letter longer.
    width = max(console.width or SCREEN, NARROWEST) - 2 * (not is_unicode)
    console.width = width
    again, meta = command_line(), click.get_current_context().meta
    if full is None:
        full = meta.get(FULL, False)
    lines = LINES * SCREEN // min(width, SCREEN) - meta.get(WROTE, 0)
    shown_as = to_brief(told, again, width, more, lines)
    if full:
        shown_as = Group(to_terminal(told, width), Text(), *ending(told, again, width))
    with console.capture() as shown:
        console.print(shown_as, crop=False)  # a name in a command may be longer than a screen
    text = re.sub(" +$", "", shown.get(), flags=re.M)
    if not is_unicode:
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

    from afdplan.notice import listeners

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=1.0)

        def compiling(begins: bool) -> None:
            bar.update(task, description="compiling, once" if begins else what)
            bar.reset(task, total=None if begins else 1.0)

        listeners.append(compiling)
        try:
            yield lambda done: bar.update(task, completed=done)
        finally:
            listeners.remove(compiling)


@contextlib.contextmanager
def reading(path: str) -> Iterator[None]:
    """Tell a terminal which file is read meanwhile: millions of rows take a minute."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.text import Text

    from afdplan.report.quantities import plain

    with Console(stderr=True).status(Text(plain(f"reading {Path(path).name}"))):
        yield


def write_picture(path: str, figures: Sequence[Figure], heading: str, columns: int = 1) -> None:
    """Draw figures of one chart each, whole or not at all."""
    from afdplan.files.atomic import write_atomic
    from afdplan.plotting.picture import check_picture_name, draw_figures, picture_bytes

    drawn = draw_figures(figures, heading, columns)
    write_atomic(path, picture_bytes(drawn, check_picture_name(path)))


def write_report(path: str, page: Page, document: Mapping[str, Any]) -> None:
    """Write the page of a document whole or not at all, and say so on standard error."""
    from afdplan.files.atomic import write_atomic
    from afdplan.report.page import render_page

    whole = replace(page, document=document, command_line=command_line())
    write_atomic(path, render_page(whole))
    say_wrote(path)


def say_wrote(path: object) -> None:
    """Say on standard error which file was written; the text then has a line less."""
    click.echo(f"afdplan: wrote {path}", err=True)
    meta = click.get_current_context().meta
    meta[WROTE] = meta.get(WROTE, 0) + 1
