"""What a bundle without the barrier is played with, and what is read from a play, by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.model.variation import ExpertLoad, Scatter, zipf_popularity
from afdplan.theory.barrier_free import (
    BarrierFreeModel,
    _Played,
    _slowness,
    step_quantiles,
)
from afdplan.theory.fresh_times import ffn_times
from afdplan.theory.modes import _best_rule
from afdplan.theory.pool_play import PoolPlay, PoolTimes, _first_arrivals
from afdplan.theory.problem import RatioProblem

LAW = IndependentLengths(prompt="fixed:2000", decode="fixed:1")
LATENCY = LatencyModel.linear(
    attention=(1e-6, 1e-3), ffn=(1e-4, 2e-3), transfer=(2e-6, 5e-4), layers=10, time_unit="s",
    step_overhead=0.01,
)  # fmt: skip


def model(latency=LATENCY, **changes):
    asked = {"batch_size": 8, "microbatches": 2, "ffn_workers": 2, "execution": "barrier-free"}
    problem = RatioProblem(law=LAW, latency=latency, **(asked | changes))
    return BarrierFreeModel(problem, problem.slot_loads())


def play(rates, rounds=24, **changes):
    """Three calls that go round at these rates in all, shape (draws,)."""
    draws = len(rates)
    asked = {
        "calls_per_time": np.array(rates),
        "calls_per_departure": 1.5,
        "ffn_busy": 0.6,
        "attention_busy": 0.7,
        "wait": 0.1,
        "rounds": np.repeat(3 / np.array(rates), rounds),
        "draw_of_round": np.repeat(np.arange(draws), rounds),
        "round_time": np.repeat(3 / np.array(rates), 3).reshape(draws, 3, 1),
        "round_variance": np.zeros((draws, 3, 1)),
        "is_held": False,
    } | changes
    return PoolPlay(**asked)


def normal(x):
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


@pytest.mark.parametrize("probability", [0.05, 0.5, 0.95, 0.99])
def test_a_step_is_a_mixture_of_the_cells_by_their_pace(probability):
    """Rounds of 1 and of 3, ten a step: three steps of the fast cell for one of the slow."""
    round_time = np.array([[[1.0]], [[3.0]]])
    variance = np.array([[[0.01]], [[0.04]]])
    found = play([3.0, 3.0], round_time=round_time, round_variance=variance)
    (quantile,) = step_quantiles(found, 10, (probability,))
    below = 0.75 * normal((quantile - 10) / math.sqrt(0.1))
    below += 0.25 * normal((quantile - 30) / math.sqrt(0.4))
    assert below == pytest.approx(probability, abs=1e-6)
    for draws, mean, deviation in ((0, 10, math.sqrt(0.1)), (1, 30, math.sqrt(0.4))):
        (alone,) = step_quantiles(found, 10, (probability,), draws)
        assert normal((alone - mean) / deviation) == pytest.approx(probability, abs=1e-6)
    (still,) = step_quantiles(replace(found, round_variance=0 * variance), 10, (0.99,), 0)
    assert still == pytest.approx(10.0)
    # What waits for calls however long stays in the rhythm in which it began: of even draws.
    (held,) = step_quantiles(replace(found, is_held=True), 10, (probability,))
    assert held == step_quantiles(found, 10, (probability,), 0)[0]
    assert step_quantiles(found, 10, ()) == ()


def test_with_one_layer_steps_are_rounds():
    rounds = np.arange(1.0, 11.0)
    found = play([1.0, 1.0])
    found = replace(found, rounds=rounds, draw_of_round=(np.arange(10) >= 5).astype(np.int64))
    assert step_quantiles(found, 1, (0.5,)) == (5.5,)
    assert step_quantiles(found, 1, (0.5,), 0) == (3.0,)
    assert step_quantiles(found, 1, (0.5, 1.0), 1) == (8.0, 10.0)


def test_two_rhythms_of_even_and_odd_draws():
    """Rounds of 1 where calls begin together, and of 1.02 where they begin apart."""
    together, apart = 3.0, 3.0 / 1.02
    two = play([together, apart] * 8)
    assert two.other_rhythm == pytest.approx(0.02)
    assert two.mean_round == pytest.approx(1.0)
    assert two.farthest_rhythm == pytest.approx(1 - 1 / 1.02)
    assert not two.has_one_law
    near = play([together, 3.0 / 1.0149] * 8)
    assert near.other_rhythm == 0.0
    assert near.mean_round == pytest.approx(1.00745)
    assert near.has_one_law
    assert not replace(near, is_held=True).has_one_law
    # Nine even draws of 1 and 1.2 in turn: the mean is 0.033 times as sure as they differ.
    spread = np.array([1.0, 1.2, 1.0, 1.2, 1.0, 1.2, 1.0, 1.2])
    noise = 0.1 / math.sqrt(8) / 1.1
    for difference, told in ((2.9 * noise, False), (3.1 * noise, True)):
        rates = np.empty(16)
        rates[::2], rates[1::2] = 3 / spread, 3 / (1.1 * (1 + difference))
        assert (play(rates.tolist()).other_rhythm > 0) is told


def test_slowness_by_level_of_the_load():
    """Two cells in two draws: twice the mean round at high levels, none at most of the others."""
    levels = np.array([[0.01, 0.99], [0.02, 0.98]])
    pilot = SimpleNamespace(round_time=np.array([[[1.0], [3.0]], [[2.0], [6.0]]]))
    found = _slowness(_Played(play=pilot, levels=levels))
    assert found.size == 16
    assert found.tolist() == [0.5, *[1.0] * 14, 1.5]


@pytest.mark.parametrize("load", ["worker", "aggregate"])
def test_times_that_are_played(load):
    latency = replace(
        LATENCY,
        send=replace(LATENCY.send, load=load),
        receive=replace(LATENCY.receive, load=load),
        scatter=Scatter(attention=0.1, send=0.2, receive=0.3),
        experts=ExpertLoad(
            experts=8,
            experts_per_token=2,
            ranks_per_worker=2,
            popularity=(zipf_popularity(8, 1.0), *((0.125,) * 8 for _ in range(9))),
        ),
        step_overhead=0.2,
    )
    found = model(latency)._times(3, np.full((2, 6), 0.5))
    assert found.attention.shape == (2, 3, 2, 1)
    assert found.attention == pytest.approx(np.full((2, 3, 2, 1), 1e-3 + 8 * 2000e-6))
    tokens = 4.0 * np.arange(7)  # a call of 8 tokens shared by two FFN workers
    ffn = ffn_times(latency, np.maximum(tokens, 4.0), 2)
    assert found.ffn == pytest.approx(ffn.mean)
    assert (ffn.between > 0.01 * ffn.fresh).all()
    assert found.ffn_cv == pytest.approx(np.hypot(ffn.fresh, ffn.between) / ffn.mean)
    assert (found.attention_cv, found.send_cv, found.receive_cv) == (0.1, 0.2, 0.3)
    own = 4.0 if load == "aggregate" else 8.0
    assert found.out == pytest.approx(5e-4 + 2e-6 * own)
    assert found.out_occupied == pytest.approx(2e-6 * own)
    assert found.back == pytest.approx(5e-4 + 2e-6 * own)
    assert found.shares_link is (load == "aggregate")
    if load == "aggregate":
        assert found.back_of_calls == pytest.approx(np.stack([5e-4 + 2e-6 * tokens, 2e-6 * tokens]))
    else:
        assert found.back_of_calls is None
    assert found.overhead == 0.2


def test_a_small_overhead_of_many_layers_is_spread_over_them():
    """Attention of a step is 10 layers of 2 times 17 ms: 0.34 s, a tenth of it 34 ms."""
    levels = np.full((1, 4), 0.5)
    alone = 1e-3 + 8 * 2000e-6
    for overhead, layers, spread in (
        (0.033, 10, True), (0.035, 10, False), (0.001, 8, False), (0.001, 9, True),
    ):  # fmt: skip
        found = model(replace(
            LATENCY.with_coefficients({"step_overhead": overhead}),
            attention=(replace(LATENCY.attention[0], layers=layers),),
        ))._times(2, levels)  # fmt: skip
        first, second = found.attention[0, 0, :, 0]
        assert second == pytest.approx(alone)
        assert first == pytest.approx(alone + (overhead / layers if spread else 0.0))
        assert found.overhead == (0.0 if spread else overhead)


@pytest.mark.parametrize(
    ("workers", "glanced", "drawn"), [(1, 128, 160), (8, 16, 128), (20, 8, 51), (64, 8, 24)]
)
def test_few_calls_need_many_draws(workers, glanced, drawn):
    """Of two microbatches each: 256 cells or 8 draws at a glance, 2,048 and 24 to 160 else."""
    bundle, asked = model(), []

    def drawing(count, draws, slowness=None):
        asked.append((count, draws, slowness is None))
        return _Played(
            play=play([3.0] * 2, round_time=np.ones((2, 3, 1))), levels=np.full((2, 3), 0.5)
        )

    bundle._play = drawing
    objective = bundle.glance(workers)
    assert asked == [(workers, glanced, True)]
    assert objective == pytest.approx(workers * 16 / 10 / (workers + 2))  # ten layers of 1 s
    found = bundle.play(workers)
    assert bundle.play(workers) is found  # drawn once
    assert asked[1:] == [(workers, -(-drawn // 2), True), (workers, drawn, False)]


def test_resources_of_a_bundle_by_hand():
    bundle = model()
    bundle._played[3] = _Played(play=play([3.0, 3.0]), levels=np.zeros((2, 6)))
    found = bundle.resources(3)
    attention, way = 1e-3 + 8 * 2000e-6, 5e-4 + 2e-6 * 8
    ffn = 2e-3 + 1e-4 * 1.5 * 4
    assert found == pytest.approx(
        {
            "attention": attention,
            "communication": way,
            "ffn": ffn * 3 / 1.5,
            "latency": (attention + 2 * way + ffn) / 2,
        }
    )
    times = bundle.evaluate(np.array([3.0]), (0.5,))
    assert times.mean == pytest.approx([10.0])
    assert times.cycle == pytest.approx([(10 - 0.01) / 20])
    assert times.attention_idle_fraction == pytest.approx([0.3])
    assert times.ffn_idle_fraction == pytest.approx([0.4])
    assert times.quantiles[0, 0] == pytest.approx(10.0)
    assert bundle.objective(np.array([3.0]), times.mean, 1.0) == pytest.approx([3 * 16 / 10 / 5])
    low, high = bundle.p99_between(3)
    assert (low, high) == pytest.approx((10 * 0.96, 10 * 1.04))
    two = play([3.0, 3.0 / 1.1] * 8)
    bundle._played[3] = _Played(play=two, levels=np.zeros((16, 6)))
    low, high = bundle.p99_between(3)
    assert (low, high) == pytest.approx((10 * 0.96, 11 * 1.04))
    plain = model(microbatches=1)
    plain._played[3] = _Played(play=play([3.0, 3.0]), levels=np.zeros((2, 6)))
    assert bundle.stated_error(3) - plain.stated_error(3) == pytest.approx(1 - 1 / 1.1)


@pytest.mark.parametrize(("send", "receive"), [(4e-3, 1e-3), (1e-3, 4e-3)])
def test_the_slower_way_is_the_communication(send, receive):
    latency = LATENCY.with_coefficients({"send.intercept": send, "receive.intercept": receive})
    bundle = model(latency)
    bundle._played[3] = _Played(play=play([3.0, 3.0]), levels=np.zeros((2, 6)))
    found = bundle.resources(3)
    assert found["communication"] == pytest.approx(4e-3 + 2e-6 * 8)
    ways, ffn = 5e-3 + 2 * 2e-6 * 8, 2e-3 + 1e-4 * 1.5 * 4
    assert found["latency"] == pytest.approx((1e-3 + 8 * 2000e-6 + ways + ffn) / 2)


@pytest.mark.parametrize("layers", [8, 9])
def test_of_few_layers_all_rounds_of_a_step_may_be_slow(layers):
    """Rounds of 1 and one of 3 in 24: the latter eight times, but for a tail of two in a thousand.

    The mean round is 1 in all cells, whose rounds do not vary: steps of as many as layers.
    """
    bundle = model(replace(
        LATENCY.with_coefficients({"step_overhead": 0.0}),
        attention=(replace(LATENCY.attention[0], layers=layers),),
    ))  # fmt: skip
    rounds = np.ones(48)
    rounds[[5, 29]] = 3.0
    bundle._played[3] = _Played(
        play=replace(play([3.0, 3.0]), rounds=rounds), levels=np.zeros((2, 6))
    )
    low, high = bundle.p99_between(3)
    assert low == pytest.approx(layers * 0.96)
    slowest = 8 * float(np.quantile(rounds, 0.998)) if layers == 8 else layers
    assert high == pytest.approx(slowest * 1.04)


def test_calls_first_come_together_in_even_draws_and_apart_in_odd_ones():
    times = PoolTimes(
        attention=np.full((4, 2, 3, 1), 2.0), kind_of_layer=np.zeros(5, np.int64), overhead=0.0,
        ffn=np.array([0.0, 1.0, 2.0, 4.0]), ffn_cv=None, out=0.5, back=0.25, out_occupied=0.0,
        shares_link=False, back_of_calls=None,
    )  # fmt: skip
    drawn = SimpleNamespace(random=lambda shape: np.linspace(1.0, 0.0, 24).reshape(shape))
    found = _first_arrivals(times, drawn).reshape(4, 2, 3)
    assert found[0, 1].tolist() == [2.5, 4.5, 6.5]
    assert found[2, 0].tolist() == [2.5, 4.5, 6.5]
    # A round lasts three jobs of attention at least: 6, more than the trip of 4.75.
    assert found[3, 1] == pytest.approx(6.0 * np.array([0, 1, 2]) / 23)
    slow = replace(times, ffn=np.array([0.0, 1.0, 2.0, 9.0]))
    found = _first_arrivals(slow, drawn).reshape(4, 2, 3)
    assert found[3, 1] == pytest.approx((2.75 + 4.5) * np.array([0, 1, 2]) / 23)


class Ruled:
    """A pool whose objective is known at any A and any rule of calls."""

    def __init__(self, objective, calls=1, microbatches=3):
        self.known, self.calls = objective, calls
        self.problem = SimpleNamespace(microbatches=microbatches, ffn_weight=1.0)

    def under(self, calls):
        return Ruled(self.known, calls, self.problem.microbatches)

    def glance(self, workers):
        return self.known(workers, self.calls)

    def evaluate(self, workers):
        return SimpleNamespace(mean=1 / np.array([self.known(a, self.calls) for a in workers]))

    def objective(self, workers, steps, weight):
        return 1 / steps


@pytest.mark.parametrize("limit", [6, 11, 30])
@pytest.mark.parametrize("top", [(12, 7), (9, 2), (11, 33), (7, 21)])
def test_workers_and_rule_of_a_hill_are_found_together(limit, top):
    """Around ten workers, the best of a pool that waits for nobody: never more than are allowed."""

    def hill(a, k):
        away = math.log(a / top[0]) ** 2 + 0.3 * math.log(k / top[1]) ** 2
        return math.exp(-away) * (0.5 if k == 1 else 1.0)

    start = min(10, limit)
    model, workers = _best_rule(Ruled(hill), start, limit)
    tried = {(a, k): hill(a, k) for a in range(1, limit + 1) for k in range(1, 3 * a + 1)}
    assert 1 <= workers <= limit
    assert 1 <= model.calls <= 3 * workers
    assert hill(workers, model.calls) == pytest.approx(max(tried.values()))
    alone, kept = _best_rule(Ruled(lambda a, k: 1.0 / k), start, limit)
    assert (alone.calls, kept) == (1, start)
