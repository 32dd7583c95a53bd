"""Are prices and sensitivities what planning again under every choice gives?"""

import math
from dataclasses import replace

import pytest

from afdplan.errors import InvalidInputError
from afdplan.lengths.law import IndependentLengths
from afdplan.model.coupling import Coupling
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel, coefficients_of
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


def test_a_tenth_more_of_an_input_is_the_design_with_that_input():
    """A transfer that keeps attention busy moved nothing: its side was not made again."""
    latency = replace(
        LATENCY.with_coefficients({"transfer.intercept": 6e-5, "step_overhead": 1e-3}),
        coupling=Coupling(send_attention=1.0, receive_attention=0.5, launch=2e-5),
    )
    law, limits = IndependentLengths(prompt="fixed:300", decode="geometric:30"), Limits(devices=4)
    space = SearchSpace(batch_sizes=(16,), microbatches=(2,), ffn_workers=(1,))
    planner = DesignSearch(law, MeasuredSource(latency), space, DeviceCost())
    best = planner.best(limits)
    load = Estimate(value=1000.0, low=900.0, high=1300.0, confidence=0.95, method="x")
    found = sensitivities(planner, best, limits, load)
    names = {
        name
        for name, value in coefficients_of(latency).items()
        if value > 0 and not name.startswith(("send.", "receive."))  # "transfer." moves both
    }
    loads = {"mean token load": (1.1, 0.9)}
    for end, factor in (("low", 0.9), ("high", 1.3)):
        loads[f"mean token load, {end} end of its interval"] = (factor,)
    assert {one.input for one in found} == {name.replace("_", " ") for name in names} | set(loads)
    for one in found:
        model, factor = latency, 1 + one.change
        if one.input in loads:
            assert any(factor == pytest.approx(f) for f in loads[one.input])
        else:
            name, factor = one.input.replace(" ", "_"), 1.0
            model = latency.with_coefficients({name: 1.1 * coefficients_of(latency)[name]})
        source = MeasuredSource(model)
        again = DesignSearch(law, source, space, DeviceCost(), load_factor=factor)
        other = again.describe(best.design, limits)
        change = other.tokens_per_second / best.tokens_per_second - 1
        assert one.throughput_change == pytest.approx(change, abs=1e-9)
        assert one.time_per_output_token == pytest.approx(other.token_time(limits.statistic))
