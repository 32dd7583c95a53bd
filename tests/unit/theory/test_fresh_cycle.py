"""Two stations whose times are drawn afresh, against a schedule that is played job by job."""

import math

import numpy as np
import pytest

from afdplan.theory.fresh_cycle import _kept, _over, fresh_stage


def played(attention, ffn, way, deviations, m, *, uneven=0.0, draws=1200, rounds=48):
    """Mean stage, and the variance of a stage in the long run, of normal times in their order."""
    rng = np.random.default_rng([m, int(abs(way)), int(10 * deviations[0])])
    worker, served, ready = np.zeros(draws), np.zeros(draws), [np.zeros(draws)] * m
    warm = rounds // 3
    for k in range(rounds):
        for u in range(m):
            swing = uneven * (1 if u % 2 == 0 else -1)
            own = attention + swing + deviations[0] * rng.standard_normal(draws)
            worker = np.maximum(worker, ready[u]) + own
            served = np.maximum(served, worker + way / 2)
            served = served + ffn + deviations[1] * rng.standard_normal(draws)
            ready[u] = served + way / 2
        if k == warm:
            begun = served
    stages = m * (rounds - 1 - warm)
    return (served - begun).mean() / stages, (served - begun).var() / stages


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("ffn", [120.0, 190.0, 230.0])
@pytest.mark.parametrize("way", [-30.0, 0.0, 40.0, 150.0, 400.0])
def test_stage_is_that_of_a_played_schedule(m, ffn, way):
    for deviations in ((40.0, 0.0), (15.0, 50.0)):
        a, x = np.array([200.0]), np.array([np.hypot(*deviations)])
        found, p, q = fresh_stage(a, np.array([ffn]), a + ffn + way, x, m)
        mean, variance = played(200.0, ffn, way, deviations, m)
        assert found[0] == pytest.approx(mean, rel=0.015 if m > 2 else 0.009)
        if m > 1:
            own, other = deviations[0] ** 2, deviations[1] ** 2
            expected = p * own + q * other - 2 / np.pi * p * q * (own + other)
            assert np.sqrt(expected[0]) == pytest.approx(
                np.sqrt(variance), rel=0.2 if m == 2 else 0.35, abs=4.0
            )


@pytest.mark.parametrize("uneven", [10.0, 40.0])
@pytest.mark.parametrize("way", [0.0, 60.0])
def test_a_long_and_a_short_microbatch_take_turns(uneven, way):
    a, f, x = np.array([200.0]), np.array([190.0]), np.array([50.0])
    trip = a + f + way + uneven
    found, *_ = fresh_stage(a, f, trip, x, 2, np.array([uneven]))
    mean, _ = played(200.0, 190.0, way, (30.0, 40.0), 2, uneven=uneven)
    assert found[0] == pytest.approx(mean, rel=0.006)


