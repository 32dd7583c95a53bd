"""How long does the barrier over all attention workers last?

The slowest of A independent workers: its cumulative law is ``F^A``. With
``G = max(t_C, t_F)`` the paper's ideal-overlap cycle is ``tau = max(G, max_j a_j)`` and

    E[tau] = G + Integral_G^inf (1 - F(t)^A) dt

References: arXiv:2601.21351, barrier correction (there with a normal F).
"""

from __future__ import annotations

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.theory.attention_time import TimeLaw

__all__ = ["barrier_mean", "barrier_quantile"]


def barrier_mean(law: TimeLaw, attention_workers: FloatArray, floor: FloatArray) -> FloatArray:
    """Return ``E[max(G, a_1, ..., a_A)]`` for every pair of A and G.

    Parameters
    ----------
    law
        Law F of one worker's time.
    attention_workers
        A, real numbers > 0, shape (n,).
    floor
        G, what the cycle takes at least [time], shape (n,).

    Returns
    -------
    ndarray
        Shape (n,) [time]. Exact for the given grid law.

    Examples
    --------
    >>> coin = TimeLaw(lowest=0.0, spacing=1.0, probabilities=np.array([0.5, 0.5]))
    >>> barrier_mean(coin, np.array([1.0, 2.0]), np.zeros(2))
    array([0.5 , 0.75])
    """
    with np.errstate(divide="ignore"):
        log_cumulative = np.log(law.cumulative)
    starts, ends = law.support[:-1], law.support[1:]
    above = -np.expm1(np.multiply.outer(attention_workers, log_cumulative[:-1]))
    widths = np.maximum(ends - np.maximum(starts, floor[:, None]), 0.0)
    mean: FloatArray = np.maximum(floor, law.lowest) + (above * widths).sum(axis=1)
    return mean


def barrier_quantile(
    law: TimeLaw, attention_workers: FloatArray, floor: FloatArray, probability: float
) -> FloatArray:
    """Return the smallest t with ``P(max(G, a_1, ..., a_A) <= t) >= probability``, shape (n,)."""
    wanted = probability ** (1.0 / attention_workers)
    # The last cumulative probability is 1: there is always such a time.
    quantile: FloatArray = np.maximum(law.support[np.searchsorted(law.cumulative, wanted)], floor)
    return quantile
