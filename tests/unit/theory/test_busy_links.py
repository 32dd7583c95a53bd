"""Rounds that a link makes, beside an FFN whose times are drawn afresh: against a schedule."""

from __future__ import annotations

import math

import numpy as np
import pytest

from afdplan.theory.attention_time import TimeLaw
from afdplan.theory.fresh_cycle import behind_link, fresh_stage
from afdplan.theory.layer_cycle import _PipelinedCycle
from afdplan.theory.moving_load import WorkerMotion
from afdplan.theory.shared_times import StageTimes

STILL = WorkerMotion(jumps=0.0, mean_jumps=0.0, mean_growth=0.0, evenness=1.0, mean_square=0.0)


def played(attention, ffn, cv, out, back, m, draws=300, rounds=200):
    """Return the mean round of jobs that are all alike, and gamma times of the FFN."""
    rng, first = np.random.default_rng(1), rounds // 3
    worker, sent, served, returned = np.zeros((4, draws))
    ready, begun = [returned] * m, returned
    for k in range(rounds):
        for u in range(m):
            worker = np.maximum(worker, ready[u]) + attention
            sent = np.maximum(sent, worker) + out
            served = np.maximum(served, sent) + ffn * rng.gamma(cv**-2, cv**2, draws)
            ready[u] = returned = np.maximum(returned, served) + back
        if k == first:
            begun = returned
    return float((returned - begun).mean()) / (rounds - 1 - first)


@pytest.mark.parametrize(("cv", "error"), [(0.1, 0.0095), (0.25, 0.02)])
@pytest.mark.parametrize(
    ("attention", "ffn", "out", "back"),
    [
        (6.0, 8.0, 9.5, 2.0),
        (6.0, 9.3, 9.5, 2.0),
        (6.0, 9.3, 2.0, 9.5),
        (9.0, 5.0, 9.5, 2.0),
        (9.0, 9.0, 9.5, 2.0),
        (9.0, 9.0, 10.0, 9.0),
        (4.0, 8.0, 10.0, 0.5),
        (2.0, 9.3, 9.5, 0.2),
    ],
)
def test_a_busy_link_is_no_trip(attention, ffn, out, back, cv, error):
    """As if the link's round were a trip, it was up to 2.5 % too long at 10 % of scatter."""
    law = TimeLaw(lowest=attention, spacing=1.0, probabilities=np.ones(1))
    times = {"ffn": ffn, "out": out, "back": back, "fresh": cv * ffn, "between": 0.0}
    given = StageTimes(
        attention_workers=np.array([3.0]), **{name: np.array([x]) for name, x in times.items()}
    )
    for m in (1, 2, 3, 4, 6):
        cycle = _PipelinedCycle(law, m, layers=4, motion=STILL, std=0.0, ceiling=math.inf)
        found = float(cycle.round(given, ())[0][0])
        assert found == pytest.approx(played(attention, ffn, cv, out, back, m), rel=error)


def test_two_and_three_microbatches_take_the_larger_of_a_normal():
    """A stage of 10, variance 8 of one, and a link of 10: of 0.65 of it, over root 2 pi m."""
    stage, link, variance = np.array([[10.0, 30.0, 2.0]]), np.array([[10.0]]), np.array([[8.0]])
    for m in (2, 3):
        found = behind_link(stage, link, stage, variance, m)
        assert found[0, 0] == pytest.approx(10 + math.sqrt(0.65 * 8 / m / (2 * math.pi)))
        assert found[0, 1:] == pytest.approx([30.0, 10.0], abs=0.01)
        still = behind_link(stage, link, stage, np.zeros((1, 1)), m)
        assert still[0] == pytest.approx([10.0, 30.0, 10.0], rel=1e-8)
        none = behind_link(stage, np.zeros((1, 1)), stage, np.zeros((1, 1)), m)
        assert none[0] == pytest.approx(stage[0], rel=1e-12)
    assert behind_link(stage, 2 * link, stage, variance, 1) is stage


def test_of_four_microbatches_a_link_is_a_station():
    """The walk of the station's backlog: as `fresh_stage` says of attention before an FFN."""
    stage, link, variance = np.array([10.0, 12.0]), np.array([10.0]), np.array([4.0])
    for m in (4, 6):
        for trip in (25.0, 45.0):
            found = behind_link(stage, link, np.array([trip]), variance, m)
            alike = fresh_stage(
                np.array([10.0, 10.0]), stage, np.array([trip, trip]), np.array([2.0, 2.0]), m
            )[0]
            assert found == pytest.approx(alike)
    # A trip is never shorter than both.
    found = behind_link(stage, link, np.array([0.0]), variance, 4)
    assert found == pytest.approx(behind_link(stage, link, stage + link, variance, 4))
