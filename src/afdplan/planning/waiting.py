"""How much of the plan's capacity is spare, and how long do requests wait for a slot?"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.model.trace import Trace
from afdplan.planning.held import Deployment

__all__ = ["SpareCapacity", "slot_waits", "spare_capacity"]

MOST_REQUESTS = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SpareCapacity:
    """The plan at a stated or recorded rate of arrivals.

    Attributes
    ----------
    arrival_rate
        Requests per second.
    capacity
        Requests per second that the plan finishes with all slots busy.
    waiting_mean, waiting_p99
        Seconds until a slot is free, by replaying the recorded arrivals; None without arrivals,
        or if more arrive than are finished.
    """

    arrival_rate: float
    capacity: float
    waiting_mean: float | None = None
    waiting_p99: float | None = None

    @property
    def utilization(self) -> float:
        """Arrivals over capacity."""
        return self.arrival_rate / self.capacity

    @property
    def spare_fraction(self) -> float:
        """Share of the capacity that nobody asks for; negative if too much is asked."""
        return 1 - self.utilization


def spare_capacity(
    plan: Deployment, trace: Trace | None, requests_per_second: float | None
) -> SpareCapacity | None:
    """Return the spare capacity; None if nobody knows how many requests arrive.

    Parameters
    ----------
    plan
        The recommended deployment.
    trace
        Whose arrivals are replayed: first come, first served by all slots; a request keeps its
        slot for ``D`` tokens at the mean time per output token, which a full bundle has (a lightly
        loaded one is faster).
    requests_per_second
        The stated rate; it scales the recorded arrivals.
    """
    recorded = trace is not None and trace.arrival_times is not None and bool(trace.duration)
    if not recorded:
        if requests_per_second is None:
            return None
        return SpareCapacity(arrival_rate=requests_per_second, capacity=plan.requests_per_second)
    assert trace is not None
    assert trace.arrival_times is not None
    found = (trace.requests - 1) / float(trace.arrival_times[-1] - trace.arrival_times[0])
    rate = found if requests_per_second is None else requests_per_second
    if rate >= plan.requests_per_second:
        return SpareCapacity(arrival_rate=rate, capacity=plan.requests_per_second)
    count = min(trace.requests, MOST_REQUESTS)
    arrivals = trace.arrival_times[:count] * (found / rate)
    services = trace.decode_tokens[:count].astype(np.float64) * plan.time_per_output_token
    waits = slot_waits(arrivals, services, plan.slots)
    return SpareCapacity(
        arrival_rate=rate,
        capacity=plan.requests_per_second,
        waiting_mean=float(waits.mean()),
        waiting_p99=float(np.quantile(waits, 0.99)),
    )


def slot_waits(arrivals: FloatArray, holds: FloatArray, slots: int) -> FloatArray:
    """Return how long each request waits for one of S slots, first come first served [s].

    One replay needs no compiled kernel, whose loading takes longer.

    Parameters
    ----------
    arrivals
        Non-decreasing times [s], shape (n,).
    holds
        How long each keeps its slot [s].
    slots
        S, >= 1.

    Examples
    --------
    >>> slot_waits(np.array([0.0, 1.0, 2.0]), np.full(3, 5.0), 2).tolist()
    [0.0, 0.0, 3.0]
    """
    free = [-np.inf] * min(slots, arrivals.size)
    starts = []
    for arrival, hold in zip(arrivals.tolist(), holds.tolist(), strict=True):
        start = max(arrival, free[0])
        starts.append(start)
        heapq.heapreplace(free, start + hold)
    return np.array(starts) - arrivals
