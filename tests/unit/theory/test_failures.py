"""What failures leave of a bundle, summed over working times and devices in repair one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.failures import Failures
from afdplan.theory.failures import bundle_failures, mean_outage, no_spare_probability

THREE = IndependentLengths(prompt="fixed:10", decode="fixed:3")


def poisson(mean, count=200):
    return [math.exp(b * math.log(mean) - mean - math.lgamma(b + 1)) for b in range(count)]


def test_a_bundle_of_requests_of_three_tokens_by_hand():
    """Working times T are exponential: a slot makes floor(T / tau), whole 3 floor(T / 3 tau)."""
    failures = Failures(device_mtbf=100.0, restart=7.0)
    found = bundle_failures(THREE, 2.0, 5, failures)  # a failure every 20 s, a request takes 6 s
    made = sum(math.exp(-2.0 * k / 20) for k in range(1, 2000))
    useful = 3 * sum(math.exp(-6.0 * k / 20) for k in range(1, 2000))
    assert found.rate == pytest.approx(1 / 20)
    assert found.outage == 7.0
    assert found.availability == pytest.approx(20 / 27)
    assert found.share == pytest.approx(useful * 2.0 / 27)
    assert found.lost_tokens == pytest.approx(made - useful)


def test_a_bundle_that_hardly_fails_loses_the_mean_age_of_its_requests():
    """Ages 0, 1, 2 of three tokens; the limit goes on where the sums are no longer exact."""
    for mtbf in (1e12, 2e8):  # on both sides of where the limit is taken
        found = bundle_failures(THREE, 0.5, 5, Failures(device_mtbf=mtbf, restart=7.0))
        assert found.lost_tokens == pytest.approx(1.0, rel=1e-5, abs=0)
    long = IndependentLengths(prompt="fixed:10", decode="fixed:100001")  # of mean age 50,000
    found = bundle_failures(long, 0.01, 5, Failures(device_mtbf=1e8, restart=1e7))
    assert found.share == pytest.approx((1 - 5e-10 * 50_000) / 1.5, rel=1e-12)
    assert found.availability == pytest.approx(1 / 1.5)
    mixed = IndependentLengths(prompt="fixed:10", decode="uniform:1..5")
    found = bundle_failures(mixed, 0.01, 5, Failures(device_mtbf=1e12, restart=1.0))
    ages = np.concatenate([np.arange(d) for d in range(1, 6)])
    assert found.lost_tokens == pytest.approx(ages.mean())


@pytest.mark.parametrize("spares", [0, 1, 3])
def test_devices_in_repair_are_poisson_and_spares_stand_in_for_them(spares):
    failures = Failures(device_mtbf=1e4, restart=30.0, repair=500.0, spare_devices=spares)
    chances = poisson(40 * 500 / 1e4)
    waiting = sum(max(b - spares, 0) * p for b, p in enumerate(chances))
    outage = 30.0 + 500.0 * waiting / 2.0
    assert mean_outage(40, failures) == pytest.approx(outage)
    assert no_spare_probability(40, failures) == pytest.approx(sum(chances[spares:]))
    # A bundle shares the spares with all others.
    assert bundle_failures(THREE, 0.05, 8, failures, 40).outage == pytest.approx(outage)
    assert bundle_failures(THREE, 0.05, 40, failures).outage == pytest.approx(outage)


def test_no_repair_time_is_counted_within_the_restart():
    failures = Failures(device_mtbf=1e4, restart=30.0, repair=0.0, spare_devices=2)
    assert mean_outage(40, failures) == 30.0
    assert no_spare_probability(40, failures) == 0.0
