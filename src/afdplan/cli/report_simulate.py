"""What stands on the page of simulated bundles beside what was played?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from afdplan.cli.report import command_line

if TYPE_CHECKING:
    from afdplan.cli.options import Workload
    from afdplan.report.page import Page
    from afdplan.simulation.result import SimulationResult
    from afdplan.simulation.scenario import Scenario
    from afdplan.theory.ratio import RatioPoint

__all__ = ["simulated_page"]


def simulated_page(
    results: list[SimulationResult], workload: Workload, told: dict[str, Any]
) -> Page:
    """Compute what the page shows around the results: a timeline, drift, the theory's curve."""
    from afdplan.report.page_simulate import simulation_page
    from afdplan.simulation.timeline import record_timeline

    best = max(results, key=lambda result: result.throughput_per_instance.value)
    drift = None
    if workload.report is not None:
        from afdplan.plotting.workload_figures import drift_figure

        drift = drift_figure(workload.report.drift, workload.report.token_load)
    return simulation_page(
        results,
        record_timeline(best.scenario, steps=3),
        workload.law,
        theory=_theory(best.scenario, workload, results),
        subject=f"{workload.law.name}; {best.scenario.latency.name}",
        document=told,
        command_line=command_line(),
        drift=drift,
    )


def _theory(
    scenario: Scenario, workload: Workload, results: list[SimulationResult]
) -> tuple[RatioPoint, ...]:
    """Return the exact curve where it describes what was played; else nothing."""
    from afdplan.simulation.scenario import Variation

    played = (
        scenario.arrivals,
        scenario.kv_capacity,
        scenario.lengths is not workload.law or None,
        scenario.variation != Variation() or None,
        scenario.start != "stationary" or None,
    )
    if any(reason is not None for reason in played):
        return ()
    from afdplan.planning.ratio_grid import shown_workers
    from afdplan.theory.recommend import recommend_ratio

    counts = [result.scenario.bundle.attention_workers for result in results]
    answer = recommend_ratio(
        workload.law,
        scenario.latency,
        batch_size=scenario.bundle.batch_size,
        ffn_workers=scenario.bundle.ffn_workers,
        microbatches=scenario.microbatches,
        overlap=scenario.overlap,
        max_attention_workers=max(16, max(counts) * 5 // 4),
    )
    all_workers = [point.attention_workers for point in answer.curve]
    shown = set(shown_workers(all_workers, counts))
    return tuple(point for point in answer.curve if point.attention_workers in shown)
