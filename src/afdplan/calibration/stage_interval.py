"""How far may a fitted curve be off at a load?"""

from __future__ import annotations

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.calibration.stage import StageFit

__all__ = ["curve_half_widths"]

NORMAL = 1.959963984540054
"""The covariance of a fit is widened so that this factor gives Student's 95 % interval."""


def curve_half_widths(fit: StageFit, loads: FloatArray, requests: float = 0.0) -> FloatArray:
    """Return the half-widths of the 95 % interval of the fitted mean time at each load.

    All curves are linear in their coefficients c between knots, ``t = g . c``, so that the
    variance of t is ``g . S g`` with the covariance S of the coefficients.

    Parameters
    ----------
    fit
        The fitted stage.
    loads
        Loads [tokens], shape (n,).
    requests
        At which a time per request counts [requests].

    Returns
    -------
    half_widths
        [time], shape (n,); of the curve, not of a single measurement.

    Examples
    --------
    >>> from afdplan.calibration.stage import fit_stage
    >>> from afdplan.model.measurement import StageSamples
    >>> loads = np.array([8.0, 16, 32, 64, 128, 256])
    >>> noise = np.array([1.01, 0.99, 1.02, 0.98, 1.01, 0.99])
    >>> samples = StageSamples(stage="ffn", loads=loads, times=(100 + 0.5 * loads) * noise)
    >>> fit = fit_stage(samples, "linear")
    >>> at_zero = fit.coefficients["intercept"]
    >>> round(float(curve_half_widths(fit, np.zeros(1))[0] / (at_zero.high - at_zero.value)), 9)
    1.0
    """
    names = tuple(fit.coefficients)
    gradient = np.zeros((loads.size, len(names)))
    columns = {"time_per_request": np.full(loads.size, requests)} | fit.curve.gradient(loads)
    for name, column in columns.items():
        if name in names:  # one that was set to zero has no error of its own
            gradient[:, names.index(name)] = column
    variance = np.einsum("ij,jk,ik->i", gradient, fit.covariance, gradient)
    half: FloatArray = NORMAL * np.sqrt(np.maximum(variance, 0.0))
    return half
