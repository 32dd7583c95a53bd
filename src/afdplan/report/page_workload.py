"""What does the report page of `afdplan workload` say?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afdplan.plotting.workload_figures import workload_figures
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
    from afdplan.report.telling import Telling

__all__ = ["workload_page"]


def workload_page(
    told: Telling,
    report: WorkloadReport | LawReport,
    law: LengthLaw,
) -> Page:
    """Return the page of a workload.

    Parameters
    ----------
    told
        What `workload_told` says of the requests.
    report, law
        What the requests look like, and their lengths.
    """
    trace = report if isinstance(report, WorkloadReport) else None
    figures = {figure.identifier: (figure,) for figure in workload_figures(report, law)}
    sections = [
        Section(
            title="What does a slot hold?",
            figures=figures["load"],
            words=(shortcut_words(report),),
        ),
        Section(
            title="Where does the load come from?",
            words=(split_words(report),),
            figures=figures["split"],
            tables=(split_table(report),),
        ),
    ]
    if trace is not None:
        sections.append(
            Section(
                title="Does it drift?",
                words=(drift_words(trace.drift),),
                figures=figures.get("drift", ()),
                tables=(drift_table(trace.drift),) if "drift" in figures else (),
            )
        )
    lengths = figures.get("joint", ())
    sections.append(
        Section(title="How long are requests?", figures=lengths, tables=(length_table(report),))
    )
    return Page(title="afdplan workload", told=told, sections=tuple(sections))
