from __future__ import annotations

import pytest

from afdplan.errors import InsufficientDataError
from afdplan.plotting.sweep import choice_data, draw_sweep, window_data
from afdplan.studies.reprovisioning import WindowCurve, compare_fixed
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


def test_windows_are_drawn_over_hours_where_arrivals_are_known():
    (data,) = window_data(summary(series=(series((0.0, 7200.0)),)))
    assert data.times == (0.0, 2.0)
    assert data.has_hours
    assert data.adaptive == (1, 2)
    assert data.label == "batch_size 64"
    assert data.regrets == pytest.approx((0.0, 50.0))  # of equals the smaller
    assert data.total_regret == pytest.approx(50.0)
    (data,) = window_data(summary(series=(series((None, None)),)))
    assert data.times == (0, 1)
    assert not data.has_hours


def test_regrets_are_drawn_value_by_value():
    regrets = tuple(
        ChoiceRegret(variable="batch_size", value=v, groups=3, missing=0, mean=m, worst=2 * m)
        for v, m in ((16, 0.2), (32, 0.0))
    )
    found = summary(regrets=regrets)
    (data,) = choice_data(found)
    assert data.values == ("16", "32")
    assert data.mean == (20.0, 0.0)
    assert data.worst == (40.0, 0.0)
    (axes,) = draw_sweep(found).axes
    assert [bar.get_height() for bar in axes.patches] == [20.0, 0.0]


def test_nothing_to_draw():
    with pytest.raises(InsufficientDataError, match="nothing to draw"):
        draw_sweep(summary())
