"""How many KV tokens does one attention worker hold, all its slots together?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from afdplan.arrays import ComplexArray, FloatArray
from afdplan.lengths.grid_law import GridLaw
from afdplan.lengths.token_load import SlotLoad
from afdplan.model.checks import check_count

__all__ = ["WorkerLoad", "convolve_slots", "gaussian_load"]

EXACT_POINTS = 1 << 15
"""Up to so many possible sums nothing is binned."""
POINTS_PER_STD = 32
"""Grid points per standard deviation of one slot, where binning is needed."""
LOST_PROBABILITY = 1e-13
"""Chance of a load outside the window that the transform keeps."""
GAUSSIAN_REACH = 9.0
GAUSSIAN_POINTS = 64
"""Of a normal law: standard deviations to either side, and grid points per one."""
TILTS = np.geomspace(1e-4, 64.0, 24)
"""Of Chernoff's bound, times the standard deviation of one slot."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WorkerLoad(GridLaw):
    """The law of T_j, the KV tokens of B independent stationary slots, on an even grid.

    Attributes
    ----------
    lowest, spacing
        First grid point and distance of grid points [tokens].
    probabilities
        Chance of ``lowest + k spacing``, shape (n,); sums to 1.
    mean, variance
        B theta and B nu^2, exact [tokens, tokens^2].
    """

    mean: float
    variance: float

    def exceedance(self, tokens: float) -> float:
        """Return ``P(T_j > tokens)``."""
        return float(self.probabilities[self.support > tokens].sum())


def convolve_slots(slot: SlotLoad, batch_size: int) -> WorkerLoad:
    """Return the law of the sum of `batch_size` independent copies of `slot`.

    ``pmf_T = pmf_slot * ... * pmf_slot`` (B times), by one fast Fourier transform.

    Parameters
    ----------
    slot
        Stationary law of one slot [tokens].
    batch_size
        B, number of slots, >= 1.

    Returns
    -------
    WorkerLoad
        Exact (error about 1e-13) while at most 32,768 sums are possible, else binned.

    Notes
    -----
    Binning (`SlotLoad.binned`) keeps the mean and multiplies the standard deviation by at most
    ``1 + 1/(8 * 32^2) = 1.00013``. The transform keeps a window outside which less than 1e-13
    of probability lies, by Chernoff's bound on both tails; what lies outside wraps around.
    Cost: O(N log N) with N about ``640 sqrt(B)`` points, some milliseconds.

    Examples
    --------
    >>> from afdplan.lengths.law import IndependentLengths
    >>> slot = IndependentLengths(prompt="10", decode="uniform:1..3").slot_load()
    >>> load = convolve_slots(slot, 4)
    >>> load.lowest, round(float(load.probabilities @ load.support), 9) == round(load.mean, 9)
    (40.0, True)
    """
    batch_size = check_count("batch_size", batch_size)
    moments = slot.moments
    if batch_size * (slot.probabilities.size - 1) + 1 > EXACT_POINTS:
        factor = math.floor(moments.std / (POINTS_PER_STD * slot.spacing))
        slot = _binned(slot, max(factor, 1))
    pmf = slot.probabilities
    low, high = _window(slot, batch_size)
    size = 1 << (high - low).bit_length()
    folded = np.zeros(-(-pmf.size // size) * size)
    folded[: pmf.size] = pmf
    spectrum = np.fft.rfft(folded.reshape(-1, size).sum(axis=0))
    circular = np.fft.irfft(_power(spectrum, batch_size), size)
    window = np.maximum(np.take(circular, np.arange(low, high + 1), mode="wrap"), 0.0)
    return WorkerLoad(
        lowest=batch_size * slot.lowest + low * slot.spacing,
        spacing=slot.spacing,
        probabilities=window / window.sum(),
        mean=batch_size * moments.mean,
        variance=batch_size * moments.variance,
    )


def gaussian_load(slot: SlotLoad, batch_size: int) -> WorkerLoad:
    """Return a normal law of the same mean and variance; one atom where a slot never varies."""
    from scipy.special import ndtr

    mean = batch_size * slot.moments.mean
    std = math.sqrt(batch_size) * slot.moments.std
    steps = int(GAUSSIAN_REACH * GAUSSIAN_POINTS) if std else 0
    points = np.arange(-steps, steps + 1) / GAUSSIAN_POINTS
    edges = np.concatenate([[-math.inf], (points[1:] + points[:-1]) / 2, [math.inf]])
    lower, upper = ndtr(edges), ndtr(-edges)
    pmf = np.where(edges[1:] <= 0, np.diff(lower), -np.diff(upper))
    return WorkerLoad(
        lowest=mean - GAUSSIAN_REACH * std,
        spacing=std / GAUSSIAN_POINTS,
        probabilities=pmf / pmf.sum(),
        mean=mean,
        variance=std**2,
    )


def _power(values: ComplexArray, exponent: int) -> ComplexArray:
    """Return `values` to a power >= 1 by repeated squaring, ten times as fast as ``**``."""
    result = values.copy()
    for bit in bin(exponent)[3:]:
        result *= result
        if bit == "1":
            result *= values
    return result


def _window(slot: SlotLoad, batch_size: int) -> tuple[int, int]:
    """Return the first and last grid index of the sum that need to be kept."""
    pmf = slot.probabilities
    last = batch_size * (pmf.size - 1)
    if last < EXACT_POINTS:
        return 0, last
    mean, tilts, cumulants = _cumulants(slot)
    allowed = -math.log(LOST_PROBABILITY / 2)
    # Chernoff: P(sum - B mean > x) <= exp(B log M(s) - s x) for every s > 0; take the best s.
    above, below = ((batch_size * cumulants + allowed) / tilts).min(axis=1)
    high = min(last, math.ceil(batch_size * mean + above))
    low = max(0, math.floor(batch_size * mean - below))
    return low, high


@lru_cache(maxsize=16)
def _binned(slot: SlotLoad, factor: int) -> SlotLoad:
    return slot.binned(factor)


@lru_cache(maxsize=16)
def _cumulants(slot: SlotLoad) -> tuple[float, FloatArray, FloatArray]:
    """Return the mean grid index k, some tilts s, and ``log E exp(+-s (k - mean))`` of one slot.

    Shapes (), (n,) and (2, n). The tilts suit sums of 1 to some 100,000 slots.
    """
    pmf = slot.probabilities
    index = np.arange(pmf.size, dtype=np.float64)
    mean = float(pmf @ index)
    std = math.sqrt(float(pmf @ (index - mean) ** 2))
    tilts = TILTS / std
    cumulants = np.empty((2, tilts.size))
    for row, centred in enumerate((index - mean, mean - index)):
        for column, tilt in enumerate(tilts):
            exponent = tilt * centred
            peak = float(exponent.max())
            cumulants[row, column] = peak + math.log(float(pmf @ np.exp(exponent - peak)))
    return mean, tilts, cumulants
