"""How large is a model: which attention, which experts, how many parameters of each?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Protocol

from afdplan.errors import InvalidInputError
from afdplan.model.checks import check_count

__all__ = [
    "Attention",
    "GroupedAttention",
    "LatentAttention",
    "ModelArchitecture",
    "SparseIndexer",
]


class Attention(Protocol):
    """What a latency model needs to know about one attention layer."""

    @property
    def query_heads(self) -> int:
        """Query heads."""

    @property
    def cached_values(self) -> int:
        """Numbers that one token leaves in the KV cache of one layer."""

    @property
    def score_flops(self) -> int:
        """Operations of one query token against one cached token, two per multiply-add."""

    @property
    def query_rows(self) -> float:
        """Query heads that read the same cached numbers: the rows of the matrix product."""

    @property
    def kernels(self) -> int:
        """Kernels of one layer that wait for memory: projections and the attention itself."""

    def parameters(self, hidden_size: int) -> int:
        """Return the parameters of one layer's projections."""

    def sharded(self, devices: int) -> Attention:
        """Return what one of `devices` tensor-parallel devices holds."""


def _check_shares(name: str, heads: int, devices: int) -> None:
    if heads % devices:
        raise InvalidInputError(
            f"attention_devices must divide the {heads} query heads of {name}, got {devices}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedAttention:
    """Multi-head, grouped-query, multi-query or multi-matrix-factorisation attention.

    Attributes
    ----------
    query_heads, kv_heads
        Heads; every KV head is read by ``query_heads / kv_heads`` query heads.
    head_size
        Numbers per head, of keys and of values alike.
    query_rank
        Width of the low-rank query projection (Step-3's MFA); None projects directly.

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
    query_rank: int | None = None

    def __post_init__(self) -> None:
        for name in ("query_heads", "kv_heads", "head_size"):
            check_count(name, getattr(self, name), 1, 1_000_000)
        if self.query_rank is not None:
            check_count("query_rank", self.query_rank, 1, 1_000_000)
        if self.query_heads % self.kv_heads:
            raise InvalidInputError(
                f"query_heads must be a multiple of kv_heads, got {self.query_heads} "
                f"and {self.kv_heads}"
            )

    @property
    def cached_values(self) -> int:
        """Numbers that one token leaves in the KV cache of one layer: keys and values."""
        return 2 * self.kv_heads * self.head_size

    @property
    def score_flops(self) -> int:
        """Operations of one query token against one cached token: scores and weighted sum."""
        return 4 * self.query_heads * self.head_size

    @property
    def query_rows(self) -> float:
        """Query heads per KV head."""
        return self.query_heads / self.kv_heads

    @property
    def kernels(self) -> int:
        """Input projections, attention, output projection, and the low-rank step if any."""
        return 3 if self.query_rank is None else 4

    def parameters(self, hidden_size: int) -> int:
        """Return the parameters of the query, key, value and output projections."""
        query = self.query_heads * self.head_size
        if self.query_rank is None:
            into = hidden_size * query
        else:
            into = self.query_rank * (hidden_size + query)
        return into + hidden_size * self.cached_values + query * hidden_size

    def sharded(self, devices: int) -> GroupedAttention:
        """Return one device's heads; KV heads are replicated when there are too few."""
        _check_shares("this model", self.query_heads, devices)
        heads = self.query_heads // devices
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

    def __post_init__(self) -> None:
        for name in ("query_heads", "kv_rank", "plain_key_size", "rotary_key_size", "value_size"):
            check_count(name, getattr(self, name), 1, 1_000_000)
        if self.query_rank is not None:
            check_count("query_rank", self.query_rank, 1, 1_000_000)

    @property
    def cached_values(self) -> int:
        """Numbers that one token leaves in the KV cache of one layer."""
        return self.kv_rank + self.rotary_key_size

    @property
    def score_flops(self) -> int:
        """Operations of one query token against one cached token."""
        return 2 * self.query_heads * (2 * self.kv_rank + self.rotary_key_size)

    @property
    def query_rows(self) -> float:
        """All heads share the latent."""
        return float(self.query_heads)

    @property
    def kernels(self) -> int:
        """Down- and up-projections, two absorbed products, attention, output projection."""
        return 5 if self.query_rank is None else 6

    def parameters(self, hidden_size: int) -> int:
        """Return the parameters of all projections, the absorbed ones included."""
        key = self.plain_key_size + self.rotary_key_size
        if self.query_rank is None:
            query = hidden_size * self.query_heads * key
        else:
            query = self.query_rank * (hidden_size + self.query_heads * key)
        latent = hidden_size * self.cached_values
        absorbed = self.kv_rank * self.query_heads * (self.plain_key_size + self.value_size)
        return query + latent + absorbed + self.query_heads * self.value_size * hidden_size

    def sharded(self, devices: int) -> LatentAttention:
        """Return one device's heads; the latent cache is replicated on every device."""
        _check_shares("this model", self.query_heads, devices)
        return replace(self, query_heads=self.query_heads // devices)


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseIndexer:
    """The scorer that picks which tokens a sparse attention layer reads.

    Attributes
    ----------
    heads, head_size
        Index queries; one index key of `head_size` numbers is cached per token.
    selected_tokens
        Tokens that the attention then reads, the k of its top-k.

    References
    ----------
    DeepSeek-V3.2 technical report, section 2.1 (lightning indexer).
    """

    heads: int
    head_size: int
    selected_tokens: int

    def __post_init__(self) -> None:
        for name in ("heads", "head_size", "selected_tokens"):
            check_count(name, getattr(self, name), 1, 1_000_000)

    @property
    def score_flops(self) -> int:
        """Operations of one query token against one index key."""
        return 2 * self.heads * self.head_size

    def parameters(self, hidden_size: int, query_rank: int | None) -> int:
        """Return the parameters of the index projections and head weights."""
        width = hidden_size if query_rank is None else query_rank
        return self.heads * self.head_size * width + hidden_size * (self.head_size + self.heads)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelArchitecture:
    """The sizes of a decoder-only language model that set its time per token.

    Attributes
    ----------
    name
        For people and look-up.
    hidden_size, vocabulary_size, layers
        Width, tokens known, decoder layers (without multi-token prediction layers).
    attention
        One attention layer.
    attention_windows
        Kinds of layers as (number of layers, most tokens of one request that they read); None
        reads everything. The numbers add up to `layers`.
    layer_windows
        What each layer reads, in their order; by default one kind after the other.
    indexer
        The scorer of sparse attention; None if attention is dense.
    dense_layers, dense_size
        Layers without experts, and the width of their feed-forward network.
    experts, experts_per_token, expert_size
        Routed experts of each other layer, how many a token uses, their width; all 0 without.
    shared_size
        Total width of the experts that every token uses.
    prediction_layers
        Multi-token prediction layers of the checkpoint.
    tied_embeddings
        Whether input and output embeddings are one matrix.
    precision
        Number format of the checkpoint's large matrices; None if it is not recognised.
    published_parameters
        Total that the publisher states; 0 if unknown. Never used to compute.
    source
        Where the sizes come from.
    """

    name: str
    hidden_size: int
    vocabulary_size: int
    layers: int
    attention: Attention
    attention_windows: tuple[tuple[int, int | None], ...]
    layer_windows: tuple[int | None, ...] = ()
    indexer: SparseIndexer | None = None
    dense_layers: int = 0
    dense_size: int = 0
    experts: int = 0
    experts_per_token: int = 0
    expert_size: int = 0
    shared_size: int = 0
    prediction_layers: int = 0
    tied_embeddings: bool = False
    precision: str | None = "bf16"
    published_parameters: float = 0.0
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("hidden_size", "vocabulary_size", "layers"):
            check_count(name, getattr(self, name), 1, 100_000_000)
        for name in ("dense_size", "experts", "expert_size", "shared_size", "prediction_layers"):
            check_count(name, getattr(self, name), 0, 10_000_000)
        check_count("dense_layers", self.dense_layers, 0, self.layers)
        if self.dense_layers < self.layers:
            check_count("experts", self.experts, 1, 1_000_000)
            check_count("expert_size", self.expert_size, 1, 10_000_000)
            check_count("experts_per_token", self.experts_per_token, 1, self.experts)
        if self.dense_layers:
            check_count("dense_size", self.dense_size, 1, 10_000_000)
        if sum(number for number, _ in self.attention_windows) != self.layers:
            raise InvalidInputError(
                f"attention_windows must add up to layers = {self.layers}, "
                f"got {self.attention_windows}"
            )
        blocks = tuple(window for number, window in self.attention_windows for _ in range(number))
        if not self.layer_windows:
            object.__setattr__(self, "layer_windows", blocks)
        elif Counter(self.layer_windows) != Counter(blocks):
            raise InvalidInputError(
                f"layer_windows must hold the windows of attention_windows "
                f"{self.attention_windows}, got {self.layer_windows}"
            )

    @property
    def expert_layers(self) -> int:
        """Layers with routed experts."""
        return self.layers - self.dense_layers

    @property
    def attention_parameters(self) -> int:
        """Parameters of one attention layer, its indexer included."""
        count = self.attention.parameters(self.hidden_size)
        if self.indexer is not None:
            rank = getattr(self.attention, "query_rank", None)
            count += self.indexer.parameters(self.hidden_size, rank)
        return count

    @property
    def expert_parameters(self) -> int:
        """Parameters of one routed expert: gate, up and down projection."""
        return 3 * self.hidden_size * self.expert_size

    @property
    def shared_parameters(self) -> int:
        """Parameters of one layer's shared experts and router."""
        return self.hidden_size * (3 * self.shared_size + self.experts)

    @property
    def dense_parameters(self) -> int:
        """Parameters of one dense feed-forward network."""
        return 3 * self.hidden_size * self.dense_size

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the input and output embeddings."""
        return (1 if self.tied_embeddings else 2) * self.vocabulary_size * self.hidden_size

    def _parameters(self, experts: int) -> int:
        feed_forward = self.expert_layers * (
            experts * self.expert_parameters + self.shared_parameters
        )
        return (
            self.embedding_parameters
            + self.layers * self.attention_parameters
            + self.dense_layers * self.dense_parameters
            + feed_forward
        )

    @property
    def total_parameters(self) -> int:
        """All parameters of the matrices, multi-token prediction layers left out."""
        return self._parameters(self.experts)

    @property
    def active_parameters(self) -> int:
        """Parameters that one token meets, embeddings included."""
        return self._parameters(self.experts_per_token)
