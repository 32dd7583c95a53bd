"""Which failures does afdplan expect, and what may a caller catch?

The tree::

    AfdplanError                 every expected failure: one line, name - rule - value - remedy
    ├── InvalidInputError        a value breaks a stated rule (also a ValueError)
    │   ├── TraceError           a request trace cannot be read or breaks a rule
    │   ├── LatencyModelError    a latency model cannot be read or breaks a rule
    │   └── TimeUnitError        seconds were asked of an abstract time, or both were mixed
    ├── UnsupportedError         two valid options that have no meaning together
    ├── InsufficientDataError    a statistic would be untrustworthy; carries the estimate
    ├── ValidationError          a band that is declared does not hold
    └── InfeasibleError          no plan satisfies the limits (exit code 3)

Anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = [
    "AfdplanError",
    "InfeasibleError",
    "InsufficientDataError",
    "InvalidInputError",
    "LatencyModelError",
    "TimeUnitError",
    "TraceError",
    "UnsupportedError",
    "ValidationError",
    "placed",
    "reason",
]


def reason(error: Exception) -> str:
    """Return why the operating system refused, in its own words and lower case.

    Examples
    --------
    >>> reason(OSError(28, "No space left on device"))
    'no space left on device'
    """
    return (getattr(error, "strerror", None) or str(error)).lower()


class AfdplanError(Exception):
    """Base of every failure that afdplan expects and explains in one line."""


class InvalidInputError(AfdplanError, ValueError):
    """A value breaks a stated rule."""


class TraceError(InvalidInputError):
    """A request trace cannot be read, or one of its rows breaks a rule."""


class LatencyModelError(InvalidInputError):
    """A latency model cannot be read, or one of its coefficients breaks a rule."""


class TimeUnitError(InvalidInputError):
    """Seconds were asked of an abstract time unit, or two time units were mixed."""


class UnsupportedError(AfdplanError):
    """Two options, each valid, that have no meaning together."""


class InsufficientDataError(AfdplanError):
    """A statistic would be untrustworthy; `estimate` carries what could be computed.

    Attributes
    ----------
    estimate
        The estimate that was refused, for whoever wants it all the same.
    """

    def __init__(self, message: str, estimate: Any = None) -> None:
        super().__init__(message)
        self.estimate = estimate


class ValidationError(AfdplanError):
    """A band that is declared does not hold; the message names the worst case."""


class InfeasibleError(AfdplanError):
    """No plan satisfies the stated limits.

    Attributes
    ----------
    nearest
        The nearest feasible plan (a `PlannedDesign`); None if none is known.
    """

    def __init__(self, message: str, nearest: Any = None) -> None:
        super().__init__(message)
        self.nearest = nearest


@contextmanager
def placed(where: object) -> Iterator[None]:
    """Say before what is raised within which file, section or column it is about.

    Examples
    --------
    >>> with placed("study.toml: [grid]"):
    ...     raise InvalidInputError("seed must be at least 0, got -1")
    Traceback (most recent call last):
    ...
    afdplan.errors.InvalidInputError: study.toml: [grid]: seed must be at least 0, got -1
    """
    try:
        yield
    except InvalidInputError as error:
        raise type(error)(f"{where}: {error}") from None
