"""What lies around a plan: larger batches, relaxed limits, other inputs and sizes, by hand.

Requests of 2,000 prompt tokens and one output token; every time of a step is a sum.
"""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.deploy.registry import find_target
from afdplan.lengths.law import IndependentLengths
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.planning.alternatives import alternatives, pareto_front
from afdplan.planning.binding import shadow_prices
from afdplan.planning.colocated_search import ColocatedSearch
from afdplan.planning.fastest import fastest_design
from afdplan.planning.limits import Limits
from afdplan.planning.next_batch import next_batch
from afdplan.planning.objective import DeviceCost
from afdplan.planning.search import DesignSearch
from afdplan.planning.sensitivity import _step_times, broken_inputs, sensitivities
from afdplan.planning.source import MeasuredSource
from afdplan.planning.space import SearchSpace
from afdplan.planning.supply import supply_words
from afdplan.planning.waiting import SpareCapacity

LAW = IndependentLengths(prompt="fixed:2000", decode="fixed:1")
TIMES = {
    "attention.slope": 1e-6, "attention.intercept": 1e-3, "ffn.slope": 1e-4,
    "ffn.intercept": 2e-3, "send.slope": 2e-6, "send.intercept": 5e-4,
    "receive.slope": 4e-6, "receive.intercept": 3e-4, "step_overhead": 0.01,
}  # fmt: skip
LATENCY = LatencyModel.linear(
    attention=(1e-6, 1e-3), ffn=(1e-4, 2e-3), transfer=(2e-6, 5e-4), layers=10, time_unit="s",
    step_overhead=0.01, tokens_per_step=1.5,
).with_coefficients({"receive.slope": 4e-6, "receive.intercept": 3e-4})  # fmt: skip


def step(workers, batch=8, tokens=2000.0, times=None, ffn_workers=1):
    """Ten layers, one part after the other [s]."""
    t = TIMES | (times or {})
    parts = (
        t["attention.intercept"] + t["attention.slope"] * batch * tokens,
        t["ffn.intercept"] + t["ffn.slope"] * batch * workers / ffn_workers,
        t["send.intercept"] + t["send.slope"] * batch,
        t["receive.intercept"] + t["receive.slope"] * batch,
    )
    return t["step_overhead"] + 10 * sum(parts)


def planned(limits, sizes=(8,), cost=None, kv_tokens=None, **options):
    asked = {"ffn_workers": (1,), "microbatches": (1,)} | options
    source = MeasuredSource(LATENCY, ffn_devices=2, kv_tokens=kv_tokens)
    search = DesignSearch(
        LAW, source, SearchSpace(batch_sizes=sizes, **asked), cost or DeviceCost()
    )
    best = search.best(limits)
    assert best is not None
    return search, best


def score(a, devices, batch=8, **changes):
    """Tokens per second and device of a budget that bundles of A and 2 devices fill."""
    return devices // (a + 2) * a * batch * 1.5 / step(a, batch, **changes) / devices


def percent(value, digits=2):
    return f"{value:.{digits}%}".replace("%", " %")


def test_a_larger_batch_that_nothing_forbids():
    limits = Limits(devices=8)
    search, best = planned(limits, sizes=(8, 16, 400))
    assert next_batch(search, best, limits) is None  # there is none
    small = search.describe(replace(best.design, batch_size=8), limits)
    found = next_batch(search, small, limits)
    gain = 2 * step(small.design.attention_workers) / step(small.design.attention_workers, 16) - 1
    assert (found.batch_size, found.forbidden_by) == (16, ())
    assert found.gain == pytest.approx(gain)
    assert str(found) == f"batch 16 is allowed and gives {percent(gain)} more"
    dear = replace(small, score=2 * small.score)
    less = next_batch(search, dear, limits)
    assert less.reason == f"is allowed and gives {percent(1 - (1 + gain) / 2)} less"
    never = replace(limits, overflow_probability=0.0)  # nor does it overflow
    assert next_batch(search, small, never).forbidden_by == ()
    slow = replace(limits, time_per_output_token=9.0)
    assert next_batch(search, small, slow).forbidden_by == ()


