"""Pairs of workers by hand: which there are, what they score, and what bounds them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.errors import InvalidInputError
from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.planning import check, plan, replan, sensitivity, simulated_ratio
from afdplan.planning.batch_search import BatchSearch, _Range, _Start
from afdplan.planning.design import Candidate, Combination, Design
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.pair_scores import PairScores
from afdplan.planning.ratio_blocks import RATIO_BLOCKS, RatioBlocks
from afdplan.planning.ratio_bounds import BlockScores, RatioBounds
from afdplan.planning.score import Score
from afdplan.planning.simulated_ratio import PlayedSearch
from afdplan.planning.source import MeasuredSource
from afdplan.planning.source_times import _fewer
from afdplan.planning.space import PairLattice, SearchSpace
from afdplan.planning.step_line import Line
from afdplan.theory.problem import RatioProblem

SCORE = Score(cost=DeviceCost(attention=2.0, ffn=5.0), tokens_per_request=10.0)
LAW = IndependentLengths(prompt="fixed:2000", decode="fixed:1")
LATENCY = LatencyModel.linear(
    attention=(1e-6, 1e-3), ffn=(1e-4, 2e-3), transfer=(2e-6, 5e-4), layers=10, time_unit="s"
)
PROBLEM = RatioProblem(law=LAW, latency=LATENCY, batch_size=8)
DESIGN = Design(
    bundles=2, attention_workers=3, ffn_workers=1, batch_size=8, microbatches=1, ffn_devices=2
)


class Pairs(SimpleNamespace):
    """A lattice that is itself only, as one is."""

    __hash__ = object.__hash__


def lattice(attention, ffn, **changes):
    """Pairs of attention workers of two devices and FFN workers of three."""
    attention, ffn = np.array(attention), np.array(ffn)
    ratios = attention / np.maximum(ffn, 1)
    asked = {
        "attention": attention, "ffn": ffn, "attention_devices": 2, "ffn_devices": 3,
        "unit": np.ones_like(attention), "most_bundles": np.full(attention.size, 4),
        "ffn_numbers": np.unique(ffn),
        "ratios": (ratios.min(), ratios.max()) if ratios.size else (0.25, 4.0),
    }  # fmt: skip
    return Pairs(**asked | changes)


def test_pairs_that_a_source_a_target_and_devices_allow():
    """At least as many attention devices (three a worker) as FFN devices (two a worker)."""
    source = SimpleNamespace(
        ffn_devices=2, ffn_workers=lambda most: tuple(range(1, most + 1))[:2],
        shares_ffn_latency=False, least_device_ratio=1.0,
    )  # fmt: skip
    limits = Limits(devices=16)
    found = PairLattice.build(source, SearchSpace(), limits, 3, 16)
    pairs = list(zip(found.attention.tolist(), found.ffn.tolist(), strict=True))
    assert pairs == [(1, 1), (2, 1), (3, 1), (4, 1), (2, 2), (3, 2), (4, 2)]
    assert found.bundle_devices.tolist() == [5, 8, 11, 14, 10, 13, 16]
    assert (found.ratios, found.ffn_numbers.tolist()) == ((1.0, 4.0), [1, 2])
    bundles = [16 // size // unit * unit for size, unit in zip(
        found.bundle_devices.tolist(), found.unit.tolist(), strict=True)]  # fmt: skip
    assert found.most_bundles.tolist() == bundles
    most = PairLattice.build(source, SearchSpace(max_attention_workers=2), limits, 3, 16)
    assert most.attention.tolist() == [1, 2, 2]
    small = PairLattice.build(source, SearchSpace(max_bundle_devices=8), limits, 3, 16)
    assert small.bundle_devices.tolist() == [5, 8]
    none = PairLattice.build(source, SearchSpace(), limits, 3, 4)
    assert (none.attention.size, none.ratios) == (0, (1.0, 1.0))
    as_many = PairLattice.build(source, SearchSpace(), Limits(devices=8), 2, 8)
    assert (2, 2) in set(zip(as_many.attention.tolist(), as_many.ffn.tolist(), strict=True))
    shares = replace_source(source, shares_ffn_latency=True)
    prime = PairLattice.build(shares, SearchSpace(), limits, 3, 16)
    assert (2, 2) not in set(zip(prime.attention.tolist(), prime.ffn.tolist(), strict=True))


def replace_source(source, **changes):
    return SimpleNamespace(**vars(source) | changes)


def test_pairs_score_by_all_of_their_bundles():
    """Four bundles of two and one: 28 devices cost 92, two idle ones 4."""
    pairs = PairScores(SimpleNamespace(tokens_per_step=1.5), SCORE)
    two = lattice([9, 2], [9, 1])
    score, bundles = pairs.scores_of(8, two, np.array([1]), np.array([0.5]), Limits(devices=30))
    assert (bundles.tolist(), score.tolist()) == ([4], [4 * 8 * 2 * 1.5 / 0.5 / 96])
    combination = Combination(2, 2, 8)
    score, _ = pairs.scores(combination, two, np.array([1]), np.array([0.5]), Limits(devices=30))
    assert score.tolist() == [4 * 16 * 2 * 1.5 / 0.5 / 96]
    # 48 tokens/s of a bundle; a rate of 15 requests of ten tokens takes four, of 20 five.
    # With a rate, idle devices are not paid for.
    for rate, value in ((15.0, 150 / 92), (20.0, 0.0)):
        limits = Limits(devices=30, requests_per_second=rate)
        found, _ = pairs.scores_of(8, two, np.array([1]), np.array([0.5]), limits)
        assert found == pytest.approx([value])
    limits = Limits(requests_per_second=3.0)  # of a bundle that costs 23
    assert pairs.able(lattice([2], [1]), 1.3, limits).tolist() == [0]
    assert pairs.able(lattice([2], [1]), 1.31, limits).tolist() == []
    assert pairs.able(lattice([2, 2], [1, 1]), 1e9, Limits(devices=9)).tolist() == [0, 1]


@pytest.mark.parametrize("base", [None, Combination(2, 2, 4)])
def test_bounds_of_pairs_are_of_what_their_stages_take_at_least(base):
    asked = []

    def stages(attention, ffn, batch_size, *, at_least):
        asked.append((attention.tolist(), ffn.tolist(), batch_size, at_least))
        return "stages"

    one = Combination(2, 2, 8)
    models = SimpleNamespace(
        times=SimpleNamespace(stages=stages),
        rough_bounds=lambda ones, stages, limits: ((ones, "x"), (stages, "y")),
        tight_bounds=lambda *given: given,
    )  # fmt: skip
    found = PairScores(models, SCORE).least_times(one, lattice([3, 4], [1, 2]), [1], "l", base)
    assert found == (([one], "stages") if base is None else (one, "stages", "l", base))
    assert asked == [([4], [2], 8, True)]


@pytest.mark.parametrize(
    ("shared", "same", "numbers"), [(False, False, (1, 3, 5)), (True, False, (1, 2, 4)),
                                    (True, True, (1,))],
)  # fmt: skip
def test_blocks_of_ratios_between_powers_of_two(shared, same, numbers):
    pairs = lattice([3, 9, 25], [1, 3, 5])
    source = SimpleNamespace(shares_ffn_latency=shared, shares_ffn_times=same)
    blocks = RatioBlocks.over([lattice([], []), pairs], source)
    assert (blocks.low, blocks.high, blocks.ffn_numbers) == (2.0, 8.0, numbers)
    edges = blocks.edges
    assert (edges.size, edges[0], edges[-1]) == (193, 2.0, pytest.approx(8.0))
    assert edges[-1] > 8.0
    assert edges[1:] / edges[:-1] == pytest.approx(np.full(192, 4 ** (1 / 192)))
    at = blocks.of(pairs)
    groups = np.searchsorted(numbers, [1, 3, 5], side="right") - 1
    assert (at // RATIO_BLOCKS).tolist() == groups.tolist()
    within = at % RATIO_BLOCKS
    assert (edges[within] <= [3, 3, 5]).all()
    assert (edges[within + 1] > [3, 3, 5]).all()
    ends = blocks.of(lattice([2, 8], [1, 1])) % RATIO_BLOCKS
    assert ends.tolist() == [0, 191]


def test_the_bound_of_a_block_is_at_its_ends():
    """Step at the lower end of a block, cost at the upper: 2 devices and 3 / r."""
    blocks = RatioBlocks(2.0, 8.0, (1,))
    mean = np.linspace(0.5, 1.0, RATIO_BLOCKS)
    statistic = np.where(np.arange(RATIO_BLOCKS) == 7, 9.0, 1.5)
    models = SimpleNamespace(
        tokens_per_step=1.5, times=SimpleNamespace(envelope=lambda blocks, size: size),
        rough_bounds=lambda ones, stages, limits: (
            np.stack([mean * stages] * len(ones)), np.stack([statistic] * len(ones))
        ),
    )  # fmt: skip
    ones = [Combination(2, 2, 8), Combination(2, 1, 4)]
    two = {2: lattice([3, 9], [1, 3]), 1: lattice([], [])}
    found = RatioBounds(models, SCORE, 3).scores(ones, blocks, two, Limits(devices=9))
    cost = 2 * 2.0 + 5.0 * 3 / blocks.edges[1:]
    assert found.rows[0] == pytest.approx(2 * 8 * 1.5 / (8 * mean) / cost)
    assert found.rows[1] == pytest.approx(4 * 1.5 / (4 * mean) / cost)
    at = blocks.of(two[2])[0]
    assert found.most().tolist() == [found.rows[0, at], found.rows[1, at]]
    empty = BlockScores(
        combinations=ones, rows=found.rows, columns={2: np.empty(0, int), 3: np.array([4])}
    )
    assert empty.most().tolist() == [0.0, 0.0]
    slow = Limits(devices=9, time_per_output_token=1.5)  # a step of 9 brings a token and a half
    late = RatioBounds(models, SCORE, 3).scores(ones, blocks, two, slow).rows[0]
    assert np.flatnonzero(late == 0).tolist() == [7]


def test_fewer_numbers_of_ffn_workers_are_eight_to_a_doubling():
    assert _fewer(np.array([1, 16, 18, 19, 21, 23, 25, 28, 31, 32])).tolist() == [
        1, 16, 17, 19, 20, 22, 24, 26, 29, 32
    ]  # fmt: skip


def batch_search(**parts):
    limits = SimpleNamespace(longest_step=lambda _: 3.0, probabilities=(), requests_per_second=None)
    pairs = SimpleNamespace(
        models=SimpleNamespace(tokens_per_step=1.0), able=lambda *_: np.arange(3),
        scores_of=lambda requests, lattice, pairs, step, limits: (requests / step, None),
        least_times=lambda combination, lattice, pairs, limits, base: (
            np.array([1.0, 2.0, 1.0]), np.array([1.0, 3.0, 3.1])
        ),
    )  # fmt: skip
    sizes = {(1, 2): np.array([8, 10, 12, 14, 16, 20])}
    bounds = SimpleNamespace(
        rows=np.array([[0.1, 0.5, 0.0], [0.4, 0.2, 0.0]]), columns={1: np.array([2, 0, 1])}
    )
    return BatchSearch(pairs, None, bounds, {1: None}, limits, sizes)


@pytest.mark.parametrize(("beaten", "pairs"), [(None, [1, 2]), (0.6, [1]), (0.9, [])])
def test_a_start_opens_the_pairs_whose_block_promises_enough(beaten, pairs):
    """Of the first size a block promises 0.1 or 0.5, of the second twice 0.4 or 0.2."""
    one = batch_search()
    one._best = None if beaten is None else Candidate(score=beaten, design=DESIGN)
    start = _Start(group=(1, 2), first=0, last=3, listed=(0, 2), bounds=((0, 1.0), (1, 2.0)))
    found = one._opened(start)
    assert found.pairs.tolist() == pairs
    assert found.bound.tolist() == [{1: 0.8, 2: 0.5}[pair] for pair in pairs]


def test_ranges_without_lines_have_the_bound_of_their_first_step_and_last_size():
    """Two microbatches of 20 in a step of 1 or of 2; the third pair is too slow."""
    found = _Range(group=(1, 2), first=1, last=5, pairs=np.arange(3), bound=np.full(3, 30.0))
    assert batch_search()._means(found).bound.tolist() == [30.0, 20.0, 0.0]
    line = Line(batch_size=6, mean=np.ones(2), slope=np.array([1.0, 0.4]))
    both = replace(found, pairs=np.arange(2), bound=np.full(2, 99.0), line=line)
    assert batch_search()._middle(both) == 1  # the best of the pairs decides, not the worst


@pytest.mark.parametrize(
    ("score", "best", "regret"),
    [
        ([0.0, 2.0, 4.0], 5, 0.5),
        ([3.0, 3.0, 2.0], 3, 0.0),
        ([0.0, 0.0, 0.0], 3, 0.0),
        ([0.0, 0.25, 0.5], 5, 0.5),
    ],
)
def test_what_keeping_a_loses_where_others_do_not_reach_the_rate(monkeypatch, score, best, regret):
    pairs = SimpleNamespace(attention=np.array([9, 3, 4, 5]))
    times = SimpleNamespace(mean=np.array([1.0, 2.0, 4.0]), quantiles=np.empty((3, 0)))
    monkeypatch.setattr(sensitivity, "_neighbours", lambda *_: (pairs, np.array([1, 2, 3])))
    monkeypatch.setattr(sensitivity, "_step_times", lambda *_: times)
    monkeypatch.setattr(sensitivity, "limited", lambda times: times.mean + 1)
    search = SimpleNamespace(pairs=SimpleNamespace(scores=lambda *_: (np.array(score), None)))
    ours = SimpleNamespace(
        design=replace(DESIGN, attention_workers=4), tokens_per_step=1.5,
        step_time=SimpleNamespace(mean=1.0),
    )  # fmt: skip
    limits = Limits(devices=9, time_per_output_token=2.0)
    found = sensitivity._sensitivity(search, ours, limits, "x", 0.1, None, 1.0)
    assert (found.best_attention_workers, found.regret) == (best, regret)
    assert (found.throughput_change, found.time_per_output_token) == (-0.5, 2.0)
    assert found.meets_limit


def layered(first, second):
    """Nine layers of one kind and one of another, a load of 16,000 tokens at once."""
    kinds = [
        SimpleNamespace(layers=n, time=lambda load, size, t=t: t * load * size)
        for n, t in ((9, first), (1, second))
    ]
    link = SimpleNamespace(time=lambda size, tokens: size + tokens)
    return SimpleNamespace(
        attention=kinds, send=link, receive=link, ffn=float, step_overhead=1.0, layers=10
    )


def test_stage_times_are_the_same_if_all_layers_together_are():
    stored = SimpleNamespace(
        bundle=SimpleNamespace(batch_size=8, ffn_tokens=3.0), mean_token_load=2000.0
    )
    assert replan._is_same(layered(1.0, 9.0), layered(2.0, 0.0), stored)
    assert not replan._is_same(layered(1.0, 9.0), layered(1.0, 9.1), stored)
    other = SimpleNamespace(**vars(layered(1.0, 9.0)) | {"layers": 11})
    assert not replan._is_same(layered(1.0, 9.0), other, stored)


@pytest.mark.parametrize(("overlap", "batch"), [(True, 12), (False, 24)])
def test_an_unsplit_plan_is_kept_with_the_batch_of_each_half(monkeypatch, overlap, batch):
    deployed = SimpleNamespace(deployed=lambda **asked: asked)
    monkeypatch.setattr(replan, "ColocatedSearch", SimpleNamespace(of=lambda _: deployed))
    ours = SimpleNamespace(
        replicas=3, ranks=4, devices_per_rank=2, requests_per_rank=24, two_batch_overlap=overlap
    )
    kept = replan._kept(SimpleNamespace(recommends_unsplit=True, unsplit=ours), None, "l")
    assert kept == {
        "replicas": 3, "ranks": 4, "devices_per_rank": 2, "batch_size": batch,
        "two_batch_overlap": overlap, "limits": "l",
    }  # fmt: skip


def test_an_unsplit_plan_has_no_other_a(monkeypatch):
    kept = SimpleNamespace(step_time=SimpleNamespace(mean=2.0), token_time=lambda _: 3.0)
    monkeypatch.setattr(check, "kept_unsplit", lambda *_: kept)
    assert check._unsplit(SimpleNamespace(statistic="mean"), None, 1.0) == (0.0, None, 2.0, 3.0)


@pytest.mark.parametrize("share", [0.99, 1.0, 1.01])
def test_a_rate_beyond_any_deployment_is_refused(monkeypatch, share):
    """Outputs of one token: as many requests as tokens."""
    monkeypatch.setattr(plan, "circumstances", lambda *_: 1 / 0)  # where planning begins
    limits = Limits(requests_per_second=share * 1e9)
    monkeypatch.setattr(plan, "MOST_TOKENS", 1e9)
    error, words = (InvalidInputError, "must be at most 1e.09") if share > 1 else (
        ZeroDivisionError, "division")  # fmt: skip
    with pytest.raises(error, match=words):
        plan.make_plan(LAW, MeasuredSource(LATENCY), limits)


def settling(high, half):
    """Eight workers and a rival of nine with four replications each."""
    asked = []
    ratio = SimpleNamespace(high=high, relative_half_width=half)
    run = SimpleNamespace(parts=[0] * 4, against=lambda other, factor: ratio)
    one = SimpleNamespace(
        runs={8: run, 9: run}, best=lambda: 8, cost=float, asked=asked,
        objective=lambda a: SimpleNamespace(value=1.0),
    )  # fmt: skip

    def played(count, replications):
        asked.append((count, replications))
        one.runs[count] = SimpleNamespace(parts=[0] * replications, against=run.against)

    one.played = played
    return one


@pytest.mark.parametrize(
    ("high", "half", "asked"),
    [
        (0.99, 0.5, []), (1.01, 0.0019, []),
        (1.01, 0.5, [(8, 8), (9, 8), (8, 16), (9, 16)]),
    ],
)  # fmt: skip
def test_a_rival_is_played_twice_as_often_until_it_is_told(high, half, asked):
    one = settling(high, half)
    assert PlayedSearch.settled(one) == 8
    assert one.asked == asked


def test_a_rival_that_was_played_more_waits_for_the_best():
    """The rival has twelve replications, the best four: eight are enough of the rival."""
    one = settling(1.01, 0.5)
    one.runs[9] = SimpleNamespace(parts=[0] * 12, against=one.runs[8].against)
    PlayedSearch.settled(one)
    assert one.asked[:2] == [(8, 8), (9, 8)]


@pytest.mark.parametrize(("regrets", "near"), [
    ({3: 0.02, 4: 0.0099, 5: 0.0, 6: 0.0101}, (4, 5)), ({3: 0.005, 5: 0.0, 9: 0.009}, (3, 9)),
])  # fmt: skip
def test_ratios_that_lose_less_than_a_hundredth_are_nearly_equal(regrets, near):
    points = [SimpleNamespace(attention_workers=a, regret=one) for a, one in regrets.items()]
    assert PlayedSearch.near_equal(SimpleNamespace(curve=lambda: points)) == near


def test_of_equals_the_smallest_and_no_more_play_than_is_asked_for():
    equal = SimpleNamespace(runs={5: 1, 3: 2, 4: 3}, value=lambda a: 1.0)
    assert PlayedSearch.best(equal) == 3
    run = SimpleNamespace(parts=[0] * 4)  # nothing more can be played of it
    assert PlayedSearch.played(SimpleNamespace(runs={3: run}), 3, 4) is run


@pytest.mark.parametrize(
    ("placement", "unknown", "named"),
    [("longest-prompt", None, "longest-prompt"), ("longest-prompt", "x", "round-robin"),
     ("round-robin", None, "round-robin")],
)  # fmt: skip
def test_the_formulas_nearest_to_what_is_played(monkeypatch, placement, unknown, named):
    monkeypatch.setattr(simulated_ratio, "unknown_placement", lambda *_: unknown)
    monkeypatch.setattr(simulated_ratio, "step_model", lambda problem, slots: problem.placement)
    run = SimpleNamespace(scenario=SimpleNamespace(placement=placement))
    assert PlayedSearch._nearest_model(SimpleNamespace(problem=PROBLEM, runs={3: run})) == named


@pytest.mark.parametrize(
    ("execution", "placement", "free", "told"),
    [("synchronous", "longest-prompt", 10.0, True), ("barrier-free", "longest-prompt", 10.0, False),
     ("synchronous", "round-robin", 10.0, False), ("synchronous", "longest-prompt", 8.008, False),
     ("synchronous", "longest-prompt", 8.009, True)],
)  # fmt: skip
def test_what_placement_gives_back_of_what_the_barrier_takes(
    monkeypatch, execution, placement, free, told
):
    """Blind placement reaches 8 of 10, known prompts 8.5, known outputs 9."""
    asked = []

    def play(scenario, replications, seconds):
        asked.append((scenario, replications, seconds))
        return SimpleNamespace(throughputs=np.array([9.0, 9.0]))

    monkeypatch.setattr(simulated_ratio, "play_paired", play)
    monkeypatch.setattr(simulated_ratio, "replace", lambda scenario, **changes: changes)
    monkeypatch.setattr(simulated_ratio, "ratio_estimate", lambda a, b: (a / b).tolist())
    scenario = SimpleNamespace(execution=execution, placement=placement)
    blind = SimpleNamespace(throughputs=np.array([8.0, 8.0]), parts=[0, 0], seconds=3.0)
    placed = SimpleNamespace(scenario=scenario, throughputs=np.array([8.5, 8.5, 7.0]))
    found = simulated_ratio._recovered(blind, placed, free)
    assert (found is not None) is told
    assert asked == [({"placement": "longest-request"}, 2, 3.0)] * told
    if free == 10.0 and told:
        assert (found.prompts_only, found.outputs_known) == ([0.25] * 2, [0.5] * 2)
