"""Exact barrier against enumeration, closed forms, quadrature and Monte Carlo."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.special import log_ndtr

from afdplan.lengths.law import IndependentLengths
from afdplan.model.curve import LinearCurve, RooflineCurve, TabulatedCurve
from afdplan.model.stages import AttentionLayers
from afdplan.theory.attention_time import exact_time, gaussian_time
from afdplan.theory.barrier import barrier_mean, barrier_quantile
from afdplan.theory.worker_load import convolve_slots
from tests.models import correlated, geometric

LINE = AttentionLayers(curve=LinearCurve(slope=0.00165, intercept=50.0))


def workers(*counts):
    return np.array(counts, dtype=float)


def enumerated(slot, batch, count, time, floor):
    """E[max(floor, max_j time(T_j))] over every combination of slot loads."""
    support = [(y, p) for y, p in zip(slot.support, slot.probabilities, strict=True) if p > 0]
    mean = 0.0
    for combination in itertools.product(support, repeat=batch * count):
        loads = np.array([y for y, _ in combination]).reshape(count, batch).sum(axis=1)
        chance = np.prod([p for _, p in combination])
        mean += chance * max(floor, *(time(load) for load in loads))
    return mean


@pytest.mark.parametrize("curve", [
    LinearCurve(slope=0.3, intercept=1.0),
    LinearCurve(slope=0.0, intercept=4.0),
])  # fmt: skip
@pytest.mark.parametrize(("batch", "count"), [(1, 1), (1, 3), (2, 2), (3, 2)])
@pytest.mark.parametrize("floor", [0.0, 3.1, 100.0])
def test_exact_barrier_equals_enumeration(curve, batch, count, floor):
    slot = IndependentLengths(prompt="uniform:0..1", decode="uniform:1..3").slot_load()
    kind = AttentionLayers(curve=curve, time_per_request=0.25, time_per_context=0.1)
    law = exact_time(slot, kind, batch)
    got = barrier_mean(law, workers(count), np.array([floor]))[0]
    expected = enumerated(slot, batch, count, lambda load: kind.time(float(load), batch), floor)
    assert got == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("curve", [
    RooflineCurve(floor=2.0, slope=0.7, intercept=-1.0),
    TabulatedCurve(loads=[0, 2, 9], times=[1.0, 1.5, 6.0]),
])  # fmt: skip
def test_curved_times_keep_the_barrier(curve):
    # A time grid of 16,384 points stands in for the few true times: error below its spacing.
    slot = IndependentLengths(prompt="uniform:0..2", decode="uniform:1..3").slot_load()
    kind = AttentionLayers(curve=curve)
    law = exact_time(slot, kind, 2)
    got = barrier_mean(law, workers(3), np.zeros(1))[0]
    expected = enumerated(slot, 2, 3, lambda load: kind.time(float(load), 2), 0.0)
    assert got == pytest.approx(expected, rel=2e-4)


def test_requests_all_alike_with_one_slot_is_the_largest_of_uniform_ages():
    decode, count = 50, 7
    slot = IndependentLengths(prompt="10", decode=str(decode)).slot_load()
    law = exact_time(slot, AttentionLayers(curve=LinearCurve(slope=1.0)), 1)
    largest = 10 + sum(1 - (k / decode) ** count for k in range(1, decode))
    assert barrier_mean(law, workers(count), np.zeros(1))[0] == pytest.approx(largest, rel=1e-12)


def test_one_worker_waits_for_nobody():
    slot = geometric().slot_load()
    law = exact_time(slot, LINE, 256)
    assert barrier_mean(law, workers(1), np.zeros(1))[0] == pytest.approx(
        50 + 0.00165 * 256 * slot.moments.mean, rel=1e-9
    )


@pytest.mark.parametrize("law", [geometric(), correlated(longest=600)])
def test_exact_barrier_agrees_with_monte_carlo(law):
    batch, count = 8, 5
    times = exact_time(law.slot_load(), LINE, batch)
    exact = barrier_mean(times, workers(count), np.zeros(1))[0]
    generator = np.random.default_rng(11)
    sample = law.sample_stationary(generator, 20_000 * batch * count)
    loads = (sample.prompt_tokens + sample.age).reshape(-1, count, batch).sum(axis=2)
    slowest = (50 + 0.00165 * loads).max(axis=1)
    error = slowest.std() / np.sqrt(slowest.size)
    assert abs(slowest.mean() - exact) <= 5 * error
    # Power: the mean-field value, which a broken barrier would give, is far outside.
    assert abs(slowest.mean() - times.mean) > 50 * error


def quadrature(mean, std, count, floor):
    """G + sigma Integral_z^inf (1 - Phi(x)^A) dx, by a fine Riemann sum."""
    x = np.linspace((floor - mean) / std, 12, 2_000_001)
    y = -np.expm1(count * log_ndtr(x))
    return floor + std * float(((y[1:] + y[:-1]) / 2).sum() * (x[1] - x[0]))


@pytest.mark.parametrize("count", [1, 2, 8, 64])
@pytest.mark.parametrize("shift", [-6.0, 0.0, 2.0])
def test_gaussian_barrier_equals_the_papers_integral(count, shift):
    slot = geometric().slot_load()
    law = gaussian_time(slot, LINE, 256)
    mean, std = 50 + 0.00165 * 256 * slot.moments.mean, 0.00165 * 16 * slot.moments.std
    floor = mean + shift * std
    got = barrier_mean(law, workers(count), np.array([floor]))[0]
    expected = quadrature(mean, std, count, floor)
    assert got == pytest.approx(expected, abs=2e-4 * std)


def test_gaussian_tends_to_exact_as_batches_grow():
    slot = geometric().slot_load()
    errors = []
    for batch in (4, 32, 256, 2048):
        floor = np.zeros(1)
        exact = barrier_mean(exact_time(slot, LINE, batch), workers(32), floor)[0]
        gauss = barrier_mean(gaussian_time(slot, LINE, batch), workers(32), floor)[0]
        std = 0.00165 * np.sqrt(batch) * slot.moments.std
        errors.append(abs(gauss - exact) / std)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05 * errors[0]


def test_quantiles_are_those_of_the_largest():
    slot = IndependentLengths(prompt="0", decode="10").slot_load()
    law = exact_time(slot, AttentionLayers(curve=LinearCurve(slope=1.0)), 1)  # uniform on 0..9
    got = barrier_quantile(law, workers(1, 2), np.zeros(2), 0.5)
    assert got.tolist() == [4.0, 7.0]  # (8/10)^2 = 0.64 >= 0.5 > 0.49
    assert barrier_quantile(law, workers(1), np.array([20.0]), 0.99).tolist() == [20.0]


@pytest.mark.parametrize("batch", [1, 3, 20])
def test_convolution_equals_repeated_convolution(batch):
    slot = correlated(requests=30).slot_load()
    load = convolve_slots(slot, batch)
    pmf = np.ones(1)
    for _ in range(batch):
        pmf = np.convolve(pmf, slot.probabilities)
    np.testing.assert_allclose(load.probabilities, pmf, atol=1e-14)
    assert load.lowest == batch * slot.lowest


@pytest.mark.parametrize("batch", [16, 256, 1000])
def test_binned_convolution_keeps_mean_spread_and_tail(batch):
    slot = IndependentLengths(
        prompt="lognormal:mean=3000,cv=1.5", decode="geometric:800"
    ).slot_load()
    load = convolve_slots(slot, batch)
    support = load.support
    mean = load.probabilities @ support
    std = np.sqrt(load.probabilities @ (support - mean) ** 2)
    assert mean == pytest.approx(batch * slot.moments.mean, rel=1e-7)
    assert std == pytest.approx(np.sqrt(batch) * slot.moments.std, rel=3e-4)
    sample = (
        np.random.default_rng(5)
        .choice(slot.support, p=slot.probabilities, size=(60_000 // batch + 600, batch))
        .sum(axis=1)
    )
    limit = np.quantile(sample, 0.95)
    chance = load.exceedance(limit)
    assert abs((sample > limit).mean() - chance) <= 5 * np.sqrt(chance / sample.size)


def test_a_curved_law_keeps_its_spread():
    slot = IndependentLengths(prompt="geometric:50", decode="geometric:20").slot_load()
    kind = AttentionLayers(curve=RooflineCurve(floor=150.0, slope=0.7, intercept=-1.0))
    law, loads = exact_time(slot, kind, 4), convolve_slots(slot, 4)
    times = kind.time(np.maximum(loads.support, 0.0), 4)
    mean = float(loads.probabilities @ times)
    assert law.mean == pytest.approx(mean, rel=1e-9)
    std = np.sqrt(float(loads.probabilities @ (times - mean) ** 2))
    assert law.std == pytest.approx(std, rel=1e-4)
