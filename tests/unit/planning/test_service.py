"""Are devices shared between prefill, attention and FFN as brute force would share them?"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from afdplan.errors import AfdplanError, InfeasibleError, InvalidInputError
from afdplan.lengths.law import EmpiricalLengths
from afdplan.model.curve import RooflineCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.prefill import PairCost, PrefillModel
from afdplan.model.prompt_blocks import PromptBlocks
from afdplan.model.trace import Trace
from afdplan.planning.colocated_search import ColocatedSearch
from afdplan.planning.design import PlannedDesign
from afdplan.planning.first_token import FirstTokenLimit, PrefillPool
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.search import DesignSearch
from afdplan.planning.service_search import _sharings, plan_service
from afdplan.planning.service_sharing import (
    cheapest_ranks,
    cheapest_split,
    most_ranks,
    most_split,
    multiplied,
)
from afdplan.planning.source import MeasuredSource
from afdplan.planning.space import SearchSpace
from afdplan.planning.traffic import service_traffic

SPACE = SearchSpace(batch_sizes=(16, 64), microbatches=(1, 2))
LIMITS = Limits(devices=16, time_per_output_token=0.06)
TTFT = FirstTokenLimit(time_to_first_token=0.8)


def bursty_trace(requests=1500, seed=2):
    generator = np.random.default_rng(seed)
    gaps = generator.gamma(0.4, 1 / 0.4, requests)
    return Trace(
        prompt_tokens=generator.geometric(1 / 1500, requests),
        decode_tokens=generator.geometric(1 / 120, requests),
        arrival_times=np.cumsum(gaps),
        source="bursts",
    )


TRACE = bursty_trace()
LAW = EmpiricalLengths(TRACE)
TRAFFIC = service_traffic(LAW, TRACE)
SOURCE = MeasuredSource(
    LatencyModel.linear(
        attention=(2e-9, 3e-5), ffn=(4e-7, 2e-4), transfer=(1e-8, 2e-5), layers=60, time_unit="s"
    ),
    kv_tokens=4e5,
)


def worker(devices=1, factor=1.0):
    return PrefillModel(
        name=f"worker of {devices}",
        compute=RooflineCurve(floor=0.03, slope=6e-5 * factor / devices),
        pairs=(PairCost(time=1e-9 / devices),),
        devices=devices,
        transfer_per_token=1e-6,
    )


@cache
def search():
    return DesignSearch(LAW, SOURCE, SPACE, DeviceCost())


@cache
def decode(devices):
    return None if devices < 2 else search().best(replace(LIMITS, devices=devices))


@pytest.mark.parametrize("devices", [5, 9, 16])
@pytest.mark.parametrize("each", [(1,), (2,), (1, 3)])
def test_the_split_sharing_equals_brute_force(devices, each):
    pools = [PrefillPool(worker(d), TRAFFIC, TTFT) for d in each]
    tried = [
        pool.most_rate(number, found)
        for pool in pools
        for number in range(1, devices)
        if (found := decode(devices - number * pool.model.devices)) is not None
    ]
    found = most_split(pools, devices, decode)
    assert found is not None
    assert found.rate == pytest.approx(max(tried), rel=2e-4)
    assert found.devices <= devices


def test_the_sharing_with_ranks_equals_brute_force():
    pools = [PrefillPool(worker(2), TRAFFIC, TTFT)]
    widths = ColocatedSearch(search()).widths(replace(LIMITS, devices=14))
    tried = [
        pools[0].most_rate((16 - copies * one.devices) // 2, multiplied(one, copies))
        for width in widths
        for one in (multiplied(width, 1),)
        for copies in range(1, 16)
        if (16 - copies * one.devices) // 2 >= 1
    ]
    found = most_ranks(pools, 16, widths)
    assert found is not None
    assert found.rate == pytest.approx(max(tried), rel=2e-4)


def test_ranks_may_have_what_the_smallest_prefill_worker_leaves():
    """Of two devices a worker of one leaves one, a worker of two none."""
    pools = [PrefillPool(worker(d), TRAFFIC, TTFT) for d in (2, 1)]
    limits = replace(LIMITS, devices=2)
    _, ranks = _sharings(pools, limits, search(), DeviceCost())
    assert (ranks.prefill_devices, ranks.decode.devices) == (1, 1)
    assert _sharings(pools[:1], limits, search(), DeviceCost()) == (None, None)


def test_a_rate_is_the_largest_that_is_carried():
    pool = PrefillPool(worker(), TRAFFIC, TTFT)
    design = decode(8)
    rate = pool.most_rate(4, design)
    assert pool.carries(4, rate, design)
    assert not pool.carries(4, rate * 1.001, design)
    fewest = pool.fewest_workers(rate, design)
    assert fewest is not None
    assert fewest <= 4
    assert pool.carries(fewest, rate, design)
    assert fewest == 1 or not pool.carries(fewest - 1, rate, design)
    assert pool.fewest_workers(1.01 * design.requests_per_second, design) is None


def test_requests_that_come_at_one_moment_wait_at_any_rate():
    """Ten at a time of 0.036 s and more each: one worker ended in a division by a rate of zero."""
    trace = Trace(
        prompt_tokens=[1000] * 40,
        decode_tokens=[9] * 40,
        arrival_times=np.repeat([0.0, 3.0, 4.0, 9.0], 10),
    )
    limit = FirstTokenLimit(time_to_first_token=0.1)
    pool = PrefillPool(worker(), service_traffic(EmpiricalLengths(trace), trace), limit)
    assert pool.most_rate(1) == 0.0
    assert pool.most_rate(10) > 10.0


def test_tightening_any_limit_never_improves():
    def rate(limits=LIMITS, ttft=TTFT, slower=1.0):
        pools = [PrefillPool(worker(factor=slower), TRAFFIC, ttft)]
        found = most_split(
            pools,
            limits.devices,
            lambda n: None if n < 2 else search().best(replace(limits, devices=n)),
        )
        return 0.0 if found is None else found.rate

    best = rate() * (1 + 2e-4)
    assert rate(ttft=replace(TTFT, time_to_first_token=0.6)) <= best
    assert rate(limits=replace(LIMITS, devices=12)) <= best
    assert rate(limits=replace(LIMITS, time_per_output_token=0.04)) <= best
    assert rate(slower=1.3) <= best
    assert rate(ttft=replace(TTFT, first_token_statistic="p95")) >= rate()


@pytest.fixture(scope="module")
def service():
    return plan_service(LAW, SOURCE, LIMITS, TTFT, (worker(),), TRAFFIC, space=SPACE, trace=TRACE)


def test_the_service_keeps_all_limits(service):
    chosen = service.plan.recommended
    assert service.used_devices + service.idle_devices == 16
    assert chosen.time_per_output_token <= 0.06
    assert service.first_token.p99 <= 0.8 * (1 + 1e-9)
    assert service.rate <= chosen.requests_per_second * (1 + 1e-9)
    assert service.pool.carries(service.workers, service.rate, chosen)


def test_doubling_one_side_explains_itself(service):
    """1P1D, 2P1D, 1P2D: only the limiting side's double carries more."""
    cases = {case.name: case for case in service.cases}
    assert cases["1P1D"].rate == pytest.approx(service.rate)
    assert cases["2P2D"].rate >= 1.5 * service.rate
    limiting = "2P1D" if cases["1P1D"].limited_by == "prefill" else "1P2D"
    assert cases[limiting].rate == max(cases["2P1D"].rate, cases["1P2D"].rate)


