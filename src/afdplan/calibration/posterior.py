"""Which coefficients are as likely as the best ones, when data identify only some of them?"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.errors import LatencyModelError

__all__ = ["posterior_draws"]


_PARTICLES = 3000
_MOVES = 10
_LAST_MOVES = 40
_MOST_STEPS = 300
"""Of switching the density on: sharp but sound measurements need a few dozen."""


def posterior_draws(
    log_density: Callable[[FloatArray], FloatArray],
    low: FloatArray,
    high: FloatArray,
    generator: np.random.Generator,
) -> FloatArray:
    """Return draws from ``exp(log_density)`` on a box, shape (draws, k).

    Particles start evenly in the box and the density is switched on step by step: at each step
    half of them are, in effect, replaced by better ones, and all are moved. So no draw is left
    behind in a poor valley, as happens to walkers that start at one point.

    Parameters
    ----------
    log_density
        Logarithm of the density, up to a constant, of points of shape (particles, k).
    low, high
        Corners of the box, shape (k,).
    generator
        Source of randomness.

    References
    ----------
    P. Del Moral, A. Doucet, A. Jasra, J. R. Stat. Soc. B 68 (2006) 411-436 (sequential Monte
    Carlo); C. J. F. ter Braak, Statistics and Computing 16 (2006) 239-249 (the moves).

    Raises
    ------
    LatencyModelError
        If the density is so steep that particles never settle.

    Examples
    --------
    >>> draws = posterior_draws(lambda x: -0.5 * ((x[:, 0] - 3.0) / 0.1) ** 2,
    ...     np.zeros(1), np.full(1, 100.0), np.random.default_rng(1))
    >>> bool(abs(draws.mean() - 3.0) < 0.01 and abs(draws.std() - 0.1) < 0.01)
    True
    """
    points = low + (high - low) * generator.random((_PARTICLES, low.size))
    density = log_density(points)
    heat, steps = 0.0, 0
    while heat < 1.0:
        steps += 1
        if steps > _MOST_STEPS or not np.isfinite(density).all():
            raise LatencyModelError(
                "the measurements contradict every model by far more than their noise: give a "
                "larger noise, or check the units of their times"
            )
        step = _next_step(density, 1.0 - heat)
        weight = np.exp(step * (density - density.max()))
        heat += step
        # Systematic resampling: the least noise among those that keep the expected numbers.
        at = (np.arange(_PARTICLES) + generator.random()) / _PARTICLES
        chosen = np.searchsorted(np.cumsum(weight) / weight.sum(), at).clip(0, _PARTICLES - 1)
        points, density = points[chosen], density[chosen]
        for _ in range(_MOVES if heat < 1.0 else _LAST_MOVES):
            points, density = _move(points, density, heat, log_density, low, high, generator)
    return points


def _next_step(density: FloatArray, most: float) -> float:
    """Return how much of the density to add so that half of the particles stay effective."""
    relative = density - density.max()

    def effective(step: float) -> float:
        weight = np.exp(step * relative)
        return float(weight.sum() ** 2 / (weight**2).sum())

    if effective(most) >= density.size / 2:
        return most
    few, many = 0.0, most
    for _ in range(40):
        middle = (few + many) / 2
        few, many = (middle, many) if effective(middle) >= density.size / 2 else (few, middle)
    return max(few, 1e-12)


def _move(
    points: FloatArray,
    density: FloatArray,
    heat: float,
    log_density: Callable[[FloatArray], FloatArray],
    low: FloatArray,
    high: FloatArray,
    generator: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """Return the particles after one Metropolis step along the difference of two others."""
    count, size = points.shape
    # Each half moves along differences within the other half, so the step is symmetric.
    order = generator.permutation(count)
    for movers, others in ((order[::2], order[1::2]), (order[1::2], order[::2])):
        first, second = generator.choice(others, (2, movers.size))
        length = generator.choice([2.38 / np.sqrt(2 * size), 0.5, 0.1, 1.0], (movers.size, 1))
        jitter = 1e-6 * (high - low) * generator.standard_normal((movers.size, size))
        proposed = points[movers] + length * (points[first] - points[second]) + jitter
        inside = ((proposed >= low) & (proposed <= high)).all(axis=1)
        new = log_density(np.clip(proposed, low, high))
        taken = inside & (np.log(generator.random(movers.size)) < heat * (new - density[movers]))
        points[movers[taken]], density[movers[taken]] = proposed[taken], new[taken]
    return points, density
