"""The figures of the evidence hold the numbers of the evidence, and nothing else."""

import math
from dataclasses import replace

import pytest

from afdplan.plotting.cell_figures import (
    FLOOR,
    NARROWEST,
    cycle_time_figure,
    percentile_figure,
    short_figure,
)
from afdplan.plotting.published_figures import baseline_figure, idle_figure, system_figure
from afdplan.plotting.recommendation_figures import promise_figure, regret_figure
from afdplan.plotting.validation_figures import band_figure, order_figure
from afdplan.validation.published import published_systems
from afdplan.validation.regret import BASELINES
from tests.validations import cell, paper, ratio, trace, validation


def chart(figure):
    return figure.charts[""]


def layers(figure, name):
    return [layer for layer in chart(figure).layers if layer.name == name]


def layer(figure, name):
    (found,) = layers(figure, name)
    return found


def of_kind(figure, kind):
    (found,) = [layer for layer in chart(figure).layers if layer.kind == kind]
    return found


def test_a_bar_is_the_share_of_its_limit_and_a_broken_one_is_marked():
    checks = validation(broken=True).checks
    figure = band_figure(checks, [f"sentence {k}" for k in range(len(checks))])
    bars = {}
    for kept in (layer(figure, "holds"), layer(figure, "broken")):
        bars |= dict(zip(kept.columns["y"], kept.columns["x2"], strict=True))
    assert bars == {check.band: check.worst / check.limit for check in checks}
    broken = layer(figure, "broken")
    assert broken.columns["y"] == [check.band for check in checks if not check.holds]
    assert set(broken.columns["fill"]) == {"hatch"}
    assert chart(figure).x.limits[1] > max(bars.values()) > 1
    assert "sentence 0" in broken.words[0]
    assert list(chart(figure).y.limits) == [check.band for check in checks]


def test_a_figure_without_a_broken_band_has_no_key_for_it():
    checks = validation().checks
    figure = band_figure(checks, [""] * len(checks))
    assert layers(figure, "broken") == []
    assert chart(figure).x.limits == (0.0, 1.15)


def test_cells_stand_in_groups_and_by_their_error():
    cells = validation(30).all_cells
    figure = cycle_time_figure(cells)
    groups = of_kind(figure, "group").columns
    assert groups["text"] == ["laws", "features", "traces"]
    assert groups["low"] == [0.0, *groups["high"][:-1]]
    drawn = layer(figure, "exact barrier").columns
    declared = [c for c in cells if c.is_declared]
    assert sorted(drawn["y"]) == pytest.approx(sorted(100 * c.error for c in declared))
    assert drawn["x"] == sorted(drawn["x"])
    for low, high, name in zip(groups["low"], groups["high"], groups["text"], strict=True):
        own = [y for x, y in zip(drawn["x"], drawn["y"], strict=True) if low < x < high]
        assert own == sorted(own)
        assert len(own) == {"laws": 30, "features": 3, "traces": 2}[name]
        assert high - low >= NARROWEST * len(declared)


def test_methods_are_switched_in_the_legend_and_exact_is_shown_at_first():
    figure = cycle_time_figure(validation().all_cells)
    shown = {name: layer(figure, name).is_shown for name in ("exact barrier", "Gaussian barrier")}
    assert shown == {"exact barrier": True, "Gaussian barrier": False}
    field = layer(figure, "mean field, no barrier")
    exact = layer(figure, "exact barrier")
    assert not field.is_shown
    gaps = [a - b for a, b in zip(exact.columns["y"], field.columns["y"], strict=True)]
    assert gaps == pytest.approx([10.0] * len(gaps))


