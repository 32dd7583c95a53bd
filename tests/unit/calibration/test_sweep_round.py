"""A round of a ratio sweep by hand, and what its box makes of the shares of attention."""

from __future__ import annotations

import numpy as np
import pytest

from afdplan.calibration.sweep_round import SweepRound
from afdplan.calibration.sweep_space import expected_coefficients, sweep_space
from afdplan.model.curve import LinearCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers, Transfer
from afdplan.model.sweep import RatioSweep

# Attention 4 s at the reference load, of it an eighth fixed, a quarter by requests, an eighth by
# length, half by tokens; an FFN of 1 s + 0.01 s per token; 3 s of transfers; p of a soft maximum 2.
DRAW = np.array([[4.0, 0.125, 1.0, 0.01, 3.0, np.log(2.0), 0.25, 0.125]])


def form(maximum="hard"):
    return SweepRound(
        layers=10, step_overhead=7.0, maximum=maximum, tokens=8000.0, requests=40.0, length=200.0
    )


def points(m=2.0, workers=4.0):
    return RatioSweep(
        attention_workers=workers, ffn_workers=2.0, batch_size=80.0, microbatches=m,
        mean_tokens=300.0, step_times=1.0,
    )  # fmt: skip


def test_stages_by_hand():
    """Twice the requests, 1.5 times the length, so 3 times the tokens; 160 tokens for the FFN."""
    one = points()
    assert form().attention(DRAW, one) == pytest.approx(
        4 * (0.125 + 2 * 0.25 + 1.5 * 0.125 + 3 * 0.5)
    )
    assert form().ffn(DRAW, one) == pytest.approx(1 + 0.01 * 160)


@pytest.mark.parametrize(
    ("m", "change", "round_time"),
    [
        (1.0, {}, 9.25 + 2.6 + 3),  # nothing overlaps
        (2.0, {}, 2 * 9.25),  # attention is busy
        (2.0, {0: 0.4}, 0.925 + 2.6 + 3),  # one microbatch on its way
        (3.0, {0: 0.4}, 3 * 2.6),  # the FFN is busy
        (2.0, {0: 0.4, 4: 30.0}, 0.925 + 2.6 + 30),
        (3.0, {0: 0.4, 4: 30.0}, 3 * 30.0 / 2),  # each way is busy
    ],
)
def test_rounds_by_hand(m, change, round_time):
    draw = DRAW.copy()
    for at, value in change.items():
        draw[0, at] = value
    assert form().times(draw, points(m)) == pytest.approx(10 * round_time + 7.0)


def test_a_soft_maximum_is_a_norm():
    busy = np.hypot(9.25, 2.6)
    assert form("soft").times(DRAW, points(3.0)) == pytest.approx(10 * 3 * busy + 7.0)
    assert form("soft").times(DRAW, points(3.0), "hard") == pytest.approx(10 * 3 * 9.25 + 7.0)
    assert form().times(DRAW, points(3.0), "soft") == pytest.approx(10 * 3 * busy + 7.0)


def measured(lengths, batches=(40.0, 80.0, 80.0), m=2.0):
    return RatioSweep(
        attention_workers=np.array([2.0, 4.0, 8.0]), ffn_workers=2.0, batch_size=batches,
        microbatches=m, mean_tokens=lengths, step_times=np.array([37.0, 67.0, 107.0]),
    )  # fmt: skip


def test_the_box_is_as_wide_as_the_longest_stage_can_be():
    """(107 - 7) / 10 s a round, shared by two microbatches; at most 320 tokens for the FFN."""
    space = sweep_space(measured(200.0), form(), None, None)
    assert space.free == (0, 1, 2, 3, 4)
    assert space.scale == pytest.approx([5.0, 1, 5.0, 5.0 / 320, 5.0, 1, 1, 1])
    halves = space.complete(np.full((1, 5), 0.5))
    assert halves == pytest.approx(np.array([[2.5, 0.5, 2.5, 2.5 / 320, 2.5, 0, 0, 0]]))
    alone = sweep_space(measured(200.0, batches=40.0, m=1.0), form("soft"), 0.25, None)
    assert alone.free == (0, 2, 3, 5)  # one load says nothing of shares; transfers are known
    assert alone.scale[[0, 3]] == pytest.approx([10.0, 10.0 / 160])
    assert alone.complete(np.full((1, 4), 0.5))[0, [1, 4, 6, 7]] == pytest.approx([0, 0.25, 0, 0])


def test_shares_are_of_what_is_left():
    space = sweep_space(measured(np.array([400.0, 200.0, 100.0])), form(), None, None)
    assert space.free == (0, 1, 2, 3, 4, 6, 7)
    every = space.complete(np.array([[1.0, 0.5, 0.0, 0.0, 0.0, 0.5, 0.5]]))
    assert every[0, [1, 6, 7]] == pytest.approx([0.5, 0.25, 0.125])
    assert space._inverse(every)[0, [1, 6, 7]] == pytest.approx([0.5, 0.5, 0.5])


def test_misses_are_relative_and_the_misfit_is_their_mean_square():
    sweep = RatioSweep(
        attention_workers=4.0, ffn_workers=2.0, batch_size=80.0, microbatches=2.0,
        mean_tokens=300.0, step_times=np.array([192.0 / 1.25, 192.0 / 0.75]),
    )  # fmt: skip
    space = sweep_space(sweep, form(), None, None)
    assert space.misses(DRAW) == pytest.approx(np.array([[0.25, -0.25]]))
    worse = DRAW * [2.0, 1, 1, 1, 1, 1, 1, 1]
    assert space.misfit(np.concatenate([worse, DRAW])) == pytest.approx(0.25)


def test_a_prior_in_the_coefficients_of_a_sweep():
    """Of 4 layers two take 6 s + 0.5 s per token + 2 s per request, two a time per context too."""
    curve = LinearCurve(intercept=6.0, slope=0.5)
    kinds = (
        AttentionLayers(curve=curve, layers=2, time_per_request=2.0),
        AttentionLayers(curve=curve, layers=2, time_per_request=2.0, time_per_context=0.25),
    )
    ways = (Transfer(curve=LinearCurve(intercept=1.0, slope=0.1)),) * 2
    prior = LatencyModel(
        name="x", time_unit="s", attention=kinds, ffn=LinearCurve(intercept=3.0, slope=0.01),
        send=ways[0], receive=ways[1],
    )  # fmt: skip
    sweep = measured(200.0)
    reference = form()
    found = expected_coefficients(prior, sweep, reference)
    a = sum(k.layers * float(k.time(8000.0, 40)) for k in kinds) / 4
    assert found[0] == pytest.approx(a)
    assert found[[2, 3]] == pytest.approx([3.0, 0.01])
    empty, idle = (sum(2 * float(k.time(0.0, n)) for k in kinds) / 4 for n in (0, 40))
    assert found[1] == pytest.approx(empty / a)
    assert found[6] == pytest.approx((idle - empty) / a)
    assert found[7] == pytest.approx(0.5 * 0.25 * 200.0 / a)
    tokens = float(sweep.ffn_tokens.mean())
    assert found[4] == pytest.approx(2 * ways[0].time(40.0, tokens))
    # With one load of the FFN the slope is that between it and half of it.
    one = expected_coefficients(prior, points(), reference)
    assert one[[2, 3]] == pytest.approx([3.0, 0.01])
