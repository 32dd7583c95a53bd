"""Bundles without the barrier: grid, verdicts and published figures, with made-up simulations."""

from dataclasses import replace

import pytest

from afdplan.validation.bands import BARRIER_FREE, cell_checks, mode_checks
from afdplan.validation.cell import Cell, compare
from afdplan.validation.laws import LAWS
from afdplan.validation.mode_regret import (
    ModeCase,
    ModeDesign,
    judge_modes,
    mode_cases,
    trace_mode_cases,
)
from afdplan.validation.pool_grid import FLOORS, RULES, floored_latency, pool_cells
from afdplan.validation.pool_published import pool_facts
from afdplan.validation.run import validate
from afdplan.validation.traces import read_traces
from tests.unit.validation.test_verdicts import Agreeing, estimate


class Played(Agreeing):
    """Simulations that say what the theory does, each way times a factor of its own."""

    def __init__(self, synchronous=1.0, barrier_free=1.0, *, waiting=1.0):
        super().__init__()
        self.factors = {"synchronous": synchronous, "barrier-free": barrier_free}
        self.waiting = waiting

    def _observe(self, scenario):
        cell = Cell(
            name="",
            group="grid",
            law=scenario.law,
            latency=scenario.latency,
            bundle=scenario.bundle,
            execution=scenario.execution,
            boarding=scenario.boarding,
        )
        steps = cell.theory("exact", (0.99,))
        factor = self.factors[scenario.execution]
        if scenario.least_calls > 1:
            factor *= self.waiting
        tokens = scenario.bundle.attention_workers * scenario.bundle.batch_size
        tokens *= scenario.microbatches
        rate = tokens / (float(steps.mean[0]) * factor) / (scenario.bundle.attention_workers + 1)
        return replace(
            super()._observe(replace(scenario, execution="synchronous", **PLAIN)),
            cycle_time=estimate(float(steps.cycle[0]) * factor),
            step_time_p99=estimate(float(steps.quantiles[0, 0])),
            throughput_per_instance=estimate(rate),
        )


PLAIN = {"least_calls": 1, "longest_wait": None, "most_tokens": None}


def case(floor=0.5, m=1, name="light"):
    (found,) = (
        one
        for one in mode_cases(full=True)
        if one.name.startswith(f"{name}, floor {floor:.0%}") and one.microbatches == m
    )
    return found


def test_the_grid_holds_every_law_floor_rule_and_microbatches():
    cells = pool_cells(full=True)
    for words in (*LAWS, *(f"floor {floor:.0%}" for floor in FLOORS), *RULES):
        assert any(words in cell.name for cell in cells), words
    assert {cell.bundle.microbatches for cell in cells} == {1, 2, 3}
    assert {2, 64} <= {cell.bundle.attention_workers for cell in cells}
    few = pool_cells()  # half a minute of processor time, with the verdicts
    assert len({cell.name for cell in few}) == len(few) == 2 * len(LAWS)
    for words in (*LAWS, *(f"floor {floor:.0%}" for floor in FLOORS), *RULES):
        assert any(words in cell.name for cell in few), words
    assert max(cell.bundle.attention_workers for cell in few) <= 16
    assert len(mode_cases()) == 4
    waits = next(cell for cell in few if "light" in cell.name and "waits for half" in cell.name)
    assert not waits.is_declared  # nearly equal loads, many calls
    seen = Played().observe([waits.scenario()])
    assert compare(waits, seen[0], 0.03).group == "outside"


def test_the_floor_is_what_an_empty_departure_costs():
    cell = pool_cells()[0]
    latency = floored_latency(cell.law, cell.bundle, 0.8, 2.0)
    assert latency.ffn(0.0) == pytest.approx(160.0)
    assert latency.ffn(float(cell.bundle.ffn_tokens)) == pytest.approx(200.0)


def test_a_cell_that_is_off_breaks_the_band():
    small = [cell for cell in pool_cells() if cell.bundle.attention_workers < 9]
    cells = [cell for cell in small if cell.is_declared][:3]
    seen = Played(barrier_free=0.94).observe([cell.scenario() for cell in cells])
    results = [compare(cell, one, 0.03) for cell, one in zip(cells, seen, strict=True)]
    assert [round(one.error, 3) for one in results] == [0.064] * 3
    distance, middle, p99 = cell_checks(results, BARRIER_FREE)
    assert not distance.holds
    assert not middle.holds
    assert p99.holds
    good = Played().observe([cell.scenario() for cell in cells])
    results = [compare(cell, one, 0.03) for cell, one in zip(cells, good, strict=True)]
    assert all(check.holds for check in cell_checks(results, BARRIER_FREE))


def test_where_simulation_agrees_the_verdict_is_right_and_nothing_is_given_up():
    (found,) = judge_modes([case()], Played())
    assert found.said == "barrier-free"
    assert found.gain == pytest.approx(found.expected_gain, abs=1e-6)
    assert found.regret == found.verdict_regret == 0.0
    assert found.best_barrier_free == found.barrier_free
    assert all(check.holds for check in mode_checks([found]))


def test_a_wrong_verdict_and_a_wrong_rule_break_their_bands():
    (found,) = judge_modes([case()], Played(barrier_free=1.3))
    assert found.said == "barrier-free"
    assert found.gain < -0.1
    assert found.verdict_regret == pytest.approx(-found.gain)
    regret, verdict = mode_checks([found])
    assert regret.holds
    assert not verdict.holds
    # A simulation in which waiting for calls costs more than the theory thinks.
    (found,) = judge_modes([case()], Played(waiting=1.2))
    assert found.barrier_free.least_calls > 1
    assert found.best_barrier_free.least_calls == 1
    regret, _ = mode_checks([found])
    assert not regret.holds


def test_the_barrier_is_said_to_pay_where_it_does():
    (found,) = judge_modes([mode_cases(full=True)[0]], Played())
    assert found.said == "synchronous"
    assert found.verdict_regret == 0.0
    assert found.synchronous == ModeDesign(execution="synchronous", attention_workers=7)


def test_traces_get_a_cell_and_a_question(tmp_path):
    rows = "\n".join(f"{100 + k * 37 % 900},{1 + k * k % 300}" for k in range(300))
    (tmp_path / "one.csv").write_text(f"prompt_tokens,decode_tokens\n{rows}\n")
    traces = read_traces(str(tmp_path))
    (asked,) = trace_mode_cases(traces)
    assert isinstance(asked, ModeCase)
    assert asked.name.startswith("one.csv")
    laboratory = Played()
    found = validate(("published",), laboratory, execution="barrier-free")
    assert not laboratory.played
    assert found.pool
    assert found.published == ()


def test_published_figures_of_a_pool():
    facts = pool_facts()
    (second, *more) = (fact for fact in facts if "calls/s" in fact.what)
    assert second.ours == "1,861 (2.00 times)"
    assert second.verdict == "in part"
    assert {fact.verdict for fact in more} == {"not reproducible"}
    (held,) = (fact for fact in facts if "waits for two calls" in fact.what)
    # 64 x 32 departures of 5 ms beside 4.256 s.
    assert held.ours == f"{1 + 64 * 32 * 0.005 / 4.256:.2f} times"
    assert all(fact.why for fact in facts)
