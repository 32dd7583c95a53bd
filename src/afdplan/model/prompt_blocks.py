"""Which blocks does each prompt consist of, so that equal ids are the same prefix?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from afdplan.arrays import IntArray
from afdplan.errors import TraceError
from afdplan.model.checks import check_count, frozen_array

__all__ = ["PromptBlocks"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PromptBlocks:
    """Blocks of prompts, one prompt after the other.

    Attributes
    ----------
    ids
        Of all blocks; an id names the block and all that precedes it.
    ends
        Where the ids of each prompt end, shape (n,), non-decreasing.
    size
        Tokens of a block; the last one of a prompt may have fewer.

    Raises
    ------
    TraceError
        If the ends do not fit the ids.

    Examples
    --------
    >>> blocks = PromptBlocks.of([[7, 8], [], [7, 9, 10]], size=16)
    >>> blocks.ends.tolist(), blocks.part(1, 3).ids.tolist()
    ([2, 2, 5], [7, 9, 10])
    """

    ids: IntArray
    ends: IntArray
    size: int

    def __post_init__(self) -> None:
        ids, ends = frozen_array(self.ids, np.int64), frozen_array(self.ends, np.int64)
        if not ends.size or (np.diff(ends, prepend=0) < 0).any() or ends[-1] != ids.size:
            raise TraceError(f"ends of blocks must not decrease and end at {ids.size}")
        check_count("block size", self.size, error=TraceError)
        object.__setattr__(self, "ids", ids)
        object.__setattr__(self, "ends", ends)

    @classmethod
    def of(cls, lists: Iterable[Sequence[int] | None], size: int) -> PromptBlocks:
        """Return the blocks of prompts that are given as lists of ids; None has none."""
        known = [one or () for one in lists]
        return cls(
            ids=np.array([block for one in known for block in one], np.int64),
            ends=np.cumsum([len(one) for one in known]),
            size=size,
        )

    def part(self, first: int, last: int) -> PromptBlocks:
        """Return the blocks of the prompts ``first <= i < last``."""
        begin = int(self.ends[first - 1]) if first else 0
        ends = self.ends[first:last]
        return PromptBlocks(ids=self.ids[begin : ends[-1]], ends=ends - begin, size=self.size)
