from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from afdplan.errors import InvalidInputError, LatencyModelError, UnsupportedError
from afdplan.lengths.law import IndependentLengths
from afdplan.model.curve import LinearCurve
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers
from afdplan.model.uncertainty import Uncertainty
from afdplan.model.validity import Validity
from afdplan.theory.attention_time import exact_time
from afdplan.theory.barrier import barrier_mean
from afdplan.theory.cycle import CycleModel
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend_ratio
from afdplan.theory.validity import short_life_error
from tests.models import PAPER, correlated, geometric

FIXED = IndependentLengths(prompt="200", decode="60")


def steps(law, latency, workers=(1.0, 4.0, 9.0), **options):
    problem = RatioProblem(law=law, latency=latency, **({"batch_size": 32} | options))
    return CycleModel(problem, problem.slot_loads()).evaluate(np.array(workers), (0.5, 0.99))


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_constant_loads_agree_across_methods(m):
    # D = 1: every slot holds P at all times, so no method may see any randomness.
    law = IndependentLengths(prompt="500", decode="1")
    expected = steps(law, PAPER, method="mean-field", microbatches=m)
    for method in ("gaussian", "exact"):
        got = steps(law, PAPER, method=method, microbatches=m)
        np.testing.assert_allclose(got.mean, expected.mean, rtol=1e-12)
        np.testing.assert_allclose(got.quantiles, expected.quantiles, rtol=1e-12)
    aligned = steps(law, PAPER, phase="aligned", microbatches=m)
    np.testing.assert_allclose(aligned.mean, expected.mean, rtol=1e-12)


def test_zero_attention_slope_sees_no_randomness():
    latency = LatencyModel.linear(attention=(0.0, 120.0), ffn=(0.083, 100.0), transfer=(0.1, 9.0))
    expected = steps(geometric(), latency, method="mean-field", microbatches=3)
    got = steps(geometric(), latency, microbatches=3)
    np.testing.assert_allclose(got.mean, expected.mean, rtol=1e-12)


def test_aligned_phase_averages_the_round_over_ages():
    got = steps(FIXED, PAPER, phase="aligned")
    n = 32 * np.array([1.0, 4.0, 9.0])
    f, c = 0.083 * n + 100, 0.022 * 32 + 20
    rounds = []
    for age in range(60):
        a = 50 + 0.00165 * 32 * (200 + age)
        rounds.append(np.maximum(np.maximum(2 * a, 2 * f), np.maximum(2 * c, a + f + 2 * c)))
    np.testing.assert_allclose(got.mean, np.mean(rounds, axis=0), rtol=1e-12)
    np.testing.assert_allclose(got.quantiles[:, 1], np.max(rounds, axis=0), rtol=1e-12)


def test_many_aligned_ages_are_sampled_evenly():
    law = IndependentLengths(prompt="1000", decode="100000")
    few = steps(law, PAPER, phase="aligned").mean
    f = 0.083 * 32 * np.array([1.0, 4.0, 9.0]) + 100
    a = 50 + 0.00165 * 32 * (1000 + np.arange(100_000.0))
    c = 0.022 * 32 + 20
    rounds = np.maximum(np.maximum(2 * a, 2 * f[:, None]), a + f[:, None] + 2 * c)
    np.testing.assert_allclose(few, rounds.mean(axis=1), rtol=1e-6)


def test_methods_are_ordered():
    field, gauss, exact = (
        steps(geometric(), PAPER, method=method).mean
        for method in ("mean-field", "gaussian", "exact")
    )
    assert (field <= gauss * (1 + 1e-12)).all()
    np.testing.assert_allclose(gauss, exact, rtol=0.03)