def test_a_cell_is_told_with_its_bundle_and_interval():
    figure = cycle_time_figure([cell("the cell", rounds=1234.0, width=0.0042)])
    (words,) = of_kind(figure, "line").words
    assert words.startswith("the cell\nA = 8, F = 1, B = 64, m = 2, L = 1; requests live 1,234")
    assert "+- 0.42 %" in words
    interval = layer(figure, "simulation's interval").columns
    assert (interval["low"], interval["high"]) == ([pytest.approx(-0.42)], [pytest.approx(0.42)])
    band = layer(figure, "declared: 1 %").columns
    assert (band["low"], band["high"]) == ([-1.0, -1.0], [1.0, 1.0])


def test_a_wide_interval_of_p99_is_cut_and_told_whole():
    wide = cell("wide", p99=0.004, p99_width=0.26)
    figure = percentile_figure([wide, cell("narrow", p99_width=0.01)])
    assert max(layer(figure, "simulation's interval").columns["high"]) == pytest.approx(5.0)
    assert "1 wider than 5.0 % are cut there." in figure.caption
    assert any("+- 26.00 %" in words for words in of_kind(figure, "line").words)
    assert layer(figure, "exact barrier").columns["y"] == [pytest.approx(0.2), pytest.approx(0.4)]
    assert layer(figure, "declared: 2 %").columns["high"] == [2.0, 2.0]
    assert "cut" not in percentile_figure([cell("narrow")]).caption


def test_an_interval_without_an_upper_end_is_told_so_and_drawn_to_the_cut():
    seen = cell("open", p99_width=0.01)
    p99 = replace(seen.simulated.step_time_p99, high=math.inf)
    figure = percentile_figure(
        [replace(seen, simulated=replace(seen.simulated, step_time_p99=p99))]
    )
    assert layer(figure, "simulation's interval").columns["high"] == [pytest.approx(5.0)]
    (words,) = of_kind(figure, "line").words
    assert words.endswith("simulated, but its interval has no upper end")


def test_an_error_beyond_the_cut_lets_its_interval_be_seen():
    figure = cycle_time_figure([cell("off", error=0.08, width=0.09)])
    assert layer(figure, "simulation's interval").columns["high"] == [pytest.approx(8.8)]


def test_short_lives_are_drawn_over_rounds_beside_what_is_stated():
    cells = [
        cell("b", "short", 0.02, rounds=5.0),
        cell("a", "short", -0.03, rounds=5.0),
        cell("c", "short", 0.0, rounds=100.0),
        cell("declared"),
    ]
    figure = short_figure(cells)
    drawn = layer(figure, "exact barrier").columns
    assert drawn["y"] == pytest.approx([3.0, 2.0, 100 * FLOOR])
    assert drawn["x"] == sorted(set(drawn["x"]))
    assert sum(drawn["x"][:2]) / 2 == pytest.approx(5.0)
    assert drawn["x"][2] == 100.0
    stated = layer(figure, "stated error")
    assert stated.columns["y"][1:-1] == pytest.approx([6.0, 6.0, 0.3])
    assert stated.words[1].startswith("6.0 %, for a\n")
    assert layer(figure, "exact barrier").words[0] == "-3.00 %"
    assert (chart(figure).x.scale, chart(figure).y.scale) == ("log", "log")
    low, high = chart(figure).x.limits
    assert low < min(drawn["x"]) < max(drawn["x"]) < high


def test_a_replay_stands_beside_its_resampling_and_a_short_one_apart():
    figure = order_figure([trace("long.csv"), trace("brief.csv", replay=-0.004, fills=3.0)])
    assert layer(figure, "resampled").columns["x"] == pytest.approx([0.1, 0.1])
    assert layer(figure, "replayed in order").columns["y"] == ["long.csv"]
    short = layer(figure, "replayed, but too short to tell")
    assert short.columns == {"y": ["brief.csv"], "x": [pytest.approx(-0.4)]}
    assert "3 times" in short.words[0]
    span = of_kind(figure, "span").columns
    assert span["low"][0] == pytest.approx(100 * (1.02 / 1.01 - 1))
    assert span["high"][0] == pytest.approx(100 * (1.02 / 0.99 - 1))
    assert list(chart(figure).y.limits) == ["long.csv", "brief.csv"]


