"""How long is one round of one kind of layers, under any overlap and method?"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, Protocol

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.lengths.load_motion import STILL
from afdplan.lengths.token_load import SlotLoad
from afdplan.model.stages import AttentionLayers
from afdplan.model.variation import ScatterLaw
from afdplan.theory.attention_scatter import EVEN, AttentionScatter, scattered
from afdplan.theory.attention_time import TimeLaw, exact_time, gaussian_time
from afdplan.theory.barrier import barrier_mean, barrier_quantile
from afdplan.theory.constant import aligned_loads, constant_round
from afdplan.theory.fresh_cycle import behind_link, fresh_stage
from afdplan.theory.fresh_times import excess, larger_mean
from afdplan.theory.moving_load import WorkerMotion, moving_load_gain, worker_motion
from afdplan.theory.pipeline import RoundLawTable
from afdplan.theory.problem import Overlap, RatioProblem
from afdplan.theory.shared_times import StageTimes

__all__ = ["Bottleneck", "LayerCycle", "layer_cycle"]

Bottleneck = Literal["attention", "communication", "ffn", "latency"]
TIED = 2 / math.pi
"""How much of the variance of two stations neither keeps: as of a maximum of two normals."""
TRIP_BOUND = 1.002
"""Times its slowest worker's jobs a round is made by its trip."""
NODES = np.polynomial.hermite_e.hermegauss(5)
EVEN_LEVELS = tuple(((np.arange(EVEN) + 0.5) / EVEN).tolist())
SUM_POINTS = 256
"""On which the density of a worker's round is taken for ties, per level of its grid."""