def test_one_more_of_a_side_is_what_a_replay_of_it_gives(service):
    steps = {step.side: step for step in service.steps}
    more = service.pool.most_rate(service.workers + 1, service.plan.recommended)
    assert steps["prefill"].rate == more
    assert steps["prefill"].gain == pytest.approx(max(more / service.rate - 1, 0))
    if isinstance(service.plan.recommended, PlannedDesign):
        assert {"attention", "FFN"} <= steps.keys()
    assert (
        service.limited_by == max(service.steps, key=lambda step: step.gain_per_device).side
        or not service.limited_by
    )


def test_a_wanted_rate_takes_the_fewest_devices():
    rate = 40.0
    limits = Limits(requests_per_second=rate, time_per_output_token=0.06)
    found = plan_service(LAW, SOURCE, limits, TTFT, (worker(),), TRAFFIC, space=SPACE)
    assert found.rate >= rate
    assert found.first_token.p99 <= 0.8
    one_less = found.pool.carries(found.workers - 1, rate, found.plan.recommended)
    assert found.workers == 1 or not one_less
    smaller = replace(LIMITS, devices=found.used_devices - 1)
    pools = [found.pool]
    widths = ColocatedSearch(search()).widths(replace(smaller, devices=found.used_devices - 2))
    others = [
        most_split(pools, found.used_devices - 1, decode),
        most_ranks(pools, found.used_devices - 1, widths),
    ]
    # A split must gain 5 % to be preferred.
    assert all(one is None or one.rate < 1.06 * rate for one in others)


