"""How long does one FFN layer take, from the experts that its tokens touch?"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from afdplan.calibration.architecture import FeedForward
from afdplan.calibration.placement import Placement
from afdplan.calibration.precision import FORMATS
from afdplan.model.curve import TabulatedCurve

__all__ = ["distinct_experts", "feed_forward_curve", "network_time"]

FloatArray = npt.NDArray[np.float64]

LARGEST_LOAD = 65_536
GRID_POINTS = 97
# Router, two grouped products, activation; shared or dense: two products.
ROUTED_KERNELS = 4
DENSE_KERNELS = 2
BF16_BYTES = 2.0


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


def _dense_time(placement: Placement, parameters: int, tokens: FloatArray) -> FloatArray:
    """Return the time of a network that every token of a device passes."""
    if not parameters:
        return np.zeros_like(tokens)
    hardware, efficiency = placement.ffn_hardware, placement.efficiencies
    number = FORMATS[placement.precision.feed_forward_weights]
    memory = (
        parameters * number.bytes_per_value / (hardware.memory_bandwidth * efficiency.weight_memory)
    )
    rate = hardware.matrix_rate(number.arithmetic) * efficiency.matrix
    fixed = DENSE_KERNELS * efficiency.kernel_latency
    return np.maximum(memory, 2 * parameters * tokens / rate) + fixed


def network_time(placement: Placement, network: FeedForward, tokens: npt.ArrayLike) -> FloatArray:
    """Return the time of one feed-forward network on one FFN worker [s].

    Without experts it is that of a dense network; with them

        max( (distinct experts * bytes / expert efficiency + activation bytes / efficiency)
               / bandwidth,
             operations / (matrix rate * efficiency) )  +  shared experts  +  kernels

    on one device, which holds ``experts / devices`` experts and gets ``n k / devices`` rows.

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
    hardware, efficiency = placement.ffn_hardware, placement.efficiencies
    hidden = placement.architecture.hidden_size
    sent = np.asarray(tokens, dtype=np.float64) * placement.tokens_per_request
    dense = _dense_time(placement, network.dense_parameters(hidden), sent / placement.ffn_devices)
    if not network.experts:
        return dense
    number = FORMATS[placement.precision.feed_forward_weights]
    # With more devices than experts the busiest are replicated: a device then holds one.
    slots = max(network.experts, placement.expert_devices)
    chosen = network.experts_per_token
    touched = (
        distinct_experts(slots, chosen, sent * placement.ffn_workers) / placement.expert_devices
    )
    rows = sent * chosen / placement.ffn_devices * efficiency.expert_imbalance
    expert = network.expert_parameters(hidden)
    weights = touched * expert * number.bytes_per_value
    in_bytes = FORMATS[placement.precision.send].bytes_per_value
    # Read the input, write and read what goes in (gate and up), write and read their product,
    # write the output.
    into = network.matrices - 1
    row_bytes = network.expert_width(hidden) * (in_bytes + BF16_BYTES) + network.expert_size * (
        2 * into * BF16_BYTES + 2 * in_bytes
    )
    memory = (
        weights / efficiency.expert_memory + rows * row_bytes / efficiency.weight_memory
    ) / hardware.memory_bandwidth
    rate = hardware.matrix_rate(number.arithmetic) * efficiency.matrix
    routed = np.maximum(memory, 2 * rows * expert / rate)
    fixed = ROUTED_KERNELS * efficiency.kernel_latency
    return np.asarray(routed + dense + fixed, dtype=np.float64)


def feed_forward_curve(placement: Placement) -> TabulatedCurve:
    """Return the mean FFN time per round trip against the requests of one FFN worker.

    A table on a logarithmic grid from 1 to 65,536, because the number of touched experts
    saturates smoothly: no line or single knee describes it. Between its points the table is within
    3 % of the formula. Layers of several kinds, if any, are averaged; draft steps count as the
    last one.
    """
    blocks = placement.architecture.blocks
    kinds = Counter(block.feed_forward for block in blocks)
    kinds[blocks[-1].feed_forward] += placement.speculative_tokens
    grid = np.unique(np.round(np.geomspace(1, LARGEST_LOAD, GRID_POINTS)))
    times = np.zeros_like(grid)
    for networks, count in kinds.items():
        times = times + count * sum(network_time(placement, one, grid) for one in networks)
    return TabulatedCurve(loads=grid, times=times / kinds.total())
