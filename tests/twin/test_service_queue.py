"""Does the replay of a prefill pool equal an event simulation, and what queueing theory knows?"""

from __future__ import annotations

import math

import numpy as np
import pytest
import simpy

from afdplan.model.curve import LinearCurve, RooflineCurve
from afdplan.model.prefill import PairCost, PrefillModel
from afdplan.simulation.service_queue import PromptLine, prefill_finishes, slot_starts

MODEL = PrefillModel(
    name="x",
    compute=RooflineCurve(floor=0.03, slope=2e-5),
    pairs=(PairCost(time=1e-10),),
    chunk_tokens=4096,
)


def play(model, prompts, arrivals, workers, policy, shares):
    """Return when each prompt is computed, by events; shares no code with the kernel."""
    world = simpy.Environment()
    waiting, idle, finishes = [], set(range(workers)), np.zeros(len(arrivals))
    alone, pairs = model.times(prompts), model.pair_times(prompts.astype(float))

    def run(worker, company):
        time = alone[company[0]]
        if len(company) > 1:
            total = float(sum(prompts[i] for i in company))
            time = model.compute(total) + sum(pairs[i] for i in company)
        yield world.timeout(time)
        finishes[company] = world.now
        idle.add(worker)
        yield world.timeout(0)
        dispatch()

    def dispatch():
        while idle and waiting:
            if policy == "shortest-prompt":
                waiting.sort(key=lambda i: (prompts[i], i))
            worker, company = idle.pop(), [waiting.pop(0)]
            while shares and not idle and waiting:
                if sum(prompts[i] for i in company) + prompts[waiting[0]] > model.chunk_tokens:
                    break
                company.append(waiting.pop(0))
            world.process(run(worker, company))

    def source():
        for i, arrival in enumerate(arrivals):
            yield world.timeout(arrival - world.now)
            waiting.append(i)
            yield world.timeout(0)
            yield world.timeout(0)
            dispatch()

    world.process(source())
    world.run()
    return finishes


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("policy", ["first-come", "shortest-prompt"])
@pytest.mark.parametrize("shares", [True, False])
def test_the_replay_equals_an_event_simulation(workers, policy, shares):
    generator = np.random.default_rng(workers)
    prompts = generator.geometric(1 / 1500, 1500)
    arrivals = np.cumsum(generator.exponential(0.045 / workers, 1500))
    line = PromptLine.of(MODEL, prompts, np.zeros_like(prompts), shares)
    found = prefill_finishes(line, arrivals, workers, policy)
    expected = play(MODEL, prompts, arrivals, workers, policy, shares)
    assert np.allclose(found, expected, rtol=0, atol=1e-9)
    assert (found > arrivals).all()


def mean_waits(prompts, rate, workers, replications=40, count=20_000):
    """Return mean waits of independent runs; prompts are computed one at a time."""
    model = PrefillModel(name="x", compute=LinearCurve(slope=1.0), chunk_tokens=10_000_000)
    found = []
    for seed in range(replications):
        generator = np.random.default_rng(seed)
        drawn = prompts(generator, count)
        arrivals = np.cumsum(generator.exponential(1 / rate, count))
        line = PromptLine.of(model, drawn, np.zeros_like(drawn), shares_passes=False)
        waits = prefill_finishes(line, arrivals, workers) - arrivals - line.alone
        found.append(waits[count // 10 :].mean())
    return np.array(found)


def z_of(found, expected):
    return (found.mean() - expected) / (found.std(ddof=1) / math.sqrt(found.size))


def deterministic_wait(workers, offered):
    """Return the mean wait of M/D/N with unit service: Crommelin's chain at whole services."""
    size = 400
    arriving = np.array(
        [math.exp(-offered + k * math.log(offered) - math.lgamma(k + 1)) for k in range(size)]
    )
    law = np.zeros(size)
    law[0] = 1.0
    for _ in range(3000):
        left = np.concatenate([[law[: workers + 1].sum()], law[workers + 1 :]])
        law = np.convolve(left, arriving)[:size]
    queue = float(np.maximum(np.arange(size) - workers, 0) @ law)
    return queue / offered


@pytest.mark.parametrize(("workers", "load"), [(1, 0.7), (2, 0.7), (5, 0.8)])
def test_constant_prompts_wait_as_in_m_d_n(workers, load):
    found = mean_waits(lambda g, n: np.ones(n, np.int64), load * workers, workers)
    expected = deterministic_wait(workers, load * workers)
    if workers == 1:
        assert expected == pytest.approx(load / (2 * (1 - load)), rel=1e-6)
    assert abs(z_of(found, expected)) <= 5
    # Power: two percent more work is noticed, or the test says nothing.
    slower = deterministic_wait(workers, 1.02 * load * workers)
    assert abs(z_of(found, slower)) > 2


def test_drawn_prompts_wait_as_in_m_g_1():
    def drawn(generator, count):
        return np.where(generator.random(count) < 0.2, 30, 3)

    first, second = 0.2 * 30 + 0.8 * 3, 0.2 * 900 + 0.8 * 9
    rate = 0.6 / first
    found = mean_waits(drawn, rate, 1)
    assert abs(z_of(found, rate * second / (2 * (1 - 0.6)))) <= 5


def test_slots_are_given_in_the_order_of_readiness():
    generator = np.random.default_rng(3)
    ready, holds = generator.random(500) * 50, generator.random(500) * 3
    found = slot_starts(ready, holds, 7)
    busy = []
    for i in np.argsort(ready, kind="stable"):
        busy = sorted(busy)
        start = ready[i] if len(busy) < 7 else max(ready[i], busy.pop(0))
        assert found[i] == start
        busy.append(start + holds[i])
