"""What does the report page of `afdplan workload` say?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from afdplan.lengths.law import EmpiricalLengths
from afdplan.plotting.workload_figures import drift_figure, joint_figure, load_figure, split_figure
from afdplan.report.page import Page, Section
from afdplan.report.workload import (
    drift_table,
    drift_words,
    length_table,
    shortcut_words,
    split_table,
    split_words,
)
from afdplan.workload.report import LawReport, WorkloadReport

if TYPE_CHECKING:
    from afdplan.lengths.law import LengthLaw
    from afdplan.plotting.figure import Figure
    from afdplan.report.telling import Telling

__all__ = ["workload_page"]


def workload_page(
    told: Telling,
    report: WorkloadReport | LawReport,
    law: LengthLaw,
    *,
    document: Mapping[str, Any],
    command_line: str,
) -> Page:
    """Return the page of a workload.

    Parameters
    ----------
    told
        What `workload_told` says of the requests.
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
            words=(shortcut_words(report),),
        ),
        Section(
            title="Where does the load come from?",
            words=(split_words(report),),
            figures=(split_figure(split),),
            tables=(split_table(report),),
        ),
    ]
    if trace is not None:
        drift = drift_figure(trace.drift, load)
        sections.append(
            Section(
                title="Does it drift?",
                words=(drift_words(trace.drift),),
                figures=() if drift is None else (drift,),
                tables=() if drift is None else (drift_table(trace.drift),),
            )
        )
    joint: tuple[Figure, ...] = ()
    if trace is not None and isinstance(law, EmpiricalLengths):
        joint = (joint_figure(law, trace.rank_correlation),)
    sections.append(
        Section(title="How long are requests?", figures=joint, tables=(length_table(report),))
    )
    return Page(
        title="afdplan workload",
        told=told,
        sections=tuple(sections),
        document=document,
        command_line=command_line,
    )
