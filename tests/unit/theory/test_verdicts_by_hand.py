"""Intervals, smaller bundles and the pay of a barrier, where all that is asked for is invented."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.model.uncertainty import Uncertainty
from afdplan.model.validity import Validity
from afdplan.model.variation import ExpertLoad
from afdplan.theory import recommend as room
from afdplan.theory.cycle import StepTimes
from afdplan.theory.latency_draws import drawn_interval
from afdplan.theory.modes import compare_modes
from afdplan.theory.pool_play import PoolPlay
from afdplan.theory.problem import RatioProblem
from afdplan.theory.ratio import ModeVerdict
from afdplan.theory.recommend import (
    _latency_uncertainty,
    _load_uncertainty,
    _replication,
    _warnings,
)
from afdplan.theory.search import WorkerSearch
from afdplan.theory.solve import solve_ratio
from afdplan.theory.step_model import step_model

LAW = IndependentLengths(prompt="uniform:3..9", decode="uniform:1..5")
LATENCY = LatencyModel.linear(
    attention=(0.5, 10.0), ffn=(0.25, 5.0), transfer=(0.1, 1.0), layers=40,
    uncertainty=Uncertainty(coefficients=("attention.intercept",), draws=[[9.0], [12.0]]),
)  # fmt: skip
PROBLEM = RatioProblem(law=LAW, latency=LATENCY, batch_size=8)


class Peaked:
    """Steps that make the objective peak at a number of workers: 1 / (1 + (A / top - 1)^2)."""

    whole_numbers = False

    def __init__(self, problem, top, gain=1.0):
        self.problem, self.top, self.gain = problem, top, gain

    def evaluate(self, workers, probabilities=()):
        steps = (1 + (workers / self.top - 1) ** 2) / self.gain
        none = np.zeros_like(workers)
        return StepTimes(
            mean=steps, quantiles=np.zeros((workers.size, 0)), cycle=steps,
            attention_idle_fraction=none, ffn_idle_fraction=none,
        )  # fmt: skip

    def objective(self, workers, steps, weight):
        return 1 / steps


@pytest.mark.parametrize(
    ("best", "limit", "whole", "ends", "count"),
    [
        (30, 400, False, (10.0, 92), 40),
        (30, 60, False, (10.0, 60), 40),
        (2, 400, False, (1.0, 8), 40),
        (30, 400, True, (10.0, 92), 5),
    ],
)
def test_models_as_likely_are_compared_around_the_best(
    monkeypatch, best, limit, whole, ends, count
):
    """Tops of drawn models at 0.8 to 1.2 of it; the quick barrier's own is at nine tenths."""
    tops = best * np.linspace(0.8, 1.2, 39)
    seen = []

    def drawn(problem, slots, workers):
        seen.append(workers)
        return (
            Peaked(problem, 0.9 * best).evaluate(workers).mean,
            np.array([Peaked(problem, top).evaluate(workers).mean for top in tops]),
        )

    monkeypatch.setattr(room, "drawn_step_times", drawn)
    stated = Peaked(PROBLEM, float(best), gain=0.5)
    stated.whole_numbers = whole
    found = _latency_uncertainty(PROBLEM, (), stated, best, limit)
    (workers,) = seen
    expected = {*np.rint(np.geomspace(*ends, count)).tolist(), float(best)}
    assert workers.tolist() == sorted(expected)
    quick = 1 / (1 + (workers / (0.9 * best) - 1) ** 2)
    middle = workers[quick.argmax()]
    values = 1 / (1 + (workers[None, :] / tops[:, None] - 1) ** 2)
    moved = np.clip(best + workers[values.argmax(axis=1)] - middle, 1, limit)
    low, high = drawn_interval(moved)
    assert (found.low, found.high) == (int(np.floor(low)), int(np.ceil(high)))
    at = workers.tolist().index(best)
    lost = 1 - quick[at] / quick.max()
    regrets = 1 - values[:, at] / values.max(axis=1)
    assert found.mean_regret == pytest.approx(max(regrets.mean() - lost, 0.0))
    assert (found.confidence, found.draws) == (0.95, 39)
    # A step of 2 by the asked model, and by the drawn ones as much longer as they are.
    steps = 2.0 * quick[at] / values[:, at]
    assert (found.step_time_low, found.step_time_high) == pytest.approx(drawn_interval(steps))


