from dataclasses import replace

import pytest

from afdplan.model.bundle import Bundle
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.model.trace import Trace
from afdplan.theory.validity import short_life_error
from afdplan.validation.bands import cell_checks
from afdplan.validation.cell import Cell, compare
from afdplan.validation.grid import feature_cells, grid_cells, short_cells
from afdplan.validation.laboratory import Observation, observe
from afdplan.validation.laws import LAWS, shaped_law
from afdplan.validation.regimes import REGIMES, latency_for


def estimate(value, half=0.0):
    return Estimate(value=value, low=value - half, high=value + half, confidence=0.95, method="")


def seen(cycle_time, p99, half=0.0):
    return Observation(
        cycle_time=estimate(cycle_time, half),
        throughput_per_instance=estimate(1.0),
        attention_idle_fraction=estimate(0.1),
        ffn_idle_fraction=estimate(0.1),
        step_time_p99=estimate(p99, half),
        steps=100,
        replications=1,
        mean_token_load=100.0,
    )


def cell(decode=300, **changes):
    law = shaped_law("geometric", 1000, decode)
    bundle = Bundle(attention_workers=4, batch_size=16)
    values = {
        "name": "a cell",
        "group": "grid",
        "law": law,
        "latency": latency_for("balanced", law, bundle),
        "bundle": bundle,
        "steps": 600,
    }
    return Cell(**values | changes)


def test_errors_are_signed_and_the_distance_ends_at_the_interval():
    one = cell()
    theory = one.theory("exact", (0.99,))
    tau, p99 = float(theory.cycle[0]), float(theory.quantiles[0, 0])
    result = compare(one, seen(tau / 1.02, p99 / 1.01, half=tau / 1.02 * 0.005), 0.01)
    assert result.error == pytest.approx(0.02)
    assert result.distance == pytest.approx(0.015)
    assert result.half_width == pytest.approx(0.005)
    assert result.p99_error == pytest.approx(0.01)
    assert result.errors["mean-field"] < result.errors["gaussian"]
    assert not result.is_inside
    inside = compare(one, seen(tau, p99), 0.01)
    assert inside.is_inside
    assert inside.p99_distance == 0


@pytest.mark.parametrize(
    ("change", "declared"),
    [
        ({}, True),
        ({"bundle": Bundle(attention_workers=65, batch_size=16)}, False),
        ({"bundle": Bundle(attention_workers=4, batch_size=16, microbatches=5)}, False),
        ({"law": shaped_law("geometric", 1000, 100)}, False),
    ],
)
def test_what_is_declared(change, declared):
    assert cell(**change).is_declared is declared


def test_below_the_validity_the_tabulated_error_is_allowed():
    one = cell(decode=30)
    assert compare(one, seen(100.0, 200.0), 0.01).allowed == short_life_error(one.rounds)
    assert compare(cell(), seen(100.0, 200.0), 0.01).allowed == 0.01


def test_rounds_count_layers_and_tokens_per_step():
    one = cell()
    latency = replace(one.latency, tokens_per_step=2.0)
    assert replace(one, latency=latency).rounds == pytest.approx(one.rounds / 2)


def test_scenario_plays_the_steps_that_were_asked_for():
    one = cell()
    scenario = one.scenario()
    # N requests per worker fill B m slots for E[D] steps each.
    assert scenario.requests_per_worker * 300 / (16 * 2) == pytest.approx(600, rel=0.01)
    assert observe(scenario).steps == pytest.approx(600, rel=0.1)


def test_replay_takes_the_trace_in_its_order():
    trace = Trace(prompt_tokens=[1, 2], decode_tokens=[3, 4])
    assert cell().replayed(trace).scenario().lengths is trace


def test_grid_covers_every_law_regime_and_number_of_microbatches():
    cells = grid_cells()
    assert len({c.name for c in cells}) == len(cells) == len(LAWS) * len(REGIMES)
    assert {c.bundle.microbatches for c in cells} == {1, 2, 3, 4}
    assert {c.bundle.attention_workers for c in cells} == {2, 4, 8, 16, 32, 64}
    assert {c.bundle.batch_size for c in cells} == {16, 64, 256}
    assert all(c.is_declared for c in cells)
    assert min(c.rounds for c in cells) == pytest.approx(200, rel=0.02)


def test_full_grid_has_each_cell_once_and_the_short_ones_lie_below_the_validity():
    cells = [*grid_cells(full=True), *short_cells(full=True), *feature_cells()]
    assert len({c.name for c in cells}) == len(cells)
    assert not any(c.is_declared for c in short_cells(full=True))
    assert all(c.is_declared for c in feature_cells())


@pytest.mark.parametrize("factor", [1.0, 1.03])
def test_a_theory_that_is_wrong_by_3_percent_breaks_the_band(factor):
    one = cell(precision=0.004, steps=40_000)
    observation = observe(one.scenario())
    wrong = replace(one, latency=one.latency.scaled(factor))
    checks = cell_checks([compare(wrong, observation, 0.01)])
    assert [check.holds for check in checks if check.band.startswith("E[tau], d")] == [factor == 1]


def test_latency_models_of_the_grid_are_abstract():
    assert all(isinstance(c.latency, LatencyModel) for c in grid_cells())
    assert {c.latency.time_unit for c in grid_cells()} == {"abstract"}