def test_layers_overhead_and_tokens_per_step():
    latency = replace(
        LatencyModel.linear(attention=(0.001, 5.0), ffn=(0.01, 2.0), layers=61),
        step_overhead=40.0,
        tokens_per_step=1.9,
    )
    plain = replace(latency, step_overhead=0.0, tokens_per_step=1.0)
    one = LatencyModel.linear(attention=(0.001, 5.0), ffn=(0.01, 2.0))
    # One microbatch: the round of many does depend on the layers (loads move only between steps).
    got, bare, single = (steps(geometric(), x, microbatches=1) for x in (latency, plain, one))
    np.testing.assert_allclose(bare.mean, 61 * single.mean, rtol=1e-12)
    np.testing.assert_allclose(got.mean, bare.mean + 40, rtol=1e-12)
    np.testing.assert_allclose(got.quantiles, bare.quantiles + 40, rtol=1e-12)
    best, plainly = (recommend_ratio(geometric(), x, batch_size=32).best for x in (latency, plain))
    assert best.throughput_per_instance == pytest.approx(
        plainly.throughput_per_instance * 1.9 * plainly.step_time / best.step_time, rel=0.02
    )


def test_context_windows_bound_the_load_of_their_layers():
    curve = LinearCurve(slope=0.00165, intercept=50.0)
    kinds = (
        AttentionLayers(curve=curve, layers=2),
        AttentionLayers(curve=curve, layers=3, context_window=128),
    )
    mixed = replace(PAPER, attention=kinds)
    full = replace(PAPER, attention=(kinds[0],))
    windowed = replace(PAPER, attention=(kinds[1],))
    whole = steps(geometric(), mixed).mean
    np.testing.assert_allclose(
        whole, steps(geometric(), full).mean + steps(geometric(), windowed).mean, rtol=1e-12
    )
    answer = recommend_ratio(geometric(), mixed, batch_size=256)
    wide = recommend_ratio(geometric(), full, batch_size=256)
    assert answer.optimal_ratio < wide.optimal_ratio


@pytest.mark.parametrize("m", [1, 2, 3])
def test_drain_adds_the_emptying_of_the_pipeline(m):
    law = IndependentLengths(prompt="500", decode="1")
    latency = replace(PAPER, attention=(replace(PAPER.attention[0], layers=4),))
    drained = replace(latency, drain=True)
    workers = np.array([1.0, 4.0, 30.0])
    f, c = 0.083 * 32 * workers + 100, 0.022 * 32 + 20
    a = 50 + 0.00165 * 32 * 500
    period = np.maximum(np.maximum(m * a, m * f), np.maximum(m * c, a + f + 2 * c))
    last = np.maximum(m * a + f + 2 * c, np.maximum(a + m * f + 2 * c, a + f + 2 * c + (m - 1) * c))
    for method in ("exact", "mean-field"):
        got = steps(law, drained, workers, method=method, microbatches=m).mean
        np.testing.assert_allclose(got, 3 * period + last, rtol=1e-12)
    assert (steps(geometric(), drained).mean >= steps(geometric(), latency).mean).all()


def test_idle_fractions_follow_from_busy_times():
    problem = RatioProblem(law=geometric(), latency=PAPER, batch_size=256)
    got = CycleModel(problem, problem.slot_loads()).evaluate(np.array([7.0]))
    attention = 50 + 0.00165 * 256 * geometric().token_load().mean
    assert got.attention_idle_fraction[0] == pytest.approx(
        1 - 2 * attention / got.mean[0], rel=1e-6
    )
    assert got.ffn_idle_fraction[0] == pytest.approx(
        1 - 2 * (0.083 * 256 * 7 + 100) / got.mean[0], rel=1e-9
    )


def test_real_optimum_is_at_least_as_good_as_the_integer():
    answer = recommend_ratio(geometric(), PAPER, batch_size=256)
    problem = RatioProblem(law=geometric(), latency=PAPER, batch_size=256)
    model = CycleModel(problem, problem.slot_loads())
    around = answer.optimal_ratio + np.array([-0.02, 0.0, 0.02])
    values = model.objective(around, model.evaluate(around).mean, 1.0)
    assert values.argmax() == 1
    assert values[1] >= answer.best.objective


