"""The page's grid says what the command says, and its bands and changes are recomputed here."""

from dataclasses import replace

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.model.uncertainty import Uncertainty
from afdplan.planning.bottleneck_map import bottleneck_maps
from afdplan.planning.ratio_grid import asked_case, ratio_grid, shown_workers
from afdplan.planning.ratio_sensitivity import curve_bands, ratio_sensitivity
from afdplan.plotting.bottleneck_figure import bottleneck_figure
from afdplan.plotting.ratio_figures import case_key, curve_figure, time_figure
from afdplan.theory.cycle import CycleModel
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend_ratio

LATENCY = LatencyModel.linear(attention=(0.00165, 50.0), ffn=(0.083, 100.0), transfer=(0.022, 20.0))
LAW = IndependentLengths(prompt="geometric:20", decode="geometric:40")
PROBLEM = RatioProblem(law=LAW, latency=LATENCY, batch_size=64)
LIMIT = 40


@pytest.fixture(scope="module")
def grid():
    return ratio_grid(PROBLEM)


@pytest.fixture(scope="module")
def cases(grid):
    return grid.cases


def objective(problem, workers, slots=None):
    model = CycleModel(problem, slots or problem.slot_loads())
    numbers = np.array([float(workers)])
    return float(model.objective(numbers, model.evaluate(numbers).mean, problem.ffn_weight)[0])


@pytest.mark.parametrize(
    ("most", "sizes", "counts"),
    [
        (128, (8, 16, 32, 64), (1, 2)),
        (255, (8, 16, 32, 64), (1, 2, 3)),
        (512, (8, 16, 32, 64, 128), (1, 2, 3, 4)),
    ],
)
def test_no_case_is_beyond_the_memory(most, sizes, counts):
    """Batches of eight times what a device holds were buttons of the page."""
    found = ratio_grid(PROBLEM, most_requests=most).cases
    assert {(case.batch_size, case.microbatches) for case in found} == {
        (size, count) for size in sizes for count in counts
    }


def test_every_case_is_what_the_command_would_recommend(cases):
    assert len(cases) == 7 * 4
    for case in cases[::5]:
        answer = recommend_ratio(
            LAW,
            LATENCY,
            batch_size=case.batch_size,
            microbatches=case.microbatches,
        )
        assert case.resource_times == answer.resource_times
        assert case.bottleneck == answer.bottleneck
        assert case.barrier_cost == answer.barrier_cost
        assert case.best.attention_workers == answer.optimal_attention_workers
        assert case.best.objective == pytest.approx(answer.best.objective, rel=1e-12)
        assert case.near_equal == answer.near_equal
        assert case.best in case.points


def test_the_asked_case_of_the_grid_is_that_of_the_answer(cases):
    answer = recommend_ratio(LAW, LATENCY, batch_size=64)
    (mine,) = (case for case in cases if (case.batch_size, case.microbatches) == (64, 2))
    assert replace(mine, other_methods={}) == asked_case(answer)


def test_each_case_looks_as_far_as_its_own_optimum_asks():
    """An eighth of the batch needs more workers than the asked case looks at."""
    options = {"microbatches": 4, "ffn_weight": 8.0}
    problem = RatioProblem(law=LAW, latency=LATENCY, batch_size=8, **options)
    asked = recommend_ratio(LAW, LATENCY, batch_size=8, **options)
    found = {case_key(case): case for case in ratio_grid(problem).cases}
    alone = recommend_ratio(LAW, LATENCY, batch_size=1, **options)
    assert alone.optimal_attention_workers > asked.curve[-1].attention_workers
    assert found["1|4"].best.attention_workers == alone.optimal_attention_workers
    few = replace(problem, max_attention_workers=20)
    limited = {case_key(c): c for c in ratio_grid(few).cases}
    assert limited["1|4"].best.attention_workers == 20


def test_the_binding_resource_is_the_longest_and_every_best_has_its_column(grid, cases):
    for one in grid.maps:
        mine = {case.batch_size: case for case in cases if case.microbatches == one.microbatches}
        assert [row.batch_size for row in one.rows] == sorted(mine)
        for row in one.rows:
            assert row.best == mine[row.batch_size].best.attention_workers
            assert row.best in one.workers
            problem = replace(PROBLEM, batch_size=row.batch_size, microbatches=one.microbatches)
            model = CycleModel(problem, problem.slot_loads())
            for count, name in list(zip(one.workers, row.binding, strict=True))[::4]:
                times = model.resources(count)
                assert times[name] == pytest.approx(max(times.values()))


