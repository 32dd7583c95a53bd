"""Which commands write pages and pictures, and how do these reach their files?"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from afdplan.plotting.figure import Figure
    from afdplan.report.page import Page

__all__ = [
    "around_option",
    "command_line",
    "plot_option",
    "report_option",
    "write_picture",
    "write_report",
]

Command = TypeVar("Command", bound=Callable[..., Any])


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
