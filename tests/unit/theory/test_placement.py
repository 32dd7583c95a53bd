"""Are placed loads as unequal as the law says, and steps as long?"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from afdplan.errors import UnsupportedError
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers
from afdplan.model.trace import Trace
from afdplan.theory.cycle import CycleModel
from afdplan.theory.placement import STATED_ERROR, BalancedLoads, PlacedModel, cycle_model
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend_ratio

LAW = IndependentLengths(prompt="lognormal:mean=1000,cv=1.2", decode="geometric:150")


def problem_of(law=LAW, workers=8, batch=64, microbatches=2, layers=1, **changes):
    """Return a bundle in which attention at its mean load takes as long as the FFN."""
    load = batch * law.token_load().mean
    latency = LatencyModel.linear(
        attention=(250 / load, 50),
        ffn=(200 / (workers * batch), 100),
        transfer=(0, 20),
        layers=layers,
    )
    return RatioProblem(
        law=law,
        latency=latency,
        batch_size=batch,
        microbatches=microbatches,
        **{"placement": "longest-prompt"} | changes,
    )


def step(problem, workers, model=cycle_model):
    return float(model(problem, problem.slot_loads()).evaluate(np.array([float(workers)])).mean[0])


def played(problem, workers, placement, replications=3):
    """Return the mean step of bundles that the simulator plays; nothing of it is shared."""
    from afdplan.simulation.paired import play_paired
    from afdplan.simulation.scenario import Scenario

    scenario = Scenario(
        bundle=problem.bundle(workers),
        latency=problem.latency,
        lengths=problem.law,
        placement=placement,
    )
    return play_paired(scenario, replications).step_time


def test_shares_keep_the_rules_of_their_law():
    loads, freed = BalancedLoads(LAW), 1 / 150
    shares = loads.shares(np.array([1.0, 2.0, 8.0, 64.0, 1000.0, 1e5]), 64, freed)
    assert shares[0] == 1  # one worker has nobody to be unequal to
    assert (np.diff(shares) <= 1e-12).all()
    assert (shares > 0).all()
    twice = IndependentLengths(prompt="fixed:700", decode="geometric:150")
    assert BalancedLoads(twice).shares(np.array([16.0]), 64, freed) == pytest.approx([1.0])
    # Few replacements leave no choice; scaling every length changes nothing.
    assert loads.shares(np.array([8.0]), 4, 1e-6)[0] > 0.999
    rng = np.random.default_rng(1)
    prompts, outputs = rng.integers(1, 900, 400), rng.integers(1, 300, 400)
    small = Trace(prompt_tokens=prompts, decode_tokens=outputs)
    large = Trace(prompt_tokens=7 * prompts, decode_tokens=7 * outputs)
    a, b = (BalancedLoads(EmpiricalLengths(one)) for one in (small, large))
    eight = np.array([8.0])
    assert a.shares(eight, 32, 0.01) == pytest.approx(b.shares(eight, 32, 0.01), rel=5e-3)


@pytest.mark.parametrize(
    ("workers", "batch", "microbatches", "layers"),
    [(8, 64, 2, 1), (8, 32, 3, 10), (16, 64, 2, 1), (3, 16, 1, 1)],
)
def test_steps_are_those_that_are_played(workers, batch, microbatches, layers):
    problem = problem_of(LAW, workers, batch, microbatches, layers)
    seen = played(problem, workers, "longest-prompt")
    told = step(problem, workers)
    reach = STATED_ERROR * seen.value
    assert seen.low - reach <= told <= seen.high + reach


def test_the_law_of_blind_loads_would_be_noticed():
    problem = problem_of(LAW, 16, 64, 2)
    seen = played(problem, 16, "longest-prompt")
    assert step(problem, 16, CycleModel) > seen.high + STATED_ERROR * seen.value


def test_policies_that_compare_no_prompt_have_the_blind_law_and_are_played_alike():
    blind = step(problem_of(placement="round-robin"), 8)
    for placement in ("fewest-requests", "fewest-tokens"):
        assert step(problem_of(placement=placement), 8) == blind
        seen = played(problem_of(), 8, placement, replications=4)
        assert seen.low - 0.01 * seen.value <= blind <= seen.high + 0.01 * seen.value


def test_what_has_no_barrier_needs_no_placement():
    for changes in ({"method": "mean-field"}, {"microbatches": 1, "overlap": "ideal"}):
        problem = problem_of(**changes)
        model = cycle_model(problem, problem.slot_loads())
        assert isinstance(model, PlacedModel) == (problem.method != "mean-field")
    alone = problem_of(workers=1)
    blind = replace(alone, placement="round-robin")
    assert step(alone, 1) == pytest.approx(step(blind, 1), rel=2e-3)


def test_quantiles_follow_the_placed_law():
    problem = problem_of()
    steps = cycle_model(problem, problem.slot_loads()).evaluate(np.array([8.0]), (0.5, 0.99))
    blind = CycleModel(problem, problem.slot_loads()).evaluate(np.array([8.0]), (0.5, 0.99))
    assert steps.quantiles[0, 0] < steps.quantiles[0, 1] < blind.quantiles[0, 1]


def test_loads_that_the_theory_does_not_know_are_refused():
    with pytest.raises(UnsupportedError, match="longest-prompt-rank balances ranks"):
        problem_of(placement="longest-prompt-rank")
    problem_of(placement="longest-prompt-rank", microbatches=1)  # a rank is its microbatch
    problem = problem_of(placement="round-robin")
    windowed = tuple(
        AttentionLayers(curve=kind.curve, context_window=500) for kind in problem.latency.attention
    )
    with pytest.raises(UnsupportedError, match="context window"):
        replace(
            problem,
            latency=replace(problem.latency, attention=windowed),
            placement="longest-prompt",
        )


def test_balanced_loads_move_the_optimum_towards_the_mean_field():
    problem = problem_of(workers=16, batch=32)
    answers = [
        recommend_ratio(LAW, problem.latency, batch_size=32, placement=placement)
        for placement in ("round-robin", "longest-prompt")
    ]
    blind, placed = answers
    assert placed.best.objective > blind.best.objective
    away = [abs(one.optimal_ratio - one.mean_field_ratio) for one in answers]
    assert away[1] < away[0]
    assert 0 <= placed.barrier_cost < blind.barrier_cost


@pytest.mark.parametrize("together", [1, 2, 3, 4, 8, 24])
def test_the_longest_of_those_that_enter_together_goes_to_the_lightest(together):
    """Sorted prompts against sorted loads: the mean of their products, drawn."""
    rng = np.random.default_rng(together)
    law = IndependentLengths(prompt="geometric:1000", decode="geometric:150")
    prompts = np.sort(rng.geometric(1 / 1000, (40_000, together)), axis=1).mean(axis=0) - 1000
    normals = np.sort(rng.standard_normal((40_000, together)), axis=1).mean(axis=0)
    found = BalancedLoads(law)
    known = np.interp(1 / together, found._inverse_counts, found._covariances)
    assert known == pytest.approx(float(np.mean(prompts * normals)), abs=12.0)
    # All of them: the covariance of a prompt and a normal of the same rank.
    assert found._covariances[0] == pytest.approx(1000 * 0.9032, rel=0.01)


def test_how_many_others_enter_together_is_drawn_by_poissons_law():
    loads = BalancedLoads(LAW)
    known = np.interp(1 / np.arange(1, 400), loads._inverse_counts, loads._covariances)
    counts = np.arange(399)
    for others in (0.01, 0.7, 5.0, 40.0):
        logs = counts * math.log(others) - others
        chances = np.exp(logs - np.array([math.lgamma(k + 1) for k in counts]))
        assert loads.covariances(np.array([others])) == pytest.approx(
            [float(chances @ known)], rel=1e-3
        )
    assert loads.covariances(np.array([300.0])) == pytest.approx([known[300]], rel=1e-3)


@pytest.mark.parametrize("freed", [1e-3, 1 / 150, 0.2])
@pytest.mark.parametrize("batch", [8, 256])
def test_shares_by_hand(freed, batch):
    """What forgets, s J / 2 V, against what pulls towards the mean, and what chance puts back."""
    loads, workers = BalancedLoads(LAW), np.array([2.0, 16.0])
    variance, jumps = loads.variance, loads.square_jump
    entering = batch * freed
    pull = entering * loads.covariances(workers * entering) / (freed * jumps / 2 / variance)
    chance = entering * max(jumps - loads.prompt_variance, 0)
    # Of x with x^2 + pull x = B V + chance.
    x = (-pull + np.sqrt(pull**2 + 4 * (batch * variance + chance))) / 2
    assert x**2 + pull * x == pytest.approx(np.full(2, batch * variance + chance))
    left = np.maximum(x**2 - chance, min(0.35**2 * loads.prompt_variance, batch * variance))
    share = np.sqrt(np.maximum(left / batch / variance, 1e-6))
    assert loads.shares(workers, batch, freed) == pytest.approx(share)
