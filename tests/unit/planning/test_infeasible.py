"""What a refusal names would do, and a little less would not; every number of it by hand."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.planning.colocated_search import ColocatedSearch
from afdplan.planning.infeasible import _more, explain_infeasible
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.search import DesignSearch
from afdplan.planning.source import MeasuredSource
from afdplan.planning.space import SearchSpace

# A step of ten layers takes 10 (3.03 + 0.008 B A + 2e-3 B + 4e-3 B ...) ms of fixed requests.
LAW = IndependentLengths(prompt="fixed:2000", decode="fixed:1")
LATENCY = LatencyModel.linear(
    attention=(1e-6, 1e-3), ffn=(1e-4, 2e-3), transfer=(2e-6, 5e-4), layers=10, time_unit="s"
)


def search(sizes=(8,), *, kv_tokens=None, workers=None, **options):
    space = SearchSpace(batch_sizes=sizes, microbatches=(1,), max_attention_workers=workers)
    return DesignSearch(
        LAW, MeasuredSource(LATENCY, kv_tokens=kv_tokens, **options), space, DeviceCost()
    )


def step(workers, batch=8):
    return 10 * (1e-3 + 2e-3 * batch + 2e-3 + 1e-4 * batch * workers + 2 * (5e-4 + 2e-6 * batch))


def refused(asked, limits, **told):
    assert asked.best(limits) is None
    return explain_infeasible(asked, limits, **told)


@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_the_time_that_the_fastest_design_takes(margin):
    """One attention worker, one FFN worker each for the quickest: A = 1, F = 1 of two devices."""
    limits = Limits(devices=2, time_per_output_token=0.1, margin=margin)
    found = refused(search(), limits)
    needed = step(1) / (1 - margin)
    shown = float(re.search(r"would have to be ([\d.]+) ms", str(found))[1])
    assert shown == pytest.approx(1e3 * needed, rel=1e-3)
    assert shown >= 1e3 * needed * (1 - 1e-9)
    assert "of 100 ms" in str(found)
    assert f"ms, {_more(needed / 0.1)}" in str(found)
    assert found.nearest.design.devices == 2
    assert f"{step(1) * 1e3:.4g} ms per token, {8 / step(1):,.0f} tokens/s" in str(found)
    assert ". Nearest feasible split: (1 attention : 1 FFN), batch 8" in str(found)


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (1.0042, "0.42 % more"), (1.0094, "0.94 % more"), (1.0096, "1.0 % more"),
        (1.0949, "9.5 % more"), (1.0951, "10 % more"), (1.5, "50 % more"), (9.99, "899 % more"),
        (10.0, "10 times"), (12345.0, "12,345 times"),
    ],
)  # fmt: skip
def test_how_much_more_in_words(factor, words):
    assert _more(factor) == words


def test_the_devices_that_a_time_or_a_rate_needs():
    """Workers of 8 requests of one token beside an FFN worker of 4 devices."""
    asked = search(ffn_devices=4, workers=4)
    most = max(a * 8 / step(a) for a in range(1, 5))
    limits = Limits(devices=8, requests_per_second=1.5 * most)
    found = refused(asked, limits)
    needed = int(re.search(r"([\d,]+) devices would be needed, 8 may be used", str(found))[1])
    assert asked.best(replace(limits, devices=needed)) is not None
    assert asked.best(replace(limits, devices=needed - 1)) is None
    rate = float(re.search(r"would have to be ([\d.]+) at most", str(found))[1])
    assert rate == pytest.approx(most, rel=1e-3)
    assert asked.best(replace(limits, requests_per_second=rate)) is not None
    # The nearest way is told first, and its plan.
    ways = {"devices": needed / 8 - 1, "rate": 1.5 - 1}
    first = min(ways, key=ways.get)
    assert (str(found).find("devices would") < str(found).find("requests/s would")) is (
        first == "devices"
    )
    if first == "rate":
        assert found.nearest.requests_per_second >= rate * (1 - 1e-3)
    margin = refused(asked, replace(limits, margin=0.25))
    rate = float(re.search(r"would have to be ([\d.]+) at most", str(margin))[1])
    assert rate == pytest.approx(most / 1.25, rel=1e-3)


def test_nodes_that_would_be_shared():
    asked = search(workers=3)
    found = refused(asked, Limits(devices=7, node_devices=4))
    # Eight devices are nearer.
    assert "8 devices would be needed, 7 may be used; or nodes of 4 devices would be" in str(found)
    assert found.nearest.design == asked.best(Limits(devices=8, node_devices=4)).design
    found = refused(asked, Limits(devices=3, node_devices=4))
    assert str(found).startswith("no plan meets all limits: nodes of 4 devices would be shared; or")
    assert found.nearest.design == asked.best(Limits(devices=3)).design
    assert "nodes" not in str(refused(asked, Limits(devices=1)))


def test_memory_that_the_smallest_batch_fills():
    """Eight requests of 2,000 tokens in 10,000: 160 % of it, always too much."""
    found = refused(search((8, 16), kv_tokens=1e4), Limits(devices=4))
    assert (
        "KV memory: 8 requests per attention worker already fill 160 % of it on average and "
        "overflow with probability 1, more than 0.001" in str(found)
    )
    assert found.nearest.design.batch_size == 8
    # What is kept free counts as well: 16,000 tokens of 80 % of 18,000.
    tight = search(kv_tokens=1.8e4)
    assert tight.best(Limits(devices=4)) is not None
    assert "KV memory" in str(refused(tight, Limits(devices=4, margin=0.2)))


def test_what_ranks_without_a_split_would_need():
    asked = search()
    quick = Limits(devices=2, time_per_output_token=0.1)
    said = str(refused(asked, quick))
    shown = float(re.search(r"Without a split ([\d.]+) ms would be needed", said)[1]) / 1e3
    ranks = ColocatedSearch.of(asked)
    assert ranks.widths(Limits(devices=2, time_per_output_token=shown))
    assert not ranks.widths(Limits(devices=2, time_per_output_token=shown * 0.997))
    often = Limits(devices=2, requests_per_second=1e3)
    said = str(refused(asked, often))
    devices = int(re.search(r"Without a split ([\d,]+) devices would", said)[1].replace(",", ""))
    assert ranks.widths(replace(often, devices=devices))
    assert not ranks.widths(replace(often, devices=devices - 1))


def test_ranks_that_meet_all_are_told_with_the_best_of_them():
    asked = search(workers=1)
    limits = Limits(devices=2, requests_per_second=1.01 * 8 / step(1))
    able = ColocatedSearch.of(asked).widths(limits)
    assert able
    best = max(able, key=lambda plan: plan.score)
    said = str(refused(asked, limits))
    assert said.startswith("no split meets all limits: ")
    assert f". Without a split all are met: {best} on 1 device, " in said
    assert f"{best.time_per_output_token * 1e3:.4g} ms per token" in said
    told = refused(
        asked, limits, where="the evening", breaks=lambda plan, relaxed: "the morning: x"
    )
    assert "no split meets all limits in the evening: " in str(told)
    assert ". Nearest split: " in str(told)
    assert ", but in the morning: x" in str(told)


def test_what_no_limit_alone_mends():
    assert "3 devices are fewer than the 4 that one attention worker" in str(
        refused(search(ffn_devices=3, workers=1, kv_tokens=1.0), Limits(devices=3))
    )
    found = refused(search(kv_tokens=1.0), Limits(devices=4, time_per_output_token=1e-3))
    assert "relaxing one alone does not help: give more devices, a longer time" in str(found)
    assert found.nearest is None


@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_the_time_at_which_a_rate_is_just_reached(margin):
    """A batch of 40 finishes more than one of 8, in a longer step: that step, and no longer one."""
    asked = search((8, 40), workers=1)
    rate = 40 / step(1, 40) / (1 + margin) * 0.999
    assert rate * (1 + margin) > 8 / step(1, 8)
    limits = Limits(devices=2, requests_per_second=rate, time_per_output_token=0.1, margin=margin)
    said = str(refused(asked, limits))
    shown = float(re.search(r"would have to be ([\d,.]+) ms", said)[1].replace(",", "")) / 1e3
    assert shown == pytest.approx(step(1, 40) / (1 - margin), rel=2e-3)
    assert asked.best(replace(limits, time_per_output_token=shown)) is not None
