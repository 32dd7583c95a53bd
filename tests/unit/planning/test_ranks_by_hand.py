"""Ranks without a split by hand: requests are fixed, so that steps are sums."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.planning.colocated import best_colocated
from afdplan.planning.colocated_search import ColocatedSearch, _Sizes
from afdplan.planning.limits import TIE, Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.search import DesignSearch
from afdplan.planning.source import MeasuredSource
from afdplan.planning.space import SearchSpace
from afdplan.planning.step_models import SLACK

LAW = IndependentLengths(prompt="fixed:2000", decode="fixed:1")
LATENCY = LatencyModel.linear(
    attention=(1e-6, 1e-3), ffn=(1e-5, 2e-3), transfer=(2e-6, 5e-4), layers=10, time_unit="s",
    step_overhead=0.01, tokens_per_step=1.5,
)  # fmt: skip
SIZES = (4, 8, 16)


def search(kv_tokens=None, latency=LATENCY, **space):
    """Ranks of two devices; an FFN worker takes the devices of two ranks."""
    space = SearchSpace(**{"batch_sizes": SIZES} | space)
    source = MeasuredSource(latency, attention_devices=2, ffn_devices=4, kv_tokens=kv_tokens)
    return ColocatedSearch(DesignSearch(LAW, source, space, DeviceCost(attention=2.0, ffn=5.0)))


def step(b, m, combine=5e-4):
    a, f, out = 1e-3 + 2e-3 * b, 2e-3 + 2e-5 * b, 5e-4 + 2e-6 * b
    back = combine + 2e-6 * b
    c = max(out, back)
    if m == 1:
        return 0.01 + 10 * (a + f + out + back)
    return 0.01 + 10 * (f + max(f, c) + max(2 * a, a + c))


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("replicas", [None, 3])
def test_what_ranks_give_by_sums(m, replicas):
    """Two groups of four ranks on 17 devices: 16 of them, at 2 each, and one that is idle."""
    limits = Limits(devices=17, margin=0.2)
    found = search(kv_tokens=2000.0 * 8 * m * 1.125)._evaluate(2, 4, 8, m, limits, replicas)
    groups = replicas or 2
    tokens = groups * 4 * 8 * m * 1.5 / step(8, m)
    assert found.step_time.mean == pytest.approx(step(8, m))
    assert (found.replicas, found.devices, found.slots) == (groups, 8 * groups, groups * 32 * m)
    assert found.tokens_per_second == found.requests_per_second == pytest.approx(tokens)
    assert found.cost == 16.0 * groups
    idle = max(17 - 8 * groups, 0)
    assert found.score == pytest.approx(tokens / (16.0 * groups + 2.0 * idle))
    assert found.tokens_per_second_per_device == pytest.approx(tokens / (8 * groups))
    assert found.time_per_output_token == pytest.approx(step(8, m) / 1.5)
    # The room is an eighth larger than what the requests take, a tenth smaller with the margin.
    assert (found.memory_overflow_probability, found.held_overflow_probability) == (0.0, 1.0)
    full = search(kv_tokens=2000.0 * 8 * m - 1)._evaluate(2, 4, 8, m, limits, replicas)
    assert full.memory_overflow_probability == 1.0
    free = search()._evaluate(2, 4, 8, m, limits, replicas)
    assert free.memory_overflow_probability == free.held_overflow_probability == 0.0


def test_no_group_fits_few_devices_and_whole_nodes_take_more():
    assert search()._evaluate(2, 4, 8, 1, Limits(devices=7)).replicas == 0
    assert search()._evaluate(2, 4, 8, 1, Limits(devices=7)).score == 0
    assert search()._evaluate(2, 4, 8, 1, Limits(devices=7, optional_devices=7)).score == 0
    assert search()._evaluate(2, 4, 8, 1, Limits(devices=8, most_cost=1.0)).score == 0
    assert search()._evaluate(2, 4, 8, 1, Limits(most_cost=33.0)).replicas == 2  # at 16 each
    # Nodes of 16 devices: groups of eight come in twos.
    for devices, groups in ((15, 0), (16, 2), (31, 2), (32, 4)):
        limits = Limits(devices=devices, node_devices=16)
        assert search()._evaluate(2, 4, 8, 1, limits).replicas == groups
    one = search()._evaluate(2, 4, 8, 1, Limits(devices=8)).requests_per_second
    for share, groups in ((0.5, 1), (1.0, 1), (1.01, 2), (2.5, 3)):
        rate = Limits(requests_per_second=share * one)
        assert search()._evaluate(2, 4, 8, 1, rate).replicas == groups
        bounded = replace(rate, devices=16)
        assert search()._evaluate(2, 4, 8, 1, bounded).replicas == (groups if groups < 3 else 0)


def brute(devices, sizes, limits, kv_tokens=math.inf):
    """Try every width, batch size and overlap; widths are doubled from an FFN worker's devices."""
    found = {}
    wanted = limits.wanted_rate
    for ranks in (2, 4, 8, 16, 32):
        for b in sizes:
            for m in (1, 2):
                if 2000.0 * b * m > kv_tokens * (1 - limits.margin) or 2 * ranks > devices:
                    continue
                if not limits.meets(step(b, m), 1.5):
                    continue
                each = ranks * b * m * 1.5 / step(b, m)
                groups = devices // (2 * ranks)
                if wanted is not None:
                    groups = math.ceil(wanted / each * (1 - TIE))
                    if groups * 2 * ranks > devices:
                        continue
                cost = 4.0 * ranks * groups
                idle = 0 if wanted is not None else 2.0 * (devices - 2 * ranks * groups)
                value = limits.requests_per_second or groups * each
                score = (value / (cost + idle), groups * each, -cost)
                if ranks not in found or score[:2] > found[ranks][0][:2]:
                    found[ranks] = score, (groups, b, m)
    return found


