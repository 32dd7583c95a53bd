"""The residual plot shows the residuals."""

import numpy as np

from afdplan.calibration.stage import fit_stage
from afdplan.model.measurement import StageSamples
from afdplan.plotting.calibrate import draw_stage_fits, residual_panels


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
