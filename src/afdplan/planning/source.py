"""Where do stage times and memory of a candidate design come from?"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, Final, Protocol

from afdplan.deploy.target import Target
from afdplan.model.kinds import check_latency
from afdplan.model.latency import LatencyModel, TimeUnit
from afdplan.model.stages import AttentionLayers
from afdplan.model.words import counted
from afdplan.planning.cache_memory import CacheSpace

__all__ = [
    "GATHERED",
    "GATHERED_WORDS",
    "ColocatedParts",
    "LatencySource",
    "MeasuredSource",
    "gathered",
    "source_for",
]


class ColocatedParts(Protocol):
    """The same model on devices that run attention and FFN in turn."""

    def widths(self, attention_devices: int, most_devices: int) -> tuple[int, ...]:
        """Return the numbers of ranks over which experts can be spread."""

    def latency(self, attention_devices: int, ranks: int, batch_size: int) -> LatencyModel:
        """Return the stage times of a rank."""

    def attention(
        self, attention_devices: int, ranks: int, batch_size: int
    ) -> tuple[AttentionLayers, ...]:
        """Return the attention side of `latency`."""

    def ffn_tokens(self, attention_devices: int, batch_size: int) -> float:
        """Return the load of the FFN curve when every rank has B tokens."""

    def cache(self, attention_devices: int, ranks: int) -> CacheSpace | None:
        """Return the room for KV cache of a rank; None if the memory is not limited."""


class LatencySource(Protocol):
    """Stage times and memory as functions of the design.

    The attention side depends on (attention_devices, batch_size) only, the FFN side on
    ffn_workers only; the search relies on it.
    """

    @property
    def name(self) -> str:
        """What is modelled, for people."""

    @property
    def time_unit(self) -> TimeUnit:
        """Unit of all times."""

    @property
    def attention_devices(self) -> tuple[int, ...]:
        """Choices for the devices of one attention worker."""

    @property
    def ffn_devices(self) -> int:
        """Devices of one FFN worker."""

    @property
    def least_device_ratio(self) -> float:
        """Least attention devices per FFN device for which the times hold."""

    @property
    def shares_ffn_times(self) -> bool:
        """Whether the FFN side is the same for every number of FFN workers."""

    @property
    def shares_ffn_latency(self) -> bool:
        """Whether at most the barrier over alike expert ranks depends on their number.

        Then fewer FFN workers are never slower at equal A / F, nor more of them at equal A.
        """

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What was assumed, one sentence each."""

    @property
    def colocated(self) -> ColocatedParts:
        """The un-split deployment."""

    def ffn_workers(self, most: int) -> tuple[int, ...]:
        """Return the numbers F <= `most` of FFN workers that hold the weights, ascending."""

    def latency(self, attention_devices: int, ffn_workers: int, batch_size: int) -> LatencyModel:
        """Return the stage times of a design."""

    def attention(self, attention_devices: int, batch_size: int) -> tuple[AttentionLayers, ...]:
        """Return the attention side of `latency`."""

    def cache(self, attention_devices: int) -> CacheSpace | None:
        """Return the room for KV cache of an attention worker; None if memory is not limited."""

    def sharing(self, fraction: float) -> LatencySource:
        """Return the source where shared blocks leave a fraction of every request's KV memory."""

    def gathering(self) -> LatencySource:
        """Return the source where each attention worker has one FFN worker (`GATHERED`)."""


GATHERED: Final[dict[str, Any]] = {"fan_in": "whole", "dense_share": 1.0}
"""Every FFN worker is as slow as the one that serves ``ceil(A / F)`` attention workers: they wait
for one another in every layer, and captured graphs pad all to the largest."""


def source_for(target: Target, source: LatencySource) -> LatencySource:
    """Return the source as a serving system couples its workers.

    Examples
    --------
    >>> from afdplan.deploy.registry import find_target
    >>> from afdplan.model.latency import LatencyModel
    >>> model = LatencyModel.linear(attention=(1e-9, 2e-5), ffn=(2e-7, 1e-4), layers=60)
    >>> source = source_for(find_target("vllm-afd-plugin"), MeasuredSource(model))
    >>> source.latency(1, 2, 8).coupling.fan_in
    'whole'
    """
    return source.gathering() if target.pairs.is_uneven else source


def gathered(latency: LatencyModel) -> LatencyModel:
    """Return the model with the coupling of `GATHERED`."""
    coupling = latency.coupling
    if coupling.fan_in == "whole":
        return latency  # what was measured is kept
    return replace(latency, coupling=replace(coupling, **GATHERED))


GATHERED_WORDS = (
    "every FFN worker takes as long as the one that serves ceil(A / F) attention workers"
)


