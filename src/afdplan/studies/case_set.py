"""Which cases are done, in one bit each?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["CaseSet"]

_BLOCK = 1 << 10


class CaseSet:
    """A set of case numbers below `cases`; ten million take 1.3 MB.

    Examples
    --------
    >>> done = CaseSet(5)
    >>> done.add([1, 3])
    >>> len(done), list(done.missing())
    (2, [0, 2, 4])
    """

    def __init__(self, cases: int) -> None:
        self.cases = cases
        self._bits = np.zeros((cases + 7) // 8, dtype=np.uint8)

    def add(self, indices: npt.ArrayLike) -> None:
        """Add case numbers."""
        numbers = np.asarray(indices, dtype=np.int64)
        masks = np.left_shift(1, numbers & 7).astype(np.uint8)
        np.bitwise_or.at(self._bits, numbers >> 3, masks)

    def __len__(self) -> int:
        return int(np.bitwise_count(self._bits).sum())

    def missing(self) -> Iterator[int]:
        """Yield the numbers that are not in the set, in increasing order."""
        for start in range(0, self._bits.size, _BLOCK):
            block = self._bits[start : start + _BLOCK]
            absent = np.flatnonzero(np.unpackbits(block, bitorder="little") == 0) + 8 * start
            for index in absent.tolist():
                if index >= self.cases:
                    return
                yield index
