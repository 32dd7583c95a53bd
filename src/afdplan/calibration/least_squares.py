"""Which point of a box has the least squares, sought from several starts at once?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from afdplan.arrays import FloatArray

__all__ = ["least_squares"]


_STEPS, _WIDTH = 60, 1e-7
"""Steps of the search, and width of its difference quotients."""
_EASIER, _HARDER = 0.3, 5.0
"""Factors of the damping after a step that helped, and after one that did not."""


def least_squares(
    residuals: Callable[[FloatArray], FloatArray],
    starts: FloatArray,
    low: FloatArray,
    high: FloatArray,
) -> FloatArray:
    """Return the best point that damped Gauss-Newton steps reach, shape (k,).

    Parameters
    ----------
    residuals
        Of points, shape (points, k); returns shape (points, n).
    starts
        Where to begin, shape (starts, k); all are moved together, which is what makes it fast.
    low, high
        Corners of the box, shape (k,).

    References
    ----------
    D. W. Marquardt, SIAM J. Appl. Math. 11 (1963) 431-441; coordinates at a side of the box that
    would leave it stay there for the step.

    Examples
    --------
    >>> found = least_squares(lambda x: np.stack([x[:, 0] - 2.0, x[:, 1] * x[:, 0] - 6.0], axis=1),
    ...     np.array([[1.0, 1.0]]), np.zeros(2), np.array([9.0, 2.5]))
    >>> found.round(3).tolist()  # the side holds the second at 2.5
    [2.345, 2.5]
    """
    points = np.clip(starts, low, high)
    count, size = points.shape
    shifts = _WIDTH * np.concatenate([np.eye(size), -np.eye(size)])
    missed = residuals(points)
    costs = (missed**2).sum(axis=1)
    damping = np.full(count, 1e-2)
    for _ in range(_STEPS):
        near = (points[:, None, :] + shifts).reshape(-1, size)
        after, before = np.split(residuals(near).reshape(count, 2 * size, -1), 2, axis=1)
        slopes = (after - before) / (2 * _WIDTH)
        downhill = -np.einsum("skn,sn->sk", slopes, missed)
        held = ((points <= low) & (downhill < 0)) | ((points >= high) & (downhill > 0))
        slopes[held] = 0.0
        curved = np.einsum("skn,sjn->skj", slopes, slopes)
        scale = np.einsum("skk->sk", curved)
        np.einsum("skk->sk", curved)[:] += damping[:, None] * scale + 1e-12 * scale.max() + 1e-300
        step = np.linalg.solve(curved, np.where(held, 0.0, downhill)[:, :, None])[:, :, 0]
        tried = np.clip(points + step, low, high)
        found = residuals(tried)
        new = (found**2).sum(axis=1)
        better = new < costs
        points[better], missed[better], costs[better] = tried[better], found[better], new[better]
        damping *= np.where(better, _EASIER, _HARDER)
    best: FloatArray = points[costs.argmin()]
    return best
