"""Do failures choose the bundle size that a run with failures would choose?"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from afdplan.errors import InfeasibleError
from afdplan.lengths.law import IndependentLengths
from afdplan.model.failures import Failures
from afdplan.model.latency import LatencyModel
from afdplan.planning.failure_plan import bundle_choice, failure_plan, fewest_spares
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.search import DesignSearch
from afdplan.planning.source import MeasuredSource
from afdplan.planning.space import SearchSpace
from afdplan.planning.whole import plan_whole
from afdplan.simulation.failures import play_failures

HOUR = 3600.0
LAW = IndependentLengths(prompt="geometric:2000", decode="geometric:4000")
SOURCE = MeasuredSource(
    LatencyModel.linear(
        attention=(5e-9, 3e-5), ffn=(4e-7, 2e-4), transfer=(1e-8, 2e-5), layers=60, time_unit="s"
    ),
    kv_tokens=4e6,
)
SPACE = SearchSpace(batch_sizes=(64,), microbatches=(2,))
LIMITS = Limits(devices=96)
YEARLY = Failures(device_mtbf=10_000 * HOUR, restart=300.0)


@cache
def search():
    return DesignSearch(LAW, SOURCE, SPACE, DeviceCost())


def test_without_failures_the_largest_is_best():
    sizes = bundle_choice(search(), LIMITS, replace(YEARLY, device_mtbf=1e30))
    assert len(sizes) == 1
    assert sizes[0].plan.design == search().best(LIMITS).design
    assert sizes[0].share == pytest.approx(1.0, abs=1e-9)


def test_ten_thousand_hours_and_five_minutes_prefer_smaller_bundles():
    """96 devices, long outputs: 48 at a time are 0.02 % better, and lose 0.06 % more."""
    sizes = bundle_choice(search(), LIMITS, YEARLY)
    largest, best = sizes[0], max(sizes, key=lambda size: size.expected_score)
    assert best is not largest
    assert best.plan.design.bundle_devices < largest.plan.design.bundle_devices
    assert best.plan.score < largest.plan.score
    lives = np.random.default_rng(0).geometric(1 / 4000, 100_000)

    def kept(choice, seed):
        """Play the bundles with failures: what remains of the score."""
        design = choice.plan.design
        run = play_failures(
            lives,
            choice.plan.time_per_output_token,
            bundles=design.bundles,
            bundle_devices=design.bundle_devices,
            slots=3,
            failures=YEARLY,
            duration=3e8,
            seed=seed,
        )
        return choice.plan.score * run.share

    differences = np.array([kept(best, seed) - kept(largest, seed + 100) for seed in range(4)])
    error = differences.std(ddof=1) / np.sqrt(differences.size)
    expected = best.expected_score - largest.expected_score
    assert differences.mean() > 2 * error  # smaller is better when it is played
    assert abs(differences.mean() - expected) <= 5 * error


def test_the_whole_plan_takes_the_smaller_bundles():
    asked = {"space": SPACE}
    today = plan_whole(LAW, SOURCE, LIMITS, **asked)
    never = plan_whole(LAW, SOURCE, LIMITS, failures=replace(YEARLY, device_mtbf=1e30), **asked)
    assert never.plan.split.design == today.plan.split.design
    lossy = plan_whole(LAW, SOURCE, LIMITS, failures=YEARLY, **asked)
    assert lossy.plan.split.design.bundle_devices < today.plan.split.design.bundle_devices
    assert lossy.failures.tokens_per_second == pytest.approx(
        lossy.failures.bundle.share * lossy.plan.recommended.tokens_per_second
    )
    spare = replace(YEARLY, repair=4 * HOUR, spare_devices=2)
    kept = plan_whole(LAW, SOURCE, LIMITS, failures=spare, **asked)
    assert kept.plan.recommended.devices <= 94
    assert kept.failures.no_spare_probability < 0.01
    with pytest.raises(InfeasibleError, match="spare_devices"):
        plan_whole(LAW, SOURCE, LIMITS, failures=replace(spare, spare_devices=95), **asked)


def test_a_rate_is_reached_with_failures():
    often = Failures(device_mtbf=200 * HOUR, restart=1800.0)
    limits = Limits(requests_per_second=8.0)
    found = plan_whole(LAW, SOURCE, limits, failures=often, space=SPACE)
    assert found.failures.requests_per_second >= 8.0 * (1 - 1e-3)
    assert found.plan.recommended.requests_per_second > 8.0 / 0.99


def test_a_lost_worker_is_the_design_without_it():
    best = search().best(LIMITS)
    found = failure_plan(best, search(), LIMITS, YEARLY)
    again, moved, *ffn = found.losses
    design = best.design
    smaller = replace(design, attention_workers=design.attention_workers - 1)
    expected = search().describe(smaller, LIMITS)
    assert again.throughput_change == pytest.approx(
        expected.tokens_per_second / best.tokens_per_second - 1
    )
    assert moved.memory_overflow_probability >= again.memory_overflow_probability
    assert ffn[0].lost == "FFN"
    assert ffn[0].throughput_change == -1.0  # the only one
    rate = design.bundles * found.bundle.rate * found.bundle.availability
    assert found.lost_requests_per_second == pytest.approx(rate * best.slots / design.bundles)


def test_spares_are_counted_until_a_failure_finds_one():
    failures = Failures(device_mtbf=1e6, restart=60.0, repair=1e4)
    fewest = fewest_spares(200, failures)
    generator = np.random.default_rng(4)
    mean = 200 * 1e4 / 1e6
    drawn = generator.poisson(mean, 200_000)
    assert (drawn >= fewest).mean() <= 0.012
    assert (drawn >= fewest - 1).mean() > 0.008
