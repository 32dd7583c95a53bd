"""How large is the load of a bundle that starts with fresh requests, on average over a horizon?

A slot starts a fresh request at step 0. With ``u_j`` the chance that a request starts at step j,
``u_0 = 1`` and ``u_j = sum_{i=1}^{j} P(D = i) u_{j-i}`` (discrete renewal equation), its load is

    E[load at step k] = sum_{j=0}^{k} u_j l(k - j),    l(i) = E[(P + i) 1{D > i}]

The paper averages it over the ``K = N E[D] / S`` steps that N requests last on the S slots of a
worker (S = m B; the paper counts one microbatch).
"""

from __future__ import annotations

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.errors import UnsupportedError
from afdplan.lengths.law import LengthLaw

__all__ = ["horizon_mean_load", "renewal_chances"]


LONGEST = 1 << 22
CONVERGED = 1e-11


def renewal_chances(decode_pmf: FloatArray, steps: int) -> FloatArray:
    """Return u_0, u_1, ...: the chance that a request starts at each step.

    Parameters
    ----------
    decode_pmf
        ``P(D = i)`` for i = 0, 1, ..., with P(D = 0) = 0.
    steps
        How many are wanted. Fewer come back if from there on ``u_j = 1/E[D]`` within 1e-11.

    Notes
    -----
    The generating function is ``u(z) = 1 / (1 - f(z))``; Newton's iteration doubles the number
    of correct coefficients, each time by fast Fourier transforms: O(K log K) in all.

    Examples
    --------
    >>> renewal_chances(np.array([0.0, 0.5, 0.5]), 4)
    array([1.   , 0.5  , 0.75 , 0.625])
    """
    limit = 1.0 / float(decode_pmf @ np.arange(decode_pmf.size))
    chances = np.ones(1)
    while chances.size < steps:
        size = min(2 * chances.size, steps)
        series = np.zeros(size)
        series[: min(size, decode_pmf.size)] = -decode_pmf[:size]
        series[0] += 1.0
        correction = -_product(series, chances, size)
        correction[0] += 2.0
        chances = _product(chances, correction, size)
        tail = chances[chances.size // 4 :]
        if tail.size > 8 * decode_pmf.size and np.abs(tail - limit).max() < CONVERGED * limit:
            break
    return chances


def horizon_mean_load(law: LengthLaw, requests_per_worker: int, slots: int) -> float:
    """Return theta_N, the mean load of a slot from a fresh start over the paper's horizon.

    Parameters
    ----------
    law
        Joint law of lengths.
    requests_per_worker
        N, requests that one attention worker completes, >= 1.
    slots
        Request slots of the worker, m B (the paper's B), >= 1.

    Returns
    -------
    float
        [tokens]. For geometric outputs with p = 1/E[D] it equals
        ``E[P] + (1-p)/p (1 - (1 - (1-p)^K)/(p K))``.

    Raises
    ------
    UnsupportedError
        If the load still swings after 4,194,304 steps (lengths on a lattice): use the steady
        state instead.

    References
    ----------
    arXiv:2601.21351, finite-horizon mean load.
    """
    alive, prompts = law.survival()
    decode_pmf = np.concatenate([[0.0], alive - np.append(alive[1:], 0.0)])
    steps = max(round(requests_per_worker * law.mean_decode_tokens / slots), 1)
    chances = renewal_chances(decode_pmf, min(steps, LONGEST))
    if chances.size == LONGEST < steps:
        raise UnsupportedError(
            f"horizon of {steps} steps is too long for lengths whose load keeps swinging: "
            "leave --horizon out"
        )
    # Sum over k < K of the load: each start at j contributes the first K - j steps of a request.
    served = np.cumsum(prompts + np.arange(alive.size) * alive)
    remaining = np.minimum(steps - 1 - np.arange(chances.size), served.size - 1)
    total = float(chances @ served[remaining])
    later = steps - chances.size  # starts with u_j = 1/E[D]
    if later > 0:
        short = min(later, served.size)
        sums = float(served[:short].sum()) + (later - short) * float(served[-1])
        total += sums / law.mean_decode_tokens
    return total / steps


def _product(left: FloatArray, right: FloatArray, size: int) -> FloatArray:
    fast = 1 << (left.size + right.size - 2).bit_length()
    product: FloatArray = np.fft.irfft(np.fft.rfft(left, fast) * np.fft.rfft(right, fast), fast)
    return product[:size]
