"""The interval of a fitted curve holds the truth as often as it says."""

import numpy as np
import pytest

from afdplan.calibration.stage import fit_stage
from afdplan.calibration.stage_interval import curve_half_widths
from afdplan.model.measurement import StageSamples

LOADS = np.geomspace(10, 1000, 40)
GRID = np.array([12.0, 60.0, 400.0, 950.0])
REPLICATES = 300


@pytest.mark.parametrize(
    ("form", "truth"),
    [
        ("linear", lambda loads: 50 + 0.2 * loads),
        ("roofline", lambda loads: np.maximum(120.0, 60 + 0.4 * loads)),
    ],
)
def test_it_covers_the_true_curve(form, truth):
    generator = np.random.default_rng(11)
    inside = np.zeros(GRID.size)
    for _ in range(REPLICATES):
        times = truth(LOADS) * (1 + 0.03 * generator.standard_normal(LOADS.size))
        fit = fit_stage(StageSamples(stage="ffn", loads=LOADS, times=times), form)
        inside += np.abs(fit.curve(GRID) - truth(GRID)) <= curve_half_widths(fit, GRID)
    # 300 replicates of 95 % lie within 4 standard errors of 1.3 %.
    assert (inside / REPLICATES >= 0.90).all()
    assert (inside / REPLICATES <= 0.995).all()


def test_a_table_is_as_sure_as_its_knots():
    times = (50 + 0.2 * LOADS) * (1 + 0.02 * np.random.default_rng(2).standard_normal(40))
    loads, times = np.repeat(LOADS[::8], 8), np.sort(times)
    fit = fit_stage(StageSamples(stage="ffn", loads=loads, times=times), "table")
    half = curve_half_widths(fit, np.asarray(fit.curve.loads))
    known = [estimate.high - estimate.value for estimate in fit.coefficients.values()]
    assert half == pytest.approx(known)


def test_a_time_per_request_adds_its_own_error():
    requests = np.tile([4.0, 32.0], 20)
    noise = 1 + 0.02 * np.random.default_rng(3).standard_normal(40)
    times = (50 + 0.2 * LOADS + 2 * requests) * noise
    fit = fit_stage(
        StageSamples(stage="attention", loads=LOADS, times=times, requests=requests),
        "per-request",
    )
    few, many = (curve_half_widths(fit, GRID, count) for count in (10.0, 500.0))
    assert (many > 5 * few).all()