@pytest.mark.parametrize("devices", [8, 13, 30])
@pytest.mark.parametrize(
    ("time", "kv_tokens", "margin"),
    [(None, math.inf, 0.0), (0.2, math.inf, 0.0), (0.2, 33_000.0, 0.0), (0.25, 40_000.0, 0.1)],
)
def test_the_best_of_every_width_is_that_of_brute_force(devices, time, kv_tokens, margin):
    limits = Limits(devices=devices, time_per_output_token=time, margin=margin)
    finite = None if kv_tokens == math.inf else kv_tokens
    listed = search(finite).widths(limits)
    wanted = brute(devices, SIZES, limits, kv_tokens)
    assert [plan.ranks for plan in listed] == sorted(wanted)
    for plan in listed:
        score, design = wanted[plan.ranks]
        assert plan.score == pytest.approx(score[0])
        assert (plan.replicas, plan.batch_size, 1 + plan.two_batch_overlap) == design
    # Sizes between are looked at where they could make the best of all.
    dense = best_colocated(search(finite, fills_gaps=True).widths(limits))
    every = brute(devices, range(4, 17), limits, kv_tokens)
    assert dense.score == pytest.approx(max(score[0] for score, _ in every.values()))


@pytest.mark.parametrize("rate", [20.0, 110.0, 230.0])
@pytest.mark.parametrize("time", [None, 0.2])
def test_with_a_rate_every_width_has_its_cheapest(rate, time):
    limits = Limits(devices=30, requests_per_second=rate, time_per_output_token=time)
    found = search().widths(limits)
    wanted = brute(30, SIZES, limits)
    assert [plan.ranks for plan in found] == sorted(wanted)
    for plan in found:
        score, _ = wanted[plan.ranks]
        assert (plan.score, plan.tokens_per_second) == pytest.approx(score[:2])
    dense = best_colocated(search(fills_gaps=True).widths(limits))
    if dense is not None:
        every = brute(30, range(4, 17), limits)
        most = max(score[:2] for score, _ in every.values())
        assert (dense.score, dense.tokens_per_second) == pytest.approx(most)