def test_both_ends_of_the_load_are_solved_again(monkeypatch):
    """A best of 10 at half of the load and of 40 at twice; 20 as it is."""
    asked = []

    def step_model(problem, slots):
        factor = slots[0].moments.mean / LAW.slot_load().moments.mean
        asked.append(round(factor, 9))
        return Peaked(problem, 20 * factor)

    monkeypatch.setattr(room, "step_model", step_model)
    search = WorkerSearch(Peaked(PROBLEM, 20.0), 64)
    load = Estimate(value=8.0, low=4.0, high=16.0, confidence=0.95, method="given")
    found = _load_uncertainty(PROBLEM, search, load, 64)
    assert asked == [0.5, 2.0]
    assert (found.low, found.high, found.token_load) == (10, 40, load)
    assert found.largest_regret == pytest.approx(0.5)  # 1 - 1 / (1 + 1) at half of the load
    assert _load_uncertainty(PROBLEM, search, load, 30).high == 30
    assert _load_uncertainty(PROBLEM, search, replace(load, low=0.0), 64).low == 1
    assert asked[-2:] == [1e-6, 2.0]
    for none in (None, replace(load, confidence=1.0, low=8.0, high=8.0)):
        assert _load_uncertainty(PROBLEM, search, none, 64) is None
    far = replace(PROBLEM, horizon=3, method="mean-field")
    assert _load_uncertainty(far, search, load, 64) is None


