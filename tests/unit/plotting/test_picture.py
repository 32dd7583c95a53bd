"""The picture of a figure shows what the figure holds."""

import re
from pathlib import Path

import numpy as np
import pytest

import afdplan
from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.plotting.figure import Axis, layer, single
from afdplan.plotting.picture import COLOURS, draw_figures, picture_bytes
from afdplan.plotting.pipeline_figure import pipeline_figure
from afdplan.simulation.scenario import Scenario
from afdplan.simulation.timeline import record_timeline


def axes_of(*layers, x=None, y=None):
    figure = single("f", "t", "c", x=x or Axis(label="x"), y=y or Axis(label="y"), layers=layers)
    return draw_figures([figure], "h").subfigs[0].axes[0]


def test_colours_are_those_of_the_page_in_print():
    style = (Path(afdplan.__file__).parent / "data/report/page.css").read_text()
    printed = style[style.index("@media print") :]
    assert {role: re.search(rf"--{role}: (#\w+)", printed)[1] for role in COLOURS} == COLOURS


def test_what_is_switched_off_or_not_finite_is_not_drawn():
    axes = axes_of(
        layer("line", x=[1, 2], y=[1, 2], is_shown=False),
        layer("dot", x=[1, 2, 3], y=[1, np.nan, 3]),
        layer("interval", x=[1, 2], low=[0, 1], high=[np.inf, 3]),
    )
    assert axes.lines[0].get_xdata().size == 3
    assert np.isfinite(axes.dataLim.extents).all()


def test_a_category_stands_where_its_name_does():
    axes = axes_of(
        layer("rect", y=["b"], x1=[0.0], x2=[7.0]),
        y=Axis(label="", scale="category", limits=("a", "b")),
    )
    (box,) = (patch.get_extents() for patch in axes.collections[0].get_paths())
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
    assert box.intervaly.mean() == 1
    assert axes.get_ylim() == (1.5, -0.5)  # the first on top, as on a page


def test_signs_are_dropped_only_where_an_axis_is_mirrored():
    for is_mirrored, lowest in ((True, "10"), (False, "-10")):
        axes = axes_of(
            layer("line", x=[0, 1], y=[-1, 1]),
            y=Axis(label="y", limits=(-10, 10), is_mirrored=is_mirrored),
        )
        assert axes.yaxis.get_major_formatter()(-10, 0) == lowest


def test_a_name_with_dollar_signs_is_no_formula():
    figure = single("f", "$x^{$", "$", x=Axis(label="$\\bad$"), y=Axis(label="y"), layers=())
    picture = draw_figures([figure], "$[/x]{$")
    assert picture_bytes(picture, "svg").startswith(b"<?xml")


@pytest.mark.parametrize(("layers", "steps"), [(61, 6), (1, 6), (3, 1)])
def test_a_gap_of_the_pipeline_is_idle_time(layers, steps):
    """With 61 layers the rows of attention were blank long before the axis ended."""
    scenario = Scenario(
        bundle=Bundle(attention_workers=4, batch_size=64),
        latency=LatencyModel.linear(
            attention=(0.006, 20.0), ffn=(0.4, 60.0), transfer=(0.1, 12.0), layers=layers
        ),
        lengths=IndependentLengths(prompt="geometric:100", decode="geometric:500"),
    )
    (chart,) = pipeline_figure(record_timeline(scenario, steps=steps)).charts.values()
    width = chart.x.limits[1]
    longer = record_timeline(scenario, steps=steps + 4, skip=18)
    for name in ("attention 1", "FFN"):
        shown = sum(
            end - start
            for one in chart.layers
            for row, start, end in zip(
                one.columns["y"], one.columns["x1"], one.columns["x2"], strict=True
            )
            if row == name
        )
        # The same stages in a recording that began earlier and ended later.
        stage = name.split()[0].lower() if name != "FFN" else "ffn"
        spans = [s for s in longer.spans if s.worker == 0 and s.stage.lower() == stage]
        own = record_timeline(scenario, steps=steps).spans
        zero = min(span.start for span in own)
        first = {}
        for span in own:
            key = (span.stage, span.worker)
            first[key] = min(first.get(key, span.start), span.start)
        begin = max(first.values()) - zero
        busy = sum(
            max(min(s.end - zero, begin + width) - max(s.start - zero, begin), 0.0) for s in spans
        )
        assert shown == pytest.approx(busy, rel=1e-6)