def test_uncertain_load_moves_the_answer_and_nothing_else_does():
    exact = recommend_ratio(geometric(), PAPER, batch_size=256)
    load = Estimate(value=599.0, low=500.0, high=700.0, confidence=0.95, method="given")
    answer = recommend_ratio(geometric(), PAPER, batch_size=256, token_load=load)
    assert exact.uncertainty is None
    assert answer.curve == exact.curve
    assert answer.uncertainty.low <= answer.optimal_attention_workers <= answer.uncertainty.high
    assert answer.uncertainty.low < answer.uncertainty.high
    low = recommend_ratio(geometric(100, 401), PAPER, batch_size=256)
    assert answer.uncertainty.low == pytest.approx(low.optimal_attention_workers, abs=1)


def test_standard_errors_of_the_latency_model_move_the_answer():
    sure = replace(
        PAPER, uncertainty=Uncertainty(coefficients=("ffn.slope",), covariance=[[1e-12]])
    )
    unsure = replace(
        PAPER, uncertainty=Uncertainty(coefficients=("ffn.slope",), covariance=[[0.02**2]])
    )
    exact, narrow, wide = (
        recommend_ratio(geometric(), model, batch_size=256).latency_uncertainty
        for model in (PAPER, sure, unsure)
    )
    assert exact is None
    assert (narrow.low, narrow.high, narrow.mean_regret) == (7, 7, 0.0)
    assert wide.low < 7 < wide.high
    assert 0 < wide.mean_regret < 0.2


def test_coupled_bundles_are_slower_than_replicated_ones():
    answer = recommend_ratio(
        geometric(), PAPER, batch_size=256, ffn_workers=4, max_attention_workers=28
    )
    assert answer.optimal_attention_workers == 28
    assert (answer.replication.bundles, answer.replication.ffn_workers) == (4, 1)
    assert answer.replication.attention_workers == 7
    assert 0.01 < answer.replication.gain < 0.05
    alone = recommend_ratio(geometric(), PAPER, batch_size=256, max_attention_workers=7)
    assert alone.best.objective == pytest.approx(
        answer.best.objective * (1 + answer.replication.gain), rel=1e-9
    )


def test_large_optima_are_found_between_grid_points():
    law = IndependentLengths(prompt="120000", decode="geometric:2000")
    answer = recommend_ratio(law, PAPER, batch_size=64, method="mean-field", overlap="ideal")
    assert answer.optimal_attention_workers > 256
    exact = answer.optimal_ratio
    assert abs(answer.optimal_attention_workers - exact) <= 1
    assert len(answer.curve) < 1500


def test_warnings_name_what_is_left():
    short = recommend_ratio(geometric(100, 20), PAPER, batch_size=64)
    assert any("rounds" in warning for warning in short.warnings)
    deep = recommend_ratio(geometric(), PAPER, batch_size=64, microbatches=6)
    assert any("6 microbatches" in warning for warning in deep.warnings)
    edge = recommend_ratio(geometric(), PAPER, batch_size=256, max_attention_workers=3)
    assert any("largest considered" in warning for warning in edge.warnings)
    narrow = replace(PAPER, validity=Validity(ffn_tokens=(1, 100), batch_size=(1, 512)))
    out = recommend_ratio(geometric(), narrow, batch_size=256)
    assert [w for w in out.warnings if "extrapolated" in w and "FFN" in w]
    assert not [w for w in out.warnings if "requests per microbatch" in w]
    assert any("alike" in w for w in recommend_ratio(FIXED, PAPER, batch_size=64).warnings)
    assert recommend_ratio(geometric(), PAPER, batch_size=256).warnings == ()


