"""Would the planned split do better without the barrier?"""

from __future__ import annotations

from dataclasses import replace

from afdplan.deploy.registry import versions
from afdplan.deploy.target import Target
from afdplan.model import parameters as ask
from afdplan.model.coupling import UNCOUPLED, Coupling
from afdplan.planning.plan import Plan
from afdplan.planning.search import MOST_DEVICES
from afdplan.planning.source import GATHERED
from afdplan.theory.modes import compare_modes
from afdplan.theory.ratio import ModeVerdict
from afdplan.theory.solve import solve_ratio

__all__ = ["has_both_modes", "meets_limit", "plan_modes"]


def has_both_modes(target: Target) -> bool:
    """Say whether the plan's system also runs without a barrier; no system in particular may."""
    return not target.restricts or any(
        one.execution == "barrier-free" for one in versions(target.name)
    )


def meets_limit(plan: Plan, modes: ModeVerdict) -> bool | None:
    """Say whether the bundle without the barrier keeps the plan's time per output token.

    Its workers have steps of their own, and the limit is held against the steps of all of them;
    None if there is no limit.
    """
    if plan.limits.time_per_output_token is None:
        return None
    step = modes.step_statistic(plan.limits.statistic)
    return bool(plan.limits.meets(step, plan.latency.tokens_per_step))


def plan_modes(plan: Plan) -> ModeVerdict:
    """Return both modes at the plan's batch size, microbatches and FFN workers.

    Each has its own best number of attention workers within the devices of the plan's limit and
    of a bundle's, and requests that are placed in turn. Tokens are spread evenly: without a barrier
    no FFN worker has attention workers of its own, whatever the plan's system does with one.
    """
    problem, latency = plan.problem, plan.latency
    if latency.coupling == Coupling(**GATHERED):
        latency = replace(latency, coupling=UNCOUPLED)
    problem = replace(
        problem,
        latency=latency,
        execution="barrier-free",
        placement=ask.PLACEMENT.default,
        max_attention_workers=plan.space.max_attention_workers,
    )
    design = plan.split.design
    for devices in (plan.limits.devices, plan.space.max_bundle_devices):
        if devices is not None:  # no bundle of a plan has more than so many, with a barrier either
            most = min(devices, MOST_DEVICES)
            problem = problem.within(most, design.attention_devices, design.ffn_devices)
    slots = problem.slot_loads()
    return compare_modes(problem, slots, solve_ratio(problem, slots))
