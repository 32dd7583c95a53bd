"""How does a frozen value check its fields, with a message that names the mend?"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from afdplan.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["LARGEST", "check_choice", "check_count", "check_number", "frozen_array"]

LARGEST = 1e100
"""No quantity is larger, or smaller but for zero: a product of three is still a number."""


def check_count(
    name: str,
    value: Any,
    minimum: int = 1,
    maximum: int | None = None,
    error: type[InvalidInputError] = InvalidInputError,
) -> int:
    """Return `value` as an int, or raise if it is no integer in [minimum, maximum]."""
    rule = f"{name} must be an integer >= {minimum:,}"
    if maximum is not None:
        rule += f" and <= {maximum:,}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise error(f"{rule}, got {value!r}")
    count = int(value)
    if count < minimum or (maximum is not None and count > maximum):
        raise error(f"{rule}, got {count:,}")
    return count


def check_number(
    name: str,
    value: Any,
    minimum: float = 0.0,
    strict: bool = False,
    error: type[InvalidInputError] = InvalidInputError,
) -> float:
    """Return `value` as a finite float >= minimum (> minimum if `strict`), or raise."""
    sign = ">" if strict else ">="
    rule = f"{name} must be a finite number"
    if minimum > -math.inf:
        rule += f" {sign} {minimum:,g}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise error(f"{rule}, got {value!r}")
    try:
        number = float(value)
    except (OverflowError, TypeError):
        raise error(f"{rule}, got a number that is too large") from None
    if not math.isfinite(number) or number < minimum or (strict and number == minimum):
        raise error(f"{rule}, got {number:,g}")
    if number and not 1 / LARGEST <= abs(number) <= LARGEST:
        raise error(
            f"{name} must be {'' if strict else '0 or '}of a size from {1 / LARGEST:g} to "
            f"{LARGEST:g}, got {number:g}: check its unit"
        )
    return number


def check_choice(
    name: str,
    value: Any,
    choices: tuple[str, ...],
    error: type[InvalidInputError] = InvalidInputError,
) -> str:
    """Return `value` if it is one of `choices`, or raise naming them all."""
    if not isinstance(value, str) or value not in choices:  # an array says neither yes nor no
        got = " ".join(repr(value).split())
        raise error(f"{name} must be one of {', '.join(choices)}, got {got:.200}")
    return str(value)


def frozen_array(
    value: npt.ArrayLike, dtype: npt.DTypeLike, error: type[InvalidInputError] = InvalidInputError
) -> npt.NDArray[Any]:
    """Return a read-only copy of `value` as an array of `dtype`, or raise if it is none."""
    import numpy as np  # names and domains above are read at every key of a completion

    try:
        array = np.array(value, dtype=dtype, copy=True)
    except (TypeError, ValueError, OverflowError):
        raise error(f"a list of numbers ({np.dtype(dtype)}) is needed, got {value!r:.40}") from None
    array.flags.writeable = False
    return array
