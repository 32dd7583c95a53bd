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
from afdplan.model.variation import Scatter
from afdplan.theory.cycle import CycleModel, stage_times
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


def test_of_many_that_enter_together_their_mean_number_counts():
    """From 60 others on; at fewer all numbers by their chances."""
    loads = BalancedLoads(LAW)
    for others in (60.0, 61.0, 90.0):
        known = np.interp(1 / (others + 1), loads._inverse_counts, loads._covariances)
        assert loads.covariances(np.array([others])) == pytest.approx([known], rel=1e-12)
    assert loads.covariances(np.array([1e-12])) == pytest.approx([0.0], abs=1e-9)
    # A prompt that enters alone has no choice.
    assert loads._covariances[-1] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("prompt", ["fixed:4", "uniform:3..5"])
def test_loads_that_never_vary_are_as_placed(prompt):
    law = IndependentLengths(prompt=prompt, decode="fixed:1")
    loads = BalancedLoads(law)
    found = loads.shares(np.array([1.0, 8.0]), 16, 1.0)
    if prompt == "fixed:4":
        assert (loads.variance, found.tolist()) == (0.0, [1.0, 1.0])
    else:
        assert (loads.variance, found[0]) == (pytest.approx(2 / 3), 1.0)
        assert found[1] < 0.9
    one = BalancedLoads(EmpiricalLengths(Trace(prompt_tokens=[1, 3], decode_tokens=[1, 1])))
    assert one.variance == 1.0
    assert one.shares(np.array([8.0]), 16, 1.0)[0] < 0.9


def test_a_share_below_a_thousandth_counts_as_equal_loads():
    """Prompts that hardly vary leave nothing over beside outputs, of millions of slots."""
    loads, workers = BalancedLoads(LAW), np.array([2.0])
    loads.prompt_variance, loads.square_jump, loads.variance = 1e-9, 1.0, 1.0
    assert loads.shares(workers, 64, 0.05) == pytest.approx([1e-3])
    loads.prompt_variance = 64.0  # 0.35 of its deviation, in the share of 64 slots
    assert loads.shares(workers, 64, 0.05) == pytest.approx([0.35])
    loads.prompt_variance = 640.0  # and no more than blind loads
    assert loads.shares(workers, 64, 0.05) == pytest.approx([1.0])


def placed(**changes):
    problem = problem_of(IndependentLengths(prompt="geometric:300", decode="geometric:40"),
                         **{"batch": 16, "layers": 4} | changes)  # fmt: skip
    return problem, cycle_model(problem, problem.slot_loads())


def test_a_step_lies_between_those_of_two_spreads():
    """Shares are powers of 3/4; what all workers have in common scatters the FFN."""
    problem, model = placed()
    workers = np.array([1.0, 3.0, 9.0])
    shares = model._shares(workers)
    freed = 1 / 40
    assert shares == pytest.approx(BalancedLoads(problem.law).shares(workers, 16, freed))
    (kind,), (slot,) = problem.latency.attention, problem.slot_loads()
    slope = kind.curve.slope
    stages = stage_times(problem, workers)
    deviation = slope * math.sqrt(16) * slot.moments.std  # of a microbatch
    common = deviation / np.sqrt(2 * workers) * np.sqrt(1 - shares**2)
    stages = replace(stages, fresh=np.zeros(3), between=common)
    found = model.evaluate(workers, (0.5, 0.9))
    for at, share in enumerate(shares):
        position = math.log(share) / math.log(0.75)
        level = math.floor(position)
        parts = []
        for one in (level, level + 1):
            alone = CycleModel(problem, (slot.shrunk(0.75**one),))
            kept = {
                name: None if value is None else value[at : at + 1]
                for name, value in ((n, getattr(stages, n)) for n in stages.__dataclass_fields__)
            }
            parts.append(alone.evaluate_stages(replace(stages, **kept), (0.5, 0.9)))
        weights = (level + 1 - position, position - level)
        for name in ("mean", "quantiles", "cycle", "ffn_idle_fraction"):
            wanted = sum(w * getattr(p, name)[0] for w, p in zip(weights, parts, strict=True))
            assert getattr(found, name)[at] == pytest.approx(wanted, rel=1e-6)


def test_an_ffn_that_scatters_keeps_its_own():
    problem, _ = placed(layers=4)
    wide = replace(problem.latency, scatter=Scatter(ffn=0.2))
    problem = replace(problem, latency=wide)
    model = cycle_model(problem, problem.slot_loads())
    seen = []

    class Watched:
        def __init__(self, model):
            self.model = model

        def evaluate_stages(self, stages, probabilities):
            seen.append(stages)
            return self.model.evaluate_stages(stages, probabilities)

    own = model._model
    model._model = lambda level: Watched(own(level))
    workers = np.array([8.0])
    model.evaluate(workers)
    stages = stage_times(problem, workers)
    assert all(one.fresh.tolist() == stages.fresh.tolist() for one in seen)
    assert stages.fresh[0] == pytest.approx(0.2 * stages.ffn[0])
    assert all(one.between[0] > 0 for one in seen)
    # Outputs of several tokens a step leave sooner, at most one step each.
    quick = replace(problem, latency=replace(wide, tokens_per_step=100.0))
    shares = cycle_model(quick, quick.slot_loads())._shares(workers)
    assert shares == pytest.approx(BalancedLoads(problem.law).shares(workers, 16, 1.0))


def test_resources_are_those_of_the_nearest_spread():
    problem, model = placed()
    (slot,) = problem.slot_loads()
    for workers in (2.0, 9.0):
        share = float(model._shares(np.array([workers]))[0])
        level = round(math.log(share) / math.log(0.75))
        alone = CycleModel(problem, (slot.shrunk(0.75**level),)).resources(workers)
        assert model.resources(workers) == pytest.approx(alone)
    later = model.later([3.0])
    assert later.resources(9.0)["attention"] == pytest.approx(model.resources(9.0)["attention"] + 3)
    assert later.evaluate(np.array([9.0])).mean[0] > model.evaluate(np.array([9.0])).mean[0]
