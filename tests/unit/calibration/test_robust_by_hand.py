"""Robust lines solve their equation; covariances, leverages and tables are as their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from afdplan.calibration.forms import (
    _neighbour_noise,
    _robust_means,
    _table_noise,
    fit_form,
    robust_rooflines,
    roofline_designs,
)
from afdplan.calibration.robust import robust_covariance, robust_lines, rough_lines

LOADS = np.array([1.0, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64])
NOISE = np.array([0.01, -0.02, 0.03, -0.01, 0.02, 0.6, -0.03, 0.01, -0.02, 0.02, -0.01, 0.3])
TIMES = (20 + 3 * LOADS) * (1 + NOISE)
DESIGN = np.column_stack([np.ones(12), LOADS])


def by_hand(design, times, fitted):
    """Return scale, leverage and covariance as the docstring of `robust_lines` has them."""
    count, columns = design.shape
    error = times / fitted - 1
    scale = 1.4826 * np.median(np.sort(np.abs(error))[columns:])
    x = design / fitted[:, None]
    psi = np.clip(error, -1.345 * scale, 1.345 * scale)
    inside = np.abs(error) <= 1.345 * scale
    full = np.linalg.inv(x.T @ x)
    leverage = np.einsum("nk,kl,nl->n", x, full, x)
    bread = np.linalg.inv(x[inside].T @ x[inside])
    meat = (x.T * (psi / (1 - leverage)) ** 2) @ x
    share = inside.mean()
    kappa = 1 + columns / count * (1 - share) / share
    classical = (kappa / share) ** 2 * (psi**2).sum() / (count - columns) * full
    return scale, leverage, (bread @ meat @ bread + classical) / 2, psi, x


def test_a_robust_line_solves_hubers_equation():
    fit = robust_lines(DESIGN, TIMES[None, :])
    beta = fit.coefficients[0]
    assert beta == pytest.approx([20, 3], rel=0.02)
    scale, leverage, covariance, psi, x = by_hand(DESIGN, TIMES, DESIGN @ beta)
    assert fit.scale[0] == pytest.approx(scale, rel=1e-9)
    assert fit.residuals[0] == pytest.approx(TIMES / (DESIGN @ beta) - 1, rel=1e-9)
    assert (psi @ x) / (np.abs(psi) @ np.abs(x)) == pytest.approx([0, 0], abs=1e-6)
    assert fit.leverage[0] == pytest.approx(leverage, rel=1e-6)
    assert fit.covariance[0] == pytest.approx(covariance, rel=1e-6)


def test_units_and_companions_change_nothing():
    one = robust_lines(DESIGN, TIMES[None, :])
    units = np.array([1e3, 1e-6])
    other = robust_lines(DESIGN * units, np.stack([TIMES, TIMES * 2]))
    assert other.coefficients[0] * units == pytest.approx(one.coefficients[0], rel=1e-8)
    assert other.coefficients[1] * units == pytest.approx(2 * one.coefficients[0], rel=1e-8)
    wide = other.covariance * np.outer(units, units)
    assert wide[0] == pytest.approx(one.covariance[0], rel=1e-6)
    assert wide[1] == pytest.approx(4 * one.covariance[0], rel=1e-6)
    assert rough_lines(DESIGN, TIMES[None, :])[0] == pytest.approx(one.coefficients[0], rel=0.01)
    empty = robust_lines(np.column_stack([DESIGN, np.zeros(12)]), TIMES[None, :])
    assert empty.coefficients[0] == pytest.approx([*one.coefficients[0], 0.0], rel=0.01)


def test_exact_times_have_no_errors_and_a_wild_one_no_weight():
    exact = 20 + 3 * LOADS
    fit = robust_lines(DESIGN, exact[None, :])
    assert fit.coefficients[0] == pytest.approx([20, 3], rel=1e-9)
    assert fit.scale[0] == pytest.approx(0, abs=1e-9)
    assert np.abs(fit.covariance).max() < 1e-12
    wild = exact.copy()
    wild[3] *= 10
    fit = robust_lines(DESIGN, wild[None, :])
    assert fit.coefficients[0] == pytest.approx([20, 3], rel=1e-6)


def test_a_point_of_its_own_has_nine_tenths_of_leverage():
    far = np.append(np.full(11, 1.0) + 1e-3 * np.arange(11), 1e6)
    fit = robust_lines(np.column_stack([np.ones(12), far]), (1 + far)[None, :] * (1 + NOISE / 9))
    assert fit.leverage[0].max() == 0.9


def test_the_covariance_of_some_rows():
    """Rows that are zero earn no certainty: that of a line through the others, with its noise."""
    fit = robust_lines(DESIGN, TIMES[None, :])
    rows = (np.arange(12) % 3 > 0)[:, None]
    found = robust_covariance((DESIGN * rows)[None], TIMES[None, :], fit)[0]
    scale, _, _, psi, x = by_hand(DESIGN, TIMES, DESIGN @ fit.coefficients[0])
    x = x * rows
    inside = np.abs(fit.residuals[0]) <= 1.345 * scale
    full = np.linalg.inv(x.T @ x)
    leverage = np.einsum("nk,kl,nl->n", x, full, x)
    bread = np.linalg.inv(x[inside].T @ x[inside])
    meat = (x.T * (psi / (1 - leverage)) ** 2) @ x
    share = inside.mean()
    kappa = 1 + 2 / 12 * (1 - share) / share
    classical = (kappa / share) ** 2 * (psi**2).sum() / 10 * full
    assert found == pytest.approx((bread @ meat @ bread + classical) / 2, rel=1e-6)


def test_what_leaving_out_a_point_moves():
    """One step of Newton: minus the inverse of the sum of squares on the corrected score."""
    fit = fit_form("linear", LOADS, None, TIMES)
    assert fit.names == ("slope", "intercept")
    design = DESIGN[:, ::-1]
    _, leverage, covariance, psi, x = by_hand(design, TIMES, design @ fit.values)
    step = -(x @ np.linalg.inv(x.T @ x)) * (psi / (1 - leverage))[:, None]
    assert fit.shifts == pytest.approx(step / np.sqrt(np.diag(covariance)), rel=1e-5)
    assert fit.leverage == pytest.approx(leverage, rel=1e-6)
    assert fit.fitted == pytest.approx(design @ fit.values)


def test_a_coefficient_that_is_negative_is_dropped_the_worst_first():
    """Times of 1 s per token and 2 s per request less 1 s: at 8 tokens the intercept is worst."""
    loads = np.array([2.0, 8, 4, 6, 8, 3, 5, 7])
    requests = np.array([3.0, 1, 4, 1, 5, 9, 2, 6])
    fit = fit_form("per-request", loads, requests, loads + 2 * requests - 1)
    assert fit.names == ("slope", "time_per_request")
    assert fit.curve.intercept == 0.0
    assert fit.time_per_request == pytest.approx(2, rel=0.1)
    assert fit.notes == ("intercept came out negative and was set to 0",)
    plain = fit_form("linear", loads, requests, 5 + 2 * loads)
    assert (plain.time_per_request, plain.notes) == (0.0, ())
    # A falling time per token, small beside a negative one per request.
    loads, requests = np.tile([1.0, 2, 3, 4], 2), np.repeat([1.0, 9.0], 4)
    fit = fit_form("per-request", loads, requests, 100 - 0.01 * loads - 5 * requests)
    assert fit.notes[0].startswith("time_per_request")
    assert fit.names == ("intercept",)
    assert fit.curve.slope == 0.0


def test_designs_of_a_roofline():
    sides = np.array([[False, True, True], [False, False, True]])
    found = roofline_designs(np.array([1.0, 2, 3]), sides)
    assert found.tolist() == [
        [[1, 0, 0], [0, 2, 1], [0, 3, 1]], [[1, 0, 0], [1, 0, 0], [0, 3, 1]]
    ]  # fmt: skip


def test_rooflines_are_found_side_by_side():
    loads = np.array([1.0, 2, 4, 8, 16, 32, 64, 128])
    early, late = np.maximum(10.0, 2 + 3 * loads), np.maximum(100.0, 20 + 2 * loads)
    fit, on_line = robust_rooflines(loads, np.stack([early, late]))
    assert fit.coefficients == pytest.approx(np.array([[10, 3, 2], [100, 2, 20]]), rel=1e-6)
    assert on_line.sum(axis=1).tolist() == [6, 2]


def test_a_point_near_the_knee_earns_no_certainty():
    """At 32 tokens floor and line are 5 % apart, within the noise: its row does not count."""
    loads = np.array([1.0, 2, 4, 8, 16, 32, 64, 128, 256, 512])
    noise = np.array([0.05, -0.05, 0.06, -0.06, 0.05, 0.02, -0.05, 0.06, -0.06, 0.05])
    times = np.maximum(100.0, 9 + 3 * loads) * (1 + noise)
    fit, side = robust_rooflines(loads, times[None, :])
    floor, slope, intercept = fit.coefficients[0]
    line = intercept + slope * loads
    clear = np.abs(line - floor) > fit.scale[0] * np.maximum(line, floor)
    assert clear.tolist() == [True] * 5 + [False] + [True] * 4
    design = roofline_designs(loads, side) * clear[None, :, None]
    assert fit.covariance == pytest.approx(robust_covariance(design, times[None, :], fit))
    every = robust_covariance(roofline_designs(loads, side), times[None, :], fit)
    assert (np.diag(fit.covariance[0]) > np.diag(every[0])).any()


def test_a_roofline_needs_two_loads_on_the_line_and_says_what_it_rests_on():
    loads = np.array([1.0, 8, 16, 32, 64])
    found = fit_form("roofline", loads, None, np.maximum(20.0, 2 * loads))
    assert found.names == ("floor", "slope", "intercept")
    assert found.curve.floor == pytest.approx(20.0)
    assert found.notes == ()
    one = fit_form("roofline", loads, None, np.where(loads < 8, 50.0, 20 + 4 * loads))
    assert one.notes in (("the floor rests on one load",), ())
    flat = fit_form("roofline", loads, None, 100 - loads / 2)
    assert "no knee was found: the roofline is a line" in flat.notes


def test_repeats_that_agree_are_judged_by_their_neighbours():
    """Twice the same time at each load: the noise is how far 3 s lies from its chord."""
    loads = np.repeat([10.0, 20.0, 40.0, 50.0], [2, 2, 2, 1])
    times = np.repeat([1.0, 3.0, 3.5, 4.0], [2, 2, 2, 1])
    fit = fit_form("table", loads, None, times)
    assert fit.curve.loads.tolist() == [10.0, 20.0, 40.0, 50.0]
    assert fit.values.tolist() == [1.0, 3.0, 3.5, 4.0]
    noise = _neighbour_noise(fit.curve.loads, fit.values)
    assert fit.scale == noise > 0.1
    deviation = fit.values * noise / np.sqrt([2, 2, 2, 1])
    assert fit.covariance == pytest.approx(np.diag(deviation**2))
    assert fit.leverage.tolist() == [0.5] * 6 + [1.0]
    assert not fit.shifts.any()
    assert fit.notes == ()


def test_errors_of_a_table_by_hand():
    loads = np.repeat([10.0, 20.0, 30.0], 3)
    times = np.array([0.9, 1.0, 1.1, 1.8, 2.0, 2.2, 2.7, 3.0, 3.3])
    fit = fit_form("table", loads, None, times)
    errors = times / np.repeat(fit.values, 3) - 1
    # A mean of three leaves two thirds of the variance in the errors about it; six of nine are 0.1.
    noise = 1.4826 * 0.1 / np.sqrt(2 / 3)
    assert fit.values == pytest.approx([1, 2, 3], rel=1e-6)
    assert fit.scale == pytest.approx(noise, rel=1e-6)
    assert fit.freedom == 6
    deviation = fit.values * np.sqrt(6 / 9 * 0.1**2 / (2 / 3) / 3)
    assert fit.covariance == pytest.approx(np.diag(deviation**2))
    inside = np.clip(errors, -1.345 * noise, 1.345 * noise)
    shifts = np.zeros((9, 3))
    for row in range(9):
        shifts[row, row // 3] = -inside[row] / 2 * fit.values[row // 3] / deviation[row // 3]
    assert fit.shifts == pytest.approx(shifts, abs=1e-12)


def test_errors_of_a_table_with_wild_lone_and_paired_times_by_hand():
    loads = np.array([1.0, 1, 1, 1, 2, 2, 3])
    times = np.array([9.0, 10, 10, 11, 19, 21, 30])
    values = np.array([10.0, 20, 30])
    noise_of = _table_noise(times / values[loads.astype(int) - 1] - 1, np.array([4.0, 2, 1]),
                           loads.astype(int) - 1)  # fmt: skip
    # Of four: 0.1, 0, 0, 0.1 of 3/4 of the variance; of two: 0.05 of half of it; one tells nothing.
    sizes = np.array([0.1, 0, 0, 0.1]) / np.sqrt(3 / 4), np.array([0.05, 0.05]) / np.sqrt(1 / 2)
    noise = 1.4826 * sizes[1][0]
    assert noise < sizes[0][0] < 1.345 * noise  # none is wild
    variance = (2 * 0.1**2 + 2 * 0.05**2) / 4  # of four degrees of freedom
    assert noise_of[0] == pytest.approx(noise)
    assert noise_of[1] == pytest.approx(np.sqrt(variance / np.array([4, 2, 1])))
    assert noise_of[2] == 4
    wild = np.array([0.0, 0.02, -0.02, 0.5, -0.02, 0.02, 0.02, -0.02, 0.0])
    noise, deviation, _ = _table_noise(wild, np.array([9.0]), np.zeros(9, dtype=int))
    assert noise == pytest.approx(1.4826 * 0.02 / np.sqrt(8 / 9))
    squares = (6 * 0.02**2 / (8 / 9) + (1.345 * noise) ** 2) / 9
    few = 1 + (1 / 9) / (8 / 9) / 9
    assert deviation == pytest.approx([few * np.sqrt(squares / (8 / 9) ** 2 / 9)])
    assert _table_noise(np.zeros(2), np.ones(2), np.arange(2)) == (0.0, pytest.approx([0, 0]), 0)


def test_many_loads_share_knots_and_falling_steps_are_levelled():
    loads = np.arange(1.0, 49.0)
    fit = fit_form("table", loads, None, 5 + loads)
    assert fit.curve.loads == pytest.approx(np.arange(1.5, 48, 2))  # pairs
    assert fit.values == pytest.approx(5 + np.arange(1.5, 48, 2))
    assert fit.notes == ("48 loads were pooled into 24 knots",)
    assert fit.leverage == pytest.approx(np.full(48, 0.5))
    uneven = fit_form("table", np.arange(1.0, 26.0), None, np.arange(1.0, 26.0))
    assert uneven.curve.loads[[0, 1, -1]] == pytest.approx([1.5, 3, 25])
    fall = fit_form("table", np.array([1.0, 2, 3, 4]), None, np.array([1.0, 3.0, 2.0, 4.0]))
    # Weighed by the inverse square of its time, as relative errors are.
    level = (3 / 9 + 2 / 4) / (1 / 9 + 1 / 4)
    assert fall.values == pytest.approx([1, level, level, 4])
    assert fall.notes == ("1 of 3 steps of the table did not rise and were levelled",)


def test_noise_from_neighbours_and_means_of_few():
    at = np.array([1.0, 2, 4, 5])
    centre = np.array([10.0, 12.0, 15.0, 18.0])
    # Chords: a third of the way from 10 to 15; two thirds from 12 to 18.
    chords = np.array([10 + 5 / 3, 12 + 6 * 2 / 3])
    spread = np.sqrt(1 + np.array([1 / 3, 2 / 3]) ** 2 + np.array([2 / 3, 1 / 3]) ** 2)
    wanted = 1.4826 * np.median(np.abs(centre[1:3] / chords - 1) / spread)
    assert _neighbour_noise(at, centre) == pytest.approx(wanted)
    assert _neighbour_noise(at[:2], centre[:2]) == 0.0
    assert _neighbour_noise(at[:3], centre[:3]) > 0
    few = ([1.0, 3.0], [1.0, 1.0, 1.0, 1.0, 9.0], [1.0, 1.1, 1.2])
    for times, mean in zip(few, (2.0, 1.0, 1.1), strict=True):
        found, count = _robust_means([np.array(times)])
        assert found == pytest.approx([mean])
        assert count == [len(times)]


@pytest.mark.parametrize("repeats", [3, 4])
@pytest.mark.parametrize("at", [0, 7, 19])
def test_one_wild_repeat_moves_a_knot_by_no_more_than_noise(repeats, at):
    """Of three times with a wild one the mean was taken: 1, 1 and 9 gave 3.67."""
    assert _robust_means([np.array([1.0, 1.0, 9.0])])[0] == pytest.approx([1.0])
    loads = np.repeat(np.arange(1.0, 21.0), repeats)
    noise = 0.02 * np.random.default_rng(4).standard_normal(loads.size)
    times = (5 + loads) * (1 + noise)
    times[at * repeats] *= 8.0
    fit = fit_form("table", loads, None, times)
    assert fit.values == pytest.approx(np.arange(6.0, 26.0), rel=0.06)
    assert 0.01 < fit.scale < 0.03
