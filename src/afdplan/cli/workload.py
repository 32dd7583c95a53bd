"""What do my requests look like to an AFD bundle?"""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from afdplan.cli.options import (
    option_name,
    options,
    resolve_workload,
    workload_inputs,
    workload_options,
)
from afdplan.cli.passes import told_passes
from afdplan.cli.project import ProjectCommand
from afdplan.cli.report import (
    documented,
    json_option,
    plot_option,
    print_json,
    report_option,
    say_wrote,
    tell,
    write_picture,
    write_report,
)
from afdplan.model import parameters as ask

if TYPE_CHECKING:
    from afdplan.workload.report import LawReport, WorkloadReport
    from afdplan.workload.requests import Workload

__all__ = ["command"]

MODEL, HARDWARE, BATCH_SIZE = "deepseek-v3", "h200", 128
"""Of the command that is told to come next; a smaller batch where that does not fit."""


@click.command("workload", cls=ProjectCommand)
@click.argument("trace_file", metavar="[TRACE]", required=False)
@workload_options
@options(ask.CONFIDENCE)
@plot_option("the workload")
@report_option
@json_option
def command(
    trace_file: str | None,
    confidence: float,
    plot: str | None,
    report: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Say what the requests of TRACE look like to an AFD bundle.

    The mean token load of a slot with an interval that respects dependence, where it comes from,
    how it drifts, and what to be careful with.
    """
    if trace_file is not None and given["trace"] is not None:
        raise click.UsageError("give the trace once: as TRACE or as --trace FILE")
    if told_passes(trace_file or given["trace"], plot or report, confidence, as_json):
        return
    given["trace"] = trace_file or given["trace"]
    workload = resolve_workload(given, confidence)

    from afdplan.workload.description import describe_law, describe_workload

    inputs = workload_inputs(given, workload)
    described: LawReport | WorkloadReport
    if workload.trace is not None:
        # Without a report the trace is too short, and the description says so.
        described = workload.report or describe_workload(workload.trace, confidence)
        inputs["confidence"] = confidence
    else:
        described = describe_law(workload.law)
    if plot is not None:
        from afdplan.plotting.workload_figures import workload_figures

        load = described.token_load.value
        heading = (
            f"{workload.law.name}: {load:,.0f} tokens per slot on average, standard deviation "
        )
        figures = workload_figures(described, workload.law)
        write_picture(plot, figures, heading + f"{described.token_load_std:,.0f}", columns=2)
        say_wrote(plot)
        inputs["plot"] = plot
    from afdplan.report.workload import workload_answer, workload_told

    told = workload_told(described)
    if workload.trace is not None and (report is not None or not as_json):
        told = replace(told, following=_ratio_of(workload, given["trace"]))
    if as_json or report is not None:
        answer = workload_answer(described)
        answered = documented(
            time_unit="s", inputs=inputs, warnings=described.warnings, answer=answer
        )
        if report is not None:
            from afdplan.report.page_workload import workload_page

            write_report(report, workload_page(told, described, workload.law), answered)
        if as_json:
            print_json(answered)
            return
    tell(told)


def _ratio_of(workload: Workload, trace: str) -> str:
    """Return the line that asks for the ratio, with a batch that fits; nothing where none does."""
    from afdplan.calibration.latency_choice import LatencyChoice
    from afdplan.planning.memory_limit import memory_limit

    choice = LatencyChoice.of({"model": MODEL, "hardware": HARDWARE}, option_name)
    memory = choice.placement(batch_size=BATCH_SIZE, ffn_workers=1).memory()
    limit = None if memory is None else memory_limit(workload.law, memory, BATCH_SIZE)
    most = 0 if limit is None else limit.largest_batch_size(ask.MICROBATCHES.default)
    if not most:
        return ""
    named = ("--model", MODEL, "--hardware", HARDWARE, "--batch-size", min(most, BATCH_SIZE))
    return shlex.join(["afdplan", "ratio", "--trace", trace, *map(str, named)])
