"""What a plan file keeps is what is planned again with; how many bundles a rate takes, by hand."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import pytest

from afdplan.errors import InvalidInputError
from afdplan.planning.colocated_search import ColocatedSearch
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.replan import _is_same, _limits, _space, replan, stored_cost
from afdplan.planning.search import DesignSearch
from afdplan.planning.source import MeasuredSource
from afdplan.planning.space import SearchSpace, graph_batch_sizes
from tests.unit.planning.test_check import FIXED, LATENCY, PLAN, law, running, step
from tests.unit.planning.test_service_numbers import SEARCH, design


def kept(**inputs):
    return replace(PLAN, inputs=MappingProxyType(inputs))


def test_limits_that_a_file_keeps():
    plan = replace(
        kept(devices=24, rate=3.5, node_devices=4, margin=0.2),
        time_per_output_token=0.05, statistic="p95", overflow_probability=0.02,
    )  # fmt: skip
    assert _limits(plan) == Limits(
        devices=24, requests_per_second=3.5, time_per_output_token=0.05, statistic="p95",
        overflow_probability=0.02, node_devices=4, margin=0.2,
    )  # fmt: skip
    assert _limits(kept(rate=3.5)).devices is None
    bare = _limits(kept(devices=9))
    assert (bare.requests_per_second, bare.node_devices, bare.margin) == (None, 1, 0.0)
    assert _limits(kept(devices=9, margin=None)).margin == 0.0
    with pytest.raises(InvalidInputError, match="keeps neither devices nor rate"):
        _limits(kept())


def test_candidates_that_a_file_keeps():
    space = _space(
        kept(batch_sizes=[4, 8], microbatches=[1, 3], max_attention_workers=7, ffn_workers=[2],
             placement="longest-prompt", max_bundle_devices=11)
    )  # fmt: skip
    assert (space.batch_sizes, space.microbatches, space.ffn_workers) == ((4, 8), (1, 3), (2,))
    assert (space.max_attention_workers, space.max_bundle_devices) == (7, 11)
    assert (space.placement, space.fills_gaps) == ("longest-prompt", False)
    free = _space(kept(largest_batch_size=600))
    assert free.batch_sizes == graph_batch_sizes(600)
    assert free.fills_gaps
    assert free.microbatches == free.target.microbatches
    plain = SearchSpace()
    assert _space(kept()) == replace(plain, fills_gaps=True)
    for bad in ([], 8, "8"):
        with pytest.raises(InvalidInputError, match=r"inputs\.batch_sizes must be a list"):
            _space(kept(batch_sizes=bad))


def test_costs_that_a_file_keeps():
    assert stored_cost(kept()) == DeviceCost()
    dear = stored_cost(kept(per="currency", attention_cost=2.0, ffn_cost=5.0))
    assert (dear.per, dear.attention, dear.ffn) == ("currency", 2.0, 5.0)


@pytest.mark.parametrize(
    "part",
    ["attention.slope", "attention.intercept", "ffn.slope", "ffn.intercept", "step_overhead",
     "transfer.slope", "transfer.intercept"],
)  # fmt: skip
def test_times_that_have_changed_are_others(part):
    """One part in 10,000 of any stage is a change, one in 10^9 is rounding."""
    values = {
        "attention.slope": 1e-6, "attention.intercept": 1e-3, "ffn.slope": 1e-4,
        "ffn.intercept": 2e-3, "step_overhead": 0.01, "transfer.slope": 2e-6,
        "transfer.intercept": 5e-4,
    }  # fmt: skip
    for factor, same in ((1 + 1e-9, True), (1.1, False)):
        found = LATENCY.with_coefficients({part: factor * values[part]})
        assert _is_same(found, LATENCY, PLAN) is same
    (kind,) = LATENCY.attention
    deeper = replace(LATENCY, attention=(replace(kind, layers=11),))
    assert not _is_same(deeper, LATENCY, PLAN)
    slower = LATENCY.with_coefficients({"step_overhead": 0.01 * (1 + 5e-6)})
    assert not _is_same(slower, LATENCY, PLAN)
    assert _is_same(LATENCY.with_coefficients({"step_overhead": 0.01 * (1 + 5e-7)}), LATENCY, PLAN)


def test_a_rate_is_reached_to_rounding():
    able = 2 * 8 * 1.5 / step(2)
    for rate, reached in ((able, True), (able * (1 + 1e-10), True), (able * (1 + 1e-8), False)):
        found = replan(running(inputs=FIXED | {"devices": 16, "rate": rate}), law())
        assert found.is_rate_reached is reached
    assert replan(running(inputs=FIXED | {"devices": 16}), law()).is_rate_reached


@pytest.mark.parametrize("bundles", [1, 2, 3, 7])
def test_as_many_bundles_as_a_rate_takes(bundles):
    one = design(bundles=1).requests_per_second
    for share, needed in ((0.999, bundles), (1.0, bundles), (1.001, bundles + 1)):
        limits = Limits(requests_per_second=share * bundles * one)
        assert SEARCH.refilled(design().design, limits).design.bundles == needed
        for devices, fits in ((5 * needed, True), (5 * needed - 1, False)):
            inside = replace(limits, devices=devices)
            assert (SEARCH.refilled(design().design, inside) is not None) is fits
    kept_as_it_is = SEARCH.refilled(design(bundles=4).design, Limits(devices=3))
    assert kept_as_it_is.design.bundles == 4


@pytest.mark.parametrize("batch", [1, 7, 8, 31, 32, 33, 64, 100, 257])
@pytest.mark.parametrize("overlap", [False, True])
def test_steps_of_ranks_of_any_batch_by_hand(batch, overlap):
    limits = Limits(devices=12)
    found = ColocatedSearch.of(SEARCH).deployed(
        replicas=1, ranks=4, devices_per_rank=2, batch_size=batch, two_batch_overlap=overlap,
        limits=limits,
    )  # fmt: skip
    load = SEARCH.law.token_load().mean
    f, c = 2e-3 + 1e-4 * batch, 5e-4 + 2e-6 * batch
    a = 1e-3 + 1e-6 * batch * load
    # Ages differ by ten tokens in a thousand: the slowest of four ranks is hardly slower.
    least = 10 * (f + max(f, c) + a + max(a, c) if overlap else a + f + 2 * c)
    assert least <= found.step_time.mean * (1 + 1e-9)
    assert found.step_time.mean == pytest.approx(least, rel=0.01)


def test_sizes_between_those_of_the_list_are_looked_at_where_they_may_be_best():
    """Limits that cut between two sizes: as good as if every size were in the list."""
    source = MeasuredSource(LATENCY, kv_tokens=5e4)
    lists = {
        "gaps": SearchSpace(batch_sizes=(1, 8, 40), microbatches=(1,), fills_gaps=True),
        "every": SearchSpace(batch_sizes=tuple(range(1, 41)), microbatches=(1,)),
    }
    searches = {
        name: ColocatedSearch.of(DesignSearch(law(), source, space, DeviceCost()))
        for name, space in lists.items()
    }
    for limits in (
        Limits(devices=8),
        Limits(devices=8, time_per_output_token=0.2),
        Limits(devices=8, time_per_output_token=0.11),
        Limits(devices=64, requests_per_second=120.0, time_per_output_token=0.2),
        Limits(devices=8, time_per_output_token=0.2, margin=0.1),
    ):
        best = {
            name: max(found, key=lambda plan: plan.score, default=None)
            for name, one in searches.items()
            for found in (one.widths(limits),)
        }
        assert best["gaps"] is not None
        assert best["gaps"].score == pytest.approx(best["every"].score)
        assert limits.meets(best["gaps"].time_per_output_token)