def test_of_sizes_that_reach_a_rate_alike_the_one_that_gives_most_is_told():
    """Transfers of 5 ms hide behind the other half: two times four requests are the quicker.

    Alone 10 ms of attention and 5 ms each of experts and of both ways; as halves 5 ms of attention
    each, 10 ms of experts and the rest of a way. Both reach the rate with one group.
    """
    latency = LatencyModel.linear(
        attention=(6.25e-7, 0.0), ffn=(0.0, 5e-3), transfer=(0.0, 5e-3), layers=10, time_unit="s",
        step_overhead=0.01, tokens_per_step=1.5,
    )  # fmt: skip
    one = search(latency=latency, batch_sizes=(4, 8))
    limits = Limits(devices=30, requests_per_second=1.0, time_per_output_token=0.27 / 1.5)
    found = one.widths(limits)
    assert [plan.ranks for plan in found] == [2, 4, 8]
    for plan in found:
        assert (plan.replicas, plan.batch_size, plan.two_batch_overlap) == (1, 4, True)
        assert plan.step_time.mean == pytest.approx(0.01 + 10 * 0.02)
        assert plan.tokens_per_second == pytest.approx(plan.ranks * 8 * 1.5 / 0.21)


@pytest.mark.parametrize("combine", [5e-4, 3e-3, 4e-2])
def test_bounds_of_fixed_requests_are_their_steps(combine):
    latency = LATENCY.with_coefficients({"receive.intercept": combine})
    one, limits = search(latency=latency), Limits(devices=17)
    batch, m = np.array([4, 8, 16, 4, 16]), np.array([1, 1, 1, 2, 2])
    found = one._bounded(2, 4, batch, m, limits)
    steps = np.array([step(b, k, combine) for b, k in zip(batch, m, strict=True)])
    assert found.least == pytest.approx(SLACK * steps, rel=1e-9)
    assert found.most == pytest.approx(2 * 4 * m * batch * 1.5 / found.least / (32.0 + 2.0))
    exact = [
        one._evaluate(2, 4, b, k, limits).step_time.mean for b, k in zip(batch, m, strict=True)
    ]
    assert exact == pytest.approx(steps.tolist())


def test_sizes_between_that_could_beat_the_best():
    """Of 5, 6, 7 and 9 to 15: a step of the listed size below, with the slots of each."""
    one, limits = search(fills_gaps=True), Limits(devices=16)
    bounds = one._bounds(2, 4, limits)
    assert bounds.batch.tolist() == [*SIZES, *SIZES]
    assert bounds.microbatches.tolist() == [1, 1, 1, 2, 2, 2]
    gaps = [5, 6, 7, *range(9, 16)]
    for least in (0.0, 17.0, 18.0, 18.3):
        best = SimpleNamespace(score=least)
        found = one._between(2, 4, bounds, limits, best)
        wanted = [
            (b, m)
            for m in (1, 2)
            for b in gaps
            if 4 * m * b * 1.5 / (SLACK * step(max(s for s in SIZES if s <= b), m)) / 16 > least
        ]
        assert list(zip(found.batch.tolist(), found.microbatches.tolist(), strict=True)) == wanted
    full = search(kv_tokens=2000.0 * 14, fills_gaps=True)
    assert full._bounds(2, 4, limits).batch.tolist() == [4, 8, 4]
    assert full._bounds(2, 4, limits).microbatches.tolist() == [1, 1, 2]
    found = full._between(2, 4, full._bounds(2, 4, limits), limits, SimpleNamespace(score=0.0))
    pairs = list(zip(found.batch.tolist(), found.microbatches.tolist(), strict=True))
    assert pairs == [(b, 1) for b in gaps if b <= 14] + [(b, 2) for b in gaps if b <= 7]
    none = search(kv_tokens=1000.0, fills_gaps=True)
    assert none._between(2, 4, none._bounds(2, 4, limits), limits, best).batch.size == 0
    nothing = one._between(2, 4, bounds, limits, None)
    assert [column.size for column in nothing] == [0, 0, 0, 0]
    assert search()._between(2, 4, bounds, limits, best).batch.size == 0
    # With a rate no group scores more than the least number of them: 9 / 16 here.
    rate = Limits(requests_per_second=9.0, devices=16)
    at = one._between(2, 4, one._bounds(2, 4, rate), rate, SimpleNamespace(score=9 / 16))
    assert at.batch.size == 0
    less = one._between(2, 4, one._bounds(2, 4, rate), rate, SimpleNamespace(score=0.56))
    assert less.batch.size > 0