@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_a_larger_batch_takes_too_long_by_so_much(margin):
    limits = Limits(devices=8, time_per_output_token=0.2, margin=margin)
    search, best = planned(limits, sizes=(8, 16, 32, 64))
    assert best.design.batch_size == 8 or best.time_per_output_token <= 0.2 * (1 - margin)
    found = next_batch(search, best, limits)
    time = step(best.design.attention_workers, found.batch_size) / 1.5
    assert found.forbidden_by == ("time per output token",)
    assert found.reason == (
        f"would take {time * 1e3:.4g} ms per output token (mean), "
        f"{200 * (1 - margin):.4g} ms allowed: {percent(time / 0.2 / (1 - margin) - 1)} too long"
    )


@pytest.mark.parametrize("factor", [1.3, 3.7, 70.0])
def test_the_memory_of_a_larger_batch_is_found_wherever_it_is(factor):
    """Eight requests fit; of the next size `factor` times as much room would be needed."""
    room = 16_001.0
    size = int(room * factor / 2000)
    limits = Limits(devices=8)
    search, best = planned(limits, sizes=(8, size), kv_tokens=room)
    assert best.design.batch_size == 8
    found = next_batch(search, best, limits)
    more = float(re.search(r"([\d.]+) % more memory would hold it", found.reason)[1])
    need = 100 * (2000 * size / room - 1)
    # Beyond 64 times the memory nobody asks how much.
    assert more == pytest.approx(min(need, 6300.0), rel=1e-3)
    assert found.forbidden_by == ("KV memory",)
    assert found.reason.startswith("would overflow the KV memory with probability 1 per")


def test_words_of_a_plan_that_is_too_large():
    """Of 40 devices 90 % are spare: fewer would do, if there is any split or rank for the rate."""
    limits = Limits(devices=40)
    search, best = planned(limits)
    capacity = best.requests_per_second

    def told(arrive, part_rate=None, **changes):
        spare = SpareCapacity(arrival_rate=arrive, capacity=capacity)
        parts = () if part_rate is None else (
            SimpleNamespace(part="x", arrival_rate=part_rate, requests_per_second=capacity),
            SimpleNamespace(part="y", arrival_rate=None, requests_per_second=capacity),
        )  # fmt: skip
        return supply_words(search, best, replace(limits, **changes), spare, parts)

    assert told(0.51 * capacity) == ()
    assert told(0.5 * capacity) == ()
    (words,) = told(0.1 * capacity)
    arrive = f"{0.1 * capacity:,.4g} requests/s arrive, {capacity:,.4g} can be finished"
    fewest = int(re.search(r"spare, ([\d,]+) of 40 devices would do", words)[1])
    assert words == (
        f"too large: 90.0 % of its capacity is spare, {fewest} of 40 devices would do ({arrive})"
    )

    def carried(devices, rate):
        wanted = Limits(devices=devices, requests_per_second=rate)
        return search.best(wanted) is not None or ColocatedSearch.of(search).widths(wanted)

    assert carried(fewest, 0.1 * capacity)
    assert not carried(fewest - 1, 0.1 * capacity)
    # In its busiest part it must do, too.
    (busy,) = told(0.1 * capacity, part_rate=0.4 * capacity)
    more = int(re.search(r"spare, ([\d,]+) of 40", busy)[1])
    assert more > fewest
    assert carried(more, 0.4 * capacity)
    assert not carried(more - 1, 0.4 * capacity)
    (nearly,) = told(1e-4 * capacity)
    assert "too large: over 99.9 % of its capacity" in nearly
    (held,) = told(0.1 * capacity, time_per_output_token=1e-3)
    assert held.endswith(f"is spare, but nothing smaller holds the limits ({arrive})")


def test_no_price_of_nodes_of_one_device():
    limits = Limits(devices=8, node_devices=1)
    search, best = planned(limits, sizes=(8,))
    assert {price.limit for price in shadow_prices(search, best, limits)} == {"devices"}


