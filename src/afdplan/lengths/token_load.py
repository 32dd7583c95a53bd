"""How many KV tokens does one occupied slot hold, as a law and in its first two moments?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, TypeVar

from afdplan.lengths.blocks import coarse
from afdplan.lengths.grid_law import GridLaw
from afdplan.lengths.load_motion import STILL, LoadMotion

__all__ = ["SlotLoad", "TokenLoad", "once_per_window"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLoad:
    """Mean and variance of the KV tokens of one slot in the long run.

    Attributes
    ----------
    mean
        theta [tokens].
    variance
        nu^2 [tokens^2].

    References
    ----------
    arXiv:2601.21351, Eq. 4-6 (independent prompt, geometric output); the renewal-reward form
    for any joint law is derived in docs/theory/token-load.md.

    Examples
    --------
    >>> TokenLoad(mean=10.0, variance=4.0).std
    2.0
    """

    mean: float
    variance: float

    @property
    def std(self) -> float:
        """Nu, the standard deviation [tokens]."""
        return math.sqrt(self.variance)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlotLoad(GridLaw):
    """The stationary law of one slot's KV tokens on an even grid.

    Attributes
    ----------
    lowest
        Load of the first grid point [tokens].
    spacing
        Distance of grid points [tokens]; 1 keeps every integer, more is binned.
    probabilities
        Chance of ``lowest + k spacing``, shape (n,); sums to 1.
    moments
        Exact mean and variance, before any binning.
    motion
        How the load moves from step to step.

    Notes
    -----
    Binning splits each atom between its two neighbours so that the mean stays exact; the
    variance grows by at most ``spacing^2 / 4`` per slot (`binning_variance` says by how much).
    """

    moments: TokenLoad
    motion: LoadMotion = STILL

    @property
    def highest(self) -> float:
        """Load of the last grid point [tokens]."""
        return self.lowest + self.spacing * (self.probabilities.size - 1)

    @property
    def binning_variance(self) -> float:
        """What binning has added to the variance [tokens^2], >= 0."""
        x = self.support - self.moments.mean
        return max(float(self.probabilities @ x**2) - self.moments.variance, 0.0)

    def binned(self, factor: int) -> SlotLoad:
        """Return the law on a grid `factor` times as coarse, with the same mean.

        Parameters
        ----------
        factor
            Old grid points per new one, >= 1.

        Examples
        --------
        >>> import numpy as np
        >>> fine = SlotLoad(lowest=0.0, spacing=1.0, probabilities=np.array([0.5, 0.5]),
        ...                 moments=TokenLoad(mean=0.5, variance=0.25))
        >>> fine.binned(2).probabilities
        array([0.75, 0.25])
        """
        if factor <= 1:
            return self
        return SlotLoad(
            lowest=self.lowest,
            spacing=self.spacing * factor,
            probabilities=coarse(self.probabilities, factor),
            moments=self.moments,
            motion=self.motion,
        )

    def shrunk(self, share: float) -> SlotLoad:
        """Return the law drawn together about its mean, to `share` (> 0) of its deviation.

        Its motion stays: what balances loads makes them no slower.

        Examples
        --------
        >>> import numpy as np
        >>> wide = SlotLoad(lowest=0.0, spacing=8.0, probabilities=np.array([0.5, 0.5]),
        ...                 moments=TokenLoad(mean=4.0, variance=16.0))
        >>> wide.shrunk(0.25).support
        array([3., 5.])
        """
        mean = self.moments.mean
        return replace(
            self,
            lowest=mean + share * (self.lowest - mean),
            spacing=self.spacing * share,
            moments=TokenLoad(mean=mean, variance=self.moments.variance * share**2),
        )

    def stretched(self, factor: float) -> SlotLoad:
        """Return the law of `factor` (> 0) times the load: the same shape, another mean."""
        if factor == 1:
            return self
        return SlotLoad(
            lowest=self.lowest * factor,
            spacing=self.spacing * factor,
            probabilities=self.probabilities,
            moments=TokenLoad(
                mean=self.moments.mean * factor, variance=self.moments.variance * factor**2
            ),
            motion=self.motion.stretched(factor),
        )


Load = TypeVar("Load", TokenLoad, SlotLoad)


def once_per_window(method: Callable[[Any, int | None], Load]) -> Callable[..., Load]:
    """Return a method of a law that remembers the load of each window [tokens].

    All parts of an answer ask for the same loads, and a long tail takes a while.
    """

    @wraps(method)
    def remembered(law: Any, window: int | None = None) -> Load:
        known = vars(law).setdefault(f"_{method.__name__}", {})
        if window not in known:
            known[window] = method(law, window)
        load: Load = known[window]
        return load

    return remembered
