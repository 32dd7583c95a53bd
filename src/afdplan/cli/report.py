"""Which commands write a report page, and how does it reach its file?"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from afdplan.report.page import Page

__all__ = ["command_line", "report_option", "tracked", "write_report"]

Command = TypeVar("Command", bound=Callable[..., Any])
Item = TypeVar("Item")


def _check_name(_: click.Context, __: click.Parameter, path: str | None) -> str | None:
    if path is not None and Path(path).suffix.lower() not in (".html", ".htm"):
        raise click.BadParameter(f"a report's name must end in .html, got {path!r}")
    return path


def report_option(command: Command) -> Command:
    """Add --report FILE.html."""
    return click.option(
        "--report",
        metavar="FILE",
        callback=_check_name,
        help="Write a page with figures to one self-contained .html file.",
    )(command)


def command_line() -> str:
    """Return what was typed, quoted for a shell: it reproduces the page."""
    return shlex.join(["afdplan", *sys.argv[1:]])


def tracked(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Yield the items; on a terminal a bar on standard error shows how far they are."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    if not console.is_terminal:
        yield from items
        return
    yield from track(items, what, total=total, console=console, transient=True)


def write_report(path: str, page: Page) -> None:
    """Write the page whole or not at all, and say so on standard error."""
    from afdplan.files.atomic import write_atomic
    from afdplan.report.page import render_page

    write_atomic(path, render_page(page))
    click.echo(f"afdplan: wrote {path}", err=True)
