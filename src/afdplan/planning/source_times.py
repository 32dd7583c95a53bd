"""What do the stages of a candidate take, whatever the requests are?"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, cast

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers
from afdplan.planning.ratio_blocks import RatioBlocks
from afdplan.planning.source import LatencySource
from afdplan.theory.shared_times import StageTimes, shared_times

__all__ = ["SourceTimes"]


RISING = 0.998
"""How exactly the law of the busiest expert rank rises with the number of ranks."""


class SourceTimes:
    """The times of a source, each computed once; searches over other requests share them.

    Parameters
    ----------
    source
        Stage times.
    """

    def __init__(self, source: LatencySource) -> None:
        self.source = source
        numbers = source.ffn_workers(100_000)
        self._any_ffn = numbers[0] if numbers else 1
        self._ffn_sides: dict[int, LatencyModel] = {}
        self._attentions: dict[tuple[int, int], tuple[AttentionLayers, ...]] = {}
        self._attention_sides: dict[tuple[int, int], LatencyModel] = {}
        self._unsplit_sides: dict[tuple[int, int], LatencyModel] = {}
        self._unsplit_attentions: dict[tuple[int, int], tuple[AttentionLayers, ...]] = {}
        self._envelopes: dict[tuple[int, RatioBlocks], StageTimes] = {}

    def stages(
        self,
        attention: IntArray | FloatArray,
        ffn: IntArray,
        batch_size: int,
        *,
        at_least: bool = False,
    ) -> StageTimes:
        """Return the FFN and transfer times of pairs (A, F), shape (n,).

        With `at_least` what their means are at least: of many numbers of FFN workers that differ in
        the barrier over expert ranks only, few laws are computed.
        """
        workers = attention.astype(np.float64)
        together = self.source.shares_ffn_latency
        few = together and not self.source.shares_ffn_times
        parts = []
        for f in (self._any_ffn,) if together else np.unique(ffn):
            model = self._ffn_side(int(f))
            at = slice(None) if together else ffn == f
            least = (_fewer(ffn[at]) if few else ffn[at]) if at_least else None
            part = shared_times(model, workers[at], ffn[at], batch_size, least_of=least)
            if at_least and model.experts is not None:
                part = replace(part, ffn=RISING * part.ffn)
            parts.append((at, part))
        return _joined(parts, workers)

    def envelope(self, blocks: RatioBlocks, batch_size: int) -> StageTimes:
        """Return FFN and transfer times at the lower end of each block, for one F after another."""
        key = (batch_size, blocks)
        if key not in self._envelopes:
            low, numbers = blocks.edges[:-1], blocks.ffn_numbers
            # The real pair (r F, F) stands for the block: loads depend on A / F only.
            ffn = np.repeat(numbers, low.size)
            attention = np.tile(low, len(numbers)) * ffn
            self._envelopes[key] = self.stages(attention, ffn, batch_size, at_least=True)
        return self._envelopes[key]

    def attention_of(self, attention_devices: int, batch_size: int) -> tuple[AttentionLayers, ...]:
        """Return the attention layers that are right for these two."""
        key = (attention_devices, batch_size)
        if key not in self._attentions:
            self._attentions[key] = self.source.attention(attention_devices, batch_size)
        return self._attentions[key]

    def attention_side(self, attention_devices: int, batch_size: int) -> LatencyModel:
        """Return a latency model whose attention side is right for these two."""
        key = (attention_devices, batch_size)
        if key not in self._attention_sides:
            self._attention_sides[key] = self.source.latency(
                attention_devices, self._any_ffn, batch_size
            )
        return self._attention_sides[key]

    def unsplit_side(self, devices: int, ranks: int) -> LatencyModel:
        """Return a latency model whose FFN and transfers are right for so many ranks."""
        if (devices, ranks) not in self._unsplit_sides:
            self._unsplit_sides[devices, ranks] = self.source.colocated.latency(devices, ranks, 1)
        return self._unsplit_sides[devices, ranks]

    def unsplit_attention(
        self, devices: int, ranks: int, batch_size: int
    ) -> tuple[AttentionLayers, ...]:
        """Return the attention layers of a rank, which every width has."""
        key = (devices, batch_size)
        if key not in self._unsplit_attentions:
            self._unsplit_attentions[key] = self.source.colocated.attention(
                devices, ranks, batch_size
            )
        return self._unsplit_attentions[key]

    def _ffn_side(self, ffn_workers: int) -> LatencyModel:
        if ffn_workers not in self._ffn_sides:
            first = self.source.attention_devices[0]
            self._ffn_sides[ffn_workers] = self.source.latency(first, ffn_workers, 1)
        return self._ffn_sides[ffn_workers]


def _joined(parts: list[tuple[Any, StageTimes]], workers: FloatArray) -> StageTimes:
    """Return the stage times of all designs, from those of groups of them."""
    if len(parts) == 1:
        return parts[0][1]
    joined: dict[str, FloatArray | None] = {}
    for one in fields(StageTimes):
        values = [(at, getattr(part, one.name)) for at, part in parts]
        if all(value is None for _, value in values):
            joined[one.name] = None
            continue
        column = np.zeros(workers.size)
        for at, value in values:
            column[at] = 0.0 if value is None else value
        joined[one.name] = column
    return StageTimes(**cast(Any, joined))


def _fewer(ffn_workers: IntArray) -> IntArray:
    """Return numbers no larger, of which there are eight between powers of two."""
    marks = np.unique((2.0 ** (np.arange(8 * 20) / 8)).astype(np.int64))
    fewer: IntArray = marks[np.searchsorted(marks, ffn_workers, side="right") - 1]
    return fewer
