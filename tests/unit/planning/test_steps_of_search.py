"""Single steps of searches and answers by hand: what is looked at next, and what is told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.planning import (
    batch_search,
    check,
    plan_answer,
    ratio_around,
    ratio_day,
    ratio_grid,
    sensitivity,
    verify,
)
from afdplan.planning.alternatives import _same_ratio
from afdplan.planning.batch_search import BatchSearch, _Range
from afdplan.planning.bottleneck_map import bottleneck_maps
from afdplan.planning.design import Candidate, Design
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.plan import Plan, _little_spare
from afdplan.planning.search import DesignSearch
from afdplan.planning.simulated_ratio import PlayedSearch
from afdplan.planning.source import MeasuredSource
from afdplan.planning.space import SearchSpace
from afdplan.theory.problem import RatioProblem

LAW = IndependentLengths(prompt="fixed:2000", decode="fixed:1")
LATENCY = LatencyModel.linear(
    attention=(1e-6, 1e-3), ffn=(1e-4, 2e-3), transfer=(2e-6, 5e-4), layers=10, time_unit="s"
)
PROBLEM = RatioProblem(law=LAW, latency=LATENCY, batch_size=8)
DESIGN = Design(
    bundles=2, attention_workers=6, ffn_workers=2, batch_size=8, microbatches=1, ffn_devices=2
)


@pytest.mark.parametrize(
    ("played", "best", "limit", "next_"),
    [
        ({100, 110}, 100, 200, {105, 97}), ({100, 103}, 100, 200, {97}),
        ({90, 100}, 100, 200, {95, 103}), ({90, 100}, 100, 101, {95, 101}),
        ({98, 100}, 100, 100, set()), ({1, 2}, 1, 9, set()), ({2, 3}, 2, 9, {1}),
        ({9, 10}, 10, 50, {11}), ({4, 9, 15, 30}, 9, 50, {6, 12}),
    ],
)  # fmt: skip
def test_the_middle_of_wide_gaps_or_beyond_an_end_is_played_next(played, best, limit, next_):
    search = SimpleNamespace(runs=dict.fromkeys(played), best=lambda: best)
    assert PlayedSearch.around_best(search, limit) == next_


def a_search(lines=None):
    """Steps of 1, 2 and 9 for three pairs, where 3 is the longest; a pair scores by its step."""
    limits = SimpleNamespace(longest_step=lambda _: 3.0, probabilities=(), requests_per_second=None)
    times = SimpleNamespace(mean=np.array([1.0, 2.0, 9.0]), quantiles=np.empty((3, 0)))
    pairs = SimpleNamespace(
        models=SimpleNamespace(tokens_per_step=1.0, evaluate=lambda *_: times),
        scores=lambda combination, lattice, index, mean, limits: (
            combination.batch_size / mean, np.array([1, 2, 3])
        ),
        design_of=lambda combination, lattice, pair, bundles: replace(
            DESIGN, batch_size=combination.batch_size, attention_workers=pair, bundles=bundles
        ),
        scores_of=lambda requests, lattice, pairs, step, limits: (requests / step, None),
        least_times=lambda combination, lattice, pairs, limits, base: (times.mean, times.mean),
    )  # fmt: skip
    sizes = {(1, 2): np.array([8, 10, 12, 14, 16, 20])}
    lattice = SimpleNamespace(attention=np.arange(10), ffn=np.arange(10))
    return BatchSearch(pairs, lines, None, {1: lattice}, limits, sizes)


def a_range(first, last):
    return _Range(
        group=(1, 2), first=first, last=last, pairs=np.array([5, 6, 7]), bound=np.full(3, 99.0)
    )


def test_a_size_is_evaluated_and_the_larger_ones_are_left():
    """Without lines their bound is of the first of them: twice 20 requests in 1, 2 and 9."""
    one = a_search()
    (ahead,) = one._cut(a_range(1, 5))
    assert (ahead.first, ahead.last, ahead.pairs.tolist()) == (2, 5, [5, 6, 7])
    assert ahead.bound.tolist() == [40.0, 20.0, 0.0]
    assert one._best.score == 10.0
    assert (one._best.design.attention_workers, one._best.design.bundles) == (5, 1)
    assert one._cut(a_range(5, 5)) == []
    one._middle = lambda found: 3
    before, ahead = one._cut(a_range(1, 5))
    assert (before.first, before.last, ahead.first, ahead.last) == (1, 2, 4, 5)


def test_with_lines_what_is_too_slow_already_is_left_out():
    def line(combination, last, attention, ffn, mean):
        asked.append((combination.batch_size, last, attention.tolist(), mean.tolist()))
        return batch_search.Line(batch_size=10, mean=mean, slope=np.zeros(mean.size))

    asked = []
    one = a_search(SimpleNamespace(of=line, share=lambda base, last: share[0]))
    share = [1.0]
    (ahead,) = one._cut(a_range(1, 5))
    assert asked == [(10, 20, [5, 6], [1.0, 2.0])]
    assert (ahead.first, ahead.last, ahead.pairs.tolist()) == (2, 5, [5, 6])
    assert ahead.bound == pytest.approx(
        [40.0 / batch_search.Line.at(ahead.line, 20)[0], 20.0], rel=1e-3
    )
    # To beat 30 only the first can hope: twice 20 requests in a step of 1.
    asked.clear()
    one._best = Candidate(score=30.0, design=DESIGN)
    (ahead,) = one._cut(a_range(1, 5))
    assert asked == [(10, 20, [5], [1.0])]
    assert one._best.score == 30.0
    # At a third of their times all are held, and the second hopes too: 40 requests in 2 / 3.
    share[0] = 1 / 3
    asked.clear()
    one._cut(a_range(1, 5))
    assert asked == [(10, 20, [5, 6], [1.0, 2.0])]
    one._best = None
    asked.clear()
    one._cut(a_range(1, 5))
    assert asked == [(10, 20, [5, 6, 7], [1.0, 2.0, 9.0])]


def test_bounds_are_sharpened_before_a_size_is_evaluated():
    one, asked = a_search(), []
    start = batch_search._Start(group=(1, 2), first=0, last=5, listed=(0,), bounds=())
    for listed in ((0,), ()):
        one._starts = lambda: iter([(start, 0.5)])
        one._opened = lambda start, listed=listed: replace(
            a_range(0, 5), listed=listed, bound=np.array([0.1, 0.4, 0.0])
        )
        one._tightened = lambda found: (
            asked.append(("bounds", found.pairs.tolist()))
            or replace(found, bound=np.zeros(found.pairs.size))
        )
        one._cut = lambda found: asked.append(("size", found.pairs.tolist())) or []
        assert one.best(None) is None
    # The most promising first; of what scores nothing, too, for nothing is to be beaten.
    assert asked == [("bounds", [6, 5, 7]), ("size", [6, 5, 7])]
    one._starts = lambda: iter([(start, 0.0)])
    one.best(None)
    assert len(asked) == 2


def test_other_ffn_workers_keep_the_ratio_within_the_budget():
    asked = []

    def lattice(limits, space, devices, most):
        asked.append(most)
        return SimpleNamespace(attention=np.array([2, 4, 7, 8]))

    search = SimpleNamespace(lattice=lattice)
    for limits in (Limits(devices=30), Limits(requests_per_second=1.0)):
        found = _same_ratio(search, None, DESIGN, limits, 3)  # nine for three would keep it
        assert (found.attention_workers, found.ffn_workers) == (8, 3)
    assert asked == [30, 2048]


@pytest.mark.parametrize(
    ("split", "colocated", "kind"),
    [("yes", (1,), "split"), ("no", (1,), "un-split"), ("even", (1,), "un-split"),
     ("no", (), "split")],
)  # fmt: skip
def test_what_is_recommended(split, colocated, kind):
    plan = SimpleNamespace(verdict=SimpleNamespace(split=split), colocated=colocated)
    assert Plan.kind.fget(plan) == kind
    best = "ranks" if colocated else None
    plan = SimpleNamespace(kind=kind, split="split", best_colocated=best)
    assert Plan.recommended.fget(plan) == ("ranks" if kind == "un-split" else "split")


def test_the_problem_of_a_plan_weighs_workers_by_what_they_cost():
    """An FFN worker of two devices at 5 is worth 5 attention workers of one device at 2."""
    plan = SimpleNamespace(
        split=SimpleNamespace(design=replace(DESIGN, attention_devices=4)), law=LAW,
        latency=LATENCY, space=SimpleNamespace(placement="round-robin"),
        cost=SimpleNamespace(attention=2.0, ffn=5.0),
    )  # fmt: skip
    problem = Plan.problem.fget(plan)
    assert problem.ffn_weight == 5.0 * 2 / (2.0 * 4)
    assert (problem.batch_size, problem.ffn_workers, problem.microbatches) == (8, 2, 1)


@pytest.mark.parametrize(("spare", "told"), [(None, False), (0.1, False), (0.099, True)])
def test_less_than_a_tenth_is_little_spare(spare, told):
    found = None if spare is None else SimpleNamespace(spare_fraction=spare)
    assert len(list(_little_spare(found))) == told


@pytest.mark.parametrize(
    ("value", "confidence", "factors"),
    [(0.5, 0.95, [1.0, 0.5, 2.0]), (0.5, 1.0, [1.0]), (0.0, 0.95, [1.0])],
)
def test_ends_of_a_load_however_small(monkeypatch, value, confidence, factors):
    asked = []

    def under(plan, law, factor):
        asked.append(factor)
        return 0.0, 2, 0.3, 0.2

    monkeypatch.setattr(check, "_again", lambda plan, law, factors: (None, 0.0, ()))
    monkeypatch.setattr(check, "_under", under)
    monkeypatch.setattr(check, "check_kind", lambda *_: None)
    monkeypatch.setattr(check, "step_time_estimate", lambda *_: None)
    monkeypatch.setattr(check, "problem_of", lambda *_: None)
    plan = SimpleNamespace(
        recommends_unsplit=False, unsplit=None, planned_regret=0.0, cache_capacity=None,
        time_per_output_token=None, latency=LATENCY, overflow_probability=1e-3,
        mean_token_load=0.0, bundle=SimpleNamespace(attention_workers=2),
    )  # fmt: skip
    load = Estimate(value=value, low=value / 2, high=value * 2, confidence=confidence, method="x")
    found = check.check_plan(plan, LAW, token_load=load)
    assert asked == factors
    assert found.reasons == (
        "the mean token load changed by +0.0 %; keeping 2 attention workers loses 0.0 %",
    )


@pytest.mark.parametrize(("value", "trials"), [(0.5, [-0.5, 1.0]), (0.0, [])])
def test_ends_of_a_load_are_tried_however_small(value, trials):
    load = Estimate(value=value, low=value / 2, high=value * 2, confidence=0.95, method="x")
    search = SimpleNamespace(source=SimpleNamespace(latency=lambda *_: LATENCY))
    found = sensitivity._trials(search, SimpleNamespace(design=DESIGN), load)
    ends = [(change, factor) for name, change, _, factor in found if "interval" in name]
    assert ends == [(change, 1 + change) for change in trials]
    assert [(change, factor) for _, change, _, factor in found[:2]] == [(0.1, 1.1), (-0.1, 0.9)]


@pytest.mark.parametrize(
    ("most", "kept"), [(20, [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]), (6, [3, 4, 5, 6])]
)
def test_half_to_twice_as_many_attention_workers_are_compared(most, kept):
    asked = []

    def lattice(limits, space, devices, most_devices):
        asked.append((space, devices, most_devices))
        return SimpleNamespace(attention=np.arange(1, most + 1))

    search = SimpleNamespace(lattice=lattice, space=SearchSpace())
    for limits in (Limits(devices=30), Limits(requests_per_second=1.0)):
        found, index = sensitivity._neighbours(search, DESIGN, limits)
        assert found.attention[index].tolist() == kept[: index.size]
        assert index.size == len(kept)
    space = SearchSpace(ffn_workers=(2,))
    assert asked == [(space, 1, 30), (space, 1, 2048)]


@pytest.mark.parametrize(
    ("regrets", "least", "asked"),
    [((0.5, 0.3, 0.2), 0.1, [1.0, 0.8, 1.2]), ((0.5, 0.01, 0.9), 0.0, [1.0, 0.8]),
     ((0.5, 0.6, 0.7), 0.4, [1.0, 0.8, 1.2])],
)  # fmt: skip
def test_planned_again_at_both_ends_until_one_is_fine(monkeypatch, regrets, least, asked):
    """A tenth was given up when it was planned."""
    tried = []

    def again(plan, law, load_factor=1.0):
        tried.append(load_factor)
        return SimpleNamespace(regret=regrets[len(tried) - 1], notes=("n",), number=len(tried))

    monkeypatch.setattr(check, "replan", again)
    plan = SimpleNamespace(planned_replan_regret=0.1)
    found, lost, notes = check._again(plan, LAW, [1.0, 0.8, 1.2])
    assert (found.number, notes, tried) == (1, ("n",), asked)
    assert lost == pytest.approx(least)


def test_a_row_of_a_map_is_of_its_batch_size():
    def times(workers):
        return {"attention": 2.0 + workers, "ffn": 4.0}

    keys = [(16, 2), (8, 2), (8, 3)]
    two, three = bottleneck_maps(dict.fromkeys(keys, times), {(16, 2): 2, (8, 2): None, (8, 3): 1})
    assert [(row.batch_size, row.best) for row in two.rows] == [(8, None), (16, 2)]
    assert (two.microbatches, three.microbatches) == (2, 3)
    assert [row.batch_size for row in three.rows] == [8]


def test_what_stands_around_is_of_the_batch_that_was_asked_for(monkeypatch):
    def case(size, count, objectives=None):
        points = [SimpleNamespace(attention_workers=size + k) for k in (0, 1)]
        return SimpleNamespace(
            batch_size=size, microbatches=count, points=points, objectives=objectives
        )

    grid = SimpleNamespace(cases=[case(4, 2), case(8, 1), case(8, 2), case(16, 2)], maps=())
    played = []
    monkeypatch.setattr(ratio_around, "ratio_grid", lambda problem, **_: grid)
    monkeypatch.setattr(ratio_around, "curve_bands", lambda problem, workers, load: workers)
    monkeypatch.setattr(ratio_around, "played_band", lambda objectives: objectives)
    monkeypatch.setattr(ratio_around, "ratio_sensitivity", lambda *_: ())
    monkeypatch.setattr(
        ratio_around, "play_bundles", lambda problem, best, near, play: played.append((best, near))
    )
    for recommended in (5, 1):
        found = ratio_around.ratio_around(PROBLEM, recommended)
        assert found.bands == (8, 9)
    assert played == [(5, (2, 10)), (1, (1, 2))]
    grid.cases[2] = case(8, 2, "intervals")
    assert ratio_around.ratio_around(PROBLEM, 5).bands == ("intervals",)


def test_what_a_fixed_ratio_costs_in_each_window():
    """Four workers are a tenth below the best of the first window, and the best of the second."""
    parts = [
        SimpleNamespace(name=f"0{k}:00", number=k, arrival_rate=1.0,
                        trace=SimpleNamespace(requests=9))
        for k in (0, 1)
    ]  # fmt: skip
    curves = [
        ratio_day.WindowCurve(number=k, start=None, output_tokens=100.0, objective=values)
        for k, values in enumerate(({2: 1.0, 4: 0.9, 8: 0.5}, {2: 0.5, 4: 1.0, 8: 0.9}))
    ]
    loads = [Estimate.exact(7.0)] * 2
    day = ratio_day._day(60.0, parts, 3, 4, curves, loads, [(2, 3), (4, 8)], [2, 4])
    assert [window.regret_of_fixed for window in day.windows] == pytest.approx([0.1, 0.0])
    assert [window.objective for window in day.windows] == [1.0, 1.0]
    assert (day.left_out, day.fixed_attention_workers, day.best_fixed_attention_workers) == (
        3,
        4,
        4,
    )
    # 200 tokens take 100 / 0.9 + 100 where 200 would do.
    assert day.cost_of_fixed == pytest.approx((1 / 0.9 + 1) / 2 - 1)


def test_every_a_that_is_best_in_some_window_is_played_in_all(monkeypatch):
    shown, asked = [], []

    class Requests(float):
        decode_tokens = np.array([3, 4])

    class Played:
        def __init__(self, problem, play, between, seconds):
            self.law = problem.law
            asked.append((self.law, between))

        def best(self):
            return {0.0: 5, 1.0: 4, 2.0: 7}[self.law]

        def play(self, workers):
            asked.append((self.law, workers))

        def objectives(self):
            return {a: Estimate.exact(a * self.law) for a in (4, 5, 7)}

        def as_good(self):
            return 1, 9

    class Problem(SimpleNamespace):
        def slot_loads(self):
            return "slots"

    parts = [SimpleNamespace(trace=Requests(value)) for value in (1.0, 2.0)]
    monkeypatch.setattr(ratio_day, "EmpiricalLengths", float)
    monkeypatch.setattr(ratio_day, "replace", lambda problem, law: Problem(law=law))
    monkeypatch.setattr(
        ratio_day, "solve_ratio", lambda *_: SimpleNamespace(best=6, mean_field_ratio=3.0)
    )
    monkeypatch.setattr(ratio_day, "cut_by_clock", lambda *_: (parts, 2))
    monkeypatch.setattr(ratio_day, "token_load_estimate", float)
    monkeypatch.setattr(ratio_day, "_day", lambda *given: given)
    monkeypatch.setattr("afdplan.planning.simulated_ratio.PlayedSearch", Played)
    day = ratio_day._played_day(None, Requests(0.0), 60.0, None, shown.append)
    assert shown == [0.25, 0.5, 0.75, 1.0]
    assert asked[:3] == [(law, (6, 3.0)) for law in (0.0, 1.0, 2.0)]
    assert asked[3:] == [(1.0, {4, 5, 7}), (2.0, {4, 5, 7})]
    assert (day[2], day[3], day[5:]) == (2, 5, ([1.0, 2.0], [(1, 9)] * 2, [4, 7]))
    assert [(c.number, c.output_tokens, c.objective[7]) for c in day[4]] == [
        (0, 7.0, 7.0), (1, 7.0, 14.0)
    ]  # fmt: skip


def test_policies_and_departures_are_compared_within_the_devices_of_the_decode_side(monkeypatch):
    """Two FFN workers of two devices each and attention workers of one, out of 30."""

    @dataclass(frozen=True)
    class Planned:
        plan: object

    @dataclass(frozen=True)
    class Found:
        warnings: tuple[str, ...] = ("of the plan",)
        source: object = "source"
        split: object = None
        limits: object = Limits(devices=30)
        problem: object = replace(PROBLEM, ffn_workers=2)

    chosen = Found(split=SimpleNamespace(design=DESIGN))
    monkeypatch.setattr(plan_answer, "plan_whole", lambda *_, **__: Planned(chosen))
    monkeypatch.setattr(plan_answer, "plan_modes", lambda plan: "modes")
    monkeypatch.setattr(plan_answer, "_verified", lambda plan, bar: "verified")
    monkeypatch.setattr(plan_answer, "_played", lambda whole, source, bar: "played")
    monkeypatch.setattr(plan_answer, "_around", lambda plan, bar: "around")
    monkeypatch.setattr(plan_answer, "_gain", lambda question, problem, here: problem)
    monkeypatch.setattr(plan_answer, "plan_effects", lambda plan, source, problem: (problem,))
    workload = SimpleNamespace(law=LAW, trace=None, token_load=None, warnings=("of the trace",))
    asked = dict.fromkeys(("source", "limits", "prefill", "failures", "space", "cost"))
    for wanted in (True, False):
        has = dict.fromkeys(("has_verification", "has_around", "has_modes"), wanted)
        question = SimpleNamespace(workload=workload, **asked, **has)
        found = plan_answer.answer_plan(question)
        assert found.effects == (found.gain,)
        assert found.gain.max_attention_workers == 26
        assert found.plan.warnings == ("of the trace", "of the plan")
        told = (found.verified, found.played, found.around, found.modes)
        whole = ("verified", "played", "around", "modes")
        assert told == (whole if wanted else ((), None, None, None))


def test_what_was_played_is_taken_for_the_case_that_was_asked_for_only(monkeypatch):
    asked = []
    solved = SimpleNamespace(model=SimpleNamespace(resources=None))

    def played(problem, slots, solved, play, runs):
        asked.append((problem.batch_size, problem.microbatches, runs))
        best = SimpleNamespace(attention_workers=1)
        return SimpleNamespace(
            batch_size=problem.batch_size, microbatches=problem.microbatches, best=best
        )

    monkeypatch.setattr(ratio_grid, "solve_ratio", lambda *_: solved)
    monkeypatch.setattr(ratio_grid, "bottleneck_maps", lambda *_: ())
    monkeypatch.setattr(ratio_grid, "_played_case", played)
    few = replace(PROBLEM, batch_size=2, microbatches=2)
    ratio_grid.ratio_grid(few, most_requests=8, play=lambda *_: None, runs={4: "run"})
    known = [(size, count) for size, count, runs in asked if runs]
    assert known == [(2, 2)]
    assert len(asked) == 8


def test_memory_is_asked_for_as_many_requests_as_any_candidate_has():
    asked = []

    def most_requests(devices, largest, limits):
        asked.append(largest)
        return largest

    space = SearchSpace(batch_sizes=(4, 16), microbatches=(1, 3))
    found = SimpleNamespace(
        space=space, source=SimpleNamespace(attention_devices=(1,)),
        memories=SimpleNamespace(most_requests=most_requests),
    )  # fmt: skip
    limits = Limits(devices=9)
    listed = DesignSearch.combinations(found, limits)
    assert [tuple(one) for one in listed] == [(1, 1, 4), (1, 1, 16), (1, 3, 4), (1, 3, 16)]
    assert DesignSearch._sizes(found, 1, 3, limits, space).tolist() == [4, 16]
    assert asked == [48, 48]


def test_a_design_is_simulated_with_its_neighbours_in_a(monkeypatch):
    """Six workers of 8 requests with 1.5 tokens in a step of 0.5 s, on 6 + 2 * 2 devices."""
    asked, shown = [], []

    def simulate(scenario, progress):
        asked.append((scenario.bundle.attention_workers, scenario.seed))
        progress(0.5)
        return SimpleNamespace(step_time=SimpleNamespace(mean=Estimate.exact(0.5), p99="p"))

    def planned(design, mean):
        return SimpleNamespace(
            design=design, tokens_per_step=1.5, step_time=SimpleNamespace(mean=mean, p99=2 * mean)
        )

    monkeypatch.setattr(verify, "simulate", simulate)
    more = SimpleNamespace(
        kind="attention_workers",
        change="more",
        plan=planned(replace(DESIGN, attention_workers=7), 2),
    )
    other = SimpleNamespace(kind="batch_size")
    plan = SimpleNamespace(
        split=planned(DESIGN, 1.0), alternatives=(other, more),
        space=SimpleNamespace(placement="round-robin"), law=LAW,
        source=SimpleNamespace(latency=lambda *_: LATENCY),
    )  # fmt: skip
    first, second = verify.verify_plan(plan, seed=3, progress=shown.append)
    assert (first.name, second.name, shown) == ("recommended", "more", [0.25, 0.75])
    assert asked == [(6, 3), (7, 3)]
    assert first.tokens_per_second_per_device == pytest.approx(6 * 8 * 1.5 / 0.5 / 10)
    assert second.tokens_per_second_per_device == pytest.approx(7 * 8 * 1.5 / 0.5 / 11)
    assert (first.predicted_mean, first.predicted_p99, second.simulated_p99) == (1.0, 2.0, "p")


@pytest.mark.parametrize("factor", [1.0, 2.0, 0.5])
def test_a_load_is_scaled_by_any_factor(factor):
    """Eight requests of 2,000 tokens in turn, 24 at each FFN worker."""
    space = SearchSpace(batch_sizes=(8,), microbatches=(1,))
    search = DesignSearch(LAW, MeasuredSource(LATENCY, ffn_devices=2), space, DeviceCost())
    times = sensitivity._step_times(
        search, DESIGN, LATENCY, factor, Limits(devices=10), np.array([6])
    )
    a, f, c = 1e-3 + 1e-6 * 16_000 * factor, 2e-3 + 1e-4 * 24, 5e-4 + 2e-6 * 8
    assert times.mean == pytest.approx([10 * (a + f + 2 * c)])
