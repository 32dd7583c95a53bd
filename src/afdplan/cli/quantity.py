"""How is a time, a rate, a share or a list of numbers read from the command line?"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from afdplan.model.latency import TimeUnit

__all__ = ["FINITE", "TYPES", "parse_model_rate"]

_NUMBER = r"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)"
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_SPANS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "day": 86_400.0, "d": 86_400.0}
_PER = {"s": 1.0, "sec": 1.0, "second": 1.0, "min": 60.0, "minute": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Return the seconds of ``50ms`` or ``0.05s``; a number without a unit is refused.

    Examples
    --------
    >>> parse_duration("50ms"), parse_duration("0.05s")
    (0.05, 0.05)
    """
    match = re.fullmatch(_NUMBER + r"\s*(us|ms|s)", text.strip())
    value = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not match or not 0 < value < math.inf:
        raise click.BadParameter(
            f"must be a time > 0 with its unit (us, ms or s) such as 50ms, got {text!r}"
        )
    return value


def parse_span(text: str) -> float:
    """Return the seconds of ``1h``, ``30min`` or ``day``.

    Examples
    --------
    >>> parse_span("1h"), parse_span("30min"), parse_span("5m"), parse_span("day")
    (3600.0, 1800.0, 300.0, 86400.0)
    """
    match = re.fullmatch(rf"(?:{_NUMBER})?\s*(s|min|m|h|day|d)", text.strip())
    value = float(match[1] or 1.0) * _SPANS[match[2]] if match else 0.0
    if not match or not 1 <= value < math.inf:
        raise click.BadParameter(
            f"must be a time of at least 1 s such as 1h, 30min or day, got {text!r}"
        )
    return value


def parse_rate(text: str) -> float:
    """Return the requests per second of ``20/s`` or ``1200/min``; a bare number is refused.

    Examples
    --------
    >>> parse_rate("20/s"), parse_rate("1200/min")
    (20.0, 20.0)
    """
    match = re.fullmatch(_NUMBER + r"\s*(?:/\s*(s|sec|second|min|minute|h))", text.strip())
    value = float(match[1]) / _PER[match[2]] if match else 0.0
    if not match or not 0 < value < math.inf:
        raise click.BadParameter(
            f"must be a rate > 0 with its unit (/s, /min or /h) such as 20/s, got {text!r}"
        )
    return value


def parse_model_rate(option: str, text: str, time_unit: TimeUnit) -> float:
    """Return a rate per time unit of a latency model.

    A bare number is in the model's own time unit; with a unit (``20/min``) if that is seconds.

    Examples
    --------
    >>> parse_model_rate("--rate", "60/min", "s"), parse_model_rate("--rate", "0.01", "abstract")
    (1.0, 0.01)
    """
    match = re.fullmatch(_NUMBER, text.strip())
    if time_unit == "s" and not match:
        try:
            return parse_rate(text)
        except click.BadParameter as error:
            raise click.UsageError(f"{option} {error.message}") from None
    value = float(match[1]) if match else 0.0
    if not 0 < value < math.inf:
        raise click.UsageError(
            f"{option} must be a number > 0 of requests per time unit of the latency model"
            + (", or a rate such as 20/s" if time_unit == "s" else " (abstract: no seconds)")
            + f", got {text!r}"
        )
    return value


def parse_numbers(text: str) -> tuple[int, ...]:
    """Return the integers of ``1,2,8`` or ``1..8`` or a mix of both, ascending.

    Examples
    --------
    >>> parse_numbers("8, 1..3")
    (1, 2, 3, 8)
    """
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,7})\s*(?:\.\.\s*(\d{1,7})\s*)?", part)
        low = int(match[1]) if match else -1
        high = int(match[2] or low) if match else -1
        if low < 1 or high < low or high - low > 100_000:
            raise click.BadParameter(f"must be integers >= 1 such as 1,2,8 or 1..8, got {text!r}")
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def parse_bundles(text: str) -> list[int]:
    """Return numbers of attention workers in the order given, each one once.

    Examples
    --------
    >>> parse_bundles("8,1")
    [8, 1]
    """
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"expected integers such as 8 or 1,2,4,8, got {text!r}") from None
    if len(set(counts)) < len(counts):
        raise click.BadParameter(f"every number is simulated once, got {text!r}")
    return counts


def parse_share(text: str) -> float:
    """Return the fraction of ``0.5%`` or ``0.005``.

    Examples
    --------
    >>> parse_share("0.5%"), parse_share("0.005"), parse_share("0")
    (0.005, 0.005, 0.0)
    """
    try:
        number = float(text.rstrip("% ")) / (100 if text.rstrip().endswith("%") else 1)
    except ValueError:
        number = math.nan
    if not 0 <= number < 1:
        raise click.BadParameter(f"must be a share below 100 % such as 0.5% or 0.005, got {text!r}")
    return number


class _Typed(click.types.StringParamType):
    """Text that is read by a function; its default is a value already."""

    def __init__(self, parse: Callable[[str], Any]) -> None:
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what the text means."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except click.BadParameter as error:
            name = param.opts[0] if param is not None and error.message.startswith("must") else ""
            raise click.BadParameter(f"{name} {error.message}".strip(), ctx, param) from None


class _Finite(click.types.FloatParamType):
    """A number that can be told in JSON, whether it is used or only repeated."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"must be a finite number, got {value}", param, ctx)
        return number


FINITE = _Finite()

TYPES: dict[str, click.ParamType[Any]] = {
    "duration": _Typed(parse_duration),
    "rate": _Typed(parse_rate),
    "numbers": _Typed(parse_numbers),
    "bundles": _Typed(parse_bundles),
    "share": _Typed(parse_share),
    "span": _Typed(parse_span),
    "model rate": click.STRING,  # read when the latency model's unit is known
}
"""How values of a parameter are typed, by `Parameter.typed`."""
