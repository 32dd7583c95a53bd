"""How large are the heads that mix tokens: what do they cache, read, compute and weigh?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from afdplan.calibration.heads import Product, check_sizes, shared_heads, weights_of
from afdplan.errors import InvalidInputError

__all__ = [
    "CompressedAttention",
    "GroupedAttention",
    "LatentAttention",
    "SparseIndexer",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedAttention:
    """Multi-head, grouped-query, multi-query or multi-matrix-factorisation attention.

    Attributes
    ----------
    query_heads, kv_heads
        Heads; every KV head is read by ``query_heads / kv_heads`` query heads.
    head_size
        Numbers per head of queries and keys, and of values unless `value_size` is given.
    value_size
        Numbers per head of values; None is `head_size`.
    query_rank
        Width of the low-rank query projection (Step-3's MFA); None projects directly.
    gated
        Whether the query projection also makes a gate on the output (Qwen3-Next).
    values_are_keys
        Whether values are taken from the key projection (Gemma 4); both are cached.
    head_norms
        Whether queries and keys are normalized head by head (Qwen3).

    References
    ----------
    arXiv:2305.13245 (grouped queries), arXiv:2412.19255 (multi-matrix factorisation).

    Examples
    --------
    >>> qwen = GroupedAttention(query_heads=64, kv_heads=4, head_size=128)
    >>> qwen.cached_values, qwen.score_flops, qwen.query_rows
    (1024, 32768, 16.0)
    """

    query_heads: int
    kv_heads: int
    head_size: int
    value_size: int | None = None
    query_rank: int | None = None
    gated: bool = False
    values_are_keys: bool = False
    head_norms: bool = False

    def __post_init__(self) -> None:
        check_sizes(self, "value_size", "query_rank")
        if self.query_heads % self.kv_heads:
            raise InvalidInputError(
                f"query_heads must be a multiple of kv_heads, got {self.query_heads} "
                f"and {self.kv_heads}"
            )

    @property
    def _values(self) -> int:
        return self.head_size if self.value_size is None else self.value_size

    @property
    def family(self) -> Literal["attention", "latent"]:
        """Keys and values of their own."""
        return "attention"

    @property
    def cached_values(self) -> int:
        """Numbers that one token leaves in the KV cache of one layer: keys and values."""
        return self.kv_heads * (self.head_size + self._values)

    @property
    def state_bytes(self) -> float:
        """Attention keeps nothing but its cache."""
        return 0.0

    @property
    def score_flops(self) -> int:
        """Operations of one query token against one cached token: scores and weighted sum."""
        return 2 * self.query_heads * (self.head_size + self._values)

    @property
    def query_rows(self) -> float:
        """Query heads per KV head."""
        return self.query_heads / self.kv_heads

    @property
    def passes(self) -> int:
        """Rotary and cache write; norms of queries and keys, of a low rank; a gate."""
        norms = (2 if self.head_norms else 0) + (self.query_rank is not None)
        return 2 + norms + self.gated

    def products(self, hidden_size: int) -> tuple[Product, ...]:
        """Return queries, keys and values in one, the low-rank step if any, and the output."""
        query = self.query_heads * self.head_size * (2 if self.gated else 1)
        keys = self.kv_heads * self.head_size
        values = 0 if self.values_are_keys else self.kv_heads * self._values
        first = query if self.query_rank is None else self.query_rank
        low = () if self.query_rank is None else (Product(self.query_rank, query),)
        out = Product(self.query_heads * self._values, hidden_size)
        return (Product(hidden_size, first + keys + values), *low, out)

    def parameters(self, hidden_size: int) -> int:
        """Return the parameters of the query, key, value, gate and output projections."""
        return weights_of(self.products(hidden_size))

    def sharded(self, devices: int) -> GroupedAttention:
        """Return one device's heads; KV heads are replicated when there are too few."""
        heads = shared_heads(self.query_heads, devices)
        kv_heads = max(1, self.kv_heads // devices)
        if heads % kv_heads or (self.kv_heads > devices and self.kv_heads % devices):
            raise InvalidInputError(
                f"attention_devices must divide the {self.kv_heads} KV heads, got {devices}"
            )
        return replace(self, query_heads=heads, kv_heads=kv_heads)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention, run with absorbed projections as decoders do.

    All heads read one cached latent of `kv_rank` numbers and one rotary key.

    Attributes
    ----------
    query_heads
        Heads.
    query_rank
        Width of the low-rank query projection; None projects directly.
    kv_rank
        Width of the cached latent.
    plain_key_size, rotary_key_size, value_size
        Numbers per head of the key without and with rotary position, and of the value.
    gated
        Whether a projection of its own gates the output (Kimi-K3).

    References
    ----------
    arXiv:2405.04434, section 2.1 and appendix C (absorption).

    Examples
    --------
    >>> deepseek = LatentAttention(query_heads=128, query_rank=1536, kv_rank=512,
    ...     plain_key_size=128, rotary_key_size=64, value_size=128)
    >>> deepseek.cached_values, deepseek.score_flops
    (576, 278528)
    """

    query_heads: int
    query_rank: int | None
    kv_rank: int
    plain_key_size: int
    rotary_key_size: int
    value_size: int
    gated: bool = False

    def __post_init__(self) -> None:
        check_sizes(self, "query_rank")

    @property
    def family(self) -> Literal["attention", "latent"]:
        """One cached vector for all heads."""
        return "latent"

    @property
    def cached_values(self) -> int:
        """Numbers that one token leaves in the KV cache of one layer."""
        return self.kv_rank + self.rotary_key_size

    @property
    def state_bytes(self) -> float:
        """Attention keeps nothing but its cache."""
        return 0.0

    @property
    def score_flops(self) -> int:
        """Operations of one query token against one cached token."""
        return 2 * self.query_heads * (2 * self.kv_rank + self.rotary_key_size)

    @property
    def query_rows(self) -> float:
        """All heads share the latent."""
        return float(self.query_heads)

    @property
    def passes(self) -> int:
        """Norms of both latents, rotary, cache write, and a gate if any."""
        return 3 + (self.query_rank is not None) + self.gated

    def products(self, hidden_size: int) -> tuple[Product, ...]:
        """Return down- and up-projections, two absorbed products, gate and output."""
        query = self.query_heads * (self.plain_key_size + self.rotary_key_size)
        first = query if self.query_rank is None else self.query_rank
        up = () if self.query_rank is None else (Product(self.query_rank, query),)
        values = self.query_heads * self.value_size
        gate = (Product(hidden_size, values),) if self.gated else ()
        return (
            Product(hidden_size, first + self.cached_values),
            *up,
            Product(self.plain_key_size, self.query_heads * self.kv_rank),
            Product(self.kv_rank, values),
            *gate,
            Product(values, hidden_size),
        )

    def parameters(self, hidden_size: int) -> int:
        """Return the parameters of all projections, the absorbed ones included."""
        return weights_of(self.products(hidden_size))

    def sharded(self, devices: int) -> LatentAttention:
        """Return one device's heads; the latent cache is replicated on every device."""
        return replace(self, query_heads=shared_heads(self.query_heads, devices))


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedAttention:
    """DeepSeek-V4's attention: one key that is also the value, and a grouped low-rank output.

    Several tokens are compressed into one cached entry; how many is a fact of the layer.

    Attributes
    ----------
    query_heads, head_size
        Heads, and numbers of the one cached key.
    query_rank, output_rank
        Widths of the low-rank query projection and of each group's output projection.
    output_groups
        Groups of heads that are projected apart.
    compressors
        Products of the hidden state that make one cached entry: 0 where nothing is compressed,
        2 (content and weight), or 4 where neighbouring entries overlap.

    Examples
    --------
    >>> heads = CompressedAttention(query_heads=64, head_size=512, query_rank=1024,
    ...     output_rank=1024, output_groups=8)
    >>> heads.cached_values, round(heads.parameters(4096) / 1e6, 1)
    (512, 107.0)
    """

    query_heads: int
    head_size: int
    query_rank: int
    output_rank: int
    output_groups: int
    compressors: int = 0

    def __post_init__(self) -> None:
        check_sizes(replace(self, compressors=1) if self.compressors == 0 else self)

    @property
    def family(self) -> Literal["attention", "latent"]:
        """One cached vector for all heads."""
        return "latent"

    @property
    def cached_values(self) -> int:
        """The one key of a cached entry."""
        return self.head_size

    @property
    def state_bytes(self) -> float:
        """Attention keeps nothing but its cache."""
        return 0.0

    @property
    def score_flops(self) -> int:
        """Operations of one query token against one cached entry."""
        return 4 * self.query_heads * self.head_size

    @property
    def query_rows(self) -> float:
        """All heads share the key."""
        return float(self.query_heads)

    @property
    def passes(self) -> int:
        """Norms of query and key, rotary, cache write, and compression if any."""
        return 4 + (1 if self.compressors else 0)

    def products(self, hidden_size: int) -> tuple[Product, ...]:
        """Return query down, key and compressors in one; query up; output down and up."""
        width = self.query_heads * self.head_size
        keys = self.head_size * (1 + self.compressors)
        ranks = self.output_rank * self.output_groups
        return (
            Product(hidden_size, self.query_rank + keys),
            Product(self.query_rank, width),
            Product(width // self.output_groups, ranks),
            Product(ranks, hidden_size),
        )

    def parameters(self, hidden_size: int) -> int:
        """Return the parameters of all projections and of the compressor."""
        return weights_of(self.products(hidden_size))

    def sharded(self, devices: int) -> CompressedAttention:
        """Return one device's heads and groups; the cache is replicated on every device."""
        heads = shared_heads(self.query_heads, devices)
        return replace(self, query_heads=heads, output_groups=max(1, self.output_groups // devices))


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseIndexer:
    """The scorer that picks which tokens a sparse attention layer reads.

    Attributes
    ----------
    heads, head_size
        Index queries; one index key of `head_size` numbers is cached per cached token.
    compressors
        Products of the hidden state that make one index key of several tokens; 0 takes one
        projection per token.

    References
    ----------
    DeepSeek-V3.2 technical report, section 2.1 (lightning indexer).
    """

    heads: int
    head_size: int
    compressors: int = 0

    def __post_init__(self) -> None:
        check_sizes(replace(self, compressors=1) if self.compressors == 0 else self)

    @property
    def score_flops(self) -> int:
        """Operations of one query token against one index key."""
        return 2 * self.heads * self.head_size

    @property
    def passes(self) -> int:
        """Norm and rotary of the key, cache write, choice of the largest scores."""
        return 3

    def products(self, hidden_size: int, query_rank: int | None) -> tuple[Product, ...]:
        """Return the index queries, and index keys and head weights in one."""
        width = hidden_size if query_rank is None else query_rank
        keys = self.head_size * max(1, self.compressors)
        return (
            Product(width, self.heads * self.head_size),
            Product(hidden_size, keys + self.heads),
        )

    def parameters(self, hidden_size: int, query_rank: int | None) -> int:
        """Return the parameters of the index projections and head weights."""
        return weights_of(self.products(hidden_size, query_rank))
