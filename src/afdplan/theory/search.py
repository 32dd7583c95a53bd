"""Which integer number of attention workers is best, and how flat is the top?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.theory.ratio import RatioPoint
from afdplan.theory.step_model import StepModel

__all__ = ["WorkerSearch"]


"""Largest number of attention workers that a search considers."""
DENSE_WORKERS = 256
"""Up to so many attention workers every number is evaluated."""
PLAYED_WORKERS = 8
"""The same where every number has to be played, which takes hundredths of a second."""
NEAR_EQUAL = 0.01
"""Regret below which two designs count as equally good."""


class WorkerSearch:
    """The objective at many numbers of attention workers, and its best.

    Parameters
    ----------
    model
        Step time of the bundle.
    limit
        Largest A considered, >= 1.

    Notes
    -----
    Every A up to 256 is evaluated. Beyond, a geometric grid of 256 numbers and then every number
    between the neighbours of its best, which finds the optimum of an objective with one top.
    Without a barrier the grid has 8 numbers.
    """

    def __init__(self, model: StepModel, limit: int) -> None:
        self._model = model
        # Bundles that have to be played are few, and whole.
        self._dense = PLAYED_WORKERS if model.whole_numbers else DENSE_WORKERS
        self._points: dict[int, RatioPoint] = {}
        self._stepped = getattr(model, "is_stepped", False)
        if limit <= self._dense:
            workers = list(range(1, limit + 1))
        else:
            grid = np.rint(np.geomspace(1, limit, self._dense))
            if self._stepped:  # tops lie where every FFN worker has equally many peers
                ffn = model.problem.ffn_workers
                grid = np.unique(np.append(grid, np.minimum(np.ceil(grid / ffn) * ffn, limit)))
            workers = sorted({int(count) for count in grid} | {limit})
        self._evaluate(workers)
        while missing := self._gap_around_best():
            self._evaluate(missing)

    def best(self) -> int:
        """Return A with the largest objective; of equals the smallest."""
        return max(
            self._points.values(), key=lambda p: (p.objective, -p.attention_workers)
        ).attention_workers

    def objective(self, attention_workers: int) -> float:
        """Return tokens per time and cost with `attention_workers`, evaluated if need be."""
        if attention_workers not in self._points:
            self._evaluate([attention_workers])
        return self._points[attention_workers].objective

    def value(self, attention_workers: int) -> float:
        """Return the same as a plain number: what searches by play call alike."""
        return self.objective(attention_workers)

    def point(self, attention_workers: int) -> RatioPoint:
        """Return what `attention_workers` that were evaluated give."""
        return self._points[attention_workers]

    def curve(self) -> tuple[RatioPoint, ...]:
        """Return all evaluated points by A, each with its regret."""
        top = self.objective(self.best())
        return tuple(
            replace(point, regret=1 - point.objective / top)
            for _, point in sorted(self._points.items())
        )

    def near_equal(self) -> tuple[int, int]:
        """Return the smallest and largest A around the best whose regret stays below 1 %."""
        workers = sorted(self._points)
        at = workers.index(self.best())
        enough = (1 - NEAR_EQUAL) * self.objective(workers[at])
        below, above = workers[:at][::-1], workers[at + 1 :]
        return self._edge(workers[at], below, enough), self._edge(workers[at], above, enough)

    def _edge(self, best: int, others: list[int], enough: float) -> int:
        """Return the last A on the way through `others` that still gives `enough`."""
        inside, outside = best, None
        for other in others:
            if self.objective(other) <= enough:
                outside = other
                break
            inside = other
        while outside is not None and abs(outside - inside) > 1:  # a coarse grid: halve the gap
            middle = (outside + inside) // 2
            if self.objective(middle) > enough:
                inside = middle
            else:
                outside = middle
        return inside

    def real_best(self) -> float:
        """Return the real A >= 1 with the largest objective, within 1 of the best integer."""
        if self._model.whole_numbers or self._stepped:
            return float(self.best())
        workers = sorted(self._points)
        center, radius = float(self.best()), 1.0
        for _ in range(5):
            grid = np.linspace(max(center - radius, 1.0), min(center + radius, workers[-1]), 17)
            center = float(grid[np.argmax(self._objectives(grid))])
            radius /= 8
        return center

    def _gap_around_best(self) -> list[int]:
        """Return unevaluated numbers next to the best, at most 256 of them."""
        workers = sorted(self._points)
        at = workers.index(self.best())
        low, high = workers[max(at - 1, 0)], workers[min(at + 1, len(workers) - 1)]
        missing = [a for a in range(low, high) if a not in self._points]
        step = -(-len(missing) // self._dense) if missing else 1
        return missing[::step]

    def _objectives(self, workers: FloatArray) -> FloatArray:
        steps = self._model.evaluate(workers)
        return self._model.objective(workers, steps.mean, self._model.problem.ffn_weight)

    def _evaluate(self, workers: list[int]) -> None:
        numbers = np.array(workers, dtype=np.float64)
        steps = self._model.evaluate(numbers)
        weighted = self._model.objective(numbers, steps.mean, self._model.problem.ffn_weight)
        plain = self._model.objective(numbers, steps.mean, 1.0)
        for at, count in enumerate(workers):
            self._points[count] = RatioPoint(
                attention_workers=count,
                cycle_time=float(steps.cycle[at]),
                step_time=float(steps.mean[at]),
                objective=float(weighted[at]),
                throughput_per_instance=float(plain[at]),
                regret=0.0,
                attention_idle_fraction=float(steps.attention_idle_fraction[at]),
                ffn_idle_fraction=float(steps.ffn_idle_fraction[at]),
            )
