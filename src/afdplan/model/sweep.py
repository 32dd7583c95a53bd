"""What does a sweep over ratios hold once it is read?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.errors import LatencyModelError
from afdplan.model.checks import frozen_array

__all__ = ["RatioSweep"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RatioSweep:
    """Step times of one model on one kind of hardware at several ratios, shapes (n,).

    Attributes
    ----------
    attention_workers, ffn_workers
        A and F of each point, > 0.
    batch_size
        B, request slots per attention worker and microbatch, > 0.
    microbatches
        m in flight, >= 1.
    mean_tokens
        Mean KV tokens per request (context), > 0.
    step_times
        Time of one decode step of all microbatches [s], > 0.
    source
        Where the points come from.
    notes
        What the reader decided, one sentence each.

    Raises
    ------
    LatencyModelError
        If a value is out of its domain; the message names the row.
    """

    attention_workers: FloatArray
    ffn_workers: FloatArray
    batch_size: FloatArray
    microbatches: FloatArray
    mean_tokens: FloatArray
    step_times: FloatArray
    source: str = "memory"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = np.asarray(self.step_times).size
        if count == 0:
            raise LatencyModelError("a ratio sweep needs one or more points, got none")
        for name in (
            "attention_workers",
            "ffn_workers",
            "batch_size",
            "microbatches",
            "mean_tokens",
            "step_times",
        ):
            value: Any = np.broadcast_to(getattr(self, name), (count,))
            array = frozen_array(value, np.float64)
            bad = ~np.isfinite(array) | (array <= 0)
            if bad.any():
                at = int(np.argmax(bad))
                raise LatencyModelError(
                    f"{name} of a ratio sweep must be finite and > 0, got {array[at]:g} "
                    f"in row {at + 1}"
                )
            object.__setattr__(self, name, array)

    @property
    def count(self) -> int:
        """Number of points n."""
        return int(self.step_times.size)

    @property
    def ffn_tokens(self) -> FloatArray:
        """Tokens of one FFN worker and microbatch, n = A B / F, of each point [tokens]."""
        return self.attention_workers * self.batch_size / self.ffn_workers

    @property
    def attention_tokens(self) -> FloatArray:
        """Mean KV tokens of one worker and microbatch, B theta, of each point [tokens]."""
        return self.batch_size * self.mean_tokens
