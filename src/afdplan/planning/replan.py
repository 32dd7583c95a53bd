"""What would a plan be now, made again under the limits that its file keeps?"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from afdplan.calibration.latency_choice import LatencyChoice
from afdplan.calibration.memory import CacheKind
from afdplan.deploy.registry import find_target
from afdplan.errors import AfdplanError, InvalidInputError
from afdplan.files.plan_file import PlanFile
from afdplan.lengths.law import LengthLaw
from afdplan.model import parameters as ask
from afdplan.model import plan_parameters as of_plan
from afdplan.model.latency import LatencyModel
from afdplan.planning.cache_memory import CacheSpace
from afdplan.planning.chosen_source import chosen_source
from afdplan.planning.colocated import Colocated
from afdplan.planning.colocated_search import ColocatedSearch
from afdplan.planning.design import Design, PlannedDesign
from afdplan.planning.held import Deployment
from afdplan.planning.limits import TIE, Limits
from afdplan.planning.objective import DeviceCost, find_objective
from afdplan.planning.search import DesignSearch
from afdplan.planning.source import LatencySource, MeasuredSource, source_for
from afdplan.planning.space import SearchSpace, graph_batch_sizes

__all__ = ["Replan", "kept_unsplit", "replan", "stored_cost", "stored_source"]

ADDED = (ask.ROUTER_SIDE, ask.SHARED_EXPERTS_SIDE)
"""What plan files did not keep at first, when it was always as the serving system has it."""
SAME_TIME = 1e-6
"""Relative difference of stage times that counts as none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replan:
    """What runs beside the best of its kind, split or not, under the same limits.

    Attributes
    ----------
    kept
        What the plan recommends, under the new requests.
    best
        The best under the stored limits; None if nothing of the kind meets them any more.
    is_rate_reached
        Whether the running design finishes the requests per second that were asked for.
    notes
        What the plan file lacks, one sentence each.
    """

    kept: Deployment
    best: Deployment | None
    is_rate_reached: bool
    notes: tuple[str, ...]

    @property
    def gain(self) -> float:
        """Relative gain of the best design's score over the kept one's; 0 if there is none."""
        return 0.0 if self.best is None else self.best.score / self.kept.score - 1

    @property
    def regret(self) -> float:
        """Share of the best score that keeping the design loses, >= 0."""
        return max(1 - 1 / (1 + self.gain), 0.0)


def replan(plan: PlanFile, law: LengthLaw, *, load_factor: float = 1.0) -> Replan:
    """Return what runs and what planning again would find.

    Parameters
    ----------
    plan
        What runs, with the limits that it was made under.
    law
        Lengths of the new requests.
    load_factor
        Scales the load of every slot (> 0).

    Raises
    ------
    InvalidInputError
        If the file does not keep the limits.
    """
    limits = _limits(plan)
    search, notes = _search(plan, law, load_factor)
    kept = _kept(plan, search, limits)
    best: Deployment | None = search.best(limits) if isinstance(kept, PlannedDesign) else None
    if isinstance(kept, Colocated):
        widths = ColocatedSearch.of(search).widths(limits)
        best = max(widths, key=lambda one: one.score, default=None)
    goal = limits.requests_per_second
    return Replan(
        kept=kept,
        best=best,
        is_rate_reached=goal is None or kept.requests_per_second >= goal * (1 - TIE),
        notes=notes,
    )


def kept_unsplit(plan: PlanFile, law: LengthLaw, load_factor: float) -> Deployment:
    """Return the un-split deployment that a plan recommends, under other requests.

    Raises
    ------
    InvalidInputError
        If the file does not keep the limits.
    """
    return _kept(plan, _search(plan, law, load_factor)[0], _limits(plan))


def _search(
    plan: PlanFile, law: LengthLaw, load_factor: float
) -> tuple[DesignSearch, tuple[str, ...]]:
    source, notes = stored_source(plan)
    space = _space(plan)
    source = source_for(space.target, source)
    if notes:
        # Stage times of one design say nothing of other splits of its experts.
        space = replace(space, ffn_workers=(plan.bundle.ffn_workers,))
    return DesignSearch(law, source, space, stored_cost(plan), load_factor=load_factor), notes


def _kept(plan: PlanFile, search: DesignSearch, limits: Limits) -> Deployment:
    """Return what the plan recommends, described by a search of other requests."""
    if plan.recommends_unsplit and plan.unsplit is not None:
        ours = plan.unsplit
        return ColocatedSearch.of(search).deployed(
            replicas=ours.replicas,
            ranks=ours.ranks,
            devices_per_rank=ours.devices_per_rank,
            batch_size=ours.requests_per_rank // (2 if ours.two_batch_overlap else 1),
            two_batch_overlap=ours.two_batch_overlap,
            limits=limits,
        )
    design = Design(
        bundles=plan.bundles,
        attention_workers=plan.bundle.attention_workers,
        ffn_workers=plan.bundle.ffn_workers,
        batch_size=plan.bundle.batch_size,
        microbatches=plan.bundle.microbatches,
        attention_devices=plan.attention_devices,
        ffn_devices=plan.ffn_devices,
    )
    return search.describe(design, limits)


