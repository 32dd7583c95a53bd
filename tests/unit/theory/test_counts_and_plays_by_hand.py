"""Counts of the busiest rank by their exact laws, and plays whose times can be told by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermeval
from scipy import stats

from afdplan.lengths.law import IndependentLengths
from afdplan.model.coupling import Coupling
from afdplan.model.latency import LatencyModel
from afdplan.model.variation import Scatter
from afdplan.theory.busiest_rank import (
    _density,
    _held,
    _truncated,
    _unconditional,
    _whole,
    largest_count,
    largest_counts,
)
from afdplan.theory.fresh_times import ffn_times
from afdplan.theory.joint_law import JointLaw
from afdplan.theory.layer_cycle import layer_cycle
from afdplan.theory.layer_order import drained_step, order_period, played_step
from afdplan.theory.moving_load import worker_motion
from afdplan.theory.pool_play import PoolPlay, PoolTimes, _first_arrivals, play_pool
from afdplan.theory.problem import RatioProblem

FAMILIES = {1.0: stats.poisson(6.0), 2.5: stats.nbinom(4.0, 0.4), 0.4: stats.binom(10, 0.6)}
"""Of mean 6, by variance over mean."""


def cube(*values):
    return np.array(values, float)[:, None, None]


@pytest.mark.parametrize("phi", FAMILIES)
def test_counts_up_to_a_bound(phi):
    law = FAMILIES[phi]
    assert (law.mean(), law.var()) == pytest.approx((6.0, 6.0 * phi))
    x = np.array([0.0, 3.0, 6.0, 9.0, 14.0])[None, :, None]
    held, chance = _held(x, cube(6.0), cube(phi))
    assert held[0, :, 0] == pytest.approx(law.cdf(x[0, :, 0]), rel=1e-9)
    assert chance[0, :, 0] == pytest.approx(law.pmf(x[0, :, 0]) / law.cdf(x[0, :, 0]), abs=1e-12)
    for k in (3, 6, 9):
        counts = np.arange(k + 1)
        weights = law.pmf(counts) / law.cdf(k)
        mean = float(weights @ counts)
        two, three, four = (float(weights @ (counts - mean) ** n) for n in (2, 3, 4))
        one = _truncated(cube(k), cube(6.0), cube(phi), cube(weights[-1]))
        assert [float(part[0, 0, 0]) for part in one] == pytest.approx(
            [mean, two, three, four - 3 * two**2], rel=1e-9
        )


@pytest.mark.parametrize("phi", FAMILIES)
def test_cumulants_of_all_counts(phi):
    mean, variance, skew, peak = FAMILIES[phi].stats("mvsk")
    wanted = [mean, variance, skew * variance**1.5, peak * variance**2]
    assert [6.0 * float(part[0]) for part in _whole(np.array([phi]))] == pytest.approx(wanted)


def test_a_density_is_the_series_of_hermite():
    for z, g, k in product((-1.5, 0.0, 0.7, 2.0), (0.0, 0.3), (0.0, 0.2)):
        root = 2.0
        series = hermeval(z, [1, 0, 0, g / 6, k / 24, 0, g**2 / 72])
        found = _density(*(np.array([one]) for one in (
            5 + root * z, 5.0, root**2, g * root**3, k * root**4,
        )))  # fmt: skip
        assert found[0] == pytest.approx(math.exp(-(z**2) / 2) / root * series)
    assert _density(*(np.array([one]) for one in (8.0, 0.0, 1.0, 0.0, -9.0)))[0] == 0.0


@pytest.mark.parametrize("wanted", [0.5, 1.0, 1.7, 9.0])
def test_independent_counts_have_the_wanted_variance_given_their_sum(wanted):
    """Negative binomial counts given their sum are a Polya urn: N phi / (N + phi - 1) times."""
    number = 40.0
    (phi,) = _unconditional(np.array([number]), np.array([wanted]))
    assert number * phi / (number + phi - 1) == pytest.approx(wanted)
    assert _unconditional(np.array([number]), np.array([99.0]))[0] == pytest.approx(
        20 * 39 / 20.0  # half of the choices at most
    )
    assert _unconditional(np.array([number]), np.array([0.0]))[0] == 1e-9


@pytest.mark.parametrize("number", [20, 21, 100])
@pytest.mark.parametrize("share", [0.5, 0.7])
@pytest.mark.parametrize("dispersion", [1.0, 2.0])
def test_the_larger_of_two_is_exact(number, share, dispersion):
    phi = dispersion * (number - 1) / (number - dispersion)
    law = stats.binom(number, share)
    if dispersion > 1:
        size = number / (phi - 1)
        law = stats.betabinom(number, share * size, (1 - share) * size)
    counts, cumulative = largest_count(np.array([share, 1 - share]), float(number), dispersion)
    assert (counts[-1], cumulative[-1]) == (number, 1.0)
    assert (np.diff(counts) > 0).all()
    for x in range(math.ceil(number / 2), number):
        exact = float(law.cdf(x) - law.cdf(number - x - 1))
        assert np.interp(x, counts, cumulative) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("shares", [(0.25,) * 4, (0.4, 0.3, 0.2, 0.1)])
def test_the_largest_of_four_is_near_that_of_all_outcomes(shares):
    number = 24
    counts, cumulative = largest_count(np.array(shares), float(number))
    for x in range(7, 16):
        ways = np.ones(1)  # of N! times the product of p^k / k!
        for p in shares:
            ways = np.convolve(ways, [p**k / math.factorial(k) for k in range(x + 1)])
        exact = math.factorial(number) * (ways[number] if ways.size > number else 0.0)
        assert np.interp(x, counts, cumulative) == pytest.approx(exact, abs=0.004)
    assert np.interp(5.0, counts, cumulative) == pytest.approx(0.0, abs=1e-9)


def test_ranks_that_never_vary_have_one_count():
    """Without dispersion the largest share decides; so does a rank that has all."""
    for shares, most in (((0.5, 0.3, 0.2), 50.0), ((0.25,) * 4, 25.0)):
        counts, cumulative = largest_count(np.array(shares), 100.0, 0.0)
        at = counts[np.searchsorted(cumulative, 0.5)]
        assert at == pytest.approx(most)
    counts, cumulative = largest_count(np.array([1.0, 0.0]), 100.0)
    assert counts[np.searchsorted(cumulative, 0.5)] == 100.0
    rows = largest_counts(
        np.array([[0.5, 0.5, 0.0], [0.4, 0.3, 0.3]]), np.array([3, 3]),
        np.array([20.0, 20.0]), np.array([1.0, 1.0]),
    )  # fmt: skip
    for shares, (x, cumulative) in zip(([0.5, 0.5, 0.0], [0.4, 0.3, 0.3]), rows, strict=True):
        alone = largest_count(np.array(shares), 20.0)
        at = np.arange(8.0, 18.0)
        assert np.interp(at, x, cumulative) == pytest.approx(np.interp(at, *alone), abs=1e-9)


@pytest.mark.parametrize(
    ("busiest", "trip", "wanted"),
    [
        (2.0, 7.0, 3 + 7 + 4 * (4 + 7) + 2 * 10 / 3),  # one microbatch after the other
        (3.5, 7.0, 3 + 7 + 4 * (4 + 7) + 2 * 3.5),
        (5.0, 7.0, 3 + 7 + 14 * 5.0),  # the shared stage of all 15
        (2.0, 1.0, 5 * 10 + 1.0),  # attention of all layers, and the last trip
    ],
)
def test_a_step_that_ends_empty_by_hand(busiest, trip, wanted):
    """Five layers, three microbatches of 10 in all, the longest 4, the first 3."""
    total, longest, first = (np.array([[x]]) for x in (10.0, 4.0, 3.0))
    found = drained_step(
        total, longest, first, layers=5, microbatches=3,
        busiest=np.array([busiest]), trip=np.array([trip]),
    )  # fmt: skip
    assert found.tolist() == [[pytest.approx(wanted)]]


def test_a_part_of_a_transfer_that_a_worker_is_busy_with_delays_nothing_twice():
    """Attention 4, FFN 3, links 2 and 1, of which 1.5 and 0.25 follow the jobs: one microbatch."""
    times, one = np.full((1, 1, 1, 1, 1), 4.0), np.ones(1)
    for drained, layers in ((True, 3), (False, 3), (False, 1)):
        found = played_step(
            times, (0,) * layers, 3 * one, 2 * one, one,
            is_drained=drained, delays=(1.5 * one, 0.25 * one),
        )  # fmt: skip
        assert found.tolist() == [[pytest.approx(layers * (4 + 1.5 + 3 + 0.25))]]
        whole = played_step(times, (0,) * layers, 3 * one, 2 * one, one, is_drained=drained)
        assert whole.tolist() == [[pytest.approx(layers * 10.0)]]
    assert order_period((0, 0, 1, 0, 0, 1)) == (0, 0, 1)
    assert order_period((0, 0, 0)) == (0,)
    assert order_period((0, 0, 1, 0)) == (0, 0, 1, 0)


def played(rounds, is_held=False):
    """Return a play of draws with these mean rounds of two calls."""
    rounds = np.array(rounds)
    return PoolPlay(
        calls_per_time=2 / rounds, calls_per_departure=1.0, ffn_busy=0.5, attention_busy=0.5,
        wait=0.0, rounds=rounds, draw_of_round=np.arange(rounds.size),
        round_time=np.ones((rounds.size, 1, 2)), round_variance=np.zeros((rounds.size, 1, 2)),
        is_held=is_held,
    )  # fmt: skip


def test_two_rhythms_count_where_they_are_no_noise():
    for apart, other in ((2.0, 1.0), (1.016, 0.016), (1.014, 0.0), (0.984, -0.016), (0.986, 0.0)):
        play = played([1.0, apart, 1.0, apart])
        assert play.other_rhythm == pytest.approx(other)
        assert play.mean_round == pytest.approx(1.0 if other else (1 + apart) / 2)
        assert play.has_one_law == (other == 0)
        assert not played([1.0, apart, 1.0, apart], is_held=True).has_one_law
    assert played([1.0, 2.0, 1.0, 2.0]).farthest_rhythm == pytest.approx(0.5)
    assert played([2.0, 1.0, 2.0, 1.0]).farthest_rhythm == pytest.approx(1.0)
    # Standard errors of 0.1 / root 2 each way, times 1.2 and 1.4: three of both are 0.33 and 0.36.
    for factor, other in ((1.2, 0.0), (1.4, 0.4)):
        play = played([0.9, 0.9 * factor, 1.1, 1.1 * factor])
        assert play.other_rhythm == pytest.approx(other)


def times_of(attention, calls, **options):
    given = {
        "kind_of_layer": np.zeros(1, dtype=np.int64), "overhead": 0.0,
        "ffn": np.array([0.0, *[50.0] * calls]), "ffn_cv": None, "out": 10.0, "back": 15.0,
        "out_occupied": 0.0, "shares_link": False, "back_of_calls": None,
    }  # fmt: skip
    return PoolTimes(attention=attention, **{**given, **options})


def test_when_calls_first_come():
    """In even draws one after the other, in odd ones anywhere within a round, in order."""
    attention = np.full((400, 2, 3, 1), 20.0)
    first = _first_arrivals(times_of(attention, 6), np.random.default_rng(3))
    assert first.shape == (400, 6)
    assert (first[::2] == [30.0, 50.0, 70.0, 30.0, 50.0, 70.0]).all()
    odd = first[1::2].reshape(-1, 3)
    assert (np.diff(odd, axis=1) >= 0).all()
    longest = 20 + 10 + 15 + 25  # half of the FFN; longer than three microbatches
    assert 0.98 * longest < odd.max() < longest
    assert odd.mean() == pytest.approx(longest / 2, rel=0.05)
    slow = _first_arrivals(times_of(5 * attention, 6), np.random.default_rng(3))
    assert 0.98 * 300 < slow[1::2].max() < 300


@pytest.mark.parametrize("overhead", [0.0, 30.0])
def test_a_single_call_comes_round(overhead):
    times = times_of(np.full((4, 1, 1, 1), 100.0), 1, overhead=overhead)
    play = play_pool(
        times, least_calls=1, longest_wait=None, most_calls=None,
        generator=np.random.default_rng(1),
    )  # fmt: skip
    whole = 175 + overhead
    assert play.calls_per_time == pytest.approx(np.full(4, 1 / whole))
    assert play.rounds == pytest.approx(np.full(play.rounds.size, whole))
    assert play.round_time.ravel() == pytest.approx(np.full(4, whole))
    assert play.round_variance.ravel() == pytest.approx(np.zeros(4), abs=1e-6)
    assert play.ffn_busy == pytest.approx(50 / whole)
    assert play.attention_busy == pytest.approx((100 + overhead) / whole)
    assert (play.wait, play.calls_per_departure) == (pytest.approx(0.0, abs=1e-9), 1.0)
    assert not play.is_held
    assert np.bincount(play.draw_of_round).tolist() == [play.rounds.size // 4] * 4


@pytest.mark.parametrize(("least", "wait", "held"), [(2, None, True), (2, 1e9, False)])
def test_two_workers_that_leave_together(least, wait, held):
    """They come round in 175 and share a departure; a call that is alone waits for the other."""
    times = times_of(np.full((2, 2, 1, 1), 100.0), 2)
    play = play_pool(
        times, least_calls=least, longest_wait=wait, most_calls=None,
        generator=np.random.default_rng(1),
    )  # fmt: skip
    assert play.calls_per_time == pytest.approx(np.full(2, 2 / 175))
    assert play.calls_per_departure == pytest.approx(2.0)
    assert (play.ffn_busy, play.attention_busy) == pytest.approx((50 / 175, 100 / 175))
    assert play.is_held is held


@pytest.mark.parametrize(("size", "step"), [(12, 1), (800, 8)])
@pytest.mark.parametrize("m", [2, 3, 4])
def test_sum_and_largest_are_those_of_the_truncated_law(size, step, m):
    """To the very end of the table, with every truncation or with cubics between some."""
    chances = np.sin(np.arange(size) / (size - 1) * np.pi) ** 8
    if step == 1:
        chances = np.random.default_rng(m).dirichlet(np.ones(size))
    chances = chances / chances.sum()
    joint = JointLaw(chances, m)
    assert joint._step == step
    for i in (1, size // 3, size - 9, size - 2, size - 1):
        whole = np.ones(1)
        for _ in range(m):
            whole = np.convolve(whole, chances[: i + 1])
        until = np.append(np.cumsum(whole), whole.sum())
        for d in {0, 1, i // 2, i, i + 1, 2 * i - 1, (m - 1) * i - 2, (m - 1) * i}:
            if d < 0:
                continue
            found, more = joint.diagonals(np.array([[i]]), np.array([d]))
            for value, k in ((found, i + d), (more, i + d + 1)):
                assert value[0, 0] == pytest.approx(until[min(k, until.size - 1)], abs=2e-6)


def test_a_launch_is_added_once_and_does_not_scatter():
    """2 x 10 + 5, and a launch of 7; 30 % of 25 scatter."""
    plain = LatencyModel.linear(attention=(0.0, 4.0), ffn=(2.0, 5.0))
    launched = replace(plain, coupling=Coupling(launch=7.0))
    tokens = np.array([10.0])
    assert ffn_times(plain, tokens, 1).mean.tolist() == [25.0]
    still = ffn_times(launched, tokens, 1)
    assert (still.mean.tolist(), still.fresh, still.between) == ([32.0], None, None)
    scattered = ffn_times(replace(launched, scatter=Scatter(ffn=0.3)), tokens, 1)
    assert scattered.mean.tolist() == pytest.approx([32.0])
    assert scattered.fresh.tolist() == pytest.approx([0.3 * 25])
    assert scattered.between.tolist() == [0.0]


@pytest.mark.parametrize("microbatches", [2, 3])
def test_the_round_of_a_worker_moves_as_all_of_its_slots_do(microbatches):
    latency = LatencyModel.linear(attention=(0.5, 10.0), ffn=(0.0, 1.0), layers=4)
    law = IndependentLengths(prompt="uniform:3..9", decode="geometric:8")

    def motion(latency):
        problem = RatioProblem(law=law, latency=latency, batch_size=5, microbatches=microbatches)
        (slot,) = problem.slot_loads()
        cycle = layer_cycle(problem, latency.attention[0], slot, slot.moments.mean)
        return cycle._motion, slot.motion

    found, slot = motion(latency)
    wanted = worker_motion(slot, 5 * microbatches, 0.5, 1.0)
    for name in ("jumps", "mean_jumps", "mean_growth", "evenness", "mean_square"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), rel=1e-9)
    assert found.jumps == pytest.approx(5 * microbatches / 8, rel=1e-6)
    assert motion(replace(latency, drain=True))[0].jumps == 0.0  # every step begins on its own
