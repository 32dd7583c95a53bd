"""What would the same devices do with prefill and un-split decoding, or without any split at all?

**Prefill-decode**: the same prefill workers in front of ranks that run attention and experts.

**Un-split**: every group of ranks computes prompts and decodes in turn, prompts first. With x
requests per second and group, E[T] the time of a prompt on all its ranks in full passes, S slots
and a decode step of tau,

    rho = x E[T],   x E[D] = (1 - rho) S / tau,   time per output token = tau / (1 - rho)

A percentile of the step is that of decoding plus one pass, once more steps than its tail hold a
pass. The time to first token is replayed with a worker per group, and a decode step in front.
Where prefill was measured, ranks are slower than derived by the factor of the measured worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from afdplan.calibration.derived_prefill import derive_prefill
from afdplan.errors import AfdplanError
from afdplan.planning.colocated import Colocated
from afdplan.planning.colocated_search import ColocatedSearch
from afdplan.planning.derived_source import DerivedSource
from afdplan.planning.design import PlannedDesign
from afdplan.planning.first_token import PrefillPool
from afdplan.planning.limits import Limits
from afdplan.planning.search import DesignSearch
from afdplan.planning.service import Baseline, Service
from afdplan.planning.service_sharing import MORE_DECODE, Sharing, multiplied
from afdplan.simulation.service_queue import PromptLine

__all__ = ["service_baselines"]


def service_baselines(
    service: Service, sharings: list[Sharing], search: DesignSearch
) -> tuple[Baseline, ...]:
    """Return the best deployment of every kind that meets the limits, the recommended one's too.

    Parameters
    ----------
    service
        The recommended one.
    sharings
        The best with a split decode side, and with un-split ranks.
    search
        Over the same requests and source.
    """
    budget = service.devices if service.limits.requests_per_second is None else None
    ours = service.rate if budget is not None else 1 / service.used_devices
    options = [
        (
            "prefill, attention, FFN"
            if isinstance(one.decode, PlannedDesign)
            else "prefill, decode",
            str(one),
            one.devices,
            one.rate,
        )
        for one in sharings
    ]
    alone = max(
        _unsplit(service, search),
        key=lambda one: one[2] if budget is not None else -one[1],
        default=None,
    )
    if alone is not None:
        options.append(("un-split", *alone))
    return tuple(
        Baseline(
            kind=kind,
            deployment=words,
            devices=devices,
            rate=rate,
            gain=ours / (rate if budget is not None else 1 / devices) - 1,
        )
        for kind, words, devices, rate in options
    )


def _unsplit(service: Service, search: DesignSearch) -> Iterator[tuple[str, int, float]]:
    source = search.source
    if not isinstance(source, DerivedSource):
        return
    limits = service.plan.planned_limits
    colocated = ColocatedSearch.of(search)
    for width in service.plan.colocated:
        devices = width.ranks * width.devices_per_rank
        hardware = source.placement.attention_hardware
        try:
            model = derive_prefill(source.placement, hardware, devices, service.model.chunk_tokens)
            if service.model.source != model.source:
                model = model.slowed(_measured_over_derived(service, source))
            # Nothing is sent, but the decode step under way ends first.
            model = replace(model, transfer_per_token=0.0, transfer_latency=width.step_time.mean)
            pool = PrefillPool(
                model, service.pool.traffic, service.pool.limit, service.limits.margin
            )
        except AfdplanError:
            continue
        group = _largest(colocated, multiplied(width, 1), pool, limits)
        if group is None:
            continue
        budget, wanted = service.devices, service.limits.wanted_rate
        if wanted is None:
            copies = (budget or 0) // devices
            rate = pool.most_rate(copies, multiplied(group, copies)) if copies else 0.0
        else:
            least = -int(-wanted // group.requests_per_second)
            tried = (max(1, -int(-least * factor // 1)) for factor in MORE_DECODE)
            able = (n for n in tried if pool.carries(n, wanted, multiplied(group, n)))
            copies = next(able, 0)
            rate = wanted if budget is None or copies * devices <= budget else 0.0
        if copies and rate:
            yield str(multiplied(group, copies)), copies * devices, rate


def _measured_over_derived(service: Service, source: DerivedSource) -> float:
    """Return what the prompts take on the measured worker over what the derived one says."""
    worker, traffic = service.model, service.pool.traffic
    hardware = source.placement.attention_hardware
    derived = derive_prefill(source.placement, hardware, worker.devices, worker.chunk_tokens)
    line = PromptLine.of(derived, traffic.prompts, traffic.cached)
    return float(service.pool.line.alone.sum() / line.alone.sum())


def _largest(
    search: ColocatedSearch, group: Colocated, pool: PrefillPool, limits: Limits
) -> Colocated | None:
    """Return a group with the largest batch that keeps its limits, its steps slowed by prompts."""
    least, most = 0, group.batch_size
    best: Colocated | None = None
    while least < most:
        size = (least + most + 1) // 2
        plan = search.again(replace(group, batch_size=size), limits)
        prompt = 1 / pool.rate_of_worker
        alone = plan.requests_per_second
        rate = alone / (1 + alone * prompt)
        busy = rate * prompt
        time = plan.token_time(limits.statistic)
        if limits.statistic == "mean":
            time /= 1 - busy
        elif busy / (1 - busy) * plan.step_time.mean > (1 - limits.probabilities[0]) * _pass(pool):
            time += _pass(pool) / plan.tokens_per_step
        if bool(limits.meets(time)):
            least = size
            slowed = replace(plan.step_time, mean=plan.step_time.mean / (1 - busy))
            best = replace(plan, step_time=slowed, requests_per_second=rate)
        else:
            most = size - 1
    return best


def _pass(pool: PrefillPool) -> float:
    """Return the time of a full pass [s]."""
    return pool.model.compute(float(pool.model.chunk_tokens))
