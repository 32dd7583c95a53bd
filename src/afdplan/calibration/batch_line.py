"""Which straight line stands for what a layer's products take, against requests?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["BatchLine", "batch_line"]

FloatArray = npt.NDArray[np.float64]


class BatchLine(NamedTuple):
    """A straight line in place of a convex time against requests, and its largest error.

    Attributes
    ----------
    intercept, slope
        Of the line [s, s/request].
    error
        Largest distance from the time in the range it was drawn for [s].
    """

    intercept: float
    slope: float
    error: float


def batch_line(times: FloatArray, batch_size: int | None) -> BatchLine:
    """Return the line that stands for the time of a layer's products against requests.

    With a batch size, the line through the times of no request and of that many, exact at both.
    Without, the best one over all in the sense of the largest error: the chord lowered by half
    the largest gap.

    Parameters
    ----------
    times
        Convex and non-decreasing, of 0, 1, ... requests [s].
    batch_size
        Requests at which the line must be exact, or None.

    Examples
    --------
    >>> batch_line(np.array([2.0, 2.0, 4.0]), None)
    BatchLine(intercept=1.5, slope=1.0, error=0.5)
    """
    if batch_size is not None:
        slope = float(times[batch_size] - times[0]) / batch_size
        return BatchLine(float(times[0]), slope, 0.0)
    requests = np.arange(times.size)
    slope = float(times[-1] - times[0]) / (times.size - 1)
    half_gap = float((times[0] + slope * requests - times).max()) / 2
    return BatchLine(float(times[0]) - half_gap, slope, half_gap)
