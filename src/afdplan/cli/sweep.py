"""What do thousands of cases say, from one declared file?"""

from __future__ import annotations

import os
import shlex
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from afdplan.cli.options import options
from afdplan.cli.report import (
    documented,
    json_option,
    plot_option,
    print_json,
    report_option,
    tell,
    write_picture,
    write_report,
)
from afdplan.model.parameter import count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from afdplan.files.results.dataset import ResultsDataset
    from afdplan.studies.engine import Engine
    from afdplan.studies.run import Tally
    from afdplan.studies.study import Study
    from afdplan.studies.summary import StudySummary

__all__ = ["command"]

EXAMPLES = """\b
Examples:
  afdplan sweep study.toml --dry-run
  afdplan sweep study.toml -o results/ --report results.html
  afdplan sweep study.toml -o results/ --resume --engine ray --address auto
  afdplan sweep --summary results/ --plot results.png
"""


@click.command("sweep", epilog=EXAMPLES)
@click.argument("study", required=False)
@click.option("-o", "--output", metavar="FOLDER", help="Where the results go.")
@click.option("--dry-run", is_flag=True, help="Check everything, tell cost and size, run nothing.")
@click.option("--resume", is_flag=True, help="Run only what is missing or failed.")
@options(count("workers", "Processes; by default every core.", maximum=100_000, metavar="N"))
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Processes of this machine, or a Ray cluster.",
)
@click.option("--address", metavar="HOST:PORT", help="Ray cluster: auto, HOST:PORT or ray://...")
@click.option("--summary", metavar="FOLDER", help="Tell what results say.")
@click.option("--by", metavar="NAMES", help="Inputs that define a group of the summary: a,b.")
@plot_option("the summary")
@report_option
@json_option
def command(
    study: str | None,
    output: str | None,
    dry_run: bool,
    resume: bool,
    workers: int | None,
    engine: str,
    address: str | None,
    summary: str | None,
    by: str | None,
    plot: str | None,
    report: str | None,
    as_json: bool,
) -> None:
    """Run a study of many cases, or tell what its results say."""
    if summary is not None:
        if study is not None or output is not None or dry_run or resume:
            raise click.UsageError("--summary reads results: give it alone, without a study")
        _summarize(summary, _names(by), plot, report, as_json)
        return
    if study is None:
        raise click.UsageError("give a study file, or --summary FOLDER")
    if dry_run and not by == plot == report is None:
        raise click.UsageError("--by, --plot and --report show results: --dry-run has none")
    if by is not None and plot is None and report is None:
        raise click.UsageError("--by belongs to --summary FOLDER, --plot or --report")
    if output is None and not dry_run:
        raise click.UsageError("say where the results go: -o FOLDER (or --dry-run)")
    if address is not None and engine != "ray":
        raise click.UsageError("--address belongs to --engine ray")
    if workers is not None and engine == "local":  # a cluster has more than one machine
        from afdplan.model.checks import check_count
        from afdplan.processes import MOST_PROCESSES

        check_count("--workers", workers, 1, MOST_PROCESSES)
    # The workers are the parallelism: threads of this process would cost memory and time of theirs.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    from afdplan.studies.definition import load_study

    loaded, groups = load_study(study), _names(by)
    if dry_run:
        _dry_run(loaded, study, workers, as_json)
        return
    from afdplan.studies.summary import check_groups

    check_groups(groups or (), loaded.compute)  # before hours of work
    if plot is not None and not loaded.varied:
        raise click.UsageError("--plot draws what varies, and nothing does: leave it out")
    start = _engine_of(engine, workers, address)
    tally = _run(loaded, study, str(output), resume, start, as_json)
    if plot is not None or report is not None:
        _shown(str(output), groups, plot, report)
    if tally.failed:
        from afdplan.errors import AfdplanError

        raise AfdplanError(
            f"{tally.failed:,} of {tally.cases:,} cases failed "
            f"({tally.reasons.get('failed', 'see the column reason')}): try them again "
            "with --resume"
        )


def _names(by: str | None) -> list[str] | None:
    return None if by is None else [name.strip() for name in by.split(",") if name.strip()]


def _engine_of(name: str, workers: int | None, address: str | None) -> Callable[[Study], Engine]:
    def start(study: Study) -> Engine:
        if name == "ray":
            from afdplan.studies.ray_engine import RayEngine

            return RayEngine(study, workers, address)
        from afdplan.studies.local_engine import LocalEngine

        return LocalEngine(study, workers)

    return start


def _dry_run(study: Study, path: str, workers: int | None, as_json: bool) -> None:
    from afdplan.processes import available_cores
    from afdplan.studies.forecast import forecast
    from afdplan.studies.local_engine import LocalEngine

    count = workers or available_cores()
    engine = LocalEngine(study, 1)
    try:
        cost = forecast(study, engine, study.cases, count)
    finally:
        engine.close()
    if as_json:
        answer = {"cases": study.cases, "workers": count, "forecast": cost}
        _print_json(study.time_unit, _inputs(study, path), study.warnings, answer)
        return
    from afdplan.report.sweep import forecast_told

    line = shlex.join(["afdplan", "sweep", path, "-o", "results"])
    tell(replace(forecast_told(study, cost, count), following=line))


