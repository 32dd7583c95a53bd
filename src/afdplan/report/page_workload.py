"""What does the report page of `afdplan workload` say?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from afdplan.lengths.law import EmpiricalLengths
from afdplan.plotting.workload_figures import (
    drift_figure,
    joint_figure,
    load_figure,
    split_figure,
)
from afdplan.report.page import Fact, Page, Section, Table
from afdplan.workload.report import LawReport, WorkloadReport

if TYPE_CHECKING:
    from afdplan.lengths.law import LengthLaw
    from afdplan.plotting.figure import Figure

__all__ = ["workload_page"]


def workload_page(
    report: WorkloadReport | LawReport,
    law: LengthLaw,
    *,
    document: Mapping[str, Any],
    command_line: str,
) -> Page:
    """Return the page of a workload.

    Parameters
    ----------
    report, law
        What the requests look like, and their lengths.
    document
        The JSON document of the command.
    command_line
        What reproduces the page.
    """
    trace = report if isinstance(report, WorkloadReport) else None
    load, split, shortcut = report.token_load, report.split, report.geometric
    sections = [
        Section(
            title="What does a slot hold?",
            figures=(
                load_figure(law, load.value, {"geometric shortcut": shortcut.mean_token_load}),
            ),
            words=(
                f"The shortcut for independent prompts and geometric outputs would say "
                f"{shortcut.mean_token_load:,.0f} tokens "
                f"({100 * shortcut.mean_error_fraction:+.1f} %) and be "
                f"{100 * shortcut.variance_error_fraction:+.1f} % off in the variance.",
            ),
        ),
        Section(
            title="Where does the load come from?",
            words=(
                f"Prompts give {split.prompt:,.0f} tokens, outputs so far {split.growth:,.0f}, "
                f"{_dependence(split.dependence)}.",
            ),
            figures=(split_figure(split),),
        ),
    ]
    if trace is not None:
        drift = drift_figure(trace.drift, load)
        sections.append(
            Section(
                title="Does it drift?",
                words=(_drift_words(trace),),
                figures=() if drift is None else (drift,),
                tables=() if drift is None else (_drift_table(trace),),
            )
        )
    lengths = _length_table(report)
    joint: tuple[Figure, ...] = ()
    if trace is not None and isinstance(law, EmpiricalLengths):
        joint = (joint_figure(law, trace.rank_correlation),)
    sections.append(Section(title="How long are requests?", figures=joint, tables=(lengths,)))
    notes = () if trace is None else trace.notes
    return Page(
        title="afdplan workload",
        subject=report.name
        if isinstance(report, LawReport)
        else f"{report.source}, {report.requests:,} requests",
        answer=_sentence(report),
        facts=_facts(report),
        sections=tuple(sections),
        warnings=report.warnings,
        assumptions=(
            "A slot is always occupied; a finished request is replaced at once.",
            "In its step i a request holds its prompt and i tokens of output.",
            *notes,
        ),
        document=document,
        command_line=command_line,
    )


def _dependence(tokens: float) -> str:
    if tokens < 0:
        return (
            f"and that the slots with long outputs hold shorter prompts takes {-tokens:,.0f} away"
        )
    return f"and that the slots with long outputs hold longer prompts adds {tokens:,.0f}"


def _sentence(report: WorkloadReport | LawReport) -> str:
    load = report.token_load
    text = f"One occupied slot holds {load.value:,.0f} KV tokens on average"
    if load.low < load.high:
        text += (
            f", {load.low:,.0f} to {load.high:,.0f} with {100 * load.confidence:.4g} % confidence"
        )
    if isinstance(report, LawReport) or not report.drift.windows:
        return text + "."
    drifts = "and it drifts" if report.drift.exceeds_interval else "with no drift beyond that"
    return f"{text}, {drifts}."


def _facts(report: WorkloadReport | LawReport) -> tuple[Fact, ...]:
    load = report.token_load
    facts = [
        Fact(
            name="Mean token load",
            value=f"{load.value:,.1f} tokens",
            remark="exact"
            if load.confidence == 1
            else f"+/- {100 * load.relative_half_width:.1f} %",
        ),
        Fact(
            name="Spread of a slot",
            value=f"{report.token_load_std:,.1f} tokens",
            remark="standard deviation",
        ),
        Fact(
            name="Prompt",
            value=f"{report.prompt.mean:,.1f} tokens",
            remark=f"mean; p99 {report.prompt.quantiles[99]:,}",
        ),
        Fact(
            name="Output",
            value=f"{report.decode.mean:,.1f} tokens",
            remark=f"mean; p99 {report.decode.quantiles[99]:,}",
        ),
    ]
    if isinstance(report, WorkloadReport):
        precision = report.precision
        facts.append(
            Fact(
                name="Worth",
                value=f"{precision.effective_requests:,.0f} requests",
                remark=f"independent ones, of {report.requests:,}",
            )
        )
        if report.arrivals is not None and report.arrivals.duration > 0:
            facts.append(
                Fact(
                    name="Arrivals",
                    value=f"{report.arrivals.rate:.3g} per s",
                    remark="gaps vary by "
                    f"{report.arrivals.interarrival_variation:.2f} of their mean (Poisson 1)",
                )
            )
    return tuple(facts)


def _drift_words(report: WorkloadReport) -> str:
    drift = report.drift
    if not drift.windows:
        return "The trace has too few requests to be cut into windows."
    chance = "below 0.001" if drift.probability < 0.001 else f"{drift.probability:.3f}"
    return (
        f"Beyond sampling noise the windows' means spread by {drift.std:,.0f} tokens (standard "
        f"deviation); the chance of such differences without drift is {chance}."
    )


def _drift_table(report: WorkloadReport) -> Table:
    from afdplan.plotting.workload import drift_data

    data = drift_data(report.drift)
    unit = "" if data.unit == "requests" else f" [{data.unit}]"
    return Table(
        caption="The windows in numbers",
        headers=(f"from{unit}", f"to{unit}", "requests", "mean token load", "interval"),
        rows=[
            (
                f"{start:,.5g}",
                f"{end:,.5g}",
                f"{window.requests:,}",
                f"{window.token_load.value:,.0f}",
                f"{window.token_load.low:,.0f} to {window.token_load.high:,.0f}",
            )
            for start, end, window in zip(data.start, data.end, report.drift.windows, strict=True)
        ],
    )


def _length_table(report: WorkloadReport | LawReport) -> Table:
    shown = tuple(report.prompt.quantiles)
    return Table(
        caption="Lengths in tokens",
        headers=("length", "mean", "std", "min", *(f"p{q}" for q in shown), "max"),
        rows=[
            (
                name,
                f"{summary.mean:,.1f}",
                f"{summary.std:,.1f}",
                f"{summary.minimum:,}",
                *(f"{summary.quantiles[q]:,}" for q in shown),
                f"{summary.maximum:,}",
            )
            for name, summary in (("prompt", report.prompt), ("output", report.decode))
        ],
        is_open=True,
    )
