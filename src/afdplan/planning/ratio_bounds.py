"""What is the best score that any ratio A / F could reach, for one (m, B)?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.space import PairLattice
from afdplan.planning.step_models import Combination, StepModels
from afdplan.theory.cycle import StageTimes

__all__ = ["RatioBlocks", "RatioBounds"]

FloatArray = npt.NDArray[np.float64]
RATIO_BLOCKS = 192


@dataclass(frozen=True, slots=True)
class RatioBlocks:
    """Blocks of r = A / F that cover all pairs, and the F that occur."""

    low: float
    high: float
    ffn_numbers: tuple[int, ...]

    @classmethod
    def over(cls, lattices: Iterable[PairLattice]) -> RatioBlocks:
        """Return the blocks that cover every pair of all lattices."""
        held = [lattice for lattice in lattices if lattice.attention.size]
        low = min((lattice.ratios[0] for lattice in held), default=1.0)
        high = max((lattice.ratios[1] for lattice in held), default=1.0)
        # Powers of two, so that a few more devices need no new bounds.
        return cls(
            2.0 ** math.floor(math.log2(low)),
            2.0 ** math.ceil(math.log2(high)),
            tuple(sorted({int(f) for lattice in held for f in lattice.ffn_numbers})),
        )


class RatioBounds:
    """Bounds of the score over all pairs, block by block of r = A / F; computed once.

    In a block, cost per token is least at its upper end and the step at its lower end. Where FFN
    times depend on F, every F has blocks of its own. No design of a block can score more.

    Parameters
    ----------
    models
        Lower bounds of the step time.
    cost
        Of a device of each side.
    ffn_devices
        Devices of one FFN worker.
    """

    def __init__(self, models: StepModels, cost: DeviceCost, ffn_devices: int) -> None:
        self._models = models
        self._cost = cost
        self._ffn_devices = ffn_devices
        self._envelopes: dict[tuple[int, RatioBlocks], StageTimes] = {}
        self._edges: dict[RatioBlocks, FloatArray] = {}
        self._known: dict[tuple[str, RatioBlocks], dict[Combination, FloatArray]] = {}

    def scores(
        self, combinations: list[Combination], blocks: RatioBlocks, limits: Limits
    ) -> FloatArray:
        """Return the bound of each combination, 0 where no ratio can meet the limits."""
        known = self._known.setdefault((limits.statistic, blocks), {})
        if blocks not in self._edges:
            edges = np.geomspace(blocks.low, blocks.high * (1 + 1e-12), RATIO_BLOCKS + 1)
            self._edges[blocks] = edges
        for combination in combinations:
            if combination not in known:
                known[combination] = self._scores(combination, blocks, limits)
        rows = np.stack([known[combination] for combination in combinations])
        held = limits.holds(rows[:, 1], self._models.tokens_per_step)
        best: FloatArray = np.where(held, rows[:, 0], 0.0).max(axis=1)
        return best

    def _scores(self, combination: Combination, blocks: RatioBlocks, limits: Limits) -> FloatArray:
        """Return bounds of score and limited statistic of every block, shape (2, blocks)."""
        devices, microbatches, batch_size = combination
        if (batch_size, blocks) not in self._envelopes:
            self._envelopes[batch_size, blocks] = self._envelope(batch_size, blocks)
        stages = self._envelopes[batch_size, blocks]
        mean, statistic = self._models.rough_bounds(combination, stages, limits)
        upper = np.resize(self._edges[blocks][1:], mean.size)
        ffn_cost = self._cost.ffn * self._ffn_devices / upper
        per_worker = self._cost.attention * devices + ffn_cost
        tokens = microbatches * batch_size * self._models.tokens_per_step
        return np.stack([tokens / (mean * per_worker), statistic])

    def _envelope(self, batch_size: int, blocks: RatioBlocks) -> StageTimes:
        """Return FFN and transfer times at the lower end of each block, for one F after another."""
        low = self._edges[blocks][:-1]
        shared = self._models.source.shares_ffn_times
        numbers = blocks.ffn_numbers[:1] if shared else blocks.ffn_numbers
        # The real pair (r F, F) stands for the block: loads depend on A / F only.
        ffn = np.repeat(numbers, low.size)
        return self._models.stages(np.tile(low, len(numbers)) * ffn, ffn, batch_size)
