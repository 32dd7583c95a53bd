"""Does the frozen bundle without the barrier obey what needs no theory?"""

from __future__ import annotations

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.theory import pool_play
from afdplan.theory.pool_play import PoolTimes, play_pool
from afdplan.theory.recommend import recommend_ratio


def test_no_call_boards_again_before_it_has_come_round(monkeypatch):
    monkeypatch.setattr(pool_play, "WARM_UP_ROUNDS", 0)
    rng = np.random.default_rng(5)
    for _ in range(20):  # first calls are slow, so that one overtakes another of its worker
        attention = np.full((2, 1, 3, 2), 10.0)
        attention[..., 0] = rng.uniform(100, 300, (2, 1, 3))
        times = PoolTimes(
            attention=attention,
            kind_of_layer=np.arange(2),
            overhead=0.0,
            ffn=50.0 + np.arange(4),
            ffn_cv=None,
            out=8.0,
            back=9.0,
            out_occupied=0.0,
            shares_link=False,
            back_of_calls=None,
        )
        play = play_pool(times, least_calls=1, longest_wait=None, most_calls=None, generator=rng)
        assert play.rounds.min() >= 9 + attention.min() + 8 + 51 - 1e-9


def test_fresh_times_are_the_same_in_every_play_and_keep_their_mean():
    rng = np.random.default_rng(1)
    times = PoolTimes(
        attention=np.full((60, 1, 1, 1), 100.0),
        kind_of_layer=np.zeros(1, dtype=np.int64),
        overhead=0.0,
        ffn=np.array([0.0, 50.0]),
        ffn_cv=np.array([0.3, 0.3]),
        out=10.0,
        back=10.0,
        out_occupied=0.0,
        shares_link=False,
        back_of_calls=None,
        attention_cv=0.2,
        send_cv=0.1,
        receive_cv=0.1,
    )
    one, two = (
        play_pool(times, least_calls=1, longest_wait=None, most_calls=None, generator=rng)
        for _ in range(2)
    )
    assert one.calls_per_time == pytest.approx(two.calls_per_time, rel=1e-12)
    assert one.rounds.mean() == pytest.approx(170, rel=0.01)
    assert one.rounds.std() == pytest.approx(np.sqrt(15**2 + 20**2 + 2), rel=0.1)


def test_workers_and_rule_are_sought_together():
    # Three workers are best for a pool that waits for nobody, and so it tries rules for three;
    # with four it can wait for two, and two pairs take turns: 7 % more (simulated, too).
    law = IndependentLengths(prompt="uniform:500..1500", decode="uniform:100..300")
    load = 64 * law.token_load().mean
    latency = LatencyModel.linear(
        attention=(70 / load, 30.0), ffn=(50 / 256, 50.0), transfer=(0.0, 5.0)
    )
    found = recommend_ratio(law, latency, batch_size=64, microbatches=1, execution="barrier-free")
    assert found.optimal_attention_workers == 3
    assert (found.modes.attention_workers, found.modes.least_calls) == (4, 2)
    assert found.modes.objective > 1.05 * found.best.objective


def of_two(attention, **options):
    """Return the play of two workers with a microbatch each, an FFN of 50 and links of 10, 15."""
    asked = {"least_calls": 1, "longest_wait": None, "most_calls": None} | {
        name: options.pop(name)
        for name in ("least_calls", "longest_wait", "most_calls")
        if name in options
    }
    given = {
        "kind_of_layer": np.zeros(1, dtype=np.int64), "overhead": 0.0,
        "ffn": np.array([0.0, 50.0, 50.0]), "ffn_cv": None, "out": 10.0, "back": 15.0,
        "out_occupied": 0.0, "shares_link": False, "back_of_calls": None,
    }  # fmt: skip
    times = PoolTimes(
        attention=np.tile(np.array(attention).reshape(1, 2, 1, 1), (6, 1, 1, 1)),
        **(given | options),
    )
    return play_pool(times, generator=np.random.default_rng(2), **asked)


