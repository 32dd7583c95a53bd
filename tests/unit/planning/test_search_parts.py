"""Parts of the search of designs by hand: what is described, paid, bounded and looked at."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.planning.batch_search import BatchSearch, _Range, least_score
from afdplan.planning.design import Candidate, Design
from afdplan.planning.limits import TIE, Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.search import DesignSearch
from afdplan.planning.source import MeasuredSource
from afdplan.planning.space import SearchSpace
from afdplan.planning.step_line import Line
from afdplan.planning.step_models import SLACK

LAW = IndependentLengths(prompt="fixed:2000", decode="fixed:1")
LATENCY = LatencyModel.linear(
    attention=(1e-6, 1e-3), ffn=(1e-5, 2e-3), transfer=(2e-6, 5e-4), layers=10, time_unit="s",
    step_overhead=0.01, tokens_per_step=1.5,
)  # fmt: skip
DESIGN = Design(
    bundles=2, attention_workers=3, ffn_workers=1, batch_size=8, microbatches=1, ffn_devices=2
)
COST = DeviceCost(attention=2.0, ffn=5.0)


def search(kv_tokens=None, **space):
    space = SearchSpace(**{"batch_sizes": (4, 8, 16), "microbatches": (1, 2)} | space)
    source = MeasuredSource(LATENCY, ffn_devices=2, kv_tokens=kv_tokens)
    return DesignSearch(LAW, source, space, COST)


def test_a_design_is_described_by_sums():
    """Two bundles of three workers of 8 requests of 2,000 tokens, in turn with an FFN worker."""
    limits = Limits(devices=12)
    found = search(kv_tokens=20_000.0).describe(DESIGN, limits)
    a, f, c = 1e-3 + 1e-6 * 16_000, 2e-3 + 1e-5 * 24, 5e-4 + 2e-6 * 8
    step = 0.01 + 10 * (a + f + 2 * c)
    tokens = 2 * 3 * 8 * 1.5 / step
    assert found.step_time.mean == pytest.approx(step)
    assert (found.step_time.p50, found.step_time.p99) == pytest.approx((step, step))
    assert found.time_per_output_token == pytest.approx(step / 1.5)
    assert found.tokens_per_second == found.requests_per_second == pytest.approx(tokens)
    assert found.cost == 6 * 2.0 + 4 * 5.0
    assert found.score == pytest.approx(tokens / (32 + 2 * 2.0))
    assert found.memory_mean_fraction == pytest.approx(0.8)
    assert found.memory_overflow_probability == found.held_overflow_probability == 0.0
    tight = search(kv_tokens=16_500.0).describe(DESIGN, replace(limits, margin=0.05))
    assert (tight.memory_overflow_probability, tight.held_overflow_probability) == (0.0, 1.0)
    unknown = search().describe(DESIGN, limits)
    assert unknown.memory_mean_fraction == unknown.held_overflow_probability == 0.0


def test_bundles_that_a_rate_takes():
    one = search().describe(replace(DESIGN, bundles=1), Limits(devices=99)).requests_per_second
    for share, bundles in ((0.5, 1), (1.0, 1), (1.01, 2), (2.9, 3)):
        limits = Limits(requests_per_second=share * one)
        assert search().refilled(DESIGN, limits).design.bundles == bundles
    few = Limits(requests_per_second=2.5 * one, devices=15)
    assert search().refilled(DESIGN, few).design.bundles == 3
    assert search().refilled(DESIGN, replace(few, devices=14)) is None
    assert search().refilled(DESIGN, Limits(devices=5)).design == DESIGN


def test_what_a_design_costs_and_how_many_devices_that_pays():
    """32 for two bundles; idle devices cost 2 each."""
    limits = Limits(requests_per_second=1.0)
    assert search()._paid(DESIGN, limits) == (32.0, 16)
    assert search()._paid(DESIGN, replace(limits, devices=15)) == (32.0, 15)
    assert search()._paid(replace(DESIGN, bundles=900), limits)[1] == 2048


@pytest.mark.parametrize(
    ("tokens", "one", "two", "gaps"),
    [(None, [4, 8, 16], [4, 8, 16], False), (40_100.0, [4, 8, 16], [4, 8], False),
     (24_100.0, [4, 8], [4], False), (12_100.0, [4, 5, 6], [], True),
     (None, list(range(4, 17)), list(range(4, 17)), True)],
)  # fmt: skip
def test_batch_sizes_that_memory_holds(tokens, one, two, gaps):
    limits = Limits(devices=12)
    found = search(tokens, fills_gaps=gaps)
    assert found._sizes(1, 1, limits, found.space).tolist() == one
    assert found._sizes(1, 2, limits, found.space).tolist() == two
    listed = [c.batch_size for c in found.combinations(limits) if c.microbatches == 2]
    assert listed == [size for size in two if size in (4, 8, 16)]


class Asked(DesignSearch):
    """A search whose answers are written down: the first that has as many devices as it takes."""

    def __init__(self, takes, cost=32.0, paid=16, gaps=False, slow=0.0):
        self.takes, self.asked, self.paid, self.price, self.slow = takes, [], paid, cost, slow
        self.space = SearchSpace(batch_sizes=(4, 8), fills_gaps=gaps)

    def _best(self, limits, space, most_devices, incumbent=None):
        rate, start = limits.requests_per_second, incumbent and incumbent.name
        self.asked.append((rate, limits.most_cost, most_devices, start))
        able = self.takes if rate is not None or not self.slow else 0
        name = f"of {most_devices}"
        return SimpleNamespace(design=DESIGN, name=name) if most_devices >= able else None

    def _paid(self, design, limits):
        return self.price, self.paid

    def refilled(self, design, limits):
        return SimpleNamespace(design=design, name="known")

    def describe(self, design, limits):
        rate = limits.requests_per_second
        return SimpleNamespace(design=design, name=f"told at {rate}", requests_per_second=self.slow)


def test_a_budget_is_searched_once_and_filled_where_a_rate_is_reached():
    one = Asked(1)
    assert one.best(Limits(devices=12)).name == "told at None"
    assert one.asked == [(None, None, 12, None)]
    one = Asked(1)
    assert one.best(Limits(devices=12, requests_per_second=3.0)).name == "told at 3.0"
    assert one.asked == [(3.0, None, 12, None), (None, 32.0, 16, "told at None")]
    one, known = Asked(99), SimpleNamespace(design=DESIGN)
    assert one.best(Limits(devices=12), known=known) is None
    assert one.asked == [(None, None, 12, "known")]


@pytest.mark.parametrize(
    ("takes", "paid", "sizes"),
    [
        (1, 63, [64]), (1, 64, [64]), (1, 65, [64, 65]), (65, 200, [64, 256]),
        (65, 300, [64, 256, 300]), (1025, 1500, [64, 256, 1024]), (9999, 9, [64, 256, 1024]),
    ],
)  # fmt: skip
def test_without_a_budget_four_times_as_many_devices_until_one_is_found(takes, paid, sizes):
    one = Asked(takes, paid=paid)
    limits = Limits(requests_per_second=3.0)
    assert (one.best(limits) is None) is (takes > 1024)
    looked = [most for rate, _, most, _ in one.asked if rate is not None]
    assert looked == sizes
    assert len(one.asked) - len(looked) == (takes <= 1024)
    if paid == 65:
        assert one.asked[1][3] == "of 64"


@pytest.mark.parametrize(("workers", "most"), [(2046, 16), (2047, 64)])
def test_a_known_design_spares_the_doubling_unless_its_bundle_is_too_large(workers, most):
    one = Asked(1)
    known = SimpleNamespace(design=replace(DESIGN, attention_workers=workers))
    one.best(Limits(requests_per_second=3.0), known=known)
    assert one.asked[0][2] == most
    assert one.asked[0][3] == ("known" if most == 16 else None)


@pytest.mark.parametrize(
    ("gaps", "slow", "tries"), [(False, 3.0, 1), (True, 2.9, 2), (True, 3.0, 3)]
)
def test_between_listed_sizes_a_rate_is_looked_for_from_the_most_that_there_is(gaps, slow, tries):
    """No listed size carries 3 requests/s; the best of all sizes carries so many."""
    one = Asked(99, gaps=gaps, slow=slow)
    assert one.best(Limits(devices=12, requests_per_second=3.0)) is None
    asked = [(3.0, None, 12, None), (None, None, 12, None), (3.0, None, 12, "told at 3.0")]
    assert one.asked == asked[:tries]


def test_a_lattice_is_built_once_for_each_question():
    one, limits = search(), Limits(devices=12)
    first = one.lattice(limits, one.space, 1, 12)
    assert one.lattice(replace(limits, overflow_probability=0.5), one.space, 1, 12) is first
    assert one.lattice(limits, one.space, 1, 9) is not first
    assert one.lattice(limits, replace(one.space, ffn_workers=(1,)), 1, 12) is not first
    assert one.lattice(replace(limits, devices=None, most_cost=9.0), one.space, 1, 9999) is (
        one.lattice(replace(limits, devices=None, most_cost=9.0), one.space, 1, 2048)
    )


def test_ties_are_looked_at_only_without_a_rate():
    best = Candidate(score=2.0, design=DESIGN)
    assert least_score(None, Limits(devices=8)) == 0.0
    assert least_score(best, Limits(devices=8)) == 2.0 * (1 - TIE) < 2.0
    assert least_score(best, Limits(requests_per_second=1.0)) == 2.0 * (1 + TIE) > 2.0


@pytest.mark.parametrize("score", [1e-6, 1.0, 1e6, -3.0])
def test_candidates_tie_within_a_share_of_their_score(score):
    """Of candidates that tie the one of fewer devices is preferred; else the better score."""
    small = Candidate(score=score, design=DESIGN)
    large = replace(DESIGN, bundles=DESIGN.bundles + 1)
    tied = Candidate(score=score + abs(score) * 0.5 * TIE, design=large)
    better = Candidate(score=score + abs(score) * 4 * TIE, design=large)
    assert small.beats(None)
    assert small.beats(tied)
    assert not tied.beats(small)
    assert better.beats(small)
    assert not small.beats(better)
    assert not small.beats(small)


def ranges(longest, probabilities=()):
    """A batch search whose pairs score their batch size over their step."""
    pairs = SimpleNamespace(
        models=SimpleNamespace(tokens_per_step=1.0),
        scores_of=lambda requests, lattice, pairs, step, limits: (requests / step, None),
    )
    limits = SimpleNamespace(
        longest_step=lambda _: longest, probabilities=probabilities, requests_per_second=None
    )
    sizes = {(1, 2): np.array([8, 10, 12, 14, 16, 20])}
    return BatchSearch(pairs, None, None, {1: None}, limits, sizes)


def a_range(slope, bound=99.0, **changes):
    slope = np.array(slope)
    line = Line(batch_size=6, mean=np.ones(slope.size), slope=slope)
    asked = {
        "group": (1, 2), "first": 1, "last": 5, "pairs": np.arange(slope.size),
        "bound": np.full(slope.size, bound), "line": line,
    }  # fmt: skip
    return _Range(**asked | changes)


def test_the_first_look_is_where_more_is_promised():
    """A step of 1 at 6: with nothing more the last size promises most, with much the first."""
    assert ranges(9.0)._middle(a_range([0.0])) == 4
    assert ranges(9.0)._middle(a_range([3.0])) == 1
    assert ranges(9.0)._middle(a_range([0.0], line=None)) == 1
    assert ranges(9.0)._middle(a_range([3.0, 0.0])) == 4


def test_ranges_end_where_every_pair_is_too_slow():
    """Steps of 1 + 0.1 and 1 + 0.5 (B - 6) within 2.05: up to 16 and up to 8, before the range."""
    longest = 2.05 * SLACK
    found = ranges(longest)._bounded(a_range([0.1, 0.5]))
    assert (found.first, found.last) == (1, 4)
    ends = [2 * size / (SLACK * (1 + 0.1 * (size - 6))) for size in (10, 16)]
    assert found.bound == pytest.approx([max(ends), 0.0])
    low = ranges(longest)._bounded(a_range([0.1, 0.2], bound=3.0))
    assert low.bound.tolist() == [3.0, 3.0]
    steep = ranges(9.0)._bounded(a_range([1.0]))  # the first size promises most, up to 12
    assert (steep.last, steep.bound[0]) == (3, pytest.approx(2 * 10 / (SLACK * 5.0)))
    # Of a percentile the line of the mean says nothing.
    assert ranges(longest, (0.99,))._bounded(a_range([0.1, 0.5])).last == 5
    whole = a_range([0.1], line=None)
    assert ranges(longest)._bounded(whole) is whole
    chosen = a_range([0.1, 0.2, 0.3]).of(np.array([2, 0]))
    assert (chosen.pairs.tolist(), chosen.line.slope.tolist()) == ([2, 0], [0.3, 0.1])


@pytest.mark.parametrize("has_means", [False, True])
def test_a_range_is_bounded_at_each_listed_size_for_those_up_to_the_next(has_means):
    """Listed are 8 and 12 of 8 to 16; a step of 1 at 8 and of 2 at 12, the second pair too slow."""
    asked = []

    def least_times(combination, lattice, pairs, limits, base):
        asked.append((combination.batch_size, base and base.batch_size))
        mean = np.full(pairs.size, 1.0 if combination.batch_size == 8 else 2.0)
        return mean, np.where(pairs == 1, 9.0, mean)

    for least, many in ((1.0, 20), (1.0, 5), (99.0, 20)):
        asked.clear()
        one = ranges(3.0)
        one._lines = object()
        one._pairs.least_times = least_times
        one._best = Candidate(score=least, design=DESIGN)
        bound = np.where(np.arange(many) == 2, 7.0, 99.0)
        found = one._tightened(
            a_range([0.0] * many, first=0, last=4, listed=(0, 2), bound=bound, has_means=has_means)
        )
        assert asked == [(8, 8 if has_means else None), (12, 8 if has_means else None)]
        # Two microbatches of 10 in a step of 1, of 16 in a step of 2.
        assert found.bound[:3].tolist() == [20.0, 0.0, 7.0]
        assert found.has_means
        # A second look takes a law, which pays for many pairs that are left.
        assert found.listed == ((0, 2) if many == 20 and least == 1.0 and not has_means else ())
