"""What happened in one part of a run: sums that can be added, and the columns of its logs?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.simulation import state as ix
from afdplan.simulation.engine import Engine

__all__ = [
    "BARRIER_FREE_CAUSES",
    "BARRIER_FREE_STEP_COLUMNS",
    "CAUSES",
    "REQUEST_COLUMNS",
    "STAGES",
    "STAGE_COLUMNS",
    "STEP_COLUMNS",
    "Histogram",
    "Part",
    "Recorder",
]

CAUSES = ("transfer", "barrier", "other side", "step overhead", "empty bundle")
"""Where idle time goes, in the order of the kernel."""

BARRIER_FREE_CAUSES = ("transfer", "departure", "other side", "step overhead", "empty bundle")
"""The same without the barrier: attention waits in the pool's queue, the pool by its rule."""

REQUEST_COLUMNS = (
    "prompt_tokens",
    "decode_tokens",
    "arrival_time",
    "start_time",
    "end_time",
    "attention_worker",
    "microbatch",
    "preemptions",
)
"""One row per finished request; a start of -2 says that it was found in its slot at time zero."""

STEP_COLUMNS = (
    "step",
    "microbatch",
    "end_time",
    "step_time",
    "active_requests",
    "kv_tokens",
    "kv_tokens_of_heaviest_worker",
    "queued_requests",
)
"""One row per microbatch and step; loads are those during the step."""

BARRIER_FREE_STEP_COLUMNS = tuple(
    "attention_worker" if name == "kv_tokens_of_heaviest_worker" else name for name in STEP_COLUMNS
)
"""One row per step of one microbatch of one attention worker."""

STAGE_COLUMNS = ("stage", "worker", "microbatch", "step", "layer", "start", "end")
"""One row per stage played."""

STAGES = ("attention", "transfer out", "FFN", "transfer back")
"""Names of the numbers in the column `stage`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Histogram:
    """Counts in bins 0.1 % wide: 1024 bins per octave.

    Attributes
    ----------
    bins
        Which bins hold something, increasing.
    counts
        How many, same shape.
    bin_base
        Number that the kernel took off each bin.
    """

    bins: IntArray
    counts: IntArray
    bin_base: int

    def __add__(self, other: Histogram) -> Histogram:
        """Return the counts of both."""
        bins, where = np.unique(np.concatenate([self.bins, other.bins]), return_inverse=True)
        counts = np.zeros(bins.size, dtype=np.int64)
        np.add.at(counts, where, np.concatenate([self.counts, other.counts]))
        return Histogram(bins=bins, counts=counts, bin_base=self.bin_base)

    def quantile(self, probability: float) -> float:
        """Return the smallest value with at least `probability` at or below, within 0.05 %."""
        if not self.counts.size:
            return 0.0
        number = int(self.bins[self._position(probability)])
        if number == 0:
            return 0.0
        low, high = self.edges(np.array([number, number + 1]))
        return float((low + high) / 2)

    def edges(self, numbers: IntArray) -> FloatArray:
        """Return the lower ends of bins by their numbers; that of bin 0 is 0."""
        ends = ((numbers + self.bin_base) << ix.BIN_SHIFT).view(np.float64)
        return np.where(numbers > 0, ends, 0.0)

    def bin_of(self, probability: float) -> int:
        """Return the bin in which that quantile lies, -1 if nothing was counted."""
        return int(self.bins[self._position(probability)]) if self.counts.size else -1

    def count_above(self, number: int) -> int:
        """Return how many values lie in higher bins than `number`."""
        return int(self.counts[np.searchsorted(self.bins, number, side="right") :].sum())

    def _position(self, probability: float) -> int:
        below = np.cumsum(self.counts)
        k = int(np.searchsorted(below, probability * below[-1] * (1 - 1e-12)))
        return min(k, self.bins.size - 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Sums over one part of a run.

    Attributes
    ----------
    integers, floats
        Totals of the kernel (indices in `state.py`), gained in this part.
    busy
        Attention time of all workers.
    idle, ffn_idle
        Idle time by cause, all workers and FFN, shape (5,).
    histograms
        Step times, times per output token, waits, KV tokens per worker.
    """

    integers: IntArray
    floats: FloatArray
    busy: float
    idle: FloatArray
    ffn_idle: FloatArray
    histograms: tuple[Histogram, ...]

    def __add__(self, other: Part) -> Part:
        """Return the sums over both parts."""
        return Part(
            integers=self.integers + other.integers,
            floats=self.floats + other.floats,
            busy=self.busy + other.busy,
            idle=self.idle + other.idle,
            ffn_idle=self.ffn_idle + other.ffn_idle,
            histograms=tuple(a + b for a, b in zip(self.histograms, other.histograms, strict=True)),
        )


class Recorder:
    """Cuts a run into parts: what the totals have gained since the last cut."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._last = self._totals()

    def cut(self) -> Part:
        """Return the part of the run since the last cut."""
        state = self.engine.state
        counts = state.whole("histograms")
        histograms = []
        for k in range(ix.HISTOGRAMS):
            bins = np.flatnonzero(counts[k] != 0)  # of booleans: ten times as quick
            histograms.append(
                Histogram(
                    bins=bins, counts=counts[k, bins], bin_base=int(self.engine.tables.bin_base)
                )
            )
            counts[k, bins] = 0
        now, before = self._totals(), self._last
        self._last = now
        return Part(
            integers=now[0] - before[0],
            floats=now[1] - before[1],
            busy=float(now[2] - before[2]),
            idle=now[3] - before[3],
            ffn_idle=now[4] - before[4],
            histograms=tuple(histograms),
        )

    def _totals(
        self,
    ) -> tuple[
        IntArray,
        FloatArray,
        float,
        FloatArray,
        FloatArray,
    ]:
        state = self.engine.state
        return (
            state.integers[: ix.INTEGER_TOTALS].copy(),
            state.floats[: ix.FLOAT_TOTALS].copy(),
            float(state.real("busy").sum()),
            state.real("idle").sum(axis=1),
            state.real("ffn_idle").copy(),
        )
