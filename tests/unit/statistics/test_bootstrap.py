"""Ratio of sums: formulas against brute force, limits, and refusals."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import stdtr, stdtrit

from afdplan.errors import InsufficientDataError, InvalidInputError
from afdplan.statistics.bootstrap import (
    block_counts,
    block_error,
    bootstrap_ratio,
    sum_by_cluster,
)
from afdplan.statistics.student import student_probability, student_quantile


def example(size=400, seed=1):
    generator = np.random.default_rng(seed)
    return generator.exponential(3.0, size), generator.exponential(1.0, size) + 0.1


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 15, 16, 511])
def test_students_t_agrees_with_scipy(degrees):
    for confidence in (0.01, 0.5, 0.95, 0.999):
        expected = stdtrit(degrees, 0.5 + confidence / 2)
        assert student_quantile(confidence, degrees) == pytest.approx(expected, rel=1e-11)
    for t in (0.0, 0.3, 2.0, 50.0):
        expected = 1 - 2 * stdtr(degrees, -t)
        assert student_probability(t, degrees) == pytest.approx(expected, abs=1e-13)


def test_the_standard_error_is_that_of_the_worst_division():
    above, below = example(64)
    ratio = above.sum() / below.sum()
    errors = []
    for count in (64, 32, 16):
        size = 64 // count
        residuals = [
            sum(above[k * size + i] - ratio * below[k * size + i] for i in range(size))
            for k in range(count)
        ]
        square = sum(r * r for r in residuals) * count / (count - 1)
        errors.append(math.sqrt(square) / below.sum())
    found = bootstrap_ratio(above, below)
    assert found.estimate.value == pytest.approx(ratio, rel=1e-14)
    assert found.standard_error == pytest.approx(max(errors), rel=1e-12)
    assert found.independent_standard_error == pytest.approx(errors[0], rel=1e-12)
    assert found.blocks == (64, 32, 16)[int(np.argmax(errors))]


def test_the_interval_is_that_of_resampled_blocks_one_by_one():
    above, below = example(16)
    ratio = above.sum() / below.sum()

    def error(a, b):
        residual = a - a.sum() / b.sum() * b
        return math.sqrt(16 / 15 * (residual @ residual)) / b.sum()

    generator = np.random.default_rng(5)
    studentised = []
    for draw in generator.integers(16, size=(500, 16)):
        a, b = above[draw], below[draw]
        studentised.append((a.sum() / b.sum() - ratio) / error(a, b))
    limit = 3 * student_quantile(0.9, 15)
    low, high = np.quantile(np.clip(studentised, -limit, limit), [0.05, 0.95])
    found = bootstrap_ratio(above, below, confidence=0.9, seed=5, replicates=500)
    assert found.blocks == 16
    assert found.estimate.low == pytest.approx(ratio - high * error(above, below), rel=1e-9)
    assert found.estimate.high == pytest.approx(ratio - low * error(above, below), rel=1e-9)


def test_few_blocks_give_students_interval():
    above, below = example(6)
    found = bootstrap_ratio(above, below)
    half = stdtrit(5, 0.975) * found.standard_error
    assert found.estimate.high - found.estimate.value == pytest.approx(half, rel=1e-9)
    assert found.estimate.method.startswith("Student")


def test_block_error_sees_a_slow_wave_that_single_entries_do_not():
    wave = 2 + np.sin(np.linspace(0, 2 * np.pi, 1024))
    ones = np.ones(1024)
    assert block_error(wave, ones, 16) > 5 * block_error(wave, ones, 1024)
    found = bootstrap_ratio(wave, ones)
    assert found.blocks == 16
    assert found.effective_entries < 1024 / 25


def test_clusters_are_summed_in_the_order_of_first_appearance():
    sums, counts = sum_by_cluster([5, 1, 5, 9], np.arange(4.0), np.ones(4))
    assert sums.tolist() == [2.0, 1.0, 3.0]
    assert counts.tolist() == [2.0, 1.0, 1.0]


def test_copies_in_a_cluster_add_no_information():
    above, below = example(200)
    once = bootstrap_ratio(above, below)
    copied = bootstrap_ratio(
        np.repeat(above, 5), np.repeat(below, 5), clusters=np.repeat(np.arange(200), 5)
    )
    assert copied.estimate.low == pytest.approx(once.estimate.low, rel=1e-12)
    assert copied.estimate.high == pytest.approx(once.estimate.high, rel=1e-12)
    assert copied.widening == pytest.approx(math.sqrt(5) * once.widening, rel=0.01)


def test_a_single_cluster_falls_back_to_entries():
    above, below = example(50)
    alone = bootstrap_ratio(above, below, clusters=np.zeros(50, dtype=int))
    assert alone == bootstrap_ratio(above, below)
    assert "entries" in alone.estimate.method


def test_no_spread_gives_no_width():
    found = bootstrap_ratio(np.full(100, 6.0), np.full(100, 2.0))
    assert (found.estimate.low, found.estimate.value, found.estimate.high) == (3.0, 3.0, 3.0)
    assert found.widening == 1.0
    assert found.entries_needed(0.01) == 1.0


def test_one_outlier_gives_a_wide_but_finite_interval():
    found = bootstrap_ratio(np.r_[np.ones(999), 5e4], np.ones(1000))
    assert found.estimate.low == 0.0  # of numbers that are never negative
    assert found.estimate.value < found.estimate.high < 10 * found.estimate.value


@given(
    st.lists(
        st.tuples(st.integers(0, 10**9), st.floats(1, 1e5)),
        min_size=2,
        max_size=60,
    ),
    st.floats(0.5, 0.999),
)
def test_the_interval_always_holds_the_value_and_scales(pairs, confidence):
    above, below = np.array(pairs).T
    found = bootstrap_ratio(above, below, confidence=confidence, replicates=100).estimate
    assert 0 <= found.low <= found.value <= found.high < math.inf
    twice = bootstrap_ratio(2 * above, below, confidence=confidence, replicates=100).estimate
    assert (twice.low, twice.value, twice.high) == (2 * found.low, 2 * found.value, 2 * found.high)


def test_the_same_seed_gives_the_same_interval():
    above, below = example()
    assert bootstrap_ratio(above, below, seed=3) == bootstrap_ratio(above, below, seed=3)
    assert bootstrap_ratio(above, below, seed=3) != bootstrap_ratio(above, below, seed=4)


def test_sixty_thousand_entries_take_no_time():
    above, below = example(60_000)
    began = time.perf_counter()
    bootstrap_ratio(above, below)
    assert time.perf_counter() - began < 0.5  # 0.02 s alone; the machine may be busy


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0], [1.0]), "one length"),
        (([], []), "one length"),
        (([1.0, math.nan], [1.0, 1.0]), "finite"),
        (([1.0, 1.0], [1.0, 0.0]), "> 0"),
    ],
)
def test_bad_lists_are_refused(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        bootstrap_ratio(*arguments)


@pytest.mark.parametrize(
    "options", [{"confidence": 0}, {"confidence": 1}, {"replicates": 99}, {"seed": -1}]
)
def test_bad_options_are_refused(options):
    with pytest.raises(InvalidInputError, match=next(iter(options))):
        bootstrap_ratio([1.0, 2.0], [1.0, 1.0], **options)


def test_one_entry_is_too_little_and_the_error_carries_the_value():
    with pytest.raises(InsufficientDataError) as caught:
        bootstrap_ratio([6.0], [2.0])
    assert caught.value.estimate == 3.0


def test_block_counts_halve_down_to_sixteen():
    assert block_counts(2) == [2]
    assert block_counts(31) == [31]
    assert block_counts(33) == [33, 16]
    assert block_counts(10**6) == [512, 256, 128, 64, 32, 16]
