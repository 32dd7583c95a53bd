"""What does the report page of `afdplan plan` say?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from afdplan.plotting.bottleneck_figure import bottleneck_figure
from afdplan.plotting.plan_figures import (
    front_figure,
    idle_figure,
    plan_sensitivity_figure,
    token_time,
)
from afdplan.plotting.ratio_figures import BATCH_SIZE, MICROBATCHES, case_key
from afdplan.plotting.workload_figures import slot_figures
from afdplan.report.page import Choice, Fact, Page, Section, Table
from afdplan.report.page_bundle import map_tables, played_sections
from afdplan.report.plan_words import headline, what_binds
from afdplan.report.quantities import chance, rate, share, stated_time, time

if TYPE_CHECKING:
    from afdplan.lengths.law import LengthLaw
    from afdplan.model.latency import TimeUnit
    from afdplan.planning.design import PlannedDesign
    from afdplan.planning.plan import Plan
    from afdplan.planning.plan_around import PlanAround
    from afdplan.planning.plan_grid import PlanCase
    from afdplan.workload.description import WorkloadReport

__all__ = ["plan_page"]


def plan_page(
    plan: Plan,
    law: LengthLaw,
    around: PlanAround,
    *,
    subject: str,
    document: Mapping[str, Any],
    command_line: str,
    workload: WorkloadReport | None = None,
) -> Page:
    """Return the page of a plan.

    Parameters
    ----------
    plan, law
        What to deploy, for which requests.
    around
        What stands around it.
    subject
        The requests and the latency model, for people.
    document
        The JSON document of the command.
    command_line
        What reproduces the page.
    workload
        What the trace is like, if there is one.
    """
    unit = plan.latency.time_unit
    grid, maps = around.cases, around.maps
    return Page(
        title="afdplan plan",
        subject=subject,
        answer=headline(plan),
        facts=_facts(plan, unit),
        choices=_choices(plan, grid),
        choice_answers={case_key(case): _case_sentence(case, plan, unit) for case in grid},
        sections=(
            Section(
                title="Is a split worth it?",
                words=tuple(f"{text[0].upper()}{text[1:]}." for text in plan.verdict.reasons),
            ),
            Section(
                title="What else could be deployed?",
                figures=(front_figure(plan, grid),),
                tables=(
                    _alternative_table(plan, unit),
                    _front_table(plan, unit),
                    _case_table(plan, grid, unit),
                ),
            ),
            Section(
                title="What binds?",
                words=tuple(f"{line[0].upper()}{line[1:]}." for line in what_binds(plan)),
                figures=(bottleneck_figure(maps, unit, _framed(plan)),),
                tables=map_tables(maps),
            ),
            Section(title="Where does the time go?", figures=(idle_figure(plan),)),
            *played_sections(
                around.played,
                plan.recommended.attention_idle_fraction,
                plan.recommended.ffn_idle_fraction,
            ),
            Section(
                title="What does a slot hold?",
                figures=slot_figures(law, law.token_load().mean, workload),
            ),
            Section(
                title="How sure is it?",
                figures=(plan_sensitivity_figure(plan),),
                tables=(
                    _sensitivity_table(plan, unit),
                    *((_quarter_table(plan, unit),) if plan.drift else ()),
                ),
            ),
        ),
        warnings=plan.warnings,
        assumptions=plan.assumptions,
        document=document,
        command_line=command_line,
    )


def _choices(plan: Plan, grid: Sequence[PlanCase]) -> tuple[Choice, ...]:
    design = plan.recommended.design
    sizes = sorted({case.batch_size for case in grid})
    counts = sorted({case.microbatches for case in grid})
    return (
        Choice(
            name=BATCH_SIZE,
            values=tuple(map(str, sizes)),
            chosen=str(design.batch_size),
            mark="planned",
        ),
        Choice(
            name=MICROBATCHES,
            values=tuple(map(str, counts)),
            chosen=str(design.microbatches),
            mark="planned",
        ),
    )


def _framed(plan: Plan) -> str:
    count = plan.recommended.design.ffn_workers
    return (
        f"the best A within the limits for {count:,} FFN worker{'' if count == 1 else 's'}, where "
        "there is one"
    )


def _case_sentence(case: PlanCase, plan: Plan, unit: TimeUnit) -> str:
    head = f"B = {case.batch_size:,}, m = {case.microbatches}: "
    best = case.best
    if best is None:
        return head + f"no design; {case.reason}."
    text = (
        f"{head}{best.design} gives {rate(best.tokens_per_second_per_device, unit)} per device at "
        f"{stated_time(token_time(best, plan), unit)} per output token ({plan.limits.statistic})"
    )
    if best.design == plan.recommended.design:
        return text + ", the recommended design."
    return f"{text}; gives up {share(1 - best.score / plan.recommended.score)}."


def _facts(plan: Plan, unit: TimeUnit) -> tuple[Fact, ...]:
    best = plan.recommended
    held = token_time(best, plan)
    limit = plan.limits.time_per_output_token
    gain = plan.verdict.gain
    return (
        Fact(
            name="Throughput",
            value=rate(best.tokens_per_second_per_device, unit),
            remark="per device in use",
        ),
        Fact(
            name="Time per output token",
            value=stated_time(held, unit),
            remark=f"{plan.limits.statistic}"
            + ("" if limit is None else f", limit {time(limit, unit)}"),
        ),
        Fact(
            name="Output step",
            value=stated_time(best.step_time.mean, unit),
            remark=f"p99 {time(best.step_time.p99, unit)}",
        ),
        Fact(
            name="Idle",
            value=f"{share(best.attention_idle_fraction)} / {share(best.ffn_idle_fraction)}",
            remark="attention / FFN",
        ),
        Fact(
            name="KV memory in use",
            value=share(best.memory_mean_fraction) if plan.cache else "not limited",
            remark=_overflow(best) if plan.cache else "nobody said how much there is",
        ),
        Fact(
            name="Gain over no split",
            value="unknown" if gain is None else f"{100 * gain:+.1f} %",
            remark="no baseline is feasible" if gain is None else "against the best width",
        ),
    )


def _overflow(planned: PlannedDesign) -> str:
    probability = chance(planned.memory_overflow_probability).replace("-", "\u2011")  # no break
    return f"overflow probability {probability} per worker and step"


def _row(name: str, planned: PlannedDesign, plan: Plan, unit: TimeUnit) -> tuple[str, ...]:
    held = token_time(planned, plan)
    return (
        name,
        str(planned.design),
        rate(planned.tokens_per_second_per_device, unit),
        time(held, unit),
        chance(planned.memory_overflow_probability) if planned.memory_mean_fraction > 0 else "-",
    )


def _alternative_table(plan: Plan, unit: TimeUnit) -> Table:
    rows = [(*_row("recommended", plan.recommended, plan, unit), share(0.0), "")]
    rows += [
        (*_row(other.change, other.plan, plan, unit), share(other.regret), other.breaks)
        for other in plan.alternatives
    ]
    return Table(
        caption="The next designs in numbers",
        headers=(
            "change",
            "design",
            "per device",
            "time per token",
            "overflow",
            "given up",
            "breaks",
        ),
        rows=rows,
        is_open=True,
    )


def _front_table(plan: Plan, unit: TimeUnit) -> Table:
    return Table(
        caption="The front in numbers",
        headers=("point", "design", "per device", "time per token", "overflow"),
        rows=[_row(str(k), point, plan, unit) for k, point in enumerate(plan.front, 1)],
    )


def _sensitivity_table(plan: Plan, unit: TimeUnit) -> Table:
    return Table(
        caption="Sensitivity in numbers",
        headers=("input", "change", "throughput", "time per token", "limit", "best A", "given up"),
        rows=[
            (
                entry.input,
                f"{100 * entry.change:+.3g} %",
                f"{100 * entry.throughput_change:+.1f} %",
                time(entry.time_per_output_token, unit),
                "met" if entry.meets_limit else "broken",
                f"{entry.best_attention_workers:,}",
                share(entry.regret),
            )
            for entry in plan.sensitivity
        ],
    )


def _case_table(plan: Plan, grid: Sequence[PlanCase], unit: TimeUnit) -> Table:
    rows: list[tuple[str, ...]] = []
    for case in grid:
        name = f"{case.batch_size:,}, {case.microbatches}"
        if case.best is None:
            rows.append((name, f"none: {case.reason}", "-", "-", "-", "-"))
            continue
        regret = 1 - case.best.score / plan.recommended.score
        rows.append((*_row(name, case.best, plan, unit), share(regret)))
    return Table(
        caption="The best design for other batch sizes and microbatches",
        headers=("B, m", "design", "per device", "time per token", "overflow", "given up"),
        rows=rows,
    )


def _quarter_table(plan: Plan, unit: TimeUnit) -> Table:
    return Table(
        caption="The recommended design under each part of the trace",
        headers=("part", "mean token load", "time per token", "limit", "overflow"),
        rows=[
            (
                window.part,
                f"{window.mean_token_load:,.0f} tokens",
                time(window.time_per_output_token, unit),
                "met" if window.meets_limit else "broken",
                chance(window.memory_overflow_probability)
                if plan.recommended.memory_mean_fraction > 0
                else "-",
            )
            for window in plan.drift
        ],
        is_open=True,
    )
