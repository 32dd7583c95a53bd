"""Stage fits choose their form, resist wild timings and say what data cannot tell."""

import numpy as np
import pytest

from afdplan.calibration.assemble import assemble
from afdplan.calibration.stage import fit_stage
from afdplan.errors import InsufficientDataError, TimeUnitError
from afdplan.files.latency_file import load_latency
from afdplan.model.measurement import StageSamples

RNG = np.random.default_rng(11)
LOADS = np.unique(np.geomspace(4, 4000, 40).astype(int)).astype(float)


def noisy(times, wild=0):
    times = times * (1 + 0.02 * RNG.normal(size=times.size))
    times[RNG.permutation(times.size)[:wild]] *= 3
    return times


def samples(stage, loads, times, requests=None):
    return StageSamples(stage=stage, loads=loads, times=times, requests=requests)


@pytest.mark.parametrize(
    ("truth", "form"),
    [
        (lambda x: 50e-6 + 2e-7 * x, "linear"),
        (lambda x: np.maximum(120e-6, 60e-6 + 2e-7 * x), "roofline"),
        (lambda x: 100e-6 * (1 + (x >= 64) + (x >= 512) + 2 * (x >= 2048)), "table"),
    ],
)
def test_cross_validation_finds_the_form(truth, form):
    fit = fit_stage(samples("ffn", LOADS, noisy(truth(LOADS))))
    assert fit.form == form
    assert fit.median_error < 0.05


def test_a_time_per_request_is_found_and_needs_its_own_variation():
    loads = np.tile([1e4, 3e4, 1e5, 3e5], 6)
    requests = np.repeat([4.0, 8, 16, 32, 48, 64], 4)
    times = noisy(5e-5 + 1e-9 * loads + 1e-6 * requests)
    fit = fit_stage(samples("attention", loads, times, requests))
    assert fit.form == "per-request"
    assert fit.time_per_request == pytest.approx(1e-6, rel=0.2)
    mirrored = samples("attention", loads, times, loads / 1000)
    with pytest.raises(InsufficientDataError, match="requests only mirror the load"):
        fit_stage(mirrored, "per-request")
    assert any("no time per request was tried" in w for w in fit_stage(mirrored).warnings)


def test_wild_timings_do_not_move_the_fit():
    fit = fit_stage(samples("ffn", LOADS, noisy(50e-6 + 2e-7 * LOADS, wild=4)), "linear")
    assert fit.curve.slope == pytest.approx(2e-7, rel=0.05)
    assert fit.largest_error > 1.5
    row = fit.largest_error_row
    assert fit.samples.loads[row - 1] == fit.largest_error_load


def test_a_window_limits_the_loads():
    truth = np.where(LOADS < 64, 1e-3, 50e-6 + 2e-7 * LOADS)
    fit = fit_stage(samples("ffn", LOADS, truth), "linear", window=(64, 4000))
    assert fit.curve.slope == pytest.approx(2e-7, rel=1e-6)
    assert fit.samples.loads.min() >= 64
    with pytest.raises(InsufficientDataError, match="load window 9000 to 9999 must hold"):
        fit_stage(samples("ffn", LOADS, truth), window=(9000, 9999))


@pytest.mark.parametrize(
    ("loads", "form", "message"),
    [
        ([64.0] * 12, "auto", "all 12 loads are 64"),
        ([64.0] * 12, "linear", "a slope cannot be told from an intercept"),
        ([1.0, 2.0], "roofline", "2 measurements cannot give the 3 coefficients"),
        ([1.0, 1.0, 2.0, 2.0], "roofline", "needs 3 different loads, got 2"),
        ([1.0, 2.0, 3.0], "per-request", "needs a column of requests"),
    ],
)
def test_unidentifiable_data_are_refused(loads, form, message):
    times = 1e-4 + 1e-6 * np.arange(len(loads))
    with pytest.raises(InsufficientDataError, match=message):
        fit_stage(samples("ffn", np.array(loads), times), form)


def test_constant_load_may_be_kept_as_a_table():
    fit = fit_stage(samples("ffn", np.full(9, 64.0), noisy(np.full(9, 1e-4))), "table")
    assert fit.curve(1e6) == pytest.approx(1e-4, rel=0.03)


def test_two_points_give_a_line_without_uncertainty():
    fit = fit_stage(samples("ffn", np.array([1.0, 2.0]), np.array([3e-5, 5e-5])), "linear")
    assert fit.curve.slope == pytest.approx(2e-5)
    assert any("no uncertainty is stored" in w for w in fit.warnings)


