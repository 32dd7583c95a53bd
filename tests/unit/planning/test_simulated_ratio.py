"""Is the ratio that is found by playing few of them as good as the best of all?"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import pytest

from afdplan.errors import UnsupportedError
from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.planning.placement_gain import placement_gain
from afdplan.planning.ratio_grid import ratio_grid
from afdplan.planning.ratio_sensitivity import ratio_sensitivity
from afdplan.planning.simulated_ratio import (
    AROUND_SECONDS,
    recovered,
    simulate_ratio,
    simulated_scenario,
)
from afdplan.simulation import state as ix
from afdplan.simulation.paired import play_paired
from afdplan.simulation.scenario import Arrivals
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend

LAW = IndependentLengths(prompt="lognormal:mean=800,cv=1.0", decode="geometric:40")
BATCH, WORKERS = 24, 8
SHORT = IndependentLengths(prompt="geometric:80", decode="geometric:10")


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


@pytest.fixture(scope="module")
def simulated(problem, blind):
    """Return what plays the ratios of a placement, once for all tests, and its progress."""

    @cache
    def simulated(placement):
        shown = []
        play = partial(simulated_scenario, placement=placement)
        return simulate_ratio(problem, blind, play, progress=shown.append), shown

    return simulated


@pytest.mark.parametrize("placement", ["longest-prompt", "longest-prompt-rank", "round-robin"])
def test_few_ratios_find_what_all_of_them_find(problem, simulated, placement):
    found, shown = simulated(placement)
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


def test_what_is_played_and_the_formulas_agree_on_the_gain(problem, blind, simulated):
    found = simulated("longest-prompt")[0].gain
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


def test_known_outputs_are_told_beside_prompts(problem, simulated):
    found, _ = simulated("longest-prompt")
    known = found.gain.recovered
    share = found.gain.given_back.value / found.gain.barrier_cost.value
    assert known.prompts_only.value == pytest.approx(share, rel=1e-9)
    assert known.prompts_only.low < known.prompts_only.value < known.prompts_only.high
    alone = recovered(problem, found.gain.blind_attention_workers)
    assert alone.outputs_known.value == pytest.approx(known.outputs_known.value)
    assert recovered(replace(problem, execution="barrier-free"), 8) is None
    assert recovered(problem, 8, "round-robin") is None


@pytest.mark.parametrize(("mean", "steps"), [(40, 5), (4, 1)])
def test_foresight_ends_where_the_next_request_comes(mean, steps):
    law = IndependentLengths(prompt="400", decode=f"geometric:{mean}")
    latency = LatencyModel.linear(attention=(1, 0), ffn=(0, 100), transfer=(0, 0))
    only = RatioProblem(law=law, latency=latency, batch_size=8, microbatches=1)
    assert simulated_scenario(only, 3, placement="longest-request").foresight == steps


def test_inputs_and_batches_around_a_played_ratio_are_played(problem, blind):
    play = partial(simulated_scenario, placement="longest-prompt-rank")
    best = blind.optimal_attention_workers
    told = ratio_sensitivity(problem, best)
    played = ratio_sensitivity(replace(problem, max_attention_workers=12), best, play)
    assert {one.input for one in played} == {one.input for one in told}
    for one in played:
        less, more = next(other for other in told if other.input == one.input).objective_change
        assert one.objective_change[0] == pytest.approx(less, abs=0.05)
        assert one.objective_change[1] == pytest.approx(more, abs=0.05)
    single = replace(problem, batch_size=2, overlap="ideal", law=SHORT, max_attention_workers=4)
    cases = ratio_grid(single, play=play).cases
    for case in cases:
        assert set(case.objectives) == {point.attention_workers for point in case.points}
        top = case.objectives[case.best.attention_workers]
        assert top.low <= case.best.objective == top.value <= top.high


def test_no_policy_gives_nothing_back(problem, blind):
    found = simulate_ratio(problem, blind, simulated_scenario).gain
    assert found.given_back.value == pytest.approx(0.0, abs=1e-12)
    assert found.given_back.low <= 0 <= found.given_back.high


def test_what_only_the_simulator_knows_is_served(problem, blind):
    tight = int(0.5 * problem.microbatches * BATCH * LAW.token_load().mean)
    free, limited = (
        simulate_ratio(
            problem,
            blind,
            partial(simulated_scenario, kv_capacity=limit, ffn_tokens="active"),
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


def test_around_an_answer_runs_are_short_and_nothing_is_played_twice(problem, simulated):
    play = partial(simulated_scenario, placement="longest-prompt")
    answer, _ = simulated("longest-prompt")
    asked = []

    def noted(one, count):
        asked.append((one.batch_size, one.microbatches))
        return play(one, count)

    grid = ratio_grid(problem, play=noted, runs=answer.runs)
    assert (problem.batch_size, problem.microbatches) not in asked
    mine = [one for one in grid.cases if (one.batch_size, one.microbatches) == (BATCH, 2)]
    assert mine[0].best.attention_workers == answer.recommendation.optimal_attention_workers
    large = play(replace(problem, batch_size=512, microbatches=4), 12)
    short, long = play_paired(large, 3, AROUND_SECONDS), play_paired(large, 3)
    assert short.parts[0].integers[ix.STEP] < 0.6 * long.parts[0].integers[ix.STEP]
    assert short.throughput.value == pytest.approx(long.throughput.value, rel=0.005)