class Told(ColocatedSearch):
    """Ranks whose scores and steps are said; what is evaluated is written down."""

    def __init__(self, plans):
        self.plans, self.asked = plans, []
        self._search = SimpleNamespace(tokens_per_step=1.0)

    def _evaluate(self, devices, ranks, b, m, limits, replicas=None):
        self.asked.append((b, m))
        score, time = self.plans[b, m]
        return SimpleNamespace(score=score, step_time=SimpleNamespace(statistic=lambda _: time))


def sizes(*rows):
    batch, m, least, most = (np.array(column) for column in zip(*rows, strict=True))
    return _Sizes(batch, m, least, most)


def test_the_best_bound_is_looked_at_first():
    plans = {(4, 1): (1.0, 1.0), (8, 1): (3.0, 2.0), (8, 2): (2.0, 1.0), (16, 2): (4.0, 9.0)}
    rows = [(4, 1, 0.5, 2.0), (8, 1, 1.0, 3.5), (8, 2, 0.5, 3.5), (16, 2, 1.5, 5.0)]
    one, limits = Told(plans), Limits(devices=8, time_per_output_token=2.0)
    assert one._best(1, 2, sizes(*rows), limits, None).score == 3.0
    assert one.asked == [(16, 2), (8, 2), (8, 1)]
    one = Told(plans)
    tight = replace(limits, time_per_output_token=1.0)
    assert one._best(1, 2, sizes(*rows), tight, None).score == 2.0
    assert one.asked == [(8, 2), (8, 1)]  # a bound of 1.5 is too slow as it is
    one = Told(plans)
    one._best(1, 2, sizes(*rows), replace(tight, statistic="p99"), None)
    assert one.asked[0] == (16, 2)  # of a percentile the mean says nothing
    known = SimpleNamespace(score=3.5)
    one = Told(plans)
    assert one._best(1, 2, sizes(*rows[:3]), limits, known) is known
    assert one.asked == []
    one = Told(plans | {(8, 2): (3.0, 1.0)})  # as good as the other: the first is kept
    assert one._best(1, 2, sizes(*rows[1:3]), limits, None).step_time.statistic("mean") == 1.0
    assert one.asked == [(8, 2), (8, 1)]
    one = Told(plans)
    one._best(1, 2, sizes((4, 1, 0.5, 3.0 * (1 + TIE))), limits, SimpleNamespace(score=3.0))
    assert one.asked == []
    assert Told(plans)._best(1, 2, sizes((4, 1, 0.5, 0.0)), limits, None) is None
    assert Told({(4, 1): (0.0, 1.0)})._best(1, 2, sizes(rows[0]), limits, None) is None


@pytest.mark.parametrize("devices", [None, 8, 64])
def test_groups_are_of_all_widths_that_fit(devices):
    limits = Limits(devices=devices, requests_per_second=1.0)
    found = search()._groups(limits)
    assert found == [(2, ranks) for ranks in (2, 4, 8, 16, 32, 64, 128, 256, 512)
                     if 2 * ranks <= (devices or 1024)]  # fmt: skip


