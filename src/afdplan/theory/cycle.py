"""How long is a step of a bundle, for any overlap, method and number of attention workers?"""

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
from afdplan.theory.layer_kinds import kinds_gain
from afdplan.theory.moving_load import WorkerMotion, moving_load_gain, worker_motion
from afdplan.theory.pipeline import RoundLawTable
from afdplan.theory.problem import Overlap, RatioProblem

LEVELS = 200
"""Quantiles of the slowest worker over which steps of several kinds of layers are averaged."""

__all__ = ["Bottleneck", "CycleModel", "StageTimes", "StepTimes", "stage_times"]

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


class _LayerCycle(Protocol):
    """The round of one kind of layer under one combination of overlap and method.

    `slowest_round` gives quantiles of the slowest worker's round at these levels of probability,
    shape (levels, n); `round_of_one_worker` the round of a worker that is slowest in another kind
    of layers, whose loads are so correlated with these.
    """

    attention_mean: float

    def round(
        self, stages: StageTimes, probabilities: tuple[float, ...]
    ) -> tuple[FloatArray, FloatArray]: ...

    def last_round(
        self, stages: StageTimes, probabilities: tuple[float, ...]
    ) -> tuple[FloatArray, FloatArray]: ...

    def slowest_round(self, attention_workers: FloatArray, levels: FloatArray) -> FloatArray: ...

    def round_of_one_worker(self, slowest: FloatArray, correlation: float) -> FloatArray: ...

    def resources(self, stages: StageTimes) -> dict[Bottleneck, FloatArray]: ...


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
        self.attention_mean = law.mean
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

    def last_round(
        self, stages: StageTimes, probabilities: tuple[float, ...]
    ) -> tuple[FloatArray, FloatArray]:
        m = self._table.microbatches
        f, c = stages.ffn, stages.out + stages.back
        slowest = np.maximum(f, np.maximum(stages.out, stages.back))
        law = self._table.evaluate(
            stages.attention_workers,
            longest_delay=f + c + (m - 1) * slowest,
            sum_delay=f + c,
            floor=np.zeros_like(f),
            probabilities=probabilities,
        )
        return law.mean, law.quantiles

    def slowest_round(self, attention_workers: FloatArray, levels: FloatArray) -> FloatArray:
        each = np.exp(np.log(levels)[:, None] / attention_workers)
        times, cumulative = self._sums
        if self._law.probabilities.size == 1:  # a time that never varies
            return np.full_like(each, self._table.microbatches * self.attention_mean)
        return np.interp(each, cumulative, times)

    def round_of_one_worker(self, slowest: FloatArray, correlation: float) -> FloatArray:
        mean = self._table.microbatches * self.attention_mean
        return mean + correlation * (slowest - mean)

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
        self.attention_mean = law.mean
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

    last_round = round  # a perfect overlap has no pipeline to empty

    def slowest_round(self, attention_workers: FloatArray, levels: FloatArray) -> FloatArray:
        nothing = np.zeros_like(attention_workers)
        return np.stack(
            [barrier_quantile(self._law, attention_workers, nothing, p) for p in levels]
        )

    def round_of_one_worker(self, slowest: FloatArray, correlation: float) -> FloatArray:
        return self.attention_mean + correlation * (slowest - self.attention_mean)

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
        self.attention_mean = float(attention.mean())
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

    def last_round(
        self, stages: StageTimes, probabilities: tuple[float, ...]
    ) -> tuple[FloatArray, FloatArray]:
        if self._overlap == "ideal":
            return self.round(stages, probabilities)
        m, a, f = self._microbatches, self._attention, stages.ffn
        c = stages.out + stages.back
        slowest = np.maximum(f, np.maximum(stages.out, stages.back))
        rounds = np.maximum(m * a + f + c, a + f + c + (m - 1) * slowest)
        return _over_ages(rounds, probabilities)

    def slowest_round(self, attention_workers: FloatArray, levels: FloatArray) -> FloatArray:
        ages = np.quantile(self._attention[:, 0], levels, method="inverted_cdf")
        return np.multiply.outer(self._microbatches * ages, np.ones_like(attention_workers))

    def round_of_one_worker(self, slowest: FloatArray, correlation: float) -> FloatArray:
        return slowest  # all workers are alike

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


def _over_ages(
    rounds: FloatArray, probabilities: tuple[float, ...]
) -> tuple[FloatArray, FloatArray]:
    quantiles = np.quantile(rounds, probabilities, axis=0, method="inverted_cdf").T
    return rounds.mean(axis=0), quantiles.reshape(rounds.shape[1], len(probabilities))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepTimes:
    """Output steps of n designs.

    Attributes
    ----------
    mean
        Mean step time, ``L m tau + step_overhead``, shape (n,) [time].
    quantiles
        Of the step time, shape (n, probabilities) [time].
    cycle
        tau, mean time per layer and microbatch, shape (n,) [time].
    attention_idle_fraction, ffn_idle_fraction
        eta_A and eta_F, share of the step in which a worker of that side computes nothing,
        shape (n,).
    """

    mean: FloatArray
    quantiles: FloatArray
    cycle: FloatArray
    attention_idle_fraction: FloatArray
    ffn_idle_fraction: FloatArray


