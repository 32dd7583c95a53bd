"""How long does one attention layer take, from bytes and operations?"""

from __future__ import annotations

import math
from typing import NamedTuple

from afdplan.calibration.memory import INDEX_KEY_SCALE_BYTES
from afdplan.calibration.placement import Placement
from afdplan.calibration.precision import FORMATS
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


def token_time(placement: Placement, queries: int | None = None) -> float:
    """Return the time per KV token that one attention layer reads [s/token].

        max( cached values * bytes / (bandwidth * efficiency),
             operations * padding * queries / (matrix rate * efficiency) )

    Query rows that share a KV head are padded to the tile of the matrix unit: that, not memory,
    binds grouped-query attention on devices with little arithmetic.

    Parameters
    ----------
    placement
        Model, devices, formats.
    queries
        Query tokens of one request that share the read; all of a step's unless given.
    """
    hardware, efficiency = placement.attention_hardware, placement.efficiencies
    attention = placement.architecture.attention.sharded(placement.attention_devices)
    queries = placement.tokens_per_request if queries is None else queries
    rows = attention.query_rows * queries
    tile = hardware.matrix_tile_rows
    padding = math.ceil(rows / tile) * tile / rows
    cache_bytes = attention.cached_values * FORMATS[placement.precision.cache].bytes_per_value
    memory = cache_bytes / (hardware.memory_bandwidth * efficiency.attention_memory)
    operations = attention.score_flops * queries * padding
    return max(memory, operations / (hardware.matrix_rate("bf16") * efficiency.attention_matrix))


def _index_time(placement: Placement) -> float:
    """Return the time per context token of the scorer of sparse attention [s/token]."""
    indexer = placement.architecture.indexer
    if indexer is None:
        return 0.0
    hardware, efficiency = placement.attention_hardware, placement.efficiencies
    memory = (indexer.head_size + INDEX_KEY_SCALE_BYTES) / (
        hardware.memory_bandwidth * efficiency.attention_memory
    )
    operations = indexer.score_flops * placement.tokens_per_request
    return max(memory, operations / (hardware.matrix_rate("fp8") * efficiency.attention_matrix))


def _projections(placement: Placement) -> RooflineLine:
    architecture, hardware = placement.architecture, placement.attention_hardware
    efficiency = placement.efficiencies
    shard = architecture.attention.sharded(placement.attention_devices)
    whole = architecture.attention.parameters(architecture.hidden_size)
    parameters = shard.parameters(architecture.hidden_size) + (
        architecture.attention_parameters - whole
    )
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


def attention_layers(placement: Placement) -> tuple[AttentionLayers, ...]:
    """Return the kinds of attention layers with their time against KV tokens.

    Sparse attention reads all index keys and `selected_tokens` cached tokens per request: the
    first is the slope, the second a time per request (requests shorter than that are charged too
    much). Draft steps of multi-token prediction count as further layers.
    """
    architecture, efficiency = placement.architecture, placement.efficiencies
    projections = _projections(placement)
    wait, per_request = _reduction(placement)
    kernels = architecture.attention.kernels
    slope = token_time(placement)
    if architecture.indexer is not None:
        kernels += INDEXER_KERNELS
        # Every query token selects its own tokens: nothing is shared between drafts.
        selected = architecture.indexer.selected_tokens * placement.tokens_per_request
        per_request += selected * token_time(placement, queries=1)
        slope = _index_time(placement)
    curve = LinearCurve(
        slope=slope,
        intercept=projections.intercept + wait + kernels * efficiency.kernel_latency,
    )
    windows: dict[int | None, int] = {}
    for layers, window in architecture.attention_windows:
        windows[window] = windows.get(window, 0) + layers
    if placement.speculative_tokens:
        windows[None] = windows.get(None, 0) + placement.speculative_tokens
    return tuple(
        AttentionLayers(
            curve=curve,
            layers=layers,
            time_per_request=projections.slope + per_request,
            context_window=window,
        )
        for window, layers in windows.items()
    )


def layer_order(placement: Placement) -> tuple[int, ...]:
    """Return the kind of each layer, from 1, as `attention_layers` has them; drafts come last."""
    architecture = placement.architecture
    windows = architecture.layer_windows + (None,) * placement.speculative_tokens
    kinds = list(dict.fromkeys((*(w for _, w in architecture.attention_windows), *windows)))
    return tuple(kinds.index(window) + 1 for window in windows)


def projection_error(placement: Placement) -> float:
    """Return the largest error of the projections' line [s], for the list of assumptions."""
    return _projections(placement).error
