"""What does the report page of `afdplan ratio` say?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from afdplan.plotting.bottleneck_figure import bottleneck_figure
from afdplan.plotting.ratio_figures import (
    BATCH_SIZE,
    MICROBATCHES,
    NAMES,
    case_key,
    cost_formula,
    curve_figure,
    sensitivity_figure,
    time_figure,
)
from afdplan.plotting.workload_figures import slot_figures
from afdplan.report.page import CaseWords, Choice, Fact, Page, Section, Table
from afdplan.report.page_bundle import map_tables, played_sections
from afdplan.report.quantities import rate, share, stated_time, time

if TYPE_CHECKING:
    from afdplan.model.latency import TimeUnit
    from afdplan.planning.ratio_around import RatioAround
    from afdplan.planning.ratio_grid import RatioCase
    from afdplan.planning.ratio_sensitivity import RatioSensitivity
    from afdplan.theory.problem import RatioProblem
    from afdplan.theory.ratio import RatioRecommendation
    from afdplan.workload.description import WorkloadReport

__all__ = ["ratio_page"]

BINDS = {
    "attention": "the slowest attention worker sets the pace",
    "communication": "the slower transfer sets the pace",
    "ffn": "the FFN sets the pace",
    "latency": "the round trip of a microbatch sets the pace",
}


def ratio_page(
    answer: RatioRecommendation,
    problem: RatioProblem,
    around: RatioAround,
    *,
    subject: str,
    document: Mapping[str, Any],
    command_line: str,
    workload: WorkloadReport | None = None,
) -> Page:
    """Return the page of a recommended ratio.

    Parameters
    ----------
    answer, problem
        What was recommended, for which question.
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
    unit = problem.latency.time_unit
    bundle = answer.bundle
    cases, maps = around.cases, around.maps
    asked = f"{problem.batch_size}|{problem.microbatches}"
    asked_for = f"B = {problem.batch_size:,}, m = {problem.microbatches}"
    of = f", {asked_for}"

    def told(sentence: Callable[[RatioCase], str]) -> CaseWords:
        return CaseWords(texts={case_key(case): sentence(case) for case in cases}, first=asked)

    return Page(
        title=f"afdplan ratio: {bundle.attention_workers} to {bundle.ffn_workers}",
        subject=subject,
        answer=_sentence(
            bundle.attention_workers, bundle.ffn_workers, answer.bottleneck, answer.near_equal
        ),
        facts=_facts(answer, unit),
        choices=_choices(cases, problem),
        choice_answers={case_key(case): _case_sentence(case, problem, unit) for case in cases},
        sections=(
            Section(
                title="What do other numbers of workers give?",
                words=(_cost_words(problem.ffn_weight),),
                figures=(curve_figure(cases, problem, around.bands, known=answer.uncertainty),),
                tables=(_curve_table(answer, unit, of), _case_table(cases, unit)),
            ),
            Section(
                title="What binds?",
                words=(told(lambda case: _resources(case, unit)),),
                figures=(bottleneck_figure(maps, unit),),
                tables=map_tables(maps),
            ),
            Section(
                title="Where does the time go?",
                words=(told(_idle),),
                figures=(time_figure(cases),),
            ),
            *played_sections(
                around.played, answer.best.attention_idle_fraction, answer.best.ffn_idle_fraction
            ),
            Section(
                title="What does a slot hold?",
                figures=slot_figures(problem.law, answer.mean_token_load, workload),
            ),
            Section(
                title="How sure is it?",
                words=(f"For {asked_for}, as asked:", *_certainty(answer)),
                figures=(sensitivity_figure(around.sensitivities),),
                tables=(_sensitivity_table(around.sensitivities, of),),
            ),
        ),
        warnings=tuple(document["warnings"]),
        assumptions=(*_model_assumptions(problem), *problem.latency.assumptions),
        document=document,
        command_line=command_line,
    )


