"""How long does one FFN layer take, from the experts that its tokens touch?"""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from afdplan.calibration.architecture import FeedForward
from afdplan.calibration.derived_attention import (
    dense_products,
    pass_time,
    product_time,
    router_time,
)
from afdplan.calibration.derived_transfer import exchange_times
from afdplan.calibration.hardware import Hardware
from afdplan.calibration.heads import Product
from afdplan.calibration.placement import Placement
from afdplan.calibration.precision import number_format
from afdplan.model.curve import TabulatedCurve

__all__ = [
    "POPULARITY_CV",
    "TUNED_SIZE",
    "WIDE_SIZE",
    "busiest_share",
    "distinct_experts",
    "experts_family",
    "feed_forward_curve",
    "network_time",
    "padded_rows",
    "tile_rows",
    "tiled_operations",
]

FloatArray = npt.NDArray[np.float64]

LARGEST_LOAD = 65_536
GRID_POINTS = 97
BF16_BYTES = 2.0
WIDE_SIZE = 8192
"""Inner numbers of an expert from which other kernels' shares hold, see `experts_family`."""
TUNED_SIZE = {"A100-80G": 7168}
"""Inner numbers of a wide expert in bf16, or of a slice, up to which a device's kernels come tuned
(vLLM's configurations of eight experts): larger ones take up to twice as long from 16 tokens on."""
POPULARITY_CV = 0.29
"""Of the experts of a layer: 56 of them on each of 16 ranks had a busiest rank of 1.069 of the mean
(Kimi-K3 without load balancing, vllm-project/vllm#50647)."""


def distinct_experts(
    experts: float, experts_per_token: float, tokens: float | npt.NDArray[Any]
) -> Any:
    """Return the expected number of distinct experts that `tokens` touch.

        E (1 - (1 - k/E)^n)

    exact when every token draws k different experts out of E, all alike and independently.

    Parameters
    ----------
    experts
        E, >= 1.
    experts_per_token
        k, from 0 to E.
    tokens
        n, >= 0, any shape.

    Examples
    --------
    >>> [round(float(distinct_experts(256, 8, n)), 1) for n in (0, 1, 100)]
    [0.0, 8.0, 245.3]
    """
    share = experts_per_token / experts
    if share >= 1:
        return experts * (1.0 - (np.asarray(tokens) == 0))
    return experts * -np.expm1(np.asarray(tokens) * np.log1p(-share))


def experts_family(network: FeedForward) -> Literal["experts", "wide"]:
    """Return the family of kernels that compute a network's experts: by their inner size.

    Few wide experts (Mixtral) reach other shares of the peaks than many narrow ones: on Blackwell
    half the matrix rate.
    """
    return "wide" if network.expert_size > WIDE_SIZE else "experts"


def tile_rows(hardware: Hardware, number: str) -> int:
    """Return how many rows of one expert a device's kernels compute at least.

    Kernels that widen narrow weights to 16 bits on the way start at 16 rows (Marlin's blocks), the
    others at 64.

    Examples
    --------
    >>> from afdplan.calibration.catalogue import find_hardware
    >>> [tile_rows(find_hardware(name), "mxfp4") for name in ("h200", "b200")]
    [16, 64]
    """
    form = number_format(number)
    is_widened = hardware.matrix_rate(form.arithmetic) == hardware.matrix_rate("bf16")
    return 16 if is_widened and form.bytes_per_value < BF16_BYTES else 64


def tiled_operations(
    operations: FloatArray, rows: FloatArray, experts: FloatArray, tile: int
) -> FloatArray:
    """Return the operations that matrix units spend on grouped products of few rows each.

    An expert with as many rows as a tile takes twice its operations, one with many rows its own.

    Parameters
    ----------
    operations
        Of all rows.
    rows, experts
        Rows of a device, and experts that they meet.
    tile
        Rows that are computed at least, see `tile_rows`.
    """
    return np.asarray(operations * (1 + tile * experts / np.maximum(rows, 1e-300)))


