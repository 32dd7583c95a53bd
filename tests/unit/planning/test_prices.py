"""Are prices and sensitivities what planning again under every choice gives?"""

import math
from dataclasses import replace

import pytest

from afdplan.errors import InvalidInputError
from afdplan.lengths.law import IndependentLengths
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.planning.binding import MOST, shadow_prices
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.search import DesignSearch
from afdplan.planning.sensitivity import sensitivities
from afdplan.planning.source import MeasuredSource
from afdplan.planning.space import SearchSpace

LATENCY = LatencyModel.linear(
    attention=(1e-9, 2e-5), ffn=(2e-7, 1e-4), transfer=(1e-8, 1e-5), layers=60, time_unit="s"
)
LAW = IndependentLengths(prompt="geometric:1000", decode="geometric:300")
SPACE = SearchSpace(batch_sizes=(16, 64), microbatches=(2,))


def search(latency=LATENCY, space=SPACE, cost=None):
    return DesignSearch(LAW, MeasuredSource(latency, kv_tokens=4e5), space, cost or DeviceCost())


@pytest.mark.parametrize("devices", [7, 15, 16, 24, 33])
@pytest.mark.parametrize("cost", [DeviceCost(), DeviceCost(per="currency", attention=1.0, ffn=3.0)])
def test_price_of_devices_is_that_of_the_best_larger_budget(devices, cost):
    planner, limits = search(cost=cost), Limits(devices=devices, time_per_output_token=0.03)
    best = planner.best(limits)
    price = {p.limit: p for p in shadow_prices(planner, best, limits)}["devices"]
    more = max(devices // 8, 1)
    scores = [planner.best(replace(limits, devices=devices + n)).score for n in range(more + 1)]
    assert price.gain == pytest.approx(max(scores) / best.score - 1, abs=1e-9)
    assert price.gain > -1e-9


def test_more_devices_may_divide_worse_but_cost_nothing():
    planner, limits = search(), Limits(devices=16, time_per_output_token=0.03)
    best = planner.best(limits)
    assert any(planner.best(Limits(devices=n)).score < best.score for n in range(17, 33))
    for price in shadow_prices(planner, best, limits):
        assert price.gain > -1e-9


@pytest.mark.parametrize(
    "limits",
    [
        Limits(devices=16),
        Limits(devices=23),
        Limits(requests_per_second=40.0),
        Limits(devices=24, node_devices=4),
    ],
)
def test_regret_is_against_the_best_that_the_limits_allow(limits):
    planner = search()
    best = planner.best(limits)
    design = best.design
    rows = {s.input: s for s in sensitivities(planner, best, limits, None) if s.change == 0.1}
    space = SearchSpace(
        batch_sizes=(design.batch_size,),
        microbatches=(design.microbatches,),
        ffn_workers=(design.ffn_workers,),
        max_attention_workers=2 * design.attention_workers,
    )
    for name in ("attention.slope", "ffn.slope"):
        value = {"attention.slope": 1.1e-9, "ffn.slope": 2.2e-7}[name]
        changed = search(LATENCY.with_coefficients({name: value}), space)
        again = changed.best(limits)
        bundles = design.bundles
        if limits.requests_per_second is not None:
            one = changed.describe(replace(design, bundles=1), limits).requests_per_second
            bundles = math.ceil(limits.requests_per_second / one)
        kept = changed.describe(replace(design, bundles=bundles), limits).score
        assert rows[name].best_attention_workers == again.design.attention_workers
        assert rows[name].regret == pytest.approx(1 - kept / again.score, abs=1e-9)
        if limits.devices is not None:
            bundle = rows[name].best_attention_workers + design.ffn_workers
            assert bundle <= limits.devices


def test_the_largest_budget_has_no_price():
    planner, limits = search(), Limits(devices=MOST)
    best = planner.best(limits)
    assert "devices" not in {price.limit for price in shadow_prices(planner, best, limits)}
    nearly = Limits(devices=MOST - 3)
    price = {p.limit: p for p in shadow_prices(planner, best, nearly)}["devices"]
    assert price.relaxation.startswith("up to 3 more devices")


def test_requests_without_a_token_have_no_load_to_scale():
    law = IndependentLengths(prompt="0", decode="1")
    planner = DesignSearch(law, MeasuredSource(LATENCY, kv_tokens=4e5), SPACE, DeviceCost())
    limits = Limits(devices=16)
    best = planner.best(limits)
    load = Estimate(value=0.0, low=0.0, high=0.0, confidence=0.95, method="trace")
    found = sensitivities(planner, best, limits, load)
    assert all(math.isfinite(s.change) for s in found)


@pytest.mark.parametrize("price", [1e-320, 1e308])
def test_costs_of_no_ordinary_size_are_refused(price):
    with pytest.raises(InvalidInputError, match="must be of a size from 1e-100 to 1e\\+100, got"):
        DeviceCost(per="currency", attention=price, ffn=price)