@pytest.mark.parametrize(("ffn_workers", "tried"), [(1, []), (7, [7]), (12, [2, 3, 4, 6, 12])])
def test_every_even_division_of_a_bundle(monkeypatch, ffn_workers, tried):
    asked = []

    def step_model(problem, slots):
        asked.append(problem.ffn_workers)
        return Peaked(problem, 7.0, gain=1.0 + (problem.ffn_workers == 3))

    monkeypatch.setattr(room, "step_model", step_model)
    problem = replace(PROBLEM, ffn_workers=ffn_workers)
    search = WorkerSearch(Peaked(problem, 30.0), 64)
    found = _replication(problem, (), search)
    assert asked == [ffn_workers // bundles for bundles in tried]
    if not tried:
        assert found is None
    elif ffn_workers == 12:  # four of three FFN workers; 30 are seven or eight each
        assert (found.bundles, found.ffn_workers, found.attention_workers) == (4, 3, 7)
        assert found.gain == pytest.approx(1.0)
    else:
        assert (found.bundles, found.ffn_workers, found.attention_workers) == (7, 1, 5)
        assert found.gain == pytest.approx(1 / (1 + (5 / 7 - 1) ** 2) - 1)


def test_no_more_than_twelve_divisions_are_tried(monkeypatch):
    asked = []

    def step_model(problem, slots):
        asked.append(problem.ffn_workers)
        return Peaked(problem, 7.0)

    monkeypatch.setattr(room, "step_model", step_model)
    problem = replace(PROBLEM, ffn_workers=120)
    found = _replication(problem, (), WorkerSearch(Peaked(problem, 3.0), 64))
    assert asked == [24, 20, 15, 12, 10, 8, 6, 5, 4, 3, 2, 1]  # not 60, 40 and 30
    assert found.attention_workers == 1  # three workers in 5 bundles: none has less than one


def test_the_pay_of_a_barrier_by_its_parts():
    """Each way by its own search; the FFN reads its weights again at every departure."""
    plain = replace(LATENCY, uncertainty=None)
    problem = RatioProblem(
        law=LAW, latency=plain, batch_size=8, ffn_workers=2, microbatches=1,
        execution="barrier-free", ffn_weight=2.0,
    )  # fmt: skip
    slots = problem.slot_loads()
    solved = solve_ratio(replace(problem, max_attention_workers=6), slots)
    found = compare_modes(replace(problem, max_attention_workers=solved.limit), slots, solved)
    barrier = solve_ratio(replace(problem, execution="synchronous", max_attention_workers=6), slots)
    best = barrier.search.point(barrier.best)
    assert found.synchronous_attention_workers == barrier.best
    assert found.synchronous_objective == best.objective
    assert found.synchronous_step_time == best.step_time
    assert found.synchronous_ffn_idle_fraction == best.ffn_idle_fraction
    assert found.barrier_saved == barrier.barrier_cost
    model = solved.model.under(found.least_calls)
    count = np.array([float(found.attention_workers)])
    step = model.evaluate(count, (0.5, 0.95, 0.99))
    assert found.step_time == step.mean[0]
    assert [found.step_time_p50, found.step_time_p95, found.step_time_p99] == (
        step.quantiles[0].tolist()
    )
    low, high = model.p99_between(found.attention_workers)
    assert (found.step_time_p99_low, found.step_time_p99_high) == (low, high)
    assert found.ffn_idle_fraction == step.ffn_idle_fraction[0]
    # Eight tokens a worker, two FFN workers at twice the cost.
    tokens = found.attention_workers * 8 / step.mean[0]
    assert found.objective == pytest.approx(tokens / (found.attention_workers + 2 * 2))
    assert found.gain == pytest.approx(found.objective / best.objective - 1)
    assert found.execution == ("barrier-free" if found.gain > 0 else "synchronous")
    assert found.objective >= solved.search.objective(solved.best)
    calls = model.play(found.attention_workers).play.calls_per_departure
    assert found.calls_per_departure == calls
    assert found.step_time_error == model.stated_error(found.attention_workers)
    per_call = [(5 + 0.25 * n * 8 / 2) / n for n in (calls, barrier.best)]
    assert found.floor_paid == pytest.approx(per_call[0] / per_call[1] - 1)


def test_a_rule_that_was_asked_for_is_kept():
    plain = replace(LATENCY, uncertainty=None)
    problem = RatioProblem(
        law=LAW, latency=plain, batch_size=8, microbatches=1, execution="barrier-free",
        least_calls=2, method="mean-field",
    )  # fmt: skip
    slots = problem.slot_loads()
    solved = solve_ratio(replace(problem, max_attention_workers=5), slots)
    found = compare_modes(replace(problem, max_attention_workers=solved.limit), slots, solved)
    assert (found.attention_workers, found.least_calls) == (solved.best, 2)
    # A mean field knows no law.
    told = (found.step_time_p50, found.step_time_p99, found.step_time_p99_low)
    assert told == (None, None, None)
    assert found.step_statistic("p99") == found.step_statistic("mean") == found.step_time


def test_what_a_mode_tells_of_its_step():
    verdict = SimpleNamespace(
        step_time=1.0, step_time_p50=2.0, step_time_p95=3.0, step_time_p99=4.0
    )
    told = [ModeVerdict.step_statistic(verdict, one) for one in ("mean", "p50", "p95", "p99")]
    assert told == [1.0, 2.0, 3.0, 4.0]


def told(problem, best=3, limit=9, play=None):
    """Return what is said of a bundle whose optimum is invented."""
    slots = problem.slot_loads()
    model = step_model(problem, slots)
    if play is not None:
        model._played[best] = SimpleNamespace(play=play)
    return _warnings(problem, slots, SimpleNamespace(best=best, limit=limit, model=model))


LONG = IndependentLengths(prompt="uniform:3..9", decode="uniform:100..500")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"microbatches": 6}, ["6 microbatches are beyond"]),
        ({"microbatches": 6, "overlap": "ideal"}, []),
        ({"microbatches": 6, "method": "mean-field"}, []),
        ({"best": 1}, ["already enough for 1 FFN worker:"]),
        ({"best": 1, "limit": 1, "ffn_workers": 2}, ["already enough for 2 FFN workers:"]),
        ({"best": 9}, ["is the largest considered, 9"]),
        ({"best": 100_000, "limit": 100_000, "overlap": "ideal"}, ["still rises at 100,000"]),
        ({"law": IndependentLengths(prompt="fixed:4", decode="fixed:300")}, ["all requests are"]),
        (
            {"law": IndependentLengths(prompt="fixed:4", decode="fixed:300"), "phase": "aligned"},
            [],
        ),
        ({"law": IndependentLengths(prompt="fixed:4", decode="fixed:1"), "overlap": "ideal"}, []),
        ({"experts": ExpertLoad(imbalance=1.1)}, []),
        (
            {"experts": ExpertLoad(imbalance=1.1), "method": "mean-field"},
            ["the mean field takes the mean time of the slowest FFN rank"],
        ),
        ({"ffn": (5.0, 11.9)}, ["this design runs at 12: extrapolated"]),
        ({"ffn": (12.0, 12.0), "ffn_workers": 2}, []),
        ({"ffn": (12.0, 13.0), "ffn_workers": 1}, ["this design runs at 24: extrapolated"]),
    ],
)
def test_what_is_said_of_an_answer(changes, words):
    """Three workers of 8: 24 tokens of one FFN worker, 12 of two."""
    changes = dict(changes)
    where = {name: changes.pop(name) for name in ("best", "limit") if name in changes}
    bounds, experts = changes.pop("ffn", None), changes.pop("experts", None)
    if bounds == (5.0, 11.9):
        changes["ffn_workers"] = 2
    latency = replace(
        LATENCY, uncertainty=None, experts=experts, validity=Validity(ffn_tokens=bounds)
    )
    problem = RatioProblem(**{"law": LONG, "latency": latency, "batch_size": 8} | changes)
    found = told(problem, **where)
    assert len(found) == len(words), found
    for word, line in zip(words, found, strict=True):
        assert word in line


