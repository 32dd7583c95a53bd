"""What a fitted sweep says of its points: estimates, bounds, misses and a prior that gave way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from afdplan.calibration import sweep as fitting
from afdplan.calibration.sweep import fit_sweep
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.model.sweep import RatioSweep

SWEEP = RatioSweep(
    attention_workers=np.array([2.0, 4.0, 8.0]), ffn_workers=2.0,
    batch_size=np.array([40.0, 40.0, 80.0]), microbatches=2.0,
    mean_tokens=np.array([200.0, 300.0, 900.0]), step_times=np.array([100.0, 200.0, 400.0]),
)  # fmt: skip


def sure(value, half=0.0):
    return Estimate(value=value, low=value - half, high=value + half, confidence=0.95, method="x")


def test_an_estimate_is_the_middle_of_its_draws_unless_stated():
    draws = np.arange(1001.0)
    found = fitting._estimate(draws)
    assert (found.value, found.low, found.high, found.confidence) == (500.0, 25.0, 975.0, 0.95)
    low, high = fitting._estimate(draws, 5.0), fitting._estimate(draws, 990.0)
    assert (low.low, low.high, high.low, high.high) == (5.0, 975.0, 25.0, 990.0)


def test_loads_around_the_points():
    """From half of 40 to twice 320 tokens, of the median batch, depth and length."""
    found = fitting._around(SWEEP)
    assert found.count == 24
    assert found.ffn_tokens[[0, -1]] == pytest.approx([20.0, 640.0])
    assert np.diff(np.log(found.ffn_tokens)) == pytest.approx(np.log(32) / 23)
    for name, value in (("batch_size", 40.0), ("microbatches", 2.0), ("mean_tokens", 300.0)):
        assert getattr(found, name).tolist() == [value] * 24


def test_a_miss_beyond_twice_the_noise_is_said():
    exact = SWEEP.step_times
    assert fitting._missed(SWEEP, exact * [1.0, 1.25, 0.9], 0.125, "hard") == []
    (said,) = fitting._missed(SWEEP, exact * [1.01, 1.0, 0.75], 0.12, "hard")
    assert "at 8:2 by -25.0 % (noise 12.0 %)" in said
    assert "soft" not in said
    (said,) = fitting._missed(SWEEP, exact * [1.0, 1.5, 1.0], 0.01, "soft")
    assert "at 4:2 by +50.0 %" in said
    assert said.endswith("a model file has no soft maximum")


def test_a_prior_contradicts_by_a_factor_beyond_two_and_a_half():
    estimates = {"attention": sure(2e-4), "ffn_time": sure(1e-4)}
    known = {"attention": True, "ffn_time": True}
    of = fitting._contradicted

    def prior(attention, intercept=1e-4, slope=0.0):
        return np.array([attention, 0, intercept, slope, 0, 0, 0, 0])

    assert of(prior(2e-4 * 2.49), 10.0, estimates, known) == []
    (said,) = of(prior(2e-4 * 2.51), 10.0, estimates, known)
    assert "attention would take 502 us" in said
    assert "they say 200 us" in said
    assert of(prior(2e-4 / 2.51), 10.0, estimates, known)
    assert of(prior(0.0), 10.0, estimates, known) == []
    assert of(prior(1.0), 10.0, estimates, known | {"attention": False}) == []
    (said,) = of(prior(2e-4, 1e-4, 2e-5), 10.0, estimates, known)
    assert "the FFN would take 300 us" in said


def test_what_is_only_bounded_is_said():
    estimates = {"attention": sure(2e-4, 1e-4), "ffn_time": sure(1e-4, 5e-5)}
    known = dict.fromkeys(("attention", "ffn_time", "ffn_slope"), True)
    assert fitting._unknowns(known, estimates, SWEEP) == []
    (said,) = fitting._unknowns(known | {"attention": False}, estimates, SWEEP)
    assert "attention is never the limit" in said
    assert "at most 300 µs" in said
    (said,) = fitting._unknowns(known | {"ffn_time": False, "ffn_slope": False}, estimates, SWEEP)
    assert "at most 150 µs per layer and microbatch at 320 tokens" in said
    (said,) = fitting._unknowns(known | {"ffn_slope": False}, estimates, SWEEP)
    assert "only one end of the FFN line" in said


def planted(workers, a=2.0, b=1.0, c=0.02, trip=0.0, m=2.0):
    """Ten layers, 5 s a step beside them, batches of 40."""
    workers = np.asarray(workers, dtype=float)
    f = b + c * workers * 40
    step = 10 * np.maximum(m * np.maximum(a, f), a + f + trip) + 5
    return RatioSweep(
        attention_workers=workers, ffn_workers=1.0, batch_size=40.0, microbatches=m,
        mean_tokens=100.0, step_times=step,
    )  # fmt: skip


def test_a_fit_holds_what_it_was_given_and_what_it_found():
    points = planted([1, 2, 3, 8, 9, 10], c=0.005)
    fit = fit_sweep(points, layers=10, step_overhead=5.0, noise=0.002)
    assert (fit.layers, fit.form.step_overhead, fit.maximum) == (10, 5.0, "hard")
    assert (fit.reference_tokens, fit.form.requests, fit.form.length) == (4000.0, 40.0, 100.0)
    assert fit.noise == 0.002
    assert fit.point[:4] == pytest.approx([2.0, 0, 1.0, 0.005], rel=0.02)
    assert fit.ffn_time.value == pytest.approx(3.0, rel=0.01)
    assert 0 <= fit.transfer_time == fit.point[4] < fit.transfer_limit
    assert np.abs(fit.residuals).max() < 1e-3
    # At three attention workers both stages take 3.6 s of the 4 s of two microbatches.
    assert fit.transfer_limit == pytest.approx(0.4, rel=0.2)
    ahead = planted([1, 12], c=0.005)
    told = fit.predict(ahead)
    assert [one.value for one in told] == pytest.approx(ahead.step_times, rel=0.01)
    assert all(one.low <= one.value <= one.high for one in told)
    soft = fit_sweep(points, layers=10, step_overhead=5.0, noise=0.002, maximum="soft")
    drawn = soft.form.times(soft.draws, ahead).mean(axis=0)
    assert [one.value for one in soft.predict(ahead)] == pytest.approx(drawn)


def test_with_one_microbatch_a_trip_is_part_of_the_stages():
    fit = fit_sweep(planted([1, 2, 3], m=1.0, trip=0.5), layers=10, step_overhead=5.0)
    assert fit.transfer_time == 0.0
    assert not fit.draws[:, 4].any()
    prior = LatencyModel.linear(
        attention=(0.0, 2.0), ffn=(0.02, 1.0), transfer=(0.0, 0.25), layers=10, time_unit="s"
    )
    lent = fit_sweep(planted([1, 2, 3], m=1.0, trip=0.5), layers=10, step_overhead=5.0, prior=prior)
    assert np.median(lent.draws[:, 4]) == pytest.approx(0.5, rel=0.3)


def test_points_that_no_plateau_explains_widen_the_intervals():
    odd = planted([1, 2, 3, 4, 5])
    odd = replace(odd, step_times=odd.step_times * [1, 1.1, 1, 1, 0.9])
    fit = fit_sweep(odd, layers=10, step_overhead=5.0, noise=0.01)
    misfit = fit.form.times(fit.draws, odd) / odd.step_times - 1
    assert fit.noise == pytest.approx(np.sqrt((misfit**2).mean(axis=1)).min(), rel=0.05)
    assert f"come closer than {100 * fit.noise:.1f} %" in fit.warnings[0]
    assert "(expected 1.0 %)" in fit.warnings[0]
    assert any("(noise 1.0 %)" in said for said in fit.warnings[1:])
    quiet = fit_sweep(odd, layers=10, step_overhead=5.0, noise=0.06)
    assert quiet.noise == 0.06
