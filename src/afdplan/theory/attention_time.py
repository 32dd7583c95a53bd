"""How long does one attention worker compute on one microbatch, as a law?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.lengths.grid_law import GridLaw
from afdplan.lengths.token_load import SlotLoad
from afdplan.model.curve import LinearCurve
from afdplan.model.stages import AttentionLayers
from afdplan.theory.worker_load import WorkerLoad, convolve_slots, gaussian_load

__all__ = ["TimeLaw", "constant_time", "exact_time", "gaussian_time"]

TIME_POINTS = 1 << 14
NEGLIGIBLE_SPREAD = 1e-12
"""Times that vary by less than this share count as constant."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TimeLaw(GridLaw):
    """Probabilities of a time on an even grid.

    Attributes
    ----------
    lowest, spacing
        First grid point and distance of grid points [time]; spacing > 0.
    probabilities
        Chance of ``lowest + k spacing``, shape (n,); sums to 1.
    """

    @property
    def cumulative(self) -> FloatArray:
        """``P(time <= grid point)``, shape (n,); the last entry is 1."""
        cumulative = np.minimum(np.cumsum(self.probabilities), 1.0)
        cumulative[-1] = 1.0
        return cumulative

    @property
    def mean(self) -> float:
        """Mean time [time]."""
        return float(self.probabilities @ self.support)

    @property
    def std(self) -> float:
        """Standard deviation [time]."""
        away = np.arange(self.probabilities.size, dtype=np.float64)
        away -= self.probabilities @ away
        np.square(away, out=away)
        return self.spacing * math.sqrt(float(self.probabilities @ away))

    def coarsened(self, points: int) -> TimeLaw:
        """Return the law on at most `points` grid points, with the same mean.

        Nothing below 1e-12 or above 1 - 1e-12 of probability is resolved: it goes to the ends.
        """
        if self.probabilities.size <= points:
            return self
        cumulative = np.cumsum(self.probabilities)
        first = int(np.searchsorted(cumulative, 1e-12))
        last = int(np.searchsorted(cumulative, 1 - 1e-12))
        kept = self.probabilities[first : last + 1].copy()
        kept[0] += self.probabilities[:first].sum()
        kept[-1] += self.probabilities[last + 1 :].sum()
        factor = -(-kept.size // points)
        return spread(
            self.lowest + self.spacing * (first + np.arange(kept.size, dtype=np.float64)),
            kept,
            self.spacing * factor,
        )


def exact_time(slot: SlotLoad, layers: AttentionLayers, batch_size: int) -> TimeLaw:
    """Return the law of ``a = t_A(T) + t_request B + t_context T / B`` for independent slots.

    Parameters
    ----------
    slot
        Stationary law of a slot as these layers see it (their context window applied) [tokens].
    layers
        Attention layers of one kind.
    batch_size
        B, stationary slots [requests].

    Notes
    -----
    Exact for linear curves on the grid of `convolve_slots`; other curves are spread on an even
    time grid of 16,384 points that keeps the mean.
    """
    return _through_curve(convolve_slots(slot, batch_size), layers, batch_size)


def gaussian_time(slot: SlotLoad, layers: AttentionLayers, batch_size: int) -> TimeLaw:
    """Return the same law with T replaced by a normal of equal mean and variance.

    References
    ----------
    arXiv:2601.21351, the Gaussian barrier correction.
    """
    return _through_curve(gaussian_load(slot, batch_size), layers, batch_size)


def constant_time(layers: AttentionLayers, kv_tokens: float, batch_size: int) -> TimeLaw:
    """Return the law of a worker that always holds `kv_tokens` [tokens]: one atom."""
    time = layers.time(kv_tokens, batch_size)
    return TimeLaw(lowest=time, spacing=max(abs(time), 1.0), probabilities=np.ones(1))


def _through_curve(load: WorkerLoad, layers: AttentionLayers, batch_size: int) -> TimeLaw:
    curve = layers.curve
    ends = layers.time(np.maximum(load.support[[0, -1]], 0.0), batch_size)
    if ends[1] - ends[0] <= NEGLIGIBLE_SPREAD * ends[1]:
        return constant_time(layers, load.mean, batch_size)
    if isinstance(curve, LinearCurve):
        return TimeLaw(
            lowest=layers.time(load.lowest, batch_size),
            spacing=(curve.slope + layers.time_per_context / batch_size) * load.spacing,
            probabilities=load.probabilities,
        )
    times = layers.time(np.maximum(load.support, 0.0), batch_size)
    reach = float(times[-1] - times[0])
    return spread(times, load.probabilities, reach / (TIME_POINTS - 1))


def spread(times: FloatArray, probabilities: FloatArray, spacing: float) -> TimeLaw:
    """Return atoms at increasing `times` as a law on an even grid from the first of them.

    Each atom is split between its two grid neighbours so that its mean is kept.
    """
    position = (times - times[0]) / spacing
    below = np.floor(position).astype(np.int64)
    share = position - below
    size = int(below[-1]) + 2
    pmf = np.zeros(size)
    pmf += np.bincount(below, weights=probabilities * (1 - share), minlength=size)
    pmf += np.bincount(below + 1, weights=probabilities * share, minlength=size)
    end = size if pmf[-1] > 0 else size - 1
    return TimeLaw(lowest=float(times[0]), spacing=spacing, probabilities=pmf[:end])