def test_what_is_said_without_the_barrier():
    """A departure of one and a half calls of 8 tokens each; rounds of 1 or of 1.1."""

    def playing(apart):
        rates = 3 / np.tile([1.0, apart], 8)
        return PoolPlay(
            calls_per_time=rates, calls_per_departure=1.5, ffn_busy=0.6, attention_busy=0.7,
            wait=0.1, rounds=3 / rates, draw_of_round=np.arange(16),
            round_time=np.ones((16, 3, 1)), round_variance=np.zeros((16, 3, 1)), is_held=False,
        )  # fmt: skip

    def said(apart=1.0, m=1, **bounds):
        latency = replace(LATENCY, uncertainty=None, validity=Validity(**bounds))
        problem = RatioProblem(
            law=LONG, latency=latency, batch_size=8, execution="barrier-free", microbatches=m
        )
        return told(problem, play=playing(apart))

    assert said(ffn_tokens=(12.0, 12.0)) == []
    (line,) = said(ffn_tokens=(13.0, 40.0))
    assert "this design runs at 12: extrapolated" in line
    (line,) = said(m=4)
    assert line.startswith("4 microbatches are beyond the 3")
    (line,) = said(apart=1.1)
    assert line.startswith("rounds are +10.0 % as long where calls do not begin together: 3 att")
    assert "may be 12 % off" in line  # 3 %, and 1 - 1 / 1.1


@pytest.mark.parametrize("method", ["exact", "mean-field"])
def test_an_optimum_of_three_ffn_workers(method):
    problem = RatioProblem(
        law=LAW, latency=replace(LATENCY, uncertainty=None), batch_size=8, ffn_workers=3,
        method=method, ffn_weight=0.5,
    )  # fmt: skip
    slots = problem.slot_loads()
    solved = solve_ratio(replace(problem, max_attention_workers=90), slots)
    field = solved.mean_field.optimal_ratio(ffn_weight=0.5, lowest=1 / 3, highest=30.0)
    assert solved.mean_field_ratio == field
    real = field if method == "mean-field" else solved.search.real_best() / 3
    assert solved.optimal_ratio == pytest.approx(real)
    assert 3 < solved.best < 90
    assert abs(3 * solved.optimal_ratio - solved.best) <= 1
    assert solved.resource_times == solved.model.resources(3 * solved.optimal_ratio)
    equal = solved.mean_field.objective(solved.best / 3, 0.5)
    assert solved.search.objective(solved.best) <= equal * (1 + 1e-12)
    cost = 1 - solved.search.objective(solved.best) / equal
    assert solved.barrier_cost == pytest.approx(max(cost, 0.0), abs=1e-9)
    longest = max(solved.resource_times.values())
    assert solved.resource_times[solved.bottleneck] == pytest.approx(longest)
