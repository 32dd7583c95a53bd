"""In which number formats does a deployment keep weights, cache and messages?"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import NamedTuple

from afdplan.errors import InvalidInputError
from afdplan.model.checks import check_choice

__all__ = ["FORMATS", "PRECISIONS", "NumberFormat", "Precision", "format_name", "number_format"]


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
    # Weights only, 2 bytes of scale per 128 values.
    **{f"int{bits}": NumberFormat(bits / 8 + 2 / 128, "bf16") for bits in (4, 2, 3, 5, 6)},
}
"""Number formats by name."""

_CACHES = ("bf16", "fp8", "int8", "mxfp4", "nvfp4", "int4")
_NAME = re.compile(r"([a-z]+\d+)(?::(\d{1,2}(?:\.\d{1,4})?))?(a8|a16)?", re.ASCII)


@cache
def number_format(name: str) -> NumberFormat:
    """Return the format of a name: one of `FORMATS`, its bits and its arithmetic if they differ.

    Parameters
    ----------
    name
        ``int4``; ``int4:4.5`` with the bits per weight, scales included; ``int8a16`` for weights
        that are widened to 16 bits, ``int4a8`` for products in 8 bits.

    Raises
    ------
    InvalidInputError
        If the name is of another form, its format is unknown, or its bits are not from 1 to 33.

    Examples
    --------
    >>> number_format("int8a16")
    NumberFormat(bytes_per_value=1.0, arithmetic='bf16')
    >>> number_format("int4:4.5a8").bytes_per_value
    0.5625
    """
    found = _NAME.fullmatch(name) if isinstance(name, str) else None
    base, bits, arithmetic = found.groups() if found else (None, None, None)
    if base not in FORMATS or (bits is not None and not 1 <= float(bits) <= 33):
        raise InvalidInputError(
            f"a number format must be one of {', '.join(FORMATS)}, with bits per weight "
            f"(int4:4.5) or arithmetic (int8a16) if need be, got {name!r:.80}"
        )
    form = FORMATS[base]
    if bits is not None:
        form = form._replace(bytes_per_value=float(bits) / 8)
    if arithmetic is not None:
        form = form._replace(arithmetic="bf16" if arithmetic == "a16" else "fp8")
    return form


def format_name(base: str, bits: float, arithmetic: str = "") -> str:
    """Return the name of a format whose weights take `bits` each, left out where usual.

    Examples
    --------
    >>> format_name("int4", 4.5), format_name("int4", 4.156), format_name("int8", 8.0, "a16")
    ('int4:4.5', 'int4', 'int8a16')
    """
    usual = 8 * FORMATS[base].bytes_per_value
    exact = f":{bits:.4g}" if abs(bits - usual) > 0.01 * usual else ""
    return f"{base}{exact}{arithmetic}"


def _told(name: str) -> str:
    """Return a format in words."""
    base, bits, arithmetic = _NAME.findall(name)[0]
    said = [f"{bits} bits per weight"] if bits else []
    said += [f"products in {arithmetic[1:]} bits"] if arithmetic else []
    return f"{base} ({', '.join(said)})" if said else base


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """The number format of everything that is stored, read or sent.

    Attributes
    ----------
    attention_weights
        Attention projections.
    feed_forward_weights
        Experts; their arithmetic sets the matrix rate.
    dense_weights
        Dense feed-forward networks and shared experts, which every token passes; None is as the
        experts.
    embedding_weights, head_weights
        Input and output embeddings.
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
    dense_weights: str | None = None
    embedding_weights: str = "bf16"
    head_weights: str = "bf16"

    def __post_init__(self) -> None:
        for field in fields(self):
            if not field.name.endswith("weights"):
                check_choice(f"precision {field.name}", getattr(self, field.name), _CACHES)
            elif getattr(self, field.name) is not None:
                number_format(getattr(self, field.name))

    @property
    def common_weights(self) -> str:
        """What every token passes: `dense_weights`, or as the experts."""
        return self.dense_weights or self.feed_forward_weights

    def told(self) -> str:
        """Return the formats of the weights in words, parts named that differ from the experts'.

        Examples
        --------
        >>> Precision(feed_forward_weights="int4:4.5", attention_weights="fp8").told()
        'int4 (4.5 bits per weight), those of attention in fp8'
        """
        experts = self.feed_forward_weights
        usual = PRECISIONS.get(experts, self)
        parts = [_told(experts)]
        is_usual = usual is not self and self.attention_weights == usual.attention_weights
        if not is_usual and self.attention_weights != experts:
            parts.append(f"those of attention in {_told(self.attention_weights)}")
        if self.common_weights != experts:
            parts.append(f"those of dense and shared parts in {_told(self.common_weights)}")
        return ", ".join(parts)

    @classmethod
    def named(cls, name: str, cache: str | None = None) -> Precision:
        """Return what serving systems do by default with a checkpoint in `name`.

        Parameters
        ----------
        name
            One of ``bf16``, ``fp8``, ``int8``, ``mxfp4``, ``nvfp4``, ``int4``; or as
            `number_format` reads it.
        cache
            Format of the KV cache; bf16 unless named.
        """
        precision = PRECISIONS.get(name)
        if precision is None:
            try:
                arithmetic = number_format(name).arithmetic
            except InvalidInputError:
                raise InvalidInputError(
                    f"precision must be one of {', '.join(PRECISIONS)}, or one of them with its "
                    f"bits per weight or arithmetic (int4:4.85, int8a16), got {name!r:.80}"
                ) from None
            usual = PRECISIONS.get(re.split("[:a]", name)[0], PRECISIONS["int4"])
            send = "bf16" if arithmetic == "bf16" else "fp8"
            widened = arithmetic == "bf16" or usual.attention_weights == "bf16"
            precision = replace(
                usual,
                feed_forward_weights=name,
                attention_weights="bf16" if widened else name,
                send=send,
            )
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
