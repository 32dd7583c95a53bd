"""What does the report page of `afdplan simulate` say?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from afdplan.plotting.pipeline_figure import pipeline_figure
from afdplan.plotting.simulation_figures import (
    ATTENTION_WORKERS,
    causes_figure,
    throughput_figure,
)
from afdplan.plotting.step_times import step_time_figure
from afdplan.plotting.workload_figures import slot_figures
from afdplan.report.page import Choice, Page, Section
from afdplan.report.simulate import (
    bundle_sentence,
    cause_table,
    result_table,
    theory_words,
    time_table,
)
from afdplan.simulation.result import best_of

if TYPE_CHECKING:
    from afdplan.lengths.law import LengthLaw
    from afdplan.report.telling import Telling
    from afdplan.simulation.result import SimulationResult
    from afdplan.simulation.timeline import Timeline
    from afdplan.theory.ratio import RatioPoint
    from afdplan.workload.report import WorkloadReport

__all__ = ["simulation_page"]


def simulation_page(
    told: Telling,
    results: Sequence[SimulationResult],
    timeline: Timeline,
    law: LengthLaw,
    *,
    theory: Sequence[RatioPoint],
    workload: WorkloadReport | None = None,
) -> Page:
    """Return the page of simulated bundles.

    Parameters
    ----------
    told
        What `simulation_told` says of them.
    results
        At least one; several differ in A.
    timeline
        Of the best of them.
    law
        Of prompt and decode lengths.
    theory
        Points of the exact curve; empty where it does not apply.
    workload
        What the trace is like, if there is one.
    """
    best = best_of(results)
    scenario = best.scenario
    unit = scenario.latency.time_unit
    return Page(
        title="afdplan simulate",
        told=told,
        choices=_choices(results, best),
        choice_answers={
            str(result.scenario.bundle.attention_workers): bundle_sentence(result)
            for result in results
        },
        sections=(
            Section(
                title="What does the bundle deliver?",
                words=theory_words(results, theory),
                figures=(throughput_figure(results, theory, unit),),
                tables=(result_table(results),),
            ),
            Section(
                title="Where does the time go?",
                figures=(causes_figure(results),),
                tables=(cause_table(results),),
            ),
            Section(
                title=f"How does the pipeline run at A = {scenario.bundle.attention_workers}?",
                figures=(pipeline_figure(timeline),),
            ),
            Section(
                title="How long do steps and requests take?",
                figures=(step_time_figure(results, unit),),
                tables=(time_table(results),),
            ),
            Section(
                title="What does a slot hold?",
                figures=slot_figures(law, law.token_load().mean, workload),
            ),
        ),
    )


def _choices(results: Sequence[SimulationResult], best: SimulationResult) -> tuple[Choice, ...]:
    if len(results) == 1:
        return ()
    counts = (result.scenario.bundle.attention_workers for result in results)
    return (
        Choice(
            name=ATTENTION_WORKERS,
            values=tuple(str(count) for count in sorted(counts)),
            chosen=str(best.scenario.bundle.attention_workers),
            mark="best",
        ),
    )
