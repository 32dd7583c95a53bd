"""What does a latency model need to know about the heads that mix tokens?"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Literal, NamedTuple, Protocol

from afdplan.errors import InvalidInputError
from afdplan.model.checks import check_count

__all__ = ["Attention", "Product", "check_sizes", "shared_heads", "weights_of"]

LARGEST = 1_000_000


class Product(NamedTuple):
    """A matrix product of all tokens with one weight, which is one kernel.

    Attributes
    ----------
    depth, width
        Rows and columns of the weight: numbers that go in and come out per token.
    """

    depth: int
    width: int


def weights_of(products: tuple[Product, ...]) -> int:
    """Return the parameters of all products."""
    return sum(product.depth * product.width for product in products)


class Attention(Protocol):
    """What a latency model needs to know about the heads of one layer."""

    @property
    def query_heads(self) -> int:
        """Query heads."""

    @property
    def cached_values(self) -> int:
        """Numbers that one cached token holds in one layer; 0 for recurrent heads."""

    @property
    def state_bytes(self) -> float:
        """What one request keeps in one layer whatever its length [bytes]; 0 for attention."""

    @property
    def score_flops(self) -> int:
        """Operations of one query token against one cached token, two per multiply-add."""

    @property
    def query_rows(self) -> float:
        """Query heads that read the same cached numbers: the rows of the matrix product."""

    @property
    def family(self) -> Literal["attention", "latent"]:
        """Which measured kernels read the cache like this."""

    @property
    def passes(self) -> int:
        """Kernels of one layer beside products and attention: norms, rotary, cache write."""

    def products(self, hidden_size: int) -> tuple[Product, ...]:
        """Return the projections of one layer, each one kernel; nothing twice."""

    def parameters(self, hidden_size: int) -> int:
        """Return the parameters of one layer's projections."""

    def sharded(self, devices: int) -> Attention:
        """Return what one of `devices` tensor-parallel devices holds."""


def check_sizes(heads: Any, *optional: str) -> None:
    """Raise unless every field is a count; those named in `optional` may be None."""
    for field in fields(heads):
        value = getattr(heads, field.name)
        if isinstance(value, bool) or (value is None and field.name in optional):
            continue
        check_count(field.name, value, 1, LARGEST)


def shared_heads(heads: int, devices: int) -> int:
    """Return the query heads of one of `devices`, or raise where they do not divide."""
    if heads % devices:
        raise InvalidInputError(
            f"attention_devices must divide the {heads} query heads of this model, got {devices}"
        )
    return heads // devices
