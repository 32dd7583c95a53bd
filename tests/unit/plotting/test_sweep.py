from __future__ import annotations

import pytest

from afdplan.errors import InsufficientDataError
from afdplan.planning.reprovisioning import WindowCurve, compare_fixed
from afdplan.plotting.sweep_figures import study_figures
from afdplan.studies.summary import ChoiceRegret, StudySummary, WindowSeries


def summary(**changes):
    facts = {
        "name": "n",
        "compute": "ratio",
        "measure": "objective",
        "time_unit": "s",
        "cases": 2,
        "done": 2,
        "refused": 0,
        "failed": 0,
        "reasons": (),
        "groups": (),
        "choices": (),
        "group_count": 0,
        "best": (),
        "regrets": (),
        "series": (),
        "warnings": (),
    }
    return StudySummary(**{**facts, **changes})


def series(starts):
    windows = [
        WindowCurve(number=i, start=start, output_tokens=1, objective={1: 2.0 - i, 2: 1.0 + i})
        for i, start in enumerate(starts)
    ]
    return WindowSeries(setting={"batch_size": 64}, answer=compare_fixed(windows))


def layers(figure):
    (chart,) = figure.charts.values()
    return chart.layers


def test_windows_are_drawn_over_hours_where_arrivals_are_known():
    ratios, losses = study_figures(summary(series=(series((0.0, 7200.0)),)))
    adaptive, fixed = layers(ratios)
    assert adaptive.name == "batch size 64"
    assert adaptive.columns == {"x": [0.0, 2.0, 2.0, 4.0], "y": [1, 1, 2, 2]}
    assert fixed.columns == {"y": [1]}  # of equals the smaller
    assert "50.0 % more device time" in fixed.name
    (loss,) = layers(losses)
    assert loss.columns["y"] == pytest.approx([0.0, 0.0, 50.0, 50.0])
    assert ratios.charts[""].x.label.endswith("[h]")
    ratios, _ = study_figures(summary(series=(series((None, None)),)))
    assert layers(ratios)[0].columns["x"] == [0, 1, 1, 2]
    assert ratios.charts[""].x.label == "window"


def test_regrets_are_drawn_value_by_value():
    regrets = tuple(
        ChoiceRegret(variable="batch_size", value=v, groups=3, missing=0, mean=m, worst=2 * m)
        for v, m in ((16, 0.2), (32, 0.0))
    )
    (figure,) = study_figures(summary(regrets=regrets))
    bars, dots = layers(figure)
    assert bars.columns["y"] == ("16", "32")
    assert bars.columns["x2"] == [20.0, 0.0]
    assert dots.columns["x"] == [40.0, 0.0]


def test_drawn_values_are_named_in_as_few_digits_as_tell_them_apart():
    """Values of a sample stood in 17 digits over one another."""
    regrets = tuple(
        ChoiceRegret(variable="ffn_weight", value=v, groups=3, missing=0, mean=0.1, worst=0.2)
        for v in (0.5280286448173, 1.0649283773)
    )
    (figure,) = study_figures(summary(regrets=regrets))
    assert layers(figure)[0].columns["y"] == ("0.528", "1.06")


def test_nothing_to_draw():
    with pytest.raises(InsufficientDataError, match="nothing to draw"):
        study_figures(summary())
