"""Why should I believe you? Theory beside simulation, publications and measurements."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from afdplan.cli.options import options
from afdplan.cli.report import (
    documented,
    json_flag,
    plot_option,
    print_json,
    report_option,
    tell,
    write_picture,
    write_report,
)
from afdplan.model import parameters as ask
from afdplan.model.parameter import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from afdplan.model.parameters import Execution

__all__ = ["command"]

EXAMPLES = """\b
Examples:
  afdplan validate
  afdplan validate simulation --traces my-traces/
  afdplan validate all --full --resume validation.jsonl --traces my-traces/
  afdplan validate --execution barrier-free
  afdplan validate --report evidence.html
"""


@click.command("validate", epilog=EXAMPLES)
@click.argument(
    "part",
    type=click.Choice(["paper", "simulation", "published", "all"]),
    default="all",
)
@options(
    ask.EXECUTION.changed(
        help="Hold the theory with the barrier against them, or without (no paper)."
    )
)
@click.option("--traces", metavar="DIR", help="Folder of request traces to try the theory on.")
@click.option("--full", is_flag=True, help="Everything, not the selection of a minute.")
@click.option("--effects", is_flag=True, help="Scatter, experts, busy transfers, A < F, too.")
@click.option(
    "--resume",
    metavar="FILE",
    help="Keep finished simulations here; a later run goes on where this one ended.",
)
@options(count("jobs", "Processes; by default one per core.", maximum=256))
@click.option("--markdown", metavar="FILE", help="Write the tables to a Markdown file as well.")
@plot_option("every figure of the page")
@report_option
@json_flag
def command(
    part: str,
    execution: Execution,
    traces: str | None,
    full: bool,
    effects: bool,
    resume: str | None,
    jobs: int | None,
    markdown: str | None,
    plot: str | None,
    report: str | None,
    as_json: bool,
) -> None:
    """Hold the theory against the paper, against simulation and against measured systems.

    Exit code 1 if a declared band does not hold.
    """
    from afdplan.processes import available_cores
    from afdplan.report.validate import (
        markdown_page,
        validation_answer,
        validation_told,
    )
    from afdplan.report.validation_words import verdict_error
    from afdplan.validation.laboratory import Laboratory
    from afdplan.validation.run import PARTS, validate

    parts = PARTS if part == "all" else tuple(name for name in PARTS if name == part)
    _check_together(part, parts, execution, traces, effects=effects)
    given = None
    if traces is not None:
        from afdplan.validation.traces import read_traces

        given = read_traces(traces)
    with (
        _progress() as progress,
        Laboratory(jobs=jobs or available_cores(), memory=resume, progress=progress) as laboratory,
    ):
        result = validate(
            parts, laboratory, traces=given, full=full, effects=effects, execution=execution
        )
    if markdown is not None:
        from afdplan.files.atomic import write_atomic

        write_atomic(markdown, markdown_page(result).encode())
    told = validation_told(result, traces)
    way = "" if execution == "synchronous" else f" --execution {execution}"
    answered = documented(
        time_unit="abstract",
        inputs={
            "part": part,
            "execution": execution,
            "traces": traces,
            "full": full,
            "effects": effects,
            "resume": resume,
        },
        warnings=told.warnings,
        answer=validation_answer(result),
    )
    if report is not None or plot is not None:
        from afdplan.report.page_validate import validation_page

        page = validation_page(told, result)
        figures = [figure for section in page.sections for figure in section.figures]
        if plot is not None:
            write_picture(plot, figures, told.subject, columns=2 if len(figures) > 2 else 1)
        if report is not None:
            write_report(report, page, answered)
    if as_json:
        print_json(answered)
    else:
        following = f"afdplan validate {part}{way} --report evidence.html"
        if report is not None:  # it is written: what is left is all of it
            following = "" if full else f"afdplan validate {part}{way} --full"
        tell(
            replace(told, following=following),
            "--full computes all of it; --markdown FILE has",
            full=full,
        )
    if result.broken:
        raise verdict_error(result)


def _check_together(
    part: str, parts: tuple[str, ...], execution: str, traces: str | None, *, effects: bool
) -> None:
    """Refuse options that do not go together."""
    if part == "paper" and execution == "barrier-free":
        raise click.UsageError("the paper has no bundle without a barrier: leave one of them out")
    if traces is not None and "simulation" not in parts:
        raise click.UsageError(f"--traces belongs to the part simulation, not to {part}")
    if effects and "simulation" not in parts:
        raise click.UsageError(f"--effects belongs to the part simulation, not to {part}")
    if effects and execution == "barrier-free":
        raise click.UsageError("--effects are of bundles with a barrier: leave one of them out")


def _progress() -> Any:
    """Return a context that shows how many simulations are done, on standard error."""
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    @contextmanager
    def show() -> Iterator[Any]:
        console = Console(stderr=True)
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,  # elsewhere it would leave an empty line
        )
        with bar:
            task = bar.add_task("simulations", total=None)
            seen = [0, 0]  # finished and wanted by earlier batches

            def report(done: int, wanted: int) -> None:
                if done == 0:
                    seen[0] += seen[1]
                seen[1] = wanted
                bar.update(task, completed=seen[0] + done, total=seen[0] + wanted)

            yield report

    return show()
