"""Does more arrive than the bundle can finish?"""

from __future__ import annotations

import math
from dataclasses import replace

from afdplan.errors import UnsupportedError
from afdplan.model.estimate import Estimate
from afdplan.model.trace import Trace
from afdplan.simulation.distribution import Distribution
from afdplan.simulation.result import OfferedLoad, SimulationResult
from afdplan.simulation.scenario import Scenario
from afdplan.simulation.window import WARM_UP

__all__ = ["judged", "offered_load", "refuse_extreme", "saturated"]

REPLICATIONS = 4
FEWEST_REQUESTS = 1000
"""Finished requests of a replication, all workers, that tell a capacity."""
EXTREME = 10.0
"""Arrivals over capacity beyond which a run would only fill its queue."""


def saturated(scenario: Scenario) -> Scenario:
    """Return the same bundle with enough to do: long enough to tell what it finishes."""
    bundle = scenario.bundle
    slots = scenario.microbatches * bundle.batch_size
    requests = max(slots, -(-FEWEST_REQUESTS // bundle.attention_workers))
    return replace(
        scenario,
        arrivals=None,
        lengths=scenario.law,
        start="stationary",
        window="all",
        requests_per_worker=min(requests, scenario.requests_per_worker),
        replications=REPLICATIONS,
        precision=None,
        p99_precision=None,
        confidence=0.99,
    )


def offered_load(scenario: Scenario, busy: SimulationResult) -> OfferedLoad:
    """Return the load of an open scenario, from its `saturated` result."""
    assert scenario.arrivals is not None
    rate = scenario.arrivals.rate
    if rate is None:
        assert isinstance(scenario.lengths, Trace)
        rate = (scenario.lengths.requests - 1) / (scenario.lengths.duration or math.inf)
    bundle = scenario.bundle
    tokens = scenario.law.mean_decode_tokens
    accepted = 1.0
    if busy.requests_rejected:
        # Refused requests leave at once, and those that remain are shorter.
        tokens = busy.tokens_generated / busy.requests_completed
        accepted -= busy.requests_rejected / busy.requests_entered
    x = busy.throughput_per_instance
    factor = (bundle.attention_workers + bundle.ffn_workers) / tokens / accepted
    capacity = Estimate(
        value=factor * x.value,
        low=max(factor * x.low, 0.0),
        high=factor * x.high,
        confidence=x.confidence,
        method=x.method,
    )
    return OfferedLoad(arrival_rate=rate, capacity=capacity)


def refuse_extreme(scenario: Scenario, load: OfferedLoad) -> None:
    """Raise if a run would do nothing but let its queue grow.

    Recorded arrivals end with the trace and are played whatever their rate.
    """
    assert scenario.arrivals is not None
    if scenario.arrivals.process != "trace" and load.utilization > EXTREME:
        raise UnsupportedError(
            f"arrivals of {load.arrival_rate:.4g} requests per time are {load.utilization:.3g} "
            f"times the {load.capacity.value:.4g} that this bundle can finish: lower the rate, or "
            "leave arrivals saturated"
        )


def judged(result: SimulationResult, load: OfferedLoad) -> SimulationResult:
    """Return the result with its load; an unstable one without stationary intervals."""
    if load.is_stable:
        return replace(result, offered_load=load)
    capacity = load.capacity.value
    warning = (
        f"arrivals exceed what can be finished: {load.arrival_rate:.4g} requests per time of at "
        f"most {capacity:.4g} ({load.capacity.low:.4g} to {load.capacity.high:.4g}): waiting times "
        "and queue grow as long as the run lasts, so what is told of them is of this run only"
    )
    waiting, queue = result.waiting_time, result.queue_length
    return replace(
        result,
        offered_load=load,
        waiting_time=None if waiting is None else _without_intervals(waiting),
        queue_length=None if queue is None else _without_interval(queue),
        # A longer run has no warm-up to leave behind: that advice would mislead.
        warnings=(warning, *(text for text in result.warnings if WARM_UP not in text)),
    )


def _without_intervals(value: Distribution) -> Distribution:
    return replace(
        value,
        mean=_without_interval(value.mean),
        p50=_without_interval(value.p50),
        p95=_without_interval(value.p95),
        p99=_without_interval(value.p99),
    )


def _without_interval(value: Estimate) -> Estimate:
    return replace(value, low=-math.inf, high=math.inf, method="none")
