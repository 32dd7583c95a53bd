"""What does the report page of `afdplan simulate` say?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from afdplan.plotting.pipeline_figure import pipeline_figure
from afdplan.plotting.simulation_figures import (
    ATTENTION_WORKERS,
    causes_figure,
    throughput_figure,
)
from afdplan.plotting.step_times import step_time_figure
from afdplan.plotting.workload_figures import slot_figures
from afdplan.report.page import Choice, Fact, Page, Section, Table
from afdplan.report.quantities import (
    interval,
    plus_minus,
    rate,
    share,
    signed_share,
    stated_time,
    time,
)

if TYPE_CHECKING:
    from afdplan.lengths.law import LengthLaw
    from afdplan.model.latency import TimeUnit
    from afdplan.simulation.distribution import Distribution
    from afdplan.simulation.result import SimulationResult
    from afdplan.simulation.scenario import Scenario
    from afdplan.simulation.timeline import Timeline
    from afdplan.theory.ratio import RatioPoint
    from afdplan.workload.description import WorkloadReport

__all__ = ["simulation_page"]


def simulation_page(
    results: Sequence[SimulationResult],
    timeline: Timeline,
    law: LengthLaw,
    *,
    theory: Sequence[RatioPoint],
    subject: str,
    document: Mapping[str, Any],
    command_line: str,
    workload: WorkloadReport | None = None,
) -> Page:
    """Return the page of simulated bundles.

    Parameters
    ----------
    results
        At least one; several differ in A.
    timeline
        Of the best of them.
    law
        Of prompt and decode lengths.
    theory
        Points of the exact curve; empty where it does not apply.
    subject
        The requests and the latency model, for people.
    document
        The JSON document of the command.
    command_line
        What reproduces the page.
    workload
        What the trace is like, if there is one.
    """
    best = max(results, key=lambda result: result.throughput_per_instance.value)
    scenario = best.scenario
    unit = scenario.latency.time_unit
    return Page(
        title="afdplan simulate",
        subject=subject,
        answer=_sentence(best, len(results), unit),
        facts=_facts(best, unit),
        choices=_choices(results, best),
        choice_answers={
            str(result.scenario.bundle.attention_workers): _bundle_sentence(result, unit)
            for result in results
        },
        sections=(
            Section(
                title="What does the bundle deliver?",
                words=_theory_words(results, theory),
                figures=(throughput_figure(results, theory, unit),),
                tables=(_result_table(results, unit),),
            ),
            Section(
                title="Where does the time go?",
                figures=(causes_figure(results),),
                tables=(_cause_table(results),),
            ),
            Section(
                title=f"How does the pipeline run at A = {scenario.bundle.attention_workers}?",
                figures=(pipeline_figure(timeline),),
            ),
            Section(
                title="How long do steps and requests take?",
                figures=(step_time_figure(results, unit),),
                tables=(_time_table(results, unit),),
            ),
            Section(
                title="What does a slot hold?",
                figures=slot_figures(law, law.token_load().mean, workload),
            ),
        ),
        warnings=tuple(document["warnings"]),
        assumptions=(*_assumptions(best), *scenario.latency.assumptions),
        document=document,
        command_line=command_line,
    )


def _sentence(best: SimulationResult, count: int, unit: TimeUnit) -> str:
    bundle = best.scenario.bundle
    found = best.throughput_per_instance
    of = "" if count == 1 else f", the best of {count} simulated"
    return (
        f"{bundle.attention_workers:,} attention and {bundle.ffn_workers:,} FFN workers deliver "
        f"{rate(found.value, unit)} per instance ({interval(found)}){of}; "
        f"attention waits {share(best.attention_idle_fraction.value)} of the time, the FFN "
        f"{share(best.ffn_idle_fraction.value)}."
    )


def _facts(best: SimulationResult, unit: TimeUnit) -> tuple[Fact, ...]:
    step, request = best.step_time, best.request_time_per_output_token
    return (
        Fact(
            name="Throughput",
            value=rate(best.throughput_per_instance.value, unit),
            remark=f"per instance, {plus_minus(best.throughput_per_instance)}",
        ),
        Fact(
            name="Output step",
            value=stated_time(step.mean.value, unit),
            remark=f"p99 {time(step.p99.value, unit)}",
        ),
        Fact(
            name="Time per output token",
            value=stated_time(request.mean.value, unit),
            remark=f"of a request; p99 {time(request.p99.value, unit)}",
        ),
        Fact(
            name="KV tokens per worker",
            value=f"{best.kv_tokens_per_worker.mean.value:,.0f}",
            remark=f"largest {best.maximum_kv_tokens_per_worker:,.0f}",
        ),
        Fact(name="Slots occupied", value=share(best.slot_occupancy.value)),
        Fact(
            name="Played",
            value=f"{best.requests_completed:,} requests",
            remark=f"{best.steps:,} steps, {best.replications} run"
            + ("s" if best.replications > 1 else ""),
        ),
    )


def _theory_words(
    results: Sequence[SimulationResult], theory: Sequence[RatioPoint]
) -> tuple[str, ...]:
    at = {point.attention_workers: point.throughput_per_instance for point in theory}
    both = [
        (result.throughput_per_instance.value / at[count] - 1, count)
        for result in results
        if (count := result.scenario.bundle.attention_workers) in at
    ]
    if not both:
        return ()
    worst, where = max(both, key=lambda pair: abs(pair[0]))
    return (
        f"The exact theory was computed without the simulator: the largest difference is "
        f"{signed_share(worst)} (simulated against theory), at A = {where}.",
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


def _bundle_sentence(result: SimulationResult, unit: TimeUnit) -> str:
    found, step = result.throughput_per_instance, result.step_time
    return (
        f"A = {result.scenario.bundle.attention_workers:,}: {rate(found.value, unit)} per instance "
        f"({interval(found)}); an output step takes {stated_time(step.mean.value, unit)}, p99 "
        f"{stated_time(step.p99.value, unit)}; attention waits "
        f"{share(result.attention_idle_fraction.value)} of the time, the FFN "
        f"{share(result.ffn_idle_fraction.value)}."
    )


def _result_table(results: Sequence[SimulationResult], unit: TimeUnit) -> Table:
    return Table(
        caption="The bundles in numbers",
        headers=(
            "A",
            "tokens per instance",
            "interval",
            "cycle time",
            "step p99",
            "attention idle",
            "FFN idle",
        ),
        rows=[
            (
                f"{result.scenario.bundle.attention_workers:,}",
                rate(result.throughput_per_instance.value, unit),
                interval(result.throughput_per_instance),
                time(result.cycle_time.value, unit),
                time(result.step_time.p99.value, unit),
                share(result.attention_idle_fraction.value),
                share(result.ffn_idle_fraction.value),
            )
            for result in results
        ],
    )


def _cause_table(results: Sequence[SimulationResult]) -> Table:
    causes = list(results[0].attention_idle_causes)
    rows = []
    for result in results:
        count = result.scenario.bundle.attention_workers
        for side, idle, parts in (
            ("attention", result.attention_idle_fraction, result.attention_idle_causes),
            ("FFN", result.ffn_idle_fraction, result.ffn_idle_causes),
        ):
            shares = [share(parts.get(cause, 0.0)) for cause in causes]
            rows.append((f"A = {count}: {side}", share(1 - idle.value), *shares))
    return Table(
        caption="Shares of the time in numbers", headers=("side", "busy", *causes), rows=rows
    )


def _time_table(results: Sequence[SimulationResult], unit: TimeUnit) -> Table:
    rows = []
    for result in results:
        count = result.scenario.bundle.attention_workers
        kinds: list[tuple[str, Distribution | None]] = [
            ("output step", result.step_time),
            ("request, per output token", result.request_time_per_output_token),
            ("wait for a slot", result.waiting_time),
        ]
        for name, found in kinds:
            if found is None:
                continue
            values = (time(value, unit) for value in found.values().values())
            rows.append((f"A = {count}: {name}", *values))
    return Table(
        caption="Times" + (" in the model's abstract unit" if unit == "abstract" else ""),
        headers=("time of", "mean", "p50", "p95", "p99"),
        rows=rows,
        is_open=len(results) <= 3,
    )


def _assumptions(best: SimulationResult) -> tuple[str, ...]:
    scenario: Scenario = best.scenario
    requests = (
        "Saturated: a finished request is replaced at once."
        if scenario.arrivals is None
        else f"Requests arrive over time ({scenario.arrivals.process}) and wait for a free slot."
    )
    window = (
        f"The first {share(best.warmup_fraction)} were left out as warm-up."
        if best.warmup_fraction
        else f"Window of the run that counts: {scenario.window}."
    )
    return (
        requests,
        f"Start: {scenario.start}. {window}",
        f"Intervals: {100 * scenario.confidence:.4g} % by {best.interval_method}.",
    )
