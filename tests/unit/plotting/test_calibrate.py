"""The residual plot shows the residuals."""

from itertools import pairwise

import numpy as np
import pytest

from afdplan.calibration.stage import fit_stage
from afdplan.model.measurement import StageSamples
from afdplan.plotting.calibration_figures import stage_figures
from afdplan.plotting.picture import draw_figures


def layers(figure):
    (chart,) = figure.charts.values()
    return {layer.name: layer for layer in chart.layers if layer.name}


def test_panels_hold_measurements_curve_and_errors():
    loads = np.tile([1e4, 3e4, 1e5], 4)
    requests = np.repeat([4.0, 8, 16, 32], 3)
    times = 5e-5 + 1e-9 * loads + 1e-6 * requests
    times[2] *= 1.5
    fit = fit_stage(
        StageSamples(stage="attention", loads=loads, times=times, requests=requests), "per-request"
    )
    curve, misses = (layers(figure) for figure in stage_figures([fit], "s"))
    wild = misses["1 beyond the axis"]
    assert list(wild.columns["x"]) == [1e5]
    assert "+50" in wild.words[0]
    assert np.abs(misses["measured"].columns["y"]).max() < 3
    # All but the wild one lie on the curve once they are brought to the median requests.
    dots, line = curve["measured"].columns, curve["fitted"].columns
    ratio = dots["y"] / np.interp(dots["x"], line["x"], line["y"])
    assert (np.abs(ratio - 1) < 0.01).sum() == 11


@pytest.mark.parametrize("last", [400.0, 600.0, 2e4, 1e6])
def test_no_tick_label_lies_on_another(last):
    """Below two decades the logarithmic axis wrote 2, 3, 4 and 6 times ten, one over the other."""
    loads = np.linspace(16, last, 40)
    fits = [
        fit_stage(StageSamples(stage=stage, loads=loads, times=1e-5 + 1e-8 * loads), "linear")
        for stage in ("attention", "ffn")
    ]
    picture = draw_figures(stage_figures(fits, "s"), "fits", columns=2)
    picture.canvas.draw()
    for axes in picture.axes:
        shown = [t for t in axes.get_xticklabels(which="both") if t.get_text()]
        low, high = axes.get_xlim()
        boxes = sorted(
            (t.get_window_extent() for t in shown if low <= t.get_position()[0] <= high),
            key=lambda box: box.x0,
        )
        assert len(boxes) >= 2
        assert all(one.x1 < other.x0 for one, other in pairwise(boxes))


def test_the_page_shows_how_sure_each_curve_is():
    loads = np.geomspace(10, 1000, 30)
    times = (1e-5 + 1e-8 * loads) * (1 + 0.05 * np.random.default_rng(1).standard_normal(30))
    fit = fit_stage(StageSamples(stage="ffn", loads=loads, times=times), "linear")
    figure = stage_figures([fit], "s")[0]
    found = layers(figure)
    band, line = found["95 % interval of the curve"].columns, found["fitted"].columns
    assert (np.asarray(band["low"]) < line["y"]).all()
    assert (line["y"] < np.asarray(band["high"])).all()
