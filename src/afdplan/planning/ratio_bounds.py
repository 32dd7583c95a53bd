"""What is the best score that any ratio A / F could reach, for one (m, B)?"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.planning.design import Combination
from afdplan.planning.limits import Limits
from afdplan.planning.ratio_blocks import RatioBlocks
from afdplan.planning.score import Score
from afdplan.planning.space import PairLattice
from afdplan.planning.step_models import StepModels

__all__ = ["BlockScores", "RatioBounds"]


@dataclass(frozen=True, slots=True, eq=False)
class BlockScores:
    """Most score of some combinations in every block.

    Attributes
    ----------
    rows
        Shape (combinations, blocks); 0 where the limits cannot be met.
    columns
        The block of every pair of a lattice, by devices per attention worker.
    """

    combinations: list[Combination]
    rows: FloatArray
    columns: dict[int, IntArray]

    def most(self) -> FloatArray:
        """Return the most score of each combination over the blocks that hold pairs."""
        devices = np.array([combination[0] for combination in self.combinations])
        found = np.zeros(devices.size)
        for number, columns in self.columns.items():
            at = np.flatnonzero(devices == number)
            if at.size and columns.size:
                found[at] = self.rows[np.ix_(at, np.unique(columns))].max(axis=1)
        return found


class RatioBounds:
    """Bounds of the score over all pairs, block by block of r = A / F; computed once.

    In a block, cost per token is least at its upper end and the step at its lower end. Where FFN
    times depend on F, groups of F have blocks of their own. No design of a block can score more.

    Parameters
    ----------
    models
        Lower bounds of the step time.
    score
        What is maximised.
    ffn_devices
        Devices of one FFN worker.
    """

    def __init__(self, models: StepModels, score: Score, ffn_devices: int) -> None:
        self._models = models
        self._score = score
        self._ffn_devices = ffn_devices
        self._known: dict[tuple[str, RatioBlocks], dict[Combination, FloatArray]] = {}
        self._columns: dict[tuple[PairLattice, RatioBlocks], IntArray] = {}

    def scores(
        self,
        combinations: list[Combination],
        blocks: RatioBlocks,
        lattices: dict[int, PairLattice],
        limits: Limits,
    ) -> BlockScores:
        """Return the bounds of each combination."""
        known = self._known.setdefault((limits.statistic, blocks), {})
        new = sorted(
            (one for one in combinations if one not in known), key=lambda one: one.batch_size
        )
        for _, alike in groupby(new, key=lambda one: one.batch_size):
            group = list(alike)
            known.update(zip(group, self._scores(group, blocks, limits), strict=True))
        rows = np.stack([known[combination] for combination in combinations])
        held = limits.meets(rows[:, 1], self._models.tokens_per_step)
        return BlockScores(
            combinations=combinations,
            rows=np.where(held, rows[:, 0], 0.0),
            columns={
                devices: self._blocks_of(lattice, blocks) for devices, lattice in lattices.items()
            },
        )

    def _blocks_of(self, lattice: PairLattice, blocks: RatioBlocks) -> IntArray:
        """Return the block of every pair, shape (n,)."""
        if (lattice, blocks) not in self._columns:
            self._columns[lattice, blocks] = blocks.of(lattice)
        return self._columns[lattice, blocks]

    def _scores(
        self, combinations: list[Combination], blocks: RatioBlocks, limits: Limits
    ) -> FloatArray:
        """Return bounds of score and limited statistic in every block, of one batch size.

        Shape (combinations, 2, blocks).
        """
        devices, m, batch = np.array(combinations).T[:, :, None]
        stages = self._models.times.envelope(blocks, int(batch[0, 0]))
        mean, statistic = self._models.rough_bounds(combinations, stages, limits)
        upper = np.resize(blocks.edges[1:], mean.shape[1])
        tokens = m * batch * self._models.tokens_per_step / mean
        score = self._score.bound(tokens, devices, self._ffn_devices / upper)
        return np.stack([score, statistic], axis=1)
