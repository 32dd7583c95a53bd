"""Steps of several kinds of layers, and steps that end empty, against all paths and a schedule."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers
from afdplan.theory.layer_order import (
    drained_step,
    order_scores,
    played_step,
    slow_workers,
    worker_rounds,
)
from afdplan.theory.problem import RatioProblem
from tests.unit.theory.schedule import played_steps


def test_played_step_is_that_of_a_schedule_that_shares_no_code():
    generator = np.random.default_rng(4)
    for case in range(60):
        kinds, m, workers = (int(generator.integers(1, n)) for n in (4, 5, 4))
        order = tuple(generator.permutation(np.arange(kinds).repeat(generator.integers(1, 4))))
        attention = generator.uniform(1, 9, (kinds, m, workers, 1, 1))
        f, out, back = generator.uniform(0, 5, 3)
        stages = (np.array([x]) for x in (f, out, back))
        drained = bool(case % 2)
        found = played_step(attention, order, *stages, is_drained=drained)[0, 0]
        step = played_steps(attention[..., 0, 0], order, f, out, back, is_drained=drained)
        assert found == pytest.approx(step, rel=1e-12 if drained else 0.01)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_drained_step_of_constant_times_is_that_of_the_best_of_all_paths(m):
    for a, f, out, back, layers in product((1.0, 3.0, 7.0), (2.0, 5.0), (0.0, 4.0), (1.0,), (2, 5)):
        one = np.full((1, 1), a)
        found = drained_step(
            m * one,
            one,
            one,
            layers=layers,
            microbatches=m,
            busiest=np.array([max(f, out, back)]),
            trip=np.array([f + out + back]),
        )
        times = np.full((1, m, 1), a)
        step = played_steps(times, (0,) * layers, f, out, back, is_drained=True)
        assert found[0, 0] == pytest.approx(step, rel=1e-12)


@pytest.mark.parametrize("m", range(1, 9))
def test_scores_are_the_means_of_sorted_normals(m):
    drawn = np.sort(np.random.default_rng(m).standard_normal((200_000, m)), axis=1)[:, ::-1]
    np.testing.assert_allclose(order_scores(m), drawn.mean(axis=0), atol=0.01)


def test_slow_workers_are_slowest_in_their_own_kind_and_alike_if_there_is_one():
    slowest = [np.full((1, 2), 12.0), np.full((1, 2), 9.0)]
    correlations = np.array([[1.0, 0.5], [0.5, 1.0]])
    times = slow_workers(
        slowest,
        [5.0, 4.0],
        [0.5, 0.2],
        correlations,
        attention_workers=np.array([8.0, 1.0]),
        microbatches=2,
    )
    sums = times.sum(axis=1)[:, :, 0]
    np.testing.assert_allclose(sums[:, :, 0], [[12.0, 11.0], [8.5, 9.0]])
    np.testing.assert_allclose(sums[:, :, 1], [[12.0, 12.0], [9.0, 9.0]])
    rounds = worker_rounds(times, np.array([10.0, 10.0]), np.array([1.0, 6.5]))
    np.testing.assert_allclose(rounds[:, 0], [[12.0, 12.7821], [10.0, 11.11284]], atol=1e-4)


def test_correlation_of_a_kind_with_itself_is_one_and_of_a_window_less():
    curve = LatencyModel.linear(attention=(1.0, 1.0), ffn=(1.0, 1.0)).attention[0].curve
    kinds = (
        AttentionLayers(curve=curve, layers=1, context_window=100),
        AttentionLayers(curve=curve, layers=1),
    )
    latency = replace(LatencyModel.linear(attention=(1.0, 1.0), ffn=(1.0, 1.0)), attention=kinds)
    law = IndependentLengths(prompt="geometric:100", decode="geometric:50")
    found = RatioProblem(law=law, latency=latency, batch_size=4).load_correlations()
    assert found.diagonal() == pytest.approx(1.0)
    generator = np.random.default_rng(2)
    drawn = law.sample_stationary(generator, 200_000)
    loads = drawn.prompt_tokens + drawn.age
    seen = np.corrcoef(np.minimum(loads, 100), loads)[0, 1]
    assert found[0, 1] == found[1, 0] == pytest.approx(seen, abs=0.01)


@pytest.mark.parametrize("layers", [2, 3, 5, 30])
def test_the_long_run_is_what_whole_steps_grow_by_after_eight_layers(layers):
    """Workers whose slowest is another one in each layer: growth of 24 layers and whole steps."""
    rng = np.random.default_rng(layers)
    attention = rng.uniform(1, 9, (layers, 2, 3, 1, 1))
    order, stages = tuple(range(layers)), (np.array([x]) for x in (2.0, 0.5, 0.25))
    found = played_step(attention, order, *stages, is_drained=False)[0, 0]
    warm, counted = -(-8 // layers), -(-24 // layers)
    ends = []
    worker, out, back, ffn = np.zeros(3), 0.0, 0.0, 0.0
    returned = [0.0, 0.0]
    for _ in range(warm + counted):
        for kind in order:
            for u in range(2):
                worker = np.maximum(worker, returned[u]) + attention[kind, u, :, 0, 0]
                out = max(out + 0.5, worker.max() + 0.5)
                ffn = max(ffn, out) + 2.0
                returned[u] = back = max(back + 0.25, ffn + 0.25)
        ends.append(back)
    grown = (ends[-1] - ends[warm - 1]) / counted
    assert found == pytest.approx(grown, rel=1e-12)


def test_many_designs_are_played_in_parts_as_alone():
    rng = np.random.default_rng(1)
    attention = rng.uniform(1, 9, (2, 2, 1, 3, 3000))
    stages = tuple(rng.uniform(0, 3, 3000) for _ in range(3))
    whole = played_step(attention, (0, 1, 1), *stages, is_drained=True)
    assert whole.shape == (3, 3000)
    for at in (0, 2730, 2731, 2999):
        one = (x[at : at + 1] for x in stages)
        alone = played_step(attention[..., at : at + 1], (0, 1, 1), *one, is_drained=True)
        assert alone[:, 0] == pytest.approx(whole[:, at])