def _run(
    study: Study,
    path: str,
    output: str,
    resume: bool,
    start: Callable[[Study], Engine],
    as_json: bool,
) -> Tally:
    from afdplan.report.sweep import cost_line, tally_told
    from afdplan.studies.forecast import forecast
    from afdplan.studies.run import run_study

    # First, so that a cluster that does not answer leaves no folder behind.
    engine = start(study)
    try:
        results, done, tally = _results(study, path, output, resume)
        try:
            left = study.cases - len(done)
            if left:
                cost = forecast(study, engine, left, engine.workers)
                click.echo(cost_line(left, cost, engine.workers), err=True)
                with _progress(tally) as report:
                    tally = run_study(
                        study,
                        engine,
                        results,
                        done=done,
                        tally=tally,
                        seconds_per_case=None if cost is None else cost.seconds_per_case,
                        report=report,
                    )
        except KeyboardInterrupt:
            click.echo(
                f"afdplan: interrupted; {tally.finished:,} of {tally.cases:,} cases are kept: "
                "continue with --resume",
                err=True,
            )
            click.get_current_context().exit(130)
        finally:
            results.close()
    finally:
        engine.close()
    if as_json:
        answer = {
            "cases": tally.cases,
            "done": tally.finished - tally.refused - tally.failed,
            "refused": tally.refused,
            "failed": tally.failed,
            "worker_deaths": tally.deaths,
            "results": output,
            "bytes": results.size,
        }
        warnings = [*study.warnings, *(f"{s}: {reason}" for s, reason in tally.reasons.items())]
        _print_json(study.time_unit, _inputs(study, path), warnings, answer)
    else:
        tell(tally_told(tally, output, results.size, study.warnings))
    return tally


def _results(
    study: Study, path: str, output: str, resume: bool
) -> tuple[ResultsDataset, Any, Tally]:
    from pathlib import Path

    from afdplan.errors import InvalidInputError
    from afdplan.files.document import is_there
    from afdplan.studies.case_set import CaseSet
    from afdplan.studies.run import Tally, new_results, resume_results

    exists = is_there(Path(output) / "manifest.json")
    if resume and exists:
        return resume_results(study, output)
    if exists:
        raise InvalidInputError(
            f"{output} already holds results: add --resume to run what is missing, or name "
            "another folder"
        )
    results = new_results(study, output, _facts(path))
    return results, CaseSet(study.cases), Tally(cases=study.cases)


def _facts(path: str) -> dict[str, Any]:
    """Return what makes the study reproducible besides afdplan itself."""
    import platform
    from importlib.metadata import version

    from afdplan.files.study_file import read_study_file

    document = read_study_file(path)
    return {
        "study": document.whole,
        "study_file": path,
        "folder": str(document.folder),
        "environment": {
            "python": platform.python_version(),
            "machine": platform.machine(),
            **{name: version(name) for name in ("numpy", "scipy", "numba", "polars")},
        },
    }


@contextmanager
def _progress(tally: Tally) -> Iterator[Callable[[Tally], None]]:
    """Show a bar with rate, remaining time and failures on standard error."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from afdplan.report.sweep import rate, trouble

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda _: None
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[trouble]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(
            "", total=tally.cases, completed=tally.finished, rate="", trouble=""
        )

        def report(now: Tally) -> None:
            speed = progress.tasks[0].speed
            progress.update(
                task,
                completed=now.finished,
                rate="" if speed is None else rate(speed),
                trouble=trouble(now),
            )

        yield report


def _summarize(
    folder: str, by: list[str] | None, plot: str | None, report: str | None, as_json: bool
) -> None:
    found, document = _shown(folder, by, plot, report)
    if as_json:
        print_json(document)
        return
    from afdplan.report.sweep import summary_told

    line = shlex.join(["afdplan", "sweep", "--summary", folder, "--report", "study.html"])
    tell(replace(summary_told(found), following="" if report else line))


def _shown(
    folder: str, by: list[str] | None, plot: str | None, report: str | None
) -> tuple[StudySummary, dict[str, Any]]:
    """Return what results say and its document, drawn and written as a page where asked for."""
    from afdplan.files.results.dataset import ResultsDataset
    from afdplan.report.sweep import summary_answer
    from afdplan.studies.summary import summarize

    found = summarize(ResultsDataset.open(folder), by)
    document = documented(
        time_unit=found.time_unit,
        inputs={"results": folder, "by": by},
        warnings=found.warnings,
        answer=summary_answer(found),
    )
    if report is not None:
        from afdplan.report.page_sweep import summary_page

        write_report(report, summary_page(found), document)
    if plot is not None:
        from afdplan.plotting.sweep_figures import study_figures

        write_picture(plot, study_figures(found), found.name)
    return found, document


def _inputs(study: Study, path: str) -> dict[str, Any]:
    return {"study": path, "name": study.name, "compute": study.compute, "varied": study.varied}


def _print_json(unit: Any, inputs: dict[str, Any], warnings: Any, answer: dict[str, Any]) -> None:
    text = documented(time_unit=unit, inputs=inputs, warnings=warnings, answer=answer)
    print_json(text)
