"""What do effects cost a planned bundle, under the limits that it keeps?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from afdplan.calibration.placement import Placement
from afdplan.deploy.registry import find_target
from afdplan.deploy.target import Target
from afdplan.errors import AfdplanError
from afdplan.files.plan_file import PlanFile
from afdplan.planning.derived_source import DerivedSource
from afdplan.planning.effect_costs import EffectCost, effect_costs
from afdplan.planning.plan import Plan
from afdplan.planning.replan import stored_source
from afdplan.planning.source import LatencySource
from afdplan.theory.problem import RatioProblem

__all__ = ["plan_effects", "running_effects"]


def plan_effects(
    plan: Plan, source: LatencySource, problem: RatioProblem
) -> tuple[EffectCost, ...]:
    """Return the effects at the plan's best split; its problem says the most attention workers.

    Examples
    --------
    >>> from afdplan.lengths.law import IndependentLengths
    >>> from afdplan.model.latency import LatencyModel
    >>> from afdplan.planning.limits import Limits
    >>> from afdplan.planning.plan import make_plan
    >>> from afdplan.planning.source import MeasuredSource
    >>> plain = LatencyModel.linear(attention=(1e-9, 2e-5), ffn=(2e-7, 1e-4), layers=60,
    ...     time_unit="s")
    >>> source = MeasuredSource(plain, kv_tokens=1e6)
    >>> law = IndependentLengths(prompt="geometric:1000", decode="geometric:500")
    >>> plan = make_plan(law, source, Limits(devices=16))
    >>> plan_effects(plan, source, plan.problem)
    ()
    """
    design, limits = plan.split.design, plan.limits
    longest = limits.time_per_output_token
    target, devices = plan.space.target, (design.attention_devices, design.ffn_devices)
    return effect_costs(
        problem,
        design.attention_workers,
        derived=_placed(source, design.attention_devices, design.ffn_workers, design.batch_size),
        longest_step=None if longest is None else longest * plan.latency.tokens_per_step,
        statistic=limits.statistic,
        allowed=_legal(target, design.ffn_workers, devices),
    )


def running_effects(plan: PlanFile, problem: RatioProblem) -> tuple[EffectCost, ...]:
    """Return the effects at the bundle of a plan file, under the requests that it sees now."""
    bundle, longest = plan.bundle, plan.time_per_output_token
    placed = None
    with suppress(AfdplanError):  # a plan that cannot be made again says so itself
        source, _ = stored_source(plan)
        placed = _placed(source, plan.attention_devices, bundle.ffn_workers, bundle.batch_size)
    return effect_costs(
        problem,
        bundle.attention_workers,
        derived=placed,
        longest_step=None if longest is None else longest * plan.latency.tokens_per_step,
        statistic=plan.statistic,
        allowed=_legal(
            find_target(plan.target or "any", plan.target_version),
            bundle.ffn_workers,
            (plan.attention_devices, plan.ffn_devices),
        ),
    )


def _placed(
    source: LatencySource, attention_devices: int, ffn_workers: int, batch_size: int
) -> Placement | None:
    """Return where the design runs, if its times are derived."""
    if not isinstance(source, DerivedSource):
        return None
    return replace(
        source.placement,
        attention_devices=attention_devices,
        ffn_workers=ffn_workers,
        batch_size=batch_size,
    )


def _legal(target: Target, ffn_workers: int, devices: tuple[int, int]) -> Callable[[Any], Any]:
    def legal(workers: Any) -> Any:
        return target.allows(workers, ffn_workers, *devices)

    return legal
