"""What would the ratio be for other batch sizes and microbatches?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from afdplan.lengths.token_load import SlotLoad
from afdplan.model.latency import LatencyModel
from afdplan.theory.cycle import Bottleneck, CycleModel
from afdplan.theory.problem import Method, RatioProblem
from afdplan.theory.ratio import RatioPoint
from afdplan.theory.search import WorkerSearch

__all__ = [
    "RatioCase",
    "batch_sizes_around",
    "grid_size",
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
    binding
        The resource that needs longest at each A of `map_workers`.
    resource_times
        Time of each resource there, per layer and microbatch [time].
    map_workers
        Numbers of attention workers of the bottleneck map.
    bottleneck
        The resource that needs longest at the best A.
    """

    batch_size: int
    microbatches: int
    points: tuple[RatioPoint, ...]
    other_methods: dict[Method, tuple[float, ...]]
    best: RatioPoint
    near_equal: tuple[int, int]
    binding: tuple[Bottleneck, ...]
    resource_times: tuple[dict[Bottleneck, float], ...]
    map_workers: tuple[int, ...]
    bottleneck: Bottleneck


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
    limit: int,
    latency_of: Callable[[int], LatencyModel] | None = None,
) -> Iterator[RatioCase]:
    """Yield one case per batch size and number of microbatches around those of the problem.

    Parameters
    ----------
    problem
        What was asked.
    limit
        Largest A considered, >= 1.
    latency_of
        Latency model at a batch size, where it depends on it; else that of the problem.
    """
    columns = np.unique(np.rint(np.geomspace(1, limit, 18))).astype(int).tolist()
    slots = problem.slot_loads()  # a slot's law depends on the requests only
    for batch_size in batch_sizes_around(problem.batch_size):
        latency = problem.latency
        if latency_of is not None and batch_size != problem.batch_size:
            latency = latency_of(batch_size)
        for microbatches in microbatches_around(problem.microbatches, problem.overlap):
            case = replace(
                problem, batch_size=batch_size, microbatches=microbatches, latency=latency
            )
            yield _case(case, slots, limit, tuple(columns))


def grid_size(problem: RatioProblem) -> int:
    """Return how many cases `ratio_grid` yields."""
    sizes = len(batch_sizes_around(problem.batch_size))
    return sizes * len(microbatches_around(problem.microbatches, problem.overlap))


def _case(
    problem: RatioProblem, slots: tuple[SlotLoad, ...], limit: int, columns: tuple[int, ...]
) -> RatioCase:
    model = CycleModel(problem, slots)
    search = WorkerSearch(model, limit)
    best = search.best()
    near = search.near_equal()
    curve = {point.attention_workers: point for point in search.curve()}
    last = max(4 * best, 16)
    shown = shown_workers([a for a in curve if a <= last], [best, *near])
    resources = tuple(model.resources(count) for count in columns)
    return RatioCase(
        batch_size=problem.batch_size,
        microbatches=problem.microbatches,
        points=tuple(curve[count] for count in shown),
        other_methods=_other_methods(problem, slots, np.array(shown, dtype=np.float64)),
        best=curve[best],
        near_equal=near,
        binding=tuple(_longest(times) for times in resources),
        resource_times=resources,
        map_workers=columns,
        bottleneck=_longest(model.resources(best)),
    )


def _longest(times: dict[Bottleneck, float]) -> Bottleneck:
    longest = max(times.values())
    return next(name for name, time in times.items() if time >= longest * (1 - 1e-9))


def _other_methods(
    problem: RatioProblem,
    slots: tuple[SlotLoad, ...],
    workers: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> dict[Method, tuple[float, ...]]:
    """Return the objective by the methods that were not asked for, where they are defined."""
    if problem.horizon is not None or problem.phase == "aligned":
        return {}
    methods: tuple[Method, ...] = ("exact", "gaussian", "mean-field")
    found: dict[Method, tuple[float, ...]] = {}
    for method in methods:
        if method == problem.method:
            continue
        other = replace(problem, method=method)
        model = CycleModel(other, slots)
        steps = model.evaluate(workers).mean
        found[method] = tuple(model.objective(workers, steps, problem.ffn_weight).tolist())
    return found