def test_memory_is_asked_for_up_to_twice_the_largest_batch():
    one = search(kv_tokens=1e9)
    assert one._most_requests(2, 4, Limits(devices=8)) == 32
    assert search()._most_requests(2, 4, Limits(devices=8)) == math.inf
    tight = search(kv_tokens=20_000.0)
    assert tight._most_requests(2, 4, Limits(devices=8)) == 10
    assert tight._most_requests(2, 4, Limits(devices=8, margin=0.25)) == 7
    assert tight._memory(2, 4) is tight._memory(2, 4)


def test_times_are_those_of_the_size_in_its_block():
    """Blocks of 256 batch sizes; an FFN worker of four devices has the tokens of two ranks."""
    one = search()
    side = one._times.unsplit_side(2, 4)
    batch = np.array([1, 255, 256, 257, 700])
    f, out, back = one._shared_times(side, 2, 4, batch)
    assert f == pytest.approx(2e-3 + 1e-5 * 2 * batch)
    assert out == pytest.approx(5e-4 + 2e-6 * batch)
    assert back == pytest.approx(out)
    assert sorted(block for _, _, block in one._ffn_means) == [0, 1, 2]
    assert {times.size for times in one._ffn_means.values()} == {256}


@pytest.mark.parametrize(("ranks", "workers"), [(1, 1), (2, 1), (4, 2), (16, 8)])
def test_experts_lie_on_as_many_workers_as_ranks_have_devices_for(monkeypatch, ranks, workers):
    """An FFN worker of four devices has those of two ranks."""
    asked = []

    def times(side, loads, number):
        asked.append(number)
        return SimpleNamespace(mean=loads)

    monkeypatch.setattr("afdplan.planning.colocated_search.ffn_times", times)
    one = search()
    one._shared_times(one._times.unsplit_side(2, ranks), 2, ranks, np.array([8]))
    assert asked == [workers]


def test_the_most_that_there_is_may_reach_a_rate():
    """Two halves of 16 requests on seven groups of two ranks."""
    one = search(fills_gaps=True)
    limits = Limits(devices=30, requests_per_second=1.0)
    most = best_colocated(one._widths(Limits(devices=30)))
    design = (most.ranks, most.batch_size, most.two_batch_overlap)
    for rate, replicas in ((0.3, 1), (most.requests_per_second * (1 - 1e-6), most.replicas)):
        found = one._largest(replace(limits, requests_per_second=rate))
        assert (found.ranks, found.batch_size, found.two_batch_overlap) == design
        assert found.replicas == replicas
    too_much = replace(limits, requests_per_second=most.requests_per_second * 1.001)
    assert one._largest(too_much) is None
    assert one._largest(Limits(devices=30)) is None
    assert one._largest(Limits(requests_per_second=1.0)) is None
    assert search()._largest(limits) is None
    asked = []
    one._widths = lambda inside: asked.append(inside) or []
    assert one._largest(replace(limits, optional_devices=5)) is None
    assert asked == [Limits(devices=30)]


@pytest.mark.parametrize(
    ("replicas", "ranks", "devices", "overlaps", "words"),
    [
        (1, 1, 1, False, "1 rank, 8 requests each, one batch at a time"),
        (2, 4, 2, True, "2 x 4 ranks of TP 2, 16 requests each, two-batch overlap"),
    ],
)
def test_ranks_in_words(replicas, ranks, devices, overlaps, words):
    one = search().deployed(
        replicas=replicas, ranks=ranks, devices_per_rank=2, batch_size=8,
        two_batch_overlap=overlaps, limits=Limits(devices=64),
    )  # fmt: skip
    assert str(replace(one, devices_per_rank=devices)) == words


def test_of_ranks_that_score_alike_the_most_tokens_count():
    one = search()._evaluate(2, 4, 8, 1, Limits(devices=64))
    plans = [replace(one, score=s, tokens_per_second=t) for s, t in ((1, 9), (2, 3), (2, 4))]
    assert best_colocated(plans) is plans[2]
    assert best_colocated([]) is None
