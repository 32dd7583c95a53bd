"""What is deployed in all: the decode side, prefill in front of it, and what failures leave?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from afdplan.errors import InfeasibleError
from afdplan.lengths.law import LengthLaw
from afdplan.model.failures import Failures
from afdplan.model.prefill import PrefillModel
from afdplan.planning.failure_plan import FailurePlan, bundle_choice, failure_plan
from afdplan.planning.first_token import FirstTokenLimit
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.plan import Plan, make_plan
from afdplan.planning.search import DesignSearch
from afdplan.planning.service import Service
from afdplan.planning.service_search import plan_service
from afdplan.planning.source import LatencySource, source_for
from afdplan.planning.space import SearchSpace
from afdplan.planning.traffic import Traffic

__all__ = ["Prefill", "Whole", "plan_whole"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prefill:
    """What is asked of prefill.

    Attributes
    ----------
    limit
        On the time to first token.
    workers
        Kinds of prefill workers to choose from.
    traffic
        Requests as they arrive.
    """

    limit: FirstTokenLimit
    workers: tuple[PrefillModel, ...]
    traffic: Traffic


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Whole:
    """A plan with what stands in front of it and what it loses.

    Attributes
    ----------
    plan
        The decode side.
    service
        Prefill and decoding together; None where only decoding was asked for.
    failures
        What failures leave; None where nobody said how often devices fail.
    """

    plan: Plan
    service: Service | None = None
    failures: FailurePlan | None = None


def plan_whole(
    law: LengthLaw,
    source: LatencySource,
    limits: Limits,
    *,
    prefill: Prefill | None = None,
    failures: Failures | None = None,
    space: SearchSpace | None = None,
    cost: DeviceCost | None = None,
    progress: Callable[[float], None] | None = None,
    **asked: Any,
) -> Whole:
    """Return a plan, of the whole service where prefill is asked for, under failures if any.

    Parameters
    ----------
    law, source, limits, space, cost
        As of `afdplan.planning.plan.make_plan`.
    prefill
        Limit and choices of prefill; None plans decoding only.
    failures
        Times and spares; then bundles are only as large as pays, and a wanted rate is reached
        with failures. Spare devices are taken off the budget.
    progress
        Called with the share done, 0 to 1.
    **asked
        `trace`, `token_load` of `make_plan`.

    Raises
    ------
    InfeasibleError
        If nothing meets the limits.
    """
    space, cost = space or SearchSpace(), cost or DeviceCost()
    source = source_for(space.target, source)
    if failures is None:
        return _planned(law, source, limits, prefill, space, cost, progress, asked)
    if limits.devices is not None:
        left = limits.devices - failures.spare_devices
        if left < 2:
            raise InfeasibleError(
                f"spare_devices must leave devices to work, got {failures.spare_devices} of "
                f"{limits.devices}"
            )
        limits = replace(limits, devices=left)
    found = _planned(law, source, limits, prefill, space, cost, progress, asked)
    search = DesignSearch(law, found.plan.source, space, cost)
    inside = found.plan.limits
    if limits.requests_per_second is not None:
        inside = replace(inside, requests_per_second=limits.requests_per_second)
    others = 0 if found.service is None else found.service.prefill_devices
    sizes = bundle_choice(search, inside, failures, others)
    best = max(sizes, key=lambda size: size.expected_score, default=None)
    lost = failure_plan(found.plan.recommended, search, inside, failures, sizes, others)
    is_smaller = best is not None and best is not sizes[0]
    wanted = limits.requests_per_second
    if is_smaller or wanted is not None:
        if best is not None and is_smaller:
            space = replace(space, max_bundle_devices=best.most_devices)
        if wanted is not None:
            limits = replace(limits, requests_per_second=wanted / lost.bundle.share)
        found = _planned(law, source, limits, prefill, space, cost, progress, asked)
        others = 0 if found.service is None else found.service.prefill_devices
        inside = replace(inside, devices=found.plan.limits.devices)
        lost = failure_plan(found.plan.recommended, search, inside, failures, sizes, others)
    if found.service is not None:  # prefill and bursts may let less through than is decoded
        carried = min(lost.requests_per_second, found.service.rate)
        lost = replace(lost, requests_per_second=carried)
    return replace(found, failures=lost)


def _planned(
    law: LengthLaw,
    source: LatencySource,
    limits: Limits,
    prefill: Prefill | None,
    space: SearchSpace,
    cost: DeviceCost,
    progress: Callable[[float], None] | None,
    asked: dict[str, Any],
) -> Whole:
    shared = {"space": space, "cost": cost, "progress": progress, **asked}
    if prefill is None:
        return Whole(plan=make_plan(law, source, limits, **shared))
    service = plan_service(
        law, source, limits, prefill.limit, prefill.workers, prefill.traffic, **shared
    )
    return Whole(plan=service.plan, service=service)
