"""How long does one stage of a layer take: attention of one kind, one direction of the link?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args, overload

import numpy.typing as npt

from afdplan.arrays import FloatArray
from afdplan.errors import LatencyModelError
from afdplan.model.checks import check_choice, check_count, check_number
from afdplan.model.curve import CURVES, Curve

__all__ = ["BESIDE_THE_CURVE", "AttentionLayers", "Transfer", "TransferLoad", "check_curve"]

TransferLoad = Literal["worker", "aggregate"]
BESIDE_THE_CURVE = ("time_per_request", "time_per_context")
"""What attention takes beside its curve; both are coefficients."""


def check_curve(name: str, value: Any) -> None:
    """Raise unless `value` is one of the known curves; `name` is what the message calls it."""
    if not isinstance(value, Curve):
        known = ", ".join(curve.__name__ for curve in CURVES.values())
        raise LatencyModelError(f"{name} must be one of {known}, got {type(value).__name__}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionLayers:
    """The attention layers of one kind: how many, how long each takes, how far back each reads.

    One such layer takes ``curve(T) + time_per_request B + time_per_context T / B``, with T the
    sum over the B requests of a worker's microbatch of ``min(P + i, context_window)``.

    Attributes
    ----------
    curve
        Time against KV tokens read by one worker in one microbatch [time; tokens].
    layers
        Number of layers of this kind, >= 1.
    time_per_request
        Extra time per request of the microbatch (projections, launch) [time/request], >= 0.
    time_per_context
        Extra time per token of the microbatch's mean context T / B [time/token], >= 0: few long
        requests keep a device less busy than many short ones with as many tokens together.
    context_window
        Most tokens of one request that a layer reads (sliding window, top-k) [tokens], >= 1;
        None reads the whole context.
    """

    curve: Curve
    layers: int = 1
    time_per_request: float = 0.0
    time_per_context: float = 0.0
    context_window: int | None = None

    def __post_init__(self) -> None:
        check_curve("attention curve", self.curve)
        object.__setattr__(
            self, "layers", check_count("layers", self.layers, 1, 10_000, LatencyModelError)
        )
        for name in ("time_per_request", "time_per_context"):
            value = check_number(name, getattr(self, name), error=LatencyModelError)
            object.__setattr__(self, name, value)
        if self.context_window is not None:
            window = check_count("context_window", self.context_window, error=LatencyModelError)
            object.__setattr__(self, "context_window", window)

    @overload
    def time(self, kv_tokens: float, requests: int) -> float: ...
    @overload
    def time(self, kv_tokens: npt.NDArray[Any], requests: int) -> FloatArray: ...
    def time(self, kv_tokens: float | npt.NDArray[Any], requests: int) -> float | FloatArray:
        """Return t_A, the time of one layer for `kv_tokens` in `requests` requests."""
        each = self.time_per_context / requests if requests else 0.0
        return self.curve(kv_tokens) + self.time_per_request * requests + each * kv_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One direction of the link between attention and FFN.

    Attributes
    ----------
    curve
        Time against tokens [time; tokens].
    load
        Whose tokens: ``worker``, the B tokens that one attention worker sends (or gets back), or
        ``aggregate``, the ``n = A B / F`` tokens that one FFN worker receives (or returns).
    """

    curve: Curve
    load: TransferLoad = "worker"

    def __post_init__(self) -> None:
        check_curve("transfer curve", self.curve)
        check_choice("transfer load", self.load, get_args(TransferLoad), LatencyModelError)

    def time(self, batch_size: float, ffn_tokens: float) -> float:
        """Return the time for `batch_size` tokens per worker, `ffn_tokens` per FFN worker."""
        return self.curve(float(batch_size if self.load == "worker" else ffn_tokens))
