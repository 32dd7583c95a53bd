"""Is the ratio that is found by playing few of them as good as the best of all?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from afdplan.errors import UnsupportedError
from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.planning.placement_gain import placement_gain
from afdplan.planning.simulated_ratio import simulate_ratio, simulated_scenario
from afdplan.simulation.paired import play_paired
from afdplan.simulation.scenario import Arrivals
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend

LAW = IndependentLengths(prompt="lognormal:mean=800,cv=1.0", decode="geometric:40")
BATCH, WORKERS = 24, 8


@pytest.fixture(scope="module")
def problem():
    load = BATCH * LAW.token_load().mean
    latency = LatencyModel.linear(
        attention=(250 / load, 50), ffn=(200 / (WORKERS * BATCH), 100), transfer=(0, 20)
    )
    return RatioProblem(law=LAW, latency=latency, batch_size=BATCH)


@pytest.fixture(scope="module")
def blind(problem):
    return recommend(problem)


@pytest.mark.parametrize("placement", ["longest-prompt", "longest-prompt-rank", "round-robin"])
def test_few_ratios_find_what_all_of_them_find(problem, blind, placement):
    shown = []
    found = simulate_ratio(
        problem,
        blind,
        lambda count: simulated_scenario(problem, count, placement=placement),
        progress=shown.append,
    )
    best = found.recommendation.optimal_attention_workers
    runs = {
        count: play_paired(simulated_scenario(problem, count, placement=placement, seed=9), 6)
        for count in range(4, 13)
    }

    def regret(count):
        """What A = `count` gives up against the best of all, on requests of another seed."""
        top = max(runs, key=lambda a: runs[a].throughput.value / (a + 1))
        return runs[top].against(runs[count], (count + 1) / (top + 1)).moved(1.0, -1.0)

    assert regret(best).low <= 0.005
    assert regret(4).low > 0.005  # and others would be noticed
    assert regret(12).low > 0.005
    assert len(found.objectives) < len(runs)
    assert shown == sorted(shown)
    assert shown[-1] == 1


def test_what_is_played_and_the_formulas_agree_on_the_gain(problem, blind):
    found = simulate_ratio(
        problem,
        blind,
        lambda count: simulated_scenario(problem, count, placement="longest-prompt"),
    ).gain
    told = placement_gain(problem, blind.optimal_attention_workers)
    assert told is not None
    for mine, other in (
        (told.given_back, found.given_back),
        (told.gain, found.gain),
        (told.barrier_cost, found.barrier_cost),
    ):
        assert other.low - 0.02 <= mine.value <= other.high + 0.02
    assert told.given_back.value > 0.02
    assert told.time_per_output_token < told.blind_time_per_output_token


def test_no_policy_gives_nothing_back(problem, blind):
    found = simulate_ratio(problem, blind, lambda count: simulated_scenario(problem, count)).gain
    assert found.given_back.value == pytest.approx(0.0, abs=1e-12)
    assert found.given_back.low <= 0 <= found.given_back.high


def test_what_only_the_simulator_knows_is_served(problem, blind):
    tight = int(0.5 * problem.microbatches * BATCH * LAW.token_load().mean)
    free, limited = (
        simulate_ratio(
            problem,
            blind,
            lambda count, limit=limit: simulated_scenario(
                problem, count, kv_capacity=limit, ffn_tokens="active"
            ),
        )
        for limit in (None, tight)
    )
    best = free.recommendation.best.objective
    assert limited.recommendation.best.objective < best


def test_arrivals_are_refused(problem):
    scenario = simulated_scenario(problem, 4, start="fresh")
    with pytest.raises(UnsupportedError, match="saturated"):
        play_paired(replace(scenario, arrivals=Arrivals(process="poisson", rate=0.1)), 2)


def test_where_there_is_no_barrier_nothing_is_told(problem):
    assert placement_gain(replace(problem, method="mean-field"), 5) is None
    assert placement_gain(problem, 5, "longest-prompt-rank") is None