class LayerCycle(Protocol):
    """The round of one kind of layers under one combination of overlap and method.

    Attributes
    ----------
    attention_mean, attention_std
        Time of one worker on one microbatch, mean and standard deviation [time].
    """

    attention_mean: float
    attention_std: float

    def round(
        self, stages: StageTimes, probabilities: tuple[float, ...]
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return mean (n,) and quantiles (n, probabilities) of the round [time].

        Last: the variance of a round, at each of these, by what is drawn afresh in it [time^2].
        """
        ...

    def slowest_round(self, attention_workers: FloatArray, levels: FloatArray) -> FloatArray:
        """Return quantiles of the slowest worker's round at `levels`, shape (levels, n) [time]."""
        ...

    def slowest_microbatch(self, attention_workers: FloatArray, levels: FloatArray) -> FloatArray:
        """Return the same of one microbatch for itself, shape (levels, n) [time]."""
        ...

    def later(self, added: float) -> LayerCycle:
        """Return the cycle of attention that always takes `added` longer [time]; laws are shared.

        What is `added` may be negative, as long as no time becomes so.
        """
        ...

    def resources(self, stages: StageTimes) -> dict[Bottleneck, FloatArray]:
        """Return how long each resource needs per microbatch, shape (n,) [time]."""
        ...


class _PipelinedCycle:
    """m microbatches in flight, random loads: `RoundLawTable`, less what moving loads gain."""

    def __init__(
        self,
        law: TimeLaw,
        microbatches: int,
        *,
        layers: int,
        motion: WorkerMotion,
        std: float,
        ceiling: float,
        scatter: float = 0.0,
        factors: ScatterLaw = "gamma",
    ) -> None:
        self.attention_mean, self.attention_std = law.mean, std
        self._law = law
        self._layers = layers
        self._motion = motion
        self._ceiling = ceiling
        self._table = RoundLawTable(law, microbatches)
        self._sums = self._table.sum_cumulative(SUM_POINTS)
        self._fresh = AttentionScatter.of(law, self._sums, microbatches, scatter, factors)

    def round(
        self, stages: StageTimes, probabilities: tuple[float, ...]
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        m = self._table.microbatches
        busiest = np.maximum(stages.ffn, np.maximum(stages.out, stages.back))
        trip, is_fresh = stages.trip, stages.fresh is not None or self._fresh is not None
        floor, levels = m * busiest, probabilities
        if is_fresh:
            floor, levels = m * np.maximum(stages.out, stages.back), (*probabilities, *EVEN_LEVELS)
        law = self._table.evaluate(
            stages.attention_workers, longest_delay=trip, floor=floor, probabilities=levels
        )
        mean, quantiles, variance = law.mean, law.quantiles, np.zeros_like(law.quantiles)
        if is_fresh:
            mean, quantiles, variance = self._with_fresh(stages, mean, quantiles, np.array(levels))
        wanted = slice(len(probabilities))
        gain = moving_load_gain(
            *self._sums,
            self._motion,
            attention_workers=stages.attention_workers,
            microbatches=m,
            layers=self._layers,
            floor=m * busiest,
            trip=trip,
            ceiling=self._ceiling,
        )
        # However loads move: no resource does its mean work any faster.
        least = np.maximum(m * np.maximum(busiest, self.attention_mean), self.attention_mean + trip)
        return np.maximum(mean - gain, least), quantiles[:, wanted], variance[:, wanted]

    def _with_fresh(
        self, stages: StageTimes, mean: FloatArray, quantiles: FloatArray, levels: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return mean, quantiles and fresh variances of rounds whose times are drawn afresh.

        Of frozen rounds without the FFN's floor; the even levels are the last.
        """
        m, even = self._table.microbatches, slice(-EVEN, None)
        work = m * stages.ffn[:, None]
        sums = self.slowest_round(stages.attention_workers, levels).T
        largest = self.slowest_microbatch(m * stages.attention_workers, levels).T
        link = m * np.maximum(stages.out, stages.back)[:, None]
        trip = np.minimum(largest + stages.trip[:, None], np.maximum(sums, link))
        trip = np.where(quantiles > np.maximum(TRIP_BOUND * sums, link), quantiles, trip)
        attention, std = sums / m, np.zeros_like(sums)
        uneven = np.maximum(trip - attention - stages.trip[:, None], 0.0)
        if self._fresh is not None:
            slack = np.maximum(np.maximum(sums, work) - trip, 0.0)
            attention, trip, std = self._fresh.delayed(
                attention, trip, slack, levels, stages.attention_workers
            )
        own, fresh = std**2, 0.0 if stages.fresh is None else stages.fresh[:, None] ** 2
        both, found, variance = own + fresh, np.zeros_like(sums), np.zeros_like(sums)
        for node, weight in _nodes(stages.between):
            stage, of_attention, of_ffn = fresh_stage(
                attention,
                stages.ffn[:, None] + node,
                trip + node,
                np.sqrt(both),
                m,
                uneven,
            )
            tied = TIED * (m > 1) * of_attention * of_ffn * both
            found = found + weight * stage
            variance = variance + weight * m * (of_attention * own + of_ffn * fresh - tied)
        found = behind_link(found, link / m, trip, variance / m, m)
        # Quantiles at even levels miss a little of the mean; it counts where the FFN does not bind.
        missed = (mean - quantiles[:, even].mean(axis=1)) * (quantiles > work)[:, even].mean(axis=1)
        return m * found[:, even].mean(axis=1) + missed, m * found, variance

    def later(self, added: float) -> LayerCycle:
        other, m = copy.copy(self), self._table.microbatches
        other.attention_mean = self.attention_mean + added
        other._law = replace(self._law, lowest=self._law.lowest + added)
        other._table = self._table.later(added)
        other._fresh = None if self._fresh is None else self._fresh.later(added)
        other._ceiling = self._ceiling + m * added
        times, cumulative = self._sums
        other._sums = times + m * added, cumulative
        return other

    def slowest_round(self, attention_workers: FloatArray, levels: FloatArray) -> FloatArray:
        each = np.exp(np.log(levels)[:, None] / attention_workers)
        times, cumulative = self._sums
        if self._law.probabilities.size == 1:  # a time that never varies
            return np.full_like(each, self._table.microbatches * self.attention_mean)
        return np.interp(each, cumulative, times)

    def slowest_microbatch(self, attention_workers: FloatArray, levels: FloatArray) -> FloatArray:
        return _slowest(self._law, attention_workers, levels)

    def resources(self, stages: StageTimes) -> dict[Bottleneck, FloatArray]:
        m = self._table.microbatches
        nothing = np.zeros_like(stages.ffn)
        total = self._table.evaluate(stages.attention_workers, longest_delay=nothing, floor=nothing)
        longest = barrier_mean(self._law, m * stages.attention_workers, nothing)
        return {
            "attention": total.mean / m,
            "communication": np.maximum(stages.out, stages.back),
            "ffn": stages.ffn,
            "latency": (longest + stages.ffn + stages.out + stages.back - stages.saved) / m,
        }


class _IdealCycle:
    """The paper's ``tau = max(max_j a_j, t_C, t_F)`` with random loads."""

    def __init__(self, law: TimeLaw) -> None:
        self.attention_mean, self.attention_std = law.mean, law.std
        self._law = law

    def round(
        self, stages: StageTimes, probabilities: tuple[float, ...]
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        floor = np.maximum(stages.out, stages.back)
        levels = probabilities
        if stages.fresh is None:
            floor = np.maximum(stages.ffn, floor)
        else:
            levels = (*probabilities, *EVEN_LEVELS)
        found = [
            barrier_quantile(self._law, stages.attention_workers, floor, probability)
            for probability in levels
        ]
        mean = barrier_mean(self._law, stages.attention_workers, floor)
        quantiles = np.stack(found, axis=1) if found else np.empty((floor.size, 0))
        if stages.fresh is None:
            return mean, quantiles, np.zeros_like(quantiles)
        # A step averages what is fresh: its quantile is that of the loads, at the mean of the rest.
        between = 0.0 if stages.between is None else stages.between
        work, std = stages.ffn, np.sqrt(stages.fresh**2 + between**2)
        wanted, even = quantiles[:, : len(probabilities)], quantiles[:, len(probabilities) :]
        paid, chance = excess(work[:, None], std[:, None], wanted)
        variance = chance * stages.fresh[:, None] ** 2
        return larger_mean(mean, even, work, std), wanted + paid, variance

    def slowest_microbatch(self, attention_workers: FloatArray, levels: FloatArray) -> FloatArray:
        return _slowest(self._law, attention_workers, levels)

    slowest_round = slowest_microbatch  # a perfect overlap counts one microbatch

    def later(self, added: float) -> LayerCycle:
        return _IdealCycle(replace(self._law, lowest=self._law.lowest + added))

    def resources(self, stages: StageTimes) -> dict[Bottleneck, FloatArray]:
        nothing = np.zeros_like(stages.ffn)
        return {
            "attention": barrier_mean(self._law, stages.attention_workers, nothing),
            "communication": np.maximum(stages.out, stages.back),
            "ffn": stages.ffn,
        }


class _ConstantCycle:
    """Loads that are no random variables: one per age, visited in turn."""

    def __init__(self, attention: FloatArray, microbatches: int, overlap: Overlap) -> None:
        self.attention_mean, self.attention_std = float(attention.mean()), 0.0
        self._attention = attention[:, None]
        self._microbatches = microbatches
        self._overlap = overlap

    def round(
        self, stages: StageTimes, probabilities: tuple[float, ...]
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        f, out, back = stages.ffn, stages.out, stages.back
        if self._overlap == "ideal":
            rounds = np.maximum(self._attention, np.maximum(f, np.maximum(out, back)))
        else:
            rounds = constant_round(self._attention, f, out, back, self._microbatches, stages.saved)
        quantiles = np.quantile(rounds, probabilities, axis=0, method="inverted_cdf").T
        quantiles = quantiles.reshape(rounds.shape[1], len(probabilities))
        return rounds.mean(axis=0), quantiles, np.zeros_like(quantiles)

    def later(self, added: float) -> LayerCycle:
        return _ConstantCycle(self._attention[:, 0] + added, self._microbatches, self._overlap)

    def slowest_microbatch(self, attention_workers: FloatArray, levels: FloatArray) -> FloatArray:
        ages = np.quantile(self._attention[:, 0], levels, method="inverted_cdf")
        return np.multiply.outer(ages, np.ones_like(attention_workers))

    def slowest_round(self, attention_workers: FloatArray, levels: FloatArray) -> FloatArray:
        return self._microbatches * self.slowest_microbatch(attention_workers, levels)

    def resources(self, stages: StageTimes) -> dict[Bottleneck, FloatArray]:
        attention = np.full_like(stages.ffn, self.attention_mean)
        times: dict[Bottleneck, FloatArray] = {
            "attention": attention,
            "communication": np.maximum(stages.out, stages.back),
            "ffn": stages.ffn,
        }
        if self._overlap == "pipelined":
            trip = attention + stages.ffn + stages.out + stages.back - stages.saved
            times["latency"] = trip / self._microbatches
        return times


def _nodes(between: FloatArray | None) -> Iterator[tuple[FloatArray | float, float]]:
    """Yield by how much a layer's FFN differs from the mean of all, shape (n, 1), and weights."""
    if between is None or not between.any():
        yield 0.0, 1.0
        return
    for node, weight in zip(*NODES, strict=True):
        yield float(node) * between[:, None], float(weight / NODES[1].sum())


def _slowest(law: TimeLaw, attention_workers: FloatArray, levels: FloatArray) -> FloatArray:
    nothing = np.zeros_like(attention_workers)
    return np.stack([barrier_quantile(law, attention_workers, nothing, p) for p in levels])


def layer_cycle(
    problem: RatioProblem, kind: AttentionLayers, slot: SlotLoad, mean_load: float
) -> LayerCycle:
    """Return the cycle of one kind of layers under the problem's overlap and method."""
    batch_size, m = problem.batch_size, problem.counted_microbatches
    if problem.phase == "aligned" or problem.method == "mean-field":
        loads = np.array([mean_load])
        if problem.phase == "aligned":
            loads = aligned_loads(problem.law, kind.context_window)
        return _ConstantCycle(kind.time(batch_size * loads, batch_size), m, problem.overlap)
    time_law = exact_time if problem.method == "exact" else gaussian_time
    latency = problem.latency
    times, scatter = time_law(slot, kind, batch_size), latency.scatter.attention
    if problem.overlap == "ideal":
        return _IdealCycle(scattered(times, scatter, latency.scatter.law))
    # A pipeline that empties after each step starts every step on its own, and between kinds of
    # layers the schedule changes anyway: nothing to gain.
    motion = STILL if latency.drain or len(latency.attention) > 1 else slot.motion
    std, spread = times.std, math.sqrt(batch_size) * slot.moments.std
    return _PipelinedCycle(
        times,
        m,
        layers=latency.layers,
        scatter=scatter,
        factors=latency.scatter.law,
        std=std,
        ceiling=math.inf
        if kind.context_window is None
        else m * kind.time(float(batch_size * kind.context_window), batch_size),
        motion=worker_motion(
            motion, m * batch_size, std / spread if spread else 0.0, latency.tokens_per_step
        ),
    )
