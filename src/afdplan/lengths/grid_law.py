"""What is a law on an even grid of tokens or times?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.model.checks import frozen_array

__all__ = ["GridLaw"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GridLaw:
    """Probabilities on an even grid.

    Attributes
    ----------
    lowest, spacing
        First grid point and distance of grid points [of what the law is of]; spacing > 0.
    probabilities
        Chance of ``lowest + k spacing``, shape (n,); sums to 1.
    """

    lowest: float
    spacing: float
    probabilities: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "probabilities", frozen_array(self.probabilities, np.float64))

    @property
    def support(self) -> FloatArray:
        """All grid points, shape (n,)."""
        return self.lowest + self.spacing * np.arange(self.probabilities.size, dtype=np.float64)
