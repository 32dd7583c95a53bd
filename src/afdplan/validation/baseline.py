"""What does the paper's baseline deliver over the ratio, in theory and in simulation?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from afdplan.lengths.law import IndependentLengths, LengthLaw
from afdplan.model.bundle import Bundle
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.model.parameters import Start
from afdplan.simulation.scenario import Scenario
from afdplan.theory.cycle import CycleModel
from afdplan.theory.problem import Method, Overlap, RatioProblem
from afdplan.validation.laboratory import Observation

__all__ = [
    "BATCH_SIZE",
    "HORIZON",
    "PAPER_GRID",
    "RATIOS",
    "CurvePoint",
    "baseline_curve",
    "geometric_lengths",
    "paper_scenario",
]

BATCH_SIZE = 256
HORIZON = 10_000
"""Requests per attention worker that the paper simulates."""
PAPER_GRID = (1, 2, 4, 8, 16, 24, 32)
RATIOS = (1, 2, 4, 6, 7, 8, 9, 10, 12, 16, 24, 32)
"""The paper's seven, and those around the optimum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """Throughput per instance at one ratio of the baseline [tokens/time].

    Attributes
    ----------
    attention_workers
        r = A, F = 1.
    mean_field, gaussian, exact
        Ideal overlap.
    pipelined
        Two microbatches in flight, exact barrier.
    pipelined_ffn_idle
        FFN idle fraction of the same.
    fresh
        Simulated as in the paper: from a fresh start, first 80 % of 10,000 requests per worker.
    stationary
        Simulated in the steady state.
    fresh_idle, stationary_idle
        Attention and FFN idle fractions of both simulations.
    """

    attention_workers: int
    mean_field: float
    gaussian: float
    exact: float
    pipelined: float
    pipelined_ffn_idle: float
    fresh: Estimate
    stationary: Estimate
    fresh_idle: tuple[float, float]
    stationary_idle: tuple[float, float]


def geometric_lengths(prompt: int, decode: int) -> IndependentLengths:
    """Return the paper's law with these means [tokens]."""
    return IndependentLengths(prompt=f"geometric:{prompt}", decode=f"geometric:{decode}")


def paper_scenario(
    latency: LatencyModel,
    law: LengthLaw,
    workers: int,
    *,
    batch_size: int = BATCH_SIZE,
    start: Start = "stationary",
    full: bool = False,
) -> Scenario:
    """Return the simulation of `workers` attention workers to one FFN worker.

    Parameters
    ----------
    latency, law, workers, batch_size
        The bundle.
    start
        ``fresh`` is the paper's: first 80 % of the completions of a run from the beginning.
    full
        Twenty runs, not four.
    """
    return Scenario(
        bundle=Bundle(attention_workers=workers, batch_size=batch_size),
        latency=latency,
        lengths=law,
        requests_per_worker=HORIZON,
        start=start,
        window="first-80" if start == "fresh" else "steady",
        replications=20 if full else 4,
    )


def _theory(
    latency: LatencyModel, law: LengthLaw, workers: Sequence[int], overlap: Overlap, method: Method
) -> tuple[list[float], list[float]]:
    """Return throughput per instance and FFN idle fraction at each number of workers."""
    problem = RatioProblem(
        law=law, latency=latency, batch_size=BATCH_SIZE, overlap=overlap, method=method
    )
    model = CycleModel(problem, problem.slot_loads())
    numbers = np.array(workers, dtype=np.float64)
    steps = model.evaluate(numbers)
    throughput: list[float] = model.objective(numbers, steps.mean, 1.0).tolist()
    idle: list[float] = steps.ffn_idle_fraction.tolist()
    return throughput, idle


def baseline_curve(
    latency: LatencyModel,
    law: LengthLaw,
    fresh: Sequence[Observation],
    stationary: Sequence[Observation],
) -> list[CurvePoint]:
    """Return every method and simulation at each of `RATIOS`, whose observations are given."""
    methods: tuple[tuple[Overlap, Method], ...] = (
        ("ideal", "mean-field"),
        ("ideal", "gaussian"),
        ("ideal", "exact"),
        ("pipelined", "exact"),
    )
    theory = [_theory(latency, law, RATIOS, overlap, method) for overlap, method in methods]
    return [
        CurvePoint(
            attention_workers=a,
            mean_field=mean_field,
            gaussian=gaussian,
            exact=exact,
            pipelined=pipelined,
            pipelined_ffn_idle=idle,
            fresh=start.throughput_per_instance,
            stationary=steady.throughput_per_instance,
            fresh_idle=_idle(start),
            stationary_idle=_idle(steady),
        )
        for a, mean_field, gaussian, exact, pipelined, idle, start, steady in zip(
            RATIOS,
            *(throughput for throughput, _ in theory),
            theory[-1][1],
            fresh,
            stationary,
            strict=True,
        )
    ]


def _idle(seen: Observation) -> tuple[float, float]:
    return seen.attention_idle_fraction.value, seen.ffn_idle_fraction.value
