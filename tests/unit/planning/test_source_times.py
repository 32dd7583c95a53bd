"""Stage times of candidates, and lines below their steps, worked by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.planning import source_times
from afdplan.planning.design import Combination
from afdplan.planning.ratio_blocks import RatioBlocks
from afdplan.planning.source import MeasuredSource
from afdplan.planning.source_times import _fewer, _joined
from afdplan.planning.step_line import Line, StepLines
from afdplan.planning.step_models import SLACK, StepModels
from afdplan.theory.shared_times import StageTimes

LAW = IndependentLengths(prompt="fixed:2000", decode="fixed:1")
LATENCY = LatencyModel.linear(
    attention=(1e-6, 1e-3), ffn=(1e-4, 2e-3), transfer=(2e-6, 5e-4), layers=10, time_unit="s",
    step_overhead=0.01,
)  # fmt: skip
A, F = np.array([1, 3, 12]), np.array([1, 2, 1])


def test_few_numbers_of_ffn_workers_stand_for_many():
    """Eight between powers of two: 16, 17, 19, 20, 22, 24, 26, 29, 32, rounded down."""
    numbers = [1, 2, 3, 15, 16, 17, 18, 19, 21, 23, 25, 28, 31, 32, 35, 1000]
    assert _fewer(np.array(numbers)).tolist() == [
        1, 2, 3, 14, 16, 17, 17, 19, 20, 22, 24, 26, 29, 32, 34, 939
    ]  # fmt: skip


def test_groups_are_joined_where_they_belong():
    one = StageTimes(
        attention_workers=np.array([2.0, 4.0]), ffn=np.array([1.0, 3.0]), out=np.array([5.0, 6.0]),
        back=np.array([7.0, 8.0]), fresh=np.array([0.1, 0.2]),
    )  # fmt: skip
    other = StageTimes(
        attention_workers=np.array([3.0]), ffn=np.array([2.0]), out=np.array([9.0]),
        back=np.array([4.0]),
    )  # fmt: skip
    first = np.array([True, False, True])
    found = _joined([(first, one), (~first, other)], np.array([2.0, 3.0, 4.0]))
    assert found.attention_workers.tolist() == [2.0, 3.0, 4.0]
    assert found.ffn.tolist() == [1.0, 2.0, 3.0]
    assert found.out.tolist() == [5.0, 9.0, 6.0]
    assert found.back.tolist() == [7.0, 4.0, 8.0]
    assert found.fresh.tolist() == [0.1, 0.0, 0.2]
    assert found.between is found.occupied is found.out_delay is None
    assert _joined([(first, one)], np.array([1.0])) is one


def step(batch_size, m=1):
    """A step of fixed requests in turn, or of the busiest of three resources."""
    a = 1e-3 + 1e-6 * 2000 * batch_size
    f = 2e-3 + 1e-4 * batch_size * A / F
    c = 5e-4 + 2e-6 * batch_size
    if m == 1:
        return 0.01 + 10 * (a + f + 2 * c)
    return 0.01 + 10 * np.maximum(np.maximum(m * a, m * f), a + f + 2 * c)


@pytest.mark.parametrize("m", [1, 2])
def test_lines_of_fixed_requests_are_their_steps(m):
    """Sums are straight lines, so a bound that is no rounding below them is wrong."""
    models = StepModels(LAW, MeasuredSource(LATENCY))
    lines, base = StepLines(models), Combination(1, m, 64)
    mean = models.evaluate(base, A, F).mean
    assert mean == pytest.approx(step(64, m), rel=1e-4)
    found = lines.of(base, 256, A, F, mean)
    assert found.batch_size == 64
    slope = (step(256, m) - step(64, m)) / 192
    assert found.slope == pytest.approx(slope, rel=2e-3)
    for size in (65, 100, 256):
        assert (found.at(size) <= step(size, m) * (1 + 1e-9)).all()
        assert found.at(size) == pytest.approx(step(size, m), rel=2e-3)
    # What is known of some pairs is told in any order, beside what is new.
    again = lines.of(base, 256, A[[2, 0]], F[[2, 0]], mean[[2, 0]])
    assert again.slope.tolist() == found.slope[[2, 0]].tolist()
    more = lines.of(base, 256, np.array([3, 5]), np.array([2, 1]), np.array([mean[1], 1.0]))
    assert more.slope[0] == found.slope[1]


def test_the_slope_of_a_table_is_its_least():
    """FFN times that jump at once and then lie: the chord to the end counts, not the first one."""
    from afdplan.model.curve import TabulatedCurve

    curve = TabulatedCurve(loads=[0, 64, 80, 256], times=[1e-3, 1e-3, 9e-3, 9.4e-3])
    models = StepModels(LAW, MeasuredSource(replace(LATENCY, ffn=curve)))
    base, one = Combination(1, 1, 64), np.array([1])
    mean = models.evaluate(base, one, one).mean
    found = StepLines(models).of(base, 256, one, one, mean)
    chord = (9.4e-3 - 1e-3) / 192
    assert found.slope == pytest.approx(10 * (2e-3 + 2 * 2e-6 + chord), rel=1e-3)
    sinking = replace(LATENCY, ffn=TabulatedCurve(loads=[0, 1, 1000], times=[1e-3, 2e-3, 2e-3]))
    models = StepModels(LAW, MeasuredSource(sinking))
    mean = models.evaluate(base, one, one).mean
    found = StepLines(models).of(base, 256, one, one, mean)
    assert found.slope == pytest.approx([10 * (2e-3 + 2 * 2e-6)], rel=1e-3)


@pytest.mark.parametrize("least", [65, 160, 256])
def test_attention_grows_by_its_least_next_halfway_or_at_the_end(monkeypatch, least):
    """Per layer 1 ms for each further request at one size, 3 ms at the others that are asked.

    Beside 2 ms for its tokens.
    """
    models = StepModels(LAW, MeasuredSource(LATENCY))
    base, one = Combination(1, 1, 64), np.array([1])
    mean = models.evaluate(base, one, one).mean

    def added(smaller, larger):
        assert smaller == base
        each = 1e-3 if larger.batch_size == least else 3e-3
        return np.array([each * (larger.batch_size - 64)])

    monkeypatch.setattr(models, "added_requests", added)
    found = StepLines(models).of(base, 256, one, one, mean)
    assert found.slope == pytest.approx([10 * (3e-3 + 1e-4 + 2 * 2e-6)], rel=1e-3)


def test_a_line_that_lies_is_never_too_long():
    line = Line(batch_size=8, mean=np.array([2.0, 2.0]), slope=np.array([0.0, 1.0]))
    assert line.largest(2.0 * SLACK).tolist() == [np.inf, 8.0]
    assert line.largest(1.0).tolist() == [np.inf, 8.0]
    assert line.largest(3.0 * SLACK) == pytest.approx([np.inf, 9.0])


class Source:
    """Notes what it is asked for; the FFN takes F, and experts are there."""

    def __init__(self, together=False, numbers=(2, 4), experts=True):
        self.shares_ffn_latency, self.shares_ffn_times = together, False
        self.numbers, self.experts, self.asked = numbers, experts, []
        self.attention_devices, self.colocated = (1, 2), self

    def ffn_workers(self, most):
        return self.numbers

    def latency(self, devices, workers, batch_size):
        self.asked.append((devices, workers, batch_size))
        return SimpleNamespace(experts=self.experts or None, workers=workers)

    def attention(self, *given):
        self.asked.append(given)
        return given


@pytest.fixture
def noted(monkeypatch):
    """Return what shared times are asked of; they are F of the model and A times B."""
    asked = []

    def shared_times(model, workers, ffn, batch_size, least_of=None):
        asked.append((ffn.tolist(), None if least_of is None else least_of.tolist()))
        f = np.full(workers.size, float(model.workers))
        return StageTimes(attention_workers=workers, ffn=f, out=workers * batch_size, back=f)

    monkeypatch.setattr(source_times, "shared_times", shared_times)
    return asked


def test_each_number_of_ffn_workers_has_its_own_times(noted):
    source = Source()
    times = source_times.SourceTimes(source)
    found = times.stages(np.array([1, 2, 3]), np.array([4, 2, 4]), 8)
    assert found.ffn.tolist() == [4.0, 2.0, 4.0]
    assert found.out.tolist() == [8.0, 16.0, 24.0]
    assert noted == [([2], None), ([4, 4], None)]
    assert source.asked == [(1, 2, 1), (1, 4, 1)]
    times.stages(np.array([1]), np.array([4]), 8)
    assert len(source.asked) == 2


@pytest.mark.parametrize("experts", [True, False])
def test_the_least_times_of_many_are_those_of_few(noted, experts):
    """What experts take is known to two parts in a thousand; 19 and 18 FFN workers are 17 or 19."""
    times = source_times.SourceTimes(Source(together=True, numbers=(), experts=experts))
    pairs = np.array([1.0, 2.0]), np.array([18, 19])
    assert times.stages(*pairs, 8).ffn.tolist() == [1.0, 1.0]
    least = times.stages(*pairs, 8, at_least=True).ffn
    assert least.tolist() == [0.998, 0.998] if experts else [1.0, 1.0]
    assert noted == [([18, 19], None), ([18, 19], [17, 19])]
    apart = source_times.SourceTimes(Source(experts=experts))
    apart.stages(*pairs, 8, at_least=True)
    assert noted[2:] == [([18], [18]), ([19], [19])]


def test_a_block_is_as_its_lower_end_for_each_number(noted):
    blocks = RatioBlocks(low=0.5, high=3.0, ffn_numbers=(2, 4))
    times = source_times.SourceTimes(Source())
    found = times.envelope(blocks, 8)
    ends, count = blocks.edges, blocks.edges.size - 1
    assert found.attention_workers == pytest.approx([f * low for f in (2, 4) for low in ends[:-1]])
    assert found.ffn == pytest.approx(0.998 * np.repeat([2.0, 4.0], count))
    assert times.envelope(blocks, 8) is found
    assert times.envelope(blocks, 9) is not found


def test_each_side_is_asked_for_once():
    source = Source()
    times = source_times.SourceTimes(source)
    for _ in range(2):
        times.attention_side(2, 8)
        times.attention_of(2, 8)
        times.unsplit_side(2, 16)
        times.unsplit_attention(2, 16, 8)
    assert source.asked == [(2, 2, 8), (2, 8), (2, 16, 1), (2, 16, 8)]
