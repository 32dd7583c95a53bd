"""Fresh factors of attention: moments, and what is known of the largest of normal variables."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, special

from afdplan.theory.attention_scatter import (
    AttentionScatter,
    _below,
    _Jobs,
    _last,
    _mean_law,
    _narrowed,
    _reach,
    _Rivals,
    largest_normal,
    scattered,
)
from afdplan.theory.attention_time import TimeLaw

LAW = TimeLaw(lowest=80.0, spacing=10.0, probabilities=np.array([0.1, 0.2, 0.4, 0.2, 0.1]))


@pytest.mark.parametrize(
    ("count", "mean", "std"),
    [  # H. L. Harter, Biometrika 48 (1961) 151-165, and 1 / sqrt(pi), sqrt(1 - 1 / pi)
        (2.0, 0.56419, 0.82565),
        (10.0, 1.53875, 0.58681),
        (100.0, 2.50759, 0.42942),
    ],
)
def test_the_largest_of_normals_is_as_tabulated(count, mean, std):
    found_mean, found_std = largest_normal(np.array([count]))
    assert found_mean[0] == pytest.approx(mean, rel=2e-3)
    assert found_std[0] == pytest.approx(std, rel=0.015)


@pytest.mark.parametrize("factors", ["gamma", "lognormal"])
@pytest.mark.parametrize("cv", [0.1, 0.5])
def test_a_time_and_a_factor_have_the_moments_of_a_product(factors, cv):
    found = scattered(LAW, cv, factors)
    square = (LAW.std**2 + LAW.mean**2) * (1 + cv**2)
    assert found.probabilities.sum() == pytest.approx(1.0)
    assert found.mean == pytest.approx(LAW.mean, rel=1e-9)
    assert found.std == pytest.approx(math.sqrt(square - LAW.mean**2), rel=5e-3)


@pytest.mark.parametrize("factors", ["gamma", "lognormal"])
def test_of_one_time_the_law_is_that_of_the_factor(factors):
    cv, point = 0.4, TimeLaw(lowest=50.0, spacing=1.0, probabilities=np.ones(1))
    found = scattered(point, cv, factors)
    at = np.array([30.0, 50.0, 75.0])
    sigma = math.sqrt(math.log(1 + cv**2))
    expected = {
        "gamma": special.gammainc(cv**-2, at / 50 / cv**2),
        "lognormal": special.ndtr(np.log(at / 50) / sigma + sigma / 2),
    }[factors]
    got = np.interp(at, found.support + found.spacing / 2, found.cumulative)
    assert got == pytest.approx(expected, abs=2e-3)
    assert scattered(point, 0.0, factors) is point


def test_factors_delay_the_last_worker_by_what_an_integral_says():
    """Jobs all alike: the last of A gammas, whose layers have nothing in common."""
    cv, point = 0.25, TimeLaw(lowest=100.0, spacing=1.0, probabilities=np.ones(1))
    scatter = AttentionScatter.of(point, (np.ones(1), np.ones(1)), 1, cv, "gamma")
    workers = np.array([1.0, 4.0, 32.0])
    late, fresh, kept = scatter.jobs.barriers(workers)
    for at, a in enumerate(workers):

        def above(t, a=a):
            return 1 - special.gammainc(cv**-2, t / cv**2) ** a

        mean = integrate.quad(above, 0, 8)[0]
        square = integrate.quad(lambda t: 2 * t * above(t), 0, 8)[0]
        assert late[at, 0] == pytest.approx(100 * (mean - 1), abs=0.05)
        assert fresh[at, 0] == pytest.approx(100 * math.sqrt(square - mean**2), rel=0.01)
    assert kept.shape == (3, 1)
    assert AttentionScatter.of(point, (np.ones(1), np.ones(1)), 1, 0.0, "gamma") is None


def test_two_layers_have_their_loads_in_common():
    """Heavy by chance 0.1, light else, both far apart: what loads give the last is kept.

    With A workers the last is heavy with chance ``1 - 0.9^A``; the covariance of the last ends of
    two layers is that of the conditional means, here drawn.
    """
    law = TimeLaw(lowest=100.0, spacing=100.0, probabilities=np.array([0.9, 0.1]))
    cv, a, draws = 0.1, 8, 60_000
    scatter = AttentionScatter.of(law, (np.ones(1), np.ones(1)), 1, cv, "gamma")
    late, fresh, kept = (float(x[0, 0]) for x in scatter.jobs.barriers(np.array([float(a)])))
    generator = np.random.default_rng(7)
    loads = np.where(generator.random((draws, a)) < 0.1, 200.0, 100.0)
    ends = [(loads * generator.gamma(cv**-2, cv**2, loads.shape)).max(axis=1) for _ in range(2)]
    common = float(np.cov(*ends)[0, 1])
    still = loads.max(axis=1)
    assert late == pytest.approx(np.mean(ends) - still.mean(), abs=0.4)
    assert kept == pytest.approx(common / still.var(), rel=0.05)
    assert fresh == pytest.approx(math.sqrt(np.var(ends) - common), rel=0.05)


def test_the_mean_of_a_workers_jobs_scatters_as_its_sum_says():
    """Two jobs of 100 and 200, sums 200 to 400 by halves: their mean is half of that."""
    sums = np.array([200.0, 300.0, 400.0]), np.array([0.25, 0.75, 1.0])
    law = TimeLaw(lowest=100.0, spacing=100.0, probabilities=np.array([0.5, 0.5]))
    scatter = AttentionScatter.of(law, sums, 2, 0.2, "gamma")
    assert scatter.jobs.still.mean == pytest.approx(150.0)
    # A point of chance is spread over what lies before it, half a step of 100 on average.
    assert scatter.means.still.mean == pytest.approx(
        0.5 * (0.25 * 200 + 0.5 * 250 + 0.25 * 350), 1e-2
    )
    assert scatter.means.still.support[[0, -1]] == pytest.approx([100.0, 200.0])
    assert scatter.later(5.0).added == 5.0
    assert scatter.later(5.0).later(2.0).added == 7.0


def test_quantiles_that_are_delayed_keep_a_share_of_their_variance():
    """Of 0 to 15, later by as much again: the deviation that doubles is scaled to what is kept."""
    still = np.arange(16.0)[None, :]
    for later, kept, deviation in (
        (still, 1.0, 1.0),
        (still, 0.25, 0.5),
        (-still / 2, 1.0, 0.5),  # what narrows by itself is not widened
        (-still / 2, 0.04, 0.2),
        (np.full((1, 16), 3.0), 1.0, 1.0),
    ):
        found = _narrowed(still, later, np.array([[kept]]))
        assert found.mean() == pytest.approx((still + later).mean())
        assert found.std() == pytest.approx(deviation * still.std())
        assert (np.diff(found) > 0).all()
    # Each design for itself.
    rows, delays = np.vstack([still, 5 * still + 1, still**2]), np.vstack([still, still, 0 * still])
    shares = np.array([[0.25], [1.0], [0.04]])
    together = _narrowed(rows, delays, shares)
    for at in range(3):
        one = slice(at, at + 1)
        assert together[one] == pytest.approx(_narrowed(rows[one], delays[one], shares[one]))


@pytest.mark.parametrize(
    ("workers", "steepness"), [(1000.0, 2.0), (1000.0, 0.3), (2.0, 2.0), (1.0, 2.0)]
)
@pytest.mark.parametrize("deviation", [0.5, 1.5])
def test_rivals_of_the_slowest_are_those_not_far_below_it(workers, steepness, deviation):
    """Where the law of the slowest falls off exponentially, all have as many rivals."""
    jobs = np.linspace(10, 20, 16)[None, :]
    levels = np.exp(steepness * (jobs[0] - 20.0))
    mean, std = _Rivals(jobs, levels, np.array([workers])).delays(np.full((1, 16), deviation))
    near = min(steepness * deviation * (0.30 + 0.95 + 1.96) / 3, workers - 1)
    score, scatter = largest_normal(np.array([1 + near]))
    assert mean == pytest.approx(np.full((1, 16), deviation * score[0]))
    assert std == pytest.approx(np.full((1, 16), deviation * scatter[0]))


def test_jobs_of_a_load_that_is_always_the_same_have_one_mean():
    law = _mean_law(np.array([6.0, 6.0, 8.0]), np.array([0.0, 1.0, 1.0]), 3)
    assert law.support.tolist() == [2.0]
    wide = _mean_law(np.array([6.0, 9.0]), np.array([0.0, 1.0]), 3)
    assert wide.support[[0, -1]] == pytest.approx([2.0, 3.0])
    assert wide.cumulative[-1] == 1.0
    assert wide.mean == pytest.approx(2.5, abs=2e-3)


def chance_of_product(factors, cv, point, law=LAW):
    """Return P(a g <= point), atom by atom."""
    ratio = np.maximum(point / law.support, 1e-300)
    if factors == "gamma":
        return float(law.probabilities @ special.gammainc(cv**-2, ratio * cv**-2))
    sigma = math.sqrt(math.log(1 + cv**2))
    return float(law.probabilities @ special.ndtr(np.log(ratio) / sigma + sigma / 2))


@pytest.mark.parametrize("factors", ["gamma", "lognormal"])
@pytest.mark.parametrize("cv", [0.05, 0.3, 1.0])
def test_factors_reach_six_deviations_of_their_logarithm(factors, cv):
    sigma = math.sqrt(math.log(1 + cv**2))
    logs = _reach(cv)
    assert logs.size == 2048
    assert logs[[0, -1]] == pytest.approx([-6 * sigma - sigma**2 / 2, 6 * sigma - sigma**2 / 2])
    points = np.array([20.0, 80.0, 101.0, 140.0, 400.0])
    below = _below(points, LAW, cv, factors)
    assert below.shape == (5, 5)
    each = [chance_of_product(factors, cv, p) for p in points]
    assert below @ LAW.probabilities == pytest.approx(each, abs=1e-5)
    one = TimeLaw(lowest=100.0, spacing=1.0, probabilities=np.ones(1))
    alone = [chance_of_product(factors, cv, p, one) for p in points]
    assert below[:, 2] == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("factors", ["gamma", "lognormal"])
@pytest.mark.parametrize("cv", [0.05, 0.3])
def test_a_scattered_time_has_the_law_of_the_product(factors, cv):
    """On 1,024 points from the least time and factor to the most; the mean is exact."""
    found, logs = scattered(LAW, cv, factors), _reach(cv)
    points = np.linspace(80 * math.exp(logs[0]), 120 * math.exp(logs[-1]), 1024)
    assert found.probabilities.size == 1024
    assert found.spacing == pytest.approx(points[1] - points[0])
    assert found.lowest == pytest.approx(points[0], abs=0.02 * found.spacing)
    edges = (points[1:] + points[:-1]) / 2
    exact = [chance_of_product(factors, cv, p) for p in edges]
    assert found.cumulative[:-1] == pytest.approx(exact, abs=1e-5)
    assert (found.probabilities >= 0).all()
    assert found.mean == pytest.approx(LAW.mean, rel=1e-12)
    assert scattered(LAW, cv).probabilities.tolist() == (
        scattered(LAW, cv, "gamma").probabilities.tolist()
    )


def test_two_factors_of_one_load_are_independent():
    """Logarithms of the chance that neither product is later, on 48 points between rare ends."""
    cv = 0.2
    jobs = _Jobs.of(LAW, cv, "gamma")
    assert jobs.still is LAW
    assert jobs.pair.shape == (48, 48)
    cumulative = jobs.once.cumulative
    first = jobs.once.support[np.searchsorted(cumulative, 1e-7)]
    last = jobs.once.support[np.searchsorted(cumulative, 1 - 1e-7)]
    points = np.linspace(first, last, 48)
    assert jobs.spacing == pytest.approx((last - first) / 47)
    for a, b in ((10, 10), (20, 5), (30, 47), (47, 47)):
        each = [special.gammainc(cv**-2, points[at] / LAW.support * cv**-2) for at in (a, b)]
        exact = float(LAW.probabilities @ (each[0] * each[1]))
        assert math.exp(jobs.pair[a, b]) == pytest.approx(exact, abs=1e-5)
    assert jobs.pair == pytest.approx(jobs.pair.T)


def test_the_largest_of_counts_between_and_beyond():
    """Of one the normal itself; e^14 at most; quantiles at 256 even levels."""
    mean, std = largest_normal(np.array([1.0, math.exp(14), 1e9]))
    normal = special.ndtri((np.arange(256) + 0.5) / 256)
    assert (mean[0], std[0]) == (pytest.approx(0, abs=1e-12), pytest.approx(normal.std()))
    assert (mean[1], std[1]) == (mean[2], std[2])
    levels = (np.arange(256) + 0.5) / 256
    many = special.ndtri(levels ** math.exp(-14))
    assert (mean[1], std[1]) == (pytest.approx(many.mean()), pytest.approx(many.std()))
    # A line between counts a tenth of a logarithm apart.
    low, middle, high = largest_normal(np.exp(np.array([2.0, 2.05, 2.1])))[0]
    assert middle == pytest.approx((low + high) / 2)


def test_the_last_of_several_is_that_of_all_outcomes():
    workers = np.array([1.0, 2.0])
    mean, std = _last(LAW, workers)
    first, second = (law.ravel() for law in np.meshgrid(LAW.support, LAW.support))
    chances = np.outer(LAW.probabilities, LAW.probabilities).ravel()
    most = np.maximum(first, second)
    assert mean[:, 0] == pytest.approx([LAW.mean, chances @ most])
    variance = chances @ (most - chances @ most) ** 2
    assert std[:, 0] == pytest.approx([LAW.std, math.sqrt(variance)])


def test_loads_keep_no_more_than_their_variance_and_a_thousandth_at_least():
    """Wide factors may scatter the last of many more by loads than loads alone do."""
    wide = _Jobs.of(LAW, 1.0, "gamma").barriers(np.array([1.0, 8.0, 64.0]))[2][:, 0]
    assert wide[1:].tolist() == [1.0, 1.0]
    assert 0.95 < wide[0] <= 1.0
    few = _Jobs.of(LAW, 0.1, "gamma").barriers(np.array([2.0, 8.0]))[2][:, 0]
    assert (few < 0.95).all()
    # Of a load that hardly ever differs next to nothing is kept.
    rare = TimeLaw(lowest=80.0, spacing=1.0, probabilities=np.array([1 - 1e-13, 1e-13]))
    late, fresh, kept = _Jobs.of(rare, 0.5, "gamma").barriers(np.array([4.0]))
    assert 1e-3 <= kept[0, 0] <= 1.0
    assert (late[0, 0] > 0, fresh[0, 0] > 0) == (True, True)
