"""Is a step within 1 % of its schedule for layers of 1 to 4 kinds in any order, drained or not?

AFDPLAN_LAYER_ORDERS=500 tries as many (a minute and a half).
"""

import os
from dataclasses import replace

import numpy as np

from afdplan.lengths.law import IndependentLengths
from afdplan.model.curve import LinearCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers, Transfer
from afdplan.theory.cycle import CycleModel, stage_times
from afdplan.theory.problem import RatioProblem
from tests.unit.theory.schedule import played_steps

ORDERS = int(os.environ.get("AFDPLAN_LAYER_ORDERS", "50"))


def line(slope, intercept):
    return LinearCurve(slope=slope, intercept=intercept)


def random_problem(rng):
    kinds, m = int(rng.integers(1, 5)), int(rng.integers(1, 5))
    layers = int(rng.choice([2, 3, 5, 8, 12]) if rng.random() < 0.4 else rng.integers(2, 97))
    layers = max(layers, kinds)
    pattern = rng.choice(["alternating", "blocks", "list"])
    order = np.concatenate([np.arange(kinds), rng.integers(0, kinds, layers - kinds)])
    rng.shuffle(order)
    counts = np.bincount(order, minlength=kinds).tolist()
    named = tuple((order + 1).tolist()) if pattern == "list" else str(pattern)
    windows = [None, *rng.choice([64, 128, 512, 1024], kinds - 1).tolist()]
    attention = tuple(
        AttentionLayers(
            curve=line(rng.uniform(0.3e-3, 1.5e-3), rng.uniform(0, 3)),
            layers=count,
            context_window=window,
        )
        for count, window in zip(counts, windows, strict=True)
    )
    law = IndependentLengths(
        prompt=rng.choice(["geometric:300", "lognormal:mean=500,cv=1", "100"]),
        decode=rng.choice(["geometric:200", "uniform:50..400"]),
    )
    batch_size = int(rng.choice([4, 8, 16, 32, 64]))
    free = Transfer(curve=line(0.0, 0.0))
    latency = LatencyModel(
        name="random",
        time_unit="abstract",
        attention=attention,
        layer_order=named,
        ffn=line(0.0, 1.0),
        send=free,
        receive=free,
        drain=bool(rng.random() < 0.5),
    )
    problem = RatioProblem(law=law, latency=latency, batch_size=batch_size, microbatches=m)
    loads = problem.mean_token_loads(problem.slot_loads())
    mean = sum(
        kind.layers * kind.time(batch_size * load, batch_size)
        for kind, load in zip(attention, loads, strict=True)
    )
    # Both sides of the balance, links from free to slow.
    f = mean / layers * rng.uniform(0.4, 1.6)
    c = mean / layers * float(rng.choice([0, 0.05, 0.2, 0.6]))
    latency = replace(
        latency,
        ffn=line(0.0, f),
        send=Transfer(curve=line(0.0, 0.6 * c)),
        receive=Transfer(curve=line(0.0, 0.4 * c)),
    )
    return replace(problem, latency=latency), int(rng.choice([1, 2, 4, 8, 16, 32]))


def drawn_times(problem, workers, rng, draws):
    """Attention times of slots that hold requests as an observer finds them."""
    slot = problem.law.slot_load()
    shape = (draws, workers, problem.microbatches, problem.batch_size)
    loads = rng.choice(slot.support, size=shape, p=slot.probabilities)
    kinds = [
        kind.time(np.minimum(loads, kind.context_window or np.inf).sum(axis=-1), problem.batch_size)
        for kind in problem.latency.attention
    ]
    return np.stack(kinds, axis=1).swapaxes(2, 3)


def test_steps_are_within_one_percent_of_their_schedule():
    errors = []
    for seed in range(ORDERS):
        rng = np.random.default_rng([7, seed])
        problem, workers = random_problem(rng)
        draws = int(np.clip(60_000 / (workers * problem.batch_size), 200, 2000))
        times = drawn_times(problem, workers, rng, draws)
        count = np.array([float(workers)])
        stages = stage_times(problem, count)
        f, out, back = (float(x[0]) for x in (stages.ffn, stages.out, stages.back))
        steps = played_steps(
            times,
            problem.latency.kind_of_layer,
            f,
            out,
            back,
            is_drained=problem.latency.drain,
            steps=8,
        )
        played, noise = steps.mean(), steps.std() / np.sqrt(draws)
        got = float(CycleModel(problem, problem.slot_loads()).evaluate(count).mean[0])
        assert abs(got - played) <= 0.01 * played + 4 * noise, (seed, got / played - 1)
        errors.append(abs(got / played - 1))
    assert np.median(errors) < 0.002
