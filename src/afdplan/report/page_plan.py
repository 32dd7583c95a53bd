"""What does the report page of `afdplan plan` say?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from afdplan.plotting.plan_figures import front_figure, idle_figure, plan_sensitivity_figure
from afdplan.plotting.ratio_figures import MICROBATCHES, bottleneck_figure
from afdplan.plotting.workload_figures import load_figure
from afdplan.report.page import Choice, Fact, Page, Section, Table
from afdplan.report.page_ratio import map_table
from afdplan.report.plan_words import headline, what_binds
from afdplan.report.quantities import rate, share, time

if TYPE_CHECKING:
    from afdplan.lengths.law import LengthLaw
    from afdplan.model.latency import TimeUnit
    from afdplan.planning.design import PlannedDesign
    from afdplan.planning.plan import Plan
    from afdplan.plotting.figure import Figure
    from afdplan.plotting.ratio_grid import RatioCase

__all__ = ["plan_page"]


def plan_page(
    plan: Plan,
    law: LengthLaw,
    *,
    subject: str,
    document: Mapping[str, Any],
    command_line: str,
    cases: Sequence[RatioCase] = (),
    drift: Figure | None = None,
) -> Page:
    """Return the page of a plan.

    Parameters
    ----------
    plan, law
        What to deploy, for which requests.
    subject
        The requests and the latency model, for people.
    document
        The JSON document of the command.
    command_line
        What reproduces the page.
    cases
        What `ratio_grid` found around the recommended bundle, for the map of bottlenecks.
    drift
        How the load moves over the trace, if there is one.
    """
    unit = plan.latency.time_unit
    load = load_figure(law, law.token_load().mean)
    return Page(
        title="afdplan plan",
        subject=subject,
        answer=headline(plan),
        facts=_facts(plan, unit),
        choices=_choices(cases, plan.recommended.design.microbatches),
        sections=(
            Section(title="Is a split worth it?", words=tuple(plan.verdict.reasons)),
            Section(
                title="What else could be deployed?",
                figures=(front_figure(plan),),
                tables=(_alternative_table(plan, unit), _front_table(plan, unit)),
            ),
            Section(
                title="What binds?",
                words=tuple(f"{line[0].upper()}{line[1:]}." for line in what_binds(plan)),
                figures=(bottleneck_figure(cases, unit),) if cases else (),
                tables=(map_table(cases),) if cases else (),
            ),
            Section(title="Where does the time go?", figures=(idle_figure(plan),)),
            Section(
                title="What does a slot hold?",
                figures=(load,) if drift is None else (load, drift),
            ),
            Section(
                title="How sure is it?",
                figures=(plan_sensitivity_figure(plan),),
                tables=(_sensitivity_table(plan, unit),),
            ),
        ),
        warnings=plan.warnings,
        assumptions=plan.assumptions,
        document=document,
        command_line=command_line,
    )


def _choices(cases: Sequence[RatioCase], chosen: int) -> tuple[Choice, ...]:
    counts = sorted({case.microbatches for case in cases})
    if not counts:
        return ()
    return (Choice(name=MICROBATCHES, values=tuple(map(str, counts)), chosen=str(chosen)),)


def _facts(plan: Plan, unit: TimeUnit) -> tuple[Fact, ...]:
    best = plan.recommended
    held = best.step_time.statistic(plan.limits.statistic) / best.tokens_per_step
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
            value=time(held, unit),
            remark=f"{plan.limits.statistic}"
            + ("" if limit is None else f", limit {time(limit, unit)}"),
        ),
        Fact(
            name="Output step",
            value=time(best.step_time.mean, unit),
            remark=f"p99 {time(best.step_time.p99, unit)}",
        ),
        Fact(
            name="Idle",
            value=f"{share(best.attention_idle_fraction)} / {share(best.ffn_idle_fraction)}",
            remark="attention / FFN",
        ),
        Fact(
            name="KV memory in use",
            value=share(best.memory_mean_fraction),
            remark=f"overflows in {best.memory_overflow_probability:.2g} of steps, per worker",
        ),
        Fact(
            name="Gain over no split",
            value="unknown" if gain is None else f"{100 * gain:+.1f} %",
            remark="no baseline is feasible" if gain is None else "against the best width",
        ),
    )


def _row(name: str, planned: PlannedDesign, plan: Plan, unit: TimeUnit) -> tuple[str, ...]:
    held = planned.step_time.statistic(plan.limits.statistic) / planned.tokens_per_step
    return (
        name,
        str(planned.design),
        rate(planned.tokens_per_second_per_device, unit),
        time(held, unit),
        f"{planned.memory_overflow_probability:.2g}",
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
