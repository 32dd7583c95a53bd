"""What do ``ratio --around`` and ``plan --around`` add to the JSON document?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from afdplan.model.chosen import chosen
from afdplan.report.plan_answer import design_answer

if TYPE_CHECKING:
    from afdplan.planning.bottleneck_map import BottleneckMap
    from afdplan.planning.plan_around import PlanAround
    from afdplan.planning.plan_grid import PlanCase
    from afdplan.planning.played import PlayedBundle
    from afdplan.planning.ratio_around import RatioAround
    from afdplan.planning.ratio_grid import RatioCase

__all__ = ["plan_around_answer", "ratio_around_answer"]


def ratio_around_answer(around: RatioAround) -> dict[str, Any]:
    """Return the names of ``around``: all numbers that the page of a ratio shows.

    `other_batches` has one entry per batch size and number of microbatches, with the names of
    `ratio --json`; curves are columns over `attention_workers`;
    `objective_intervals` is null unless they were played. `simulated` has the names of
    `simulate --json`, and is null where that would take minutes.
    """
    return {
        "other_batches": [_case(case) for case in around.cases],
        "bottlenecks": [_map(one) for one in around.maps],
        **chosen(around, "sensitivities bands"),
        "simulated": _simulated(around.played),
    }


def plan_around_answer(around: PlanAround) -> dict[str, Any]:
    """Return the names of ``around``: all numbers that the page of a plan adds to its JSON.

    `other_batches` has one entry per batch size and number of microbatches; `design` is null, with
    its `reason`, where none meets the limits.
    """
    return {
        "other_batches": [_plan_case(case) for case in around.cases],
        "bottlenecks": [_map(one) for one in around.maps],
        "simulated": _simulated(around.played),
    }


def _case(case: RatioCase) -> dict[str, Any]:
    return {
        **chosen(case, "batch_size microbatches"),
        "optimal_attention_workers": case.best.attention_workers,
        "near_equal_attention_workers": list(case.near_equal),
        **chosen(case, "optimal_ratio bottleneck resource_times barrier_cost best"),
        "curve": {
            "attention_workers": [point.attention_workers for point in case.points],
            "objective": [point.objective for point in case.points],
            "objective_by_other_methods": case.other_methods,
            "objective_intervals": None
            if case.objectives is None
            else [
                [known.low, known.high]
                for known in (case.objectives[point.attention_workers] for point in case.points)
            ],
            "attention_idle_fraction": [point.attention_idle_fraction for point in case.points],
            "ffn_idle_fraction": [point.ffn_idle_fraction for point in case.points],
        },
    }


def _plan_case(case: PlanCase) -> dict[str, Any]:
    return {
        **chosen(case, "batch_size microbatches"),
        "design": None if case.best is None else design_answer(case.best),
        "reason": case.reason or None,
    }


def _map(one: BottleneckMap) -> dict[str, Any]:
    return {
        "microbatches": one.microbatches,
        "attention_workers": list(one.workers),
        "rows": [
            {
                "batch_size": row.batch_size,
                "framed_attention_workers": row.best,
                "bottlenecks": list(row.binding),
                "resource_times": list(row.resource_times),
            }
            for row in one.rows
        ],
    }


def _simulated(played: PlayedBundle | None) -> list[dict[str, Any]] | None:
    return None if played is None else [result.answer() for result in played.results]
