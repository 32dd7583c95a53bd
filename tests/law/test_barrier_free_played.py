"""Do kernel and theory play what a bundle without the barrier does, told by its resources alone?

Both assume that workers and links serve in order of arrival, and reckon all times ahead. Here
nothing is known ahead: workers, links and the pool are busy or free, and react to what comes.
"""

from __future__ import annotations

import heapq
import os
import random
from collections import deque

import numpy as np
import pytest

from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.model.trace import Trace
from afdplan.simulation import state as ix
from afdplan.simulation.engine import Engine
from afdplan.simulation.scenario import Scenario
from afdplan.theory import pool_play
from afdplan.theory.pool_play import PoolTimes, play_pool


class Station:
    """Serves one call at a time, first come first served."""

    def __init__(self, bundle, time, after):
        self.bundle, self.time, self.after = bundle, time, after
        self.waiting, self.is_busy = deque(), False

    def come(self, call):
        self.waiting.append(call)
        self.go_on()

    def go_on(self):
        if self.waiting and not self.is_busy:
            self.is_busy = True
            call = self.waiting.popleft()
            self.bundle.later(self.time(call), lambda: self.end(call))

    def end(self, call):
        self.is_busy = False
        self.after(call)
        self.go_on()


class Played:
    """A bundle; a call is (worker, microbatch)."""

    def __init__(self, workers, m, attention, out, ffn, back, rule):
        self.clock, self.events, self.count = 0.0, [], 0
        self.ffn, self.rule = ffn, rule
        self.pool, self.is_busy, self.departures = [], False, []
        self.back = [Station(self, lambda call: back, self.returned) for _ in range(workers)]
        self.out = [Station(self, lambda call: out, self.arrived) for _ in range(workers)]
        self.workers = [
            Station(self, attention, lambda call: self.out[call[0]].come(call))
            for _ in range(workers)
        ]
        for u in range(m):
            for i in range(workers):
                self.workers[i].come((i, u))

    def later(self, time, action):
        self.count += 1
        heapq.heappush(self.events, (self.clock + time, self.count, action))

    def arrived(self, call):
        self.pool.append((self.clock, call))
        if self.rule["longest_wait"] is not None:
            self.later(self.rule["longest_wait"], lambda: None)  # somebody looks again

    def returned(self, call):
        self.workers[call[0]].come(call)

    def run(self, departures):
        while len(self.departures) < departures:
            self.clock = self.events[0][0]
            while self.events and self.events[0][0] == self.clock:
                heapq.heappop(self.events)[2]()
            self.look()
        return self.departures

    def look(self):
        wait = self.rule["longest_wait"]
        is_due = len(self.pool) >= self.rule["least_calls"]
        if self.pool and wait is not None:
            is_due |= self.clock >= self.pool[0][0] + wait
        if self.is_busy or not is_due:
            return
        most = self.rule["most_calls"] or len(self.pool)
        taken, self.pool = self.pool[:most], self.pool[most:]
        self.departures.append((self.clock, len(taken)))
        self.is_busy = True

        def end():
            self.is_busy = False
            for _, call in taken:
                self.back[call[0]].come(call)

        self.later(self.ffn(len(taken)), end)


def a_rule(r, calls):
    least = r.randint(1, calls)
    most = r.choice([None, None, r.randint(least, calls)])
    return {
        "least_calls": least,
        "longest_wait": r.choice([None, None, 0.0, 7.0, 40.0]),
        "most_calls": most,
    }


