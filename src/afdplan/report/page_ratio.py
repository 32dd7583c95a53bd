"""What does the report page of `afdplan ratio` say?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from afdplan.plotting.bottleneck_figure import bottleneck_figure
from afdplan.plotting.ratio_figures import (
    case_key,
    curve_figure,
    sensitivity_figure,
    time_figure,
)
from afdplan.plotting.workload_figures import slot_figures
from afdplan.report.effects import effect_sections
from afdplan.report.page import CaseWords, Page, Section
from afdplan.report.page_bundle import (
    batch_choices,
    map_tables,
    placement_sections,
    played_sections,
)
from afdplan.report.quantities import interval, number
from afdplan.report.ratio import case_sentence, certainty, cost_words, idle_words, resource_words
from afdplan.report.ratio_day import day_section
from afdplan.report.ratio_tables import case_table, curve_table, sensitivity_table

if TYPE_CHECKING:
    from afdplan.planning.ratio_answer import RatioAnswer
    from afdplan.planning.ratio_around import RatioAround
    from afdplan.planning.ratio_grid import RatioCase
    from afdplan.report.telling import Telling
    from afdplan.theory.problem import RatioProblem
    from afdplan.theory.ratio import RatioRecommendation
    from afdplan.workload.report import WorkloadReport

__all__ = ["answered_page", "ratio_page"]


def answered_page(answer: RatioAnswer, told: Telling) -> Page:
    """Return the page of an answer that was asked with what stands around it."""
    assert answer.around is not None
    return ratio_page(
        told,
        answer.recommendation,
        answer.question.problem,
        answer.around,
        workload=answer.question.workload.report,
        over_clock=() if answer.day is None else [day_section(answer.day)],
    )


def ratio_page(
    told: Telling,
    answer: RatioRecommendation,
    problem: RatioProblem,
    around: RatioAround,
    *,
    workload: WorkloadReport | None = None,
    over_clock: Sequence[Section] = (),
) -> Page:
    """Return the page of a recommended ratio.

    Parameters
    ----------
    told
        What `ratio_told` says of the answer.
    answer, problem
        What was recommended, for which question.
    around
        What stands around it.
    workload
        What the trace is like, if there is one.
    over_clock
        The ratio window by window, if it was asked for.
    """
    unit = problem.latency.time_unit
    cases, maps = around.cases, around.maps
    is_played = cases[0].objectives is not None
    asked = f"{problem.batch_size}|{problem.microbatches}"
    asked_for = f"B = {problem.batch_size:,}, m = {problem.microbatches}"
    of = f", {asked_for}"

    def each(sentence: Callable[[RatioCase], str]) -> CaseWords:
        return CaseWords(texts={case_key(case): sentence(case) for case in cases}, first=asked)

    return Page(
        title=f"afdplan ratio: {answer.bundle.attention_workers} to {answer.bundle.ffn_workers}",
        told=told,
        choices=batch_choices(cases, problem, "asked"),
        choice_answers={case_key(case): case_sentence(case, problem) for case in cases},
        sections=(
            Section(
                title="What do other numbers of workers give?",
                words=(cost_words(problem.ffn_weight),),
                figures=(curve_figure(cases, problem, around.bands, known=answer.uncertainty),),
                tables=(curve_table(answer, unit, of=of), case_table(cases, problem)),
            ),
            *placement_sections(told, f"For {asked_for}, as asked: "),
            *effect_sections(told, f"For {asked_for}, as asked: "),
            *over_clock,
            Section(
                title="What binds?",
                words=(each(lambda case: resource_words(case, unit)),),
                figures=(bottleneck_figure(maps, unit),),
                tables=map_tables(maps),
            ),
            Section(
                title="Where does the time go?",
                words=(each(idle_words),),
                figures=(time_figure(cases),),
            ),
            *played_sections(
                around.played,
                answer.best.attention_idle_fraction,
                answer.best.ffn_idle_fraction,
                "the search" if is_played else "theory",
            ),
            Section(
                title="What does a slot hold?",
                figures=slot_figures(problem.law, answer.mean_token_load, workload),
            ),
            Section(
                title="How sure is it?",
                words=(
                    f"For {asked_for}, as asked:",
                    *(
                        (played_certainty(cases, asked),)
                        if is_played
                        else (f.value for f in certainty(answer, problem.latency.time_unit))
                    ),
                ),
                figures=(sensitivity_figure(around.sensitivities),),
                tables=(sensitivity_table(around.sensitivities, of),),
            ),
        ),
    )


def played_certainty(cases: Sequence[RatioCase], asked: str) -> str:
    """Return how sure a played answer is, and of what it says nothing."""
    case = next(one for one in cases if case_key(one) == asked)
    assert case.objectives is not None
    best = case.objectives[case.best.attention_workers]
    return (
        f"A few ratios were played on the same requests: the best gives {number(best.value)} "
        f"tokens per time and cost ({interval(best)}, 95 %). Numbers of workers between them, and "
        "how far the requests themselves or the latency model are known, are not in that interval."
    )
