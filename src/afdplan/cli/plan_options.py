"""Which options does `afdplan plan` take, and which limits, space, source and cost do they name?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from afdplan.cli.options import options, resolve_choice
from afdplan.model import parameters as ask
from afdplan.model import plan_parameters as of_plan
from afdplan.model.chosen import picked
from afdplan.planning.objective import OBJECTIVES, find_objective

if TYPE_CHECKING:
    from afdplan.calibration.latency_choice import LatencyChoice
    from afdplan.planning.limits import Limits
    from afdplan.planning.objective import DeviceCost
    from afdplan.planning.source import LatencySource
    from afdplan.planning.space import SearchSpace

__all__ = [
    "limit_options",
    "resolve_cost",
    "resolve_limits",
    "resolve_source",
    "resolve_space",
    "source_options",
]

LATENCIES = (
    ask.LATENCY,
    of_plan.KV_TOKENS,
    of_plan.COLOCATED_KV_TOKENS,
    *ask.DERIVED,
    ask.ATTENTION_DEVICES.changed(
        typed="numbers",
        metavar="LIST",
        help="Devices per attention worker; with --model several may be tried: 1,2,4,8.",
    ),
    ask.FFN_DEVICES.changed(help="With --latency: devices per FFN worker."),
)
SPACE = (
    ask.BATCH_SIZE.changed(
        name="batch_sizes",
        typed="numbers",
        metavar="LIST",
        help="Only these batch sizes B: 8,16 or 1..64.",
    ),
    of_plan.LARGEST_BATCH_SIZE,
    ask.MICROBATCHES.changed(
        default=None, typed="numbers", metavar="LIST", help="m to try; by default 1,2,3."
    ),
    ask.FFN_WORKERS.changed(
        default=None, typed="numbers", metavar="LIST", help="F per bundle to try."
    ),
    ask.MAX_ATTENTION_WORKERS.changed(metavar="A", help="Most A per bundle."),
    ask.PLACEMENT,
    of_plan.MAX_BUNDLE_DEVICES,
)
PER = of_plan.PER.changed(choices=tuple(OBJECTIVES))
COSTS = tuple(one.changed(default=None) for one in of_plan.COST[1:])

source_options = options(*LATENCIES, fills=False)
"""Adds --latency, or --model and --hardware with what refines them."""
limit_options = options(*of_plan.LIMITS, *of_plan.TARGETS, PER, *COSTS, *SPACE)
"""Adds limits, objective and candidates."""


def resolve_limits(given: dict[str, Any]) -> Limits:
    """Return the limits that the options name."""
    from afdplan.planning.limits import Limits

    if given["devices"] is None and given["rate"] is None:
        raise click.UsageError("say what there is or what is wanted: --devices N, --rate R or both")
    return Limits(**{one.field: given[one.key] for one in of_plan.LIMITS})


def resolve_space(given: dict[str, Any]) -> SearchSpace:
    """Return the candidates that the options name."""
    from afdplan.deploy.registry import find_target
    from afdplan.planning.space import SearchSpace, graph_batch_sizes

    target = find_target(given["target"], given["target_version"])
    if target.split is not None:  # what deploy would refuse, it refuses now
        from afdplan.calibration.catalogue import model_type
        from afdplan.deploy.devices import kind_of
        from afdplan.deploy.suits import check_devices, check_model

        check_model(target, model_type(given["model"]) if given["model"] else "")
        check_devices(target, kind_of(None, given["hardware"]))
    return SearchSpace(
        batch_sizes=given["batch_sizes"] or graph_batch_sizes(given["max_batch_size"]),
        fills_gaps=given["batch_sizes"] is None,
        microbatches=given["microbatches"] or target.microbatches,
        target=target,
        **picked(given, "max_attention_workers ffn_workers placement max_bundle_devices"),
    )


def resolve_source(given: dict[str, Any]) -> tuple[LatencySource, DeviceCost]:
    """Return the latency source and the cost that the options name."""
    from afdplan.planning.chosen_source import chosen_source

    choice = resolve_choice(given)
    devices = given["attention_devices"]
    if not choice.is_derived and devices is not None and len(devices) > 1:
        raise click.UsageError("--latency was measured at one number of --attention-devices")
    if choice.is_derived and given["ffn_devices"] is not None:
        raise click.UsageError(
            "--ffn-devices belongs to --latency; with --model the plan chooses them"
        )
    return chosen_source(choice), resolve_cost(given, choice)


def resolve_cost(given: dict[str, Any], choice: LatencyChoice) -> DeviceCost:
    """Return what a device of each side costs: as given, or as its hardware file says.

    Of a prefill device as of an attention device, unless its hardware is named and no price.
    """
    per = given["per"]
    objective = find_objective(per)
    asked = {one: given[one.key] for one in COSTS}
    if not objective.hardware_field:
        if any(value is not None for value in asked.values()):
            *others, last = [name for name, one in OBJECTIVES.items() if one.hardware_field]
            raise click.UsageError(
                f"--attention-cost and --ffn-cost need --per {', '.join(others)} or {last}"
            )
        return objective.cost(per=per)
    devices = choice.devices() if choice.is_derived else (None, None)
    for (one, cost), hardware in zip(asked.items(), devices, strict=True):
        if cost is None and hardware is not None:
            asked[one] = getattr(hardware, objective.hardware_field)
        if asked[one] is None:
            raise click.UsageError(f"--per {per} needs {one.option}: what a device costs")
    unit = objective.unit
    if objective.hardware_field == "price_per_hour" and devices[0] is not None:
        unit = f"{devices[0].currency}/h"
    prefill = None
    if given.get("prefill_hardware") is not None and given[COSTS[0].key] is None:
        from afdplan.calibration.catalogue import find_hardware

        named = find_hardware(given["prefill_hardware"])
        prefill = getattr(named, objective.hardware_field)
        if prefill is None or (unit.endswith("/h") and f"{named.currency}/h" != unit):
            raise click.UsageError(
                f"--per {per} needs what a device of --prefill-hardware {named.name} costs in "
                f"{unit}: give --attention-cost and --ffn-cost, prefill then costs as attention"
            )
    costs = {one.field: cost for one, cost in asked.items()}
    return objective.cost(per=per, **costs, prefill=prefill, unit=unit)