def test_stated_error_falls_with_the_rounds_a_request_lives():
    errors = [short_life_error(rounds) for rounds in (1, 5, 30, 100, 200, 400, 1e6)]
    assert errors == sorted(errors, reverse=True)
    assert short_life_error(200) <= 0.01


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 0}, "batch_size must be an integer >= 1"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"microbatches": 9}, "microbatches"),
        ({"ffn_workers": 0}, "ffn_workers"),
        ({"ffn_weight": 0.0}, "ffn_weight"),
        ({"ffn_weight": float("nan")}, "ffn_weight"),
        ({"max_attention_workers": 0}, "max_attention_workers"),
        ({"max_attention_workers": 10**9}, "max_attention_workers"),
        ({"overlap": "none"}, "overlap"),
        ({"method": "magic"}, "method"),
    ],
)
def test_bad_numbers_are_named(changes, words):
    with pytest.raises(InvalidInputError, match=words):
        recommend_ratio(geometric(), PAPER, **({"batch_size": 8} | changes))


def test_numbers_beside_the_curve_follow_from_it():
    # Each of these is a number people read; each is recomputed here from its definition.
    load = Estimate(value=599.0, low=450.0, high=750.0, confidence=0.95, method="given")
    answer = recommend_ratio(geometric(), PAPER, batch_size=256, token_load=load)
    best = answer.optimal_attention_workers
    field = recommend_ratio(geometric(), PAPER, batch_size=256, method="mean-field")
    flat = field.curve[best - 1].objective
    assert answer.barrier_cost == pytest.approx(1 - answer.best.objective / flat, rel=1e-9)
    assert answer.mean_field_ratio == pytest.approx(field.optimal_ratio)
    assert field.step_time_quantiles is None
    problem = RatioProblem(law=geometric(), latency=PAPER, batch_size=256)
    slots = problem.slot_loads()
    step = CycleModel(problem, slots).evaluate(np.array([float(best)]), (0.5, 0.95, 0.99))
    assert answer.step_time_quantiles == pytest.approx(tuple(step.quantiles[0]))
    # The worst regret over the two ends of the interval.
    regrets = []
    for end in (load.low, load.high):
        model = CycleModel(problem, problem.slot_loads(end / load.value))
        workers = np.arange(1.0, 65.0)
        values = model.objective(workers, model.evaluate(workers).mean, 1.0)
        regrets.append(1 - values[best - 1] / values.max())
    assert answer.uncertainty.largest_regret == pytest.approx(max(regrets), rel=1e-6)
    # Resources at the real optimum: barriers over A workers, and over m A microbatch parts.
    real = answer.optimal_ratio
    times = exact_time(slots[0], PAPER.attention[0], 256)
    f, c = 0.083 * 256 * real + 100, 0.022 * 256 + 20
    longest = barrier_mean(times, np.array([2 * real]), np.zeros(1))[0]
    assert answer.resource_times["latency"] == pytest.approx((longest + f + 2 * c) / 2, rel=1e-9)
    assert answer.resource_times["ffn"] == pytest.approx(f)
    assert answer.resource_times["communication"] == pytest.approx(c)
    assert answer.resource_times["attention"] > times.mean


def test_near_equal_holds_exactly_what_loses_less_than_one_percent():
    answer = recommend_ratio(geometric(), PAPER, batch_size=256, ffn_workers=8)
    assert answer.curve[-1].attention_workers > 256  # a coarse grid
    problem = RatioProblem(law=geometric(), latency=PAPER, batch_size=256, ffn_workers=8)
    model = CycleModel(problem, problem.slot_loads())
    workers = np.arange(1.0, 100.0)
    values = model.objective(workers, model.evaluate(workers).mean, 1.0)
    inside = workers[values > 0.99 * answer.best.objective]
    assert answer.near_equal == (inside[0], inside[-1])


def test_windowed_layers_do_not_feel_a_longer_context():
    kind = AttentionLayers(curve=LinearCurve(slope=0.01, intercept=1.0), context_window=128)
    windowed = replace(PAPER, attention=(kind,))
    law = IndependentLengths(prompt="uniform:500..30000", decode="geometric:300")
    load = Estimate(value=15_549.0, low=14_000.0, high=17_000.0, confidence=0.95, method="given")
    answer = recommend_ratio(law, windowed, batch_size=64, token_load=load)
    assert answer.mean_token_load == 128
    assert answer.uncertainty.low == answer.uncertainty.high == answer.optimal_attention_workers
    assert answer.uncertainty.largest_regret == 0


