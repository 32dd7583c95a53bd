"""How should devices be shared between prefill, attention and FFN?

The best sharing with a split decode side and the best one with un-split ranks are found; the
better one's decode devices are then planned as ever, and the rate of the service is that which its
prefill workers and the slots of what is recommended carry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from afdplan.errors import InfeasibleError, UnsupportedError
from afdplan.lengths.law import LengthLaw
from afdplan.model.prefill import PrefillModel
from afdplan.model.words import counted
from afdplan.planning.colocated import Colocated
from afdplan.planning.colocated_search import ColocatedSearch
from afdplan.planning.design import PlannedDesign
from afdplan.planning.first_token import FirstTokenLimit, PrefillPool
from afdplan.planning.infeasible import explain_infeasible
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.plan import Plan, make_plan
from afdplan.planning.search import DesignSearch
from afdplan.planning.service import Service
from afdplan.planning.service_baselines import service_baselines
from afdplan.planning.service_limits import one_more, service_cases
from afdplan.planning.service_sharing import (
    MORE_DECODE,
    Sharing,
    cheapest_ranks,
    cheapest_split,
    least_cost,
    most_ranks,
    most_split,
)
from afdplan.planning.source import LatencySource
from afdplan.planning.space import SearchSpace
from afdplan.planning.traffic import Traffic
from afdplan.planning.verdict import CLEAR

__all__ = ["plan_service"]

MOST_ROUNDS = 4
"""Plans with shared blocks, each with the sharing of the one before."""
SAME = 0.01
"""Relative difference of KV memory that counts as none."""


def plan_service(
    law: LengthLaw,
    source: LatencySource,
    limits: Limits,
    first_token: FirstTokenLimit,
    workers: tuple[PrefillModel, ...],
    traffic: Traffic,
    *,
    space: SearchSpace | None = None,
    cost: DeviceCost | None = None,
    progress: Callable[[float], None] | None = None,
    **asked: Any,
) -> Service:
    """Return the service with the most requests per second, or the fewest devices for a rate.

    Parameters
    ----------
    law, source, limits, space, cost
        As of `make_plan`; the devices are those of prefill, attention and FFN together.
    first_token
        Limit on the time to first token.
    workers
        Prefill workers to choose from, one kind each.
    traffic
        Requests as they arrive.
    progress
        Called with the share done, 0 to 1.
    **asked
        `trace`, `token_load` of `make_plan`.

    Raises
    ------
    InfeasibleError
        If no sharing meets the limits.
    UnsupportedError
        If a budget is to be divided by money or watts: ask for a rate then.

    Notes
    -----
    The sharing is the best over every number of workers of each kind, given the decode side that
    is best for itself on what is left (`afdplan.planning.service_sharing`). A split decode side
    must carry 5 % more than un-split ranks to be preferred, as in a plan.
    """
    shared = (limits, first_token, workers, traffic, space or SearchSpace(), cost or DeviceCost())

    def planned(fraction: float) -> Service:
        inside = source if fraction == 1 else source.sharing(fraction)
        found = _plan_service(law, inside, *shared, progress or (lambda _: None), asked)
        return replace(found, unique_fraction=fraction)

    return _with_shared_blocks(planned, traffic)


def _with_shared_blocks(planned: Callable[[float], Service], traffic: Traffic) -> Service:
    """Return the service whose memory holds shared blocks once, no more of them than it shares."""

    def left(service: Service) -> float:
        chosen = service.plan.recommended
        if isinstance(chosen, PlannedDesign):
            design = chosen.design
            return traffic.unique_fraction(chosen.slots, design.bundles * design.attention_workers)
        return traffic.unique_fraction(chosen.slots, chosen.replicas * chosen.ranks)

    alone = planned(1.0)
    fraction = left(alone)
    for _ in range(MOST_ROUNDS):
        if fraction > 1 - SAME:
            break
        service = planned(fraction)
        found = left(service)
        if found <= fraction * (1 + SAME):
            return service
        fraction = found
    return alone


def _plan_service(
    law: LengthLaw,
    source: LatencySource,
    limits: Limits,
    first_token: FirstTokenLimit,
    workers: tuple[PrefillModel, ...],
    traffic: Traffic,
    space: SearchSpace,
    cost: DeviceCost,
    show: Callable[[float], None],
    asked: dict[str, Any],
) -> Service:
    pools = _pools(workers, traffic, first_token, limits.margin)
    search = DesignSearch(law, source, space, cost)
    split, ranks = _sharings(pools, limits, search, cost)
    show(0.3)
    if ranks is not None and not _can_be_planned(ranks, limits, search):
        ranks = None
    options = [one for one in (split, ranks) if one is not None]
    if not options:
        raise _too_few(limits, pools, search)

    def score(sharing: Sharing) -> float:
        if limits.requests_per_second is None:
            return sharing.rate
        return 1 / (sharing.decode.cost + cost.of_prefill * sharing.prefill_devices)

    def value(service: Service) -> float:
        if limits.requests_per_second is None:
            return service.rate
        return 1 / (service.plan.recommended.cost + cost.of_prefill * service.prefill_devices)

    def planned(sharing: Sharing) -> Service | None:
        larger = (factor for factor in MORE_DECODE if factor > sharing.decode_factor)
        for factor in (sharing.decode_factor, *larger):
            plan = make_plan(
                law,
                source,
                _left(limits, sharing, factor),
                space=space,
                cost=cost,
                search=search,
                # What arrives by itself says nothing of a service that is planned for its most.
                judges_supply=False,
                progress=lambda share: show(0.3 + 0.6 * share),
                **asked,
            )
            service = _served(plan, sharing, limits)
            # What is recommended may have fewer slots than what was found: it is planned larger.
            if service is not None or limits.requests_per_second is None:
                return service
        return None

    best = max(options, key=score)
    if best is split and ranks is not None and score(split) < (1 + CLEAR) * score(ranks):
        best = ranks
    service = planned(best)
    is_unsplit = service is None or isinstance(service.plan.recommended, Colocated)
    if best is split and ranks is not None and is_unsplit and not _is_as_wide(best, ranks):
        # Too little is gained on what prefill leaves of a split: ranks have a sharing of their own.
        found = [one for one in (service, planned(ranks)) if one is not None]
        service = max(found, key=value, default=None)
    if service is None:
        raise _too_slow(best)
    show(0.95)
    return replace(
        service,
        steps=one_more(service, search),
        cases=service_cases(service),
        baselines=service_baselines(service, options, search),
    )


def _can_be_planned(ranks: Sharing, limits: Limits, search: DesignSearch) -> bool:
    """Return whether a plan of un-split ranks has a split to tell, or the nearest one."""
    left = _left(limits, ranks, ranks.decode_factor)
    if search.best(left) is not None:
        return True
    able = ColocatedSearch.of(search).widths(left)
    return explain_infeasible(search, left, able).nearest is not None


def _is_as_wide(one: Sharing, other: Sharing) -> bool:
    """Return whether two sharings leave the same to decode, so that their plans are one."""
    shares = [(each.workers, each.pool.model, each.decode_factor) for each in (one, other)]
    return shares[0] == shares[1]


def _sharings(
    pools: list[PrefillPool], limits: Limits, search: DesignSearch, cost: DeviceCost
) -> tuple[Sharing | None, Sharing | None]:
    """Return the best sharing with a split decode side, and with un-split ranks."""
    widths = ColocatedSearch.of(search).widths
    if limits.requests_per_second is not None:
        each = cost.of_prefill
        split = cheapest_split(pools, limits, search.best, each)
        return split, cheapest_ranks(pools, limits, widths(limits), each)
    if limits.devices is None or cost.per != "device":
        raise UnsupportedError(
            f"with --ttft and --devices the most requests per second are sought, not per "
            f"{cost.per}: leave --per out, or give --rate to seek the least cost"
        )
    least = limits.devices - min(pool.model.devices for pool in pools)
    if least < 1:
        return None, None
    designs: dict[int, PlannedDesign | None] = {}

    def decode(devices: int) -> PlannedDesign | None:
        if devices not in designs:
            # What fits fewer devices is known to fit: the search looks at what beats it.
            smaller = max((n for n in designs if n < devices and designs[n] is not None), default=0)
            inside = replace(limits, devices=devices)
            found = None if devices < 2 else search.best(inside, known=designs.get(smaller))
            designs[devices] = found
        return designs[devices]

    split = most_split(pools, limits.devices, decode)
    return split, most_ranks(pools, limits.devices, widths(replace(limits, devices=least)))


def _left(limits: Limits, best: Sharing, factor: float) -> Limits:
    """Return the limits of the decode side."""
    left, rate = limits.devices, limits.requests_per_second
    return replace(
        limits,
        devices=None if left is None else left - best.prefill_devices,
        requests_per_second=None if rate is None else rate * factor,
    )


def _pools(
    workers: tuple[PrefillModel, ...], traffic: Traffic, limit: FirstTokenLimit, margin: float
) -> list[PrefillPool]:
    """Return a pool of every kind of worker that can meet the limit at all."""
    found, refusals = [], []
    for model in workers:
        try:
            found.append(PrefillPool(model, traffic, limit, margin))
        except InfeasibleError as error:
            refusals.append(error)
    if not found:
        raise refusals[-1]
    return found


def _served(plan: Plan, sharing: Sharing, limits: Limits) -> Service | None:
    """Return the service of what the plan recommends behind the workers of a sharing.

    None if no number of workers keeps the limits.
    """
    pool, workers, chosen = sharing.pool, sharing.workers, plan.recommended
    wanted = limits.wanted_rate
    if wanted is not None:
        fewest = pool.fewest_workers(wanted, chosen)
        if fewest is None:
            return None
        workers = fewest
    rate = pool.most_rate(workers, chosen)
    if not rate:
        return None
    return Service(
        plan=plan,
        pool=pool,
        workers=workers,
        rate=rate,
        first_token=pool.first_tokens(workers, limits.requests_per_second or rate, chosen),
        devices=limits.devices,
        limits=limits,
    )


def _too_slow(best: Sharing) -> InfeasibleError:
    return InfeasibleError(
        f"no number of prefill workers keeps the time to first token below "
        f"{best.pool.limit.time_to_first_token:g} s: in bursts of the arrivals requests wait for a "
        "slot; give a longer time to first token or more devices"
    )


def _too_few(limits: Limits, pools: list[PrefillPool], search: DesignSearch) -> InfeasibleError:
    """Return what conflicts: the decode limits alone, or devices for both sides."""
    least = int(least_cost(pools, limits.wanted_rate or 0.0, 1.0))
    if limits.devices is not None and least >= limits.devices:
        return InfeasibleError(
            f"{limits.devices} devices are too few: prefill alone takes "
            f"{counted(least, 'device')} at least; give more devices, or a lower rate"
        )
    if search.best(limits) is None:
        if limits.devices is None:
            return explain_infeasible(search, limits)
        error = explain_infeasible(search, replace(limits, devices=limits.devices - least))
        computing = f"{least} of {counted(limits.devices, 'device')} compute prompts"
        return InfeasibleError(f"{computing}; on the others {error}", error.nearest)
    most = "" if limits.devices is None else f"{limits.devices} devices are too few: "
    return InfeasibleError(
        f"{most}prefill takes {counted(least, 'device')} at least, and with what is left no decode "
        "side keeps the limits; give more devices, a longer time to first token or per output token"
    )