def test_a_fast_call_waits_for_a_slow_one():
    """Of 100 and 200 both come round in 275, and every other call waits 100."""
    play = of_two([100.0, 200.0], least_calls=2)
    assert play.rounds == pytest.approx(np.full(play.rounds.size, 275.0))
    assert play.round_time == pytest.approx(np.full((6, 2, 1), 275.0))
    assert play.calls_per_time == pytest.approx(np.full(6, 2 / 275))
    assert play.wait == pytest.approx(50.0)
    assert play.calls_per_departure == 2.0
    assert play.ffn_busy == pytest.approx(50 / 275)
    assert play.attention_busy == pytest.approx(150 / 275)
    assert play.mean_round == pytest.approx(275.0)
    # With patience for 30 it leaves behind: then each comes round by itself.
    hurried = of_two([100.0, 200.0], least_calls=2, longest_wait=30.0)
    assert not hurried.is_held
    assert hurried.wait <= 30.0 + 50.0
    assert hurried.calls_per_departure < 1.5


def test_one_call_on_board_at_most():
    """Two calls of 175 take turns at an FFN of 50, and neither waits once they are apart."""
    play = of_two([100.0, 100.0], most_calls=1)
    assert play.calls_per_departure == 1.0
    assert play.calls_per_time == pytest.approx(np.full(6, 2 / 175))
    assert play.ffn_busy == pytest.approx(100 / 175)
    assert play.wait == pytest.approx(0.0, abs=1e-9)
    # An FFN of 100 is always busy, and each call waits for the other's.
    busy = of_two([20.0, 20.0], most_calls=1, ffn=np.array([0.0, 100.0, 1.0]))
    assert busy.ffn_busy == pytest.approx(1.0)
    assert busy.calls_per_time == pytest.approx(np.full(6, 1 / 100))
    assert busy.wait == pytest.approx(200 - 20 - 25 - 100)


def test_a_shared_link_takes_one_call_after_the_other():
    """Both leave at 100; of a way out of 40 the link is busy for 30: the second is 30 later."""
    play = of_two([100.0, 100.0], least_calls=2, out=40.0, out_occupied=30.0, shares_link=True)
    assert play.rounds == pytest.approx(np.full(play.rounds.size, 100 + 30 + 40 + 50 + 15.0))
    assert play.wait == pytest.approx(15.0)
    own = of_two([100.0, 100.0], least_calls=2, out=40.0, out_occupied=30.0)
    assert own.rounds == pytest.approx(np.full(own.rounds.size, 100 + 40 + 50 + 15.0))
    # A link back of the pool's own: 25 for two calls, and it is busy for no longer than a round.
    back = np.array([[0.0, 12.0, 25.0], [0.0, 6.0, 12.0]])
    told = of_two([100.0, 100.0], least_calls=2, back_of_calls=back)
    assert told.rounds == pytest.approx(np.full(told.rounds.size, 100 + 10 + 50 + 25.0))


def test_layers_of_two_kinds_and_an_overhead_once_a_step():
    """Steps of 60, 60 and 300, and 9 once: rounds of 135, 135 + 9 and 375 in turn."""
    attention = np.stack([np.full((4, 1, 1), 60.0), np.full((4, 1, 1), 300.0)], axis=3)
    times = PoolTimes(
        attention=attention, kind_of_layer=np.array([0, 0, 1]), overhead=9.0,
        ffn=np.array([0.0, 50.0]), ffn_cv=None, out=10.0, back=15.0, out_occupied=0.0,
        shares_link=False, back_of_calls=None,
    )  # fmt: skip
    play = play_pool(
        times, least_calls=1, longest_wait=None, most_calls=None,
        generator=np.random.default_rng(2),
    )  # fmt: skip
    assert sorted(set(play.rounds.round(6))) == pytest.approx([135.0, 144.0, 375.0])
    assert play.mean_round == pytest.approx(654 / 3)
    # Draws begin at layers of their own.
    firsts = {play.rounds[play.draw_of_round == d][0].round(6) for d in range(4)}
    assert len(firsts) > 1
    squares = np.mean(np.array([135.0, 144.0, 375.0]) ** 2)
    assert play.round_variance.ravel() == pytest.approx(np.full(4, squares - 218.0**2))


