"""What would the ratio be for other batch sizes and microbatches?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from afdplan.lengths.token_load import SlotLoad
from afdplan.model.latency import LatencyModel
from afdplan.theory.cycle import CycleModel
from afdplan.theory.layer_cycle import Bottleneck
from afdplan.theory.problem import Method, RatioProblem
from afdplan.theory.ratio import RatioPoint
from afdplan.theory.solve import solve_ratio

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
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
    model
        What tells the times of any other number of workers.
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
    model: CycleModel


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
    max_attention_workers: int | None = None,
    batch_sizes: Sequence[int] = (),
    microbatches: Sequence[int] = (),
    latency_of: Callable[[int], LatencyModel] | None = None,
) -> Iterator[RatioCase]:
    """Yield one case per batch size and number of microbatches around those of the problem.

    Parameters
    ----------
    problem
        What was asked.
    max_attention_workers
        Largest A considered, >= 1; by default each case looks as far as its own optimum asks.
    batch_sizes, microbatches
        Values of B and m, in place of `batch_sizes_around` and `microbatches_around`.
    latency_of
        Latency model at a batch size, where it depends on it; else that of the problem.
    """
    slots = problem.slot_loads()  # a slot's law depends on the requests only
    for batch_size in batch_sizes or batch_sizes_around(problem.batch_size):
        latency = problem.latency
        if latency_of is not None and batch_size != problem.batch_size:
            latency = latency_of(batch_size)
        for count in microbatches or microbatches_around(problem.microbatches, problem.overlap):
            case = replace(problem, batch_size=batch_size, microbatches=count, latency=latency)
            yield _case(case, slots, max_attention_workers)


def grid_size(problem: RatioProblem) -> int:
    """Return how many cases `ratio_grid` yields."""
    sizes = len(batch_sizes_around(problem.batch_size))
    return sizes * len(microbatches_around(problem.microbatches, problem.overlap))


def _case(
    problem: RatioProblem, slots: tuple[SlotLoad, ...], max_attention_workers: int | None
) -> RatioCase:
    solved = solve_ratio(problem, slots, max_attention_workers)
    best, near = solved.best, solved.search.near_equal()
    curve = {point.attention_workers: point for point in solved.search.curve()}
    last = max(4 * best, 16)
    shown = shown_workers([a for a in curve if a <= last], [best, *near])
    return RatioCase(
        batch_size=problem.batch_size,
        microbatches=problem.microbatches,
        points=tuple(curve[count] for count in shown),
        other_methods=_other_methods(problem, slots, np.array(shown, dtype=np.float64)),
        best=curve[best],
        near_equal=near,
        optimal_ratio=solved.optimal_ratio,
        resource_times=solved.resource_times,
        bottleneck=solved.bottleneck,
        barrier_cost=solved.barrier_cost,
        model=solved.model,
    )


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
