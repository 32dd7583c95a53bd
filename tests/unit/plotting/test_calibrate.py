"""The residual plot shows the residuals."""

from itertools import pairwise

import numpy as np
import pytest

from afdplan.calibration.stage import fit_stage
from afdplan.model.measurement import StageSamples
from afdplan.plotting.calibrate import draw_stage_fits, residual_panels
from afdplan.plotting.calibration_figures import stage_figures


def test_panels_hold_measurements_curve_and_errors():
    loads = np.tile([1e4, 3e4, 1e5], 4)
    requests = np.repeat([4.0, 8, 16, 32], 3)
    times = 5e-5 + 1e-9 * loads + 1e-6 * requests
    times[2] *= 1.5
    fit = fit_stage(
        StageSamples(stage="attention", loads=loads, times=times, requests=requests), "per-request"
    )
    (panel,) = residual_panels([fit])
    assert np.argmax(np.abs(panel.residuals)) == 2
    assert np.isclose(panel.residuals[2], 50, atol=1)
    # All but the wild one lie on the curve once they are brought to the median requests.
    curve = np.interp(panel.loads, panel.curve_loads, panel.curve_times)
    good = np.arange(12) != 2
    assert np.allclose(panel.times[good], curve[good], rtol=0.01)
    assert len(draw_stage_fits([fit], "s").axes) == 2


@pytest.mark.parametrize("last", [400.0, 600.0, 2e4, 1e6])
def test_no_tick_label_lies_on_another(last):
    """Below two decades the logarithmic axis wrote 2, 3, 4 and 6 times ten, one over the other."""
    loads = np.linspace(16, last, 40)
    fits = [
        fit_stage(StageSamples(stage=stage, loads=loads, times=1e-5 + 1e-8 * loads), "linear")
        for stage in ("attention", "ffn", "transfer")
    ]
    figure = draw_stage_fits(fits, "s")
    figure.canvas.draw()
    for axes in figure.axes[3:]:
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
    layers = {layer.name: layer for layer in figure.charts[""].layers}
    band, line = layers["95 % interval of the curve"].columns, layers["fitted"].columns
    assert (np.asarray(band["low"]) < line["y"]).all()
    assert (line["y"] < np.asarray(band["high"])).all()