def test_a_map_frames_what_it_is_told_to_frame(cases):
    chosen = {(case.batch_size, case.microbatches): 13 for case in cases}
    chosen[8, 2] = None
    model = CycleModel(PROBLEM, PROBLEM.slot_loads())
    maps = bottleneck_maps(dict.fromkeys(chosen, model.resources), chosen)
    frames = {
        key: chart.layers[-1].columns["y"]
        for key, chart in bottleneck_figure(maps, "abstract").charts.items()
    }
    assert len(frames["1"]) == 7
    assert len(frames["2"]) == 6
    assert "8" not in frames["2"]
    assert all(13 in one.workers for one in maps)


def test_a_latency_model_that_depends_on_the_batch_is_asked_for_each():
    asked = []

    def latency_of(batch_size):
        asked.append(batch_size)
        return LATENCY.scaled(2.0)

    few = replace(PROBLEM, max_attention_workers=16)
    found = {case_key(c): c for c in ratio_grid(few, latency_of=latency_of).cases}
    assert sorted(set(asked)) == [8, 16, 32, 128, 256, 512]
    plain = {case_key(c): c for c in ratio_grid(few).cases}
    assert found["64|2"].best == plain["64|2"].best
    assert found["128|2"].best.step_time == pytest.approx(2 * plain["128|2"].best.step_time)


def test_sensitivity_is_what_a_changed_problem_gives():
    best = recommend_ratio(LAW, LATENCY, batch_size=64).optimal_attention_workers
    few = replace(PROBLEM, max_attention_workers=LIMIT)
    entries = {entry.input: entry for entry in ratio_sensitivity(few, best)}
    assert set(entries) == {
        "token load of a slot", "attention time", "FFN time", "transfer time, both ways",
    }  # fmt: skip
    slower = LatencyModel.linear(
        attention=(0.00165, 50.0), ffn=(0.083 * 1.2, 120.0), transfer=(0.022, 20.0)
    )
    problem = replace(PROBLEM, latency=slower)
    change = objective(problem, best) / objective(PROBLEM, best) - 1
    assert entries["FFN time"].objective_change[1] == pytest.approx(change)
    every = [objective(problem, count) for count in range(1, LIMIT + 1)]
    assert entries["FFN time"].best[1] == 1 + int(np.argmax(every))
    assert entries["FFN time"].regret[1] == pytest.approx(1 - every[best - 1] / max(every))
    for entry in entries.values():
        assert entry.objective_change[0] >= 0 >= entry.objective_change[1]


def test_bands_hold_the_curve_and_their_ends_are_recomputed():
    load = Estimate(value=59.0, low=50.0, high=70.0, confidence=0.95, method="test")
    latency = replace(
        LATENCY,
        uncertainty=Uncertainty(coefficients=("ffn.intercept",), covariance=[[25.0]]),
    )
    problem = replace(PROBLEM, latency=latency)
    workers = (2, 6, 20)
    bands = curve_bands(problem, workers, load)
    assert [band.cause for band in bands] == ["token load's interval", "latency model's errors"]
    for band in bands:
        for count, low, high in zip(workers, band.low, band.high, strict=True):
            assert low <= objective(problem, count) <= high
    assert bands[0].low[0] == pytest.approx(objective(problem, 2, problem.slot_loads(70 / 59)))


def test_figures_have_a_chart_for_every_choice(grid, cases):
    bands = curve_bands(PROBLEM, tuple(p.attention_workers for p in cases[0].points), None)
    curve = curve_figure(cases, PROBLEM, bands)
    assert set(curve.charts) == {case_key(case) for case in cases} == set(time_figure(cases).charts)
    maps = grid.maps
    drawn = bottleneck_figure(maps, "abstract")
    assert set(drawn.charts) == {"1", "2", "3", "4"}
    for one in maps:
        cells = [len(layer.columns["x"]) for layer in drawn.charts[str(one.microbatches)].layers]
        assert sum(cells) == 7 * len(one.workers) + 7  # every cell once, every best once


def test_busy_and_idle_fill_the_whole_time(cases):
    for chart in time_figure(cases).charts.values():
        ends = [layer.columns["y2"] for layer in chart.layers if layer.name.endswith("idle")]
        assert {*ends[0]} == {100.0}
        assert {*ends[1]} == {-100.0}


def test_thinning_keeps_ends_and_what_must_stay():
    shown = shown_workers(range(1, 1001), [777])
    assert {1, 777, 1000} <= set(shown)
    assert len(shown) <= 37