def test_where_an_overhead_falls_is_drawn_however_small_it_is():
    """Steps of three layers: of a quarter of a second more, in draws that begin anywhere."""
    times = PoolTimes(
        attention=np.full((30, 1, 1, 1), 60.0), kind_of_layer=np.zeros(3, dtype=np.int64),
        overhead=0.25, ffn=np.array([0.0, 50.0]), ffn_cv=None, out=10.0, back=15.0,
        out_occupied=0.0, shares_link=False, back_of_calls=None,
    )  # fmt: skip
    play = play_pool(
        times, least_calls=1, longest_wait=None, most_calls=None,
        generator=np.random.default_rng(2),
    )  # fmt: skip
    assert sorted(set(play.rounds.round(6))) == pytest.approx([135.0, 135.25])
    firsts = [float(play.rounds[play.draw_of_round == d][0]) for d in range(30)]
    assert 3 <= sum(first > 135.1 for first in firsts) <= 17
    assert play.mean_round == pytest.approx(135 + 0.25 / 3)


@pytest.mark.parametrize("workers", [3, 60])  # calls that are moved to their places, and sorted
@pytest.mark.parametrize(  # many equal times, and none: who is first over a link is not told then
    ("shares_link", "values"), [(True, 10**9), (False, 40), (False, 10**9)]
)
@pytest.mark.parametrize(("ffn", "out_occupied"), [(0.2, 0.0), (0.2, 8.0), (20.0, 1.0)])
def test_a_play_is_what_a_plain_loop_over_departures_gives(
    workers, shares_link, values, ffn, out_occupied
):
    rng = np.random.default_rng(7)
    draws, m, out, back = 2, 2, 9.0, 4.0
    attention = rng.integers(1, values, (draws, workers, m, 1)) * (400.0 / values)
    times = PoolTimes(
        attention=attention,
        kind_of_layer=np.zeros(1, dtype=np.int64),
        overhead=0.0,
        ffn=30.0 + ffn * np.arange(workers * m + 1),
        ffn_cv=None,
        out=out,
        back=back,
        out_occupied=out_occupied,
        shares_link=shares_link,
        back_of_calls=None,
    )
    rule = {"least_calls": 2, "longest_wait": 25.0, "most_calls": None}
    play = play_pool(times, generator=np.random.default_rng(3), **rule)
    arrivals = pool_play._first_arrivals(times, np.random.default_rng(3))
    for draw in range(draws):
        rounds = plain_rounds(times, attention[draw].ravel(), arrivals[draw], m, rule)
        assert play.rounds[play.draw_of_round == draw].tolist() == rounds


def plain_rounds(times, attention, arrival, m, rule):
    """Play one draw: all who wait for the link pass it anew at each departure."""
    calls = attention.size
    worker_free, send_free, receive_free = (np.zeros(calls // m) for _ in range(3))
    last, waiting, link_free, pool_free, now = np.zeros(calls), {}, 0.0, 0.0, []
    arrival = dict(enumerate(arrival.tolist()))
    for share in (pool_play.WARM_UP_ROUNDS, pool_play.ROUNDS):
        now, met, departures = [], set(), 0
        while not (
            (len(now) >= share * calls or departures >= pool_play.MOST_DEPARTURES)
            and len(met) == calls
        ):
            link, begins = link_free, {}
            for cell in sorted(waiting, key=waiting.get):
                begins[cell] = max(waiting[cell], link)
                link = begins[cell] + times.out_occupied
                arrival[cell] = begins[cell] + times.out
            queue = sorted(arrival, key=arrival.get)
            first, enough = arrival[queue[0]], arrival[queue[rule["least_calls"] - 1]]
            start = max(min(enough, first + rule["longest_wait"]), pool_free)
            aboard = [cell for cell in queue if arrival[cell] <= start]
            for cell in [cell for cell in begins if begins[cell] <= start]:
                link_free = max(link_free, begins[cell] + times.out_occupied)
                del waiting[cell]
            pool_free = start + times.ffn[len(aboard)]
            departures += 1
            for cell in aboard:
                now.append(start - last[cell])
                last[cell] = start
                met.add(cell)
                worker = cell // m
                returned = max(pool_free, receive_free[worker]) + times.back
                receive_free[worker] = returned
                worker_free[worker] = max(returned, worker_free[worker]) + attention[cell]
                del arrival[cell]  # it goes behind those that arrive at the same time
                if times.shares_link:
                    waiting[cell], arrival[cell] = worker_free[worker], np.inf
                else:
                    send_free[worker] = max(worker_free[worker], send_free[worker]) + times.out
                    arrival[cell] = send_free[worker]
    return now
