"""What stands on the page of simulated bundles beside what was played?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from afdplan.cli.report import command_line

if TYPE_CHECKING:
    from afdplan.cli.options import Workload
    from afdplan.report.page import Page
    from afdplan.simulation.result import SimulationResult

__all__ = ["simulated_page"]


def simulated_page(
    results: list[SimulationResult], workload: Workload, told: dict[str, Any]
) -> Page:
    """Compute what the page shows around the results: a timeline, drift, the theory's curve."""
    from afdplan.planning.theory_beside import theory_beside
    from afdplan.report.page_simulate import simulation_page
    from afdplan.simulation.timeline import record_timeline

    best = max(results, key=lambda result: result.throughput_per_instance.value)
    counts = [result.scenario.bundle.attention_workers for result in results]
    return simulation_page(
        results,
        record_timeline(best.scenario, steps=3),
        workload.law,
        theory=theory_beside(best.scenario, workload.law, counts),
        subject=f"{workload.law.name}; {best.scenario.latency.name}",
        document=told,
        command_line=command_line(),
        workload=workload.report,
    )
