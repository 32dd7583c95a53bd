"""Bounds of steps: tight where nothing is random, and below every convex law of a load."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.coupling import Coupling
from afdplan.model.curve import LinearCurve, TabulatedCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers
from afdplan.planning.design import Combination
from afdplan.planning.limits import Limits, limited
from afdplan.planning.source import MeasuredSource
from afdplan.planning.step_models import SLACK, StepModels, convex_floor

LAW = IndependentLengths(prompt="fixed:2000", decode="fixed:1")
TWO_KINDS = (
    AttentionLayers(
        curve=LinearCurve(slope=1e-6, intercept=1e-3), layers=6, time_per_request=1e-5,
        time_per_context=2e-7,
    ),
    AttentionLayers(
        curve=LinearCurve(slope=3e-6, intercept=2e-3), layers=4, context_window=500,
        time_per_request=2e-5,
    ),
)  # fmt: skip
LATENCY = replace(
    LatencyModel.linear(
        attention=(1e-6, 1e-3), ffn=(1e-4, 2e-3), transfer=(2e-6, 5e-4), layers=10,
        time_unit="s", step_overhead=0.01,
    ),
    attention=TWO_KINDS,
)  # fmt: skip
PAIRS = np.array([1, 3, 12, 40]), np.array([1, 2, 1, 3])


def models(latency=LATENCY, law=LAW, **options):
    return StepModels(law, MeasuredSource(latency, **options))


@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("statistic", ["mean", "p99"])
@pytest.mark.parametrize("coupling", [Coupling(), Coupling(send_attention=1.0, launch=1e-3)])
def test_bounds_of_fixed_requests_are_their_steps(m, statistic, coupling):
    """Nothing is random: a bound that is looser than the rounding would be a loose one."""
    asked = models(replace(LATENCY, coupling=coupling))
    combination, limits = Combination(1, m, 8), Limits(devices=1, statistic=statistic)
    times = asked.evaluate(combination, *PAIRS, limits.probabilities)
    stages = asked.times.stages(*PAIRS, 8, at_least=True)
    # Of several kinds of layers one may hide behind another: bounds are those of all together.
    rough = asked.rough_bounds([combination], stages, limits)
    tight = asked.tight_bounds(combination, stages, limits)
    attention = asked._mean_attention(combination)
    by_hand = 10 * (coupling.send_attention * (5e-4 + 2e-6 * 8)) + sum(
        kind.layers * float(kind.time(8 * load, 8))
        for kind, load in zip(TWO_KINDS, (2000.0, 500.0), strict=True)
    )
    assert attention == pytest.approx(by_hand)
    busiest = np.maximum(stages.ffn, np.maximum(stages.out, stages.back))
    bound = np.maximum(np.maximum(m * attention, 10 * m * busiest), attention + 10 * stages.trip)
    for found in (*rough, *tight):
        assert found.ravel() == pytest.approx(SLACK * (0.01 + bound), rel=1e-7)
        assert (found.ravel() <= np.minimum(times.mean, limited(times)) * (1 + 1e-12)).all()


def test_several_combinations_are_bounded_at_once():
    asked, limits = models(), Limits(devices=1, statistic="p99")
    stages = asked.times.stages(*PAIRS, 8, at_least=True)
    combinations = [Combination(1, m, 8) for m in (1, 2, 4)]
    together = asked.rough_bounds(combinations, stages, limits)
    for at, one in enumerate(combinations):
        alone = asked.rough_bounds([one], stages, limits)
        for all_of_them, own in zip(together, alone, strict=True):
            assert all_of_them[at] == pytest.approx(own[0])


@pytest.mark.parametrize("statistic", ["mean", "p99"])
def test_the_barrier_of_fewer_slots_bounds_that_of_more(statistic):
    """Times with the mean context scatter less among more: there the law itself is taken."""
    law = IndependentLengths(prompt="geometric:300", decode="geometric:40")
    limits = Limits(devices=1, statistic=statistic)
    plain = replace(LATENCY, attention=tuple(replace(k, time_per_context=0.0) for k in TWO_KINDS))
    for latency, exact in ((plain, False), (LATENCY, True)):
        asked = models(latency, law)
        small, large = Combination(1, 2, 8), Combination(1, 2, 24)
        stages = asked.times.stages(*PAIRS, 24, at_least=True)
        own = asked.tight_bounds(large, stages, limits)
        from_small = asked.tight_bounds(large, stages, limits, small)
        times = asked.evaluate(large, *PAIRS, limits.probabilities)
        for bound, held in zip(from_small, (times.mean, limited(times)), strict=True):
            assert (bound <= held * (1 + 1e-12)).all()
            assert (bound > 0.4 * held).all()
        if exact:
            assert from_small[0] == pytest.approx(own[0])
        added = asked.added_attention(small, large)
        expected = [
            (1e-6 * 16 * asked.mean_load(TWO_KINDS[0]) + 1e-5 * 16) * (not exact),
            3e-6 * 16 * asked.mean_load(TWO_KINDS[1]) + 2e-5 * 16,
        ]
        assert added == pytest.approx(expected)


def test_windows_cut_the_load_that_is_scaled():
    scaled = StepModels(LAW, MeasuredSource(LATENCY), 1.5)
    assert [scaled.mean_load(kind) for kind in TWO_KINDS] == pytest.approx([3000.0, 499.5], abs=1)
    low = StepModels(LAW, MeasuredSource(LATENCY), 0.1)
    assert [low.mean_load(kind) for kind in TWO_KINDS] == pytest.approx([200.0, 200.0])


@pytest.mark.parametrize(
    ("per_context", "coupling", "placement", "grow"),
    [
        (0.0, Coupling(), "round-robin", True),
        (1e-7, Coupling(), "round-robin", False),
        (0.0, Coupling(receive_attention=0.5), "round-robin", False),
        (0.0, Coupling(), "longest-prompt", False),
        (0.0, Coupling(), "longest-prompt-rank", False),
    ],
)
def test_where_more_slots_never_shorten_a_step(per_context, coupling, placement, grow):
    kinds = tuple(replace(kind, time_per_context=per_context) for kind in TWO_KINDS)
    latency = replace(LATENCY, attention=kinds, coupling=coupling)
    assert StepModels(LAW, MeasuredSource(latency), placement=placement).grow is grow


def test_each_step_is_computed_once_and_told_in_any_order():
    asked = models()
    combination = Combination(1, 2, 8)
    first = asked.evaluate(combination, *PAIRS, (0.99, 0.5))
    assert (asked.evaluated, asked.laws) == (4, 1)
    again = asked.evaluate(combination, PAIRS[0][::-1], PAIRS[1][::-1])
    assert (asked.evaluated, asked.laws) == (4, 1)
    assert again.mean.tolist() == first.mean[::-1].tolist()
    assert again.quantiles.shape == (4, 0)
    asked.evaluate(combination, np.array([1, 2]), np.array([1, 1]))
    assert asked.evaluated == 5


@pytest.mark.parametrize("seed", range(12))
def test_the_convex_floor_of_a_curve_is_the_largest_there_is(seed):
    """Of lines below the curve, none steeper than its last, the highest at each load."""
    rng = np.random.default_rng(seed)
    loads = np.concatenate([[0.0], np.cumsum(rng.uniform(1, 10, 5))])
    times = np.cumsum(rng.uniform(0, 10, 6))
    curve = TabulatedCurve(loads=loads.tolist(), times=times.tolist())
    last = (times[-1] - times[-2]) / (loads[-1] - loads[-2])
    slopes = np.append(
        (times[None, :] - times[:, None])[loads[None, :] > loads[:, None]]
        / (loads[None, :] - loads[:, None])[loads[None, :] > loads[:, None]],
        last,
    )
    slopes = slopes[slopes <= last * (1 + 1e-12)]
    lowest = (times[None, :] - slopes[:, None] * loads[None, :]).min(axis=1)
    for load in np.linspace(0, 1.3 * loads[-1], 14):
        most = max((lowest + slopes * load).max(), times[0])
        assert convex_floor(curve, float(load)) == pytest.approx(most)
        assert convex_floor(curve, float(load)) <= float(curve(load)) * (1 + 1e-12)


def test_a_convex_curve_is_its_own_floor():
    curve = TabulatedCurve(loads=[0, 10, 20], times=[1.0, 2.0, 8.0])
    for load in (0.0, 4.0, 10.0, 17.0, 40.0):
        assert convex_floor(curve, load) == pytest.approx(float(curve(load)))


def test_more_slots_lengthen_attention_by_its_least_slope():
    """Slopes of 1e-7 and 3e-7 per token: 16 slots more of 2,000 tokens take 3.2 ms at least."""
    curve = TabulatedCurve(loads=[0, 10_000, 20_000], times=[0.0, 1e-3, 4e-3])
    kinds = (AttentionLayers(curve=curve, layers=10, time_per_request=1e-5),)
    asked = models(replace(LATENCY, attention=kinds))
    added = asked.added_attention(Combination(1, 1, 8), Combination(1, 1, 24))
    assert added == pytest.approx([1e-7 * 2000 * 16 + 1e-5 * 16])


def test_a_percentile_is_bounded_by_that_of_fewer_slots():
    """The mean grows with the mean load of the others; of a percentile nothing is added."""
    law = IndependentLengths(prompt="geometric:300", decode="geometric:40")
    plain = replace(LATENCY, attention=tuple(replace(k, time_per_context=0.0) for k in TWO_KINDS))
    asked, limits = models(plain, law), Limits(devices=1, statistic="p99")
    small, large = Combination(1, 2, 8), Combination(1, 2, 24)
    stages = asked.times.stages(*PAIRS, 24, at_least=True)
    mean, statistic = asked.tight_bounds(large, stages, limits, small)
    ((grid, (alone_mean, alone_p99)),) = asked._barriers.values()
    assert (grid[0], grid[-1], grid.size) == (1, 40, 8)
    at = [int(np.flatnonzero(grid <= a)[-1]) for a in PAIRS[0]]
    kinds, added = plain.attention, asked.added_attention(small, large)
    longer = sum(kind.layers * more for kind, more in zip(kinds, added, strict=True))
    (by_mean,) = asked._combine([large], stages, alone_mean[at] + 2 * longer)
    (by_p99,) = asked._combine([large], stages, alone_p99[at])
    assert mean == pytest.approx(by_mean)
    assert statistic == pytest.approx(by_p99)
