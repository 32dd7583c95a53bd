"""Does the cost of the barrier leave out what experts and scatter cost equal loads as well?"""

from dataclasses import replace

import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.coupling import Coupling
from afdplan.model.latency import LatencyModel
from afdplan.model.variation import ExpertLoad, Scatter
from afdplan.theory.problem import RatioProblem
from afdplan.theory.solve import equal_loads, mean_field_of, solve_ratio

LAW = IndependentLengths(prompt="geometric:1000", decode="geometric:500")
TIMES = LatencyModel.linear(
    attention=(1e-9, 5e-5), ffn=(2e-7, 1e-4), transfer=(1e-8, 5e-6), layers=20, time_unit="s"
)
EXPERTS = ExpertLoad(imbalance=2.0)


def asked(latency, **options):
    problem = RatioProblem(law=LAW, latency=latency, batch_size=64, **options)
    return problem, problem.slot_loads()


def test_a_barrier_costs_nothing_where_uneven_experts_make_the_ffn_bind():
    """It cost 11.6 %, all of it the experts': equal loads were taken to have even experts."""
    latency = replace(TIMES, experts=ExpertLoad(imbalance=5.0))
    solved = solve_ratio(*asked(latency))
    assert solved.best == 1
    assert solved.bottleneck == "ffn"
    assert solved.barrier_cost < 0.01


@pytest.mark.parametrize("latency", [TIMES, replace(TIMES, coupling=Coupling(launch=1e-5))])
def test_the_mean_field_has_no_barrier_whatever_its_experts(latency):
    for experts in (None, EXPERTS):
        one = replace(latency, experts=experts)
        assert solve_ratio(*asked(one, method="mean-field")).barrier_cost == pytest.approx(
            0.0, abs=1e-9
        )


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("overlap", ["pipelined", "ideal"])
def test_equal_loads_are_worked_out_by_hand(m, overlap):
    """Busiest rank twice the mean: f = 1e-4 + 2e-7 * 2 * 64 A; no law is left in a or f."""
    latency = replace(TIMES, experts=EXPERTS)
    problem, slots = asked(latency, microbatches=m, overlap=overlap)
    load = LAW.token_load().mean
    a, c = 5e-5 + 64e-9 * load, 5e-6 + 64e-8
    for workers in (1, 4, 9):
        f = 1e-4 + 2e-7 * 2 * 64 * workers
        stage = max(a, f, (a + f + 2 * c) / m) if overlap == "pipelined" else max(a, f, c)
        counted = m if overlap == "pipelined" else 1
        expected = workers * 64 / (20 * stage) / (workers + 1)
        assert problem.counted_microbatches == counted
        assert equal_loads(problem, slots)(workers) == pytest.approx(expected, rel=1e-6)


def test_without_effects_equal_loads_are_the_mean_field_to_the_last_bit():
    problem, slots = asked(TIMES)
    field = mean_field_of(problem, slots)
    for workers in (1, 4, 9):
        assert equal_loads(problem, slots)(workers) == field.objective(workers, 1.0)
    # As scatter goes to nothing it is the same, by the other way.
    still = replace(problem, latency=replace(TIMES, scatter=Scatter(ffn=1e-7, attention=1e-7)))
    assert equal_loads(still, slots)(4) == pytest.approx(field.objective(4, 1.0), rel=1e-6)
