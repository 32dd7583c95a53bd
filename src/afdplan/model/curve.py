"""How long does one stage take as a function of its load?

Every curve is non-negative and non-decreasing on loads >= 0 and piecewise linear, so one
representation (`CurveSegments`) serves the closed-form optimum and the simulator alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from afdplan.errors import LatencyModelError
from afdplan.model.checks import check_number, frozen_array

__all__ = ["Curve", "CurveSegments", "LinearCurve", "RooflineCurve", "TabulatedCurve"]

FloatArray = npt.NDArray[np.float64]


class CurveSegments(NamedTuple):
    """A piecewise-linear curve: on [start_k, start_{k+1}) it is value_k + slope_k (x - start_k).

    Attributes
    ----------
    starts, values, slopes
        Arrays of one length; `starts[0]` is 0 and the last piece has no end.
    """

    starts: FloatArray
    values: FloatArray
    slopes: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearCurve:
    """A straight line, ``t(x) = intercept + slope x``.

    Attributes
    ----------
    slope
        Time per token, alpha [time/token], >= 0.
    intercept
        Time at load zero, beta [time], >= 0.

    Raises
    ------
    LatencyModelError
        If a coefficient is negative or not finite.

    References
    ----------
    arXiv:2601.21351, Eq. 1-3.

    Examples
    --------
    >>> LinearCurve(slope=0.5, intercept=10.0)(4.0)
    12.0
    """

    slope: float
    intercept: float = 0.0

    def __post_init__(self) -> None:
        for name in ("slope", "intercept"):
            value = check_number(name, getattr(self, name), error=LatencyModelError)
            object.__setattr__(self, name, value)

    @overload
    def __call__(self, load: float) -> float: ...
    @overload
    def __call__(self, load: npt.NDArray[Any]) -> FloatArray: ...
    def __call__(self, load: float | npt.NDArray[Any]) -> float | FloatArray:
        """Return the time at `load` [tokens], elementwise for arrays."""
        return self.intercept + self.slope * load

    def segments(self) -> CurveSegments:
        """Return the curve as linear pieces from load 0 to infinity."""
        return CurveSegments(np.zeros(1), np.array([self.intercept]), np.array([self.slope]))

    def scaled(self, factor: float) -> LinearCurve:
        """Return the curve with all times multiplied by `factor`."""
        return LinearCurve(slope=self.slope * factor, intercept=self.intercept * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflineCurve:
    """A floor, then a line, ``t(x) = max(floor, intercept + slope x)``.

    A floor is what stays when the load shrinks: launch latency, or reading the weights.

    Attributes
    ----------
    floor
        Least time [time], >= 0.
    slope
        Time per token beyond the knee [time/token], >= 0.
    intercept
        Where the line meets load zero [time]; may be negative, the floor keeps times >= 0.

    Raises
    ------
    LatencyModelError
        If a coefficient is out of its domain or not finite.

    Examples
    --------
    >>> curve = RooflineCurve(floor=10.0, slope=0.5, intercept=0.0)
    >>> curve(4.0), curve(40.0)
    (10.0, 20.0)
    """

    floor: float
    slope: float
    intercept: float = 0.0

    def __post_init__(self) -> None:
        for name, minimum in (("floor", 0.0), ("slope", 0.0), ("intercept", -math.inf)):
            value = check_number(name, getattr(self, name), minimum, error=LatencyModelError)
            object.__setattr__(self, name, value)

    @overload
    def __call__(self, load: float) -> float: ...
    @overload
    def __call__(self, load: npt.NDArray[Any]) -> FloatArray: ...
    def __call__(self, load: float | npt.NDArray[Any]) -> float | FloatArray:
        """Return the time at `load` [tokens], elementwise for arrays."""
        line = self.intercept + self.slope * load
        return (
            np.maximum(self.floor, line) if isinstance(line, np.ndarray) else max(self.floor, line)
        )

    def segments(self) -> CurveSegments:
        """Return the curve as linear pieces from load 0 to infinity."""
        if self.intercept >= self.floor:
            return CurveSegments(np.zeros(1), np.array([self.intercept]), np.array([self.slope]))
        knee = (self.floor - self.intercept) / self.slope if self.slope > 0 else math.inf
        if not math.isfinite(knee):
            return CurveSegments(np.zeros(1), np.array([self.floor]), np.zeros(1))
        return CurveSegments(
            np.array([0.0, knee]), np.full(2, self.floor), np.array([0.0, self.slope])
        )

    def scaled(self, factor: float) -> RooflineCurve:
        """Return the curve with all times multiplied by `factor`."""
        return RooflineCurve(
            floor=self.floor * factor, slope=self.slope * factor, intercept=self.intercept * factor
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TabulatedCurve:
    """Measured points joined by straight lines.

    Below the first point the time is that of the first point; beyond the last one the last
    line goes on (a table of one point is a constant). Loads outside the table are outside its
    validity: say so in `Validity`.

    Attributes
    ----------
    loads
        Strictly increasing loads [tokens], >= 0, shape (n,), n >= 1.
    times
        Non-decreasing times [time], >= 0, shape (n,).

    Raises
    ------
    LatencyModelError
        If the table is empty, unsorted, decreasing, negative or not finite.

    Examples
    --------
    >>> curve = TabulatedCurve(loads=[100, 200], times=[10.0, 30.0])
    >>> curve(50), curve(150), curve(300)
    (10.0, 20.0, 50.0)
    """

    loads: FloatArray
    times: FloatArray
    _pieces: CurveSegments = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            loads = frozen_array(self.loads, np.float64)
            times = frozen_array(self.times, np.float64)
        except (TypeError, ValueError, OverflowError):
            raise LatencyModelError("loads and times of a table must be lists of numbers") from None
        if loads.ndim != 1 or loads.size == 0 or loads.shape != times.shape:
            raise LatencyModelError(
                "loads and times of a table must be lists of one common length >= 1, "
                f"got {loads.size} loads and {times.size} times"
            )
        for name, values in (("loads", loads), ("times", times)):
            bad = ~np.isfinite(values) | (values < 0)
            if bad.any():
                at = int(np.argmax(bad))
                raise LatencyModelError(
                    f"{name} of a table must be finite numbers >= 0, "
                    f"got {values[at]:g} at entry {at + 1}"
                )
        if (np.diff(loads) <= 0).any():
            at = int(np.argmax(np.diff(loads) <= 0))
            raise LatencyModelError(
                "loads of a table must increase strictly, "
                f"got {loads[at + 1]:g} after {loads[at]:g} at entry {at + 2}"
            )
        if (np.diff(times) < 0).any():
            at = int(np.argmax(np.diff(times) < 0))
            raise LatencyModelError(
                "times of a table must not decrease, "
                f"got {times[at + 1]:g} after {times[at]:g} at entry {at + 2}; smooth the "
                "measurements first"
            )
        object.__setattr__(self, "loads", loads)
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "_pieces", _table_pieces(loads, times))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TabulatedCurve):
            return NotImplemented
        return np.array_equal(self.loads, other.loads) and np.array_equal(self.times, other.times)

    def __hash__(self) -> int:
        return hash((self.loads.tobytes(), self.times.tobytes()))

    @overload
    def __call__(self, load: float) -> float: ...
    @overload
    def __call__(self, load: npt.NDArray[Any]) -> FloatArray: ...
    def __call__(self, load: float | npt.NDArray[Any]) -> float | FloatArray:
        """Return the time at `load` [tokens], elementwise for arrays."""
        starts, values, slopes = self._pieces
        x = np.asarray(load, dtype=np.float64)
        k = np.searchsorted(starts, x, side="right") - 1
        time = values[k] + slopes[k] * (x - starts[k])
        return time if isinstance(load, np.ndarray) else float(time)

    def segments(self) -> CurveSegments:
        """Return the curve as linear pieces from load 0 to infinity."""
        return self._pieces

    def scaled(self, factor: float) -> TabulatedCurve:
        """Return the curve with all times multiplied by `factor`."""
        return TabulatedCurve(loads=self.loads, times=self.times * factor)


def _table_pieces(loads: FloatArray, times: FloatArray) -> CurveSegments:
    with np.errstate(over="ignore"):  # a step, as steep as numbers can be
        slopes = np.diff(times) / np.diff(loads)
    last = slopes[-1:] if slopes.size else np.zeros(1)
    starts, values, slopes = loads, times, np.concatenate([slopes, last])
    if starts[0] > 0:
        starts, values, slopes = (
            np.concatenate([[0.0], starts]),
            np.concatenate([values[:1], values]),
            np.concatenate([[0.0], slopes]),
        )
    for part in (starts, values, slopes):
        part.flags.writeable = False
    return CurveSegments(starts, values, slopes)


Curve = LinearCurve | RooflineCurve | TabulatedCurve