def _workers(count: int, side: str) -> str:
    return f"{count:,} {side} worker{'' if count == 1 else 's'}"


def _sentence(
    attention_workers: int, ffn_workers: int, bottleneck: str, near_equal: tuple[int, int]
) -> str:
    low, high = near_equal
    near = "no other number is within 1 %" if low == high else f"{low:,} to {high:,} are within 1 %"
    return (
        f"Use {_workers(attention_workers, 'attention')} with {_workers(ffn_workers, 'FFN')}: "
        f"{BINDS[bottleneck]}, and {near} of the best."
    )


def _case_sentence(case: RatioCase, problem: RatioProblem, unit: TimeUnit) -> str:
    low, high = case.near_equal
    near = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return (
        f"{_case(case)}: {_workers(case.best.attention_workers, 'attention')} "
        f"with {_workers(problem.ffn_workers, 'FFN')} ({near} within 1 %), "
        f"{rate(case.best.objective, unit)} per unit of cost ({cost_formula(problem.ffn_weight)}), "
        f"step {stated_time(case.best.step_time, unit)}; "
        f"{NAMES[case.bottleneck]} binds."
    )


def _facts(answer: RatioRecommendation, unit: TimeUnit) -> tuple[Fact, ...]:
    best, bundle = answer.best, answer.bundle
    remarks = []
    if answer.step_time_quantiles is not None:
        remarks.append(f"p99 {time(answer.step_time_quantiles[2], unit)}")
    return (
        Fact(
            name="Throughput",
            value=rate(best.throughput_per_instance, unit),
            remark="per instance, A + F of them",
        ),
        Fact(
            name="Output step",
            value=stated_time(best.step_time, unit),
            remark=", ".join(remarks),
        ),
        Fact(
            name="Idle",
            value=f"{share(best.attention_idle_fraction)} / {share(best.ffn_idle_fraction)}",
            remark="attention / FFN",
        ),
        Fact(
            name="Requests in flight",
            value=f"{bundle.requests_per_attention_worker:,} per worker",
            remark=f"{bundle.microbatches} x {bundle.batch_size:,} slots",
        ),
        Fact(
            name="Cost of the barrier",
            value=share(answer.barrier_cost),
            remark="of what equal loads would give",
        ),
        Fact(
            name="Real optimum A/F",
            value=f"{answer.optimal_ratio:.4g}",
            remark=f"mean field {answer.mean_field_ratio:.4g}",
        ),
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


def _case(case: RatioCase) -> str:
    return f"B = {case.batch_size:,}, m = {case.microbatches}"


def _resources(case: RatioCase, unit: TimeUnit) -> str:
    times = sorted(case.resource_times.items(), key=lambda item: -item[1])
    return (
        f"At the optimum for {_case(case)}, A/F = {case.optimal_ratio:.4g}, per layer and "
        "microbatch: "
        + ", ".join(f"{NAMES[name]} {stated_time(value, unit)}" for name, value in times)
        + f"; {BINDS[case.bottleneck]}."
    )


def _cost_words(ffn_weight: float) -> str:
    formula = cost_formula(ffn_weight)
    if ffn_weight == 1:
        return f"Cost is {formula}, the number of workers: both kinds count alike."
    return f"Cost is {formula}: an FFN worker counts as {ffn_weight:.4g} attention workers."


def _idle(case: RatioCase) -> str:
    best = case.best
    return (
        f"At A = {best.attention_workers:,}, {_case(case)}, the attention workers wait "
        f"{share(best.attention_idle_fraction)} of the time and the FFN "
        f"{share(best.ffn_idle_fraction)}. Waiting for the slowest of the attention workers costs "
        f"{share(case.barrier_cost)} of the throughput."
    )


def _certainty(answer: RatioRecommendation) -> tuple[str, ...]:
    words = []
    if answer.uncertainty is None:
        words.append("The token load is taken as exact: it is a law, or too short a trace.")
    else:
        known = answer.uncertainty
        words.append(
            f"The mean token load is known to {known.token_load.low:,.0f} to "
            f"{known.token_load.high:,.0f} tokens: the best number of workers is then "
            f"{known.low:,} to {known.high:,}, and the recommended one gives up at most "
            f"{share(known.largest_regret)}."
        )
    if answer.latency_uncertainty is None:
        words.append("The latency model states no standard errors.")
    else:
        errors = answer.latency_uncertainty
        words.append(
            f"The standard errors of the latency model put the best number at {errors.low:,} to "
            f"{errors.high:,}; the recommended one gives up {share(errors.mean_regret)} on average."
        )
    return tuple(words)


def _model_assumptions(problem: RatioProblem) -> tuple[str, ...]:
    overlap = (
        f"{problem.microbatches} microbatches in flight take turns on attention, link and FFN"
        if problem.overlap == "pipelined"
        else "perfect overlap: the slowest resource alone sets the cycle"
    )
    barrier = {
        "exact": "every FFN step waits for the slowest attention worker, whose load is random",
        "gaussian": "every FFN step waits for the slowest attention worker, loads taken as normal",
        "mean-field": "every attention worker always holds its mean load: no barrier is counted",
    }[problem.method]
    return (
        f"{overlap[0].upper()}{overlap[1:]}.",
        f"{barrier[0].upper()}{barrier[1:]}.",
        "Slots are always occupied: a finished request is replaced at once.",
        "Requests are drawn independently of one another; drift and bursts are not in the ratio.",
    )


def _curve_table(answer: RatioRecommendation, unit: TimeUnit, of: str) -> Table:
    from afdplan.planning.ratio_grid import shown_workers

    low, high = answer.near_equal
    keep = [answer.optimal_attention_workers, low, high]
    shown = set(shown_workers([point.attention_workers for point in answer.curve], keep))
    return Table(
        caption=f"The curve in numbers{of}",
        headers=(
            "A",
            "cycle time",
            "step time",
            "per unit of cost",
            "below the best",
            "attention idle",
            "FFN idle",
        ),
        rows=[
            (
                f"{point.attention_workers:,}"
                + (" (best)" if point.attention_workers == keep[0] else ""),
                time(point.cycle_time, unit),
                time(point.step_time, unit),
                rate(point.objective, unit),
                share(point.regret),
                share(point.attention_idle_fraction),
                share(point.ffn_idle_fraction),
            )
            for point in answer.curve
            if point.attention_workers in shown
        ],
    )


def _case_table(cases: Sequence[RatioCase], unit: TimeUnit) -> Table:
    return Table(
        caption="The best number of workers for other batches",
        headers=(
            "B, m",
            "slots per worker",
            "best A",
            "within 1 %",
            "per unit of cost",
            "step time",
            "binds",
        ),
        rows=[
            (
                f"{case.batch_size:,}, {case.microbatches}",
                f"{case.batch_size * case.microbatches:,}",
                f"{case.best.attention_workers:,}",
                f"{case.near_equal[0]:,} to {case.near_equal[1]:,}",
                rate(case.best.objective, unit),
                time(case.best.step_time, unit),
                NAMES[case.bottleneck],
            )
            for case in cases
        ],
    )


def _sensitivity_table(entries: Sequence[RatioSensitivity], of: str) -> Table:
    def pair(low: str, high: str) -> str:
        return f"{low} / {high}"

    return Table(
        caption=f"Sensitivity in numbers{of}: 20 % less / 20 % more",
        headers=("input", "throughput", "best A", "given up by keeping A"),
        rows=[
            (
                entry.input,
                pair(*(f"{100 * change:+.1f} %" for change in entry.objective_change)),
                pair(*(f"{best:,}" for best in entry.best)),
                pair(*(share(regret) for regret in entry.regret)),
            )
            for entry in entries
        ],
    )
