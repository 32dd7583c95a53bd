"""How does the load of a slot move from one output step to the next?

A request grows by the same number of tokens per step as every other; what tells one slot from
another is its replacement. A request of load ``g(P + D)`` leaves and one of load ``g(P')`` comes,
``g(y) = min(y, window)``, in a share ``1 / E[D]`` of the steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from afdplan.arrays import FloatArray

__all__ = ["STILL", "Atoms", "LoadMotion", "load_motion"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadMotion:
    """Jumps of one slot's load when its request is replaced.

    Attributes
    ----------
    renewal_rate
        Replacements per output token, ``1 / E[D]``, in [0, 1].
    mean_jump, mean_absolute_jump
        Mean of the jump ``g(P') - g(P + D)`` and of its size [tokens].
    mean_square_jump
        Mean of its square [tokens^2].

    Examples
    --------
    >>> LoadMotion(renewal_rate=0.1, mean_jump=-10.0, mean_absolute_jump=10.0,
    ...            mean_square_jump=100.0).stretched(2.0).mean_square_jump
    400.0
    """

    renewal_rate: float
    mean_jump: float
    mean_absolute_jump: float
    mean_square_jump: float

    def stretched(self, factor: float) -> LoadMotion:
        """Return the motion of `factor` (> 0) times the load."""
        return LoadMotion(
            renewal_rate=self.renewal_rate,
            mean_jump=self.mean_jump * factor,
            mean_absolute_jump=self.mean_absolute_jump * factor,
            mean_square_jump=self.mean_square_jump * factor**2,
        )


STILL = LoadMotion(renewal_rate=0.0, mean_jump=0.0, mean_absolute_jump=0.0, mean_square_jump=0.0)
"""A load that never moves."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Atoms:
    """A law as points with weights, in any order.

    Attributes
    ----------
    points
        Values, shape (n,) [tokens].
    weights
        Their chances, shape (n,); they sum to 1.
    """

    points: FloatArray
    weights: FloatArray

    def cut(self, window: int | None) -> Atoms:
        """Return the law of ``min(x, window)``."""
        if window is None:
            return self
        return Atoms(points=np.minimum(self.points, window), weights=self.weights)

    @property
    def mean(self) -> float:
        """E[X] [tokens]."""
        return float(self.weights @ self.points)

    @property
    def variance(self) -> float:
        """Var(X) [tokens^2]."""
        return float(self.weights @ (self.points - self.mean) ** 2)


def load_motion(starts: Atoms, ends: Atoms, renewal_rate: float) -> LoadMotion:
    """Return how a slot's load moves whose requests come with `starts` and leave with `ends`.

    ``E|X - Y| = Integral F (1 - G) + G (1 - F)`` for independent X, Y with laws F, G.

    Parameters
    ----------
    starts
        Law of ``g(P)`` of the request that comes [tokens].
    ends
        Law of ``g(P + D)`` of the one that leaves, independent of the former [tokens].
    renewal_rate
        Replacements per output token, ``1 / E[D]``.

    Examples
    --------
    >>> two = Atoms(points=np.array([0.0, 2.0]), weights=np.array([0.5, 0.5]))
    >>> one = Atoms(points=np.array([1.0]), weights=np.ones(1))
    >>> motion = load_motion(two, one, 0.5)
    >>> motion.mean_jump, motion.mean_absolute_jump, motion.mean_square_jump
    (0.0, 1.0, 1.0)
    """
    points = np.concatenate([starts.points, ends.points])
    order = np.argsort(points, kind="stable")
    points = points[order]
    none = np.zeros
    first = np.cumsum(np.concatenate([starts.weights, none(ends.points.size)])[order])[:-1]
    second = np.cumsum(np.concatenate([none(starts.points.size), ends.weights])[order])[:-1]
    apart = first * (1 - second) + second * (1 - first)
    jump = starts.mean - ends.mean
    return LoadMotion(
        renewal_rate=renewal_rate,
        mean_jump=jump,
        mean_absolute_jump=max(float(apart @ np.diff(points)), 0.0),
        mean_square_jump=math.fsum((starts.variance, ends.variance, jump**2)),
    )
