"""What would a running plan be by other times than those it was made with?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from afdplan.calibration.derived import times_of
from afdplan.calibration.latency_choice import LatencyChoice
from afdplan.errors import InvalidInputError, TimeUnitError
from afdplan.files.plan_file import PlanFile
from afdplan.model import parameters as ask
from afdplan.model.parameter import Parameter
from afdplan.planning.cache_memory import CacheSpace

__all__ = ["retimed"]

NO_CHANGE: dict[str, Any] = {}


def retimed(plan: PlanFile, given: Mapping[str, Any], say: Callable[[Parameter], str]) -> PlanFile:
    """Return the same design with stage times, and memory, of another choice.

    Parameters
    ----------
    plan
        What runs.
    given
        Values of `LatencyChoice` by name; None keeps what the plan was made with. A latency model
        takes the place of all of it and keeps the plan's memory.
    say
        How messages call a parameter.

    Raises
    ------
    InvalidInputError
        If the values do not go together, or the devices of the plan cannot hold the model.
    TimeUnitError
        If the times are in another unit than the plan's.
    """
    asked = {name: value for name, value in given.items() if value is not None}
    made = {one.name: plan.inputs.get(one.name) for one in ask.DERIVED}
    if ask.LATENCY.name in asked:
        choice, kept = LatencyChoice.of(asked, say), dict.fromkeys(made)
        model, memory = choice.resolve(), NO_CHANGE
        if model.time_unit != plan.latency.time_unit:
            raise TimeUnitError(
                f"{say(ask.LATENCY)} must be in the plan's unit of time, {plan.latency.time_unit}, "
                f"got {model.time_unit}"
            )
    else:
        kept = {**made, **asked} if plan.model else asked
        choice = LatencyChoice.of(kept, say)
        placement = choice.placement(
            attention_devices=plan.attention_devices,
            ffn_devices=plan.ffn_devices,
            ffn_workers=plan.bundle.ffn_workers,
            batch_size=plan.bundle.batch_size,
        )
        model, space = times_of(placement), CacheSpace.of(placement.memory())
        if space is None:
            raise InvalidInputError("no memory is left for the KV cache on the plan's devices")
        kinds = tuple((kind.bytes_per_token, kind.window) for kind in space.kinds)
        memory = {"cache_capacity": space.capacity, "cache_kinds": kinds}
    return replace(
        plan,
        latency=model,
        model=str(kept.get("model") or ""),
        inputs=MappingProxyType({**plan.inputs, **dict.fromkeys(made), **kept}),
        **memory,
    )