def test_horizon_counts_the_slots_of_all_microbatches():
    loads = {
        m: recommend_ratio(
            geometric(),
            PAPER,
            batch_size=256 // m,
            microbatches=m,
            method="mean-field",
            horizon=1000,
        ).mean_token_load
        for m in (1, 2)
    }
    assert loads[1] == pytest.approx(loads[2], rel=1e-3)


def test_aligned_ages_leave_a_narrow_validity():
    law = IndependentLengths(prompt="100", decode="500")
    narrow = replace(PAPER, validity=Validity(attention_tokens=(76_800, 102_400)))
    wide = replace(PAPER, validity=Validity(attention_tokens=(25_000, 154_000)))
    options = {"batch_size": 256, "phase": "aligned"}
    assert recommend_ratio(law, PAPER, **options).barrier_cost == 0
    assert any("extrapolated" in w for w in recommend_ratio(law, narrow, **options).warnings)
    assert recommend_ratio(law, wide, **options).warnings == ()
    # Independent slots spread by three standard deviations on either side, no more.
    load = geometric().token_load()
    reach = 3 * 16 * load.std
    around = (256 * load.mean - 1.01 * reach, 256 * load.mean + 1.01 * reach)
    inside = (256 * load.mean - 0.99 * reach, 256 * load.mean + 1.01 * reach)
    for bounds, leaves in ((around, False), (inside, True)):
        model = replace(PAPER, validity=Validity(attention_tokens=bounds))
        found = recommend_ratio(geometric(), model, batch_size=256).warnings
        assert bool(found) is leaves


@pytest.mark.parametrize(
    ("attention", "ffn"),
    [((0.0, 0.0), (0.0, 0.0)), ((1e98, 0.0), (1e99, 0.0)), ((1e-320, 0.0), (1e-315, 0.0))],
)
def test_steps_that_take_no_time_or_too_much_are_refused(attention, ffn):
    with pytest.raises(
        LatencyModelError, match=r"must take more than no time|of a size from 1e-100"
    ):
        LatencyModel.linear(attention=attention, ffn=ffn)


def test_an_ffn_that_never_limits_is_said_so():
    model = LatencyModel.linear(attention=(0.001, 5.0), ffn=(0.0, 3.0))
    answer = recommend_ratio(geometric(), model, batch_size=8, method="mean-field")
    assert any("still rises" in warning for warning in answer.warnings)


@pytest.mark.parametrize(
    "options",
    [
        {"horizon": 100},
        {"horizon": 100, "method": "gaussian"},
        {"phase": "aligned"},
    ],
)
def test_options_that_exclude_each_other_are_refused(options):
    with pytest.raises(UnsupportedError):
        recommend_ratio(geometric(), PAPER, batch_size=8, **options)
    with pytest.raises(UnsupportedError):
        recommend_ratio(FIXED, PAPER, batch_size=8, phase="aligned", method="gaussian")


def test_correlated_prompts_change_the_answer():
    law = correlated(longest=6000, requests=3000)
    alone = IndependentLengths(
        prompt=f"{round(law.mean_prompt_tokens)}", decode=f"geometric:{law.mean_decode_tokens}"
    )
    joint = recommend_ratio(law, PAPER, batch_size=64)
    shortcut = recommend_ratio(alone, PAPER, batch_size=64)
    assert joint.optimal_ratio != pytest.approx(shortcut.optimal_ratio, rel=0.05)


def test_requests_without_a_token_have_no_interval_of_the_load():
    load = Estimate(value=0.0, low=0.0, high=0.0, confidence=0.95, method="trace")
    empty = IndependentLengths(prompt="0", decode="1")
    answer = recommend_ratio(empty, PAPER, batch_size=16, token_load=load)
    assert answer.uncertainty is None
