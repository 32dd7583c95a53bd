"""How unequal are workers whose requests are placed longest prompt to lightest worker?

Blind placement leaves a worker's microbatch at a variance of ``B nu^2``. Where of the requests
that enter together the longest prompt goes to the lightest worker, prompts work against the
deviation x of a load from the mean of all workers. A slot is freed every ``E[D]`` steps; a load
moves by a jump J per replacement and forgets x at the rate kappa at which blind loads do, so

    d E[x^2] = 0 :   kappa (B nu^2 + e - W) = (B / E[D]) rho sigma_P sqrt(W),
    kappa = E[J^2] / (2 E[D] nu^2),    e = (B / E[D]) Var(P + D)

with W the variance that the placement sees (e, what has left in the step itself, included),
sigma_P the standard deviation of prompts and rho how well the assigned prompts follow the ranks of
the loads. Of n requests that enter together,

    rho_n = 1/n Sum_k E[Z_(k)] E[P_(k)] / sigma_P     (rho_1 = 0: no choice; rho -> 1)

the k-th smallest of n normal loads met with the k-th smallest prompt; n is 1 + Poisson(A B / E[D]).
The load that is read has been refilled: ``V = W - e``, never below what one prompt leaves over.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any

import numpy as np

from afdplan.arrays import BoolArray, FloatArray
from afdplan.lengths.law import LengthLaw
from afdplan.lengths.token_load import SlotLoad
from afdplan.theory.cycle import CycleModel, StepTimes
from afdplan.theory.layer_cycle import Bottleneck
from afdplan.theory.problem import RatioProblem
from afdplan.theory.shared_times import StageTimes

__all__ = ["STATED_ERROR", "BalancedLoads", "PlacedModel", "cycle_model"]

STATED_ERROR = 0.015
"""Of the step with placed loads; seen: docs/theory/placement.md."""
LEFT_OVER = 0.35
"""Least spread of a balanced load, in standard deviations of a prompt (measured)."""
LEAST = 1e-3
"""Shares below count as equal loads."""
MOST_MIXED = 60
"""So many that enter together are mixed by their chances; more are taken at their mean."""
LEVELS = 1024
LEVEL = 0.75
"""Spreads for which laws are computed are powers of it; between them the step is interpolated."""
COUNTS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64], dtype=np.float64)


class BalancedLoads:
    """How far loads stay apart whose prompts are placed by length, for any A and B.

    Parameters
    ----------
    law
        Joint law of lengths.

    Notes
    -----
    Knows the law only through the variance of a slot's load, its jumps, and the prompts; scaling
    every length changes no share.

    Examples
    --------
    >>> from afdplan.lengths.law import IndependentLengths
    >>> loads = BalancedLoads(IndependentLengths(prompt="geometric:1000", decode="geometric:200"))
    >>> loads.shares(np.array([1.0, 8.0, 64.0]), 64, 1 / 200).round(2)
    array([1.  , 0.27, 0.14])
    """

    def __init__(self, law: LengthLaw) -> None:
        from scipy import special

        slot, prompts = law.slot_load(), law.prompts()
        self.variance, self.square_jump = slot.moments.variance, slot.motion.mean_square_jump
        self.prompt_variance = prompts.variance
        levels = (np.arange(LEVELS) + 0.5) / LEVELS
        order = np.argsort(prompts.points, kind="stable")
        cumulative = np.cumsum(prompts.weights[order])
        at = np.minimum(np.searchsorted(cumulative, levels), order.size - 1)
        lengths = prompts.points[order][at] - prompts.mean
        loads = special.ndtri(levels)
        found = []
        for count in COUNTS:
            rank = np.arange(1, count + 1)[:, None]
            density = np.exp(
                (rank - 1) * np.log(levels)
                + (count - rank) * np.log1p(-levels)
                - special.betaln(rank, count - rank + 1)
            )
            found.append(float(np.mean((density @ lengths) * (density @ loads))) / LEVELS**2)
        self._covariances = np.array([float(np.mean(lengths * loads)), *found[::-1]])
        self._inverse_counts = np.array([0.0, *(1 / COUNTS[::-1])])

    def covariances(self, others: FloatArray) -> FloatArray:
        """Return ``rho sigma_P`` for a mean number of others that enter together, (n,) [tokens]."""
        from scipy import special

        few = np.minimum(others, MOST_MIXED)[:, None]
        counts = np.arange(int(MOST_MIXED + 10 * math.sqrt(MOST_MIXED)))
        chances = np.exp(counts * np.log(few) - few - special.gammaln(counts + 1))
        known = np.interp(1 / (counts + 1), self._inverse_counts, self._covariances)
        many = np.interp(1 / (others + 1), self._inverse_counts, self._covariances)
        found: FloatArray = np.where(others < MOST_MIXED, chances @ known, many)
        return found

    def shares(self, attention_workers: FloatArray, batch_size: int, freed: float) -> FloatArray:
        """Return the standard deviation of a placed load over that of a blind one, shape (n,).

        Parameters
        ----------
        attention_workers
            A > 0, shape (n,).
        batch_size
            B.
        freed
            Replacements per slot and step, ``tokens_per_step / E[D]``, at most 1.
        """
        if self.variance == 0:
            return np.ones_like(attention_workers)
        blind, entering = batch_size * self.variance, batch_size * freed
        forgets = freed * self.square_jump / (2 * self.variance)
        pull = entering * self.covariances(attention_workers * entering) / forgets
        left = entering * max(self.square_jump - self.prompt_variance, 0.0)
        seen = (-pull + np.sqrt(pull**2 + 4 * (blind + left))) / 2
        least = min(LEFT_OVER**2 * self.prompt_variance, blind)
        share = np.sqrt(np.maximum(np.maximum(seen**2 - left, least), LEAST**2 * blind) / blind)
        # Where prompts are alike there is nothing to choose by, and rounding may go beyond 1.
        found: FloatArray = np.where(attention_workers > 1, np.minimum(share, 1.0), 1.0)
        return found


@lru_cache(maxsize=8)
def _balanced_loads(law: LengthLaw) -> BalancedLoads:
    return BalancedLoads(law)


class PlacedModel(CycleModel):
    """The step time of a bundle that places the longest prompt on the lightest worker.

    The law of a worker's load is the blind one drawn together about its mean; what all workers
    have in common (their mean, which no placement moves) is added to the FFN's own scatter, since
    ``E max(X + y, W) = E max(X, W - y)``.
    """

    def __init__(self, problem: RatioProblem, slots: tuple[SlotLoad, ...]) -> None:
        super().__init__(problem, slots)
        self._slots = slots
        self._models: dict[int, CycleModel] = {}
        self._earlier: tuple[PlacedModel, Sequence[float]] | None = None

    def later(self, added: Sequence[float]) -> PlacedModel:
        """Return the model of attention that takes longer; its laws are shared."""
        other = copy.copy(self)
        other._earlier = self, added
        return other

    def _shares(self, attention_workers: FloatArray) -> FloatArray:
        law, tokens = self.problem.law, self.problem.latency.tokens_per_step
        freed = min(tokens / law.mean_decode_tokens, 1.0)
        return _balanced_loads(law).shares(attention_workers, self.problem.batch_size, freed)

    def _model(self, level: int) -> CycleModel:
        if self._earlier is not None:
            model, added = self._earlier
            return model._model(level).later(added)
        if level not in self._models:
            slots = tuple(slot.shrunk(LEVEL**level) for slot in self._slots)
            self._models[level] = CycleModel(self.problem, slots)
        return self._models[level]

    def evaluate_stages(
        self, stages: StageTimes, probabilities: tuple[float, ...] = ()
    ) -> StepTimes:
        """Return the step times, from laws of neighbouring spreads."""
        workers, m = stages.attention_workers, self.problem.counted_microbatches
        common = sum(
            kind.layers * cycle.attention_std
            for kind, cycle in zip(self.problem.latency.attention, self._cycles, strict=True)
        ) / (self.problem.latency.layers * np.sqrt(m * workers))
        shares = self._shares(workers)
        # The law drawn together has its share of it; of equal loads all, but for rounding.
        common = common * np.sqrt(np.maximum(1 - shares**2, 0.0))
        none = np.zeros_like(common)
        between = none if stages.between is None else stages.between
        stages = replace(
            stages,
            fresh=none if stages.fresh is None else stages.fresh,
            between=np.hypot(between, common),
        )
        position = np.log(shares) / np.log(LEVEL)
        below = np.floor(position).astype(np.int64)
        found: dict[str, FloatArray] = {}
        for level in np.unique(np.concatenate([below, below + 1])):
            weight = np.maximum(1 - np.abs(position - level), 0.0)
            near = weight > 0
            if not near.any():
                continue
            steps = self._model(int(level)).evaluate_stages(
                _of_designs(stages, near), probabilities
            )
            for one in fields(StepTimes):
                value: FloatArray = getattr(steps, one.name)
                total = found.setdefault(one.name, np.zeros((workers.size, *value.shape[1:])))
                total[near] += weight[near].reshape(-1, *[1] * (value.ndim - 1)) * value
        return StepTimes(**found)

    def resources(self, attention_workers: float) -> dict[Bottleneck, float]:
        """Return how long each resource needs, for the nearest law."""
        share = self._shares(np.array([float(attention_workers)]))[0]
        return self._model(round(float(np.log(share) / np.log(LEVEL)))).resources(attention_workers)


def cycle_model(problem: RatioProblem, slots: tuple[SlotLoad, ...]) -> CycleModel:
    """Return the step time of a problem's bundle under its placement.

    Parameters
    ----------
    problem
        Everything but the number of attention workers.
    slots
        ``problem.slot_loads()``: of blind placement.
    """
    has_barrier = problem.method != "mean-field" and problem.phase == "random"
    if problem.placement.startswith("longest-prompt") and has_barrier:
        return PlacedModel(problem, slots)
    return CycleModel(problem, slots)


def _of_designs(stages: StageTimes, chosen: BoolArray) -> StageTimes:
    kept: dict[str, Any] = {
        one.name: None if (value := getattr(stages, one.name)) is None else value[chosen]
        for one in fields(StageTimes)
    }
    return StageTimes(**kept)
