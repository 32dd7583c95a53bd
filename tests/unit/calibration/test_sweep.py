"""A sweep gives back planted coefficients, and says what it cannot know."""

from dataclasses import replace

import numpy as np
import pytest

from afdplan.calibration import posterior
from afdplan.calibration.best_ratio import best_ratio
from afdplan.calibration.gather import join_sweeps
from afdplan.calibration.sweep import fit_sweep
from afdplan.calibration.sweep_model import sweep_latency_model
from afdplan.errors import InsufficientDataError, LatencyModelError
from afdplan.model.latency import LatencyModel
from afdplan.model.sweep import RatioSweep
from benchmarks.ratio_sweeps import judge, missed, stored_times

LAYERS, BATCH = 60, 64


def planted(workers, attention=200e-6, ffn=(3e-7, 40e-6), trip=0.0, m=2, mean_tokens=4096.0):
    workers = np.asarray(workers, dtype=float)
    f = ffn[1] + ffn[0] * workers * BATCH
    a = attention * np.ones_like(workers)
    step = LAYERS * np.maximum(np.maximum(m * a, m * f), a + f + trip)
    return RatioSweep(
        attention_workers=workers,
        ffn_workers=1,
        batch_size=BATCH,
        microbatches=m,
        mean_tokens=mean_tokens,
        step_times=step,
    )


def test_planted_coefficients_are_recovered():
    fit = fit_sweep(planted([2, 4, 6, 10, 14, 18]), layers=LAYERS)
    assert fit.attention_time.low <= 200e-6 <= fit.attention_time.high
    assert fit.ffn_slope.low <= 3e-7 <= fit.ffn_slope.high
    assert fit.ffn_slope.value == pytest.approx(3e-7, rel=0.05)
    assert fit.ffn_intercept.low <= 40e-6 <= fit.ffn_intercept.high
    longest = fit.ffn_intercept.value + fit.ffn_slope.value * 18 * BATCH
    assert fit.ffn_time.value == pytest.approx(longest)  # means of the same draws
    assert all(fit.identified[name] for name in ("attention", "ffn_time", "ffn_slope"))
    assert not fit.warnings


def test_a_planted_trip_is_found():
    fit = fit_sweep(planted([2, 4, 6, 7, 8, 9, 10, 12, 16], trip=60e-6), layers=LAYERS, noise=0.002)
    assert fit.transfer_time == pytest.approx(60e-6, rel=0.2)


def test_an_ffn_never_exposed_is_only_bounded():
    fit = fit_sweep(planted([1, 2, 3, 4]), layers=LAYERS)
    assert fit.identified["attention"]
    assert not fit.identified["ffn_time"]
    assert any("FFN is never the limit" in warning for warning in fit.warnings)
    truth = 40e-6 + 3e-7 * 4 * BATCH
    assert truth <= fit.ffn_time.high <= 1.05 * 200e-6
    model = sweep_latency_model(fit, name="bounded")
    assert model.ffn(4.0 * BATCH) >= truth
    assert any("largest that the sweep allows" in said for said in model.assumptions)
    # The file's value is the cautious end; what else agrees goes with it.
    assert "ffn.slope" in model.uncertainty.coefficients
    kept = dict(zip(model.uncertainty.coefficients, model.uncertainty.draws.T, strict=True))
    drawn = kept["ffn.intercept"] + kept["ffn.slope"] * 4 * BATCH
    assert drawn.min() < truth < model.ffn(4.0 * BATCH) <= 1.02 * drawn.max()


def test_attention_never_exposed_is_only_bounded():
    fit = fit_sweep(planted([14, 18, 22], attention=50e-6), layers=LAYERS)
    assert not fit.identified["attention"]
    assert any("attention is never the limit" in warning for warning in fit.warnings)
    assert fit.attention_time.high >= 50e-6


@pytest.mark.parametrize("seed", range(0, 30, 10))
def test_the_stored_model_reproduces_its_points(seed):
    """Nine sweeps without noise; `benchmarks.ratio_sweeps` does a thousand."""
    assert max(missed(one) for one in range(seed, seed + 3)) < 0.005