def test_traces_that_are_all_long_enough_need_no_key_for_the_others():
    figure = order_figure([trace("long.csv")])
    assert layers(figure, "replayed, but too short to tell") == []


def test_regret_shows_every_case_of_every_method():
    ratios = [ratio("one", 0.1), ratio("two", 0.04), ratio("three", 0.2)]
    figure = regret_figure(ratios)
    dots = layer(figure, "a case")
    assert len(dots.columns["x"]) == 3 * len(BASELINES)
    lockstep = [
        x for x, y in zip(dots.columns["x"], dots.columns["y"], strict=True) if y == "lockstep"
    ]
    assert lockstep == pytest.approx([10.0, 4.0, 20.0])
    worst = layer(figure, "all cases")
    assert worst.columns["x2"][-1] == pytest.approx(20.0)
    assert worst.columns["x1"] == [0.0] * len(BASELINES)
    assert layer(figure, "to the median").columns["x2"][-1] == pytest.approx(10.0)
    assert "lockstep, three: A = 3, best simulated 8; gives up 20.0 %" in dots.words
    assert "median +10.0 %, worst +20.0 % of 3 cases" in worst.words[-1]


def test_a_promise_may_be_too_low():
    promising = ratio("one")
    shy = ratio("two")
    picks = list(shy.recommendations)
    object.__setattr__(picks[-1], "promised", 0.9 * picks[-1].delivered)
    figure = promise_figure([promising, shy])
    bar = layer(figure, "all cases").columns
    assert bar["x1"][-1] == pytest.approx(-10.0)
    assert bar["x2"][-1] == pytest.approx(100 * (0.75 / 0.45 - 1))
    left, right = chart(figure).x.includes
    assert left < bar["x1"][-1] < bar["x2"][-1] < right


def test_the_baseline_has_four_theories_and_two_simulations():
    curve = paper().curve
    figure = baseline_figure(curve)
    lines = [kept for kept in chart(figure).layers if kept.kind == "line"]
    assert [kept.columns["y"][0] for kept in lines] == pytest.approx([720, 680, 670, 650])
    steady_dots, steady = layers(figure, "simulated, steady")
    assert steady_dots.columns["y"] == pytest.approx([1e3 * p.stationary.value for p in curve])
    assert steady.columns["low"] == pytest.approx([1e3 * p.stationary.low for p in curve])
    fresh_dots, _ = layers(figure, "simulated, fresh start")
    assert fresh_dots.columns["y"] == pytest.approx([1e3 * p.fresh.value for p in curve])


def test_idle_shares_are_those_of_both_simulations():
    curve = paper().curve
    figure = idle_figure(curve)
    for name, values in (
        ("attention idle, steady", [p.stationary_idle[0] for p in curve]),
        ("FFN idle, steady", [p.stationary_idle[1] for p in curve]),
        ("attention idle, fresh start", [p.fresh_idle[0] for p in curve]),
        ("FFN idle, fresh start", [p.fresh_idle[1] for p in curve]),
    ):
        assert layer(figure, name).columns["y"] == pytest.approx([100 * v for v in values])


def test_points_that_were_calibrated_on_are_marked():
    systems = published_systems()
    figure = system_figure(systems)
    given = layer(figure, "model, calibrated on this point")
    found = layer(figure, "model, predicted")
    assert given.columns["y"] == ["FastAFD, 3:1", "FastAFD, 11:1", "FastAFD, 17:1"]
    assert found.columns["y"][:2] == ["FastAFD, 7:1", "FastAFD, 15:1"]
    assert given.role != found.role
    measured = layer(figure, "measured").columns
    points = [point for system in systems for point in system.points]
    assert measured["x2"] == pytest.approx([1e3 * point.measured for point in points])
