"""How do grid, zip and sample make the values of case number i, without listing all cases?"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from afdplan.errors import InvalidInputError
from afdplan.model.checks import check_choice, check_count, check_number

__all__ = ["Axis", "DrawAxis", "GridAxis", "Range", "RowAxis", "combine", "parse_draws"]


class Axis(Protocol):
    """One independent direction of a study: so many positions, some values at each."""

    @property
    def names(self) -> tuple[str, ...]:
        """The variables that it sets."""
        ...

    @property
    def size(self) -> int:
        """Number of positions."""
        ...

    def at(self, position: int) -> dict[str, Any]:
        """Return the values at a position, 0 to size - 1."""
        ...


@dataclass(frozen=True, slots=True)
class GridAxis:
    """One variable with a list of values."""

    name: str
    values: Sequence[Any]

    @property
    def names(self) -> tuple[str, ...]:
        """The variable."""
        return (self.name,)

    @property
    def size(self) -> int:
        """Number of values."""
        return len(self.values)

    def at(self, position: int) -> dict[str, Any]:
        """Return the value at a position."""
        return {self.name: self.values[position]}


@dataclass(frozen=True, slots=True)
class RowAxis:
    """Variables that go together, row by row."""

    rows: Sequence[Mapping[str, Any]]

    @property
    def names(self) -> tuple[str, ...]:
        """The variables of a row."""
        return tuple(self.rows[0])

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def at(self, position: int) -> dict[str, Any]:
        """Return one row."""
        return dict(self.rows[position])


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Values drawn uniformly, or uniformly in their logarithm, from low to high inclusive."""

    low: float
    high: float
    scale: str = "linear"
    is_integer: bool = False

    def value(self, uniform: float) -> float:
        """Return the value for a number in [0, 1).

        Examples
        --------
        >>> [Range(low=1, high=4, is_integer=True).value(u) for u in (0.0, 0.5, 0.999)]
        [1, 3, 4]
        """
        low, high = self.low, self.high + (1 if self.is_integer else 0)
        if self.scale == "log":
            drawn = low * math.exp(math.log(high / low) * uniform)
        else:
            drawn = low + (high - low) * uniform
        if not self.is_integer:
            return min(drawn, self.high)
        return min(max(math.floor(drawn), int(self.low)), int(self.high))


@dataclass(frozen=True, slots=True)
class DrawAxis:
    """Independent draws; draw k of a variable depends on the seed, its name and k alone."""

    seed: int
    draws: int
    sources: Mapping[str, Range | Sequence[Any]]

    @property
    def names(self) -> tuple[str, ...]:
        """The drawn variables and the number of the draw."""
        return (*self.sources, "draw")

    @property
    def size(self) -> int:
        """Number of draws."""
        return self.draws

    def at(self, position: int) -> dict[str, Any]:
        """Return one draw of all variables."""
        values: dict[str, Any] = {}
        for name, source in self.sources.items():
            text = f"{self.seed}/{name}/{position}".encode()
            uniform = int.from_bytes(hashlib.sha256(text).digest()[:6], "big") / 2**48
            if isinstance(source, Range):
                values[name] = source.value(uniform)
            else:
                values[name] = source[int(uniform * len(source))]
        return {**values, "draw": position}


def combine(axes: Sequence[Axis], index: int) -> dict[str, Any]:
    """Return the values of combination `index`; the last axis varies fastest.

    Examples
    --------
    >>> combine([GridAxis("a", [1, 2]), GridAxis("b", "xyz")], 4)
    {'b': 'y', 'a': 2}
    """
    values: dict[str, Any] = {}
    for axis in reversed(axes):
        index, position = divmod(index, axis.size)
        values.update(axis.at(position))
    return values


def parse_draws(sample: Mapping[str, Any], where: str) -> DrawAxis | None:
    """Return the axis of a [sample] section, None if it is empty.

    Raises
    ------
    InvalidInputError
        If it draws nothing, or a source is neither a list nor a range.
    """
    if not sample:
        return None
    sources = {name: value for name, value in sample.items() if name not in ("cases", "seed")}
    if "cases" not in sample:
        raise InvalidInputError(f"{where}: [sample] needs cases, the number of draws")
    draws = check_count(f"{where}: cases in [sample]", sample["cases"])
    seed = check_count(f"{where}: seed in [sample]", sample.get("seed", 0), 0)
    if not sources:
        raise InvalidInputError(f"{where}: [sample] must name one or more variables to draw")
    return DrawAxis(
        seed=seed,
        draws=draws,
        sources={name: _source(f"{where}: {name} in [sample]", v) for name, v in sources.items()},
    )


def _source(where: str, value: Any) -> Range | list[Any]:
    if isinstance(value, list):
        if not value:
            raise InvalidInputError(f"{where} must not be empty: give one or more values")
        return value
    if not isinstance(value, dict) or not {"low", "high"} <= set(value) <= {"low", "high", "scale"}:
        raise InvalidInputError(
            f"{where} must be a list or {{ low = ..., high = ..., scale = "
            f'"linear" or "log" }}, got {value!r:.60}'
        )
    scale = check_choice(f"{where}: scale", value.get("scale", "linear"), ("linear", "log"))
    low = check_number(f"{where}: low", value["low"], -math.inf)
    high = check_number(f"{where}: high", value["high"], -math.inf)
    if high < low or (scale == "log" and low <= 0):
        raise InvalidInputError(
            f"{where}: low must be {'> 0 and ' if scale == 'log' else ''}at most high, "
            f"got {value['low']} and {value['high']}"
        )
    whole = isinstance(value["low"], int) and isinstance(value["high"], int)
    return Range(low=low, high=high, scale=scale, is_integer=whole)