@pytest.mark.parametrize(("ffn", "way", "uneven"), [(102.5, 108.7, 32.5), (130.0, 70.0, 30.0)])
def test_lateness_of_a_long_turn_is_what_the_short_one_left(ffn, way, uneven):
    """Each turn with its own spread errs by 0.8 and 0.6 %; the formula by 0.01 %."""
    a, x = np.array([200.0]), np.array([30.0])
    found, *_ = fresh_stage(a, np.array([ffn]), a + ffn + way + uneven, x, 2, np.array([uneven]))
    mean, _ = played(200.0, ffn, way, (18.0, 24.0), 2, uneven=uneven, draws=4000)
    assert found[0] == pytest.approx(mean, rel=0.002)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_nothing_that_scatters_leaves_the_longest_circuit(m):
    a, f, zero = np.array([200.0, 100.0, 90.0]), np.array([150.0, 180.0, 95.0]), np.zeros(3)
    trip = a + f + np.array([5.0, 10.0, 800.0])
    expected = np.maximum(np.maximum(a, f), trip / m) if m > 1 else trip
    assert fresh_stage(a, f, trip, zero, m)[0] == pytest.approx(expected)
    assert fresh_stage(a, f, trip, zero + 0.01, m)[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("way", [0.0, 30.0, 150.0, 700.0])
def test_both_stations_may_change_places(m, way):
    """A schedule does not know which of both stations is called attention."""
    one, other, x = np.array([200.0, 180.0]), np.array([170.0, 320.0]), np.array([50.0, 20.0])
    first, p, q = fresh_stage(one, other, one + other + way, x, m)
    second, r, s = fresh_stage(other, one, one + other + way, x, m)
    assert first == pytest.approx(second, rel=2e-4)
    assert p == pytest.approx(s, abs=5e-3)
    assert q == pytest.approx(r, abs=5e-3)


def test_whose_jobs_a_long_schedule_waits_for():
    """Of one that is always busy all; of none more than one in m of each where trips bind."""
    one, x = np.array([200.0]), np.array([10.0])
    for m in (2, 3, 5):
        _, p, q = fresh_stage(one, one / 2, 1.5 * one, x, m)
        assert (p[0], q[0]) == (pytest.approx(1, abs=1e-3), pytest.approx(0, abs=1e-3))
        _, p, q = fresh_stage(one / 2, one, 1.5 * one, x, m)
        assert (p[0], q[0]) == (pytest.approx(0, abs=1e-3), pytest.approx(1, abs=1e-3))
        found, p, q = fresh_stage(one, one, 20 * one, x, m)
        assert (p[0], q[0]) == (pytest.approx(1 / m), pytest.approx(1 / m))
        assert found[0] == pytest.approx(4000 / m, rel=1e-3)
    _, p, q = fresh_stage(one, one, 3 * one, x, 1)
    assert (p[0], q[0]) == (1.0, 1.0)


@pytest.mark.parametrize("drift", [-40.0, -3.0, 0.0, 1e-7, 7.0, 90.0])
@pytest.mark.parametrize("wall", [0.0, 15.0, 200.0])
def test_pushes_of_both_walls_differ_by_the_drift(drift, wall):
    """A walk that stays where it is goes down by as much as it drifts and is pushed up."""
    x, wall = np.array([30.0]), np.array([wall])
    down, above = _kept(np.array([drift]), x, wall)
    up, below = _kept(np.array([-drift]), x, wall)
    assert down - up == pytest.approx([drift], abs=1e-3)
    assert above + below == pytest.approx([1.0], abs=1e-4)
    # Brownian, between walls L apart: d / (1 - exp(-2 d L / x^2)).
    between = 2 * wall + math.sqrt(math.pi / 2) * x
    pushed = drift / -np.expm1(-2 * drift * between / x**2) if drift else x**2 / (2 * between)
    assert down == pytest.approx(pushed, rel=1e-4)


def test_what_a_normal_exceeds_zero_by():
    z = np.linspace(-9, 9, 200_001)
    for mean, deviation in ((0.0, 1.0), (2.0, 3.0), (-1.5, 0.7)):
        density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
        above = np.maximum(mean + deviation * z, 0.0)
        first, second = _over(np.array([mean]), np.array([deviation]))
        assert first == pytest.approx([float(density @ above)], rel=1e-6)
        assert second == pytest.approx([float(density @ above**2)], rel=1e-6)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("uneven", [0.0, 30.0])
def test_a_stage_has_no_unit_and_designs_do_not_meet(m, uneven):
    """In microseconds or in seconds; of more than two microbatches jobs are alike."""
    a, f = np.array([200.0, 200.0, 150.0, 90.0]), np.array([190.0, 200.0, 160.0, 95.0])
    trip, x = a + f + np.array([-20.0, 0.0, 60.0, 300.0]), np.array([50.0, 1.0, 20.0, 40.0])
    whole = fresh_stage(a, f, trip, x, m, uneven)
    small = fresh_stage(a / 1e6, f / 1e6, trip / 1e6, x / 1e6, m, uneven / 1e6)
    assert small[0] * 1e6 == pytest.approx(whole[0], rel=1e-9)
    for at in (1, 2):
        assert small[at] == pytest.approx(whole[at], abs=1e-9)
    for one in range(4):
        alone = fresh_stage(*(v[one : one + 1] for v in (a, f, trip, x)), m, uneven)
        assert [float(v[0]) for v in alone] == pytest.approx([float(v[one]) for v in whole])
    if m != 2:
        told = fresh_stage(a, f, trip, x, m)
        assert all((v == w).all() for v, w in zip(told, whole, strict=True))
