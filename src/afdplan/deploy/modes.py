"""With a barrier or without: which version of a system runs what of a plan?"""

from __future__ import annotations

from dataclasses import replace

from afdplan.deploy.registry import find_target, versions
from afdplan.deploy.target import Target
from afdplan.errors import InvalidInputError
from afdplan.files.plan_barrier_free import BarrierFreePlan
from afdplan.files.plan_file import PlanFile
from afdplan.model.checks import check_count
from afdplan.model.parameters import Execution

__all__ = ["in_mode"]


def in_mode(
    plan: PlanFile,
    name: str,
    version: str | None = None,
    execution: Execution | None = None,
    model_type: str = "",
) -> tuple[PlanFile, Target]:
    """Return what is deployed, and the version of the system that runs it.

    Parameters
    ----------
    plan
        As its file says.
    name, version
        Of the system. Without a version that of the plan if it is of this system, else the newest.
    execution
        With or without a barrier; None takes what the plan found to be better, where the system
        has it for this model and pair, and no version is named.
    model_type
        As in the model's configuration; empty if not known.

    Raises
    ------
    InvalidInputError
        If the plan compared no modes and one without a barrier is asked for.
    UnsupportedError
        If no version of the system, or not the named one, runs that way.

    Notes
    -----
    Without a barrier a bundle has its own best A; there are as many bundles as the devices allow.
    """
    mode = plan.barrier_free
    if version is None and execution is None and mode is not None and mode.gain > 0:
        able = [target for target in versions(name) if _runs(target, plan, mode, model_type)]
        version = able[0].version if able else None
    if version is None and name == plan.target and execution is None:
        version = plan.target_version
    target = find_target(name, version, execution)
    if target.execution == "synchronous":
        return plan, target
    if mode is None:
        if execution is not None:
            raise InvalidInputError(
                "the plan compared no modes: plan with --execution barrier-free first"
            )
        return plan, target
    bundle = replace(plan.bundle, attention_workers=mode.attention_workers)
    size = mode.attention_workers * plan.attention_devices + plan.bundle.ffn_workers * (
        plan.ffn_devices
    )
    devices = check_count("devices of the plan", plan.inputs.get("devices") or plan.devices)
    bundles = max(devices // size, 1)
    slots = bundles * bundle.attention_workers * bundle.requests_per_attention_worker
    return replace(
        plan,
        bundles=bundles,
        bundle=bundle,
        step_time_mean=mode.step_time,
        step_time_p99=mode.step_time_p99,
        tokens_per_second=slots * plan.latency.tokens_per_step / mode.step_time,
        least_calls=mode.least_calls,
    ), target


def _runs(target: Target, plan: PlanFile, mode: BarrierFreePlan, model_type: str) -> bool:
    """Return whether a version runs the plan without a barrier."""
    devices = (plan.attention_devices, plan.ffn_devices)
    return (
        target.execution == "barrier-free"
        and target.knows(model_type)
        and plan.bundle.microbatches in target.microbatches
        and bool(target.allows(mode.attention_workers, plan.bundle.ffn_workers, *devices))
    )
