"""How limits stand where they are hardest to keep, and what stands beside a ratio: by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.model.uncertainty import Uncertainty
from afdplan.planning.limits import Limits
from afdplan.planning.placement_gain import placement_gain
from afdplan.planning.ratio_around import ratio_around
from afdplan.planning.standing import standings
from afdplan.planning.theory_curve import step_time_by_draws, theory_curve
from afdplan.simulation.scenario import Arrivals, Scenario
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend
from afdplan.theory.solve import equal_loads

LAW = IndependentLengths(prompt="geometric:500", decode="geometric:100")
LATENCY = LatencyModel.linear(
    attention=(1e-6, 1e-3), ffn=(1e-4, 2e-3), transfer=(2e-6, 5e-4), layers=10, time_unit="s",
    tokens_per_step=1.5,
)  # fmt: skip


def part(name, time, chance, rate, arrive=None):
    return SimpleNamespace(
        part=name,
        time_per_output_token=time,
        memory_overflow_probability=chance,
        requests_per_second=rate,
        arrival_rate=arrive,
    )


def plan(basis="all requests", broken=(), parts=(), ends=(), cache=1, **limits):
    asked = {"devices": 20, "time_per_output_token": 0.2, "requests_per_second": 4.0}
    chosen = SimpleNamespace(
        token_time=lambda statistic: 0.1, memory_overflow_probability=2e-4,
        requests_per_second=5.0, devices=16,
    )  # fmt: skip
    return SimpleNamespace(
        limits=Limits(**(asked | limits)), recommended=chosen, basis=basis, cache=cache,
        breaches=[SimpleNamespace(limit=one) for one in broken], drift=parts, interval=ends,
    )  # fmt: skip


def told(*args, **options):
    return {one.limit: one for one in standings(plan(*args, **options))}


def test_limits_of_all_requests():
    found = told()
    assert list(found) == ["time per output token", "KV memory", "rate", "devices"]
    for limit, value, allowed, left in (
        ("time per output token", 0.1, 0.2, 0.5),
        ("KV memory", 2e-4, 1e-3, 0.8),
        ("rate", 5.0, 4.0, 0.25),
        ("devices", 16, 20, 0.2),
    ):
        one = found[limit]
        assert (one.value, one.allowed) == (value, allowed)
        assert one.left == pytest.approx(left)
        assert one.is_kept
        assert one.part == ("" if limit == "devices" else "all requests")
    assert told(time_per_output_token=None, requests_per_second=None, cache=None).keys() == {
        "devices"
    }
    assert not told(devices=15)["devices"].is_kept
    assert told(devices=16)["devices"].is_kept
    assert "devices" not in told(devices=None)
    assert told(overflow_probability=0.0)["KV memory"].left == -1.0


def test_limits_where_they_are_hardest_to_keep():
    parts = (part("noon", 0.15, 3e-4, 6.0, 5.0), part("night", 0.05, 1e-5, 9.0, 1.0))
    ends = (part("high end", 0.12, 6e-4, 4.5),)
    found = told(parts=parts, ends=ends, broken=("rate",))
    assert {limit: one.part for limit, one in found.items()} == {
        "time per output token": "noon", "KV memory": "high end", "rate": "high end", "devices": "",
    }  # fmt: skip
    assert (found["rate"].value, found["rate"].allowed) == (4.5, 4.0)
    assert found["rate"].left == pytest.approx(0.125)
    assert [one.is_kept for one in found.values()] == [True, True, False, True]
    # Where a part was planned for, the rate of all requests is none of its own.
    alone = told(parts=parts[:1], basis="noon")["rate"]
    assert (alone.value, alone.allowed, alone.part) == (6.0, 5.0, "noon")
    slow = told(broken=("time per output token", "KV memory"))
    assert [one.is_kept for one in slow.values()] == [False, False, True, True]


@pytest.mark.parametrize("workers", [6, 12])
def test_what_balanced_loads_bring_by_both_answers(workers):
    problem = RatioProblem(
        law=LAW, latency=LATENCY, batch_size=16, ffn_workers=2, max_attention_workers=60
    )
    placed = replace(problem, placement="longest-prompt")
    blind, better = (recommend(one) for one in (problem, placed))
    found = placement_gain(problem, workers)

    def at(answer, count):
        return next(p for p in answer.curve if p.attention_workers == count)

    free = equal_loads(problem, problem.slot_loads())(workers)
    base, stay = at(blind, workers).objective, at(better, workers).objective
    top = max((p for p in better.curve), key=lambda p: p.objective)
    assert found.blind_attention_workers == workers
    assert found.attention_workers == pytest.approx(top.attention_workers, abs=1)
    reached = at(better, found.attention_workers).objective
    assert reached >= 0.999 * top.objective
    assert found.barrier_cost.value == pytest.approx(1 - base / free)
    assert found.given_back.value == pytest.approx((stay - base) / free)
    assert found.given_back.high - found.given_back.value == pytest.approx(0.015 * stay / free)
    assert found.gain.value == pytest.approx(reached / base - 1)
    assert found.gain.value - found.gain.low == pytest.approx(0.015 * reached / base)
    assert found.regret_of_blind.value == pytest.approx(1 - stay / reached)
    assert found.blind_time_per_output_token == pytest.approx(at(blind, workers).step_time / 1.5)
    assert found.time_per_output_token == pytest.approx(
        at(better, found.attention_workers).step_time / 1.5
    )
    assert found.placement_window == 1


@pytest.mark.parametrize(
    "changes", [{"method": "gaussian"}, {"phase": "aligned"}, {"execution": "barrier-free"}]
)
def test_without_a_barrier_of_random_loads_nothing_is_brought(changes):
    if "phase" in changes:
        law = IndependentLengths(prompt="fixed:500", decode="fixed:100")
        problem = RatioProblem(law=law, latency=LATENCY, batch_size=16, **changes)
    else:
        problem = RatioProblem(law=LAW, latency=LATENCY, batch_size=16, **changes)
    assert placement_gain(problem, 6) is None


def scenario(**changes):
    bundle = Bundle(attention_workers=4, ffn_workers=1, batch_size=8, microbatches=2)
    return Scenario(bundle=bundle, latency=LATENCY, lengths=LAW, **changes)


def test_the_exact_curve_beside_what_it_describes():
    found = theory_curve(scenario(), LAW, [4, 30])
    whole = recommend(
        RatioProblem(law=LAW, latency=LATENCY, batch_size=8, max_attention_workers=37)
    )
    exact = {point.attention_workers: point for point in whole.curve}
    assert found[-1].attention_workers == 37  # five fourths of the largest
    assert {4, 30} <= {point.attention_workers for point in found}
    for point in found:
        assert point.step_time == exact[point.attention_workers].step_time
    assert theory_curve(scenario(), LAW, [4])[-1].attention_workers == 16
    other = IndependentLengths(prompt="geometric:500", decode="geometric:100")
    assert theory_curve(scenario(), other, [4]) == ()
    for changes in (
        {"arrivals": Arrivals(process="poisson", rate=0.1), "start": "fresh"},
        {"kv_capacity": 100_000},
        {"start": "fresh"},
    ):
        assert theory_curve(scenario(**changes), LAW, [4]) == ()


def test_draws_of_a_model_leave_the_step_of_full_slots_an_interval():
    known = replace(
        LATENCY,
        uncertainty=Uncertainty(
            coefficients=("step_overhead",), draws=[[0.0], [0.01], [0.02], [0.03]]
        ),
    )
    certain = scenario()
    assert step_time_by_draws(certain, LAW) is None
    unsure = replace(certain, latency=known)
    found = step_time_by_draws(unsure, LAW)
    assert found.low < found.value + 1e-4
    assert found.high > found.value + 0.02
    arriving = replace(unsure, arrivals=Arrivals(process="poisson", rate=0.1), start="fresh")
    assert step_time_by_draws(arriving, LAW) is None


@pytest.mark.parametrize(("workers", "beside"), [(1, (1, 2)), (4, (2, 8)), (7, (3, 14))])
def test_half_and_twice_as_many_workers_are_played_beside_a_ratio(monkeypatch, workers, beside):
    asked = []

    def play_bundles(problem, recommended, others, play):
        asked.append((recommended, others))

    monkeypatch.setattr("afdplan.planning.ratio_around.play_bundles", play_bundles)
    law = IndependentLengths(prompt="fixed:20", decode="fixed:1")
    problem = RatioProblem(
        law=law, latency=LATENCY, batch_size=1, overlap="ideal", max_attention_workers=3
    )
    around = ratio_around(problem, workers)
    assert asked == [(workers, beside)]
    assert {case.batch_size for case in around.cases} == {1, 2, 4, 8}
