"""How many requests fit an attention worker, for every number of its devices?"""

from __future__ import annotations

import math
from typing import Any

from afdplan.lengths.law import LengthLaw
from afdplan.planning.cache_memory import CacheMemory, CacheSpace, CacheSums
from afdplan.planning.limits import Limits
from afdplan.planning.source import LatencySource

__all__ = ["WorkerMemories"]


class WorkerMemories:
    """The KV memory of attention workers under one workload; laws are computed once.

    Parameters
    ----------
    law
        Joint law of prompt and decode lengths.
    source
        Room of a worker.
    factor
        Scales every room (> 0), to ask what more memory would bring.
    load_factor
        Scales every load (> 0), to ask what another mean load would do.
    """

    def __init__(
        self,
        law: LengthLaw,
        source: LatencySource,
        *,
        factor: float = 1.0,
        load_factor: float = 1.0,
    ) -> None:
        self._law = law
        self._source = source
        # Loads that are k times as large in a room are loads as they are in 1/k of it.
        self._factor = factor
        self._load_factor = load_factor
        self._workers: dict[int, CacheMemory | None] = {}
        self._most: dict[tuple[int, int, float, float], float] = {}
        self._sums: dict[tuple[Any, ...], CacheSums] = {}

    def scaled(self, factor: float) -> WorkerMemories:
        """Return the memories of `factor` times the room; all laws stay shared."""
        other = WorkerMemories(
            self._law,
            self._source,
            factor=self._factor * factor,
            load_factor=self._load_factor,
        )
        other._sums = self._sums
        return other

    def of_worker(self, attention_devices: int) -> CacheMemory | None:
        """Return the memory of a worker with so many devices; None without a limit."""
        if attention_devices not in self._workers:
            space = self._source.cache(attention_devices)
            self._workers[attention_devices] = (
                None if space is None else self.of_space(space.scaled(self._factor))
            )
        return self._workers[attention_devices]

    def of_space(self, space: CacheSpace) -> CacheMemory:
        """Return the memory of a room; laws are shared between rooms of like kinds."""
        first = space.kinds[0].bytes_per_token
        key = tuple((round(k.bytes_per_token / first, 9), k.window) for k in space.kinds)
        if key not in self._sums:
            self._sums[key] = CacheSums(self._law, space.kinds)
        return CacheMemory(self._sums[key], space.scaled(1 / self._load_factor))

    def most_requests(self, attention_devices: int, largest: int, limits: Limits) -> float:
        """Return the most requests, up to `largest`, that fit a worker; infinite without a limit.

        0 if not even one fits.
        """
        key = (attention_devices, largest, limits.overflow_probability, limits.margin)
        if key not in self._most:
            memory = self.of_worker(attention_devices)
            self._most[key] = (
                math.inf
                if memory is None
                else memory.most_requests(limits.overflow_probability, 1 - limits.margin, largest)
            )
        return self._most[key]
