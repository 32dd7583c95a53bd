"""How long does one stage take as a function of its load?

Every curve is non-negative and non-decreasing on loads >= 0 and piecewise linear, so one
representation (`CurveSegments`) serves the closed-form optimum and the simulator alike.

A kind of curve is one class: `Curve` knows its subclasses by `kind`, and files, calibration,
uncertainty, theory and simulation ask the curve itself. A new kind needs no other change.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, NamedTuple, Self, overload

import numpy as np
import numpy.typing as npt

from afdplan.arrays import FloatArray
from afdplan.errors import LatencyModelError
from afdplan.model.checks import check_number, frozen_array

__all__ = ["CURVES", "Curve", "CurveSegments", "LinearCurve", "RooflineCurve", "TabulatedCurve"]


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


CURVES: dict[str, type[Curve]] = {}
"""Every kind of curve by its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve(ABC):
    """The time of a stage against its load; each subclass is one kind of curve.

    A subclass declares `kind`, its fields, `segments` and `gradient`. Fields are what a file
    holds; unless it says otherwise they are its coefficients too, numbers in proportion to time.

    Attributes
    ----------
    kind
        What files call it; every subclass has one of its own.
    may_lack
        Fields that a file may leave out.

    Examples
    --------
    >>> curve = LinearCurve(slope=0.5, intercept=10.0)
    >>> curve.kind, curve.coefficients()
    ('linear', {'slope': 0.5, 'intercept': 10.0})
    >>> curve.with_coefficients({"slope": 2.0})(4.0)
    18.0
    """

    kind: ClassVar[str]
    may_lack: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        kind = cls.__dict__.get("kind")
        known = CURVES.get(str(kind), cls)
        # A dataclass with slots is made twice, the second time under the same name.
        is_same = (known.__module__, known.__name__) == (cls.__module__, cls.__name__)
        if not isinstance(kind, str) or not is_same:
            raise TypeError(f"{cls.__name__} must declare a kind of its own, got {kind!r}")
        CURVES[kind] = cls

    @overload
    def __call__(self, load: float) -> float: ...
    @overload
    def __call__(self, load: npt.NDArray[Any]) -> FloatArray: ...
    def __call__(self, load: float | npt.NDArray[Any]) -> float | FloatArray:
        """Return the time at `load` [tokens], elementwise for arrays."""
        found: float | FloatArray = self._at(load)
        return found

    def _at(self, load: Any) -> Any:
        starts, values, slopes = self.segments()
        x = np.asarray(load, dtype=np.float64)
        k = np.searchsorted(starts, x, side="right") - 1
        time = values[k] + slopes[k] * (x - starts[k])
        return time if isinstance(load, np.ndarray) else float(time)

    @abstractmethod
    def segments(self) -> CurveSegments:
        """Return the curve as linear pieces from load 0 to infinity."""

    @abstractmethod
    def gradient(self, loads: FloatArray) -> dict[str, FloatArray]:
        """Return the derivative of the time at `loads` by each coefficient, shape (n,) each."""

    def coefficients(self) -> dict[str, float]:
        """Return what a fit estimates, by name: numbers in proportion to the unit of time."""
        return {name: getattr(self, name) for name in self.field_names()}

    def with_coefficients(self, values: Mapping[str, float]) -> Self:
        """Return the curve with some coefficients changed; one out of its domain is an error."""
        return replace(self, **values)

    def nearest(self, values: dict[str, float]) -> dict[str, float]:
        """Return drawn coefficients as near as the curve allows; by default as they are."""
        return values

    def scaled(self, factor: float) -> Self:
        """Return the curve with all times multiplied by `factor`."""
        return self.with_coefficients({k: v * factor for k, v in self.coefficients().items()})

    def words(self, coefficient: str) -> tuple[str, str]:
        """Return what a coefficient is called, and what its time is divided by."""
        return coefficient, " per token" if coefficient == "slope" else ""

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """Return the names of what the curve is made of, as its file holds them."""
        return tuple(item.name for item in fields(cls) if item.init)

    def document(self) -> dict[str, Any]:
        """Return what a file holds of the curve."""
        values = {name: getattr(self, name) for name in self.field_names()}
        return {"kind": self.kind} | {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in values.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearCurve(Curve):
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

    kind: ClassVar[str] = "linear"
    slope: float
    intercept: float = 0.0

    def __post_init__(self) -> None:
        for name in ("slope", "intercept"):
            value = check_number(name, getattr(self, name), error=LatencyModelError)
            object.__setattr__(self, name, value)

    def _at(self, load: Any) -> Any:
        return self.intercept + self.slope * load

    def segments(self) -> CurveSegments:
        """Return one line."""
        return CurveSegments(np.zeros(1), np.array([self.intercept]), np.array([self.slope]))

    def gradient(self, loads: FloatArray) -> dict[str, FloatArray]:
        """Return the load and one."""
        return {"slope": loads, "intercept": np.ones_like(loads)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflineCurve(Curve):
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

    kind: ClassVar[str] = "roofline"
    may_lack: ClassVar[tuple[str, ...]] = ("intercept",)
    floor: float
    slope: float
    intercept: float = 0.0

    def __post_init__(self) -> None:
        for name, minimum in (("floor", 0.0), ("slope", 0.0), ("intercept", -math.inf)):
            value = check_number(name, getattr(self, name), minimum, error=LatencyModelError)
            object.__setattr__(self, name, value)

    def _at(self, load: Any) -> Any:
        line = self.intercept + self.slope * load
        return (
            np.maximum(self.floor, line) if isinstance(line, np.ndarray) else max(self.floor, line)
        )

    def segments(self) -> CurveSegments:
        """Return a floor and a line beyond the knee."""
        if self.intercept >= self.floor:
            return CurveSegments(np.zeros(1), np.array([self.intercept]), np.array([self.slope]))
        knee = (self.floor - self.intercept) / self.slope if self.slope > 0 else math.inf
        if not math.isfinite(knee):
            return CurveSegments(np.zeros(1), np.array([self.floor]), np.zeros(1))
        return CurveSegments(
            np.array([0.0, knee]), np.full(2, self.floor), np.array([0.0, self.slope])
        )

    def gradient(self, loads: FloatArray) -> dict[str, FloatArray]:
        """Return those of the piece that each load lies on."""
        line = (self.intercept + self.slope * loads > self.floor).astype(np.float64)
        return {"floor": 1.0 - line, "slope": line * loads, "intercept": line}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TabulatedCurve(Curve):
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

    kind: ClassVar[str] = "table"
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

    def segments(self) -> CurveSegments:
        """Return straight lines from point to point."""
        return self._pieces

    def gradient(self, loads: FloatArray) -> dict[str, FloatArray]:
        """Return the weights of the two points around each load."""
        weights = np.zeros((self.loads.size, loads.size))
        if self.loads.size == 1:
            weights[0] = 1.0
        else:
            x = np.maximum(loads, self.loads[0])
            k = np.clip(np.searchsorted(self.loads, x, side="right") - 1, 0, self.loads.size - 2)
            share = (x - self.loads[k]) / np.diff(self.loads)[k]
            points = np.arange(loads.size)
            weights[k, points], weights[k + 1, points] = 1.0 - share, share
        return dict(zip(self.coefficients(), weights, strict=True))

    def words(self, coefficient: str) -> tuple[str, str]:
        """Return the load at which a time of the table stands."""
        load = self.loads[int(coefficient.removeprefix("times.")) - 1]
        return f"at {load:,.6g} tokens", ""

    def coefficients(self) -> dict[str, float]:
        """Return the times of the table: ``times.1``, ``times.2``, ..."""
        return {f"times.{k}": time for k, time in enumerate(self.times.tolist(), start=1)}

    def with_coefficients(self, values: Mapping[str, float]) -> Self:
        """Return the table with some times changed."""
        return replace(self, times=np.array([*{**self.coefficients(), **values}.values()]))

    def nearest(self, values: dict[str, float]) -> dict[str, float]:
        """Return drawn times made monotone by the isotonic regression that fits tables.

        Independent errors on a plateau would almost never be.
        """
        from scipy.optimize import isotonic_regression

        names = [name for name in self.coefficients() if name in values]
        times = isotonic_regression([values[name] for name in names]).x
        return dict(zip(names, np.maximum(times, 0.0).tolist(), strict=True))


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