def test_its_draws_cover_other_ratios():
    judged = [judge(seed) for seed in range(5)]
    held = [covers for one in judged for place in one.covered.values() for covers in place]
    assert 30 < len(held) < 60
    assert np.mean(held) >= 0.8  # 95 % are held; three in four would be a planted fault


def test_points_of_one_microbatch_share_their_time():
    # Attention, FFN and transfer add up: each alone may take nearly all of a step, not all at once.
    alone = replace(planted([2, 3, 4]), microbatches=1.0)
    fit = fit_sweep(replace(alone, step_times=alone.step_times), layers=LAYERS)
    model = sweep_latency_model(fit, name="one")
    assert stored_times(model, fit.sweep) == pytest.approx(fit.sweep.step_times, rel=0.02)


def test_a_prior_that_contradicts_the_points_does_not_worsen_the_fit():
    points = planted([2, 4, 6, 10, 14, 18])
    wrong = LatencyModel.linear(
        attention=(2e-9, 300e-6), ffn=(3e-8, 3e-3), transfer=(0.0, 2e-3), time_unit="s"
    )
    fit = fit_sweep(points, layers=LAYERS, prior=wrong)
    model = sweep_latency_model(fit, name="told wrongly")
    assert np.abs(fit.residuals).max() < 0.005
    assert stored_times(model, points) == pytest.approx(points.step_times, rel=0.005)
    drawn = fit.form.times(fit.draws, points).mean(axis=0)
    assert drawn == pytest.approx(points.step_times, rel=0.01)
    assert any("gave way: the FFN would take" in said for said in fit.warnings)


def test_few_long_requests_take_longer_where_the_points_say_so():
    def at(context, attention):
        batch = BATCH * 4096 / context  # the KV tokens stay
        few = planted([1, 2, 4], attention=attention, ffn=(1e-9, 10e-6), mean_tokens=context)
        return replace(few, batch_size=np.full(3, batch))

    slower = join_sweeps([at(4096.0, 200e-6), at(8192.0, 220e-6), at(16384.0, 260e-6)])
    model = sweep_latency_model(fit_sweep(slower, layers=LAYERS), name="long")
    assert stored_times(model, slower) == pytest.approx(slower.step_times, rel=0.005)
    kind = model.attention[0]
    assert kind.time_per_context == pytest.approx(20e-6 / 4096, rel=0.25)
    assert "attention.time_per_context" in model.uncertainty.coefficients
    assert any("grows with the mean length" in said for said in model.assumptions)
    quicker = join_sweeps([at(4096.0, 260e-6), at(8192.0, 220e-6), at(16384.0, 200e-6)])
    model = sweep_latency_model(fit_sweep(quicker, layers=LAYERS), name="many")
    assert stored_times(model, quicker) == pytest.approx(quicker.step_times, rel=0.005)
    assert model.attention[0].time_per_request > 0.5e-6


def test_a_stored_model_that_misses_a_point_says_which():
    bent = planted([2, 4, 6, 10, 14, 18])
    bent = replace(bent, step_times=bent.step_times * [1, 1, 1.06, 1, 1, 1])
    fit = fit_sweep(bent, layers=LAYERS)
    assert any("misses the step time at 6:1 by -" in said for said in fit.warnings), fit.warnings


def test_a_prior_fills_what_the_sweep_cannot_see():
    prior = LatencyModel.linear(
        attention=(200e-6 / (BATCH * 4096), 0.0), ffn=(3e-7, 40e-6), layers=LAYERS, time_unit="s"
    )
    blind = fit_sweep(planted([1, 2, 3]), layers=LAYERS)
    told = fit_sweep(planted([1, 2, 3]), layers=LAYERS, prior=prior)
    assert told.ffn_slope.value == pytest.approx(3e-7, rel=0.35)
    assert told.ffn_slope.high - told.ffn_slope.low < blind.ffn_slope.high - blind.ffn_slope.low


