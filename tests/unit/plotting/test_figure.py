import json

import numpy as np
import pytest

from afdplan.plotting.figure import Axis, Chart, Figure, Layer, figure_document, rounded


def chart(*layers):
    return Chart(x=Axis(label="x"), y=Axis(label="y", limits=(0.0, 1 / 3)), layers=layers)


def test_a_figure_becomes_plain_json_with_nan_as_null():
    line = Layer(
        kind="line", columns={"x": np.arange(2), "y": [0.1234567, np.nan]}, words=["a", "b"]
    )
    figure = Figure(
        identifier="f", title="t", caption="c", choices=("B",), charts={"1": chart(line)}
    )
    told = json.loads(json.dumps(figure_document(figure), allow_nan=False))
    assert told["choices"] == ["B"]
    assert told["charts"]["1"]["layers"][0]["columns"] == {"x": [0, 1], "y": [0.123457, None]}
    assert told["charts"]["1"]["y"]["limits"] == [0, 0.333333]


def test_a_layer_without_its_columns_is_refused():
    with pytest.raises(ValueError, match="needs the column high"):
        Layer(kind="band", columns={"x": [1], "low": [1]})


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="one length"):
        Layer(kind="line", columns={"x": [1], "y": [1, 2]})
    with pytest.raises(ValueError, match="one length"):
        Layer(kind="line", columns={"x": [1], "y": [1]}, words=["a", "b"])


@pytest.mark.parametrize("value", [1e-12 / 3, 1 / 3, 2e5 / 3, -4e9 / 3])
def test_rounding_keeps_six_digits(value):
    assert rounded(value) == pytest.approx(value, rel=5e-6)


def test_an_axis_may_only_set_side_by_side_and_hold_values_in_sight():
    group = Layer(kind="group", columns={"low": [0], "high": [2], "text": ["laws"]})
    axis = Axis(label="", has_ticks=False, includes=(1 / 3,))
    figure = Figure(
        identifier="f",
        title="t",
        caption="c",
        charts={"": Chart(x=axis, y=Axis(label="y"), layers=[group])},
    )
    told = figure_document(figure)["charts"][""]
    assert (told["x"]["ticks"], told["x"]["includes"]) == (False, [0.333333])
    assert (told["y"]["ticks"], told["y"]["includes"]) == (True, [])
    with pytest.raises(ValueError, match="needs the column text"):
        Layer(kind="group", columns={"low": [0], "high": [2]})
