"""How is a simulated sweep told to a person, and simulations to a machine?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from afdplan.report.document import document
from afdplan.report.quantities import share, time

if TYPE_CHECKING:
    from rich.console import RenderableType

    from afdplan.model.estimate import Estimate
    from afdplan.simulation.distribution import Distribution
    from afdplan.simulation.result import SimulationResult

__all__ = ["render_simulations", "simulation_document"]


def simulation_document(
    results: list[SimulationResult],
    inputs: dict[str, Any],
    attention_workers: list[int],
    options: dict[str, Any],
    workload_warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what ``afdplan simulate --json`` promises: one answer, or a curve of them.

    `workload_warnings` come first; they are about the requests, not about a bundle.
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
    answers = [result.answer() for result in results]
    warnings = [
        f"A = {result.scenario.bundle.attention_workers}: {text}" if len(results) > 1 else text
        for result in results
        for text in result.warnings
    ]
    return document(
        time_unit=scenario.latency.time_unit,
        inputs=inputs,
        warnings=[*workload_warnings, *warnings],
        answer=answers[0] if len(answers) == 1 else {"curve": answers},
    )


def render_simulations(
    results: list[SimulationResult], workload_warnings: Sequence[str] = ()
) -> RenderableType:
    """Return one bundle in words or one row per number of attention workers, and the warnings."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    about_requests = [escape(f"Warning: {text}") for text in workload_warnings]
    if len(results) == 1:
        warnings = [*about_requests, *(escape(f"Warning: {w}") for w in results[0].warnings)]
        grid = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
        for name, text in _rows(results[0]):
            grid.add_row(f"  {name}", escape(text))
        # Lines of their own: what is longer than the window wraps between words.
        return Group(escape(results[0].title), grid, *(f"  {line}" for line in warnings))
    scenario = results[0].scenario
    time_unit = scenario.latency.time_unit
    unit = "s" if time_unit == "s" else "unit"
    best = max(results, key=lambda result: result.throughput_per_instance.value)
    table = Table(
        title=f"{scenario.bundle.ffn_workers} FFN, {scenario.microbatches} x "
        f"{scenario.bundle.batch_size} slots per attention worker, {scenario.overlap}, "
        f"{results[0].scenario.confidence:.0%} intervals".replace("%", " %"),
        title_justify="left",
    )
    for name in (
        "A",
        f"tokens per {unit}\nand instance",
        "cycle",
        "step p99",
        "token p99",
        "attention\nidle",
        "FFN\nidle",
    ):
        table.add_column(escape(name), justify="right", no_wrap=True)
    for result in results:
        x = result.throughput_per_instance
        half = (x.high - x.low) / 2
        row = (
            f"{result.scenario.bundle.attention_workers:,}",
            f"{_digits(x.value)} ± {half:.2g}",
            time(result.cycle_time.value, time_unit),
            time(result.step_time.p99.value, time_unit),
            time(result.request_time_per_output_token.p99.value, time_unit),
            share(result.attention_idle_fraction.value),
            share(result.ffn_idle_fraction.value),
        )
        table.add_row(*row, style="bold" if result is best else None)
    lines = [*about_requests, f"Bold: the most tokens per {unit} and instance of those simulated."]
    for result in results:
        workers = result.scenario.bundle.attention_workers
        lines += [escape(f"Warning (A = {workers}): {text}") for text in result.warnings]
    return Group(table, *lines)


def _rows(result: SimulationResult) -> list[tuple[str, str]]:
    """Return name and text of everything that one bundle did."""
    unit = result.scenario.latency.time_unit
    per = "s" if unit == "s" else "time unit"

    def scatter(value: Distribution) -> str:
        shown = ", ".join(f"{name} {time(number, unit)}" for name, number in value.values().items())
        return shown if unit == "s" else f"{shown} time units"

    def idle(value: Estimate, causes: Mapping[str, float]) -> str:
        named = [f"{name} {share(part)}" for name, part in causes.items() if part >= 0.0005]
        return f"{share(value.value)} ({', '.join(named) or 'none'})"

    x, cycle = result.throughput_per_instance, result.cycle_time
    rows = [
        ("throughput per instance", f"{_spread(x)} tokens per {per}"),
        (
            "cycle time (layer, microbatch)",
            f"{time(cycle.value, unit)} ({time(cycle.low, unit)} to {time(cycle.high, unit)})"
            + ("" if unit == "s" else " time units"),
        ),
        ("step time", scatter(result.step_time)),
        ("time per output token (request)", scatter(result.request_time_per_output_token)),
        ("attention idle", idle(result.attention_idle_fraction, result.attention_idle_causes)),
        ("FFN idle", idle(result.ffn_idle_fraction, result.ffn_idle_causes)),
        ("slots occupied", share(result.slot_occupancy.value)),
        (
            "KV tokens per attention worker",
            f"mean {result.kv_tokens_per_worker.mean.value:,.0f}, "
            f"p99 {result.kv_tokens_per_worker.p99.value:,.0f}, "
            f"maximum {result.maximum_kv_tokens_per_worker:,.0f} tokens",
        ),
    ]
    if result.waiting_time is not None and result.queue_length is not None:
        rows.append(("waiting time", scatter(result.waiting_time)))
        rows.append(("queue length", f"{_spread(result.queue_length)} requests"))
    load = result.offered_load
    if load is not None:
        text = f"{_digits(load.arrival_rate)} requests per {per} of at most "
        rows.append(("arrivals", text + _spread(load.capacity)))
    if result.scenario.kv_capacity is not None:
        rows.append(
            (
                "memory",
                f"{result.preemptions:,} preemptions, {result.recomputed_tokens:,.0f} tokens "
                f"computed again, {result.requests_rejected:,} requests refused",
            )
        )
    runs = f", in each of {result.replications:,} runs" if result.replications > 1 else ""
    rows.append(
        (
            "played",
            f"{result.requests_completed:,} requests, {result.tokens_generated:,} tokens, "
            f"{result.steps:,} steps{runs}",
        )
    )
    left = f"first {result.warmup_fraction:.0%} left out as warm-up".replace("%", " %")
    rows.append(
        (
            "intervals",
            f"{result.scenario.confidence:.0%} by {result.interval_method}; ".replace("%", " %")
            + (left if result.warmup_fraction else f"window {result.scenario.window}"),
        )
    )
    return rows


def _digits(value: float) -> str:
    """Return five digits, with separators where all are before the point."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.5g}"


def _spread(estimate: Estimate) -> str:
    if not math.isfinite(estimate.high - estimate.low):
        return f"{_digits(estimate.value)} (no interval)"
    return f"{_digits(estimate.value)} ({_digits(estimate.low)} to {_digits(estimate.high)})"