class CycleModel:
    """The step time of a bundle as a function of its attention workers.

    Parameters
    ----------
    problem
        Everything but the number of attention workers.
    slots
        The law of a slot's load for each kind of attention layers, `problem.slot_loads()`.
    """

    def __init__(self, problem: RatioProblem, slots: tuple[SlotLoad, ...]) -> None:
        self.problem = problem
        self.mean_token_loads = problem.mean_token_loads(slots)
        self._cycles = [
            _layer_cycle(problem, kind, slot, load)
            for kind, slot, load in zip(
                problem.latency.attention, slots, self.mean_token_loads, strict=True
            )
        ]

    def evaluate(
        self, attention_workers: FloatArray, probabilities: tuple[float, ...] = ()
    ) -> StepTimes:
        """Return the step times of bundles with `attention_workers` A, real > 0, shape (n,).

        Notes
        -----
        Layers of several kinds are taken as moving together: a quantile of the step is the sum
        of the layers' quantiles.
        """
        return self.evaluate_stages(stage_times(self.problem, attention_workers), probabilities)

    def evaluate_stages(
        self, stages: StageTimes, probabilities: tuple[float, ...] = ()
    ) -> StepTimes:
        """Return the step times for FFN and transfer times that the caller knows, shape (n,).

        The law of the attention time depends neither on A nor on the FFN side: a planner that
        compares many FFN workers, or FFN models, pays for it once.
        """
        latency, m = self.problem.latency, self.problem.counted_microbatches
        shape = stages.attention_workers.shape
        total = np.full(shape, latency.step_overhead)
        quantiles = np.full((*shape, len(probabilities)), latency.step_overhead)
        for index, (kind, cycle) in enumerate(zip(latency.attention, self._cycles, strict=True), 1):
            # The very last layer ends when the pipeline is empty, not when its period is over.
            drained = int(latency.drain and index == len(self._cycles))
            mean, quantile = cycle.round(stages, probabilities)
            total = total + (kind.layers - drained) * mean
            quantiles = quantiles + (kind.layers - drained) * quantile
            if drained:
                mean, quantile = cycle.last_round(stages, probabilities)
                total, quantiles = total + mean, quantiles + quantile
        attention = sum(
            kind.layers * cycle.attention_mean
            for kind, cycle in zip(latency.attention, self._cycles, strict=True)
        )
        if len(self._cycles) > 1 and m > 1:
            saved, each = self._kinds_gain(stages, probabilities)
            # No resource does the mean work of all layers any faster.
            busiest = np.maximum(stages.ffn, np.maximum(stages.out, stages.back))
            trip = stages.ffn + stages.out + stages.back
            least = np.maximum(m * latency.layers * busiest, attention + latency.layers * trip)
            least = latency.step_overhead + np.maximum(least, m * attention)
            total, quantiles = np.maximum(total - saved, least), quantiles - each
        return StepTimes(
            mean=total,
            quantiles=quantiles,
            cycle=(total - latency.step_overhead) / (latency.layers * m),
            attention_idle_fraction=np.maximum(1 - m * attention / total, 0.0),
            ffn_idle_fraction=np.maximum(1 - m * latency.layers * stages.ffn / total, 0.0),
        )

    def _kinds_gain(
        self, stages: StageTimes, probabilities: tuple[float, ...]
    ) -> tuple[FloatArray, FloatArray]:
        """Return what a step of several kinds of layers saves: mean and at each probability."""
        latency, m = self.problem.latency, self.problem.counted_microbatches
        levels = np.append((np.arange(LEVELS) + 0.5) / LEVELS, probabilities)
        floor = m * np.maximum(stages.ffn, np.maximum(stages.out, stages.back))
        own = [cycle.slowest_round(stages.attention_workers, levels) for cycle in self._cycles]
        saved = kinds_gain(
            own,
            [
                cycle.round_of_one_worker(slowest, correlation)
                for cycle, slowest, correlation in zip(
                    self._cycles, own, self.problem.load_correlations(), strict=True
                )
            ],
            [kind.layers for kind in latency.attention],
            floor=floor,
            trip=stages.ffn + stages.out + stages.back,
            microbatches=m,
            is_cyclic=not latency.drain,
        )
        return saved[:LEVELS].mean(axis=0), saved[LEVELS:].T

    def objective(
        self, attention_workers: FloatArray, step_time: FloatArray, ffn_weight: float
    ) -> FloatArray:
        """Return ``A m B tokens_per_step / (step (A + w F))`` [tokens/time per unit of cost]."""
        problem = self.problem
        tokens = problem.counted_microbatches * problem.batch_size * attention_workers
        cost = attention_workers + ffn_weight * problem.ffn_workers
        value: FloatArray = tokens * problem.latency.tokens_per_step / step_time / cost
        return value

    def resources(self, attention_workers: float) -> dict[Bottleneck, float]:
        """Return how long each resource needs per layer and microbatch, barriers included [time].

        ``attention`` is the slowest worker, ``communication`` the slower direction, ``ffn`` the
        FFN, and ``latency`` the round trip of one microbatch shared by the m in flight.
        """
        stages = stage_times(self.problem, np.array([float(attention_workers)]))
        totals: dict[Bottleneck, float] = {}
        latency = self.problem.latency
        for kind, cycle in zip(latency.attention, self._cycles, strict=True):
            for name, times in cycle.resources(stages).items():
                share = kind.layers / latency.layers
                totals[name] = totals.get(name, 0.0) + share * float(times[0])
        return totals


def stage_times(problem: RatioProblem, attention_workers: FloatArray) -> StageTimes:
    """Return the FFN and transfer times of bundles with `attention_workers` A, shape (n,)."""
    latency, batch_size = problem.latency, problem.batch_size
    tokens = attention_workers * (batch_size / problem.ffn_workers)
    own = np.full_like(tokens, batch_size)
    out, back = (
        transfer.curve(own if transfer.load == "worker" else tokens)
        for transfer in (latency.send, latency.receive)
    )
    return StageTimes(
        attention_workers=attention_workers, ffn=latency.ffn(tokens), out=out, back=back
    )


def _layer_cycle(
    problem: RatioProblem, kind: AttentionLayers, slot: SlotLoad, mean_load: float
) -> _LayerCycle:
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
