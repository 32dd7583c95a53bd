"""How long is a round when the loads are no random variables: mean field and aligned ages?

Requests of equal lengths are periodic: with D > 1 their ages never mix. If all slots have the
same age (what benchmarks with fixed lengths do), every worker holds ``B (P + age)`` tokens, ages
0 .. D - 1 in turn, and the long-run round is the average of the deterministic one over ages.
"""

from __future__ import annotations

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.lengths.law import LengthLaw

__all__ = ["aligned_loads", "constant_round"]


AGES = 4096
"""Longer outputs are represented by so many ages, evenly spread."""


def aligned_loads(law: LengthLaw, window: int | None) -> FloatArray:
    """Return the load of one slot at each age (at most 4,096 of them), shape (ages,) [tokens].

    Parameters
    ----------
    law
        A law by which all requests are alike.
    window
        Context window of the layers [tokens]; None reads the whole context.
    """
    decode = round(law.mean_decode_tokens)
    count = min(decode, AGES)
    # Midpoints of equal shares of the ages; with count == decode these are the ages themselves.
    ages = (np.arange(count, dtype=np.float64) + 0.5) * (decode / count) - 0.5
    loads: FloatArray = law.mean_prompt_tokens + ages
    return loads if window is None else np.minimum(loads, window)


def constant_round(
    attention: FloatArray,
    ffn: FloatArray,
    out: FloatArray,
    back: FloatArray,
    microbatches: int,
    saved: FloatArray | float = 0.0,
) -> FloatArray:
    """Return ``max(m a, m f, m c_out, m c_back, a + f + c)``, the period with constant loads.

    Parameters
    ----------
    attention, ffn, out, back
        a, f, c_out, c_back [time]; shapes broadcast.
    microbatches
        m.
    saved
        By how much a trip is shorter than its stages, where a transfer is part of a or f too.

    Examples
    --------
    >>> constant_round(np.array([2.0]), np.array([3.0]), np.zeros(1), np.zeros(1), 2)
    array([6.])
    """
    m = microbatches
    busiest: FloatArray = m * np.maximum(np.maximum(attention, ffn), np.maximum(out, back))
    return np.maximum(busiest, attention + ffn + out + back - saved)
