"""How is a time, a rate or a list of numbers read from the command line?"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from afdplan.model.latency import TimeUnit

__all__ = ["parse_duration", "parse_model_rate", "parse_numbers", "parse_rate"]

_NUMBER = r"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)"
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_PER = {"s": 1.0, "sec": 1.0, "second": 1.0, "min": 60.0, "minute": 60.0, "h": 3600.0}


def parse_duration(option: str, text: str) -> float:
    """Return the seconds of ``50ms`` or ``0.05s``; a number without a unit is refused.

    Examples
    --------
    >>> parse_duration("--tpot", "50ms"), parse_duration("--tpot", "0.05s")
    (0.05, 0.05)
    """
    match = re.fullmatch(_NUMBER + r"\s*(us|ms|s)", text.strip())
    value = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not match or not 0 < value < math.inf:
        raise click.UsageError(
            f"{option} must be a time > 0 with its unit (us, ms or s) such as 50ms, got {text!r}"
        )
    return value


def parse_rate(option: str, text: str) -> float:
    """Return the requests per second of ``20/s`` or ``1200/min``; a bare number is refused.

    Examples
    --------
    >>> parse_rate("--rate", "20/s"), parse_rate("--rate", "1200/min")
    (20.0, 20.0)
    """
    match = re.fullmatch(_NUMBER + r"\s*(?:/\s*(s|sec|second|min|minute|h))", text.strip())
    value = float(match[1]) / _PER[match[2]] if match else 0.0
    if not match or not 0 < value < math.inf:
        raise click.UsageError(
            f"{option} must be a rate > 0 with its unit (/s, /min or /h) such as 20/s, got {text!r}"
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
        return parse_rate(option, text)
    value = float(match[1]) if match else 0.0
    if not 0 < value < math.inf:
        raise click.UsageError(
            f"{option} must be a number > 0 of requests per time unit of the latency model"
            + (", or a rate such as 20/s" if time_unit == "s" else " (abstract: no seconds)")
            + f", got {text!r}"
        )
    return value


def parse_numbers(option: str, text: str, minimum: int = 1) -> tuple[int, ...]:
    """Return the integers of ``1,2,8`` or ``1..8`` or a mix of both, ascending.

    Examples
    --------
    >>> parse_numbers("--batch-sizes", "8, 1..3")
    (1, 2, 3, 8)
    """
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,7})\s*(?:\.\.\s*(\d{1,7})\s*)?", part)
        low = int(match[1]) if match else -1
        high = int(match[2] or low) if match else -1
        if low < minimum or high < low or high - low > 100_000:
            raise click.UsageError(
                f"{option} must be integers >= {minimum} such as 1,2,8 or 1..8, got {text!r}"
            )
        found.update(range(low, high + 1))
    return tuple(sorted(found))
