"""How large is a model: which layers in which order, how many parameters of each?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from afdplan.calibration.attention import SparseIndexer
from afdplan.calibration.heads import Attention
from afdplan.calibration.precision import Precision
from afdplan.errors import InvalidInputError
from afdplan.model.checks import check_count

__all__ = ["Block", "FeedForward", "Mixer", "ModelArchitecture"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixer:
    """One layer that mixes the tokens of a request, and how much of the context it reads.

    Attributes
    ----------
    heads
        Attention or recurrent heads.
    window
        Most recent tokens that are kept and read; None keeps the whole context.
    compression
        Context tokens per cached entry (DeepSeek-V4: 4 or 128).
    selected_tokens
        Cached entries that sparse attention reads of each request; None reads them all.
    indexer
        The scorer that selects; None where nothing is selected, or the choice of an earlier
        layer is used again.
    local_tokens
        Most recent tokens that are cached and read beside compressed or selected ones.
    """

    heads: Attention
    window: int | None = None
    compression: int = 1
    selected_tokens: int | None = None
    indexer: SparseIndexer | None = None
    local_tokens: int = 0

    def __post_init__(self) -> None:
        for name in ("window", "selected_tokens"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name), 1, 1_000_000_000)
        check_count("compression", self.compression, 1, 1_000_000)
        check_count("local_tokens", self.local_tokens, 0, 1_000_000_000)

    def parameters(self, hidden_size: int) -> int:
        """Return the parameters of the layer, its indexer included."""
        count = self.heads.parameters(hidden_size)
        if self.indexer is not None:
            count += self.indexer.parameters(hidden_size, self.query_rank)
        return count

    @property
    def query_rank(self) -> int | None:
        """Width of the low-rank query projection, of which an indexer reads; None: none."""
        return getattr(self.heads, "query_rank", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedForward:
    """One feed-forward network: a dense part that every token passes, and routed experts.

    Attributes
    ----------
    dense_size
        Width of what every token passes: a dense network, or the shared experts.
    experts, experts_per_token, expert_size
        Routed experts, how many a token uses, their width; all 0 without.
    expert_hidden_size
        Width at which experts work where they stand in a latent space; None is the model's.
    matrices
        Of one network: 3 with a gate, 2 without.

    Examples
    --------
    >>> mixtral = FeedForward(experts=8, experts_per_token=2, expert_size=16384)
    >>> mixtral.expert_parameters(6144)
    301989888
    """

    dense_size: int = 0
    experts: int = 0
    experts_per_token: int = 0
    expert_size: int = 0
    expert_hidden_size: int | None = None
    matrices: int = 3

    def __post_init__(self) -> None:
        check_count("dense_size", self.dense_size, 0, 10_000_000)
        check_count("experts", self.experts, 0, 1_000_000)
        check_count("matrices", self.matrices, 2, 3)
        if self.experts:
            check_count("expert_size", self.expert_size, 1, 10_000_000)
            check_count("experts_per_token", self.experts_per_token, 1, self.experts)
        elif not self.dense_size:
            raise InvalidInputError("dense_size must be >= 1 where there are no experts, got 0")

    def expert_width(self, hidden_size: int) -> int:
        """Return the numbers of a token's state that an expert reads."""
        return hidden_size if self.expert_hidden_size is None else self.expert_hidden_size

    def expert_parameters(self, hidden_size: int) -> int:
        """Return the parameters of one routed expert."""
        return self.matrices * self.expert_width(hidden_size) * self.expert_size

    def dense_parameters(self, hidden_size: int) -> int:
        """Return the parameters of what every token passes, without the router."""
        latent = 0 if self.expert_hidden_size is None else 2 * hidden_size * self.expert_hidden_size
        return self.matrices * hidden_size * self.dense_size + latent

    def common_parameters(self, hidden_size: int) -> int:
        """Return the parameters that every device holds: dense part and router."""
        return self.dense_parameters(hidden_size) + hidden_size * self.experts

    def parameters(self, hidden_size: int, experts: int | None = None) -> int:
        """Return all parameters, or those with `experts` of the routed ones."""
        count = self.experts if experts is None else experts
        return count * self.expert_parameters(hidden_size) + self.common_parameters(hidden_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One round trip between attention and FFN workers: mixers, then feed-forward networks.

    Nearly every model has one of each. In hybrids several mixers may stand before the next
    network, or networks follow each other; there is then one transfer out and one back.
    """

    mixers: tuple[Mixer, ...]
    feed_forward: tuple[FeedForward, ...]

    @property
    def has_experts(self) -> bool:
        """Whether tokens are routed."""
        return any(network.experts for network in self.feed_forward)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelArchitecture:
    """The sizes of a decoder-only language model that set its time per token.

    Attributes
    ----------
    name
        For people and look-up.
    hidden_size, vocabulary_size
        Width, tokens known.
    blocks
        Every round trip in its order (without multi-token prediction layers).
    decoder_layers
        Layers as the publisher counts them; 0 is the number of blocks.
    prediction_layers
        Multi-token prediction layers of the checkpoint.
    tied_embeddings
        Whether input and output embeddings are one matrix.
    precision
        Number format of the checkpoint's large matrices; None if it is not recognised.
    cache_precision
        Number format of the KV cache that the checkpoint asks for; None if it says nothing.
    cache_unread
        What the checkpoint says of the KV cache and was not recognised; empty else.
    attention_precision
        Number format of attention's projections; None as `precision`.
    stored
        Number formats of every part, with bits per weight and arithmetic; None as `precision`.
    precision_source
        Where the formats stand, or what was not recognised.
    published_parameters
        Total that the publisher states; 0 if unknown. Never used to compute.
    source
        Where the sizes come from.
    notes
        What had to be assumed to read the config, one sentence each.
    """

    name: str
    hidden_size: int
    vocabulary_size: int
    blocks: tuple[Block, ...]
    decoder_layers: int = 0
    prediction_layers: int = 0
    tied_embeddings: bool = False
    precision: str | None = "bf16"
    cache_precision: str | None = None
    cache_unread: str = ""
    attention_precision: str | None = None
    stored: Precision | None = None
    precision_source: str = "the checkpoint"
    published_parameters: float = 0.0
    source: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("hidden_size", "vocabulary_size"):
            check_count(name, getattr(self, name), 1, 100_000_000)
        check_count("prediction_layers", self.prediction_layers, 0, 1000)
        check_count("blocks", len(self.blocks), 1, 10_000)
        if not any(block.mixers for block in self.blocks):
            raise InvalidInputError(f"{self.name} must have one or more attention layers, got none")
        if not any(block.feed_forward for block in self.blocks):
            raise InvalidInputError(f"{self.name} must have a feed-forward network, got none")

    @property
    def layers(self) -> int:
        """Round trips between attention and FFN."""
        return len(self.blocks)

    @property
    def mixers(self) -> tuple[Mixer, ...]:
        """Every mixer in its order."""
        return tuple(mixer for block in self.blocks for mixer in block.mixers)

    @property
    def mixer(self) -> Mixer:
        """The commonest mixer with a cache; else the commonest recurrent one."""
        cached = [mixer for mixer in self.mixers if mixer.heads.cached_values]
        return Counter(cached or self.mixers).most_common(1)[0][0]

    @property
    def attention(self) -> Attention:
        """The heads of `mixer`."""
        return self.mixer.heads

    @property
    def network(self) -> FeedForward:
        """The feed-forward network with the most experts; the widest of a dense model."""
        networks = [network for block in self.blocks for network in block.feed_forward]
        return max(networks, key=lambda network: (network.experts, network.dense_size))

    @property
    def experts(self) -> int:
        """Routed experts of a layer that has some; 0 for a dense model."""
        return self.network.experts

    @property
    def experts_per_token(self) -> int:
        """Routed experts that a token uses."""
        return self.network.experts_per_token

    @property
    def shared_networks(self) -> tuple[FeedForward, ...]:
        """Every network that has shared experts, or a dense part, beside its routed ones."""
        networks = (network for block in self.blocks for network in block.feed_forward)
        return tuple(network for network in networks if network.experts and network.dense_size)

    @property
    def dense_layers(self) -> int:
        """Round trips without routed experts."""
        return sum(not block.has_experts for block in self.blocks)

    @property
    def state_bytes(self) -> float:
        """What a request keeps in all recurrent layers, whatever its length [bytes]."""
        return sum(mixer.heads.state_bytes for mixer in self.mixers)

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the input and output embeddings."""
        return (1 if self.tied_embeddings else 2) * self.vocabulary_size * self.hidden_size

    @property
    def mixer_parameters(self) -> int:
        """Parameters of all attention and recurrent layers."""
        return sum(mixer.parameters(self.hidden_size) for mixer in self.mixers)

    def _parameters(self, *, is_active: bool) -> int:
        networks = sum(
            network.parameters(self.hidden_size, network.experts_per_token if is_active else None)
            for block in self.blocks
            for network in block.feed_forward
        )
        return self.embedding_parameters + self.mixer_parameters + networks

    @property
    def total_parameters(self) -> int:
        """All parameters of the matrices, multi-token prediction layers left out."""
        return self._parameters(is_active=False)

    @property
    def active_parameters(self) -> int:
        """Parameters that one token meets, embeddings included."""
        return self._parameters(is_active=True)
