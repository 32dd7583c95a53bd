"""What failures do to a deployment: every number from the bundle that goes on, by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.failures import Failures
from afdplan.model.latency import LatencyModel
from afdplan.planning.colocated_search import ColocatedSearch
from afdplan.planning.design import Design
from afdplan.planning.failure_plan import bundle_choice, failure_plan, fewest_spares
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.search import DesignSearch
from afdplan.planning.source import MeasuredSource
from afdplan.planning.space import SearchSpace
from afdplan.theory.failures import bundle_failures, no_spare_probability

LAW = IndependentLengths(prompt="fixed:2000", decode="fixed:100")
LATENCY = LatencyModel.linear(
    attention=(1e-6, 1e-3), ffn=(1e-5, 2e-3), transfer=(2e-6, 5e-4), layers=10, time_unit="s"
)
SEARCH = DesignSearch(
    LAW,
    MeasuredSource(LATENCY, ffn_devices=2, kv_tokens=2e4),
    SearchSpace(batch_sizes=(8,), microbatches=(1,)),
    DeviceCost(),
)
FAILURES = Failures(device_mtbf=1e6, restart=300.0, repair=4e4, spare_devices=1)
LIMITS = Limits(devices=40)


def design(**changes):
    asked = {
        "bundles": 3, "attention_workers": 4, "ffn_workers": 2, "batch_size": 8, "microbatches": 1,
        "attention_devices": 1, "ffn_devices": 2,
    } | changes  # fmt: skip
    return Design(**asked)


def lost(limits=LIMITS, **changes):
    plan = SEARCH.describe(design(**changes), limits)
    return plan, failure_plan(plan, SEARCH, limits, FAILURES).losses


def test_the_ways_to_go_on_without_a_worker():
    """Its eight requests begin again, or make three batches of 11 (32 requests of 33 slots)."""
    plan, (again, moved, spread) = lost()
    one = plan.tokens_per_second / 3
    for loss, changes in (
        (again, {"attention_workers": 3}),
        (moved, {"attention_workers": 3, "batch_size": 11}),
        (spread, {"ffn_workers": 1}),
    ):
        found = SEARCH.describe(design(bundles=1, **changes), LIMITS)
        assert loss.throughput_change == pytest.approx(found.tokens_per_second / one - 1)
        assert -0.5 < loss.throughput_change < 0
        assert loss.time_per_output_token == pytest.approx(found.step_time.mean)
        assert loss.memory_overflow_probability == found.memory_overflow_probability
        assert loss.meets_limit
    assert (again.lost, moved.lost, spread.lost) == ("attention", "attention", "FFN")
    assert (again.memory_overflow_probability, moved.memory_overflow_probability) == (0.0, 1.0)
    assert spread.change == "experts are spread over 1 FFN workers"
    # Slower than the limit only with the requests of the other.
    between = (again.time_per_output_token + moved.time_per_output_token) / 2
    _, losses = lost(replace(LIMITS, time_per_output_token=between))
    assert [loss.meets_limit for loss in losses] == [True, False, True]


def test_a_batch_that_divides_evenly_moves_without_a_free_slot():
    _, (_, moved, _) = lost(attention_workers=5)
    found = SEARCH.describe(design(bundles=1, attention_workers=4, batch_size=10), LIMITS)
    assert moved.time_per_output_token == pytest.approx(found.step_time.mean)


def test_an_only_worker_stops_its_bundle():
    _, losses = lost(attention_workers=1, ffn_workers=1)
    for loss, side in zip(losses, ("attention", "FFN"), strict=True):
        assert (loss.lost, loss.throughput_change, loss.meets_limit) == (side, -1.0, False)
        assert (loss.time_per_output_token, loss.memory_overflow_probability) == (0.0, 0.0)
    _, losses = lost(attention_workers=2, ffn_workers=1)
    assert [loss.lost for loss in losses] == ["attention", "attention", "FFN"]


@pytest.mark.parametrize(("devices", "others"), [(40, 0), (40, 5), (None, 5)])
def test_what_failures_leave_of_bundles(devices, others):
    """Three bundles of 8 devices and 32 slots; every other device takes the same spares."""
    limits = Limits(devices=devices, requests_per_second=1.0)
    plan = SEARCH.describe(design(), limits)
    found = failure_plan(plan, SEARCH, limits, FAILURES, others=others)
    sharing = (devices or 24) + others
    bundle = bundle_failures(LAW, plan.step_time.mean, 8, FAILURES, sharing)
    happening = 3 * bundle.rate * bundle.availability
    assert found.bundle == bundle
    assert found.tokens_per_second == pytest.approx(plan.tokens_per_second * bundle.share)
    assert found.requests_per_second == pytest.approx(plan.requests_per_second * bundle.share)
    assert found.lost_requests_per_second == pytest.approx(happening * 32)
    assert found.lost_tokens_per_second == pytest.approx(happening * 32 * bundle.lost_tokens)
    assert found.no_spare_probability == no_spare_probability(sharing, FAILURES)
    assert found.fewest_spares == fewest_spares(sharing, FAILURES)
    assert 0 < found.no_spare_probability < 1


def test_what_failures_leave_of_ranks():
    """Four groups of two ranks of 8 requests."""
    plan = ColocatedSearch.of(SEARCH).deployed(
        replicas=4, ranks=2, devices_per_rank=2, batch_size=8, two_batch_overlap=False,
        limits=LIMITS,
    )  # fmt: skip
    found = failure_plan(plan, SEARCH, LIMITS, FAILURES)
    bundle = bundle_failures(LAW, plan.step_time.mean, 4, FAILURES, 40)
    assert found.bundle == bundle
    assert found.lost_requests_per_second == pytest.approx(
        4 * bundle.rate * bundle.availability * 16
    )
    assert found.losses == ()


def test_the_fewest_spares_are_those_of_a_poisson_count(monkeypatch):
    """Devices in repair: 200 of 10^6 s between failures, 10^4 s each, are 2 in the mean."""

    def below(count):
        return sum(math.exp(-2) * 2**k / math.factorial(k) for k in range(count))

    failures = Failures(device_mtbf=1e6, restart=60.0, repair=1e4)
    chances = [no_spare_probability(200, replace(failures, spare_devices=s)) for s in range(9)]
    assert chances == pytest.approx([1 - below(s) for s in range(9)], rel=0.02)
    assert fewest_spares(200, failures) == next(s for s in range(9) if chances[s] <= 0.01)
    assert fewest_spares(200, failures, chances[3]) == 3
    assert fewest_spares(200, failures, chances[3] * (1 - 1e-9)) == 4
    monkeypatch.setattr("afdplan.planning.failure_plan.MOST_SPARES", 2)
    assert fewest_spares(200, failures, chances[3]) == 2


@pytest.mark.parametrize("rate", [20.0, 35.0])
def test_a_rate_is_planned_for_with_what_failures_leave(rate):
    """The cheapest design of every size that finishes the rate with failures."""
    often = Failures(device_mtbf=2e5, restart=1800.0)
    limits = Limits(requests_per_second=rate)
    sizes = bundle_choice(SEARCH, limits, often)
    for size in sizes:
        plan = size.plan
        assert size.share < 0.99
        assert plan.requests_per_second * size.share >= rate * (1 - 1e-4)
        # More than was asked for is planned; what counts is the rate over what it costs.
        assert size.expected_score == pytest.approx(rate * 100.0 / plan.cost)
    assert sizes[0].most_devices == SEARCH.best(limits).design.bundle_devices
    for before, after in pairwise(sizes):
        assert after.most_devices == before.plan.design.bundle_devices - 1
        assert after.plan.design.bundle_devices <= after.most_devices


def test_no_spare_is_needed_where_every_failure_may_find_none():
    """Without a spare none is ever found; one does where repair is short."""
    rare = Failures(device_mtbf=1e9, restart=1.0, repair=1.0)
    assert (fewest_spares(1, rare, most=1.0), fewest_spares(1, rare)) == (0, 1)
