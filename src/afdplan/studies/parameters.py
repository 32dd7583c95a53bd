"""Which variables may a study set or vary, what may they hold, and what are they otherwise?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from afdplan.errors import InvalidInputError
from afdplan.model.checks import check_choice, check_count, check_number

__all__ = [
    "BUNDLE",
    "CHOICES",
    "LATENCY",
    "WORKLOAD",
    "Column",
    "DataType",
    "Parameter",
    "batch_size",
]

_LARGEST = 2**53  # every count below is exact in JSON and in columns of numbers
DataType = Literal["count", "number", "text", "flag", "counts", "numbers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of the results: its name and what it holds (every column may be empty)."""

    name: str
    data: DataType


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A variable of a study.

    Attributes
    ----------
    name
        As in study files and results.
    data
        What a value is: ``count``, ``number``, ``text`` or ``flag``.
    default
        Value if the study does not name it; None leaves it out.
    minimum, maximum, strict
        Domain of a count or a number; `strict` excludes the minimum.
    choices
        Domain of a text; empty for any.
    """

    name: str
    data: Literal["count", "number", "text", "flag"] = "count"
    default: Any = None
    minimum: int = 1
    maximum: int | None = None
    strict: bool = False
    choices: tuple[str, ...] = ()

    def check(self, value: Any) -> Any:
        """Return a value of the domain, or raise naming the rule.

        Examples
        --------
        >>> Parameter(name="batch_size").check(64)
        64
        """
        if self.data == "count":
            count = check_count(self.name, value, self.minimum, self.maximum)
            if count > _LARGEST:
                raise InvalidInputError(f"{self.name} must be at most {_LARGEST}, got {count}")
            return count
        if self.data == "number":
            number = check_number(self.name, value, self.minimum, self.strict)
            if self.maximum is not None and number > self.maximum:
                raise InvalidInputError(
                    f"{self.name} must be at most {self.maximum}, got {number:g}"
                )
            return number
        if self.data == "flag":
            if not isinstance(value, bool):
                raise InvalidInputError(f"{self.name} must be true or false, got {value!r:.40}")
            return value
        if self.choices:
            return check_choice(self.name, value, self.choices)
        if isinstance(value, bool | float) or not isinstance(value, str | int) or value == "":
            raise InvalidInputError(f"{self.name} must be text, got {value!r:.40}")
        return str(value)

    @property
    def column(self) -> Column:
        """The column of the results that holds it."""
        return Column(name=self.name, data=self.data)


WORKLOAD = (
    Parameter(name="workload", data="text"),
    Parameter(name="trace", data="text"),
    Parameter(name="prompt", data="text"),
    Parameter(name="decode", data="text"),
)
LATENCY = (
    Parameter(name="latency", data="text"),
    Parameter(name="model", data="text"),
    Parameter(name="hardware", data="text"),
    Parameter(name="ffn_hardware", data="text"),
)
BUNDLE = (
    Parameter(name="batch_size"),
    Parameter(name="requests_per_worker"),
    Parameter(name="microbatches", default=2, maximum=8),
    Parameter(name="overlap", data="text", default="pipelined", choices=("pipelined", "ideal")),
    Parameter(name="ffn_workers", default=1),
)

CHOICES = (
    "batch_size",
    "requests_per_worker",
    "largest_batch_size",
    "microbatches",
    "attention_workers",
    "ffn_workers",
    "attention_devices",
    "ffn_devices",
    "placement",
    "memory",
)
"""Variables that an operator chooses; the others are the world, its limits, and the method."""


def batch_size(values: Mapping[str, Any]) -> int:
    """Return B from `batch_size` or from `requests_per_worker` (= m B).

    Raises
    ------
    InvalidInputError
        If the requests cannot be divided among the microbatches.
    """
    if values["requests_per_worker"] is None:
        return int(values["batch_size"])
    slots, microbatches = values["requests_per_worker"], values["microbatches"]
    if values["overlap"] == "ideal":
        raise InvalidInputError(
            "requests_per_worker counts microbatches, which overlap ideal ignores: give batch_size"
        )
    if slots % microbatches:
        raise InvalidInputError(
            f"requests_per_worker must be a multiple of microbatches {microbatches}, got {slots}"
        )
    return int(slots // microbatches)