def _limits(plan: PlanFile) -> Limits:
    asked = plan.inputs
    if asked.get("devices") is None and asked.get("rate") is None:
        raise InvalidInputError("the plan file keeps neither devices nor rate")
    return Limits(
        devices=asked.get("devices"),
        requests_per_second=asked.get("rate"),
        time_per_output_token=plan.time_per_output_token,
        statistic=plan.statistic,
        overflow_probability=plan.overflow_probability,
        node_devices=asked.get("node_devices", of_plan.NODE_DEVICES.default),
        margin=asked.get("margin") or of_plan.MARGIN.default,
    )


def stored_cost(plan: PlanFile) -> DeviceCost:
    """Return the cost of the devices as the plan file keeps it; devices alike unless kept."""
    asked = {one.field: plan.inputs.get(one.key, one.default) for one in of_plan.COST}
    return find_objective(asked["per"]).cost(**asked)


def _space(plan: PlanFile) -> SearchSpace:
    asked = plan.inputs
    sizes = _numbers(asked, "batch_sizes")
    largest = of_plan.LARGEST_BATCH_SIZE.check(
        asked.get("largest_batch_size", of_plan.LARGEST_BATCH_SIZE.default),
        "inputs.largest_batch_size",
    )
    target = find_target(plan.target or of_plan.TARGET.default, plan.target_version)
    return SearchSpace(
        batch_sizes=sizes or graph_batch_sizes(largest),
        fills_gaps=sizes is None,
        microbatches=_numbers(asked, "microbatches") or target.microbatches,
        target=target,
        max_attention_workers=asked.get("max_attention_workers"),
        ffn_workers=_numbers(asked, "ffn_workers"),
        placement=asked.get("placement") or ask.PLACEMENT.default,
        max_bundle_devices=asked.get("max_bundle_devices"),
    )


def _numbers(asked: Any, name: str) -> tuple[int, ...] | None:
    values = asked.get(name)
    if values is None:
        return None
    if not isinstance(values, list | tuple) or not values:
        raise InvalidInputError(f"inputs.{name} must be a list of numbers, got {values!r:.40}")
    return tuple(values)


def stored_source(plan: PlanFile) -> tuple[LatencySource, tuple[str, ...]]:
    """Return the source of the plan; else one of its stored times, and what that leaves out."""
    stored = MeasuredSource(
        plan.latency,
        attention_devices=plan.attention_devices,
        ffn_devices=plan.ffn_devices,
        cache=_cache(plan),
    )
    asked = {one.name: one.default for one in ADDED} | dict(plan.inputs)
    if not asked.get("model"):
        return stored, ()
    rest = "other numbers of FFN workers and of devices per attention worker are not considered"
    names = [one.name for one in (*ask.DERIVED, ask.ATTENTION_DEVICES)]
    missing = [name for name in names if name not in asked]
    if missing:
        return stored, (f"the plan file does not keep {missing[0]}: {rest}",)
    choice = {name: asked[name] for name in names}
    choice["attention_devices"] = _numbers(asked, "attention_devices")
    for name in ("model", "hardware", "ffn_hardware"):
        if not isinstance(choice[name], str | None):
            raise InvalidInputError(f"inputs.{name} must be text, got {choice[name]!r:.40}")
    try:
        source = chosen_source(LatencyChoice.of(choice))
        found = source.latency(
            plan.attention_devices, plan.bundle.ffn_workers, plan.bundle.batch_size
        )
    except AfdplanError as error:
        return stored, (f"the model and hardware of the plan cannot be read ({error}): {rest}",)
    if not _is_same(found, plan.latency, plan):
        return stored, (f"the model or hardware has changed since the plan was made: {rest}",)
    return source, ()


def _is_same(found: LatencyModel, stored: LatencyModel, plan: PlanFile) -> bool:
    """Return whether the stage times of the design are those that the file keeps."""
    size, tokens = plan.bundle.batch_size, plan.bundle.ffn_tokens
    load = size * max(plan.mean_token_load, 1.0)

    def times(model: LatencyModel) -> list[float]:
        attention = [kind.layers * float(kind.time(load, size)) for kind in model.attention]
        links = [model.send.time(size, tokens), model.receive.time(size, tokens)]
        return [sum(attention), float(model.ffn(tokens)), *links, model.step_overhead]

    return found.layers == stored.layers and all(
        math.isclose(a, b, rel_tol=SAME_TIME, abs_tol=1e-15)
        for a, b in zip(times(found), times(stored), strict=True)
    )


def _cache(plan: PlanFile) -> CacheSpace | None:
    if plan.cache_capacity is None:
        return None
    kinds = tuple(CacheKind(amount, window) for amount, window in plan.cache_kinds)
    return CacheSpace(capacity=plan.cache_capacity, kinds=kinds)