@pytest.mark.parametrize("seed", range(int(os.environ.get("AFDPLAN_PLAYED", "60"))))
def test_kernel_departs_when_the_resources_do(seed):
    r = random.Random(seed)
    workers, m, batch, layers = (r.randint(1, 5), *(r.randint(1, 3) for _ in range(3)))
    cells = workers * m
    prompts = [r.randrange(0, 400) for _ in range(cells * batch)]
    slope, base = r.uniform(0.05, 0.3), r.uniform(1, 30)
    per_token, floor = r.uniform(0.1, 8), r.uniform(1, 60)
    # Links that take no time bring calls of one worker back at once: then their order is free.
    trip = r.uniform(0.1, 40)
    rule = a_rule(r, cells)
    most = rule["most_calls"]
    engine = Engine(
        Scenario(
            bundle=Bundle(attention_workers=workers, batch_size=batch, microbatches=m),
            latency=LatencyModel.linear(
                attention=(slope, base), ffn=(per_token, floor), transfer=(0.0, trip), layers=layers
            ),
            lengths=Trace(
                prompt_tokens=np.array(prompts), decode_tokens=np.full(len(prompts), 5000)
            ),
            start="fresh",
            execution="barrier-free",
            least_calls=rule["least_calls"],
            longest_wait=rule["longest_wait"],
            most_tokens=None if most is None else most * batch,
        ),
        stage_rows=20_000,
    )
    engine.run(stop_step=60)
    ffn = engine.stages[engine.stages[:, 0] == ix.FFN]
    # Cells take requests in their order; a load grows by a token of each at every step.
    rounds = dict.fromkeys([(i, u) for u in range(m) for i in range(workers)], 0)

    def attention(call):
        i, u = call
        own = prompts[(u * workers + i) * batch :][:batch]
        steps = rounds[call] // layers
        rounds[call] += 1
        return base + slope * (sum(own) + steps * batch)

    bundle = Played(
        workers, m, attention, trip, lambda n: floor + per_token * batch * n, trip, rule
    )
    known = bundle.run(len(ffn))
    assert ffn[:, 2].tolist() == [calls for _, calls in known]
    np.testing.assert_allclose(ffn[:, 5], [start for start, _ in known], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(25))
def test_theory_has_the_pace_of_the_resources(seed, monkeypatch):
    # Loads that stand still for ever may need hundreds of rounds to fall into their rhythm.
    monkeypatch.setattr(pool_play, "WARM_UP_ROUNDS", 400)
    monkeypatch.setattr(pool_play, "MOST_DEPARTURES", 10**6)
    r = random.Random(seed)
    workers, m = r.randint(1, 6), r.randint(1, 3)
    cells = workers * m
    loads = np.array([[r.uniform(20, 90) for _ in range(m)] for _ in range(workers)])
    ffn = np.array([0.0, *(r.uniform(1, 5) * np.arange(1, cells + 1) + r.uniform(2, 40))])
    trip = r.uniform(0.1, 30)
    rule = a_rule(r, cells)
    play = play_pool(
        PoolTimes(
            attention=np.broadcast_to(loads[None, :, :, None], (2, workers, m, 1)),
            kind_of_layer=np.zeros(1, dtype=np.int64),
            overhead=0.0,
            ffn=ffn,
            ffn_cv=None,
            out=trip,
            back=trip,
            out_occupied=0.0,
            shares_link=False,
            back_of_calls=None,
        ),
        **rule,
        generator=np.random.default_rng(0),
    )
    bundle = Played(workers, m, lambda call: loads[call], trip, lambda n: float(ffn[n]), trip, rule)
    departures = bundle.run(4000)
    late = departures[2000:]
    pace = sum(calls for _, calls in late[:-1]) / (late[-1][0] - late[0][0])
    assert play.calls_per_time[0] == pytest.approx(pace, rel=0.015)


def test_a_pool_that_leaves_too_late_is_noticed():
    """Of the judge above: another rule departs otherwise."""
    rule = {"least_calls": 1, "longest_wait": None, "most_calls": None}
    one, two = (
        Played(
            2, 1, lambda call: 10.0 + call[0], 1.0, lambda n: 5.0, 1.0, rule | {"least_calls": k}
        )
        for k in (1, 2)
    )
    assert one.run(20) != two.run(20)