class MeasuredSource:
    """One latency model, as measured or given, for every design.

    Parameters
    ----------
    latency_model
        Stage times of one attention and one FFN worker.
    attention_devices, ffn_devices
        Devices of one worker when the times were taken.
    kv_tokens
        KV tokens that fit on one attention worker; None leaves memory unlimited.
    cache
        The room on one attention worker in place of `kv_tokens`.
    colocated_kv_tokens
        The same on a worker that holds the FFN weights too; `kv_tokens` unless given.
    """

    def __init__(
        self,
        latency_model: LatencyModel,
        *,
        attention_devices: int = 1,
        ffn_devices: int = 1,
        kv_tokens: float | None = None,
        cache: CacheSpace | None = None,
        colocated_kv_tokens: float | None = None,
    ) -> None:
        self._model = latency_model
        check_latency(latency_model, "latency_model")
        self.name = latency_model.name
        self.time_unit = latency_model.time_unit
        self.attention_devices = (attention_devices,)
        self.ffn_devices = ffn_devices
        experts = latency_model.experts
        self.shares_ffn_times = experts is None or experts.imbalance is not None
        self.shares_ffn_latency = experts is None or not experts.popularity or self.shares_ffn_times
        self.least_device_ratio = 0.0
        self._space = cache if kv_tokens is None else CacheSpace.tokens(kv_tokens)
        together = self._space
        if colocated_kv_tokens is not None:
            together = CacheSpace.tokens(colocated_kv_tokens)
        self.colocated = _MeasuredColocated(latency_model, ffn_devices, together)
        lines = list(latency_model.assumptions)
        if self._space is None:
            lines.append("KV memory is not limited: nobody said how many tokens fit")
        elif colocated_kv_tokens is None:
            lines.append(
                "colocated workers have as much room for KV cache, though they hold the FFN "
                "weights too: this flatters the baseline"
            )
        lines.append(
            "the latency model holds for every number of FFN workers and for colocated ranks: it "
            "says nothing of what a wider spread of the experts would save"
        )
        self.assumptions = tuple(lines)

    def __str__(self) -> str:
        """Return in a sentence what was measured, and of which devices."""
        attention = counted(self.attention_devices[0], "device")
        return (
            f"{self.name}: measured stage times, attention workers of {attention}, FFN workers of "
            f"{counted(self.ffn_devices, 'device')}."
        )

    def ffn_workers(self, most: int) -> tuple[int, ...]:
        """Return 1 .. `most`; with a known popularity those whose ranks divide the experts."""
        experts = self._model.experts
        return tuple(f for f in range(1, most + 1) if experts is None or experts.spreads(f))

    def latency(self, attention_devices: int, ffn_workers: int, batch_size: int) -> LatencyModel:
        """Return the one model."""
        return self._model

    def attention(self, attention_devices: int, batch_size: int) -> tuple[AttentionLayers, ...]:
        """Return that of the one model."""
        return self._model.attention

    def cache(self, attention_devices: int) -> CacheSpace | None:
        """Return the stated room."""
        return self._space

    def sharing(self, fraction: float) -> MeasuredSource:
        """Return the source where shared blocks leave a fraction of every request's KV memory."""
        other = copy.copy(self)
        if self._space is not None:
            other._space = self._space.sharing(fraction)
        other.colocated = self.colocated.sharing(fraction)
        return other

    def gathering(self) -> MeasuredSource:
        """Return the source where each attention worker has one FFN worker."""
        other = copy.copy(self)
        other._model = gathered(self._model)
        other.assumptions = tuple(dict.fromkeys((*self.assumptions, GATHERED_WORDS)))
        return other


class _MeasuredColocated:
    """The devices of one FFN worker run the attention of ``d_F / d_A`` ranks in turn."""

    def __init__(self, model: LatencyModel, ffn_devices: int, space: CacheSpace | None) -> None:
        self._model = model
        self._ffn_devices = ffn_devices
        self._space = space

    def widths(self, attention_devices: int, most_devices: int) -> tuple[int, ...]:
        """Return whole multiples of one FFN worker's devices, doubling, that hold the experts."""
        found, width, experts = [], 1, self._model.experts
        while width * attention_devices <= most_devices:
            workers, rest = divmod(width * attention_devices, self._ffn_devices)
            if not rest and (experts is None or experts.spreads(workers)):
                found.append(width)
            width *= 2
        group = self._ffn_devices // attention_devices
        if not found and group and group * attention_devices <= most_devices:
            found.append(group)
        return tuple(found)

    def latency(self, attention_devices: int, ranks: int, batch_size: int) -> LatencyModel:
        """Return the one model."""
        return self._model

    def attention(
        self, attention_devices: int, ranks: int, batch_size: int
    ) -> tuple[AttentionLayers, ...]:
        """Return that of the one model."""
        return self._model.attention

    def ffn_tokens(self, attention_devices: int, batch_size: int) -> float:
        """Return the tokens of all ranks on the devices of one FFN worker."""
        return batch_size * self._ffn_devices / attention_devices

    def cache(self, attention_devices: int, ranks: int) -> CacheSpace | None:
        """Return the stated room."""
        return self._space

    def sharing(self, fraction: float) -> _MeasuredColocated:
        space = None if self._space is None else self._space.sharing(fraction)
        return _MeasuredColocated(self._model, self._ffn_devices, space)
