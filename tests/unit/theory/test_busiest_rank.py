"""At which counts the law of the busiest rank is taken, and which ranks it waits for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import nbinom, norm, poisson

from afdplan.theory.busiest_rank import (
    _counts,
    _held,
    _told_between,
    largest_count,
    largest_counts,
)


def edge(means, phi, times, level, ends):
    """Return the count below which all of the ranks are with this chance (Wilson, Hilferty)."""

    def log_chance(x):
        total = 0.0
        for mean, wide in zip(means, phi, strict=True):
            alike = mean / wide
            z = 3 * math.sqrt(alike) * (math.cbrt((x + 0.5) / mean) - 1 + 1 / (9 * alike))
            total += times * norm.logcdf(z)
        return total - level

    return brentq(log_chance, *ends)


@pytest.mark.parametrize(
    ("means", "phi", "times", "end", "least"),
    [
        ([100.0], [0.875], 8.0, 280.0, 100.0),
        ([3.0], [2.0], 64.0, 60.0, 3.0),
        ([4000.0], [1.0], 16.0, 4800.0, 4000.0),
        ([900.0, 850.0, 700.0], [1.2, 1.3, 1.4], 1.0, 1500.0, 500.0),
        ([900.0, 850.0, 700.0, 600.0, 500.0], [1.2] * 5, 1.0, 1500.0, 500.0),
        ([900.0], [1.0], 4.0, 1400.0, 940.0),  # no less than the mean of the ranks
    ],
)
def test_counts_are_dense_in_the_bulk_and_go_out_to_the_end(means, phi, times, end, least):
    ahead = 0.3 * means[0]
    (counts,) = _counts(
        np.array([means]), np.array([phi]), np.array([[times]]),
        (np.array([ahead]), np.array([end])), np.array([least]),
    )  # fmt: skip
    size, tail = (14, 4) if len(means) > 4 else (32, 8)
    assert counts.size == size + tail
    assert counts[-1] == end
    assert (counts == np.floor(counts)).all()
    begin, dense = (edge(means, phi, times, x, (ahead, end)) for x in (math.log(1e-6), -1e-3))
    away = (end - ahead) / 1000  # ten halvings
    first = max(begin, math.ceil(least) - 1)
    assert first - 1 - away <= counts[0] <= first
    until = max(dense, counts[0] + size - 1)
    assert until - 1 - away <= counts[size - 1] <= until + 1e-9
    # Even in the bulk, farther apart by squares beyond.
    steps = np.diff(counts[:size])
    assert steps.max() - steps.min() <= 1
    reach = counts[-1] - until
    squares = until + reach * (np.arange(1, tail + 1) / tail) ** 2
    assert counts[size:] == pytest.approx(squares, abs=1.5 + away)


def test_a_bulk_of_few_counts_is_taken_one_by_one():
    (counts,) = _counts(
        np.array([[0.5]]), np.ones((1, 1)), np.array([[8.0]]),
        (np.zeros(1), np.array([5.0])), np.array([0.5]),
    )  # fmt: skip
    assert counts[:32] == pytest.approx(np.arange(32), abs=1)
    assert counts[-1] == 31 + 8  # a point each beyond


def test_the_law_goes_out_nine_deviations_and_the_skew():
    """Eight ranks of 1,000 in the mean: 9 root 1,000 and a sixth of 81."""
    for phi, skew in ((1.0, 1.0), (4.0, 8000 * 3 / 7996 + 1)):
        ((x, cumulative),) = largest_counts(
            np.array([[1 / 8]]), np.array([8]), np.array([8000.0]), np.array([phi])
        )
        end = 1000 + 9 * math.sqrt(1000 * skew) + 81 * skew / 6
        assert x[-1] == pytest.approx(end, abs=1.0)
        assert cumulative[-1] == pytest.approx(1.0, abs=1e-9)
        assert (np.diff(x) > 0).all()
        assert (np.diff(cumulative) >= 0).all()


def test_no_count_below_the_mean_and_none_above_all():
    for ranks, choices in ((3, 10.0), (4, 8.0), (8, 20.0)):
        x, cumulative = largest_count(np.full(ranks, 1 / ranks), choices)
        assert (x[-1], cumulative[-1]) == (choices, 1.0)
        least = math.ceil(choices / ranks)
        assert np.interp([least - 2, least - 1], x, cumulative).tolist() == [0.0, 0.0]
        assert np.interp(least, x, cumulative) > 0
        ((raw, chances),) = largest_counts(
            np.array([[1 / ranks]]), np.array([ranks]), np.array([choices]), np.ones(1)
        )
        assert chances[raw >= choices] == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("wide", [1.0, 3.0])
def test_chances_of_counts_far_from_their_mean(wide):
    """Small and large means at once, rows of their own families."""
    means = np.array([0.2, 5.0, 300.0])
    x = np.array([[0.0, 4.0, 350.0]])
    held, chance = _held(x[:, :, None], means[None, None, :], np.full((1, 1, 1), wide))
    for at, mean in enumerate(means):
        law = poisson(mean) if wide == 1 else nbinom(mean / (wide - 1), 1 / wide)
        assert held[0, :, at] == pytest.approx(law.cdf(x[0]), rel=1e-8, abs=1e-290)
        expected = [
            math.exp(law.logpmf(k) - law.logcdf(k)) if law.logcdf(k) > -650 else 1.0 for k in x[0]
        ]
        assert chance[0, :, at] == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_between_counts_that_are_neighbours_evenly_else_by_a_normal():
    x = np.array([[3.0, 4.0, 10.0], [0.0, 6.0, 7.0]])
    chances = np.array([[0.1, 0.4, 0.9], [0.2, 0.5, 0.8]])
    laws = _told_between(x, chances)
    for row, (told, found) in enumerate(laws):
        assert told.size == 13
        for at in (0, 1):
            parts = np.arange(6) / 6
            apart = x[row, at + 1] - x[row, at]
            assert told[6 * at : 6 * at + 6] == pytest.approx(x[row, at] + parts * apart)
            ends = chances[row, at : at + 2]
            if apart == 1:
                expected = ends[0] + parts * (ends[1] - ends[0])
            else:
                scores = norm.ppf(ends)
                expected = norm.cdf(scores[0] + parts * (scores[1] - scores[0]))
            assert found[6 * at : 6 * at + 6] == pytest.approx(expected)
        assert (told[-1], found[-1]) == (x[row, -1], chances[row, -1])


@pytest.mark.parametrize("phi", [1.0, 2.0])
def test_a_rank_that_is_hardly_chosen_changes_nothing(phi):
    """Three ranks near the largest, and one far below it that is not truncated."""
    shares = np.array([0.32, 0.32, 0.32, 0.04])
    number = 600.0
    counts, cumulative = largest_count(shares, number, phi)
    rng = np.random.default_rng(3)
    drawn = rng.multinomial(600, shares, 200_000) if phi == 1 else None
    if phi > 1:
        s = (number - 1) / (phi - 1) - 1
        rows = rng.standard_gamma(s * shares, (200_000, 4))
        drawn = rng.multinomial(600, rows / rows.sum(axis=1, keepdims=True))
    most = drawn.max(axis=1)
    for x in range(195, 235, 5):
        assert np.interp(x, counts, cumulative) == pytest.approx((most <= x).mean(), abs=0.01)
