"""Does the whole service do what was planned, played from arrival to last token?

Arrivals go through the prefill pool of the replay; when their cache has arrived they enter the
simulator of the bundles, which plays every stage and layer, shares no code with the theory, and
knows nothing of the mean step that the plan reckons with. Requests go to bundles in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.model.estimate import Estimate
from afdplan.model.trace import Trace
from afdplan.planning.colocated import Colocated
from afdplan.planning.service import Service
from afdplan.planning.source import LatencySource
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Arrivals, Scenario
from afdplan.simulation.service_queue import slot_starts
from afdplan.statistics.percentile import percentile_estimate

__all__ = ["ServiceVerification", "verify_service"]

MOST_REQUESTS = 20_000
PARTS = 20
"""Consecutive parts of a run from which its percentiles have their intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceVerification:
    """The service played end to end, at the planned rate; all times [s], with intervals.

    Attributes
    ----------
    decode
        How the decode side was played.
    requests
        How many were played to their end.
    first_token_p50, first_token_p99
        Time to first token.
    predicted_p99
        What the plan says of the latter.
    token_time_mean, token_time_p99
        Time per output token of a request, from its slot to its last token.
    latency_p50, latency_p99
        From arrival to last token.
    good_fraction
        Share of requests that keep the limit on the time to first token and, each by itself, that
        on the time per output token.
    goodput
        Such requests per second.
    """

    decode: str
    requests: int
    first_token_p50: Estimate
    first_token_p99: Estimate
    predicted_p99: float
    token_time_mean: float
    token_time_p99: Estimate
    latency_p50: Estimate
    latency_p99: Estimate
    good_fraction: float
    goodput: float

    @property
    def agrees(self) -> bool:
        """Whether the predicted 99th percentile is in the interval, 10 % allowed for.

        The plan reckons with the steps of full bundles: where requests wait for slots, it may be
        longer than what is played, never shorter.
        """
        played = self.first_token_p99
        return self.predicted_p99 >= played.low - 0.1 * played.value


def verify_service(
    service: Service,
    source: LatencySource,
    *,
    progress: Callable[[float], None] | None = None,
) -> ServiceVerification:
    """Return what the service does when its requests are played end to end.

    Parameters
    ----------
    service
        The planned one.
    source
        Stage times that it was planned with.
    progress
        Called with the share done, 0 to 1.
    """
    pool, rate = service.pool, service.limits.requests_per_second or service.rate
    arrivals = pool.traffic.at(rate)
    ready = pool.ready(service.workers, arrivals)[:MOST_REQUESTS]
    arrivals, decodes = arrivals[: ready.size], pool.traffic.decodes[: ready.size]
    prompts = pool.traffic.prompts[: ready.size]
    chosen = service.plan.recommended
    if isinstance(chosen, Colocated):
        decode = "steps of full groups"
        holds = decodes.astype(np.float64) * chosen.time_per_output_token
        starts = slot_starts(ready, holds, chosen.slots)
        ends = starts + holds
    else:
        decode = "simulated"
        starts, ends = np.full(ready.size, np.nan), np.full(ready.size, np.nan)
        order = np.argsort(ready, kind="stable")
        bundles = chosen.design.bundles
        for k in range(bundles):
            own = order[k::bundles]
            if own.size > 1:
                starts[own], ends[own] = _played(
                    service, source, ready[own], prompts[own], decodes[own]
                )
            if progress is not None:
                progress((k + 1) / bundles)
    done = np.isfinite(ends)
    arrivals, starts, ends, decodes = arrivals[done], starts[done], ends[done], decodes[done]
    first, each = starts - arrivals, (ends - starts) / decodes
    limit = service.plan.limits.time_per_output_token
    good = first <= pool.limit.time_to_first_token
    if limit is not None:
        good &= each <= limit
    return ServiceVerification(
        decode=decode,
        requests=int(done.sum()),
        first_token_p50=_percentile(first, 0.5),
        first_token_p99=_percentile(first, 0.99),
        predicted_p99=service.first_token.p99,
        token_time_mean=float((ends - starts).sum() / decodes.sum()),
        token_time_p99=_percentile(each, 0.99),
        latency_p50=_percentile(ends - arrivals, 0.5),
        latency_p99=_percentile(ends - arrivals, 0.99),
        good_fraction=float(good.mean()),
        goodput=float(good.mean()) * rate,
    )


def _played(
    service: Service,
    source: LatencySource,
    ready: FloatArray,
    prompts: IntArray,
    decodes: IntArray,
) -> tuple[FloatArray, FloatArray]:
    """Return when each request of one bundle starts and ends; NaN where the run ended first."""
    design = service.plan.split.design
    rows: list[FloatArray] = []
    trace = Trace(
        prompt_tokens=prompts, decode_tokens=decodes, arrival_times=ready - ready[0], source="ready"
    )
    scenario = Scenario(
        bundle=design.bundle,
        latency=source.latency(design.attention_devices, design.ffn_workers, design.batch_size),
        lengths=trace,
        arrivals=Arrivals(process="trace"),
        start="fresh",
        window="all",
        requests_per_worker=max(-(-ready.size // design.attention_workers), 1),
    )
    simulate(scenario, on_requests=lambda block: rows.append(block.copy()))
    logged = np.concatenate(rows)
    # A log has requests in the order of their end: found again by lengths and arrival.
    came = ready - ready[0]
    own = np.lexsort((decodes, prompts, came))
    theirs = np.lexsort((logged[:, 1], logged[:, 0], logged[:, 2]))
    starts, ends = np.full(ready.size, np.nan), np.full(ready.size, np.nan)
    keys = np.column_stack([came, prompts, decodes])[own]
    at = 0
    for row in logged[theirs]:
        while at < own.size and not np.allclose(keys[at], row[[2, 0, 1]], rtol=1e-12, atol=1e-9):
            at += 1
        if at == own.size:
            break
        starts[own[at]], ends[own[at]] = row[3] + ready[0], row[4] + ready[0]
        at += 1
    return starts, ends


def _percentile(values: FloatArray, probability: float) -> Estimate:
    """Return a percentile with an interval from consecutive parts of the run."""
    whole = float(np.quantile(values, probability))
    parts = np.array_split(values > whole, min(PARTS, values.size))
    return percentile_estimate(
        probability,
        lambda p: float(np.quantile(values, min(max(p, 0.0), 1.0))),
        [part.sum() for part in parts],
        [part.size for part in parts],
        method="consecutive parts",
    )
