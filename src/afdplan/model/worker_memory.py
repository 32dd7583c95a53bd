"""How much memory do the devices of attention and FFN workers have, and what fills it?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from afdplan.model.checks import check_count, check_number

__all__ = ["CacheKind", "WorkerMemory"]


class CacheKind(NamedTuple):
    """What one token of a request occupies, as long as it is in the window.

    Attributes
    ----------
    bytes_per_token
        On one device, all layers of the kind together [bytes].
    window
        Most tokens of one request that are kept; None keeps all, 1 is a recurrent layer's state.
    """

    bytes_per_token: float
    window: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerMemory:
    """The memory of one device of an attention worker and of one of an FFN worker.

    Attributes
    ----------
    attention_devices, ffn_devices
        Devices of one worker of each side.
    attention_memory_bytes, ffn_memory_bytes
        Memory of one device [bytes].
    attention_weight_bytes, ffn_weight_bytes
        Weights on one device [bytes].
    reserve_bytes
        Kept free on one attention device for activations, graphs and fragments [bytes].
    cache
        Kinds of KV cache on one attention device.

    Examples
    --------
    >>> memory = WorkerMemory(attention_devices=1, ffn_devices=8, attention_memory_bytes=141e9,
    ...     ffn_memory_bytes=141e9, attention_weight_bytes=13e9, ffn_weight_bytes=82e9,
    ...     reserve_bytes=14e9, cache=(CacheKind(70_272.0, None),))
    >>> memory.cache_capacity_bytes
    114000000000.0
    """

    attention_devices: int
    ffn_devices: int
    attention_memory_bytes: float
    ffn_memory_bytes: float
    attention_weight_bytes: float
    ffn_weight_bytes: float
    reserve_bytes: float
    cache: tuple[CacheKind, ...]

    def __post_init__(self) -> None:
        check_count("attention_devices", self.attention_devices)
        check_count("ffn_devices", self.ffn_devices)
        for name in ("attention_memory_bytes", "ffn_memory_bytes"):
            check_number(name, getattr(self, name), strict=True)
        for name in ("attention_weight_bytes", "ffn_weight_bytes", "reserve_bytes"):
            check_number(name, getattr(self, name))

    @property
    def cache_capacity_bytes(self) -> float:
        """Memory left for KV cache on one attention device; 0 if the weights do not fit."""
        free = self.attention_memory_bytes - self.attention_weight_bytes - self.reserve_bytes
        return max(0.0, free)

    @property
    def cache_bytes_per_token(self) -> float:
        """KV bytes on one attention device of one more token of a long request."""
        return sum(kind.bytes_per_token for kind in self.cache if kind.window is None)

    def request_cache_bytes(self, tokens: float) -> float:
        """Return the KV bytes on one attention device of a request that holds `tokens`."""
        return sum(
            kind.bytes_per_token * (tokens if kind.window is None else min(tokens, kind.window))
            for kind in self.cache
        )

    @property
    def ffn_fits(self) -> bool:
        """Whether the FFN weights leave a tenth of the device memory free."""
        return self.ffn_weight_bytes <= 0.9 * self.ffn_memory_bytes