@pytest.mark.parametrize(("ttft", "rate"), [(0.5, 60.0), (0.8, 150.0)])
def test_a_wanted_rate_takes_the_fewest_devices_of_all_decode_sides(ttft, rate):
    """More slots than the rate asks for may spare prefill workers: 13 devices and not 16."""
    pool = PrefillPool(worker(), TRAFFIC, replace(TTFT, time_to_first_token=ttft))
    tried = [
        side.devices + workers
        for devices in range(2, 12)
        if (side := decode(devices)) is not None
        and side.requests_per_second >= rate
        and (workers := pool.fewest_workers(rate, side)) is not None
    ]
    limits = Limits(requests_per_second=rate, time_per_output_token=0.06)
    found = cheapest_split([pool], limits, search().best, 1.0)
    assert found is not None
    assert found.devices == min(tried)
    groups = [multiplied(one, 1) for one in ColocatedSearch(search()).widths(LIMITS)]
    tried = [
        side.devices + workers
        for one in groups
        for copies in range(1, 12)
        if (side := multiplied(one, copies)).requests_per_second >= rate
        and (workers := pool.fewest_workers(rate, side)) is not None
    ]
    ranks = cheapest_ranks([pool], limits, groups, 1.0)
    assert ranks is not None
    assert ranks.devices == min(tried)


def test_what_cannot_be_is_said_in_one_line():
    def refused(error, match, **changes):
        asked = {
            "limits": LIMITS,
            "first_token": TTFT,
            "workers": (worker(),),
            "traffic": TRAFFIC,
        } | changes
        with pytest.raises(error, match=match) as told:
            plan_service(LAW, SOURCE, space=SPACE, **asked)
        assert "\n" not in str(told.value)

    refused(
        InfeasibleError,
        "below what prompts take",
        first_token=FirstTokenLimit(time_to_first_token=0.05),
    )
    refused(InfeasibleError, "does not fit", workers=(replace(worker(), most_tokens=500.0),))
    refused(InfeasibleError, "too few", limits=replace(LIMITS, devices=2), workers=(worker(2),))
    refused(
        InfeasibleError,
        "4 devices are too few: prefill alone takes 10 devices at least",
        limits=replace(LIMITS, devices=4, requests_per_second=100.0),
        workers=(worker(2),),
    )
    refused(InfeasibleError, "time per", limits=replace(LIMITS, time_per_output_token=1e-3))
    refused(AfdplanError, "--rate", cost=DeviceCost(per="watt", attention=2.0, ffn=3.0))
    with pytest.raises(AfdplanError):
        FirstTokenLimit(time_to_first_token=0.0)


