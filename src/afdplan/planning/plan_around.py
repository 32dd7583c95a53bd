"""What should be known around a plan: other batches, what binds there, idle causes?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from afdplan.planning.bottleneck_map import BottleneckMap, bottleneck_maps
from afdplan.planning.plan import Plan
from afdplan.planning.plan_grid import PlanCase, plan_grid
from afdplan.planning.played import PlayedBundle, play_bundles
from afdplan.theory.placement import cycle_model

__all__ = ["PlanAround", "plan_around"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlanAround:
    """All that is told around one plan, on its page and in its JSON.

    Attributes
    ----------
    cases
        The best designs for other batch sizes and microbatches, the planned ones included.
    maps
        What binds there with the FFN workers of the plan, one map per number of microbatches.
    played
        Short runs of a bundle of the plan; None if they would take minutes.
    """

    cases: tuple[PlanCase, ...]
    maps: tuple[BottleneckMap, ...]
    played: PlayedBundle | None


def plan_around(plan: Plan, progress: Callable[[float], None] = lambda _: None) -> PlanAround:
    """Compute what stands around a plan; this takes seconds.

    Parameters
    ----------
    plan
        The answer of `make_plan`.
    progress
        Told the share of the other batches that is done.
    """
    cases = tuple(plan_grid(plan, progress))
    design, problem = plan.split.design, plan.problem
    slots = problem.slot_loads()
    latencies = {
        size: plan.source.latency(design.attention_devices, design.ffn_workers, size)
        for size in {case.batch_size for case in cases}
    } | {design.batch_size: plan.latency}
    bundles = [
        replace(
            problem,
            batch_size=case.batch_size,
            microbatches=case.microbatches,
            latency=latencies[case.batch_size],
        )
        for case in cases
    ]
    return PlanAround(
        cases=cases,
        maps=bottleneck_maps(
            {(b.batch_size, b.microbatches): cycle_model(b, slots).resources for b in bundles},
            {(case.batch_size, case.microbatches): case.attention_workers for case in cases},
        ),
        played=play_bundles(problem, design.attention_workers),
    )
