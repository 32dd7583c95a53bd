"""Fresh factors and fresh FFN times, put together from parts that have tests of their own."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import gamma, lognorm

from afdplan.theory.attention_scatter import AttentionScatter, _Rivals
from afdplan.theory.attention_time import TimeLaw
from afdplan.theory.fresh_cycle import behind_link, fresh_stage
from afdplan.theory.layer_cycle import _PipelinedCycle
from afdplan.theory.moving_load import WorkerMotion, moving_load_gain
from afdplan.theory.shared_times import StageTimes

LAW = TimeLaw(lowest=80.0, spacing=10.0, probabilities=np.array([0.1, 0.2, 0.4, 0.2, 0.1]))
STILL = WorkerMotion(jumps=0.0, mean_jumps=0.0, mean_growth=0.0, evenness=1.0, mean_square=0.0)
EVEN = (np.arange(16) + 0.5) / 16
LEVELS = np.append([0.5, 0.99], EVEN)
WORKERS = np.array([2.0, 16.0])
JOBS = np.stack([np.interp(LEVELS, [0, 1], [100, 118]), np.interp(LEVELS, [0, 1], [108, 120])])


def scatter(m, added=0.0):
    sums = 200.0 + 10.0 * np.arange(9), np.cumsum(np.convolve(LAW.probabilities, LAW.probabilities))
    found = AttentionScatter.of(LAW, (m / 2 * sums[0], sums[1]), m, 0.2, "gamma")
    return found.later(added)


def even(values):
    return values[:, -16:]


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("added", [0.0, 30.0])
def test_without_slack_all_is_later_by_what_the_barriers_say(m, added):
    one = scatter(m, added)
    trips = JOBS + 40.0
    jobs, trip, std = one.delayed(JOBS, trips, np.zeros_like(JOBS), LEVELS, WORKERS)
    each, fresh, kept = (x[:, 0] for x in one.means.barriers(WORKERS))
    longest, _, kept_trip = (x[:, 0] for x in one.jobs.barriers(WORKERS))
    assert even(trip).mean(axis=1) == pytest.approx(even(trips).mean(axis=1) + longest)
    assert even(std).mean(axis=1) == pytest.approx(fresh)
    rivals = _Rivals(JOBS, LEVELS, WORKERS)
    own = 0.2 * (JOBS - added)  # what is added never scatters
    whole, shared = (even(rivals.delays(own / share)[0]) for share in (1, m))
    factor = shared.mean(axis=1) / whole.mean(axis=1)
    assert even(jobs).mean(axis=1) == pytest.approx(even(JOBS).mean(axis=1) + each * factor)
    # Narrower than still ones by what factors leave in common, or as wide as they are by then.
    share = 1 / (1 + (1 / kept - 1) / m)
    for found, before, late, left in (
        (jobs, JOBS, shared * (each / whole.mean(axis=1))[:, None], share),
        (trip, trips, whole * (longest / whole.mean(axis=1))[:, None], kept_trip),
    ):
        wide = (even(before) + late).std(axis=1)
        expected = np.minimum(np.sqrt(left) * even(before).std(axis=1), wide)
        assert even(found).std(axis=1) == pytest.approx(expected)


def test_slack_shares_out_what_factors_add():
    """Jobs of 0.2 x 110 and a slack of as much: 0.65 jobs more that share."""
    one, own = scatter(1), 0.2 * JOBS
    rivals = _Rivals(JOBS, LEVELS, WORKERS)
    (each, _, kept), before = one.means.barriers(WORKERS), even(JOBS)
    longest = one.jobs.barriers(WORKERS)[0][:, 0]
    whole = even(rivals.delays(own)[0]).mean(axis=1, keepdims=True)
    for times in (0.5, 1.0, 4.0):
        jobs, trip, _ = one.delayed(JOBS, JOBS, times * own, LEVELS, WORKERS)
        less = even(rivals.delays(own / (1 + 0.65 * times))[0]).mean(axis=1)
        assert even(jobs).mean(axis=1) == pytest.approx(
            before.mean(axis=1) + (each / whole)[:, 0] * less
        )
        left = 1 / (1 + (1 / kept[:, 0] - 1) / (1 + 0.65 * times))
        assert (even(jobs).std(axis=1) <= np.sqrt(left) * before.std(axis=1) * (1 + 1e-9)).all()
        assert even(trip).mean(axis=1) == pytest.approx(before.mean(axis=1) + longest)
    jobs, _, _ = one.delayed(JOBS, JOBS, 1e9 * own, LEVELS, WORKERS)
    assert jobs == pytest.approx(JOBS, rel=1e-6)


def test_one_worker_has_no_rival():
    alone = np.array([1.0, 1.0])
    jobs, trip, _ = scatter(1).delayed(JOBS, JOBS + 40, np.zeros_like(JOBS), LEVELS, alone)
    assert even(jobs).mean(axis=1) == pytest.approx(even(JOBS).mean(axis=1), abs=0.02)
    assert even(trip).mean(axis=1) == pytest.approx(even(JOBS).mean(axis=1) + 40, abs=0.02)


def stages(**options):
    times = {"ffn": 8.0, "out": 1.0, "back": 2.0} | options
    return StageTimes(
        attention_workers=np.array([3.0]), **{name: np.array([one]) for name, one in times.items()}
    )


@pytest.mark.parametrize("between", [0.0, 1.5])
@pytest.mark.parametrize(
    ("m", "attention", "link"),
    [*((m, a, 1.0) for m in (1, 2, 3) for a in (10.0, 6.0)), (1, 6.0, 9.5), (2, 6.0, 9.5)],
)
def test_a_fresh_ffn_behind_jobs_that_are_always_the_same(m, between, attention, link):
    """Each layer's FFN by five nodes of a normal, the mean of stages that wait in turn."""
    still = TimeLaw(lowest=attention, spacing=1.0, probabilities=np.ones(1))
    cycle = _PipelinedCycle(still, m, layers=4, motion=STILL, std=0.0, ceiling=math.inf)
    given = stages(fresh=2.0, between=between, out=link)
    mean, quantiles, variance = cycle.round(given, (0.5, 0.99))
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    stage = spread = 0.0
    for node, weight in zip(nodes * between, weights / weights.sum(), strict=True):
        one, of_attention, of_ffn = (
            float(x[0])
            for x in fresh_stage(
                np.array([attention]), np.array([8.0 + node]),
                np.array([attention + 8.0 + link + 2.0 + node]), np.array([2.0]), m,
            )
        )  # fmt: skip
        stage += weight * one
        tied = 2 / math.pi * of_attention * of_ffn * 4.0 if m > 1 else 0.0
        spread += weight * m * (of_ffn * 4.0 - tied)
    slower, trip = max(link, 2.0), attention + 8.0 + link + 2.0
    one, busy, whole, varies = (np.array([x]) for x in (stage, slower, trip, spread / m))
    expected = m * float(behind_link(one, busy, whole, varies, m)[0])
    assert mean == pytest.approx([expected], rel=1e-9)
    assert quantiles == pytest.approx(np.full((1, 2), expected), rel=1e-9)
    assert variance == pytest.approx(np.full((1, 2), spread), rel=1e-9)