@pytest.mark.parametrize("each", [1, 2])
def test_ranks_are_planned_where_the_devices_left_over_hold_no_split(each):
    """One device is left to decode, and a split takes two: the ranks on it were dropped."""
    limits = replace(LIMITS, devices=3)
    found = plan_service(LAW, SOURCE, limits, TTFT, (worker(each),), TRAFFIC, space=SPACE)
    tried = [
        found.pool.most_rate((3 - width.devices) // each, width)
        for devices in (1, 2)
        for width in ColocatedSearch(search()).widths(replace(LIMITS, devices=devices))
    ]
    assert found.rate == pytest.approx(max(tried), rel=2e-4)
    assert found.plan.recommended.devices == 1
    assert "2 devices would be needed, 1 may be used" in found.plan.split_breaks


def test_arrivals_must_be_there_and_be_traffic():
    bare = replace(TRACE, arrival_times=None)
    with pytest.raises(InvalidInputError, match="has none"):
        service_traffic(LAW, bare)
    rows = replace(TRACE, arrival_times=np.arange(TRACE.requests, dtype=float))
    with pytest.raises(InvalidInputError, match="evenly spaced"):
        service_traffic(LAW, rows)
    with pytest.raises(InvalidInputError, match="a law has none"):
        service_traffic(LAW, None)
    drawn = service_traffic(LAW, None, "poisson")
    assert np.diff(drawn.at(10.0)).mean() == pytest.approx(0.1, rel=0.05)
    assert TRAFFIC.at(3.0)[-1] == pytest.approx((TRACE.requests - 1) / 3.0)


def test_the_service_played_end_to_end_keeps_what_was_planned():
    """Through the simulator's stages and layers, not the plan's mean step."""
    from afdplan.planning.service_verify import verify_service

    trace = bursty_trace(600)
    law = EmpiricalLengths(trace)
    limits = Limits(devices=10, time_per_output_token=0.06)
    traffic = service_traffic(law, trace)
    found = plan_service(law, SOURCE, limits, TTFT, (worker(),), traffic, space=SPACE)
    decode = found.plan.split
    split = replace(
        found, plan=replace(found.plan, verdict=replace(found.plan.verdict, split="yes"))
    )
    rate = 0.8 * found.pool.most_rate(found.workers, decode)
    split = replace(
        split, rate=rate, first_token=found.pool.first_tokens(found.workers, rate, decode)
    )
    played = verify_service(split, SOURCE)
    assert played.decode == "simulated"
    assert played.requests == 600
    assert played.agrees
    assert played.first_token_p99.value == pytest.approx(split.first_token.p99, rel=0.15)
    assert played.first_token_p50.low <= split.first_token.p50 * 1.3
    assert played.token_time_mean <= decode.time_per_output_token * 1.02
    assert 0.9 <= played.good_fraction <= 1
    assert played.goodput == pytest.approx(played.good_fraction * rate)
    # Power: twice the rate breaks the limit when it is played, too.
    flooded = verify_service(replace(split, rate=2.5 * rate, first_token=split.first_token), SOURCE)
    assert flooded.good_fraction < played.good_fraction - 0.1


def test_shared_blocks_make_room_where_memory_limits():
    """One system prompt of 1,024 tokens before every question: held once by each worker."""
    lists = [[*range(8), *range(100 * k + 8, 100 * k + 8 + k % 7)] for k in range(TRACE.requests)]
    prompts = np.array([128 * len(one) for one in lists])
    trace = replace(TRACE, prompt_tokens=prompts, blocks=PromptBlocks.of(lists, 128))
    trace = replace(trace, cached_tokens=np.minimum(1024, prompts - 1))
    law = EmpiricalLengths(trace)
    tight = MeasuredSource(SOURCE.latency(1, 1, 1), kv_tokens=6e4)
    asked = (law, tight, LIMITS, TTFT, (worker(),))
    plain, cached, kept = (
        plan_service(*asked, traffic, space=SPACE)
        for traffic in (
            service_traffic(law, trace),
            replace(service_traffic(law, trace, "trace", "recorded"), blocks=None),
            service_traffic(law, trace, "trace", "recorded"),
        )
    )
    assert plain.unique_fraction == cached.unique_fraction == 1
    assert 0.2 < kept.unique_fraction < 0.6
    assert kept.rate > cached.rate > plain.rate
    chosen = kept.plan.recommended
    workers = (
        chosen.design.bundles * chosen.design.attention_workers
        if isinstance(chosen, PlannedDesign)
        else chosen.replicas * chosen.ranks
    )
    # What was planned with is what the recommended deployment saves, or less.
    shares = kept.pool.traffic.unique_fraction(chosen.slots, workers)
    assert shares <= kept.unique_fraction * 1.01
    # And its mean memory is that of all slots, shared blocks once.
    held = chosen.slots / workers * law.token_load().mean * kept.unique_fraction
    assert held <= 6e4
    assert chosen.memory_overflow_probability <= LIMITS.overflow_probability
