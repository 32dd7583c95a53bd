"""Do intervals of simulated means cover what they say, and does the warm-up go?"""

import math

import numpy as np
import pytest

from afdplan.errors import InsufficientDataError, InvalidInputError
from afdplan.statistics.batch_means import batch_means, group, steps_for_batch_means
from afdplan.statistics.replications import ratio_estimate
from afdplan.statistics.warmup import warmup_length


def test_ratio_of_replications_covers_95_percent():
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(2000):
        bottom = generator.gamma(20.0, size=10)
        estimate = ratio_estimate(3.0 * bottom + generator.normal(size=10), bottom)
        hits += estimate.low <= 3.0 <= estimate.high
    assert abs(hits / 2000 - 0.95) < 5 * math.sqrt(0.95 * 0.05 / 2000)


def test_batch_means_cover_where_independent_formulas_do_not():
    generator = np.random.default_rng(2)
    covered = naive = 0
    for _ in range(300):
        noise = generator.normal(size=4000)
        series = np.empty(4000)
        series[0] = noise[0] / math.sqrt(1 - 0.81)
        for k in range(1, 4000):
            series[k] = 0.9 * series[k - 1] + noise[k]
        estimate = batch_means(series, np.ones(4000))
        covered += estimate.low <= 0 <= estimate.high
        naive += abs(series.mean()) <= 1.96 * series.std() / math.sqrt(4000)
    assert covered / 300 > 0.90
    assert naive / 300 < 0.6


def test_too_few_parts_are_refused_with_the_estimate():
    with pytest.raises(InsufficientDataError) as caught:
        ratio_estimate([2.0], [1.0])
    assert caught.value.estimate.value == 2.0
    with pytest.raises(InsufficientDataError) as caught:
        batch_means([1.0, 3.0], [1.0, 1.0])
    assert caught.value.estimate.value == 2.0
    with pytest.raises(InvalidInputError):
        group([1.0], 2)


def test_steps_needed_and_groups():
    assert steps_for_batch_means(10.0, 200.0) == 1000
    assert group(np.arange(10.0), 3).sum() == 45.0


def test_warmup_is_found_and_absent_where_there_is_none():
    generator = np.random.default_rng(3)
    steady = generator.normal(10.0, 1.0, 100)
    warming = steady.copy()
    warming[:20] -= np.linspace(15, 1, 20)
    assert 10 <= warmup_length(warming) <= 35
    assert np.median([warmup_length(generator.normal(size=100)) for _ in range(50)]) <= 25
    assert warmup_length([1.0, 2.0]) == 0
