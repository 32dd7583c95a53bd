"""What does the report page of `afdplan ratio` say?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from afdplan.plotting.bottleneck_map import bottleneck_figure, bottleneck_maps
from afdplan.plotting.ratio_figures import (
    BATCH_SIZE,
    MICROBATCHES,
    case_key,
    cost_formula,
    curve_figure,
    sensitivity_figure,
    time_figure,
)
from afdplan.plotting.workload_figures import load_figure
from afdplan.report.page import CaseWords, Choice, Page, Section
from afdplan.report.page_bundle import map_tables, played_sections
from afdplan.report.ratio import (
    case_sentence,
    case_table,
    certainty,
    cost_words,
    curve_table,
    idle_words,
    resource_words,
    sensitivity_table,
)

if TYPE_CHECKING:
    from afdplan.planning.played import PlayedBundle
    from afdplan.planning.ratio_grid import RatioCase
    from afdplan.planning.ratio_sensitivity import CurveBand, RatioSensitivity
    from afdplan.plotting.figure import Figure
    from afdplan.report.telling import Telling
    from afdplan.theory.problem import RatioProblem
    from afdplan.theory.ratio import RatioRecommendation

__all__ = ["ratio_page"]


def ratio_page(
    told: Telling,
    answer: RatioRecommendation,
    problem: RatioProblem,
    cases: Sequence[RatioCase],
    *,
    bands: Sequence[CurveBand],
    sensitivities: Sequence[RatioSensitivity],
    document: Mapping[str, Any],
    command_line: str,
    played: PlayedBundle | None = None,
    drift: Figure | None = None,
) -> Page:
    """Return the page of a recommended ratio.

    Parameters
    ----------
    told
        What `ratio_told` says of the answer.
    answer, problem
        What was recommended, for which question.
    cases, bands, sensitivities
        What `ratio_grid`, `curve_bands` and `ratio_sensitivity` found around it.
    document
        The JSON document of the command.
    command_line
        What reproduces the page.
    played
        Short runs of the recommended bundle; None if they would take too long.
    drift
        How the load moves over the trace, if there is one.
    """
    unit = problem.latency.time_unit
    load = load_figure(problem.law, answer.mean_token_load)
    maps = bottleneck_maps(cases)
    asked = f"{problem.batch_size}|{problem.microbatches}"
    asked_for = f"B = {problem.batch_size:,}, m = {problem.microbatches}"
    of = f", {asked_for}"

    def each(sentence: Callable[[RatioCase], str]) -> CaseWords:
        return CaseWords(texts={case_key(case): sentence(case) for case in cases}, first=asked)

    return Page(
        title=f"afdplan ratio: {answer.bundle.attention_workers} to {answer.bundle.ffn_workers}",
        told=told,
        choices=_choices(cases, problem),
        choice_answers={case_key(case): case_sentence(case, problem) for case in cases},
        sections=(
            Section(
                title="What do other numbers of workers give?",
                words=(cost_words(problem.ffn_weight),),
                figures=(
                    curve_figure(
                        cases,
                        (problem.batch_size, problem.microbatches),
                        bands,
                        method=problem.method,
                        unit=unit,
                        cost=cost_formula(problem.ffn_weight),
                    ),
                ),
                tables=(curve_table(answer, unit, of=of), case_table(cases, unit)),
            ),
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
                played, answer.best.attention_idle_fraction, answer.best.ffn_idle_fraction
            ),
            Section(
                title="What does a slot hold?", figures=(load,) if drift is None else (load, drift)
            ),
            Section(
                title="How sure is it?",
                words=(f"For {asked_for}, as asked:", *(f.value for f in certainty(answer))),
                figures=(sensitivity_figure(sensitivities),),
                tables=(sensitivity_table(sensitivities, of),),
            ),
        ),
        document=document,
        command_line=command_line,
    )


def _choices(cases: Sequence[RatioCase], problem: RatioProblem) -> tuple[Choice, ...]:
    def values(numbers: set[int]) -> tuple[str, ...]:
        return tuple(str(number) for number in sorted(numbers))

    return (
        Choice(
            name=BATCH_SIZE,
            values=values({case.batch_size for case in cases}),
            chosen=str(problem.batch_size),
            mark="asked",
        ),
        Choice(
            name=MICROBATCHES,
            values=values({case.microbatches for case in cases}),
            chosen=str(problem.microbatches),
            mark="asked",
        ),
    )
