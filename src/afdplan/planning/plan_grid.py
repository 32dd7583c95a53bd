"""What would be deployed at other batch sizes and microbatches, under the same limits?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from afdplan.planning.design import PlannedDesign
from afdplan.planning.plan import Plan
from afdplan.planning.ratio_grid import batch_sizes_around
from afdplan.planning.search import DesignSearch

__all__ = ["PlanCase", "plan_grid", "plan_grid_axes"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlanCase:
    """The best design for one batch size and number of microbatches.

    Attributes
    ----------
    batch_size, microbatches
        B and m.
    best
        The best design under the plan's limits; None if none meets them.
    attention_workers
        A of the best design among those with the F and the attention devices of the plan; None
        if none of them meets the limits.
    reason
        Why there is no design; empty if there is one.
    """

    batch_size: int
    microbatches: int
    best: PlannedDesign | None
    attention_workers: int | None
    reason: str


def plan_grid_axes(plan: Plan) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the batch sizes and the microbatches of the grid: of those that were searched.

    The batch sizes are the nearest ones to an eighth, a quarter ... eight times that of the plan.
    """
    design, searched = plan.split.design, plan.space.batch_sizes
    sizes = {
        min(searched, key=lambda size: abs(math.log(size / wanted)))
        for wanted in batch_sizes_around(design.batch_size)
    }
    # The plan's own may lie between two of the list.
    return tuple(sorted(sizes | {design.batch_size})), plan.space.microbatches


def _offered(plan: Plan, search: DesignSearch) -> tuple[list[int], list[int]]:
    """Return the axes without what memory refuses: every pair of both fits it."""
    sizes, counts = plan_grid_axes(plan)
    most = max(
        search.memories.most_requests(devices, max(sizes) * max(counts), plan.planned_limits)
        for devices in search.source.attention_devices
    )
    design = plan.split.design
    most = max(most, design.requests_per_attention_worker)  # the nearest one of none may not fit
    kept = [count for count in counts if count * design.batch_size <= most]
    return [size for size in sizes if size * max(kept) <= most], kept


def plan_grid(plan: Plan, progress: Callable[[float], None] = lambda _: None) -> Iterator[PlanCase]:
    """Yield one case per batch size and number of microbatches around those of the plan.

    What the KV memory refuses is left out.

    Parameters
    ----------
    plan
        The answer of `make_plan`.
    progress
        Told the share that is done.
    """
    search = DesignSearch(plan.law, plan.source, plan.space, plan.cost)
    sizes, counts = _offered(plan, search)
    pairs = [(batch_size, microbatches) for batch_size in sizes for microbatches in counts]
    for k, (batch_size, microbatches) in enumerate(pairs, 1):
        yield _case(plan, search, batch_size, microbatches)
        progress(k / len(pairs))


def _case(plan: Plan, search: DesignSearch, batch_size: int, microbatches: int) -> PlanCase:
    design = plan.split.design
    space = replace(plan.space, batch_sizes=(batch_size,), microbatches=(microbatches,))
    if (batch_size, microbatches) == (design.batch_size, design.microbatches):
        return PlanCase(
            batch_size=batch_size,
            microbatches=microbatches,
            best=plan.split,
            attention_workers=design.attention_workers,
            reason="",
        )
    best = search.best(plan.planned_limits, space)
    alike = search.best(plan.planned_limits, replace(space, ffn_workers=(design.ffn_workers,)))
    if alike is not None and alike.design.attention_devices != design.attention_devices:
        alike = None
    reason = "" if best is not None else "no legal pair of workers meets the limits"
    return PlanCase(
        batch_size=batch_size,
        microbatches=microbatches,
        best=best,
        attention_workers=None if alike is None else alike.design.attention_workers,
        reason=reason,
    )
