"""How long does one attention layer take, from bytes and operations?"""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

from afdplan.calibration.architecture import Mixer
from afdplan.calibration.attention import Attention, SparseIndexer
from afdplan.calibration.memory import INDEX_KEY_SCALE_BYTES, mixer_shard
from afdplan.calibration.placement import Placement
from afdplan.calibration.precision import FORMATS
from afdplan.errors import UnsupportedError
from afdplan.model.curve import LinearCurve
from afdplan.model.latency import AttentionLayers

__all__ = [
    "RooflineLine",
    "attention_layers",
    "layer_order",
    "projection_error",
    "roofline_line",
    "token_time",
]

LARGEST_BATCH = 512
INDEXER_KERNELS = 3


class RooflineLine(NamedTuple):
    """A straight line in place of ``max(floor, slope x)``, and its largest error.

    Attributes
    ----------
    intercept, slope
        Of the line [s, s/request].
    error
        Largest distance from the roofline in the range it was drawn for [s].
    """

    intercept: float
    slope: float
    error: float


def roofline_line(floor: float, slope: float, batch_size: int | None) -> RooflineLine:
    """Return the line that stands for ``max(floor, slope x)`` of a layer's projections.

    With a batch size, the line is the branch that holds there, exact. Without, it is the best
    line on [0, 512] in the sense of the largest error: the chord lowered by half the largest gap,

        gap = floor (1 - floor / (slope 512)),   reached at the knee.

    Parameters
    ----------
    floor
        Time to read the weights [s].
    slope
        Arithmetic per request [s/request].
    batch_size
        Requests at which the line must be exact, or None.
    """
    end = slope * (LARGEST_BATCH if batch_size is None else batch_size)
    if end <= floor:
        return RooflineLine(floor, 0.0, 0.0)
    if batch_size is not None:
        return RooflineLine(0.0, slope, 0.0)
    half_gap = floor * (1 - floor / end) / 2
    return RooflineLine(floor - half_gap, (end - floor) / LARGEST_BATCH, half_gap)


def token_time(placement: Placement, heads: Attention, queries: int | None = None) -> float:
    """Return the time per cached entry that one attention layer reads [s/entry].

        max( cached values * bytes / (bandwidth * efficiency),
             operations * padding * queries / (matrix rate * efficiency) )

    Query rows that share a KV head are padded to the tile of the matrix unit: that, not memory,
    binds grouped-query attention on devices with little arithmetic.

    Parameters
    ----------
    placement
        Model, devices, formats.
    heads
        Of one layer, whole; each device holds its share.
    queries
        Query tokens of one request that share the read; all of a step's unless given.
    """
    hardware, efficiency = placement.attention_hardware, placement.efficiencies
    attention = heads.sharded(placement.attention_devices)
    queries = placement.tokens_per_request if queries is None else queries
    rows = attention.query_rows * queries
    tile = hardware.matrix_tile_rows
    padding = math.ceil(rows / tile) * tile / rows
    cache_bytes = attention.cached_values * FORMATS[placement.precision.cache].bytes_per_value
    memory = cache_bytes / (hardware.memory_bandwidth * efficiency.attention_memory)
    operations = attention.score_flops * queries * padding
    return max(memory, operations / (hardware.matrix_rate("bf16") * efficiency.attention_matrix))


def _index_time(placement: Placement, indexer: SparseIndexer) -> float:
    """Return the time per index key of the scorer of sparse attention [s/key]."""
    hardware, efficiency = placement.attention_hardware, placement.efficiencies
    memory = (indexer.head_size + INDEX_KEY_SCALE_BYTES) / (
        hardware.memory_bandwidth * efficiency.attention_memory
    )
    operations = indexer.score_flops * placement.tokens_per_request
    return max(memory, operations / (hardware.matrix_rate("fp8") * efficiency.attention_matrix))


def _projections(placement: Placement, mixer: Mixer) -> RooflineLine:
    hardware, efficiency = placement.attention_hardware, placement.efficiencies
    size = placement.architecture.hidden_size
    parameters = mixer_shard(mixer, placement.attention_devices, size)
    number = FORMATS[placement.precision.attention_weights]
    floor = (
        parameters * number.bytes_per_value / (hardware.memory_bandwidth * efficiency.weight_memory)
    )
    slope = (
        2
        * parameters
        * placement.tokens_per_request
        / (hardware.matrix_rate(number.arithmetic) * efficiency.matrix)
    )
    return roofline_line(floor, slope, placement.batch_size)


def _reduction(placement: Placement) -> tuple[float, float]:
    """Return (latency, time per request) of adding up the tensor-parallel outputs."""
    devices = placement.attention_devices
    if devices == 1:
        return 0.0, 0.0
    link = placement.attention_hardware.scale_up
    message = placement.architecture.hidden_size * 2.0 * placement.tokens_per_request
    share = 2 * (devices - 1) / devices
    slope = share * message / (link.bandwidth * placement.efficiencies.link)
    return 2 * link.latency + placement.efficiencies.kernel_latency, slope


class _MixerTime(NamedTuple):
    """Time of one mixer: per context token, per request, and fixed [s/token, s/request, s]."""

    slope: float
    per_request: float
    fixed: float


def _mixer_time(placement: Placement, mixer: Mixer) -> _MixerTime:
    """Return what one mixer costs.

    Sparse attention reads all index keys and `selected_tokens` cached entries per request: the
    first is the slope, the second a time per request (requests shorter than that are charged too
    much). A recurrent layer reads and writes its state once per request.
    """
    efficiency, heads = placement.efficiencies, mixer.heads
    projections = _projections(placement, mixer)
    wait, per_request = _reduction(placement)
    kernels = heads.kernels
    if mixer.indexer is not None:
        kernels += INDEXER_KERNELS
        slope = _index_time(placement, mixer.indexer) / mixer.compression
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
    state = heads.sharded(placement.attention_devices).state_bytes
    bandwidth = placement.attention_hardware.memory_bandwidth * efficiency.attention_memory
    per_request += 2 * state / bandwidth
    return _MixerTime(
        slope=slope,
        per_request=projections.slope + per_request,
        fixed=projections.intercept + wait + kernels * efficiency.kernel_latency,
    )


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
    kinds = Counter(_stays(placement))
    return tuple(_layers_of(placement, mixers, count) for mixers, count in kinds.items())


def layer_order(placement: Placement) -> tuple[int, ...]:
    """Return the kind of each layer, from 1, as `attention_layers` has them; drafts come last."""
    stays = _stays(placement)
    kinds = list(dict.fromkeys(stays))
    return tuple(kinds.index(mixers) + 1 for mixers in stays)


def _layers_of(placement: Placement, mixers: tuple[Mixer, ...], count: int) -> AttentionLayers:
    times = [_mixer_time(placement, mixer) for mixer in mixers]
    windows = {m.window for m, time in zip(mixers, times, strict=True) if time.slope}
    if len(windows) > 1:
        raise UnsupportedError(
            f"{placement.architecture.name} has attention layers of different windows without a "
            "feed-forward network between them: give a measured latency model"
        )
    return AttentionLayers(
        curve=LinearCurve(
            slope=sum(time.slope for time in times),
            intercept=sum(time.fixed for time in times),
        ),
        layers=count,
        time_per_request=sum(time.per_request for time in times),
        context_window=next(iter(windows), None),
    )


def projection_error(placement: Placement) -> float:
    """Return the largest error of a layer's projections' line [s], for the assumptions."""
    return max(_projections(placement, mixer).error for mixer in set(placement.architecture.mixers))
