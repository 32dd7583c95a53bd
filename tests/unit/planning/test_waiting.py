"""How long do requests wait, and how much is spare: by hand, by laws, by a second play?"""

from dataclasses import dataclass

import numpy as np
import pytest

from afdplan.lengths.law import EmpiricalLengths
from afdplan.model.latency import LatencyModel
from afdplan.model.trace import Trace
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.search import DesignSearch
from afdplan.planning.source import MeasuredSource
from afdplan.planning.space import SearchSpace
from afdplan.planning.waiting import spare_capacity


@dataclass
class Served:
    """A deployment of so many slots, each of which makes a token in so many seconds."""

    slots: int
    time_per_output_token: float
    requests_per_second: float


def trace(arrivals, outputs):
    return Trace(
        prompt_tokens=np.full(len(outputs), 10), decode_tokens=outputs, arrival_times=arrivals
    )


def test_waits_by_hand():
    """Two slots at 0.5 s a token: 4, 2 and 6 tokens take 2, 1 and 3 s.

    Arrivals at 0, 0, 0.5, 0.5, 9: the third starts when the second ends (1.0: waits 0.5), the
    fourth when the first ends (2.0: waits 1.5), the last at once.
    """
    found = spare_capacity(Served(2, 0.5, 1.0), trace([0, 0, 0.5, 0.5, 9.0], [4, 2, 6, 2, 2]), None)
    assert found.arrival_rate == pytest.approx(4 / 9)
    assert found.waiting_mean == pytest.approx((0 + 0 + 0.5 + 1.5 + 0) / 5)
    assert found.waiting_p99 == pytest.approx(np.quantile([0, 0, 0.5, 1.5, 0], 0.99))
    assert found.utilization == pytest.approx(4 / 9)
    assert found.spare_fraction == pytest.approx(5 / 9)


def test_a_stated_rate_squeezes_the_arrivals():
    """Twice the rate: the same requests in half the time, so the waits are those of the play."""
    recorded = trace([0, 2.0, 4.0, 6.0], [6, 6, 6, 6])  # 3 s each, one slot
    slow = spare_capacity(Served(1, 0.5, 10.0), recorded, None)
    assert slow.arrival_rate == 0.5
    assert slow.waiting_mean == pytest.approx((0 + 1 + 2 + 3) / 4)
    fast = spare_capacity(Served(1, 0.5, 10.0), recorded, 1.0)  # a request per second
    assert fast.waiting_mean == pytest.approx((0 + 2 + 4 + 6) / 4)
    assert fast.spare_fraction == pytest.approx(0.9)


def test_longer_tokens_mean_longer_waits():
    """Time per token multiplies; a quotient would turn this round."""
    rng = np.random.default_rng(3)
    recorded = trace(np.cumsum(rng.exponential(1.0, 3000)), rng.integers(1, 9, 3000))
    waits = [
        spare_capacity(Served(4, each, 9.0), recorded, None).waiting_mean for each in (0.5, 0.7)
    ]
    assert 0 < waits[0] < waits[1]


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_one_slot_waits_as_pollaczek_and_khinchine_say(load):
    """M/G/1: W = lambda E[S^2] / (2 (1 - rho)), within 5 standard errors of batch means."""
    rng = np.random.default_rng(17)
    count = 200_000
    outputs = rng.integers(1, 20, count)
    arrivals = np.cumsum(rng.exponential(1.0, count))
    each = load / outputs.mean()
    found = spare_capacity(Served(1, each, 1.2), trace(arrivals - arrivals[0], outputs), None)
    rate = (count - 1) / (arrivals[-1] - arrivals[0])
    squares = float(((outputs * each) ** 2).mean())
    expected = rate * squares / (2 * (1 - rate * float((outputs * each).mean())))
    assert found.waiting_mean == pytest.approx(expected, rel=0.05)


def test_nothing_is_known_without_arrivals_or_beyond_the_capacity():
    served = Served(1, 0.5, 2.0)
    silent = Trace(prompt_tokens=[1, 2], decode_tokens=[1, 2])
    assert spare_capacity(served, silent, None) is None
    stated = spare_capacity(served, silent, 1.0)
    assert (stated.waiting_mean, stated.spare_fraction) == (None, 0.5)
    flooded = spare_capacity(served, trace([0, 0.1, 0.2], [1, 1, 1]), None)
    assert flooded.arrival_rate == pytest.approx(10.0)
    assert flooded.waiting_p99 is None
    assert flooded.spare_fraction == pytest.approx(-4.0)


def test_a_plan_is_replayed_with_its_own_slots_and_time():
    rng = np.random.default_rng(5)
    recorded = trace(np.cumsum(rng.exponential(0.02, 4000)), rng.integers(50, 400, 4000))
    latency = LatencyModel.linear(attention=(1e-8, 2e-5), ffn=(2e-7, 1e-4), layers=8, time_unit="s")
    search = DesignSearch(
        EmpiricalLengths(recorded),
        MeasuredSource(latency),
        SearchSpace(batch_sizes=(4,), microbatches=(2,)),
        DeviceCost(),
    )
    plan = search.best(Limits(devices=6))
    found = spare_capacity(plan, recorded, None)
    assert found.capacity == pytest.approx(
        plan.slots / (plan.time_per_output_token * recorded.decode_tokens.mean())
    )
    # A second play that shares no code: every slot in turn, the one free first takes the next.
    free = np.zeros(plan.slots)
    waits = []
    for arrival, tokens in zip(recorded.arrival_times, recorded.decode_tokens, strict=True):
        at = int(np.argmin(free))
        start = max(arrival, free[at])
        free[at] = start + tokens * plan.step_time.mean / plan.tokens_per_step
        waits.append(start - arrival)
    assert found.waiting_mean == pytest.approx(np.mean(waits), rel=1e-9)
    assert found.waiting_p99 == pytest.approx(np.quantile(waits, 0.99), rel=1e-9)


def test_when_a_recording_begins_is_no_part_of_its_rate():
    late = spare_capacity(Served(1, 0.5, 10.0), trace([5.0, 7.0, 9.0, 11.0], [6, 6, 6, 6]), None)
    assert late.arrival_rate == 0.5
    assert late.waiting_mean == pytest.approx((0 + 1 + 2 + 3) / 4)


def test_at_exactly_the_capacity_no_wait_is_told():
    full = spare_capacity(Served(1, 0.5, 0.5), trace([0, 2.0, 4.0], [1, 1, 1]), None)
    assert (full.spare_fraction, full.waiting_mean) == (0.0, None)


def test_of_long_recordings_the_beginning_is_replayed(monkeypatch):
    monkeypatch.setattr("afdplan.planning.waiting.MOST_REQUESTS", 2)
    found = spare_capacity(Served(1, 0.5, 10.0), trace([0, 2.0, 4.0, 6.0], [6, 6, 6, 6]), None)
    assert found.arrival_rate == 0.5
    assert found.waiting_mean == pytest.approx((0 + 1) / 2)
