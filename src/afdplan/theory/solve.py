"""What is the best number of attention workers of one problem, and what does the barrier cost?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from afdplan.errors import InvalidInputError
from afdplan.lengths.load_motion import STILL
from afdplan.lengths.token_load import SlotLoad
from afdplan.model import parameters as ask
from afdplan.model.coupling import UNCOUPLED
from afdplan.model.variation import Scatter
from afdplan.theory.cycle import CycleModel
from afdplan.theory.layer_cycle import Bottleneck
from afdplan.theory.mean_field import MeanField
from afdplan.theory.problem import MAXIMUM_WORKERS, RatioProblem
from afdplan.theory.search import WorkerSearch
from afdplan.theory.step_model import StepModel, step_model

__all__ = [
    "RatioSolution",
    "equal_loads",
    "largest_resource",
    "mean_field_of",
    "solve_ratio",
    "worker_limit",
]

EQUAL = 1e-6
"""Share of its deviation that a load is left with where all are equal."""

MOST_CALLS = 1 << 14
"""Of a bundle that is played: dozens of plays take a minute and a gigabyte."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RatioSolution:
    """The optimum of one problem, before anybody asks how sure it is.

    Attributes
    ----------
    model
        Step times of the bundle.
    mean_field
        The same bundle with equal loads of workers and of experts: its bounds.
    search
        The numbers of workers that were evaluated.
    limit
        Largest A considered.
    best
        A with the largest objective.
    optimal_ratio, mean_field_ratio
        Real A/F that maximises the asked method, and the mean field.
    resource_times
        Time of each resource at the real optimum, per layer and microbatch [time].
    barrier_cost
        Share of the throughput of equal loads that unequal ones cost.
    """

    model: StepModel
    mean_field: MeanField
    search: WorkerSearch
    limit: int
    best: int
    optimal_ratio: float
    mean_field_ratio: float
    resource_times: dict[Bottleneck, float]
    barrier_cost: float

    @property
    def bottleneck(self) -> Bottleneck:
        """The resource that needs longest at the real optimum."""
        return largest_resource(self.resource_times)


def solve_ratio(problem: RatioProblem, slots: tuple[SlotLoad, ...]) -> RatioSolution:
    """Return the best number of attention workers.

    Parameters
    ----------
    problem
        What is asked.
    slots
        ``problem.slot_loads()``, which problems with the same requests share.

    Raises
    ------
    InvalidInputError
        If a bundle without the barrier would have more than 16,384 calls at once.
    """
    field = mean_field_of(problem, slots)
    model = step_model(problem, slots)
    limit = worker_limit(problem, slots)
    if model.whole_numbers and limit * problem.microbatches > MOST_CALLS:
        most = MOST_CALLS // problem.microbatches
        raise InvalidInputError(
            f"max_attention_workers must be at most {most:,} without the barrier, got {limit:,}: "
            "every such bundle is played; give fewer, or ffn_workers of one of several bundles"
        )
    workers, weight = problem.ffn_workers, problem.ffn_weight
    field_ratio = field.optimal_ratio(
        ffn_weight=weight, lowest=1 / workers, highest=limit / workers
    )
    search = WorkerSearch(model, limit)
    best = search.best()
    ratio = field_ratio if problem.method == "mean-field" else search.real_best() / workers
    # Slots of one age are never unequal: what they lose against their mean is no barrier.
    barrier_cost = 0.0
    if problem.phase == "random":
        barrier_free = equal_loads(problem, slots)(best)
        barrier_cost = max(1 - search.objective(best) / barrier_free, 0.0)
    return RatioSolution(
        model=model,
        mean_field=field,
        search=search,
        limit=limit,
        best=best,
        optimal_ratio=ratio,
        mean_field_ratio=field_ratio,
        resource_times=model.resources(ratio * workers),
        barrier_cost=barrier_cost,
    )


def worker_limit(problem: RatioProblem, slots: tuple[SlotLoad, ...]) -> int:
    """Return the largest A to consider: as asked, else 64 F or more to hold the optimum."""
    if problem.max_attention_workers is not None:
        return problem.max_attention_workers
    widest = mean_field_of(problem, slots).optimal_ratio(
        ffn_weight=problem.ffn_weight,
        lowest=1 / problem.ffn_workers,
        highest=MAXIMUM_WORKERS / problem.ffn_workers,
    )
    wanted = max(64.0, 1.25 * widest) * problem.ffn_workers
    return min(int(np.ceil(wanted)), MAXIMUM_WORKERS)


def largest_resource(times: dict[Bottleneck, float]) -> Bottleneck:
    """Return the resource that needs longest; the first named wins ties."""
    longest = max(times.values())
    return next(name for name, time in times.items() if time >= longest * (1 - 1e-9))


def mean_field_of(problem: RatioProblem, slots: tuple[SlotLoad, ...]) -> MeanField:
    """Return the same bundle with equal loads: what no barrier would give."""
    latency = problem.latency
    if latency.coupling != UNCOUPLED:  # loads of experts are equal, too
        latency = replace(latency, experts=None, scatter=Scatter())
    return MeanField(
        latency=latency,
        mean_token_loads=problem.mean_token_loads(slots),
        batch_size=problem.batch_size,
        microbatches=problem.counted_microbatches,
        overlap=problem.overlap,
    )


def equal_loads(problem: RatioProblem, slots: tuple[SlotLoad, ...]) -> Callable[[float], float]:
    """Return what A workers would give if all held the mean load [tokens/time per unit of cost].

    All else stays: experts are as uneven, stages scatter as far.
    """
    latency, workers, weight = problem.latency, problem.ffn_workers, problem.ffn_weight
    if latency.experts is None and latency.scatter == Scatter():
        field = mean_field_of(problem, slots)
        return lambda count: field.objective(count / workers, weight)
    blind = replace(problem, execution="synchronous", placement=ask.PLACEMENT.default)
    model = CycleModel(blind, tuple(replace(one.shrunk(EQUAL), motion=STILL) for one in slots))

    def given(count: float) -> float:
        at = np.array([float(count)])
        return float(model.objective(at, model.evaluate(at).mean, weight)[0])

    return given
