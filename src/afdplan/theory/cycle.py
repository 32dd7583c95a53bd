"""How long is a step of a bundle, for any overlap, method and number of attention workers?"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.lengths.token_load import SlotLoad
from afdplan.theory.layer_cycle import Bottleneck, layer_cycle
from afdplan.theory.layer_order import (
    drained_step,
    played_step,
    slow_workers,
    worker_rounds,
)
from afdplan.theory.problem import RatioProblem
from afdplan.theory.shared_times import StageTimes, shared_times

__all__ = ["CycleModel", "StepTimes", "objective", "stage_times"]

LEVELS = 16
"""Quantiles of the slowest worker over which the ends and changes of a step are averaged."""


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

    whole_numbers = False
    """Whether the number of attention workers must be whole."""

    def __init__(self, problem: RatioProblem, slots: tuple[SlotLoad, ...]) -> None:
        self.problem = problem
        self.mean_token_loads = problem.mean_token_loads(slots)
        self._cycles = [
            layer_cycle(problem, kind, slot, load)
            for kind, slot, load in zip(
                problem.latency.attention, slots, self.mean_token_loads, strict=True
            )
        ]
        latency = problem.latency
        self._occupied = latency.coupling.attention_occupied(
            latency.send, latency.receive, problem.batch_size
        )
        if self._occupied > 0:
            self._cycles = [cycle.later(self._occupied) for cycle in self._cycles]

    @property
    def is_stepped(self) -> bool:
        """Whether step times jump where the peers of an FFN worker become one more."""
        return self.problem.latency.coupling.is_stepped

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
        variance = np.zeros_like(quantiles)
        for kind, cycle in zip(latency.attention, self._cycles, strict=True):
            mean, quantile, fresh = cycle.round(stages, probabilities)
            total, quantiles = total + kind.layers * mean, quantiles + kind.layers * quantile
            variance = variance + kind.layers * fresh
        attention = sum(
            kind.layers * cycle.attention_mean
            for kind, cycle in zip(latency.attention, self._cycles, strict=True)
        )
        if m > 1 and (latency.drain or len(self._cycles) > 1):
            added, each = self._added_in_order(stages, probabilities)
            # No resource does the mean work of all layers any faster.
            busiest = np.maximum(stages.ffn, np.maximum(stages.out, stages.back))
            trip = stages.trip
            least = np.maximum(m * latency.layers * busiest, attention + latency.layers * trip)
            least = latency.step_overhead + np.maximum(least, m * attention)
            total, quantiles = np.maximum(total + added, least), quantiles + each
        if variance.any():
            quantiles = _with_fresh_steps(quantiles, total, variance, probabilities)
        # Idle is who computes nothing: a transfer that occupies a worker is no computing.
        attention = attention - latency.layers * self._occupied
        ffn = stages.ffn if stages.occupied is None else stages.ffn - stages.occupied
        return StepTimes(
            mean=total,
            quantiles=quantiles,
            cycle=(total - latency.step_overhead) / (latency.layers * m),
            attention_idle_fraction=np.maximum(1 - m * attention / total, 0.0),
            ffn_idle_fraction=np.maximum(1 - m * latency.layers * ffn / total, 0.0),
        )

    def _added_in_order(
        self, stages: StageTimes, probabilities: tuple[float, ...]
    ) -> tuple[FloatArray, FloatArray]:
        """Return what layers in their order add to their rounds: mean and at each probability."""
        latency, m, cycles = self.problem.latency, self.problem.counted_microbatches, self._cycles
        levels = np.append((np.arange(LEVELS) + 0.5) / LEVELS, probabilities)
        busiest = np.maximum(stages.ffn, np.maximum(stages.out, stages.back))
        trip = stages.trip
        attention = slow_workers(
            [cycle.slowest_round(stages.attention_workers, levels) for cycle in cycles],
            [cycle.attention_mean for cycle in cycles],
            [cycle.attention_std for cycle in cycles],
            self.problem.load_correlations(),
            attention_workers=stages.attention_workers,
            microbatches=m,
        )
        layers = [kind.layers for kind in latency.attention]
        rounds = np.tensordot(layers, worker_rounds(attention, m * busiest, trip), 1)
        if len(cycles) == 1:
            step = drained_step(
                attention[0].sum(axis=0)[0],
                attention[0, 0, 0],
                cycles[0].slowest_microbatch(stages.attention_workers, levels),
                layers=latency.layers,
                microbatches=m,
                busiest=busiest,
                trip=trip,
            )
        else:
            step = played_step(
                attention,
                latency.kind_of_layer,
                stages.ffn,
                stages.out,
                stages.back,
                is_drained=latency.drain,
                delays=stages.delays,
            )
        added = step - rounds
        return added[:LEVELS].mean(axis=0), added[LEVELS:].T

    def later(self, added: Sequence[float]) -> CycleModel:
        """Return the model of attention that takes longer; its laws are shared.

        Parameters
        ----------
        added
            How much longer a layer of each kind always takes, for one microbatch [time].
        """
        other = copy.copy(self)
        other._cycles = [cycle.later(more) for cycle, more in zip(self._cycles, added, strict=True)]
        return other

    def objective(
        self, attention_workers: FloatArray, step_time: FloatArray, ffn_weight: float
    ) -> FloatArray:
        """Return ``A m B tokens_per_step / (step (A + w F))`` [tokens/time per unit of cost]."""
        return objective(self.problem, attention_workers, step_time, ffn_weight)

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


def objective(
    problem: RatioProblem, attention_workers: FloatArray, step_time: FloatArray, ffn_weight: float
) -> FloatArray:
    """Return ``A m B tokens_per_step / (step (A + w F))`` [tokens/time per unit of cost]."""
    tokens = problem.counted_microbatches * problem.batch_size * attention_workers
    cost = attention_workers + ffn_weight * problem.ffn_workers
    value: FloatArray = tokens * problem.latency.tokens_per_step / step_time / cost
    return value


def _with_fresh_steps(
    quantiles: FloatArray,
    mean: FloatArray,
    variance: FloatArray,
    probabilities: tuple[float, ...],
) -> FloatArray:
    """Return quantiles of steps in which what is drawn afresh does not quite average out.

    Distances from the mean add as variances do, each with its sign.
    """
    from scipy import special

    away = quantiles - mean[:, None]
    apart = special.ndtri(np.array(probabilities)) * np.sqrt(np.maximum(variance, 0.0))
    squares = away * np.abs(away) + apart * np.abs(apart)
    moved: FloatArray = mean[:, None] + np.sign(squares) * np.sqrt(np.abs(squares))
    return moved


def stage_times(problem: RatioProblem, attention_workers: FloatArray) -> StageTimes:
    """Return the FFN and transfer times of bundles with `attention_workers` A, shape (n,)."""
    workers, size = problem.ffn_workers, problem.batch_size
    return shared_times(problem.latency, attention_workers, workers, size)
