"""What does the report page of `afdplan plan` say?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from afdplan.plotting.bottleneck_figure import bottleneck_figure
from afdplan.plotting.plan_figures import (
    front_figure,
    idle_figure,
    plan_sensitivity_figure,
)
from afdplan.plotting.ratio_figures import case_key
from afdplan.plotting.workload_figures import slot_figures
from afdplan.report.effects import effect_sections
from afdplan.report.page import Page, Section
from afdplan.report.page_bundle import (
    batch_choices,
    map_tables,
    placement_sections,
    played_sections,
)
from afdplan.report.plan import (
    alternative_table,
    case_sentence,
    case_table,
    colocated_table,
    front_table,
    quarter_table,
    sensitivity_table,
    verification_table,
    what_binds,
)
from afdplan.report.quantities import counted, sentence
from afdplan.report.service import whole_tables

if TYPE_CHECKING:
    from afdplan.lengths.law import LengthLaw
    from afdplan.planning.plan import Plan
    from afdplan.planning.plan_answer import PlanAnswer
    from afdplan.planning.plan_around import PlanAround
    from afdplan.planning.verify import Verification
    from afdplan.report.tables import TextTable
    from afdplan.report.telling import Telling
    from afdplan.workload.report import WorkloadReport

__all__ = ["answered_page", "plan_page"]


def answered_page(answer: PlanAnswer, told: Telling) -> Page:
    """Return the page of an answer that was asked with what stands around it."""
    assert answer.around is not None
    workload = answer.question.workload
    return plan_page(
        told,
        answer.plan,
        workload.law,
        answer.around,
        workload=workload.report,
        verified=answer.verified,
        beside=whole_tables(answer.whole, answer.played),
    )


def plan_page(
    told: Telling,
    plan: Plan,
    law: LengthLaw,
    around: PlanAround,
    *,
    workload: WorkloadReport | None = None,
    verified: Sequence[Verification] = (),
    beside: Sequence[TextTable] = (),
) -> Page:
    """Return the page of a plan.

    Parameters
    ----------
    told
        What `plan_told` says of the plan.
    plan, law
        What to deploy, for which requests.
    around
        What stands around it.
    workload
        What the trace is like, if there is one.
    verified
        Designs that were simulated.
    beside
        Tables of what stands beside the decode side: prefill, failures.
    """
    unit = plan.latency.time_unit
    grid, maps = around.cases, around.maps
    return Page(
        title="afdplan plan",
        told=told,
        choices=batch_choices(grid, plan.split.design, "planned"),
        choice_answers={case_key(case): case_sentence(case, plan) for case in grid},
        sections=(
            *((Section(title="Prefill and failures", tables=tuple(beside)),) if beside else ()),
            Section(
                title="Is a split worth it?",
                words=tuple(map(sentence, plan.verdict.reasons)),
                tables=colocated_table(plan),
            ),
            *placement_sections(told),
            *effect_sections(told),
            Section(
                title="What else could be deployed?",
                figures=(front_figure(plan, grid),),
                tables=(alternative_table(plan), front_table(plan), case_table(plan, grid)),
            ),
            Section(
                title="What binds?",
                words=tuple(map(sentence, what_binds(plan))),
                figures=(bottleneck_figure(maps, unit, _framed(plan)),),
                tables=map_tables(maps),
            ),
            Section(title="Where does the time go?", figures=(idle_figure(plan),)),
            *played_sections(
                around.played,
                plan.split.attention_idle_fraction,
                plan.split.ffn_idle_fraction,
            ),
            Section(
                title="What does a slot hold?",
                figures=slot_figures(law, law.token_load().mean, workload),
            ),
            Section(
                title="How sure is it?",
                figures=(plan_sensitivity_figure(plan),),
                tables=(
                    sensitivity_table(plan),
                    *quarter_table(plan),
                    *verification_table(plan, verified),
                ),
            ),
        ),
    )


def _framed(plan: Plan) -> str:
    count = plan.split.design.ffn_workers
    return f"the best A within the limits for {counted(count, 'FFN worker')}, where there is one"
