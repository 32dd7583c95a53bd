"""Where attention's blocks fill their rounds better, more requests may take less time.

At 20 requests of 8 KV heads a second round of 8 blocks lasts as one of 61 would; with 6 requests
more it lasts no longer, and the slowest worker of several has a load nearer to the mean.
"""

from __future__ import annotations

import numpy as np
import pytest

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.placement import place
from afdplan.lengths.law import IndependentLengths
from afdplan.planning.derived_source import DerivedSource
from afdplan.planning.design import Combination, Design
from afdplan.planning.fastest import fastest_design
from afdplan.planning.limits import Limits, limited, percentile
from afdplan.planning.objective import DeviceCost
from afdplan.planning.search import DesignSearch
from afdplan.planning.service_limits import _within_time
from afdplan.planning.space import SearchSpace
from afdplan.planning.step_line import StepLines

LAW = IndependentLengths(prompt="geometric:12000", decode="geometric:500")
FFN, DEVICES = 4, 16


@pytest.fixture(scope="module")
def source():
    return DerivedSource(place(find_model("minimax-m2.5"), find_hardware("gb200")), (1,))


def asked(source, sizes=tuple(range(1, 31))):
    space = SearchSpace(batch_sizes=sizes, microbatches=(1,), ffn_workers=(FFN,))
    return DesignSearch(LAW, source, space, DeviceCost())


def step(search, size, statistic, attention=DEVICES - FFN):
    one = np.array([attention]), np.array([FFN])
    times = search.models.evaluate(Combination(1, 1, size), *one, percentile(statistic))
    return float(times.mean[0]), float(limited(times)[0])


@pytest.mark.parametrize("statistic", ["mean", "p95"])
def test_no_batch_size_beats_the_plan(source, statistic):
    """Limits that a size keeps and a smaller one does not."""
    search = asked(source)
    steps = {size: step(search, size, statistic) for size in range(1, 31)}
    assert steps[20][1] > steps[26][1]
    for size in (22, 24, 26, 27):
        limit = steps[size][1] * (1 + 1e-9)
        best = asked(source).best(
            Limits(devices=DEVICES, time_per_output_token=limit, statistic=statistic)
        )
        tokens = [n * (DEVICES - FFN) / mean for n, (mean, held) in steps.items() if held <= limit]
        assert best.tokens_per_second >= max(tokens) * (1 - 1e-9)


def test_the_fastest_design_may_have_more_requests(source):
    search = asked(source, (20, 24, 26))
    found = fastest_design(search, Limits(devices=DEVICES, statistic="p95"))
    assert found.design.batch_size > 20
    least = min(step(search, size, "p95", FFN)[1] for size in (20, 24, 26))
    assert found.step_time.p95 == pytest.approx(least)


def test_the_largest_batch_within_a_time_is_beyond_one_that_is_not(source):
    search, limit = asked(source), step(asked(source), 26, "p95")[1] * (1 + 1e-9)
    design = Design(
        bundles=1, attention_workers=12, ffn_workers=FFN, batch_size=27, microbatches=1,
        attention_devices=1, ffn_devices=1,
    )  # fmt: skip
    limits = Limits(devices=DEVICES, time_per_output_token=limit, statistic="p95")
    found = _within_time(search, design, limits)
    assert step(search, 22, "p95")[1] > limit
    held = [size for size in range(1, 28) if step(search, size, "p95")[1] <= limit]
    assert found.design.batch_size == max(held) == 26


@pytest.mark.parametrize("first", [8, 19, 20, 24, 38, 40])
def test_lines_and_barriers_of_fewer_requests_are_below_the_steps_of_more(source, first):
    models = asked(source).models
    pairs = np.array([4, 8, 12]), np.full(3, FFN)
    base, last = Combination(1, 1, first), first + max(first // 4, 2)
    line = StepLines(models).of(base, last, *pairs, models.evaluate(base, *pairs).mean)
    tightest = 0.0
    for size in range(first + 1, last + 1):
        for statistic in ("mean", "p95"):
            limits = Limits(devices=DEVICES, statistic=statistic)
            found = Combination(1, 1, size)
            times = models.evaluate(found, *pairs, limits.probabilities)
            stages = models.times.stages(*pairs, size, at_least=True)
            for bound, held in zip(
                models.tight_bounds(found, stages, limits, base),
                (times.mean, limited(times)),
                strict=True,
            ):
                assert (bound <= held * (1 + 1e-9)).all()
        assert (line.at(size) <= times.mean * (1 + 1e-9)).all()
        tightest = max(tightest, float((line.at(size) / times.mean).min()))
    assert tightest > 0.8