def test_what_each_limit_costs():
    limits = Limits(devices=24, time_per_output_token=0.2, node_devices=3)
    search, best = planned(
        limits, sizes=(4, 8, 12, 16, 24), kv_tokens=5e4, target=find_target("fastafd")
    )
    prices = {price.limit: price for price in shadow_prices(search, best, limits)}
    assert prices.keys() == {
        "time per output token", "KV memory", "overflow probability", "devices", "whole nodes",
        "legal pairs",
    }  # fmt: skip
    relaxed = {
        "time per output token": ("40 ms more TPOT", {"time_per_output_token": 0.24}),
        "overflow probability": (
            "ten times the overflow probability (0.01)", {"overflow_probability": 1e-2},
        ),
        "devices": (
            "up to 3 more devices (gain per device)", {"devices": 27, "optional_devices": 3},
        ),
        "whole nodes": ("sharing nodes between both sides", {"node_devices": 1}),
    }  # fmt: skip
    for name, (words, changes) in relaxed.items():
        again = search.best(replace(limits, **changes))
        assert prices[name].relaxation == words
        assert prices[name].gain == pytest.approx(again.score / best.score - 1)
        assert prices[name].design == str(again.design)
    more = search.with_memory(1.1).best(limits)
    assert prices["KV memory"].gain == pytest.approx(more.score / best.score - 1)
    gains = [price.gain for price in shadow_prices(search, best, limits)]
    assert gains == sorted(gains, reverse=True)
    assert min(gains) >= -1e-9


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(devices=8, time_per_output_token=0.5), "100 ms more TPOT"),
        (Limits(devices=8, time_per_output_token=0.21), "42 ms more TPOT"),
        (Limits(devices=80), "up to 10 more devices (gain per device)"),
        (Limits(devices=15), "up to 1 more device (gain per device)"),
        (Limits(devices=80, requests_per_second=10.0), "up to 10 more devices"),
        (Limits(devices=99_999), "up to 1 more device (gain per device)"),
    ],
)
def test_by_how_much_limits_are_relaxed(limits, words):
    search, best = planned(limits, max_attention_workers=4)
    assert words in [price.relaxation for price in shadow_prices(search, best, limits)]


@pytest.mark.parametrize(("tpot", "more"), [(5e-3, 5), (0.02, 10), (0.05, 10), (0.06, 12)])
def test_a_short_time_is_relaxed_by_ten_milliseconds_or_its_double(tpot, more):
    limits = Limits(devices=8, time_per_output_token=tpot)
    quick = LatencyModel.linear(attention=(1e-9, 1e-5), ffn=(1e-6, 1e-5), layers=10, time_unit="s")
    search = DesignSearch(LAW, MeasuredSource(quick), SearchSpace(batch_sizes=(8,)), DeviceCost())
    prices = shadow_prices(search, search.best(limits), limits)
    assert f"{more} ms more TPOT" in [price.relaxation for price in prices]


