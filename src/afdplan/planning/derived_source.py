"""What does a model on given hardware take, for every split of its devices?"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

from afdplan.calibration.derived import derived_assumptions, times_of
from afdplan.calibration.derived_attention import AttentionTimes
from afdplan.calibration.derived_error import with_factor
from afdplan.calibration.placement import Placement
from afdplan.calibration.serving_system import SYSTEMS
from afdplan.errors import InfeasibleError, InvalidInputError
from afdplan.model.curve import LinearCurve
from afdplan.model.kinds import check_kind
from afdplan.model.latency import LatencyModel, TimeUnit
from afdplan.model.stages import AttentionLayers, Transfer
from afdplan.planning.cache_memory import CacheSpace
from afdplan.planning.source import GATHERED_WORDS, gathered

__all__ = ["DerivedSource", "exchange_wait"]

TENSOR_PARALLEL = (1, 2, 4, 8)


class DerivedSource:
    """Stage times from sizes and hardware, with the experts spread over the F workers of a bundle.

    An FFN worker is one device: F devices that share the experts are what a bundle couples.

    Parameters
    ----------
    placement
        Model, hardware, formats; its numbers of devices and its batch size are replaced.
    attention_devices
        Choices for the tensor-parallel devices of an attention worker; unless given, 1, 2, 4
        and 8 as far as heads and a node allow.

    Raises
    ------
    InfeasibleError
        If no choice leaves memory for the KV cache.
    InvalidInputError
        If `placement` is none.
    """

    def __init__(
        self, placement: Placement, attention_devices: tuple[int, ...] | None = None
    ) -> None:
        mend = "derived_model(MODEL, HARDWARE).placement is one"
        check_kind("placement", placement, Placement, mend)
        self.placement = replace(
            placement,
            ffn_devices=1,
            ffn_workers=1,
            attention_devices=1,
            # The search decides this, not the placement.
            assumptions=tuple(
                assumed for assumed in placement.assumptions if assumed.key != "ffn-devices"
            ),
        )
        self.time_unit: TimeUnit = "s"
        self.ffn_devices = 1
        # Transfers are limited by the FFN side's links: true while it has no more devices.
        self.least_device_ratio = 1.0
        self.shares_ffn_times = self.shares_ffn_latency = not placement.architecture.experts
        self._models = _BatchModels(self._place)
        self._spaces: dict[int, CacheSpace] = {}
        self._slower: dict[tuple[str, float], DerivedSource] = {}
        node = placement.attention_hardware.devices_per_node
        shortest = 0.0
        for devices in attention_devices or [d for d in TENSOR_PARALLEL if d <= node]:
            try:
                memory = replace(self.placement, attention_devices=devices).memory()
            except InvalidInputError:
                if attention_devices is not None:
                    raise
                continue
            space = CacheSpace.of(memory)
            if space is None:
                need = memory.attention_weight_bytes + memory.reserve_bytes
                shortest = need - memory.attention_memory_bytes
                continue
            self._spaces[devices] = space
        if not self._spaces:
            raise InfeasibleError(
                "no memory is left for the KV cache after weights and reserve: "
                f"{shortest / 1e9:.1f} GB per attention device are missing; give other hardware, "
                "another precision or more devices per attention worker"
            )
        self.attention_devices = tuple(self._spaces)
        self.colocated = _DerivedColocated(self.placement)
        self._unique = 1.0
        self._gathers = False

    def __str__(self) -> str:
        """Return in a sentence what is derived, and for which widths."""
        widths = " or ".join(map(str, self.attention_devices))
        return f"{self.name}: derived stage times, attention workers of {widths} devices."

    def of(self, placement: Placement) -> DerivedSource:
        """Return the same choices for another placement."""
        other = DerivedSource(placement, self.attention_devices).sharing(self._unique)
        return other.gathering() if self._gathers else other

    def sharing(self, fraction: float) -> DerivedSource:
        """Return the source where shared blocks leave a fraction of every request's KV memory."""
        other = copy.copy(self)
        other._slower = {}
        other._unique = self._unique * fraction
        other._spaces = {d: space.sharing(fraction) for d, space in self._spaces.items()}
        other.colocated = _DerivedColocated(self.placement, other._unique)
        return other

    def gathering(self) -> DerivedSource:
        """Return the source where each attention worker has one FFN worker."""
        other = copy.copy(self)
        other._slower, other._gathers = {}, True
        return other

    def slower(self, part: str, factor: float) -> DerivedSource:
        """Return the same choices with the times of one part multiplied; each is made once."""
        if (part, factor) not in self._slower:
            self._slower[part, factor] = self.of(with_factor(self.placement, part, factor))
        return self._slower[part, factor]

    @property
    def name(self) -> str:
        """Model on hardware."""
        return self.latency(self.attention_devices[0], self._examples[0], 1).name

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the derived latency assumes, but not what the search decides."""
        example = replace(
            self.placement,
            attention_devices=self.attention_devices[0],
            ffn_workers=self._examples[0],
            batch_size=1,
        )
        moot = ("expert-spread", "transfer-side")
        kept = [line.text for line in derived_assumptions(example) if line.key not in moot]
        if self.placement.architecture.experts:
            kept.append("every FFN device of a bundle holds equally many routed experts")
        kept.append(
            "un-split ranks wait for the slowest of them at both exchanges of a layer: "
            f"{exchange_wait(16) * 1e6:.0f} µs at 16 ranks, {exchange_wait(64) * 1e6:.0f} µs at 64"
        )
        kept.append(
            "bundles have at least as many attention as FFN devices, so that the links of the "
            "FFN side limit transfers"
        )
        kept.append(
            "a tenth of the memory is reserved; rounding of the cache to pages is not counted"
        )
        return (*kept, GATHERED_WORDS) if self._gathers else tuple(kept)

    @cached_property
    def _examples(self) -> tuple[int, ...]:
        return self._numbers or (1,)

    def ffn_workers(self, most: int) -> tuple[int, ...]:
        """Return the F that hold the weights and divide the experts; any for a dense model."""
        return tuple(f for f in self._numbers if f <= most)

    @cached_property
    def _numbers(self) -> tuple[int, ...]:
        experts = self.placement.architecture.experts
        even = [f for f in range(1, (experts or 64) + 1) if not experts or experts % f == 0]
        return tuple(f for f in even if replace(self.placement, ffn_workers=f).memory().ffn_fits)

    def latency(self, attention_devices: int, ffn_workers: int, batch_size: int) -> LatencyModel:
        """Return the derived model of a design, its projections exact at the batch size."""
        found = self._models.of(attention_devices, ffn_workers, batch_size)
        return gathered(found) if self._gathers else found

    def attention(self, attention_devices: int, batch_size: int) -> tuple[AttentionLayers, ...]:
        """Return its attention side, which no number of FFN workers changes."""
        return self._models.attention(attention_devices, self._examples[0], batch_size)

    def _place(self, attention_devices: int, ffn_workers: int, batch_size: int) -> Placement:
        return replace(
            self.placement,
            attention_devices=attention_devices,
            ffn_workers=ffn_workers,
            batch_size=batch_size,
        )

    def cache(self, attention_devices: int) -> CacheSpace | None:
        """Return what attention weights and reserve leave."""
        return self._spaces[attention_devices]


WAIT_SCALE = 7.0e-6
"""Least wait of a law of waits with a tail of power 2 [s], from xDeepServe (arXiv:2508.02520,
section 7): at 288 ranks a dispatch took 49 us and a combine 147 us longer in the mean than at
least. No un-split step time was used."""


def exchange_wait(ranks: int) -> float:
    """Return how long both exchanges of a layer wait for the slowest of `ranks` [s].

    A rank is late by a Pareto time with tail power 2 (the largest dispatch of 288 ranks took 5.3
    times the mean, the largest combine 9.4 times): its largest of W is on average
    ``x sqrt(pi) Gamma(W + 1) / Gamma(W + 1/2)``, of which one rank's own mean, 2 x, is no wait.

    Examples
    --------
    >>> [round(1e6 * exchange_wait(w)) for w in (1, 4, 16, 64, 288)]
    [0, 12, 36, 85, 197]
    """
    largest = math.exp(math.lgamma(ranks + 1) - math.lgamma(ranks + 0.5)) * math.sqrt(math.pi)
    return WAIT_SCALE * max(largest - 2.0, 0.0)


def _later(way: Transfer, wait: float) -> Transfer:
    curve = way.curve
    assert isinstance(curve, LinearCurve)
    return replace(way, curve=replace(curve, intercept=curve.intercept + wait))


class _BatchModels:
    """Derived models of placements that differ in numbers only; of the batch size, attention does.

    A search asks for thousands of batch sizes: what does not depend on them is derived once.
    """

    def __init__(self, place: Callable[[int, int, int], Placement]) -> None:
        self._place = place
        self._models: dict[tuple[int, int], tuple[LatencyModel, AttentionTimes]] = {}

    def of(self, attention_devices: int, workers: int, batch_size: int) -> LatencyModel:
        """Return `times_of` the placement."""
        model, attention = self._known(attention_devices, workers, batch_size)
        return replace(model, attention=attention.layers(batch_size))

    def attention(
        self, attention_devices: int, workers: int, batch_size: int
    ) -> tuple[AttentionLayers, ...]:
        """Return the attention side alone."""
        return self._known(attention_devices, workers, batch_size)[1].layers(batch_size)

    def _known(
        self, attention_devices: int, workers: int, batch_size: int
    ) -> tuple[LatencyModel, AttentionTimes]:
        key = (attention_devices, workers)
        if key not in self._models:
            placement = self._place(attention_devices, workers, batch_size)
            self._models[key] = (times_of(placement), AttentionTimes(placement))
        return self._models[key]


class _DerivedColocated:
    """Ranks that hold attention weights and their share of the experts, and wait for each other.

    Transfers are those of separate kernels, and every rank scores its own experts; both exchanges
    of a layer wait for the slowest rank (`exchange_wait`), half of it each.
    """

    def __init__(self, placement: Placement, unique: float = 1.0) -> None:
        self._unique = unique
        self._placement = replace(
            placement, ffn_hardware=placement.attention_hardware, system=SYSTEMS["any"]
        )
        self._models = _BatchModels(self._place)
        self._spaces: dict[tuple[int, int], CacheSpace | None] = {}

    def widths(self, attention_devices: int, most_devices: int) -> tuple[int, ...]:
        """Return powers of two of ranks that hold the weights and share the experts evenly."""
        experts = self._placement.architecture.experts
        found, width = [], 1
        while width * attention_devices <= most_devices:
            even = not experts or experts % (width * attention_devices) == 0
            if even and self.cache(attention_devices, width) is not None:
                found.append(width)
            width *= 2
        return tuple(found)

    def latency(self, attention_devices: int, ranks: int, batch_size: int) -> LatencyModel:
        """Return stage times with the experts over all ranks, waits in the transfers."""
        model = self._models.of(attention_devices, ranks, batch_size)
        wait = exchange_wait(ranks) * self._placement.efficiencies.factor("waiting") / 2
        return replace(model, send=_later(model.send, wait), receive=_later(model.receive, wait))

    def attention(
        self, attention_devices: int, ranks: int, batch_size: int
    ) -> tuple[AttentionLayers, ...]:
        """Return its attention side."""
        return self._models.attention(attention_devices, ranks, batch_size)

    def ffn_tokens(self, attention_devices: int, batch_size: int) -> float:
        """Return the B tokens of a rank: each rank is an FFN worker too."""
        return float(batch_size)

    def cache(self, attention_devices: int, ranks: int) -> CacheSpace | None:
        """Return what both kinds of weights leave."""
        key = (attention_devices, ranks)
        if key not in self._spaces:
            memory = self._place(*key, None).memory()
            both = memory.attention_weight_bytes + memory.ffn_weight_bytes
            space = CacheSpace.of(replace(memory, attention_weight_bytes=both))
            self._spaces[key] = None if space is None else space.sharing(self._unique)
        return self._spaces[key]

    def _place(self, attention_devices: int, ranks: int, batch_size: int | None) -> Placement:
        inside = ranks * attention_devices <= self._placement.attention_hardware.scale_up_devices
        return replace(
            self._placement,
            attention_devices=attention_devices,
            ffn_devices=attention_devices,
            ffn_workers=ranks,
            link="scale-up" if inside else "scale-out",
            batch_size=batch_size,
        )
