"""How many request slots has an attention worker per microbatch, however it was said?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from afdplan.errors import UnsupportedError
from afdplan.model import parameters as ask
from afdplan.model.parameter import Parameter

__all__ = ["slots_per_microbatch"]


def _name(parameter: Parameter) -> str:
    return parameter.name


def slots_per_microbatch(values: Mapping[str, Any], say: Callable[[Parameter], str] = _name) -> int:
    """Return B from `batch_size`, or from `requests_per_worker` (S = m B).

    Parameters
    ----------
    values
        With `microbatches` and `overlap`; None says nothing.
    say
        How messages call a parameter.

    Raises
    ------
    InvalidInputError
        If a number is out of its domain.
    UnsupportedError
        If both are given or none, or S cannot be divided among the microbatches.

    Examples
    --------
    >>> slots_per_microbatch(
    ...     {"requests_per_worker": 512, "microbatches": 2, "overlap": "pipelined"})
    256
    """
    b, s = say(ask.BATCH_SIZE), say(ask.REQUESTS_PER_WORKER)
    size, slots = values.get(ask.BATCH_SIZE.name), values.get(ask.REQUESTS_PER_WORKER.name)
    if (size is None) == (slots is None):
        raise UnsupportedError(f"give one of {b} (per microbatch) and {s} (= m B)")
    if size is not None:
        return int(ask.BATCH_SIZE.check(size))
    if values[ask.OVERLAP.name] == "ideal":
        raise UnsupportedError(
            f"{s} counts microbatches, which {say(ask.OVERLAP)} ideal ignores: give {b}"
        )
    microbatches = ask.MICROBATCHES.check(values[ask.MICROBATCHES.name])
    slots = ask.REQUESTS_PER_WORKER.check(slots)
    if slots % microbatches:
        raise UnsupportedError(
            f"{s} must be a multiple of {say(ask.MICROBATCHES)} {microbatches}, got {slots}"
        )
    return int(slots // microbatches)
