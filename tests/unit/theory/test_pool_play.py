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