def test_ten_percent_more_of_every_input():
    limits = Limits(devices=24)
    search, best = planned(limits)
    here = best.design.attention_workers
    load = Estimate(value=2000.0, low=1900.0, high=2200.0, confidence=0.95, method="x")
    found = {
        (one.input, round(one.change, 9)): one for one in sensitivities(search, best, limits, load)
    }
    cases = {
        ("mean token load", 0.1): {"tokens": 2200.0},
        ("mean token load", -0.1): {"tokens": 1800.0},
        ("mean token load, low end of its interval", -0.05): {"tokens": 1900.0},
        ("mean token load, high end of its interval", 0.1): {"tokens": 2200.0},
    } | {
        (name.replace("_", " "), 0.1): {"times": {name: 1.1 * value}}
        for name, value in TIMES.items()
    }
    assert found.keys() == cases.keys()
    able = np.arange(1, 23)
    near = able[(able >= here // 2) & (able <= 2 * here)]
    for key, changes in cases.items():
        one, now = found[key], step(here, **changes)
        assert one.throughput_change == pytest.approx(step(here) / now - 1), key
        assert one.time_per_output_token == pytest.approx(now / 1.5)
        assert one.meets_limit
        scores = {a: score(a, 24, **changes) for a in near.tolist()}
        assert one.regret == pytest.approx(1 - scores[here] / max(scores.values()), abs=1e-12)
        assert scores[one.best_attention_workers] == pytest.approx(max(scores.values()))
    exact = sensitivities(search, best, limits, Estimate.exact(2000.0))
    assert len(exact) == len(TIMES) + 2


def test_inputs_that_break_the_time_worst_first():
    search, best = planned(Limits(devices=24))
    here = best.design.attention_workers
    limits = Limits(devices=24, time_per_output_token=1.005 * step(here) / 1.5)
    broken = broken_inputs(search, best, limits, None)
    times = {name: step(here, times={name: 1.1 * value}) for name, value in TIMES.items()}
    times = {name.replace("_", " "): t for name, t in times.items()}
    times["mean token load"] = step(here, tokens=2200.0)
    late = {name: t / 1.5 for name, t in times.items() if t / 1.5 > limits.time_per_output_token}
    assert 2 <= len(late) < len(times)
    assert {one.input for one in broken} == late.keys()
    told = [one.time_per_output_token for one in broken]
    assert told == sorted(told, reverse=True)
    for one in broken:
        assert one.time_per_output_token == pytest.approx(late[one.input])
    assert broken_inputs(search, best, Limits(devices=24), None) == ()
    told = {
        one.input: one.meets_limit
        for one in sensitivities(search, best, limits, None)
        if one.change > 0
    }
    assert {name for name, meets in told.items() if not meets} == late.keys()


@pytest.mark.parametrize("devices", [24, 60])
def test_neighbours_of_a_plan_and_what_they_lose(devices):
    limits = Limits(devices=devices)
    search, best = planned(limits, sizes=(4, 8, 12), microbatches=(1, 2), ffn_workers=None)
    found = {one.change: one for one in alternatives(search, best, limits)}
    a, f = best.design.attention_workers, best.design.ffn_workers
    size, m = best.design.batch_size, best.design.microbatches
    free = search.space
    for change, other in (("1 fewer attention worker", a - 1), ("1 more attention worker", a + 1)):
        if not 1 <= other <= devices - 2 * f:
            assert change not in found
            continue
        one = found[change]
        assert one.kind == "attention_workers"
        assert one.plan.design.attention_workers == other
        assert one.plan.design.bundles == devices // (other + 2 * f)
        assert one.breaks == ""
    spaces = {
        f"batch size {b}": replace(free, batch_sizes=(b,))
        for b in (size - 4, size + 4)
        if b in (4, 8, 12)
    }
    for n in (f - 1, f + 1):
        if n > 0:
            words = f"{n} FFN worker{'s' if n > 1 else ''} per bundle"
            spaces[words] = replace(free, ffn_workers=(n,))
    for n in (m - 1, m + 1):
        if n in (1, 2, 3, 4):
            words = f"{n} microbatch{'es' if n > 1 else ''}"
            spaces[words] = replace(free, microbatches=(n,))
    for change, space in spaces.items():
        plan = search.best(limits, space)
        assert found[change].plan.design == plan.design, change
        assert found[change].regret == pytest.approx(1 - plan.score / best.score)
    assert spaces.keys() <= found.keys()
    assert all(
        one.regret == pytest.approx(1 - one.plan.score / best.score) for one in found.values()
    )


def test_the_front_holds_the_best_of_every_time():
    limits = Limits(devices=24)
    search, best = planned(limits, sizes=(1, 2, 4, 8, 12, 24))
    best = search.best(replace(limits, time_per_output_token=0.15))
    fastest = fastest_design(search, limits)
    front = pareto_front(search, best, fastest, limits)
    times = [plan.time_per_output_token for plan in front]
    scores = [plan.score for plan in front]
    assert times == sorted(times)
    assert scores == sorted(scores)
    assert times[0] == pytest.approx(fastest.time_per_output_token, rel=1e-5)
    assert times[-1] <= 2 * best.time_per_output_token * (1 + 1e-9)
    ends = fastest.time_per_output_token * (1 + 1e-6), 2 * best.time_per_output_token
    for time in np.geomspace(*ends, 6):
        at_most = search.best(replace(limits, time_per_output_token=float(time)))
        reached = [plan.score for plan in front if plan.time_per_output_token <= time * (1 + 1e-9)]
        assert max(reached) == pytest.approx(at_most.score)
    assert str(best.design) in [str(plan.design) for plan in front]


@pytest.mark.parametrize(("statistic", "column"), [("mean", None), ("p50", 0), ("p99", 0)])
def test_an_overhead_lengthens_every_percentile_of_a_step(statistic, column):
    """Of requests of one length every percentile is the mean: 10 ms more are 10 ms more of each."""
    limits = Limits(devices=8, time_per_output_token=9.0, statistic=statistic)
    search, best = planned(limits)
    slower = LATENCY.with_coefficients({"step_overhead": 0.02})
    workers = np.array([1, 3])
    times = _step_times(search, best.design, slower, 1.0, limits, workers)
    wanted = [step(a, times={"step_overhead": 0.02}) for a in workers.tolist()]
    assert times.mean == pytest.approx(wanted)
    assert times.quantiles.shape == (2, 0 if column is None else 1)
    if column is not None:
        assert times.quantiles[:, column] == pytest.approx(wanted)
