"""Verdicts, headlines, prices of keeping and un-split deployments, each worked by hand."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.model.trace import Trace
from afdplan.planning.binding import shadow_prices
from afdplan.planning.colocated_search import ColocatedSearch
from afdplan.planning.design import Design
from afdplan.planning.held import HeldPart, _heavier, circumstances
from afdplan.planning.infeasible import explain_infeasible
from afdplan.planning.limits import Limits
from afdplan.planning.next_batch import next_batch
from afdplan.planning.objective import DeviceCost
from afdplan.planning.plan_grid import _offered
from afdplan.planning.replan import Replan
from afdplan.planning.search import DesignSearch
from afdplan.planning.service_baselines import service_baselines
from afdplan.planning.service_limits import _within_time
from afdplan.planning.source import MeasuredSource
from afdplan.planning.space import SearchSpace
from afdplan.planning.step_line import Line
from afdplan.planning.step_models import SLACK
from afdplan.planning.supply import supply_words
from afdplan.planning.traffic import Traffic
from afdplan.planning.verdict import judge
from afdplan.planning.verdict_error import _split_step, _unsplit_step
from afdplan.planning.waiting import SpareCapacity

LATENCY = LatencyModel.linear(
    attention=(1e-6, 1e-3),
    ffn=(1e-5, 2e-3),
    transfer=(2e-6, 5e-4),
    layers=10,
    time_unit="s",
    step_overhead=0.01,
    tokens_per_step=1.5,
)
LONG = IndependentLengths(prompt="fixed:2000", decode="fixed:1")
SHORT = IndependentLengths(prompt="fixed:1023", decode="fixed:1")


def verdict(split, *widths, law=LONG):
    colocated = tuple(
        SimpleNamespace(
            score=score, tokens_per_second=score, ranks=2, devices_per_rank=1, step_time=None
        )
        for score in widths
    )
    source = MeasuredSource(LATENCY)
    return judge(law, source, SimpleNamespace(score=split), colocated, Limits(devices=8), LATENCY)


EVEN = SimpleNamespace(least_reading=lambda base, sizes: (1.0, None))
"""Reading takes as long at every batch size."""


@pytest.mark.parametrize(
    ("score", "split", "words"),
    [
        (106.0, "yes", "split: 6.0 % more than the best"),
        (104.0, "even", "4.0 % better"),
        (97.0, "even", "3.0 % worse"),
        (94.0, "no", "6.0 % cheaper per token"),
        (99.5, "even", "0.50 % worse"),
    ],
)
def test_a_measured_model_tells_five_percent_apart(score, split, words):
    found = verdict(score, 80.0, 100.0)
    assert found.split == split
    assert words in found.reasons[0]
    assert found.gain == pytest.approx(score / 100 - 1)
    assert found.narrow_gain == pytest.approx(score / 80 - 1)
    assert found.interval is None
    assert "narrow baseline of 2 devices" in found.reasons[1]


def test_what_a_verdict_warns_of():
    assert len(verdict(106.0, 98.0, 100.0).reasons) == 1  # the narrow one is nearly as good
    assert len(verdict(106.0, 80.0).reasons) == 1  # the narrow one is all there is
    assert "short contexts (1,023 tokens" in verdict(106.0, 100.0, law=SHORT).reasons[1]
    # It was "-38 % better" once.
    assert "the split would seem 38 % worse" in verdict(50.0, 80.0, 100.0).reasons[1]
    alone = verdict(106.0)
    assert (alone.split, alone.gain, alone.narrow_gain) == ("yes", None, None)


def part(name, arrive, able):
    return HeldPart(
        part=name,
        mean_token_load=1.0,
        time_per_output_token=1.0,
        meets_limit=True,
        memory_overflow_probability=0.0,
        requests_per_second=able,
        arrival_rate=arrive,
    )


def test_headlines_of_the_supply():
    parts = (part("first", 5.0, 10.0), part("second", 12.0, 10.0), part("third", 30.0, 20.0))

    def words(spare, parts=parts):
        return supply_words(None, None, Limits(devices=8), spare, parts)

    full = SpareCapacity(arrival_rate=11.0, capacity=11.0)
    assert words(full) == ("too small: 11 requests/s arrive, 11 can be finished",)
    some = SpareCapacity(arrival_rate=6.0, capacity=11.0, waiting_p99=1.25)
    assert words(some) == (
        "too small in third: 30 requests/s arrive, 20 can be finished",
        "requests wait up to 1.25 s for a slot (p99)",
    )
    quick = SpareCapacity(arrival_rate=6.0, capacity=11.0, waiting_p99=1.0)
    assert words(quick, (part("all", 10.0, 10.0), part("silent", None, 1.0))) == ()
    assert words(None) == ()


@pytest.mark.parametrize(
    ("best", "gain", "regret"), [(125.0, 0.25, 0.2), (80.0, -0.2, 0.0), (None, 0.0, 0.0)]
)
def test_what_keeping_a_plan_loses(best, gain, regret):
    found = Replan(
        kept=SimpleNamespace(score=100.0),
        best=None if best is None else SimpleNamespace(score=best),
        is_rate_reached=True,
        notes=(),
    )
    assert found.gain == pytest.approx(gain)
    assert found.regret == pytest.approx(regret)


def test_a_line_is_as_long_as_it_may_be_where_it_ends():
    line = Line(batch_size=16, mean=np.array([2.0, 3.0, 9.0]), slope=np.array([0.1, 0.0, 0.5]))
    assert line.at(26) == pytest.approx(SLACK * np.array([3.0, 3.0, 14.0]))
    ends = line.largest(4.0)
    assert ends == pytest.approx([16 + (4 / SLACK - 2) / 0.1, np.inf, 16])
    assert line.at(ends[0])[0] == pytest.approx(4.0)
    assert line.of(np.array([2, 0])).slope.tolist() == [0.5, 0.1]


def unsplit(cost, limits, **options):
    space = SearchSpace(batch_sizes=(8,))
    search = DesignSearch(LONG, MeasuredSource(LATENCY, **options), space, cost)
    return ColocatedSearch.of(search)


@pytest.mark.parametrize("overlap", [False, True])
def test_an_unsplit_deployment_without_scatter_by_hand(overlap):
    """Three groups of two ranks of 8 (two times 8) requests of 2,000 tokens: all times are sums."""
    limits = Limits(devices=8)
    found = unsplit(DeviceCost(attention=2.0, ffn=5.0), limits).deployed(
        replicas=3, ranks=2, devices_per_rank=1, batch_size=8, two_batch_overlap=overlap,
        limits=limits,
    )  # fmt: skip
    a, f, c = 1e-3 + 1e-6 * 8 * 2000, 2e-3 + 1e-5 * 8, 5e-4 + 2e-6 * 8
    step = 0.01 + 10 * (f + max(f, c) + 2 * a if overlap else a + f + 2 * c)
    requests = 16 if overlap else 8
    tokens = 3 * 2 * requests * 1.5 / step
    assert found.step_time.mean == pytest.approx(step)
    assert found.step_time.p99 == pytest.approx(step)
    assert found.time_per_output_token == pytest.approx(step / 1.5)
    assert (found.devices, found.slots, found.requests_per_rank) == (6, 6 * requests, requests)
    assert found.tokens_per_second == pytest.approx(tokens)
    assert found.requests_per_second == pytest.approx(tokens)  # of one token each
    assert found.tokens_per_second_per_device == pytest.approx(tokens / 6)
    assert found.cost == 12.0
    assert found.score == pytest.approx(tokens / (12 + 2 * 2.0))  # two devices are idle
    # All that the budget holds, whatever an FFN device costs.
    again = {one.ranks: one for one in unsplit(DeviceCost(), limits).widths(limits)}
    assert again[2].replicas == 4
    bounds = unsplit(DeviceCost(), limits)._least_step(
        1, 2, np.array([8]), np.array([2 if overlap else 1])
    )
    assert bounds == pytest.approx(SLACK * step)


@pytest.mark.parametrize(("rate", "batch"), [(500.0, 1), (900.0, 128)])
def test_the_time_that_a_rate_takes_however_far_from_the_fastest(rate, batch):
    """A step of 1 ms + 2 B ms: of 128 slots 86 times as long as of one, for 1.5 times as much."""
    latency = LatencyModel.linear(attention=(1e-6, 5e-4), ffn=(1e-9, 1e-6), time_unit="s")
    law = IndependentLengths(prompt="fixed:1000", decode="fixed:1")
    space = SearchSpace(batch_sizes=(1, 128), microbatches=(2,))
    search = DesignSearch(law, MeasuredSource(latency), space, DeviceCost())
    limits = Limits(devices=2, requests_per_second=rate, time_per_output_token=1e-3)
    assert search.best(limits) is None
    found = explain_infeasible(search, limits)
    step = 2 * (5e-4 + 1e-3 * batch)
    nearest = found.nearest
    assert nearest.design.batch_size == batch
    assert nearest.time_per_output_token == pytest.approx(step, rel=1e-2)
    assert f"would have to be {nearest.time_per_output_token * 1e3:.3g}" in str(found)


@pytest.mark.parametrize("intercept", [5.0003e-4, 5.0004e-4, 7.4999e-4])
def test_what_a_refusal_asks_for_is_enough(intercept):
    """Both were rounded to the nearest: "15.08 ms would have to be 15.08 ms"."""
    latency = LatencyModel.linear(
        attention=(1e-6, intercept), ffn=(1e-9, 1e-6), transfer=(0.0, 1e-9), time_unit="s"
    )
    law = IndependentLengths(prompt="geometric:1000", decode="geometric:3")
    space = SearchSpace(batch_sizes=(8, 128), microbatches=(2,))
    search = DesignSearch(law, MeasuredSource(latency, kv_tokens=1e6), space, DeviceCost())
    quick = Limits(devices=2, time_per_output_token=1e-3)
    said = str(explain_infeasible(search, quick))
    needed = float(re.search(r"would have to be ([\d.]+) ms", said)[1]) / 1e3
    assert search.best(Limits(devices=2, time_per_output_token=needed)) is not None
    assert search.best(Limits(devices=2, time_per_output_token=needed * 0.999)) is None
    often = str(explain_infeasible(search, Limits(devices=2, requests_per_second=1e4)))
    rate = float(re.search(r"would have to be ([\d,.]+) at most", often)[1].replace(",", ""))
    assert search.best(Limits(devices=2, requests_per_second=rate)) is not None
    assert search.best(Limits(devices=2, requests_per_second=rate * 1.001)) is None


def test_memory_is_no_reason_where_the_smallest_batch_fits():
    """Batch 128 would reach the rate but not fit: "1 request already fills 0 %", it said."""
    law = IndependentLengths(prompt="geometric:1000", decode="geometric:3")
    space = SearchSpace(batch_sizes=(1, 128), microbatches=(2,))
    latency = LatencyModel.linear(attention=(1e-7, 1e-2), ffn=(1e-9, 1e-6), time_unit="s")
    roomy, tight = (
        DesignSearch(law, MeasuredSource(latency, kv_tokens=tokens), space, DeviceCost())
        for tokens in (1e6, 2e4)
    )
    limits = Limits(devices=2, requests_per_second=500.0)
    assert roomy.best(limits) is not None
    assert tight.best(limits) is None
    assert "KV memory" not in str(explain_infeasible(tight, limits))
    full = DesignSearch(law, MeasuredSource(latency, kv_tokens=50.0), space, DeviceCost())
    assert "overflow with probability" in str(explain_infeasible(full, limits))


@pytest.mark.parametrize(("able", "tries"), [(512, 1), (300, 11), (1, 11), (0, 11)])
def test_the_largest_batch_within_the_time_is_found_by_halves(able, tries):
    """It was sought one by one: a few hundred laws of a step for one line of the answer."""
    asked = []

    def describe(design, limits):
        asked.append(design.batch_size)
        return SimpleNamespace(
            design=design, token_time=lambda statistic: 1.0 if design.batch_size <= able else 3.0
        )

    design = Design(
        bundles=1, attention_workers=2, ffn_workers=1, batch_size=512, microbatches=1,
        attention_devices=1, ffn_devices=1,
    )  # fmt: skip
    limits = Limits(devices=8, time_per_output_token=2.0)
    found = _within_time(SimpleNamespace(describe=describe, models=EVEN), design, limits)
    assert (found.design.batch_size if found else 0) == able
    assert len(asked) <= tries


def test_steps_of_both_sides_of_a_verdict_by_hand():
    """Two microbatches of 8 requests of 2,000 tokens on one device each, 8 for the FFN."""
    a, f, c = 10 * (1e-3 + 1e-6 * 8 * 2000), 10 * (2e-3 + 1e-5 * 8), 10 * (5e-4 + 2e-6 * 8)

    def other(overlap):
        return SimpleNamespace(batch_size=8, two_batch_overlap=overlap)

    assert _unsplit_step(LONG, LATENCY, other(False), 8) == pytest.approx(0.01 + a + f + 2 * c)
    assert _unsplit_step(LONG, LATENCY, other(True), 8) == pytest.approx(0.01 + 2 * f + 2 * a)
    slow = LATENCY.with_coefficients({"transfer.intercept": 0.05})
    c = 10 * (0.05 + 2e-6 * 8)
    assert _unsplit_step(LONG, slow, other(True), 8) == pytest.approx(0.01 + f + c + a + c)
    for m, model, step in ((1, slow, a + f + 2 * c), (2, LATENCY, 2 * a), (3, slow, 3 * c)):
        split = SimpleNamespace(design=SimpleNamespace(microbatches=m, batch_size=8))
        assert _split_step(LONG, model, split, 8) == pytest.approx(0.01 + step)


@pytest.mark.parametrize(
    ("devices", "most", "widths"),
    [((1, 1), 8, (1, 2, 4, 8)), ((1, 1), 7, (1, 2, 4)), ((1, 3), 3, (3,)), ((1, 3), 2, ())],
)
def test_widths_of_measured_ranks(devices, most, widths):
    one, ffn = devices
    source = MeasuredSource(LATENCY, attention_devices=one, ffn_devices=ffn)
    assert source.colocated.widths(one, most) == widths


def test_an_exact_load_has_no_ends_to_be_tried():
    trace = Trace(prompt_tokens=[10, 20, 30], decode_tokens=[2, 2, 2], source="x")
    load = Estimate(value=20.0, low=15.0, high=25.0, confidence=0.95, method="x")
    limits = Limits(devices=8)
    ends = circumstances(trace, load, limits)[1]
    assert [end.name.split()[0] for end in ends] == ["low", "high"]
    assert circumstances(trace, Estimate.exact(20.0), limits)[1] == ()
    assert circumstances(None, load, limits)[1] == ()


@pytest.mark.parametrize(("now", "mean"), [(20.5, 30.75), (20.5, 10.25)])
def test_heavier_requests_have_the_load_that_was_asked(now, mean):
    """Prompts of 20 and outputs of 2 steps: loads 20 and 21."""
    trace = Trace(prompt_tokens=[20] * 50, decode_tokens=[2] * 50, source="x")
    assert EmpiricalLengths(trace).token_load().mean == pytest.approx(now)
    assert _heavier(trace, mean).token_load().mean == pytest.approx(mean, rel=0.03)


def test_a_certain_overflow_has_no_price():
    search = DesignSearch(
        LONG, MeasuredSource(LATENCY, kv_tokens=2e4), SearchSpace(batch_sizes=(2, 4)), DeviceCost()
    )
    for allowed, told in ((0.09, True), (0.1, False)):
        limits = Limits(devices=4, overflow_probability=allowed)
        prices = {price.limit for price in shadow_prices(search, search.best(limits), limits)}
        assert ("overflow probability" in prices) is told


@pytest.mark.parametrize("margin", [0.0, 0.25])
def test_the_memory_that_the_next_batch_needs(margin):
    """Eight slots of 2,000 tokens take 6 % more than 15,094, or than what a margin leaves."""
    room = 15_094 / (1 - margin)
    search = DesignSearch(
        LONG,
        MeasuredSource(LATENCY, kv_tokens=room),
        SearchSpace(batch_sizes=(4, 8), microbatches=(1,)),
        DeviceCost(),
    )
    limits = Limits(devices=2, margin=margin)
    found = next_batch(search, search.best(limits), limits)
    assert found.forbidden_by == ("KV memory",)
    assert f"{16_000 / 15_094 - 1:.2%} more memory".replace("%", " %") in found.reason
    more = search.with_memory(16_000 / 15_094 * (1 + 1e-9))
    assert more.best(limits).design.batch_size == 8


def test_cached_share_of_prompts():
    def traffic(prompts, cached):
        return Traffic(
            arrivals=np.arange(2.0), prompts=np.array(prompts), decodes=np.ones(2, np.int64),
            cached=np.array(cached), rate=1.0, name="x",
        )  # fmt: skip

    assert traffic([60, 40], [30, 0]).cached_fraction == 0.3
    assert traffic([0, 1], [0, 1]).cached_fraction == 1.0
    assert traffic([0, 0], [0, 0]).cached_fraction == 0.0
    assert traffic([60, 40], [30, 0]).at(4.0).tolist() == [0.0, 0.25]


def test_the_grid_offers_what_memory_holds_with_every_number_of_microbatches():
    """Of 4 to 32 requests in two microbatches memory of 40 of them keeps those up to 16."""
    space = SearchSpace(batch_sizes=(4, 8, 16, 32), microbatches=(1, 2))
    plan = SimpleNamespace(
        split=SimpleNamespace(
            design=SimpleNamespace(batch_size=8, requests_per_attention_worker=16)
        ),
        space=space,
        planned_limits=Limits(devices=8),
    )
    for tokens, sizes in ((1e6, [4, 8, 16, 32]), (40 * 2000.0, [4, 8, 16]), (1.0, [4, 8])):
        search = DesignSearch(LONG, MeasuredSource(LATENCY, kv_tokens=tokens), space, DeviceCost())
        assert _offered(plan, search) == (sizes, [1, 2])
    # With one microbatch in the plan, two of its batch size need more than memory of ten holds.
    plan.split.design.requests_per_attention_worker = 8
    few = DesignSearch(LONG, MeasuredSource(LATENCY, kv_tokens=2e4), space, DeviceCost())
    assert _offered(plan, few) == ([4, 8], [1])


def test_baselines_are_compared_at_one_budget_or_one_rate():
    """12 devices that carry 3 requests/s against 2.5 on 10; or 8 in use against 10 for a rate."""

    class Side:
        def __init__(self, devices, rate):
            self.devices, self.rate, self.decode = devices, rate, None

        def __str__(self):
            return "side"

    others = [Side(10, 2.5), Side(12, 3.0)]
    search = SimpleNamespace(source=None)
    budget = SimpleNamespace(
        devices=12, used_devices=8, rate=3.0, limits=SimpleNamespace(requests_per_second=None)
    )
    found = service_baselines(budget, others, search)
    assert [one.gain for one in found] == pytest.approx([0.2, 0.0])
    assert [(one.kind, one.devices, one.rate) for one in found] == [
        ("prefill, decode", 10, 2.5),
        ("prefill, decode", 12, 3.0),
    ]
    wanted = SimpleNamespace(
        devices=None, used_devices=8, rate=9.0, limits=SimpleNamespace(requests_per_second=3.0)
    )
    found = service_baselines(wanted, others, search)
    assert [one.gain for one in found] == pytest.approx([0.25, 0.5])
