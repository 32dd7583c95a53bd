"""What would the ratio be for other batch sizes and microbatches?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from afdplan.lengths.token_load import SlotLoad
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.planning.bottleneck_map import BottleneckMap, bottleneck_maps
from afdplan.theory.layer_cycle import Bottleneck
from afdplan.theory.placement import cycle_model
from afdplan.theory.problem import Method, RatioProblem
from afdplan.theory.ratio import RatioPoint, RatioRecommendation
from afdplan.theory.solve import RatioSolution, equal_loads, largest_resource, solve_ratio

if TYPE_CHECKING:  # the compiler is slow to import
    from afdplan.planning.simulated_ratio import Play
    from afdplan.simulation.paired import Paired

__all__ = [
    "RatioCase",
    "RatioGrid",
    "asked_case",
    "batch_sizes_around",
    "microbatches_around",
    "ratio_grid",
    "shown_workers",
]

MOST_SHOWN = 36
BATCH_FACTORS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
LARGEST_BATCH = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioCase:
    """The answer for one batch size and number of microbatches.

    Attributes
    ----------
    batch_size, microbatches
        B and m.
    points
        The curve of the asked method, thinned for the eye; it holds the best point.
    other_methods
        The objective at the same numbers of workers by every other method that applies.
    best
        The best of all numbers of workers, also those that are not shown.
    near_equal
        Smallest and largest A around it within 1 %.
    optimal_ratio
        Real A/F that is best.
    resource_times
        Time of each resource there, per layer and microbatch [time].
    bottleneck
        The largest of them.
    barrier_cost
        Share of the throughput that waiting for the slowest worker costs.
    objectives
        With intervals, of every A, where it was played; None by formula.
    """

    batch_size: int
    microbatches: int
    points: tuple[RatioPoint, ...]
    other_methods: dict[Method, tuple[float, ...]]
    best: RatioPoint
    near_equal: tuple[int, int]
    optimal_ratio: float
    resource_times: dict[Bottleneck, float]
    bottleneck: Bottleneck
    barrier_cost: float
    objectives: dict[int, Estimate] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RatioGrid:
    """The answers for batches around the asked one.

    Attributes
    ----------
    cases
        One per batch size and number of microbatches.
    maps
        What binds there at other numbers of workers, one per number of microbatches.
    """

    cases: tuple[RatioCase, ...]
    maps: tuple[BottleneckMap, ...]


def asked_case(
    answer: RatioRecommendation, objectives: dict[int, Estimate] | None = None
) -> RatioCase:
    """Return the case of a recommendation, with its own method only; `objectives` if played."""
    return RatioCase(
        batch_size=answer.bundle.batch_size,
        microbatches=answer.bundle.microbatches,
        points=_thinned(answer.curve, answer.optimal_attention_workers, answer.near_equal),
        other_methods={},
        best=answer.best,
        near_equal=answer.near_equal,
        optimal_ratio=answer.optimal_ratio,
        resource_times=answer.resource_times,
        bottleneck=answer.bottleneck,
        barrier_cost=answer.barrier_cost,
        objectives=objectives,
    )


def _thinned(
    curve: Sequence[RatioPoint], best: int, near: tuple[int, int]
) -> tuple[RatioPoint, ...]:
    """Return the curve up to four times its best, thinned for the eye."""
    last = max(4 * best, 16)
    near_by = [point.attention_workers for point in curve if point.attention_workers <= last]
    shown = set(shown_workers(near_by, [best, *near]))
    return tuple(point for point in curve if point.attention_workers in shown)


def batch_sizes_around(batch_size: int) -> tuple[int, ...]:
    """Return the batch size and its multiples by powers of two, an eighth to eight times.

    Examples
    --------
    >>> batch_sizes_around(256), batch_sizes_around(3)
    ((32, 64, 128, 256, 512, 1024, 2048), (1, 2, 3, 6, 12, 24))
    """
    sizes = {round(batch_size * factor) for factor in BATCH_FACTORS}
    kept = {size for size in sizes if 1 <= size <= LARGEST_BATCH}
    return tuple(sorted(kept | {batch_size}))


def microbatches_around(microbatches: int, overlap: str) -> tuple[int, ...]:
    """Return 1 to 4 and what was asked; ideal overlap knows only one.

    Examples
    --------
    >>> microbatches_around(6, "pipelined"), microbatches_around(2, "ideal")
    ((1, 2, 3, 4, 6), (2,))
    """
    if overlap == "ideal":
        return (microbatches,)
    return tuple(sorted({1, 2, 3, 4, microbatches}))


def shown_workers(workers: Sequence[int], keep: Sequence[int]) -> tuple[int, ...]:
    """Return at most about 36 of the sorted `workers`, evenly on a logarithm, and all of `keep`.

    Examples
    --------
    >>> shown_workers(range(1, 5), [2])
    (1, 2, 3, 4)
    """
    if len(workers) <= MOST_SHOWN:
        return tuple(workers)
    numbers = np.array(workers)
    wanted = np.geomspace(numbers[0], numbers[-1], MOST_SHOWN)
    nearest = numbers[np.abs(numbers[:, None] - wanted).argmin(axis=0)]
    return tuple(sorted({*nearest.tolist(), *keep} & set(workers)))


def ratio_grid(
    problem: RatioProblem,
    *,
    most_requests: int | None = None,
    latency_of: Callable[[int], LatencyModel] | None = None,
    play: Play | None = None,
    runs: Mapping[int, Paired] = MappingProxyType({}),
    progress: Callable[[float], None] = lambda _: None,
) -> RatioGrid:
    """Return one case per batch size and number of microbatches around those of the problem.

    Parameters
    ----------
    problem
        What was asked.
    most_requests
        Most request slots of a worker, m B, that its memory holds: no case is beyond it.
    latency_of
        Latency model at a batch size, where it depends on it; else that of the problem.
    play
        What to play for a problem and an A, where formulas do not know what is asked.
    runs
        What has been played of the problem itself, by A.
    progress
        Told the share that is done.
    """
    slots = problem.slot_loads()  # a slot's law depends on the requests only
    sizes = batch_sizes_around(problem.batch_size)
    counts = microbatches_around(problem.microbatches, problem.overlap)
    if most_requests is not None:  # every size is offered with every count
        counts = tuple(m for m in counts if m * problem.batch_size <= most_requests)
        sizes = tuple(size for size in sizes if size * max(counts) <= most_requests)
    asked = problem.batch_size, problem.microbatches
    cases, models = [], []
    for batch_size in sizes:
        latency = problem.latency
        if latency_of is not None and batch_size != problem.batch_size:
            latency = latency_of(batch_size)
        for count in counts:
            case = replace(problem, batch_size=batch_size, microbatches=count, latency=latency)
            solved = solve_ratio(case, slots)
            models.append(solved.model)
            if play is None:
                cases.append(_case(case, slots, solved))
            else:
                mine = runs if (batch_size, count) == asked else {}
                cases.append(_played_case(case, slots, solved, play, mine))
            progress(len(cases) / (len(sizes) * len(counts)))
    keys = [(case.batch_size, case.microbatches) for case in cases]
    return RatioGrid(
        cases=tuple(cases),
        maps=bottleneck_maps(
            {key: model.resources for key, model in zip(keys, models, strict=True)},
            {key: case.best.attention_workers for key, case in zip(keys, cases, strict=True)},
        ),
    )


def _case(problem: RatioProblem, slots: tuple[SlotLoad, ...], solved: RatioSolution) -> RatioCase:
    curve, near = solved.search.curve(), solved.search.near_equal()
    points = _thinned(curve, solved.best, near)
    workers = np.array([point.attention_workers for point in points], dtype=np.float64)
    return RatioCase(
        batch_size=problem.batch_size,
        microbatches=problem.microbatches,
        points=points,
        other_methods=_other_methods(problem, slots, workers, problem.method),
        best=next(point for point in points if point.attention_workers == solved.best),
        near_equal=near,
        optimal_ratio=solved.optimal_ratio,
        resource_times=solved.resource_times,
        bottleneck=solved.bottleneck,
        barrier_cost=solved.barrier_cost,
    )


def _played_case(
    problem: RatioProblem,
    slots: tuple[SlotLoad, ...],
    solved: RatioSolution,
    play: Play,
    runs: Mapping[int, Paired],
) -> RatioCase:
    """Return what is played; what binds is told by the formulas at the A that is best so."""
    from afdplan.planning.simulated_ratio import AROUND_SECONDS, PlayedSearch

    between = solved.best, solved.mean_field_ratio
    search = PlayedSearch(problem, play, between, runs=runs, seconds=AROUND_SECONDS)
    best, points = search.best(), search.curve()
    workers = np.array([point.attention_workers for point in points], dtype=np.float64)
    ratio = best / problem.ffn_workers
    free = equal_loads(problem, slots)(best)
    resources = solved.model.resources(float(best))
    has_barrier = problem.execution == "synchronous"
    return RatioCase(
        batch_size=problem.batch_size,
        microbatches=problem.microbatches,
        points=points,
        other_methods=_other_methods(problem, slots, workers, None) if has_barrier else {},
        best=next(point for point in points if point.attention_workers == best),
        near_equal=search.near_equal(),
        optimal_ratio=ratio,
        resource_times=resources,
        bottleneck=largest_resource(resources),
        barrier_cost=max(1 - search.value(best) / free, 0.0),
        objectives=search.objectives(),
    )


def _other_methods(
    problem: RatioProblem,
    slots: tuple[SlotLoad, ...],
    workers: np.ndarray[tuple[int], np.dtype[np.float64]],
    asked: Method | None,
) -> dict[Method, tuple[float, ...]]:
    """Return the objective by the methods that were not asked for, where they are defined."""
    if problem.horizon is not None or problem.phase == "aligned":
        return {}
    methods: tuple[Method, ...] = ("exact", "gaussian", "mean-field")
    found: dict[Method, tuple[float, ...]] = {}
    for method in methods:
        if method == asked:
            continue
        other = replace(problem, method=method)
        model = cycle_model(other, slots)
        steps = model.evaluate(workers).mean
        found[method] = tuple(model.objective(workers, steps, problem.ffn_weight).tolist())
    return found
