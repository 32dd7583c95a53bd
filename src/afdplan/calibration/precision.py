"""In which number formats does a deployment keep weights, cache and messages?"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import NamedTuple

from afdplan.errors import InvalidInputError
from afdplan.model.checks import check_choice

__all__ = ["FORMATS", "PRECISIONS", "NumberFormat", "Precision"]


class NumberFormat(NamedTuple):
    """Bytes per value, scales included, and the arithmetic that matrix products use."""

    bytes_per_value: float
    arithmetic: str


FORMATS = {
    "bf16": NumberFormat(2.0, "bf16"),
    # One 4-byte scale per 128 x 128 block (DeepSeek-V3) is 0.02 %: left out.
    "fp8": NumberFormat(1.0, "fp8"),
    "int8": NumberFormat(1.0, "int8"),
    "mxfp4": NumberFormat(0.5 + 1 / 32, "fp4"),  # one byte of scale per 32 values
    "nvfp4": NumberFormat(0.5 + 1 / 16, "fp4"),  # one byte of scale per 16 values
    "int4": NumberFormat(0.5 + 2 / 128, "bf16"),  # weights only, 2 bytes of scale per 128 values
}
"""Number formats by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """The number format of everything that is stored, read or sent.

    Attributes
    ----------
    attention_weights
        Attention projections.
    feed_forward_weights
        Experts and dense feed-forward networks; their arithmetic sets the matrix rate.
    cache
        KV cache. Attention arithmetic is counted at the bf16 rate whatever the cache is in:
        measured kernels with an fp8 cache reach 0.39 of the fp8 peak, close to that.
    send, receive
        Hidden states on the way to the experts, and back.

    Examples
    --------
    >>> Precision.named("fp8").feed_forward_weights
    'fp8'
    """

    attention_weights: str = "bf16"
    feed_forward_weights: str = "bf16"
    cache: str = "bf16"
    send: str = "bf16"
    receive: str = "bf16"

    def __post_init__(self) -> None:
        for field in fields(self):
            check_choice(f"precision {field.name}", getattr(self, field.name), tuple(FORMATS))

    @classmethod
    def named(cls, name: str, cache: str | None = None) -> Precision:
        """Return what serving systems do by default with a checkpoint in `name`.

        Parameters
        ----------
        name
            One of ``bf16``, ``fp8``, ``int8``, ``mxfp4``, ``nvfp4``, ``int4``.
        cache
            Format of the KV cache; bf16 unless named.
        """
        if name not in PRECISIONS:
            raise InvalidInputError(
                f"precision must be one of {', '.join(PRECISIONS)}, got {name!r:.80}"
            )
        precision = PRECISIONS[name]
        return precision if cache is None else replace(precision, cache=cache)


PRECISIONS = {
    "bf16": Precision(),
    "fp8": Precision(attention_weights="fp8", feed_forward_weights="fp8", send="fp8"),
    "int8": Precision(attention_weights="int8", feed_forward_weights="int8", send="int8"),
    "mxfp4": Precision(feed_forward_weights="mxfp4"),
    "nvfp4": Precision(feed_forward_weights="nvfp4", send="fp8"),
    "int4": Precision(feed_forward_weights="int4"),
}
"""Deployments by the format of their checkpoint."""
