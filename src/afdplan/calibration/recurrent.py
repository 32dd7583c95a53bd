"""How large are heads that keep a state per request in place of a cache per token?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from afdplan.calibration.heads import Product, check_sizes, shared_heads, weights_of
from afdplan.errors import InvalidInputError

__all__ = ["DeltaAttention", "StateSpace"]

CONVOLUTION_BYTES = 2.0


class _Recurrent:
    """What reads a state of its own instead of a cache that grows with every token."""

    __slots__ = ()

    @property
    def family(self) -> Literal["attention", "latent"]:
        """Read like a cache of its own."""
        return "attention"

    @property
    def cached_values(self) -> int:
        """Nothing is cached per token."""
        return 0

    @property
    def score_flops(self) -> int:
        """No token is read again."""
        return 0

    @property
    def query_rows(self) -> float:
        """Every head reads its own state."""
        return 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaAttention(_Recurrent):
    """Linear attention by the gated delta rule: a matrix per head, updated at every token.

    Attributes
    ----------
    query_heads
        Heads of values, each with a state of ``key_size x value_size``.
    key_heads
        Heads of queries and keys.
    key_size, value_size
        Numbers per head.
    convolution
        Tokens that the short convolution sees.
    gate_rank
        Width of the low-rank decay per channel (Kimi); None has one decay per head.
    full_rank_gate
        Whether the gate on the output is one product; else it has `gate_rank` too.
    state_value_bytes
        Of one number of the state [bytes].

    References
    ----------
    arXiv:2412.06464 (gated DeltaNet), arXiv:2510.26692 (Kimi Linear).

    Examples
    --------
    >>> qwen = DeltaAttention(query_heads=64, key_heads=16, key_size=128, value_size=128)
    >>> round(qwen.state_bytes / 2**20, 2)
    4.07
    """

    query_heads: int
    key_heads: int
    key_size: int
    value_size: int
    convolution: int = 4
    gate_rank: int | None = None
    full_rank_gate: bool = True
    state_value_bytes: int = 4

    def __post_init__(self) -> None:
        check_sizes(self, "gate_rank")

    @property
    def _channels(self) -> int:
        return 2 * self.key_heads * self.key_size + self.query_heads * self.value_size

    @property
    def state_bytes(self) -> float:
        """The matrices of all heads, and the last tokens of the convolution [bytes]."""
        matrices = self.query_heads * self.key_size * self.value_size * self.state_value_bytes
        return matrices + self._channels * (self.convolution - 1) * CONVOLUTION_BYTES

    @property
    def passes(self) -> int:
        """Convolution, decay, output norm."""
        return 3

    def products(self, hidden_size: int) -> tuple[Product, ...]:
        """Return what goes in, decay and gate, in one where they have full rank; the output."""
        values = self.query_heads * self.value_size
        inward, low = self._channels + self.query_heads, []
        if self.gate_rank is None:
            inward += self.query_heads
        else:
            low = [self.query_heads * self.key_size]
        if self.full_rank_gate or self.gate_rank is None:
            inward += values
        else:
            low.append(values)
        rank = self.gate_rank or 0
        return (
            Product(hidden_size, inward + rank * len(low)),
            *(Product(rank, width) for width in low),
            Product(values, hidden_size),
        )

    def parameters(self, hidden_size: int) -> int:
        """Return the parameters of projections, gates and convolution."""
        return weights_of(self.products(hidden_size)) + self._channels * self.convolution

    def sharded(self, devices: int) -> DeltaAttention:
        """Return one device's heads."""
        return replace(
            self,
            query_heads=shared_heads(self.query_heads, devices),
            key_heads=max(1, self.key_heads // devices),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSpace(_Recurrent):
    """A Mamba-2 layer: every head keeps ``head_size x state_size`` numbers per request.

    Attributes
    ----------
    query_heads, head_size
        Heads and their width.
    state_size
        Numbers per channel of a head.
    groups
        Groups of heads that share their input and output maps.
    convolution
        Tokens that the short convolution sees.
    state_value_bytes
        Of one number of the state [bytes].

    References
    ----------
    arXiv:2405.21060 (Mamba-2), arXiv:2504.03624 (Nemotron-H).

    Examples
    --------
    >>> nano = StateSpace(query_heads=64, head_size=64, state_size=128, groups=8)
    >>> round(nano.state_bytes / 2**20, 2)
    2.04
    """

    query_heads: int
    head_size: int
    state_size: int
    groups: int
    convolution: int = 4
    state_value_bytes: int = 4

    def __post_init__(self) -> None:
        check_sizes(self)

    @property
    def _channels(self) -> int:
        return self.query_heads * self.head_size + 2 * self.groups * self.state_size

    @property
    def state_bytes(self) -> float:
        """The states of all heads, and the last tokens of the convolution [bytes]."""
        states = self.query_heads * self.head_size * self.state_size * self.state_value_bytes
        return states + self._channels * (self.convolution - 1) * CONVOLUTION_BYTES

    @property
    def passes(self) -> int:
        """Convolution, output norm."""
        return 2

    def products(self, hidden_size: int) -> tuple[Product, ...]:
        """Return what goes in, and the output."""
        width = self.query_heads * self.head_size
        inward = width + self._channels + self.query_heads
        return (Product(hidden_size, inward), Product(width, hidden_size))

    def parameters(self, hidden_size: int) -> int:
        """Return the parameters of projections and convolution."""
        return weights_of(self.products(hidden_size)) + self._channels * self.convolution

    def sharded(self, devices: int) -> StateSpace:
        """Return one device's heads; groups are replicated when there are too few."""
        heads = shared_heads(self.query_heads, devices)
        groups = max(1, self.groups // devices)
        if heads % groups:
            raise InvalidInputError(
                f"attention_devices must divide the {self.groups} groups of heads, got {devices}"
            )
        return replace(self, query_heads=heads, groups=groups)
