"""A service in numbers: one step more, twice a side, waits, other ways to use its devices."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.errors import InfeasibleError
from afdplan.lengths.law import EmpiricalLengths
from afdplan.model.curve import RooflineCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.prefill import PrefillModel
from afdplan.model.trace import Trace
from afdplan.planning.colocated_search import ColocatedSearch
from afdplan.planning.design import Design, PlannedDesign
from afdplan.planning.first_token import FirstTokenLimit, PrefillPool
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.search import DesignSearch
from afdplan.planning.service import OneMore, Service
from afdplan.planning.service_baselines import _largest, service_baselines
from afdplan.planning.service_limits import one_more, service_cases
from afdplan.planning.service_search import _sharings, plan_service
from afdplan.planning.service_sharing import (
    Sharing,
    least_cost,
    most_ranks,
    most_split,
    multiplied,
)
from afdplan.planning.source import MeasuredSource
from afdplan.planning.space import SearchSpace
from afdplan.planning.traffic import service_traffic

# One prompt a second and worker; ten tokens of output; one request every two seconds.
TRACE = Trace(
    prompt_tokens=np.full(40, 1000),
    decode_tokens=np.full(40, 10),
    arrival_times=np.arange(40) * 2.0 + np.arange(40) % 2,
    source="x",
)
LAW = EmpiricalLengths(TRACE)
TRAFFIC = service_traffic(LAW, TRACE)
LATENCY = LatencyModel.linear(
    attention=(1e-6, 1e-3), ffn=(1e-4, 2e-3), transfer=(2e-6, 5e-4), layers=10, time_unit="s"
)
SEARCH = DesignSearch(
    LAW,
    MeasuredSource(LATENCY, ffn_devices=2),
    SearchSpace(batch_sizes=(8,), microbatches=(1,)),
    DeviceCost(),
)
LIMITS = Limits(devices=30, time_per_output_token=0.5)


def worker(devices=2, transfer=0.0, slower=1.0):
    curve = RooflineCurve(floor=0.0, slope=1e-3 * slower)
    return PrefillModel(
        name="x", compute=curve, pairs=(), devices=devices, transfer_per_token=transfer
    )


def pool(limit=5.0, margin=0.0, statistic="p99", **changes):
    asked = FirstTokenLimit(time_to_first_token=limit, first_token_statistic=statistic)
    return PrefillPool(worker(**changes), TRAFFIC, asked, margin)


def design(**changes):
    asked = {
        "bundles": 2, "attention_workers": 3, "ffn_workers": 1, "batch_size": 8, "microbatches": 1,
        "attention_devices": 1, "ffn_devices": 2,
    } | changes  # fmt: skip
    return SEARCH.describe(Design(**asked), LIMITS)


def ranks(replicas=2, limits=LIMITS):
    return ColocatedSearch.of(SEARCH).deployed(
        replicas=replicas, ranks=2, devices_per_rank=2, batch_size=8, two_batch_overlap=False,
        limits=limits,
    )  # fmt: skip


def service(decode, workers=2, limits=LIMITS, **changes):
    plan = SimpleNamespace(recommended=decode, planned_limits=limits, colocated=())
    ours = pool(**changes)
    return Service(
        plan=plan,
        pool=ours,
        workers=workers,
        rate=ours.most_rate(workers, decode),
        first_token=None,
        devices=limits.devices,
        limits=limits,
    )


def test_devices_of_a_service():
    found = service(design())
    assert (found.prefill_devices, found.used_devices, found.idle_devices) == (4, 14, 16)
    assert found.ratio == (4, 6, 4)
    assert service(ranks()).ratio == (4, 8)
    assert service(design(), limits=Limits(requests_per_second=1.0)).idle_devices == 0
    steps = [
        OneMore(side=side, change="", devices=devices, rate=1.0, gain=gain)
        for side, devices, gain in (("prefill", 8, 0.4), ("FFN", 2, 0.2), ("attention", 1, 0.05))
    ]
    assert [step.gain_per_device for step in steps] == pytest.approx([0.05, 0.1, 0.05])
    assert replace(found, steps=tuple(steps)).limited_by == "FFN"
    little = replace(steps[1], gain=1e-3)
    assert replace(found, steps=(little,)).limited_by == ""
    assert replace(found, steps=(replace(little, gain=1.1e-3),)).limited_by == "FFN"
    assert found.limited_by == ""


def test_one_step_more_of_every_side():
    found = service(design(), workers=2)
    steps = {step.side: step for step in one_more(found, SEARCH)}
    for side, devices, changed in (
        ("attention", 2, design(attention_workers=4)),
        ("FFN", 4, design(ffn_workers=2)),
    ):
        step = steps[side]
        assert step.devices == devices
        assert step.rate == found.pool.most_rate(2, changed)
        assert step.change.startswith("1 ")
        assert step.change.endswith(" in each of 2 bundles")
    assert (steps["prefill"].devices, steps["prefill"].change) == (2, "1 prefill worker")
    assert steps["prefill"].rate == found.pool.most_rate(3, design())
    for step in steps.values():
        assert step.gain == pytest.approx(max(step.rate / found.rate - 1, 0.0))
    assert max(step.gain for step in steps.values()) > 0.3
    gains = [step.gain_per_device for step in one_more(found, SEARCH)]
    assert gains == sorted(gains, reverse=True)
    single = one_more(service(design(bundles=1)), SEARCH)
    assert {step.change for step in single} == {
        "1 prefill worker", "1 attention worker", "1 FFN worker",
    }  # fmt: skip


def test_one_group_of_ranks_more():
    found = service(ranks(), workers=2)
    steps = {step.side: step for step in one_more(found, SEARCH)}
    assert steps.keys() == {"prefill", "decode"}
    assert (steps["decode"].devices, steps["decode"].change) == (4, "1 group of ranks")
    assert steps["decode"].rate == found.pool.most_rate(2, ranks(3))


@pytest.mark.parametrize("decode", [design(), ranks()])
def test_twice_a_side(decode):
    """Two prefill workers compute two prompts a second; slots do more or less than that."""
    found = service(decode, workers=2)
    cases = {case.name: case for case in service_cases(found)}
    for name, p, d in (("1P1D", 1, 1), ("2P1D", 2, 1), ("1P2D", 1, 2), ("2P2D", 2, 2)):
        side = multiplied(decode, 2 * d)
        assert cases[name].devices == 4 * p + d * decode.devices
        assert cases[name].rate == found.pool.most_rate(2 * p, side)
        by_prefill = found.pool.most_rate(2 * p) < d * decode.requests_per_second
        assert cases[name].limited_by == ("prefill" if by_prefill else "decode")
    slow = service(decode, workers=200)
    assert service_cases(slow)[0].limited_by == "decode"


def test_copies_of_a_deployment_give_so_many_times_as_much():
    for one, five in ((design(), design(bundles=5)), (ranks(), ranks(5))):
        found = multiplied(one, 5)
        assert found.devices == five.devices
        for name in ("tokens_per_second", "requests_per_second", "cost"):
            assert getattr(found, name) == pytest.approx(getattr(five, name))


def test_times_of_a_pool_by_hand():
    """Gaps of 3 and 1 s at a rate of 0.5/s: a prompt of 1 s never waits for one worker.

    At a rate of 0.8 the gaps are 1.875 and 0.625 s: 19 of 40 prompts wait 0.375 s.
    """
    one = pool(transfer=1e-4)
    gaps = np.diff(TRACE.arrival_times)
    assert sorted(set(gaps)) == [1.0, 3.0]
    rate = 39 / float(gaps.sum())
    calm = one.first_tokens(1, rate)
    assert [calm.queue_mean, calm.queue_p99, calm.slot_mean] == pytest.approx([0.0] * 3, abs=1e-12)
    assert [calm.mean, calm.p50, calm.p99] == pytest.approx([1.1] * 3)
    assert (calm.alone_mean, calm.transfer_mean) == (pytest.approx(1.0), pytest.approx(0.1))
    assert calm.utilization == pytest.approx(rate)
    busy = one.first_tokens(1, rate * 1.6)
    assert busy.queue_mean == pytest.approx(19 * (1 - 1 / 1.6) / 40)
    assert busy.queue_p99 == pytest.approx(1 - 1 / 1.6)
    assert busy.p95 == pytest.approx(1.1 + 1 - 1 / 1.6)
    assert busy.p50 == pytest.approx(1.1)
    assert one.first_tokens(2, rate).utilization == pytest.approx(rate / 2)
    slow = pool(slower=2.0).first_tokens(3, 0.6)  # each computes a prompt in two seconds
    assert slow.utilization == pytest.approx(0.4)
    # One slot of 10 tokens: busy for 2.2 s, its requests come every 1 and 3 s.
    slot = SimpleNamespace(slots=1, time_per_output_token=0.22)
    held = one.first_tokens(1, rate, slot)
    waits = [0.0]
    for gap in gaps:
        waits.append(max(waits[-1] + 2.2 - gap, 0.0))
    assert held.slot_mean == pytest.approx(np.mean(waits))
    assert held.slot_p99 == pytest.approx(np.quantile(waits, 0.99))
    assert held.mean == pytest.approx(1.1 + np.mean(waits))
    shares = np.quantile(np.add(waits, 1.1), (0.5, 0.95, 0.99))
    assert [held.p50, held.p95, held.p99] == pytest.approx(shares.tolist())
    ready = one.ready(1, TRACE.arrival_times)
    assert ready == pytest.approx(TRACE.arrival_times + 1.1)


def test_a_limit_below_what_prompts_take_alone_is_refused():
    """A second of passes and a tenth of transfer: 1.1 s are enough, less is not."""
    assert pool(1.1, transfer=1e-4).carries(40, 0.1)
    with pytest.raises(InfeasibleError, match="below what prompts take without any waiting"):
        pool(1.09, transfer=1e-4)
    with pytest.raises(InfeasibleError, match="below what prompts take"):
        pool(1.15, margin=0.05, transfer=1e-4)


def test_the_longest_prompt_has_to_fit_a_worker():
    trace = replace(TRACE, prompt_tokens=np.array([1000] * 39 + [3000]))
    traffic = service_traffic(EmpiricalLengths(trace), trace)
    asked = FirstTokenLimit(time_to_first_token=9.0)
    roomy = replace(worker(), most_tokens=3000.0)
    assert PrefillPool(roomy, traffic, asked).rate_of_worker == pytest.approx(40 / 42)
    with pytest.raises(InfeasibleError, match=r"3,000 tokens needs more than the room for 2,999"):
        PrefillPool(replace(worker(), most_tokens=2999.0), traffic, asked)


def test_rates_that_a_pool_carries_by_hand():
    """Waits of 1 - 1/x s at x times the rate of 0.5/s, up to one prompt a second and worker."""
    rate = 39 / float(np.diff(TRACE.arrival_times).sum())
    for limit, times in ((1.2, 1.25), (1.4, 1 / 0.6)):
        one = pool(limit=limit)
        assert one.most_rate(1) == pytest.approx(rate * times, rel=2e-4)
        assert one.carries(1, rate * times * 0.9999)
        assert not one.carries(1, rate * times * 1.001)
        assert pool(limit=limit / 0.9, margin=0.1).most_rate(1) == pytest.approx(one.most_rate(1))
    one = pool(limit=60.0)
    assert one.rate_of_worker == pytest.approx(1.0)
    assert [one.most_rate(n) for n in (0, 1, 3)] == pytest.approx([0.0, 1.0, 3.0])
    slots = SimpleNamespace(slots=12, time_per_output_token=0.5)
    assert one.most_rate(9, slots) == pytest.approx(12 / 5.0)
    assert one.fewest_workers(2.4, slots) == 3
    assert one.fewest_workers(2.41, slots) is None
    assert [one.fewest_workers(r) for r in (0.5, 1.0, 1.001, 2.0)] == [1, 1, 2, 2]
    assert pool(limit=1.3, statistic="mean").most_rate(1) > pool(limit=1.3).most_rate(1)


def test_a_prompt_may_fill_its_worker():
    limit = FirstTokenLimit(time_to_first_token=5.0)
    full = replace(worker(), most_tokens=1000)
    assert PrefillPool(full, TRAFFIC, limit).rate_of_worker == pytest.approx(1.0)
    with pytest.raises(InfeasibleError, match="a prompt of 1,000 tokens needs more"):
        PrefillPool(replace(full, most_tokens=999), TRAFFIC, limit)
    # The limit may be what a prompt takes alone, 1 s, to a rounding.
    alone = FirstTokenLimit(time_to_first_token=1.0)
    assert PrefillPool(full, TRAFFIC, alone).most_rate(1) > 0
    with pytest.raises(InfeasibleError, match="below what prompts take"):
        PrefillPool(full, TRAFFIC, FirstTokenLimit(time_to_first_token=0.999))


@pytest.mark.parametrize("devices", [7, 8, 9, 12, 30])
@pytest.mark.parametrize("each", [(1,), (2,), (1, 3)])
def test_a_budget_is_shared_as_brute_force_shares_it(devices, each):
    pools = [pool(limit=60.0, devices=d) for d in each]
    plans = {n: SEARCH.best(Limits(devices=n)) if n > 2 else None for n in range(31)}
    tried = [
        one.most_rate(n, plans[devices - n * one.model.devices])
        for one in pools
        for n in range(1, devices)
        if devices > n * one.model.devices and plans[devices - n * one.model.devices] is not None
    ]
    found = most_split(pools, devices, plans.get)
    assert found.rate == pytest.approx(max(tried), rel=2e-4)
    assert found.devices <= devices
    groups = [multiplied(ranks(), 1)]
    tried = [
        one.most_rate((devices - 4 * n) // one.model.devices, ranks(n))
        for one in pools
        for n in range(1, (devices - 1) // 4 + 1)
    ]
    shared = most_ranks(pools, devices, groups)
    assert (shared.rate if shared else 0.0) == pytest.approx(max(tried), rel=2e-4)


@pytest.mark.parametrize("devices", [9, 30])
def test_a_service_of_few_requests_an_hour_is_shared_alike(devices):
    """All times a thousand times as long: a thousandth of the rate, the same devices."""
    source = MeasuredSource(
        LATENCY.with_coefficients(
            {
                "attention.slope": 1e-3, "attention.intercept": 1.0, "ffn.slope": 0.1,
                "ffn.intercept": 2.0, "transfer.slope": 2e-3, "transfer.intercept": 0.5,
            }
        ),
        ffn_devices=2,
    )  # fmt: skip
    slow = DesignSearch(LAW, source, SEARCH.space, DeviceCost())
    found = {}
    for search, slower in ((SEARCH, 1.0), (slow, 1e3)):
        plans = {n: search.best(Limits(devices=n)) if n > 2 else None for n in range(31)}
        pools = [pool(limit=60.0 * slower, slower=slower)]
        found[slower] = most_split(pools, devices, plans.get)
    assert found[1e3].workers == found[1.0].workers
    assert found[1e3].devices == found[1.0].devices
    assert found[1e3].rate == pytest.approx(found[1.0].rate / 1e3, rel=3e-4)


def test_least_cost_of_prefill():
    pools = [pool(limit=60.0, devices=2), pool(limit=60.0, devices=3)]
    assert least_cost(pools, 2.5, 1.5) == pytest.approx(1.5 * 2 * 3)
    assert least_cost(pools[1:], 3.0, 1.0) == 9.0
    assert least_cost(pools, 0.0, 1.0) == 2.0
    one = Sharing(pool=pools[0], workers=3, decode=design(), rate=1.0)
    assert (one.prefill_devices, one.devices) == (6, 16)
    assert str(one).startswith("3 prefill workers of 2 devices and ")
    assert str(replace(one, workers=1, pool=pool(devices=1))).startswith(
        "1 prefill worker of 1 device and"
    )


def test_what_others_carry_on_the_budget_or_take_for_the_rate():
    ours = service(design())
    other = Sharing(pool=ours.pool, workers=3, decode=ranks(), rate=0.8 * ours.rate)
    both = [Sharing(pool=ours.pool, workers=2, decode=design(), rate=ours.rate), other]
    found = service_baselines(ours, both, SEARCH)
    assert [one.kind for one in found] == ["prefill, attention, FFN", "prefill, decode"]
    assert [one.gain for one in found] == pytest.approx([0.0, 0.25])
    assert [one.devices for one in found] == [14, 14]
    asked = replace(ours, limits=Limits(devices=30, requests_per_second=1.0))
    more = replace(other, workers=10)
    assert service_baselines(asked, [more], SEARCH)[0].gain == pytest.approx(28 / 14 - 1)


def test_prompts_slow_the_steps_of_ranks_that_compute_them_too():
    """A group finishes R requests/s alone and takes 1 s for a prompt: R / (1 + R) with prompts."""
    group, one = multiplied(ranks(), 1), pool(limit=60.0)
    search = ColocatedSearch.of(SEARCH)
    alone = group.requests_per_second
    rate = alone / (1 + alone)
    slowed = group.time_per_output_token / (1 - rate)
    found = _largest(search, group, one, Limits(devices=30, time_per_output_token=slowed * 1.001))
    assert found.batch_size == 8
    assert found.requests_per_second == pytest.approx(rate)
    assert found.step_time.mean == pytest.approx(group.step_time.mean / (1 - rate))
    tight = Limits(devices=30, time_per_output_token=slowed * 0.999)
    smaller = _largest(search, group, one, tight)
    assert 0 < smaller.batch_size < 8
    for size, meets in ((smaller.batch_size, True), (smaller.batch_size + 1, False)):
        plan = search.again(replace(group, batch_size=size), tight)
        r = plan.requests_per_second
        time = plan.time_per_output_token / (1 - r / (1 + r))
        assert bool(tight.meets(time)) is meets
    assert _largest(search, group, one, Limits(devices=30, time_per_output_token=1e-3)) is None


@pytest.mark.parametrize("devices", [8, 14, 30])
@pytest.mark.parametrize("ffn", [2e-3, 2e-2])
def test_a_split_decode_side_must_carry_five_percent_more(devices, ffn):
    source = MeasuredSource(
        LATENCY.with_coefficients({"ffn.intercept": ffn, "ffn.slope": 1e-5}), ffn_devices=1
    )
    search = DesignSearch(LAW, source, SEARCH.space, DeviceCost())
    limits, prefill = Limits(devices=devices), pool(limit=60.0, devices=1)
    split, unsplit = _sharings([prefill], limits, search, DeviceCost())
    clear = split.rate >= 1.05 * unsplit.rate
    found = plan_service(
        LAW, source, limits, prefill.limit, (prefill.model,), TRAFFIC, space=SEARCH.space
    )
    assert isinstance(found.plan.recommended, PlannedDesign) is clear
    assert found.rate == pytest.approx((split if clear else unsplit).rate, rel=1e-3)
    assert found.workers == (split if clear else unsplit).workers
