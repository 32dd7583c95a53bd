"""How are lengths drawn from a discrete law in constant time? Walker's alias method."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from afdplan.compile import U, Whole, compiled, inlined, vector
from afdplan.lengths.discrete import DiscreteLaw

__all__ = ["AliasTable", "alias_table", "length_at"]

SHARE_BITS, WHOLE = 33, 2.0**32
SHARES = 2**SHARE_BITS - 1


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
        small = np.flatnonzero(share < 1)
        large = np.flatnonzero(share >= 1)
        _share_out(share, other, np.resize(small, size), small.size, large, large.size)
        # Share [2^-32] and other length of a column in one number: one look-up, half the cache.
        self.columns = (other << SHARE_BITS) + np.rint(share * WHOLE).astype(np.int64)
        self.lowest = law.lowest


@lru_cache(maxsize=4)
def alias_table(law: DiscreteLaw) -> AliasTable:
    """Return the table of a law, built once for all replications."""
    return AliasTable(law)


@compiled
def _share_out(keep: Any, other: Any, small: Any, few: Any, large: Any, many: Any) -> None:
    """Fill every column that is short from the last that has too much.

    `small` and `large` are stacks of columns, with room for all and as high as `few` and `many`.
    """
    while few > 0 and many > 0:
        few -= 1
        low = small[U(few)]
        high = large[U(many - 1)]
        other[U(low)] = high
        keep[U(high)] -= 1.0 - keep[U(low)]
        if keep[U(high)] < 1.0:
            many -= 1
            small[U(few)] = high
            few += 1
    for k in range(few):  # but for rounding, whole
        keep[U(small[U(k)])] = 1.0
    for k in range(many):
        keep[U(large[U(k)])] = 1.0


@vector
def find_places(numbers: Any, scale: Any, columns: Any, parts: Any) -> None:
    """Find the column that each number names, and which part of it [2^-32].

    `scale` makes the largest number the number of columns.
    """
    for k in range(numbers.size):
        position = scale * numbers[k]
        column = np.int64(position)
        columns[k] = column
        parts[k] = np.int64((position - column) * WHOLE)


@inlined
def length_at(table: Any, column: Any, part: Any) -> Whole:
    """Return by how much the length at a place is longer than the shortest."""
    shared = table[U(column)]
    other = shared >> SHARE_BITS
    # No jump, since which of the two it is cannot be foretold.
    own = -np.int64(part < shared & SHARES)
    return other ^ ((other ^ column) & own)