def test_contexts_tell_the_slope_of_attention():
    def at(context):
        return planted([1, 2], attention=50e-6 + 1e-9 * BATCH * context, mean_tokens=context)

    both = join_sweeps([at(1000.0), at(4000.0), at(8000.0)])
    model = sweep_latency_model(fit_sweep(both, layers=LAYERS), name="contexts")
    assert model.attention[0].curve.slope == pytest.approx(1e-9, rel=0.1)
    assert model.attention[0].curve.intercept == pytest.approx(50e-6, rel=0.3)


def test_faster_at_higher_ratio_is_said_to_fit_no_model():
    # vLLM AFD plugin recipe, DeepSeek-V3.2 16K: 3:1 takes 95.32 ms, 4:1 takes 86.52 ms.
    odd = RatioSweep(
        attention_workers=[3, 4],
        ffn_workers=1,
        batch_size=14,
        microbatches=2,
        mean_tokens=16896,
        step_times=[0.09532, 0.08652],
    )
    fit = fit_sweep(odd, layers=61)
    assert "no attention plateau and FFN line" in fit.warnings[0]
    assert fit.noise > 0.03


def test_same_sweep_same_answer():
    one, two = (fit_sweep(planted([2, 6, 10]), layers=LAYERS) for _ in range(2))
    assert one.attention_time == two.attention_time


def test_bad_sweeps_cost_one_line():
    with pytest.raises(InsufficientDataError, match="2 or more points, got 1"):
        fit_sweep(planted([3]))
    with pytest.raises(InsufficientDataError, match="step_overhead must be below"):
        fit_sweep(planted([3, 4]), step_overhead=100.0)
    with pytest.raises(LatencyModelError, match=r"step_times .* got 0 in row 2"):
        RatioSweep(
            attention_workers=[1, 2],
            ffn_workers=1,
            batch_size=1,
            microbatches=1,
            mean_tokens=1,
            step_times=[1.0, 0.0],
        )


@pytest.mark.parametrize(
    ("times", "noise"),
    [((0.05, 0.052, 0.06, 0.07, 0.09), 1e-90), ((1e90, 1e-90, 1.0, 1e90, 1e30), 0.01)],
)
def test_times_that_no_model_explains_are_refused_in_time(times, noise, monkeypatch):
    monkeypatch.setattr(posterior, "_MOST_STEPS", 80)  # a third: what is sound needs less
    sweep = replace(
        planted([4, 8, 12, 16, 24], mean_tokens=8192.0), ffn_workers=4, step_times=np.array(times)
    )
    with pytest.raises(LatencyModelError, match="contradict every model by far more than"):
        fit_sweep(sweep, layers=LAYERS, noise=noise)


@pytest.mark.parametrize(("weight", "expected"), [(1.0, 7), (20.0, 10)])
def test_the_best_ratio_is_that_of_the_planted_system(weight, expected):
    measured = planted([2, 5, 8, 12, 16], trip=20e-6)
    best = best_ratio(fit_sweep(measured, layers=LAYERS, noise=0.002), weight)
    every = np.arange(1, 33)
    truth = every / (every + weight) / planted(every, trip=20e-6).step_times
    assert every[truth.argmax()] == expected
    assert best.attention_workers.low <= expected <= best.attention_workers.high
    assert best.lowest_near <= expected <= best.highest_near
    at = int(best.attention_workers.value) - 1
    assert truth[at] >= 0.99 * truth.max()
    assert best.step_time.value == pytest.approx(
        planted([at + 1], trip=20e-6).step_times[0], rel=0.01
    )
    assert not best.is_last


def test_the_best_ratio_is_not_looked_for_far_away():
    best = best_ratio(fit_sweep(planted([1, 2, 3]), layers=LAYERS), 8.0)
    assert best.attention_workers.value == 6
    assert best.is_last


def test_one_ratio_tells_no_best():
    assert best_ratio(fit_sweep(planted([4, 4, 4]), layers=LAYERS), 1.0) is None
