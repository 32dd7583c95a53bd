"""How much memory do weights and KV cache take on each device of a worker?"""

from __future__ import annotations

import math
from functools import lru_cache

from afdplan.calibration.architecture import Mixer, ModelArchitecture
from afdplan.calibration.precision import Precision, number_format
from afdplan.model.worker_memory import CacheKind, WorkerMemory

__all__ = [
    "CacheKind",
    "WorkerMemory",
    "attention_weight_bytes",
    "cache_kinds",
    "embedding_bytes",
    "ffn_weight_bytes",
    "mixer_shard",
    "shared_weight_bytes",
]

INDEX_KEY_SCALE_BYTES = 4.0


def attention_weight_bytes(
    architecture: ModelArchitecture, precision: Precision, devices: int, draft_layers: int = 0
) -> float:
    """Return the weights on one device of an attention worker: projections and embeddings.

    Parameters
    ----------
    architecture, precision
        Sizes and formats.
    devices
        Tensor-parallel devices of the worker.
    draft_layers
        Multi-token prediction layers in use.
    """
    size = architecture.hidden_size
    mixers = (*architecture.mixers, *architecture.mixers[-1:] * draft_layers)
    parameters = sum(mixer_shard(mixer, devices, size) for mixer in mixers)
    weights = parameters * number_format(precision.attention_weights).bytes_per_value
    return weights + embedding_bytes(architecture, precision) / devices


def embedding_bytes(architecture: ModelArchitecture, precision: Precision) -> float:
    """Return the bytes of both embeddings, or of the one that serves as both."""
    tables = {precision.head_weights: 1.0}
    if not architecture.tied_embeddings:
        tables[precision.embedding_weights] = tables.get(precision.embedding_weights, 0.0) + 1.0
    count = architecture.vocabulary_size * architecture.hidden_size
    return sum(n * count * number_format(name).bytes_per_value for name, n in tables.items())


@lru_cache(maxsize=256)  # dozens of layers are alike
def mixer_shard(mixer: Mixer, devices: int, hidden_size: int) -> int:
    """Return the parameters of a mixer on one of `devices`; its indexer is replicated."""
    indexer = mixer.parameters(hidden_size) - mixer.heads.parameters(hidden_size)
    return mixer.heads.sharded(devices).parameters(hidden_size) + indexer


def ffn_weight_bytes(
    architecture: ModelArchitecture,
    precision: Precision,
    devices: int,
    workers: int = 1,
    draft_layers: int = 0,
) -> float:
    """Return the weights on one device of an FFN worker.

    Routed experts are spread over ``devices * workers``; shared experts, routers and dense layers
    are replicated on every device.

    Parameters
    ----------
    architecture, precision
        Sizes and formats.
    devices
        Devices of one FFN worker.
    workers
        FFN workers that share the routed experts.
    draft_layers
        Multi-token prediction layers in use.
    """
    blocks = (*architecture.blocks, *architecture.blocks[-1:] * draft_layers)
    size = architecture.hidden_size
    networks = [network for block in blocks for network in block.feed_forward]
    experts = sum(
        math.ceil(network.experts / (devices * workers)) * network.expert_parameters(size)
        for network in networks
    )
    common = sum(network.common_parameters(size) for network in networks)
    return (
        experts * number_format(precision.feed_forward_weights).bytes_per_value
        + common * number_format(precision.common_weights).bytes_per_value
    )


def shared_weight_bytes(
    architecture: ModelArchitecture, precision: Precision, draft_layers: int = 0
) -> float:
    """Return the weights of all shared experts, of which every FFN device has a copy."""
    networks = architecture.shared_networks
    drafts = [one for one in architecture.blocks[-1].feed_forward if one in networks]
    size = architecture.hidden_size
    parameters = sum(
        network.matrices * size * network.dense_size
        for network in (*networks, *drafts * draft_layers)
    )
    return parameters * number_format(precision.common_weights).bytes_per_value


def cache_kinds(
    architecture: ModelArchitecture, precision: Precision, devices: int, draft_layers: int = 0
) -> tuple[CacheKind, ...]:
    """Return what one cached token takes on one device of an attention worker.

    Grouped-query heads are split over the devices, latents and index keys are replicated. What a
    recurrent layer keeps is the same for every request: a kind whose window is one token.
    """
    number = number_format(precision.cache).bytes_per_value
    kinds: dict[int | None, float] = {}
    shards = {mixer.heads: mixer.heads.sharded(devices) for mixer in set(architecture.mixers)}

    def add(window: int | None, amount: float) -> None:
        if amount:
            kinds[window] = kinds.get(window, 0.0) + amount

    for mixer in (*architecture.mixers, *architecture.mixers[-1:] * draft_layers):
        heads = shards[mixer.heads]
        entry = heads.cached_values * number
        index = 0.0
        if mixer.indexer is not None:
            index = mixer.indexer.head_size + INDEX_KEY_SCALE_BYTES
        add(mixer.window, (entry + index) / mixer.compression)
        if mixer.compression > 1:
            add(mixer.local_tokens or None, entry)
        add(1, heads.state_bytes)
    return tuple(CacheKind(amount, window) for window, amount in kinds.items())