def test_what_even_levels_miss_counts_where_the_ffn_does_not_bind():
    """Skewed jobs, and an FFN that hardly scatters: the mean of the frozen law itself."""
    law = TimeLaw(
        lowest=80.0, spacing=0.1, probabilities=np.diff(gamma.cdf(np.arange(901), 4, 0, 60))
    )
    law = replace(law, probabilities=law.probabilities / law.probabilities.sum())
    for ffn in (2.0, 60.0, 112.0):
        cycle = _PipelinedCycle(law, 2, layers=4, motion=STILL, std=law.std, ceiling=math.inf)
        still = cycle.round(stages(ffn=ffn), ())[0][0]
        fresh = cycle.round(stages(ffn=ffn, fresh=1e-7, between=0.0), ())[0][0]
        assert fresh == pytest.approx(still, rel=1e-4 if ffn < 100 else 5e-4)


@pytest.mark.parametrize("ffn", [2.0, 60.0])
def test_of_a_long_tail_even_levels_miss_more(ffn):
    """A tenth of a per cent and more of the mean, which counts: the jobs of one worker."""
    tail = lognorm.cdf(np.arange(4001.0), 1.2, scale=40.0)
    chances = np.diff(tail) / (tail[-1] - tail[0])
    law = TimeLaw(lowest=80.0, spacing=1.0, probabilities=chances)
    assert law.support[-1] < 80 + 4001
    cycle = _PipelinedCycle(law, 2, layers=4, motion=STILL, std=law.std, ceiling=math.inf)
    alone = {"attention_workers": np.array([1.0])}
    still = cycle.round(replace(stages(ffn=ffn), **alone), ())[0][0]
    fresh = cycle.round(replace(stages(ffn=ffn, fresh=1e-7, between=0.0), **alone), ())[0][0]
    levels = cycle.slowest_round(alone["attention_workers"], EVEN).mean()
    assert still > levels * 1.004
    assert fresh == pytest.approx(still, rel=1e-3)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_moving_loads_make_a_round_shorter_by_their_gain(m):
    motion = WorkerMotion(
        jumps=4.0, mean_jumps=8.0, mean_growth=1.0, evenness=2.0, mean_square=30.0
    )
    options = {"layers": 4, "std": LAW.std, "ceiling": math.inf}
    moving = _PipelinedCycle(LAW, m, motion=motion, **options)
    frozen = _PipelinedCycle(LAW, m, motion=STILL, **options)
    for ffn in (8.0, 95.0):
        given = stages(ffn=ffn)
        gain = moving_load_gain(
            *moving._sums, motion, attention_workers=given.attention_workers, microbatches=m,
            layers=4, floor=m * np.maximum(given.ffn, 2.0), trip=given.trip,
        )  # fmt: skip
        whole = frozen.round(given, ())[0]
        found = moving.round(given, ())[0]
        assert (gain[0] > 0.01) == (m > 1)
        least = max(m * LAW.mean, m * ffn, LAW.mean + ffn + 3.0)
        assert found == pytest.approx(np.maximum(whole - gain, least))
        assert found[0] > least
