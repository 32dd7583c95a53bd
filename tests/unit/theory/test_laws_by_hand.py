"""Laws of times, bounds of a search, intervals of drawn models: by hand, or by another way."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import norm

from afdplan.errors import InvalidInputError
from afdplan.lengths.law import IndependentLengths
from afdplan.model.curve import LinearCurve, TabulatedCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers
from afdplan.model.uncertainty import Uncertainty
from afdplan.model.variation import Scatter
from afdplan.theory.attention_time import (
    TimeLaw,
    constant_time,
    exact_time,
    gaussian_time,
    spread,
)
from afdplan.theory.cycle import _with_fresh_steps, objective
from afdplan.theory.fresh_cycle import fresh_stage
from afdplan.theory.latency_draws import drawn_interval, drawn_step_times, step_time_estimate
from afdplan.theory.layer_cycle import _ConstantCycle, _nodes
from afdplan.theory.modes import _best_rule, _per_call
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend_ratio
from afdplan.theory.shared_times import StageTimes
from afdplan.theory.solve import largest_resource, solve_ratio, worker_limit
from afdplan.theory.step_model import step_model
from afdplan.theory.transient import horizon_mean_load
from afdplan.theory.two_batch import two_batch_round
from afdplan.theory.validity import barrier_free_warnings
from afdplan.theory.worker_load import (
    WorkerLoad,
    _cumulants,
    _power,
    _window,
    convolve_slots,
)

SHORT = IndependentLengths(prompt="uniform:3..6", decode="uniform:1..5")
FIXED = IndependentLengths(prompt="fixed:4", decode="fixed:1")


def test_a_time_law_by_hand():
    law = TimeLaw(lowest=10.0, spacing=2.0, probabilities=np.array([0.5, 0.25, 0.25]))
    assert law.support.tolist() == [10.0, 12.0, 14.0]
    assert law.cumulative.tolist() == [0.5, 0.75, 1.0]
    assert (law.mean, law.std) == (11.5, pytest.approx(math.sqrt(2.75)))


def test_atoms_are_split_between_their_neighbours():
    """At 0, 1/2 and 9/4 of a spacing of two from 1 on."""
    law = spread(np.array([1.0, 2.0, 5.5]), np.array([0.2, 0.4, 0.4]), 2.0)
    assert (law.lowest, law.spacing) == (1.0, 2.0)
    assert law.probabilities.tolist() == pytest.approx([0.4, 0.2, 0.3, 0.1])
    whole = spread(np.array([1.0, 3.0]), np.array([0.25, 0.75]), 2.0)
    assert whole.probabilities.tolist() == [0.25, 0.75]  # no empty point at the end


def test_a_coarser_law_keeps_its_mean_and_its_ends_what_is_beyond_them():
    tail = 1e-13
    chances = np.array([tail, *[(1 - 2 * tail) / 9] * 9, tail])
    law = TimeLaw(lowest=5.0, spacing=1.0, probabilities=chances)
    assert law.coarsened(11) is law
    coarse = law.coarsened(4)  # nine of them count: three at a time, from the second on
    assert (coarse.lowest, coarse.spacing) == (6.0, 3.0)
    assert coarse.probabilities.tolist() == pytest.approx(
        [(1 + 2 / 3 + 1 / 3) / 9, 3 / 9, 3 / 9, 1 / 9], abs=1e-12
    )
    assert coarse.mean == pytest.approx(10.0, abs=1e-11)
    assert coarse.probabilities.sum() == pytest.approx(1.0, abs=1e-15)
    assert law.coarsened(3).spacing == 3.0
    assert law.coarsened(9).spacing == 1.0


def test_sums_of_slots_are_those_of_all_outcomes():
    slot = SHORT.slot_load()
    for batch in (1, 2, 5):
        pmf = np.ones(1)
        for _ in range(batch):
            pmf = np.convolve(pmf, slot.probabilities)
        load = convolve_slots(slot, batch)
        assert (load.lowest, load.spacing) == (batch * slot.lowest, slot.spacing)
        assert load.probabilities == pytest.approx(pmf, abs=1e-13)
        assert load.mean == pytest.approx(float(pmf @ load.support))
        assert load.variance == pytest.approx(float(pmf @ (load.support - load.mean) ** 2))
        assert load.exceedance(load.lowest) == pytest.approx(1 - pmf[0])
        assert load.exceedance(load.support[-2]) == pytest.approx(pmf[-1])


@pytest.mark.parametrize("batch", [1 << 12, 1 << 15])
def test_a_window_of_a_long_sum_holds_all_that_is_likely(batch):
    """Sums beyond 32,768 points are binned and cut where a Chernoff bound allows 1e-13."""
    slot = IndependentLengths(prompt="uniform:1..40", decode="uniform:1..90").slot_load()
    load = convolve_slots(slot, batch)
    deviation = math.sqrt(load.variance)
    below, above = load.mean - load.support[0], load.support[-1] - load.mean
    for side in (below, above):  # of a normal 7.4 deviations; the bound is not much wider
        assert 7.3 * deviation < side < 9.5 * deviation
    assert float(load.probabilities @ load.support) == pytest.approx(load.mean, rel=1e-9)
    spread_ = float(load.probabilities @ (load.support - load.mean) ** 2)
    assert load.variance * (1 - 1e-6) < spread_ < load.variance * 1.0003
    at = load.mean + deviation * np.array([-2.0, 0.0, 1.0, 3.0])
    assert [load.exceedance(one) for one in at] == pytest.approx(
        norm.sf([-2.0, 0.0, 1.0, 3.0]), abs=0.02
    )


def kind(**options):
    return AttentionLayers(curve=LinearCurve(intercept=10.0, slope=0.5), layers=1, **options)


def test_times_of_a_batch_by_hand():
    """10 + T / 2, 3 for each request, 2 for each token of the mean context."""
    layers = kind(time_per_request=3.0, time_per_context=2.0)
    slot = SHORT.slot_load()
    load, law = convolve_slots(slot, 4), exact_time(slot, layers, 4)
    assert law.lowest == pytest.approx(10 + 0.5 * load.lowest + 3 * 4 + 2 * load.lowest / 4)
    assert law.spacing == pytest.approx(0.5 + 2 / 4)
    assert law.probabilities.tolist() == load.probabilities.tolist()


def test_a_curve_of_two_lines_keeps_the_mean_of_times():
    curve = TabulatedCurve(loads=[0.0, 20.0, 200.0], times=[1.0, 3.0, 200.0])
    layers = AttentionLayers(curve=curve, layers=1)
    load = convolve_slots(SHORT.slot_load(), 4)
    law = exact_time(SHORT.slot_load(), layers, 4)
    times = np.array([curve(float(tokens)) for tokens in load.support])
    assert law.mean == pytest.approx(float(load.probabilities @ times), rel=1e-12)
    assert law.lowest == pytest.approx(times[0])
    assert law.spacing == pytest.approx((times[-1] - times[0]) / ((1 << 14) - 1))
    assert law.support[-1] == pytest.approx(times[-1])


def test_the_normal_of_the_same_mean_and_deviation():
    slot = SHORT.slot_load()
    law = gaussian_time(slot, kind(), 4)
    mean, deviation = 4 * slot.moments.mean, 2 * slot.moments.std
    assert law.probabilities.size == 2 * 9 * 64 + 1
    assert law.lowest == pytest.approx(10 + 0.5 * (mean - 9 * deviation))
    assert law.spacing == pytest.approx(0.5 * deviation / 64)
    assert law.mean == pytest.approx(10 + 0.5 * mean, rel=1e-12)
    assert law.std == pytest.approx(0.5 * deviation, rel=1e-4)
    for points in (64, 128, 200):  # edges are half way between grid points
        tail = float(law.probabilities[9 * 64 + points :].sum())
        assert tail == pytest.approx(norm.sf((points - 0.5) / 64), rel=1e-9)
        assert law.probabilities[9 * 64 - points] == pytest.approx(
            law.probabilities[9 * 64 + points], rel=1e-9
        )
    # As exact far out, where many workers have their slowest.
    for points in (500, 560):
        far = float(norm.sf((points - 0.5) / 64) - norm.sf((points + 0.5) / 64))
        for side in (-points, points):
            assert law.probabilities[9 * 64 + side] == pytest.approx(far, rel=1e-6, abs=0)


def test_times_that_never_vary_are_one_atom():
    assert FIXED.slot_load().moments.std == 0
    for law in (
        gaussian_time(FIXED.slot_load(), kind(), 4),
        exact_time(FIXED.slot_load(), kind(), 4),
        constant_time(kind(), 16.0, 4),
    ):
        assert (law.lowest, law.probabilities.tolist()) == (18.0, [1.0])
        assert law.spacing == 18.0
    assert constant_time(kind(), -19.0, 4).spacing == 1.0
    flat = AttentionLayers(curve=LinearCurve(intercept=10.0, slope=0.0), layers=1)
    assert exact_time(SHORT.slot_load(), flat, 4).probabilities.size == 1


def test_a_worker_load_counts_what_is_beyond():
    load = WorkerLoad(
        lowest=1.0, spacing=2.0, probabilities=np.array([0.5, 0.3, 0.2]), mean=2.4, variance=1.0
    )
    assert load.support.tolist() == [1.0, 3.0, 5.0]
    assert [load.exceedance(x) for x in (0.0, 1.0, 3.0, 5.0)] == pytest.approx([1.0, 0.5, 0.2, 0.0])


def test_ends_of_draws():
    """Of 1 to 39 at 40 p: the first and the last; of 1 to 79 the second and the last but one."""
    for count, ends in ((39, (1.0, 39.0)), (79, (2.0, 78.0))):
        draws = np.arange(1.0, count + 1)
        assert drawn_interval(draws).tolist() == pytest.approx(ends)
        assert drawn_interval(np.stack([draws, -draws], axis=1)).tolist() == [
            pytest.approx([ends[0], -ends[1]]), pytest.approx([ends[1], -ends[0]]),
        ]  # fmt: skip


def uncertain(**options):
    model = LatencyModel.linear(
        attention=(0.5, 10.0), ffn=(0.0, 1.0), layers=40,
        uncertainty=Uncertainty(coefficients=("attention.intercept",), draws=[[9.0], [12.0]]),
    )  # fmt: skip
    return RatioProblem(**{"law": SHORT, "latency": model, "batch_size": 4, **options})


def test_drawn_models_are_as_many_as_said_and_quick():
    problem = uncertain()
    workers, slots = np.array([2.0, 3.0]), problem.slot_loads()
    quick, drawn = drawn_step_times(problem, slots, workers)
    assert drawn.shape == (40, 2)
    rough = step_model(replace(problem, method="gaussian"), slots).evaluate(workers).mean
    assert quick == pytest.approx(rough, rel=1e-12)
    assert abs(quick - step_model(problem, slots).evaluate(workers).mean).min() > 1e-6
    # One less in the intercept is one less for each of 2 x 40 microbatches and layers, about.
    away = sorted(set((drawn[:, 0] - quick[0]).round(6)))
    assert away == pytest.approx([-80.0, 160.0], rel=0.01)


@pytest.mark.parametrize(
    ("options", "draws", "method"),
    [
        ({}, 40, "gaussian"),
        ({"phase": "aligned"}, 40, "exact"),
        ({"method": "mean-field"}, 40, "mean-field"),
        ({"execution": "barrier-free"}, 8, "gaussian"),
    ],
)
def test_how_each_problem_is_drawn(monkeypatch, options, draws, method):
    seen = []

    def stepping(problem, slots):
        seen.append(problem.method)
        mean = np.array([problem.latency.attention[0].curve(0.0)])
        return SimpleNamespace(evaluate=lambda workers: SimpleNamespace(mean=mean))

    monkeypatch.setattr("afdplan.theory.latency_draws.step_model", stepping)
    problem = uncertain(law=IndependentLengths(prompt="fixed:4", decode="fixed:3"), **options)
    quick, drawn = drawn_step_times(problem, problem.slot_loads(), np.array([2.0]))
    assert (quick.tolist(), drawn.shape) == ([10.0], (draws, 1))
    assert set(seen) == {method}


def test_the_interval_of_a_step_by_hand():
    problem = uncertain()
    found = step_time_estimate(problem, 2)
    slots, at = problem.slot_loads(), np.array([2.0])
    value = float(step_model(problem, slots).evaluate(at).mean[0])
    quick = float(step_model(replace(problem, method="gaussian"), slots).evaluate(at).mean[0])
    assert found.value == pytest.approx(value)
    assert found.low == pytest.approx(value * (quick - 80) / quick, abs=1.0)
    assert found.high == pytest.approx(value * (quick + 160) / quick, abs=1.0)
    assert found.confidence == 0.95
    certain = replace(problem, latency=replace(problem.latency, uncertainty=None))
    assert step_time_estimate(certain, 2) is None


def test_how_many_workers_are_considered():
    """With equal loads the FFN catches up at t_A / (alpha_F B) workers each; 64 at least."""
    for slope, ratio in ((1.0, 100.0), (2.0, 50.0), (10.0, 10.0), (1e-6, None)):
        model = LatencyModel.linear(attention=(0.0, 400.0), ffn=(slope, 0.0))
        for ffn_workers in (1, 3, 1000):
            problem = RatioProblem(
                law=FIXED, latency=model, batch_size=4, ffn_workers=ffn_workers, overlap="ideal"
            )
            slots = problem.slot_loads()
            wanted = 100_000 if ratio is None else max(64, 1.25 * ratio) * ffn_workers
            wanted = min(wanted, 100_000)
            assert worker_limit(problem, slots) == pytest.approx(wanted, abs=1)
            for given in (1, 7, 100_000):
                asked = replace(problem, max_attention_workers=given)
                assert worker_limit(asked, slots) == given
            for outside in (0, 100_001):
                with pytest.raises(InvalidInputError, match="max_attention_workers"):
                    replace(problem, max_attention_workers=outside)


def test_so_many_calls_are_played_and_no_more():
    problem = RatioProblem(
        law=FIXED, latency=LatencyModel.linear(attention=(0.0, 4.0), ffn=(1.0, 0.0)),
        batch_size=4, microbatches=2, execution="barrier-free",
    )  # fmt: skip
    with pytest.raises(InvalidInputError, match="at most 8,192 without the barrier, got 8,193"):
        solve_ratio(replace(problem, max_attention_workers=8193), problem.slot_loads())


def test_the_first_of_equal_resources_is_named():
    assert largest_resource({"attention": 1.0, "ffn": 1.0 + 5e-10}) == "attention"
    assert largest_resource({"attention": 1.0, "ffn": 1.0 + 5e-9}) == "ffn"
    assert largest_resource({"attention": 2.0, "ffn": 1.0}) == "attention"


def test_tokens_per_time_and_cost():
    """Three workers of 2 x 4 requests, two tokens a step of 6, on 3 + 0.5 x 2 of cost."""
    model = replace(LatencyModel.linear(attention=(0.0, 4.0), ffn=(1.0, 0.0)), tokens_per_step=2.0)
    problem = RatioProblem(law=FIXED, latency=model, batch_size=4, microbatches=2, ffn_workers=2)
    found = objective(problem, np.array([3.0]), np.array([6.0]), 0.5)
    assert found.tolist() == pytest.approx([3 * 2 * 4 * 2 / 6 / 4])


def test_what_is_drawn_afresh_moves_quantiles_as_variances_add():
    """3 above the mean and 4 of a normal at one deviation: 5; on both sides, or against it."""
    one = norm.cdf(1.0)
    quantiles = np.array([[13.0, 7.0, 10.0, 13.0]])
    variance = np.array([[16.0, 16.0, 16.0, 0.0]])
    probabilities = (one, 1 - one, 1 - one, one)
    found = _with_fresh_steps(quantiles, np.array([10.0]), variance, probabilities)
    assert found.tolist() == [pytest.approx([15.0, 5.0, 6.0, 13.0])]
    against = _with_fresh_steps(np.array([[15.0]]), np.array([10.0]), variance[:, :1], (1 - one,))
    assert against.tolist() == [pytest.approx([13.0])]


def test_nodes_have_the_moments_of_a_normal():
    assert list(_nodes(None)) == [(0.0, 1.0)]
    assert list(_nodes(np.zeros(2))) == [(0.0, 1.0)]
    nodes = list(_nodes(np.array([0.0, 2.0])))
    for power, moment in ((0, 1.0), (1, 0.0), (2, 4.0), (3, 0.0), (4, 48.0)):
        assert sum(weight * at[1, 0] ** power for at, weight in nodes) == pytest.approx(
            moment, abs=1e-12
        )
    assert all(at[0, 0] == 0.0 for at, _ in nodes)


def stages(**options):
    times = {"ffn": 3.0, "out": 1.0, "back": 2.0} | options
    return StageTimes(
        attention_workers=np.array([2.0]), **{name: np.array([one]) for name, one in times.items()}
    )


def test_ages_that_are_visited_in_turn():
    cycle = _ConstantCycle(np.array([2.0, 4.0, 9.0]), 2, "ideal")
    assert (cycle.attention_mean, cycle.attention_std) == (5.0, 0.0)
    mean, quantiles, variance = cycle.round(stages(), (0.3, 0.5, 0.99))
    assert mean.tolist() == pytest.approx([(3 + 4 + 9) / 3])
    assert quantiles.tolist() == [[3.0, 4.0, 9.0]]
    assert variance.tolist() == [[0.0, 0.0, 0.0]]
    assert cycle.round(stages(back=8.0), ())[0].tolist() == pytest.approx([(8 + 8 + 9) / 3])
    assert cycle.round(stages(out=8.0), ())[0].tolist() == pytest.approx([(8 + 8 + 9) / 3])
    assert cycle.resources(stages()) == {"attention": 5.0, "communication": 2.0, "ffn": 3.0}
    more = cycle.later(1.0)
    assert more.attention_mean == 6.0
    workers, levels = np.array([1.0, 5.0]), np.array([0.5, 0.9])
    assert more.slowest_microbatch(workers, levels).tolist() == [[5.0, 5.0], [10.0, 10.0]]
    assert more.slowest_round(workers, levels).tolist() == [[10.0, 10.0], [20.0, 20.0]]
    piped = _ConstantCycle(np.array([5.0]), 2, "pipelined")
    told = piped.resources(stages(out_delay=0.5, back_delay=0.5))
    assert told["latency"].tolist() == [(5 + 3 + 0.5 + 0.5) / 2]
    # Of two in flight: twice the slowest stage, or the trip.
    for ffn, longest in ((3.0, 11.0), (6.0, 14.0), (9.0, 18.0)):
        assert piped.round(stages(ffn=ffn), ())[0].tolist() == [longest]


def test_the_ffn_time_of_one_call():
    """Six calls of four tokens on two FFN workers: 5 + 2 x 12, a sixth of it each."""
    model = LatencyModel.linear(attention=(0.0, 4.0), ffn=(2.0, 5.0))
    problem = RatioProblem(law=FIXED, latency=model, batch_size=4, ffn_workers=2)
    assert _per_call(problem, 6.0) == pytest.approx(29 / 6)


class Invented:
    """A bundle whose worth is known of every pair of workers and calls."""

    def __init__(self, worth, calls=1):
        self.worth, self.calls = worth, calls
        self.problem = SimpleNamespace(microbatches=2, ffn_weight=1.0)

    def under(self, calls):
        return Invented(self.worth, calls)

    def glance(self, a):
        return self.worth(a, self.calls)

    def evaluate(self, count):
        return SimpleNamespace(mean=1.0)

    def objective(self, count, steps, weight):
        a = int(count[0])
        assert a >= 1
        assert 1 <= self.calls <= 2 * a
        return np.array([self.worth(a, self.calls)])


@pytest.mark.parametrize(
    ("top", "limit", "found"),
    [
        ((13, 9), 64, (13, 9)),
        ((8, 16), 64, (8, 16)),  # all calls of all workers
        ((30, 20), 16, (16, 20)),  # no more workers than may be had
        ((10, 2), 64, (10, 2)),
        ((14, 2), 64, (14, 2)),  # between the numbers that are glanced at
        ((2, 3), 64, (2, 3)),
        ((1, 2), 64, (1, 2)),
    ],
)
def test_a_rule_and_its_workers_are_climbed_to_together(top, limit, found):
    model, best = _best_rule(
        Invented(lambda a, k: -abs(a - top[0]) - abs(k - top[1]) / 2), 10, limit
    )
    assert (best, model.calls) == found


def test_without_a_better_rule_nobody_is_waited_for():
    model, best = _best_rule(Invented(lambda a, k: -k - abs(a - 10) / 9), 10, 64)
    assert (best, model.calls) == (10, 1)
    model, best = _best_rule(Invented(lambda a, k: float(k == 2)), 1, 1)
    assert (best, model.calls) == (1, 2)


def test_a_long_horizon_by_the_renewal_equation():
    """400 steps of outputs of one to three tokens; the chances settle long before."""
    law = IndependentLengths(prompt="fixed:4", decode="uniform:1..3")
    chances = [1.0]
    for j in range(1, 400):
        chances.append(sum(chances[j - i] for i in (1, 2, 3) if i <= j) / 3)
    alive = (1.0, 2 / 3, 1 / 3)
    loads = [
        sum(chances[k - i] * alive[i] * (4 + i) for i in range(3) if i <= k) for k in range(400)
    ]
    assert horizon_mean_load(law, 200, 1) == pytest.approx(sum(loads) / 400, rel=1e-9)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_round_of_two_halves_is_that_of_all_outcomes(ranks):
    chances = np.array([0.2, 0.3, 0.1, 0.25, 0.15])
    law = TimeLaw(lowest=2.0, spacing=1.0, probabilities=chances)
    cases = list(product(range(5), repeat=2 * ranks))
    for out, back in product((0.0, 1.0, 3.5, 4.0, 5.25, 9.0), repeat=2):
        mean = 0.0
        for case in cases:
            x, y = (2.0 + np.array(half) for half in (case[:ranks], case[ranks:]))
            longest = max((x + y).max(), x.max() + out, y.max() + back)
            mean += float(chances[list(case)].prod()) * (3.0 + max(3.0, out, back) + longest)
        found = two_batch_round(law, ranks, ffn=3.0, out=out, back=back)
        assert found.mean[0] == pytest.approx(mean, rel=1e-12)


def test_jobs_are_alike_unless_it_is_said_otherwise():
    a, f, x = np.array([200.0]), np.array([190.0]), np.array([50.0])
    for way in (-20.0, 30.0):
        told = fresh_stage(a, f, a + f + way, x, 2, 0.0)
        for one, other in zip(fresh_stage(a, f, a + f + way, x, 2), told, strict=True):
            assert one.tolist() == other.tolist()


def test_what_the_barrier_costs_is_what_equal_loads_would_give_more():
    latency = LatencyModel.linear(attention=(2.0, 10.0), ffn=(3.0, 5.0), layers=40)
    problem = RatioProblem(law=SHORT, latency=latency, batch_size=4)
    solved = solve_ratio(replace(problem, max_attention_workers=8), problem.slot_loads())
    equal = solved.mean_field.objective(float(solved.best), 1.0)
    assert solved.barrier_cost == pytest.approx(1 - solved.search.objective(solved.best) / equal)
    assert solved.barrier_cost > 0.01


@pytest.mark.parametrize(
    ("limit", "attention", "best", "words"),
    [
        (1, 900.0, 1, ["one attention worker is already"]),
        (2, 900.0, 2, ["largest considered, 2"]),
        (3, 900.0, 3, ["largest considered, 3"]),
        (3, 1.0, 1, ["one attention worker is already"]),
        (9, 30.0, 2, []),
    ],
)
def test_ends_of_the_search_are_told(limit, attention, best, words):
    """The FFN takes 12 for each worker: it catches up with 30 at two or three."""
    latency = LatencyModel.linear(attention=(0.0, attention), ffn=(3.0, 5.0), layers=200)
    law = IndependentLengths(prompt="uniform:3..6", decode="uniform:1..9")
    answer = recommend_ratio(
        law, latency, batch_size=4, max_attention_workers=limit, overlap="ideal"
    )
    assert answer.optimal_attention_workers == best
    for text in ("one attention worker is already", "largest considered"):
        told = [one for one in answer.warnings if text in one]
        assert len(told) == sum(text in one for one in words)
        assert all(any(one in line for line in told) for one in words if text in one)


def test_the_ends_of_what_was_compared_are_inside():
    """Three microbatches, 64 workers and 30 % were; nothing beyond."""
    model = LatencyModel.linear(attention=(0.0, 4.0), ffn=(2.0, 5.0))

    def told(m, a, of_attention, of_ffn):
        scatter = Scatter(attention=of_attention, ffn=of_ffn)
        latency = replace(model, scatter=scatter)
        return [
            warning.split(" are ")[0]
            for warning in barrier_free_warnings(latency, microbatches=m, attention_workers=a)
        ]

    assert told(3, 64.0, 0.3, 0.3) == []
    assert told(4, 64.0, 0.3, 0.0) == ["4 microbatches"]
    assert told(3, 65.0, 0.0, 0.3) == ["65 attention workers"]
    assert told(1, 1.0, 0.4, 0.0) == told(1, 1.0, 0.0, 0.4) == ["40 percent of scatter"]


def test_exponential_moments_of_a_slot():
    """``log E exp(s (k - mean))`` for 24 tilts of 1e-4 to 64 deviations, and of the other side."""
    slot = SHORT.slot_load()
    pmf, k = slot.probabilities, np.arange(slot.probabilities.size)
    mean, tilts, cumulants = _cumulants(slot)
    exact = float(pmf @ k)
    deviation = math.sqrt(float(pmf @ (k - exact) ** 2))
    assert mean == pytest.approx(exact)
    assert tilts.size == 24
    assert tilts[[0, -1]] * deviation == pytest.approx([1e-4, 64.0])
    assert np.diff(np.log(tilts)) == pytest.approx(np.full(23, math.log(64e4) / 23))
    for row, side in enumerate((1, -1)):
        moments = [float(pmf @ np.exp(side * s * (k - exact))) for s in tilts]
        assert cumulants[row] == pytest.approx(np.log(moments), rel=1e-9, abs=1e-15)


def test_ends_of_a_window_by_the_best_of_the_tilts():
    slot = SHORT.slot_load()
    size = slot.probabilities.size - 1
    batch = 1 + 32_768 // size
    assert _window(slot, 3) == (0, 3 * size)
    mean, tilts, cumulants = _cumulants(slot)
    low, high = _window(slot, batch)
    allowed = math.log(2e13)
    above, below = (
        min((batch * c + allowed) / s for c, s in zip(row, tilts, strict=True)) for row in cumulants
    )
    assert high == min(math.ceil(batch * mean + above), batch * size)
    assert low == max(math.floor(batch * mean - below), 0)
    load = convolve_slots(slot, batch)
    assert load.lowest == pytest.approx(batch * slot.lowest + low * slot.spacing)
    assert load.probabilities.size == high - low + 1
    # The last sum of 32,767 is told whole, and of one more no longer.
    assert _window(slot, 32_767 // size)[0] == 0


@pytest.mark.parametrize("exponent", [1, 2, 3, 5, 12, 255])
def test_powers_by_squaring(exponent):
    values = np.exp(1j * np.linspace(0, 3, 7)) * np.linspace(0.5, 1.0, 7)
    assert _power(values, exponent) == pytest.approx(values**exponent)
    assert abs(values[0]) == 0.5  # as it was


@pytest.mark.parametrize(("loads", "batch", "spacing"), [(4682, 7, 1.0), (4097, 8, 36.0)])
def test_so_many_sums_are_told_one_by_one(loads, batch, spacing):
    """Seven of 4,682 loads have 32,768 sums; of one more a point stands for a 32nd deviation."""
    slot = IndependentLengths(prompt=f"uniform:1..{loads}", decode="fixed:1").slot_load()
    assert (slot.probabilities.size, slot.spacing) == (loads, 1.0)
    load = convolve_slots(slot, batch)
    assert load.spacing == spacing
    assert spacing in (1, math.floor(slot.moments.std / 32))
    assert load.mean == pytest.approx(batch * (loads + 1) / 2)
    if spacing == 1:
        assert load.probabilities.size == 32_768
