"""What do my requests look like to an AFD bundle?"""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from afdplan.cli.options import options, resolve_workload, workload_inputs, workload_options
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

__all__ = ["command"]

LATENCY = ("--model", "deepseek-v3", "--hardware", "h200", "--batch-size", "128")
"""Of the command that is told to come next."""


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
    if workload.trace is not None:
        line = shlex.join(["afdplan", "ratio", "--trace", given["trace"], *LATENCY])
        told = replace(told, following=line)
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
