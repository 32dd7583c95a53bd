"""How much probability do consecutive grid points hold together, and where is its centre?"""

from __future__ import annotations

import numpy as np

from afdplan.arrays import FloatArray

__all__ = ["block_moments", "coarse"]


def block_moments(probabilities: FloatArray, factor: int) -> tuple[FloatArray, FloatArray]:
    """Return sums of `factor` consecutive probabilities, and the same weighted by place.

    Parameters
    ----------
    probabilities
        Shape (n,); long laws have ten million, so that they are read once and never copied.
    factor
        Grid points per block, >= 1.

    Returns
    -------
    tuple of ndarray
        ``sum p`` and ``sum p (k mod factor) / factor`` of each block, shape (ceil(n / factor),).

    Examples
    --------
    >>> block_moments(np.array([0.5, 0.25, 0.25]), 2)
    (array([0.75, 0.25]), array([0.125, 0.   ]))
    """
    weights = np.stack([np.ones(factor), np.arange(factor) / factor], axis=1)
    whole = probabilities.size // factor * factor
    moments = probabilities[:whole].reshape(-1, factor) @ weights
    if whole < probabilities.size:
        rest = probabilities[whole:]
        moments = np.concatenate([moments, [rest @ weights[: rest.size]]])
    return moments[:, 0], moments[:, 1]


def coarse(probabilities: FloatArray, factor: int) -> FloatArray:
    """Return the law on every `factor`-th grid point: atoms split between two, their mean kept.

    Examples
    --------
    >>> coarse(np.array([0.5, 0.5]), 2)
    array([0.75, 0.25])
    """
    if factor <= 1:
        return probabilities
    held, to_upper = block_moments(probabilities, factor)
    # What lies inside the last block needs one grid point beyond it.
    split = np.append(held - to_upper, 0.0)
    split[1:] += to_upper
    return split if to_upper[-1] > 0 else split[:-1]
