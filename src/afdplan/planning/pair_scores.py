"""How good is each pair of attention and FFN workers, exactly and at most?"""

from __future__ import annotations

from typing import Any

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.planning.design import Combination, Design
from afdplan.planning.limits import Limits
from afdplan.planning.score import Score
from afdplan.planning.space import PairLattice
from afdplan.planning.step_models import StepModels

__all__ = ["PairScores"]


class PairScores:
    """Scores of the pairs of a lattice.

    Parameters
    ----------
    models
        Step times.
    score
        What is maximised.
    """

    def __init__(self, models: StepModels, score: Score) -> None:
        self.models = models
        self.score = score

    def able(self, lattice: PairLattice, least: float, limits: Limits) -> IntArray:
        """Return the pairs of which the fewest bundles score no less than `least`."""
        a, f = lattice.attention * lattice.attention_devices, lattice.ffn * lattice.ffn_devices
        return np.flatnonzero(self.score.ceiling(a, f, lattice.unit, limits) >= least)

    def least_times(
        self,
        combination: Combination,
        lattice: PairLattice,
        index: IntArray,
        limits: Limits,
        barrier_of: Combination | None,
    ) -> tuple[FloatArray, FloatArray]:
        """Return lower bounds of mean and limited statistic.

        From mean loads, or from the barrier of attention at a batch size that is no larger.
        """
        stages = self.models.times.stages(
            lattice.attention[index], lattice.ffn[index], combination.batch_size, at_least=True
        )
        if barrier_of is None:
            mean, statistic = self.models.rough_bounds([combination], stages, limits)
            return mean[0], statistic[0]
        return self.models.tight_bounds(combination, stages, limits, barrier_of)

    def scores(
        self,
        combination: Combination,
        lattice: PairLattice,
        index: IntArray,
        step_time: FloatArray,
        limits: Limits,
    ) -> tuple[FloatArray, IntArray]:
        """Return the score of each pair, 0 where no number of bundles will do, and the bundles."""
        slots = combination.microbatches * combination.batch_size
        return self.scores_of(slots, lattice, index, step_time, limits)

    def scores_of(
        self,
        slots: Any,
        lattice: PairLattice,
        index: IntArray,
        step_time: FloatArray,
        limits: Limits,
    ) -> tuple[FloatArray, IntArray]:
        """Return the same for `slots` requests per attention worker, a number or shape (n,)."""
        a, f, most = lattice.attention[index], lattice.ffn[index], lattice.most_bundles[index]
        tokens = slots * a * self.models.tokens_per_step / step_time
        attention, ffn = a * lattice.attention_devices, f * lattice.ffn_devices
        bundles = self.score.bundles(tokens, attention, ffn, lattice.unit[index], most, limits)
        score = self.score.value(bundles * tokens, bundles * attention, bundles * ffn, limits)
        if limits.devices is not None:
            score = np.where(bundles <= most, score, 0.0)
        return score, bundles

    def design_of(
        self, combination: Combination, lattice: PairLattice, index: int, bundles: int
    ) -> Design:
        """Return the design of one pair of a lattice."""
        devices, microbatches, batch_size = combination
        return Design(
            bundles=bundles,
            attention_workers=int(lattice.attention[index]),
            ffn_workers=int(lattice.ffn[index]),
            batch_size=batch_size,
            microbatches=microbatches,
            attention_devices=devices,
            ffn_devices=lattice.ffn_devices,
        )