def test_a_negative_intercept_becomes_zero_and_a_falling_line_a_constant():
    fit = fit_stage(samples("ffn", LOADS, 1e-6 * LOADS - 1e-6), "linear")
    assert fit.curve.intercept == 0.0
    assert any("intercept came out negative" in w for w in fit.warnings)
    fall = fit_stage(samples("ffn", LOADS, 1e-3 - 1e-7 * LOADS), "linear")
    assert fall.curve.slope == 0.0


def test_a_unit_slip_within_a_stage_is_suspected():
    times = 50e-6 + 2e-7 * LOADS
    times[5] *= 1000
    fit = fit_stage(samples("ffn", LOADS, times), "linear")
    assert any("another unit" in w and "row 6" in w for w in fit.warnings)


def test_a_measurement_that_decides_the_fit_is_named():
    loads = np.array([10.0, 11, 12, 13, 14, 15, 16, 1000])
    times = 1e-4 + 1e-7 * loads * (1 + 0.01 * RNG.normal(size=8))
    fit = fit_stage(samples("ffn", loads, times), "linear")
    assert any("row 8 (load 1000) nearly decides the fit" in w for w in fit.warnings)


def test_leave_one_out_shift_is_close_to_a_refit():
    loads = np.linspace(100, 2000, 25)
    times = 1e-4 + 1e-7 * loads
    times *= 1 + 0.02 * RNG.normal(size=25)
    full = fit_stage(samples("ffn", loads, times), "linear")
    worst = full.influence
    rest = np.arange(25) != worst.row - 1
    refit = fit_stage(samples("ffn", loads[rest], times[rest]), "linear")
    name = worst.coefficient
    moved = abs(refit.coefficients[name].value - full.coefficients[name].value)
    error = (full.coefficients[name].high - full.coefficients[name].low) / 2 / 2.07
    assert moved / error == pytest.approx(worst.standard_errors, rel=0.5)


def test_assembling_takes_uncertainty_stage_by_stage():
    attention = fit_stage(samples("attention", LOADS, noisy(5e-5 + 1e-7 * LOADS)), "linear")
    ffn = fit_stage(samples("ffn", LOADS, noisy(np.maximum(1e-4, 3e-7 * LOADS))), "roofline")
    wire = fit_stage(samples("transfer", LOADS, noisy(2e-5 + 1e-8 * LOADS)), "linear")
    model = assemble([attention, ffn, wire], name="m", time_unit="s", source="test", layers=61)
    assert model.layers == 61
    assert model.validity.ffn_tokens == (4.0, 4000.0)
    known = model.uncertainty
    assert known.coefficients[0] == "attention.slope"
    assert "transfer.intercept" in known.coefficients
    assert np.array_equal(known.covariance[2:5, 2:5], ffn.covariance)
    assert not known.covariance[:2, 2:].any()


def test_missing_stages_are_lent_or_refused():
    ffn = fit_stage(samples("ffn", LOADS, 5e-5 + 1e-7 * LOADS), "linear")
    arguments = {"name": "m", "source": "test"}
    with pytest.raises(InsufficientDataError, match="stage attention was not measured"):
        assemble([ffn], time_unit="s", **arguments)
    prior = load_latency("deepseek-v3-ascend-910c")
    with pytest.raises(TimeUnitError, match="abstract"):
        assemble([ffn], time_unit="s", prior=prior, **arguments)
    model = assemble([ffn], time_unit="abstract", prior=prior, **arguments)
    assert model.attention == prior.attention
    assert any("attention were lent" in said for said in model.assumptions)


def test_what_a_prior_lends_keeps_its_uncertainty():
    attention = fit_stage(samples("attention", LOADS, noisy(5e-5 + 1e-7 * LOADS)), "linear")
    ffn = fit_stage(samples("ffn", LOADS, noisy(5e-5 + 1e-7 * LOADS)), "linear")
    wire = fit_stage(samples("transfer", LOADS, noisy(2e-5 + 1e-8 * LOADS)), "linear")
    common = {"name": "m", "time_unit": "s", "source": "test"}
    prior = assemble([attention, ffn, wire], **common)
    model = assemble([ffn], prior=prior, **common)
    assert set(model.uncertainty.coefficients) == set(prior.uncertainty.coefficients)
    assert model.uncertainty.standard_errors == pytest.approx(prior.uncertainty.standard_errors)
    other = assemble([ffn, wire], prior=prior, **common)
    assert other.uncertainty.coefficients.count("transfer.slope") == 1
