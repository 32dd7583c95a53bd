"""Which side limits the service, and what would one step more of each bring?

Every side is enlarged alone by the least step that there is (a prefill worker, an attention worker
of every bundle, the next number of FFN workers, a group of ranks), the others kept; where the
time per output token would then be broken, the batch size gives way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from afdplan.planning.colocated import Colocated
from afdplan.planning.design import Design, PlannedDesign
from afdplan.planning.held import Deployment
from afdplan.planning.limits import Limits
from afdplan.planning.search import DesignSearch
from afdplan.planning.service import OneMore, Service, ServiceCase
from afdplan.planning.service_sharing import multiplied

__all__ = ["one_more", "service_cases"]


def one_more(service: Service, search: DesignSearch) -> tuple[OneMore, ...]:
    """Return what one step more of each side brings, the most per device first.

    Parameters
    ----------
    service
        The recommended one.
    search
        Over the same requests and source.
    """
    found = [
        OneMore(
            side=side,
            change=change,
            devices=devices,
            rate=rate,
            gain=max(rate / service.rate - 1, 0.0),
        )
        for side, change, devices, rate in _steps(service, search)
    ]
    return tuple(sorted(found, key=lambda step: -step.gain_per_device))


def _steps(service: Service, search: DesignSearch) -> Iterator[tuple[str, str, int, float]]:
    pool, workers, chosen = service.pool, service.workers, service.plan.recommended
    each = service.model.devices
    yield "prefill", "1 prefill worker", each, pool.most_rate(workers + 1, chosen)
    if isinstance(chosen, Colocated):
        group = chosen.devices // chosen.replicas
        larger = multiplied(chosen, chosen.replicas + 1)
        yield "decode", "1 group of ranks", group, pool.most_rate(workers, larger)
        return
    design = chosen.design
    per_bundle = f" in each of {design.bundles} bundles" if design.bundles > 1 else ""
    other = replace(design, attention_workers=design.attention_workers + 1)
    numbers = search.source.ffn_workers(2 * design.ffn_workers + 64)
    more = [f for f in numbers if f > design.ffn_workers]
    trials = [("attention", "1 attention worker", other)]
    if more:
        count = more[0] - design.ffn_workers
        noun = "FFN worker" if count == 1 else "FFN workers"
        trials.append(("FFN", f"{count} {noun}", replace(design, ffn_workers=more[0])))
    for side, change, larger_design in trials:
        found = _within_time(search, larger_design, service.plan.planned_limits)
        if found is not None:
            added = found.devices - design.devices
            yield side, change + per_bundle, added, pool.most_rate(workers, found)


def _within_time(search: DesignSearch, design: Design, limits: Limits) -> PlannedDesign | None:
    """Return a design with the largest batch size, up to its own, that meets the time."""
    least, most = 0, design.batch_size
    best = None
    while least < most:
        # Its own first, which often does.
        size = most if most == design.batch_size else (least + most + 1) // 2
        found = search.describe(replace(design, batch_size=size), limits)
        if limits.meets(found.token_time(limits.statistic)):
            least, best = size, found
        else:
            most = size - 1
    for size in range(design.batch_size, least + 1, -1):
        if _may_be_faster(search, replace(design, batch_size=least + 1), size, limits):
            found = search.describe(replace(design, batch_size=size), limits)
            if limits.meets(found.token_time(limits.statistic)):
                return found
    return best


def _may_be_faster(search: DesignSearch, slow: Design, size: int, limits: Limits) -> bool:
    """Return whether a larger batch may meet the time that `slow` does not, by faster reading."""
    models, larger = search.models, slow.combination._replace(batch_size=size)
    if models.least_reading(slow.combination, (size,))[0] == 1:
        return False
    pair = np.array([slow.attention_workers]), np.array([slow.ffn_workers])
    stages = models.times.stages(*pair, size, at_least=True)
    _, statistic = models.tight_bounds(larger, stages, limits, slow.combination)
    return bool(limits.meets(statistic, models.tokens_per_step)[0])


def service_cases(service: Service) -> tuple[ServiceCase, ...]:
    """Return 1P1D, 2P1D, 1P2D and 2P2D: what doubling either side does."""
    chosen = service.plan.recommended
    found = []
    for prefill, decode in ((1, 1), (2, 1), (1, 2), (2, 2)):
        workers = prefill * service.workers
        if isinstance(chosen, Colocated):
            side: Deployment = multiplied(chosen, decode * chosen.replicas)
        else:
            side = multiplied(chosen, decode * chosen.design.bundles)
        able = service.pool.most_rate(workers)
        found.append(
            ServiceCase(
                name=f"{prefill}P{decode}D",
                devices=workers * service.model.devices + side.devices,
                rate=service.pool.most_rate(workers, side),
                limited_by="prefill" if able < side.requests_per_second else "decode",
            )
        )
    return tuple(found)