def padded_rows(rows: FloatArray, tiles: tuple[tuple[float, int], ...]) -> FloatArray:
    """Return the rows of one expert that are computed, in whole tiles, in expectation.

    The rows of single experts are taken as lognormal, their variance as that of chance and of
    popularity, ``rows + (0.29 rows)^2``. From 16 tiles on the last one is half full.

    Parameters
    ----------
    rows
        Mean of all experts, > 0, any shape.
    tiles
        As `afdplan.calibration.serving_system.ServingSystem.expert_tiles`.

    Examples
    --------
    >>> heights = ((64.0, 64), (np.inf, 192))
    >>> [round(float(padded_rows(np.array(n), heights))) for n in (32.0, 96.0, 9600.0)]
    [65, 193, 9696]
    """
    from scipy import special

    rows = np.maximum(np.asarray(rows, dtype=np.float64), 1e-9)
    most = np.array([mean for mean, _ in tiles])
    tile = np.array([height for _, height in tiles])[np.searchsorted(most, rows)].astype(float)
    sigma = np.sqrt(np.log1p(1 / rows + POPULARITY_CV**2))
    middle = np.log(rows) - sigma**2 / 2
    # Whoever has more than j tiles of rows needs one more.
    more = [special.ndtr((middle - np.log(j * tile)) / sigma) for j in range(1, 64)]
    some = -np.expm1(-rows)
    few = tile * (some + sum(more))
    return np.asarray(np.where(rows < 16 * tile, few, rows + tile / 2))


def busiest_share(
    experts: int, devices: int, choices: float | npt.NDArray[Any], popularity_cv: float
) -> Any:
    """Return the mean load of the busiest of `devices`, over the mean of all.

    Loads are taken as lognormal, their squared coefficient of variation as that of the popularity
    of a device's experts and that of chance, ``cv^2 devices / experts + devices / choices``; the
    largest of n stands at the normal quantile of ``(n - 3/8) / (n + 1/4)``.

    Parameters
    ----------
    experts, devices
        Routed experts, and devices over which they are spread evenly.
    choices
        Tokens times experts per token, > 0, any shape.
    popularity_cv
        Coefficient of variation of how often single experts are chosen.

    References
    ----------
    G. Blom, Statistical Estimates and Transformed Beta-Variables, 1958 (the quantile).

    Examples
    --------
    >>> round(float(busiest_share(896, 16, 1e9, 0.29)), 3)
    1.07
    >>> float(busiest_share(256, 1, 100.0, 0.29))
    1.0
    """
    from scipy import special

    squared = popularity_cv**2 * devices / experts + devices / np.asarray(choices)
    sigma = np.sqrt(np.log1p(squared * (devices > 1)))
    largest = special.ndtri((devices - 0.375) / (devices + 0.25))
    # A device cannot get more than every choice.
    return np.clip(np.exp(sigma * largest - sigma**2 / 2), 1.0, devices)


def _busiest(placement: Placement, network: FeedForward, sent: FloatArray) -> FloatArray:
    """Return the load of the busiest device over the mean: stated, or by chance and popularity."""
    stated = placement.efficiencies.expert_imbalance
    if stated is None:
        slots = max(network.experts, placement.expert_devices)
        choices = np.maximum(sent * placement.ffn_workers * network.experts_per_token, 1e-9)
        ranks = placement.expert_devices // placement.ffn_slices
        # Who has more devices than experts replicates by popularity: chance is left.
        spread = POPULARITY_CV if placement.expert_devices <= network.experts else 0.0
        stated = busiest_share(slots, ranks, choices, spread)
    beyond = np.asarray(stated) - 1
    return np.asarray(1 + beyond * placement.efficiencies.factor("imbalance"), dtype=np.float64)


def _dense_time(placement: Placement, network: FeedForward, sent: FloatArray) -> FloatArray:
    """Return the time of what every token passes here: two products and the activation.

    Each device has its share of the tokens, or, tensor parallel, all of them and a slice.
    """
    hidden = placement.architecture.hidden_size
    slices = placement.ffn_slices
    tokens = sent * slices / placement.ffn_devices
    number = placement.precision.common_weights
    products = []
    is_here = network.dense_size > 0
    if network.experts and placement.system.shared_experts == "attention":
        is_here = False
    if is_here:
        products += dense_products(network, hidden, slices)
    if network.expert_hidden_size is not None:
        latent = network.expert_hidden_size
        products += [Product(hidden, latent), Product(latent, hidden)]
    time = np.zeros_like(tokens)
    for product in products:
        time = time + product_time(placement, product, tokens, number, "ffn")
    if is_here:
        passes = 1 + (number_format(number).arithmetic != "bf16")
        time = time + passes * pass_time(placement, tokens, "ffn")
    return time


