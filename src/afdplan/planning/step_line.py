"""What is the mean step at least, for more requests than the one it is known for?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.planning.design import Combination
from afdplan.planning.step_models import SLACK, StepModels

__all__ = ["Line", "StepLines"]


BACK = 0.1
"""How far back from a batch size the slope of its step is taken, relative."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Line:
    """What the mean step of some pairs is at least, from a batch size on: a straight line.

    Attributes
    ----------
    batch_size
        Where it begins.
    mean, slope
        Shape (n,) [time, time/request].
    """

    batch_size: int
    mean: FloatArray
    slope: FloatArray

    def of(self, chosen: IntArray) -> Line:
        """Return the line of some pairs."""
        return replace(self, mean=self.mean[chosen], slope=self.slope[chosen])

    def at(self, batch_size: Any) -> FloatArray:
        """Return the least mean step at larger batch sizes, shape (n,) [time]."""
        least: FloatArray = SLACK * (self.mean + self.slope * (batch_size - self.batch_size))
        return least

    def largest(self, step_time: float) -> FloatArray:
        """Return the batch size up to which the line is no longer than that, shape (n,)."""
        room = np.maximum(step_time / SLACK - self.mean, 0.0)
        more = np.divide(room, self.slope, out=np.full_like(room, np.inf), where=self.slope > 0)
        found: FloatArray = self.batch_size + more
        return found


class StepLines:
    """Lines of the step of every pair; each is computed once.

    Parameters
    ----------
    models
        Step times.

    Notes
    -----
    With z what the stages of a step take, the step is convex in z and grows with it: where
    ``z(B') >= z(B) + growth (B' - B)``, it is above the line through its values at z(B) and at
    ``z(B) - growth d``, for any d > 0. Attention grows by what the mean load does, as
    ``E max_j (a_j + y_j) >= E max_j (a_j + E y)``. Where reading is faster at larger sizes, so that
    a worker's time for the same slots is `share` of what it was,

        step(share a + y, other) >= share step(a + y / share, other)

    as every path's time is a sum. What is convex in the load (memory or matrix units) grows least
    at the beginning, what grows with its root (the busiest rank of experts) at the end: the chord
    to the middle is taken as well.
    """

    def __init__(self, models: StepModels) -> None:
        self._models = models
        self._slopes: dict[tuple[Combination, int], dict[tuple[int, int], float]] = {}
        self._reading: dict[tuple[Combination, int], tuple[float, FloatArray]] = {}

    def share(self, base: Combination, last: int) -> float:
        """Return what is left at least of a step at any larger size up to `last`, at most 1."""
        return self._read(base, last)[0]

    def _read(self, base: Combination, last: int) -> tuple[float, FloatArray]:
        if (base, last) not in self._reading:
            sizes = range(base.batch_size + 1, last + 1)
            self._reading[base, last] = self._models.least_reading(base, sizes)
        return self._reading[base, last]

    def of(
        self, base: Combination, last: int, attention: IntArray, ffn: IntArray, mean: FloatArray
    ) -> Line:
        """Return the lines of pairs from a batch size, whose mean step is known, up to `last`.

        Parameters
        ----------
        base
            Devices, m and B, where they begin.
        last
            Where they end, > B.
        attention, ffn, mean
            A and F of pairs, and their mean step at B [time], shape (n,).
        """
        known = self._slopes.setdefault((base, last), {})
        pairs = list(zip(attention.tolist(), ffn.tolist(), strict=True))
        new = np.array([pair not in known for pair in pairs], dtype=bool)
        if new.any():
            found = self._slopes_of(base, last, attention[new], ffn[new], mean[new])
            known.update(
                zip((pairs[at] for at in np.flatnonzero(new)), found.tolist(), strict=True)
            )
        slope, share = np.array([known[pair] for pair in pairs]), self.share(base, last)
        return Line(batch_size=base.batch_size, mean=share * mean, slope=share * slope)

    def _slopes_of(
        self, base: Combination, last: int, attention: IntArray, ffn: IntArray, mean: FloatArray
    ) -> FloatArray:
        """Return by how much each further request lengthens the step at least, shape (n,)."""
        devices, m, batch_size = base
        back = BACK * batch_size
        sizes = sorted({batch_size + 1, (batch_size + 1 + last) // 2, last})
        more = [size - batch_size for size in sizes]
        share, steepness = self._read(base, last)
        added = [self._models.added_requests(base, Combination(devices, m, size)) for size in sizes]
        each = np.min([one / n for one, n in zip(added, more, strict=True)], axis=0)
        slower = np.maximum(steepness + each, 0.0) / (share or 1.0)
        here = self._models.times.stages(attention, ffn, batch_size)
        ahead = [self._models.times.stages(attention, ffn, size) for size in sizes]
        earlier: dict[str, FloatArray] = {}
        for name in ("ffn", "out", "back"):
            now = getattr(here, name)
            each = [(getattr(a, name) - now) / n for a, n in zip(ahead, more, strict=True)]
            growth = np.maximum(np.min(each, axis=0), 0.0)
            earlier[name] = np.maximum(now - back * growth, 0.0)
        model = self._models.model(base).later((-back * slower).tolist())
        before = model.evaluate_stages(replace(here, **earlier)).mean
        slopes: FloatArray = np.maximum(mean - before, 0.0) / back
        return slopes
