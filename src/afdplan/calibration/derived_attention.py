"""How long does one attention layer take, kernel by kernel?"""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from afdplan.calibration.architecture import FeedForward, Mixer
from afdplan.calibration.attention import SparseIndexer
from afdplan.calibration.batch_line import BatchLine, batch_line
from afdplan.calibration.block_rounds import block_rounds, mean_loss
from afdplan.calibration.heads import Attention, Product
from afdplan.calibration.memory import INDEX_KEY_SCALE_BYTES
from afdplan.calibration.operator import Operator
from afdplan.calibration.placement import Placement
from afdplan.calibration.precision import number_format
from afdplan.errors import UnsupportedError
from afdplan.model.curve import LinearCurve
from afdplan.model.stages import AttentionLayers

__all__ = [
    "AttentionTimes",
    "attention_layers",
    "attention_operator",
    "attention_rounds",
    "dense_products",
    "layer_order",
    "pass_time",
    "product_time",
    "products_time",
    "projection_error",
    "router_time",
    "token_time",
]

FloatArray = npt.NDArray[np.float64]

LARGEST_BATCH = 512
ROUTER_FORMAT = "bf16"
ACTIVATION_BYTES = {"bf16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5 + 1 / 16}
"""What a product reads of a token, by its arithmetic."""

SMALLEST_QUANTIZED = 1024
"""Products that are less deep (absorbed ones) stay in bf16: their input is not quantized."""


def attention_operator(placement: Placement, heads: Attention) -> Operator:
    """Return what the kernels that read the cache of `heads` reach."""
    return placement.efficiencies.of(
        placement.attention_hardware, heads.family, placement.precision.cache
    )


def token_time(placement: Placement, heads: Attention, queries: int | None = None) -> float:
    """Return the time per cached entry that one attention layer reads [s/entry].

    The operator's work. Query rows that share a KV head are padded to the tile of the matrix unit:
    that, not memory, binds grouped-query attention on devices with little arithmetic.

    Parameters
    ----------
    placement
        Model, devices, formats.
    heads
        Of one layer, whole; each device holds its share.
    queries
        Query tokens of one request that share the read; all of a step's unless given.
    """
    hardware = placement.attention_hardware
    attention = heads.sharded(placement.attention_devices)
    queries = placement.tokens_per_request if queries is None else queries
    rows = attention.query_rows * queries
    tile = hardware.matrix_tile_rows
    padding = math.ceil(rows / tile) * tile / rows
    cache_bytes = attention.cached_values * number_format(placement.precision.cache).bytes_per_value
    operations = attention.score_flops * queries * padding
    return float(
        attention_operator(placement, heads).work(
            cache_bytes / hardware.memory_bandwidth,
            operations / placement.matrix_rate("attention", "bf16"),
        )
    )


def attention_rounds(placement: Placement, heads: Attention, batch_size: int | None) -> float:
    """Return how much longer reading takes because blocks of threads come in rounds, >= 1.

    Of requests of one length; 1 without a batch size, and where the processors are not known.
    """
    hardware = placement.attention_hardware
    if batch_size is None or hardware.processors is None or heads.family != "attention":
        return 1.0
    here = heads.sharded(placement.attention_devices)
    blocks = batch_size * here.query_heads / here.query_rows
    sizes = (blocks, hardware.processors, placement.held_processors)
    unsure = (placement.efficiencies.factor("rounds") - 1) * mean_loss(*sizes)
    return float(block_rounds(*sizes)) + unsure


def _index_time(placement: Placement, heads: Attention, indexer: SparseIndexer) -> float:
    """Return the time per index key of the scorer of sparse attention [s/key]."""
    hardware = placement.attention_hardware
    moved = indexer.head_size + INDEX_KEY_SCALE_BYTES
    operations = indexer.score_flops * placement.tokens_per_request
    return float(
        attention_operator(placement, heads).work(
            moved / hardware.memory_bandwidth,
            operations / placement.matrix_rate("attention", "fp8"),
        )
    )


def product_time(
    placement: Placement, product: Product, tokens: FloatArray, number: str, side: str
) -> FloatArray:
    """Return the time of a matrix product of `tokens` rows on one device of a side [s]."""
    hardware = getattr(placement, f"{side}_hardware")
    form = number_format(number)
    depth, width = product
    read = depth * tokens * ACTIVATION_BYTES[form.arithmetic]
    moved = depth * width * form.bytes_per_value + read + 2.0 * tokens * width
    return placement.efficiencies.of(hardware, "gemm", number).time(
        moved / hardware.memory_bandwidth,
        2.0 * depth * width * tokens / placement.matrix_rate(side, form.arithmetic),
        depth,
    )


def pass_time(placement: Placement, tokens: FloatArray, side: str) -> FloatArray:
    """Return the time of a kernel that reads and writes each token's state once [s]."""
    hardware = getattr(placement, f"{side}_hardware")
    moved = 4.0 * placement.architecture.hidden_size * tokens
    operator = placement.efficiencies.of(hardware, "elementwise", "bf16")
    return operator.time(moved / hardware.memory_bandwidth)


def router_time(placement: Placement, experts: int, tokens: FloatArray, side: str) -> FloatArray:
    """Return the time of scoring `experts` and choosing among them [s]."""
    product = Product(placement.architecture.hidden_size, experts)
    scores = product_time(placement, product, tokens, ROUTER_FORMAT, side)
    return scores + pass_time(placement, tokens, side)


def products_time(placement: Placement, mixer: Mixer, requests: FloatArray) -> FloatArray:
    """Return the projections of one mixer, its norms, rotary, cache write, quantisation [s].

    Parameters
    ----------
    placement, mixer
        Where it runs, and its sizes.
    requests
        Of one device, any shape; each has ``1 + speculative_tokens`` tokens.
    """
    tokens = requests * placement.tokens_per_request
    number = placement.precision.attention_weights
    size = placement.architecture.hidden_size
    heads = mixer.heads.sharded(placement.attention_devices)
    products, passes = heads.products(size), 1 + heads.passes
    if mixer.indexer is not None:
        products += mixer.indexer.products(size, mixer.query_rank)
        passes += mixer.indexer.passes
    if number_format(number).arithmetic != "bf16":
        passes += sum(product.depth >= SMALLEST_QUANTIZED for product in products)
    time = passes * pass_time(placement, tokens, "attention")
    for product in products:
        time = time + product_time(placement, product, tokens, number, "attention")
    return time


def dense_products(network: FeedForward, hidden_size: int, slices: int) -> list[Product]:
    """Return both products of the dense part, or of the shared experts, in so many slices."""
    size = math.ceil(network.dense_size / slices)
    return [Product(hidden_size, (network.matrices - 1) * size), Product(size, hidden_size)]


def _shared_experts_time(placement: Placement, requests: FloatArray) -> FloatArray:
    """Return the time of the shared experts on an attention worker, mean over all layers [s].

    Tensor parallel as attention is; their output is added up over its devices.
    """
    architecture, number = placement.architecture, placement.precision.common_weights
    tokens = requests * placement.tokens_per_request
    fixed, slope = _reduction(placement)
    passes = 1 + (number_format(number).arithmetic != "bf16")
    total = np.zeros_like(tokens)
    for network in architecture.shared_networks:
        total += fixed + slope * requests + passes * pass_time(placement, tokens, "attention")
        for product in dense_products(
            network, architecture.hidden_size, placement.attention_devices
        ):
            total += product_time(placement, product, tokens, number, "attention")
    return total / architecture.layers


def _layer_end(placement: Placement, requests: FloatArray) -> FloatArray:
    """Return what stands between attention and the network [s].

    A norm, and router and shared experts if they are here. Layers without experts have neither:
    their time is averaged over all of them.
    """
    tokens = requests * placement.tokens_per_request
    time = pass_time(placement, tokens, "attention")
    architecture = placement.architecture
    if architecture.experts and placement.system.router == "attention":
        share = 1 - architecture.dense_layers / architecture.layers
        time = time + share * router_time(placement, architecture.experts, tokens, "attention")
    if placement.system.shared_experts == "attention":
        time = time + _shared_experts_time(placement, requests)
    return time


def _reduction(placement: Placement) -> tuple[float, float]:
    """Return (latency, time per request) of adding up the tensor-parallel outputs."""
    devices = placement.attention_devices
    if devices == 1:
        return 0.0, 0.0
    link = placement.attention_hardware.scale_up
    message = placement.architecture.hidden_size * 2.0 * placement.tokens_per_request
    share = 2 * (devices - 1) / devices
    slope = share * message / (link.bandwidth * placement.efficiencies.link)
    return 2 * link.latency + float(pass_time(placement, np.zeros(()), "attention")), slope


class _MixerTime(NamedTuple):
    """Time of one mixer: per context token, per request, and fixed [s/token, s/request, s]."""

    slope: float
    per_request: float
    fixed: float


def _mixer_time(placement: Placement, mixer: Mixer) -> _MixerTime:
    """Return what one mixer costs beside its products.

    Sparse attention reads all index keys and `selected_tokens` cached entries per request: the
    first is the slope, the second a time per request (requests shorter than that are charged too
    much). Once per request a recurrent layer reads and writes its state; latent attention reads
    queries and writes outputs, which weigh beside a cache that all heads share. Every KV head of a
    request is a block of threads of its own.
    """
    heads = mixer.heads
    operator = attention_operator(placement, heads)
    fixed, per_request = _reduction(placement)
    fixed += operator.fixed_time
    if mixer.indexer is not None:
        fixed += operator.fixed_time
        slope = _index_time(placement, heads, mixer.indexer) / mixer.compression
    elif mixer.selected_tokens is not None:
        slope = 0.0
    else:
        slope = token_time(placement, heads) / mixer.compression
    if mixer.selected_tokens is not None:
        # Every query token selects its own entries: nothing is shared between drafts.
        selected = mixer.selected_tokens * placement.tokens_per_request
        per_request += selected * token_time(placement, heads, queries=1)
    if mixer.local_tokens:
        per_request += mixer.local_tokens * token_time(placement, heads)
    here = heads.sharded(placement.attention_devices)
    moved = 2 * here.state_bytes
    if heads.family == "latent":
        # Queries and outputs, 2 bytes per number: each costs two operations per cached entry.
        moved += here.score_flops * placement.tokens_per_request
    per_request += moved / (placement.attention_hardware.memory_bandwidth * operator.memory_share)
    if here.cached_values:
        shared = 1 if mixer.selected_tokens is None else placement.tokens_per_request
        per_request += shared * here.query_heads / here.query_rows * operator.depth_time
    return _MixerTime(slope=slope, per_request=per_request, fixed=fixed)


def _stays(placement: Placement) -> tuple[tuple[Mixer, ...], ...]:
    """Return the mixers of each round trip in their order; draft steps come last.

    A draft step of multi-token prediction counts as a further layer that reads the whole context.
    """
    stays = tuple(block.mixers for block in placement.architecture.blocks)
    whole = tuple(mixers for mixers in stays if all(mixer.window is None for mixer in mixers))
    return stays + (whole or stays)[-1:] * placement.speculative_tokens


def attention_layers(placement: Placement) -> tuple[AttentionLayers, ...]:
    """Return the kinds of round trips with their attention time against KV tokens.

    Raises
    ------
    UnsupportedError
        If mixers with different windows stand in one round trip.
    """
    return AttentionTimes(placement).layers(placement.batch_size)


def layer_order(placement: Placement) -> tuple[int, ...]:
    """Return the kind of each layer, from 1, as `attention_layers` has them; drafts come last."""
    stays = _stays(placement)
    kinds = list(dict.fromkeys(stays))
    return tuple(kinds.index(mixers) + 1 for mixers in stays)


class AttentionTimes:
    """The attention side of a placement at any batch size; kernels are timed once.

    Parameters
    ----------
    placement
        Its batch size is passed over.
    """

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._counts = Counter(_stays(placement))
        self._mixers = {
            mixers: [_mixer_time(placement, mixer) for mixer in mixers] for mixers in self._counts
        }
        self._larger: dict[tuple[tuple[Mixer, ...], int], FloatArray] = {}
        requests = np.arange(LARGEST_BATCH + 1, dtype=np.float64)
        self._products = {mixers: self._time(mixers, requests) for mixers in self._counts}

    def _time(self, mixers: tuple[Mixer, ...], requests: FloatArray) -> FloatArray:
        """Return everything of a layer that depends on its requests alone [s]."""
        parts = [products_time(self._placement, mixer, requests) for mixer in mixers]
        return np.asarray(sum(parts) + _layer_end(self._placement, requests), dtype=np.float64)

    def line(self, mixers: tuple[Mixer, ...], batch_size: int | None) -> BatchLine:
        """Return the line that stands for what depends on requests; see `batch_line`."""
        known = self._products[mixers]
        if batch_size is not None and batch_size > LARGEST_BATCH:
            block = batch_size // LARGEST_BATCH
            if (mixers, block) not in self._larger:
                sizes = LARGEST_BATCH * block + np.arange(LARGEST_BATCH, dtype=np.float64)
                self._larger[mixers, block] = self._time(mixers, sizes)
            last = float(self._larger[mixers, block][batch_size % LARGEST_BATCH])
            return BatchLine(float(known[0]), (last - float(known[0])) / batch_size, 0.0)
        return batch_line(known, batch_size)

    def layers(self, batch_size: int | None) -> tuple[AttentionLayers, ...]:
        """Return the kinds of round trips, exact at `batch_size` requests if given."""
        return tuple(
            self._layers(mixers, count, batch_size) for mixers, count in self._counts.items()
        )

    def _layers(
        self, mixers: tuple[Mixer, ...], count: int, batch_size: int | None
    ) -> AttentionLayers:
        times, line = self._mixers[mixers], self.line(mixers, batch_size)
        windows = {m.window for m, time in zip(mixers, times, strict=True) if time.slope}
        if len(windows) > 1:
            raise UnsupportedError(
                f"{self._placement.architecture.name} has attention layers of different windows "
                "without a feed-forward network between them: give a measured latency model"
            )
        return AttentionLayers(
            curve=LinearCurve(
                slope=sum(
                    time.slope * attention_rounds(self._placement, mixer.heads, batch_size)
                    for mixer, time in zip(mixers, times, strict=True)
                ),
                intercept=line.intercept + sum(time.fixed for time in times),
            ),
            layers=count,
            time_per_request=line.slope + sum(time.per_request for time in times),
            context_window=next(iter(windows), None),
        )

    @property
    def largest_error(self) -> float:
        """Largest error of a line that was not drawn for one batch size [s]."""
        return max(self.line(mixers, None).error for mixers in self._counts)


def projection_error(placement: Placement) -> float:
    """Return the largest error of a layer's line against requests [s], for the assumptions."""
    return 0.0 if placement.batch_size is not None else AttentionTimes(placement).largest_error
