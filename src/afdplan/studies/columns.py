"""What do the columns of results hold, and which variables has every study?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from afdplan.errors import InvalidInputError
from afdplan.model import parameters as ask
from afdplan.model.parameter import Parameter

__all__ = ["WORKLOAD", "Column", "DataType", "check_batch", "columns", "numbers"]

DataType = Literal["count", "number", "text", "flag", "counts", "numbers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of the results: its name and what it holds (every column may be empty)."""

    name: str
    data: DataType


def columns(parameters: Iterable[Parameter]) -> tuple[Column, ...]:
    """Return the columns that hold the values of parameters."""
    return tuple(Column(name=one.name, data=one.data) for one in parameters)


def numbers(names: str, data: DataType = "number") -> tuple[Column, ...]:
    """Return columns of one kind by their names.

    Examples
    --------
    >>> [column.name for column in numbers("cycle_time step_time")]
    ['cycle_time', 'step_time']
    """
    return tuple(Column(name=name, data=data) for name in names.split())


WORKLOAD = (Parameter(name="workload", data="text"), ask.TRACE, ask.PROMPT, ask.DECODE)
"""Ways to say what the requests are; `workload` is a name that the file defines."""


def check_batch(names: frozenset[str]) -> None:
    """Raise unless a study names exactly one of both ways to give the batch size."""
    if (ask.BATCH_SIZE.name in names) == (ask.REQUESTS_PER_WORKER.name in names):
        raise InvalidInputError(
            "a study needs one of batch_size (per microbatch) and requests_per_worker (= m B)"
        )
