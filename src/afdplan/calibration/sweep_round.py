"""How long is a step at each ratio, for many candidate coefficients at once?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.model.sweep import RatioSweep

__all__ = ["COLUMNS", "Maximum", "SweepRound"]

Maximum = Literal["hard", "soft"]

COLUMNS = ("attention", "fixed", "intercept", "slope", "trip", "sharpness", "request", "length")
"""Coefficients of a round: a at the reference load [s], the shares of it that do not grow, grow
with the requests and grow with their mean length (the rest grows with the KV tokens), the FFN
line [s, s/token], the transfer there and back [s], and ln p of a soft maximum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRound:
    """What is known of a round before a sweep is fitted; see `calibration.sweep`.

    Attributes
    ----------
    layers, step_overhead, maximum
        L, seconds per step outside the layers, ``hard`` or ``soft``.
    tokens, requests, length
        The reference load of attention: B theta, B and theta.
    """

    layers: int
    step_overhead: float
    maximum: Maximum
    tokens: float
    requests: float
    length: float

    def attention(self, draws: FloatArray, points: RatioSweep) -> FloatArray:
        """Return a of every draw (`COLUMNS`) at every point, shape (draws, points) [s]."""
        at, fixed, _, _, _, _, request, length = (column[:, None] for column in draws.T)
        found: FloatArray = at * (
            fixed
            + request * points.batch_size / self.requests
            + length * points.mean_tokens / self.length
            + (1 - fixed - request - length) * points.attention_tokens / self.tokens
        )
        return found

    def ffn(self, draws: FloatArray, points: RatioSweep) -> FloatArray:
        """Return f of every draw at every point, shape (draws, points) [s]."""
        found: FloatArray = draws[:, 2:3] + draws[:, 3:4] * points.ffn_tokens
        return found

    def times(
        self, draws: FloatArray, points: RatioSweep, maximum: Maximum | None = None
    ) -> FloatArray:
        """Return the step time of every draw at every point, shape (draws, points) [s]."""
        attention, ffn = self.attention(draws, points), self.ffn(draws, points)
        busy = high = np.maximum(np.maximum(attention, ffn), 1e-300)
        if (maximum or self.maximum) == "soft":
            power = np.exp(draws[:, 5:6])
            busy = high * ((attention / high) ** power + (ffn / high) ** power) ** (1 / power)
        m, trip = points.microbatches, draws[:, 4:5]
        round_time = np.maximum(np.maximum(m * busy, m * trip / 2), attention + ffn + trip)
        times: FloatArray = self.layers * round_time + self.step_overhead
        return times
