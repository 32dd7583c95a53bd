"""What a step of several kinds of layers saves, against all paths and against a schedule."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import AttentionLayers, LatencyModel
from afdplan.theory.cycle import CycleModel, stage_times
from afdplan.theory.layer_kinds import kinds_gain
from afdplan.theory.problem import RatioProblem
from tests.unit.theory.schedule import mean_rounds


@pytest.mark.parametrize("is_cyclic", [True, False])
def test_gain_is_that_of_the_best_of_all_paths(is_cyclic):
    generator = np.random.default_rng(4)
    for _ in range(200):
        kinds = int(generator.integers(2, 5))
        layers = generator.integers(1, 5, kinds).tolist()
        one = generator.uniform(5, 15, kinds)
        slowest = one + generator.uniform(0, 3, kinds)
        floor, trip, m = 10.0, float(generator.uniform(2, 9)), 4
        busiest = np.maximum(slowest, floor)
        alone = sum(n * (r - floor) for n, r in zip(layers, busiest, strict=True))
        half = max(0.75 * floor - trip, 0.0) / 2
        pairs = [(k, (k + 1) % kinds) for k in range(kinds if is_cyclic else kinds - 1)]
        paths = [
            sum(n * (r - floor) * on for n, r, on in zip(layers, one, path, strict=True))
            - half * sum(path[a] != path[b] for a, b in pairs)
            for path in product((0, 1), repeat=kinds)
        ]
        paths.append(
            alone - sum(max(0.75 * min(busiest[a], busiest[b]) - trip, 0.0) for a, b in pairs)
        )
        found = kinds_gain(
            [np.full((1, 1), x) for x in slowest],
            [np.full((1, 1), x) for x in one],
            layers,
            floor=np.array([floor]),
            trip=np.array([trip]),
            microbatches=m,
            is_cyclic=is_cyclic,
        )
        assert float(found[0, 0]) == pytest.approx(alone - max(paths), abs=1e-9)


def test_changes_that_cost_nothing_save_nothing():
    rounds = [np.full((3, 2), 12.0), np.full((3, 2), 4.0)]
    found = kinds_gain(
        rounds, rounds, [1, 2], floor=np.full(2, 10.0), trip=np.full(2, 8.0), microbatches=2
    )
    assert (found == 0).all()


@pytest.mark.parametrize("f", [100.0, 60.0], ids=["balanced", "attention-bound"])
@pytest.mark.parametrize("whole", [3, 5])
def test_mean_step_is_that_of_a_schedule_of_two_kinds_of_layers(f, whole):
    """Geometric requests in slots, played stage by stage, layer by layer."""
    generator = np.random.default_rng(9)
    workers, batch, m, layers, window = 8, 8, 4, 10, 300
    prompt, decode, transfer = 400, 60, 5.0
    slope, intercept = 70.0 / (batch * (prompt + decode - 1)), 30.0
    shape = (workers, m, batch)
    prompts = generator.geometric(1 / prompt, shape)
    ages = generator.geometric(1 / decode, shape) - 1

    def times(k):
        nonlocal prompts, ages
        if k % layers == 0:
            ended = generator.random(shape) < 1 / decode
            prompts = np.where(ended, generator.geometric(1 / prompt, shape), prompts)
            ages = np.where(ended, 0, ages + 1)
        loads = prompts + ages
        seen = loads if k % layers < whole else np.minimum(loads, window)
        return intercept + slope * seen.sum(axis=2)

    seen, frozen = mean_rounds(times, workers, m, f, transfer, transfer, 20_000)
    curve = LatencyModel.linear(attention=(slope, intercept), ffn=(0.0, f)).attention[0].curve
    latency = replace(
        LatencyModel.linear(attention=(slope, intercept), ffn=(0.0, f), transfer=(0.0, transfer)),
        attention=(
            AttentionLayers(curve=curve, layers=whole),
            AttentionLayers(curve=curve, layers=layers - whole, context_window=window),
        ),
    )
    problem = RatioProblem(
        law=IndependentLengths(prompt=f"geometric:{prompt}", decode=f"geometric:{decode}"),
        latency=latency,
        batch_size=batch,
        microbatches=m,
    )
    model = CycleModel(problem, problem.slot_loads())
    one = np.array([float(workers)])
    stages = stage_times(problem, one)
    apart = sum(
        kind.layers * float(cycle.round(stages, ())[0][0])
        for kind, cycle in zip(latency.attention, model._cycles, strict=True)
    )
    # The same requests, each round for itself: what is left is what a step of both kinds saves.
    gain = (frozen - seen) / seen
    assert gain > 0.007  # power
    assert (apart - float(model.evaluate(one).mean[0])) / layers / seen == pytest.approx(
        gain, abs=0.004
    )


def test_correlation_of_a_kind_with_itself_is_one_and_of_a_window_less():
    curve = LatencyModel.linear(attention=(1.0, 1.0), ffn=(1.0, 1.0)).attention[0].curve
    kinds = (
        AttentionLayers(curve=curve, layers=1, context_window=100),
        AttentionLayers(curve=curve, layers=1),
    )
    latency = replace(LatencyModel.linear(attention=(1.0, 1.0), ffn=(1.0, 1.0)), attention=kinds)
    law = IndependentLengths(prompt="geometric:100", decode="geometric:50")
    windowed, whole = RatioProblem(law=law, latency=latency, batch_size=4).load_correlations()
    assert whole == pytest.approx(1.0)
    generator = np.random.default_rng(2)
    found = law.sample_stationary(generator, 200_000)
    loads = found.prompt_tokens + found.age
    seen = np.corrcoef(np.minimum(loads, 100), loads)[0, 1]
    assert windowed == pytest.approx(seen, abs=0.01)
