"""Which blocks of ratios A / F cover all pairs?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.planning.source import LatencySource
from afdplan.planning.space import PairLattice

__all__ = ["RatioBlocks"]

RATIO_BLOCKS = 192


@dataclass(frozen=True, slots=True)
class RatioBlocks:
    """Blocks of r = A / F that cover all pairs, and the least F of each group of F."""

    low: float
    high: float
    ffn_numbers: tuple[int, ...]

    @classmethod
    def over(cls, lattices: Iterable[PairLattice], source: LatencySource) -> RatioBlocks:
        """Return the blocks that cover every pair of all lattices.

        Of times that no F changes, one is the group of all; where more F are never faster at equal
        A / F, each power of two begins a group; else each F is one.
        """
        held = [lattice for lattice in lattices if lattice.attention.size]
        low = min((lattice.ratios[0] for lattice in held), default=1.0)
        high = max((lattice.ratios[1] for lattice in held), default=1.0)
        numbers = {int(f) for lattice in held for f in lattice.ffn_numbers}
        if source.shares_ffn_latency:
            numbers = {1 << (f.bit_length() - 1) for f in numbers}
        if source.shares_ffn_times:
            numbers = {1}
        # Powers of two, so that a few more devices need no new bounds.
        return cls(
            2.0 ** math.floor(math.log2(low)),
            2.0 ** math.ceil(math.log2(high)),
            tuple(sorted(numbers)),
        )

    @property
    def edges(self) -> FloatArray:
        """The ends of the blocks of one group, ascending, shape (192 + 1,)."""
        return np.geomspace(self.low, self.high * (1 + 1e-12), RATIO_BLOCKS + 1)

    def of(self, lattice: PairLattice) -> IntArray:
        """Return the block of every pair, shape (n,)."""
        ratio = lattice.attention / lattice.ffn
        found = np.searchsorted(self.edges, ratio, side="right") - 1
        block: IntArray = np.clip(found, 0, RATIO_BLOCKS - 1)
        group = np.searchsorted(self.ffn_numbers, lattice.ffn, side="right") - 1
        return block + RATIO_BLOCKS * group
