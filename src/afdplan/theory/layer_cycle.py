"""How long is one round of one kind of layers, under any overlap and method?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from afdplan.lengths.load_motion import STILL
from afdplan.lengths.token_load import SlotLoad
from afdplan.model.latency import AttentionLayers
from afdplan.theory.attention_time import TimeLaw, exact_time, gaussian_time
from afdplan.theory.barrier import barrier_mean, barrier_quantile
from afdplan.theory.constant import aligned_loads, constant_round
from afdplan.theory.moving_load import WorkerMotion, moving_load_gain, worker_motion
from afdplan.theory.pipeline import RoundLawTable
from afdplan.theory.problem import Overlap, RatioProblem

__all__ = ["Bottleneck", "LayerCycle", "StageTimes", "layer_cycle"]

FloatArray = npt.NDArray[np.float64]
Bottleneck = Literal["attention", "communication", "ffn", "latency"]
SUM_POINTS = 256
"""On which the density of a worker's round is taken for ties, per level of its grid."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageTimes:
    """Times that all attention workers share, for n designs: f, c_out, c_back and A, shape (n,)."""

    attention_workers: FloatArray
    ffn: FloatArray
    out: FloatArray
    back: FloatArray


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
    ) -> tuple[FloatArray, FloatArray]:
        """Return mean (n,) and quantiles (n, probabilities) of the round [time]."""
        ...

    def slowest_round(self, attention_workers: FloatArray, levels: FloatArray) -> FloatArray:
        """Return quantiles of the slowest worker's round at `levels`, shape (levels, n) [time]."""
        ...

    def slowest_microbatch(self, attention_workers: FloatArray, levels: FloatArray) -> FloatArray:
        """Return the same of one microbatch for itself, shape (levels, n) [time]."""
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
        ceiling: float,
    ) -> None:
        self.attention_mean, self.attention_std = law.mean, law.std
        self._law = law
        self._layers = layers
        self._motion = motion
        self._ceiling = ceiling
        self._table = RoundLawTable(law, microbatches)
        self._sums = self._table.sum_cumulative(SUM_POINTS)

    def round(
        self, stages: StageTimes, probabilities: tuple[float, ...]
    ) -> tuple[FloatArray, FloatArray]:
        m = self._table.microbatches
        busiest = np.maximum(stages.ffn, np.maximum(stages.out, stages.back))
        trip = stages.ffn + stages.out + stages.back
        law = self._table.evaluate(
            stages.attention_workers,
            longest_delay=trip,
            floor=m * busiest,
            probabilities=probabilities,
        )
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
        return np.maximum(law.mean - gain, least), law.quantiles

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
            "latency": (longest + stages.ffn + stages.out + stages.back) / m,
        }


class _IdealCycle:
    """The paper's ``tau = max(max_j a_j, t_C, t_F)`` with random loads."""

    def __init__(self, law: TimeLaw) -> None:
        self.attention_mean, self.attention_std = law.mean, law.std
        self._law = law

    def round(
        self, stages: StageTimes, probabilities: tuple[float, ...]
    ) -> tuple[FloatArray, FloatArray]:
        floor = np.maximum(stages.ffn, np.maximum(stages.out, stages.back))
        quantiles = [
            barrier_quantile(self._law, stages.attention_workers, floor, probability)
            for probability in probabilities
        ]
        return (
            barrier_mean(self._law, stages.attention_workers, floor),
            np.stack(quantiles, axis=1) if quantiles else np.empty((floor.size, 0)),
        )

    def slowest_microbatch(self, attention_workers: FloatArray, levels: FloatArray) -> FloatArray:
        return _slowest(self._law, attention_workers, levels)

    slowest_round = slowest_microbatch  # a perfect overlap counts one microbatch

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
    ) -> tuple[FloatArray, FloatArray]:
        f, out, back = stages.ffn, stages.out, stages.back
        if self._overlap == "ideal":
            rounds = np.maximum(self._attention, np.maximum(f, np.maximum(out, back)))
        else:
            rounds = constant_round(self._attention, f, out, back, self._microbatches)
        return _over_ages(rounds, probabilities)

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
            trip = attention + stages.ffn + stages.out + stages.back
            times["latency"] = trip / self._microbatches
        return times


def _slowest(law: TimeLaw, attention_workers: FloatArray, levels: FloatArray) -> FloatArray:
    nothing = np.zeros_like(attention_workers)
    return np.stack([barrier_quantile(law, attention_workers, nothing, p) for p in levels])


def _over_ages(
    rounds: FloatArray, probabilities: tuple[float, ...]
) -> tuple[FloatArray, FloatArray]:
    quantiles = np.quantile(rounds, probabilities, axis=0, method="inverted_cdf").T
    return rounds.mean(axis=0), quantiles.reshape(rounds.shape[1], len(probabilities))


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
    times = time_law(slot, kind, batch_size)
    if problem.overlap == "ideal":
        return _IdealCycle(times)
    latency = problem.latency
    # A pipeline that empties after each step starts every step on its own, and between kinds of
    # layers the schedule changes anyway: nothing to gain.
    motion = STILL if latency.drain or len(latency.attention) > 1 else slot.motion
    spread = math.sqrt(batch_size) * slot.moments.std
    return _PipelinedCycle(
        times,
        m,
        layers=latency.layers,
        ceiling=math.inf
        if kind.context_window is None
        else m * kind.time(float(batch_size * kind.context_window), batch_size),
        motion=worker_motion(
            motion, m * batch_size, times.std / spread if spread else 0.0, latency.tokens_per_step
        ),
    )
