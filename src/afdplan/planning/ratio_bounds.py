"""What is the best score that any ratio A / F could reach, for one (m, B)?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from afdplan.planning.design import Combination
from afdplan.planning.limits import Limits
from afdplan.planning.score import Score
from afdplan.planning.source import LatencySource
from afdplan.planning.space import PairLattice
from afdplan.planning.step_models import StepModels
from afdplan.theory.shared_times import StageTimes

__all__ = ["BlockScores", "RatioBlocks", "RatioBounds"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
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

    def pairs(self, at: int, least: float, among: IntArray) -> IntArray:
        """Return those of some pairs whose block may score more than 0, no less than `least`."""
        row = self.rows[at]
        kept = (row > 0) & (row >= least)
        columns = self.columns[self.combinations[at].attention_devices]
        found: IntArray = among[kept[columns[among]]]
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
        self._envelopes: dict[tuple[int, RatioBlocks], StageTimes] = {}
        self._edges: dict[RatioBlocks, FloatArray] = {}
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
        if blocks not in self._edges:
            edges = np.geomspace(blocks.low, blocks.high * (1 + 1e-12), RATIO_BLOCKS + 1)
            self._edges[blocks] = edges
        for combination in combinations:
            if combination not in known:
                known[combination] = self._scores(combination, blocks, limits)
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
            edges = self._edges[blocks]
            ratio = lattice.attention / lattice.ffn
            block = np.clip(np.searchsorted(edges, ratio, side="right") - 1, 0, RATIO_BLOCKS - 1)
            group = np.searchsorted(blocks.ffn_numbers, lattice.ffn, side="right") - 1
            block += RATIO_BLOCKS * group
            self._columns[lattice, blocks] = block
        return self._columns[lattice, blocks]

    def _scores(self, combination: Combination, blocks: RatioBlocks, limits: Limits) -> FloatArray:
        """Return bounds of score and limited statistic of every block, shape (2, blocks)."""
        devices, microbatches, batch_size = combination
        if (batch_size, blocks) not in self._envelopes:
            self._envelopes[batch_size, blocks] = self._envelope(batch_size, blocks)
        stages = self._envelopes[batch_size, blocks]
        mean, statistic = self._models.rough_bounds(combination, stages, limits)
        upper = np.resize(self._edges[blocks][1:], mean.size)
        tokens = microbatches * batch_size * self._models.tokens_per_step / mean
        return np.stack([self._score.bound(tokens, devices, self._ffn_devices / upper), statistic])

    def _envelope(self, batch_size: int, blocks: RatioBlocks) -> StageTimes:
        """Return FFN and transfer times at the lower end of each block, for one F after another."""
        low, numbers = self._edges[blocks][:-1], blocks.ffn_numbers
        # The real pair (r F, F) stands for the block: loads depend on A / F only.
        ffn = np.repeat(numbers, low.size)
        attention = np.tile(low, len(numbers)) * ffn
        return self._models.stages(attention, ffn, batch_size, at_least=True)