def _experts_time(placement: Placement, network: FeedForward, sent: FloatArray) -> FloatArray:
    """Return the time of the routed experts of one device: the operator on bytes and operations.

    It holds ``experts / devices`` of them and gets ``n k / devices`` rows.
    """
    hardware, efficiency = placement.ffn_hardware, placement.efficiencies
    hidden = placement.architecture.hidden_size
    number = placement.precision.feed_forward_weights
    form = number_format(number)
    # With more devices than experts the busiest are replicated: a device then holds one.
    slots = max(network.experts, placement.expert_devices)
    chosen = network.experts_per_token
    touched = (
        distinct_experts(slots, chosen, sent * placement.ffn_workers) / placement.expert_devices
    )
    rows = sent * chosen / placement.ffn_devices * _busiest(placement, network, sent)
    expert = network.expert_parameters(hidden)
    in_bytes = number_format(placement.precision.send).bytes_per_value
    # Read the input, write and read what goes in (gate and up), write and read their product,
    # write the output.
    into = network.matrices - 1
    row_bytes = network.expert_width(hidden) * (in_bytes + BF16_BYTES) + network.expert_size * (
        2 * into * BF16_BYTES + 2 * in_bytes
    )
    moved = touched * expert * form.bytes_per_value + rows * row_bytes
    operations = 2 * rows * expert
    if placement.system.expert_tiles:
        held = slots / placement.expert_devices
        tiled = held * padded_rows(rows / held, placement.system.expert_tiles)
        operations = operations * tiled / np.maximum(rows, 1e-300)
    else:
        operations = tiled_operations(operations, rows, touched, tile_rows(hardware, number))
    # The row of fp8 may be DeepGEMM's, of dispatched rows; that of int8 never is.
    is_fp8 = number.startswith("fp8") and form.arithmetic == "fp8"
    kernels = "int8" if is_fp8 and not placement.system.dispatches else number
    return efficiency.of(hardware, experts_family(network), kernels).time(
        moved / hardware.memory_bandwidth,
        operations / hardware.matrix_rate(form.arithmetic),
        rows * network.expert_width(hidden),
    )


def network_time(placement: Placement, network: FeedForward, tokens: npt.ArrayLike) -> FloatArray:
    """Return the time of one feed-forward network on one FFN worker [s].

    Dense and shared parts, the router where it runs here, and the routed experts; transfers are
    not in it.

    Parameters
    ----------
    placement
        Devices, formats.
    network
        Sizes.
    tokens
        Requests n of one FFN worker and microbatch, any shape; each sends
        ``1 + speculative_tokens`` tokens.
    """
    sent = np.asarray(tokens, dtype=np.float64) * placement.tokens_per_request
    time = _dense_time(placement, network, sent)
    if network.experts:
        time = time + _experts_time(placement, network, sent)
        if placement.system.router == "ffn":
            own = sent / placement.ffn_devices
            time = time + router_time(placement, network.experts, own, "ffn")
    return np.asarray(time, dtype=np.float64)


def feed_forward_curve(placement: Placement) -> TabulatedCurve:
    """Return the mean FFN time per round trip against the requests of one FFN worker.

    A table on a logarithmic grid from 1 to 65,536, because the number of touched experts
    saturates smoothly: no line or single knee describes it. Between its points the table is within
    3 % of the formula. Layers of several kinds, if any, are averaged; draft steps count as the
    last one. Where the serving system lets transfers run inside the stage, it takes their time:
    all of it in turn (``in-stage``), or their fixed times and the longer of moving and computing
    (``fused``).
    """
    blocks = placement.architecture.blocks
    kinds = Counter(block.feed_forward for block in blocks)
    kinds[blocks[-1].feed_forward] += placement.speculative_tokens
    grid = np.unique(np.round(np.geomspace(1, LARGEST_LOAD, GRID_POINTS)))
    times = np.zeros_like(grid)
    for networks, count in kinds.items():
        times = times + count * sum(network_time(placement, one, grid) for one in networks)
    times = times / kinds.total()
    fixed, moving = exchange_times(placement, grid)
    if placement.system.transfers == "in-stage":
        times = times + fixed + moving
    elif placement.system.transfers == "fused":
        times = np.maximum(times, moving) + fixed
    return TabulatedCurve(loads=grid, times=times)
