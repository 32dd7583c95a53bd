"""How are simulated bundles told to a person and to a machine?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from afdplan.plotting.ratio_figures import cost_unit
from afdplan.report.document import document
from afdplan.report.quantities import (
    change,
    counted,
    estimated,
    interval,
    number,
    plus_minus,
    rate,
    share,
    stated_time,
    time,
    times,
    value_and_interval,
)
from afdplan.report.tables import TextTable
from afdplan.report.telling import Fact, Telling
from afdplan.simulation.result import best_of

if TYPE_CHECKING:
    from afdplan.model.estimate import Estimate
    from afdplan.model.latency import TimeUnit
    from afdplan.simulation.distribution import Distribution
    from afdplan.simulation.result import SimulationResult
    from afdplan.simulation.scenario import Scenario
    from afdplan.theory.ratio import RatioPoint

__all__ = [
    "bundle_sentence",
    "cause_table",
    "result_table",
    "simulation_document",
    "simulation_told",
    "theory_words",
    "time_table",
]


def simulation_document(
    results: list[SimulationResult],
    inputs: dict[str, Any],
    attention_workers: list[int],
    options: dict[str, Any],
    workload_warnings: Sequence[str] = (),
    by_draws: Sequence[Estimate | None] = (),
) -> dict[str, Any]:
    """Return what ``afdplan simulate --json`` promises: one answer, or a curve of them.

    `workload_warnings` come first; they are about the requests, not about a bundle. `by_draws`
    are exact step times with what the latency model's errors leave them, where it states any.
    """
    scenario = results[0].scenario
    inputs = {
        **inputs,
        "attention_workers": attention_workers
        if len(attention_workers) > 1
        else attention_workers[0],
        "ffn_workers": scenario.bundle.ffn_workers,
        "batch_size": scenario.bundle.batch_size,
        "microbatches": scenario.microbatches,
        "overlap": scenario.overlap,
        **options,
        "start": scenario.start,
    }
    answers = [
        result.answer()
        | {"cost_unit": _per(result)}
        | ({} if known is None else {"step_time_by_latency_draws": known})
        for result, known in zip(results, by_draws or [None] * len(results), strict=True)
    ]
    return document(
        time_unit=scenario.latency.time_unit,
        inputs=inputs,
        warnings=_warnings(results, workload_warnings),
        answer=answers[0] if len(answers) == 1 else {"curve": answers},
    )


def simulation_told(
    results: Sequence[SimulationResult],
    subject: str,
    workload_warnings: Sequence[str] = (),
    by_draws: Sequence[Estimate | None] = (),
) -> Telling:
    """Return what text and page say of simulated bundles.

    Parameters
    ----------
    results
        At least one; several differ in A.
    subject
        The requests and the latency model, for people.
    workload_warnings
        One sentence each; they are about the requests, not about a bundle.
    by_draws
        As in `simulation_document`.
    """
    best = best_of(results)
    known = dict(zip(map(id, results), by_draws, strict=bool(by_draws))).get(id(best))
    return Telling(
        subject=subject,
        answer=_sentence(best, len(results)),
        facts=tuple(_facts(best)),
        words=(*_words(best), *_draws_words(known, best)),
        tables=(result_table(results), cause_table(results), time_table(results)),
        warnings=tuple(_warnings(results, workload_warnings)),
        assumptions=(*_assumptions(best), *best.scenario.latency.assumptions),
    )


def _draws_words(known: Estimate | None, best: SimulationResult) -> Iterable[Fact]:
    if known is not None:
        step = estimated(known, times(_unit(best)))
        yield Fact("Latency model", f"With its errors an output step takes {step} in theory.")


def _warnings(results: Sequence[SimulationResult], about_requests: Sequence[str]) -> list[str]:
    return [
        *about_requests,
        *(
            f"A = {result.scenario.bundle.attention_workers}: {text}" if len(results) > 1 else text
            for result in results
            for text in result.warnings
        ),
    ]


def _unit(result: SimulationResult) -> TimeUnit:
    return result.scenario.latency.time_unit


def _words(best: SimulationResult) -> Iterable[Fact]:
    """Yield what stands in no box of the page."""
    unit = _unit(best)
    cycle, ends = value_and_interval(best.cycle_time, times(unit))
    cycle += " time units" if unit == "abstract" else ""
    yield Fact("Cycle time", f"{cycle} per layer and microbatch", ends)
    load = best.offered_load
    if load is not None:
        capacity = f"{estimated(load.capacity)} can be finished"
        yield Fact("Arrivals", f"{rate(load.arrival_rate, unit, 'requests')}; {capacity}")
    if best.pool is not None:
        yield Fact(
            "Departures",
            f"{number(best.pool.calls_per_departure)} calls each, every "
            f"{stated_time(best.pool.time_between_departures, unit)}",
            f"a call waits {stated_time(best.pool.call_wait, unit)} for its own",
        )
    if best.failures is not None:
        lost = best.failures
        yield Fact(
            "Failures",
            f"{counted(lost.failures, 'failure')} of "
            f"{counted(best.scenario.devices, 'device')}: {share(lost.share.value)} kept of what "
            "the same steps give",
            f"{share(lost.share.low)} to {share(lost.share.high)}; {number(lost.lost_tokens)} "
            f"tokens of {counted(lost.lost_requests, 'request')} lost",
        )
    if best.queue_length is not None:
        yield Fact("Queue length", estimated(best.queue_length), "requests")
    if best.scenario.kv_capacity is not None:
        yield Fact(
            "Memory",
            f"{counted(best.preemptions, 'preemption')}, {number(best.recomputed_tokens)} "
            f"tokens computed again, {counted(best.requests_rejected, 'request')} refused",
        )


def _sentence(best: SimulationResult, count: int) -> str:
    bundle = best.scenario.bundle
    found = best.objective
    of = "" if count == 1 else f", the best of {count} simulated"
    if best.failures is not None:
        of += f", {counted(best.failures.failures, 'failure')} played"
    return (
        f"{counted(bundle.attention_workers, 'attention worker')} and "
        f"{counted(bundle.ffn_workers, 'FFN worker')} deliver "
        f"{rate(found.value, _unit(best))} per {_per(best)} ({interval(found)}){of}; "
        f"attention waits {share(best.attention_idle_fraction.value)} of the time, the FFN "
        f"{share(best.ffn_idle_fraction.value)}."
    )


def _per(result: SimulationResult) -> str:
    return cost_unit(result.scenario.latency, result.scenario.ffn_weight)


def _facts(best: SimulationResult) -> Iterable[Fact]:
    unit = _unit(best)
    step, request, waiting = best.step_time, best.request_time_per_output_token, best.waiting_time
    yield Fact(
        "Throughput",
        rate(best.objective.value, unit),
        f"per {_per(best)}, {plus_minus(best.objective.relative_half_width)}",
    )
    if best.scenario.ffn_weight != 1:
        yield Fact(
            "Per worker", rate(best.throughput_per_instance.value, unit), "both kinds counted alike"
        )
    yield Fact(
        "Output step", stated_time(step.mean.value, unit), f"p99 {time(step.p99.value, unit)}"
    )
    yield Fact(
        "Time per output token",
        stated_time(request.mean.value, unit),
        f"of a request; p99 {time(request.p99.value, unit)}",
    )
    if waiting is not None:
        yield Fact(
            "Waiting time",
            stated_time(waiting.mean.value, unit),
            f"for a slot; p99 {time(waiting.p99.value, unit)}",
        )
    yield Fact(
        "KV tokens per worker",
        number(best.kv_tokens_per_worker.mean.value),
        f"p99 {number(best.kv_tokens_per_worker.p99.value)}, largest "
        f"{number(best.maximum_kv_tokens_per_worker)}",
    )
    yield Fact("Slots occupied", share(best.slot_occupancy.value))
    yield Fact(
        "Played",
        counted(best.requests_completed, "request"),
        f"{counted(best.tokens_generated, 'token')}, {counted(best.steps, 'step')}, "
        f"{counted(best.replications, 'run')}",
    )


def theory_words(
    results: Sequence[SimulationResult], theory: Sequence[RatioPoint]
) -> tuple[str, ...]:
    """Return how far theory is from simulation; nothing where the theory does not apply."""
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
        f"{change(worst)} (simulated against theory), at A = {where}.",
    )


def bundle_sentence(result: SimulationResult) -> str:
    """Return what one of several bundles delivers."""
    unit = _unit(result)
    found, step = result.objective, result.step_time
    return (
        f"A = {result.scenario.bundle.attention_workers:,}: {rate(found.value, unit)} per "
        f"{_per(result)} ({interval(found)}); an output step takes "
        f"{stated_time(step.mean.value, unit)}, p99 {stated_time(step.p99.value, unit)}; "
        f"attention waits {share(result.attention_idle_fraction.value)} of the time, the FFN "
        f"{share(result.ffn_idle_fraction.value)}."
    )


def result_table(results: Sequence[SimulationResult]) -> TextTable:
    """Return throughput, times and idle time of each bundle."""
    unit = _unit(results[0])
    best = best_of(results)
    return TextTable(
        title="The bundles in numbers",
        columns=(
            "A",
            f"tokens/{'s' if unit == 's' else 'time'} per {_per(best)}",
            "interval",
            "cycle time",
            "step p99",
            "attention idle",
            "FFN idle",
        ),
        rows=[
            (
                f"{result.scenario.bundle.attention_workers:,}",
                *value_and_interval(result.objective),
                time(result.cycle_time.value, unit),
                time(result.step_time.p99.value, unit),
                share(result.attention_idle_fraction.value),
                share(result.ffn_idle_fraction.value),
            )
            for result in results
        ],
        strong=list(results).index(best) if len(results) > 1 else None,
    )


def cause_table(results: Sequence[SimulationResult]) -> TextTable:
    """Return what each side of each bundle does and waits for."""
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
    return TextTable(
        title="Shares of the time in numbers", columns=("side", "busy", *causes), rows=rows
    )


def time_table(results: Sequence[SimulationResult]) -> TextTable:
    """Return mean and percentiles of steps, requests and waiting."""
    unit = _unit(results[0])
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
            told = (time(value, unit) for value in found.values().values())
            rows.append((f"A = {count}: {name}", *told))
    return TextTable(
        title="Times" + (" in the model's abstract unit" if unit == "abstract" else ""),
        columns=("time of", "mean", "p50", "p95", "p99"),
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
    way = (
        "No barrier: each attention worker calls the FFN pool when it is ready."
        if scenario.execution == "barrier-free"
        else "Every FFN step waits for all attention workers."
    )
    return (
        requests,
        way,
        f"Start: {scenario.start}. {window}",
        f"Intervals: {100 * scenario.confidence:.4g} % by {best.interval_method}.",
    )
