"""What does the report page of `afdplan sweep` say?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from afdplan.plotting.sweep_figures import study_figures
from afdplan.report.page import Page, Section
from afdplan.report.quantities import sentence
from afdplan.report.sweep import (
    best_fixed,
    best_table,
    reason_table,
    regret_table,
    summary_told,
    window_facts,
    window_table,
)
from afdplan.studies.summary import StudySummary

__all__ = ["summary_page"]


def summary_page(summary: StudySummary) -> Page:
    """Return the page of a study's results.

    Parameters
    ----------
    summary
        What the results say.
    """
    return Page(
        title="afdplan sweep",
        told=replace(summary_told(summary), facts=tuple(best_fixed(summary))),
        sections=tuple(_sections(summary)),
    )


def _sections(summary: StudySummary) -> Iterator[Section]:
    figures = study_figures(summary) if summary.series or summary.regrets else ()
    if summary.series:
        verdicts = [next(window_facts(one)) for one in summary.series]
        yield Section(
            title="Does one ratio fit all windows?",
            words=tuple(
                sentence(": ".join(filter(None, (fact.remark, fact.value)))) for fact in verdicts
            ),
            figures=figures,
            tables=(window_table(summary.series),),
        )
        figures = ()
    if summary.best and (summary.choices or not summary.series):
        yield Section(title="What is best?", tables=(best_table(summary),))
    if summary.regrets:
        yield Section(
            title="What does it cost to fix one choice?",
            figures=figures,
            tables=(regret_table(summary),),
        )
    if summary.reasons:
        yield Section(title="Which cases have no answer?", tables=(reason_table(summary),))
