"""How is a simulated sweep told to a person, and simulations to a machine?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from afdplan.report.document import document

if TYPE_CHECKING:
    from rich.console import RenderableType

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
        return Group(escape(str(results[0])), *(f"  {line}" for line in about_requests))
    scenario = results[0].scenario
    unit = "s" if scenario.latency.time_unit == "s" else "unit"
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
        f"cycle\n[{unit}]",
        f"step p99\n[{unit}]",
        f"token p99\n[{unit}]",
        "attention\nidle",
        "FFN\nidle",
    ):
        table.add_column(escape(name), justify="right", no_wrap=True)
    for result in results:
        x = result.throughput_per_instance
        half = (x.high - x.low) / 2
        row = (
            str(result.scenario.bundle.attention_workers),
            f"{x.value:.5g} ± {half:.2g}",
            f"{result.cycle_time.value:.5g}",
            f"{result.step_time.p99.value:.5g}",
            f"{result.request_time_per_output_token.p99.value:.5g}",
            f"{result.attention_idle_fraction.value:.1%}".replace("%", " %"),
            f"{result.ffn_idle_fraction.value:.1%}".replace("%", " %"),
        )
        table.add_row(*row, style="bold" if result is best else None)
    lines = [*about_requests, f"Bold: the most tokens per {unit} and instance of those simulated."]
    for result in results:
        workers = result.scenario.bundle.attention_workers
        lines += [escape(f"Warning (A = {workers}): {text}") for text in result.warnings]
    return Group(table, *lines)
