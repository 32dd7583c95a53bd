import math

import numpy as np
import pytest

from afdplan.statistics.percentile import percentile_estimate

PROBABILITY = 0.95


def parts_of(generator, parts, length, memory):
    """Return AR(1) series of unit variance, one row per part."""
    noise = generator.standard_normal((parts, length)) * math.sqrt(1 - memory**2)
    values = np.empty((parts, length))
    values[:, 0] = generator.standard_normal(parts)
    for k in range(1, length):
        values[:, k] = memory * values[:, k - 1] + noise[:, k]
    return values


def estimate_of(values, quantile=np.quantile):
    pooled = values.ravel()
    edge = quantile(pooled, PROBABILITY)
    return percentile_estimate(
        PROBABILITY,
        lambda p: float(quantile(pooled, p)),
        (values > edge).sum(axis=1),
        np.full(len(values), values.shape[1]),
    )


@pytest.mark.parametrize("memory", [0.0, 0.9])
def test_intervals_cover_the_percentile_whether_values_depend_on_each_other_or_not(memory):
    generator = np.random.default_rng(5)
    truth = 1.6448536269514722  # of the standard normal law
    trials = 400
    covered = 0
    for _ in range(trials):
        found = estimate_of(parts_of(generator, 20, 500, memory))
        covered += found.low <= truth <= found.high
    # 95 % of 400 is 380 with a deviation of 4.4; five of them either way.
    assert 358 <= covered <= 400


def test_intervals_that_take_dependent_values_for_independent_ones_would_not_cover():
    generator = np.random.default_rng(6)
    covered = 0
    for _ in range(200):
        values = parts_of(generator, 20, 500, 0.9)
        mixed = generator.permutation(values.ravel()).reshape(values.shape)
        found = estimate_of(mixed)
        covered += found.low <= 1.6448536269514722 <= found.high
    assert covered < 150


def test_the_upper_end_is_infinite_where_too_little_was_seen():
    found = percentile_estimate(0.99, lambda p: p, [10, 0, 0], [100, 100, 100])
    assert found.value == 0.99
    assert found.high == math.inf
    assert 0 <= found.low < 0.99


def test_a_percentile_inside_an_atom_is_certain():
    found = percentile_estimate(0.99, lambda p: 7.0, [0, 0, 0], [10_000, 10_000, 10_000])
    assert (found.low, found.value, found.high) == (7.0, 7.0, 7.0)


def test_a_few_values_are_not_certain_because_none_lies_beyond():
    found = percentile_estimate(0.99, lambda p: 59 * p, [0] * 6, [10] * 6)
    assert found.high == math.inf
    assert found.low < found.value
