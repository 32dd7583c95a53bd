"""How are lengths drawn from a discrete law in constant time? Walker's alias method."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from afdplan.lengths.discrete import DiscreteLaw
from afdplan.simulation.compile import compiled

__all__ = ["AliasTable"]

BLOCK = 4096


class AliasTable:
    """A discrete law cut into n columns of equal chance, each shared by at most two lengths.

    Parameters
    ----------
    law
        Law of a length.

    References
    ----------
    Walker, "An efficient method for generating discrete random variables with general
    distributions", ACM Transactions on Mathematical Software 3 (1977).
    """

    def __init__(self, law: DiscreteLaw) -> None:
        size = law.probabilities.size
        share = law.probabilities / law.probabilities.sum() * size
        other = np.arange(size)
        small = np.flatnonzero(share < 1).tolist()
        large = np.flatnonzero(share >= 1).tolist()
        keep = share.tolist()
        while small and large:
            low, high = small.pop(), large[-1]
            other[low] = high
            keep[high] -= 1.0 - keep[low]
            if keep[high] < 1.0:
                small.append(large.pop())
        for column in small + large:
            keep[column] = 1.0
        self.keep = np.array(keep)
        # The other length of a column, then its own: one look-up per draw.
        self.lengths = np.stack([other, np.arange(size)], axis=1).ravel() + law.lowest

    def draw(
        self, generator: np.random.Generator, rows: npt.NDArray[np.int64], column: int
    ) -> None:
        """Fill a column of `rows` with independent lengths [tokens]."""
        if self.keep.size == 1:
            rows[:, column] = self.lengths[1]
            return
        for first in range(0, len(rows), BLOCK):
            part = rows[first : first + BLOCK]
            _look_up(generator.random(len(part)), self.keep, self.lengths, part, column)


@compiled
def _look_up(uniform: Any, keep: Any, lengths: Any, rows: Any, column: Any) -> None:
    """Turn uniform numbers into lengths: the integer part of n u names a column of the table."""
    size = keep.size
    for k in range(uniform.size):
        position = uniform[k] * size
        j = int(position)
        rows[k, column] = lengths[2 * j + (position - j < keep[j])]
