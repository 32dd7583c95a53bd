"""How long would a prompt take on one prefill worker, from the sizes of a model and its devices?

A worker of g devices holds the whole model: heads are split over d of them, g or one scale-up
domain (tensor parallel), experts over all. Each of the G = g / d domains has n / G of the n tokens
of a pass. Per layer

    projections, norms, quantisation of n/G tokens             as in decoding
    + the feed-forward network of n tokens over g devices      as in decoding
    + the fixed time of attention + 2 (latency + 2 (d - 1)/d n/G hidden bytes / scale-up bandwidth)
    + copies to other domains and back, n/g per device         over the scale-out link

and per causal pair the operations of a score and its weighted sum at the rate of attention.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from afdplan.calibration.architecture import FeedForward, Mixer, ModelArchitecture
from afdplan.calibration.attention import LatentAttention
from afdplan.calibration.derived_attention import (
    attention_operator,
    pass_time,
    product_time,
    products_time,
)
from afdplan.calibration.derived_feed_forward import BF16_BYTES, network_time
from afdplan.calibration.derived_transfer import copies_per_token
from afdplan.calibration.hardware import Hardware
from afdplan.calibration.heads import Attention, Product
from afdplan.calibration.memory import WorkerMemory, cache_kinds
from afdplan.calibration.placement import Placement
from afdplan.calibration.precision import number_format
from afdplan.calibration.serving_system import SYSTEMS
from afdplan.errors import InfeasibleError, InvalidInputError
from afdplan.model import plan_parameters as ask
from afdplan.model.curve import TabulatedCurve
from afdplan.model.prefill import PairCost, PrefillModel

__all__ = ["WIDTHS", "derive_prefill", "prefill_workers"]

WIDTHS = (1, 2, 4, 8, 16, 32)
"""Devices of a worker that are tried unless some are named."""
GRID_POINTS = 65
ATTENTION_MATRIX_SHARE = 0.67
"""Of the peak, attention over a prompt: FlashMLA README (2025-04-22), 660 TFLOPS of 989 on H800."""
PUBLISHED_SHARE = 0.55
"""Of the derived time of DeepSeek-V3 at prompts of 2,000, what LMSYS published: 52,300 tokens/s."""
STATE_OPERATIONS = 6
"""Per number of a recurrent state and token: decay, update and read, two operations each."""


def prefill_workers(
    placement: Placement,
    hardware: Hardware,
    *,
    devices: int | None = ask.PREFILL_DEVICES.default,
    chunk_tokens: int = ask.PREFILL_CHUNK.default,
) -> tuple[PrefillModel, ...]:
    """Return a prefill worker of every number of devices that holds the model, small first.

    Parameters
    ----------
    placement
        Of the decode side: model, formats, and the devices to which the KV cache is sent.
    hardware
        Device of the prefill workers.
    devices
        Of one worker; unless given, 1, 2, 4 to 32 as far as heads divide and one is enough.
    chunk_tokens
        Most tokens of one pass.

    Raises
    ------
    InfeasibleError
        If the model fits none of them.
    """
    tried = WIDTHS if devices is None else (devices,)
    found: list[PrefillModel] = []
    refusal = ""
    for width in tried:
        try:
            found.append(derive_prefill(placement, hardware, width, chunk_tokens))
        except InfeasibleError as error:
            refusal = str(error)
        except InvalidInputError:
            if devices is not None:
                raise
    if not found:
        raise InfeasibleError(refusal)
    inside = [worker for worker in found if worker.devices <= hardware.scale_up_devices]
    # Beyond the scale-up domain only what fits nowhere else.
    return tuple(inside or found[:1])


def derive_prefill(
    placement: Placement,
    hardware: Hardware,
    devices: int,
    chunk_tokens: int = ask.PREFILL_CHUNK.default,
) -> PrefillModel:
    """Return the times of a prefill worker of so many devices.

    Parameters
    ----------
    placement, hardware, devices, chunk_tokens
        As of `prefill_workers`.

    Raises
    ------
    InfeasibleError
        If weights and the cache of one token do not fit.
    InvalidInputError
        If the heads do not divide over the devices.

    Notes
    -----
    A roofline: neither uneven experts nor what overlaps is seen.

    Examples
    --------
    >>> from afdplan.calibration.catalogue import find_hardware, find_model
    >>> from afdplan.calibration.placement import place
    >>> h200 = find_hardware("h200")
    >>> worker = derive_prefill(place(find_model("deepseek-v3"), h200), h200, 8)
    >>> worker.devices, bool(worker.times(4096) < 0.2)
    (8, True)
    """
    architecture = placement.architecture
    domain = min(devices, hardware.scale_up_devices)
    if devices % domain:
        raise InvalidInputError(
            f"prefill_devices must be a multiple of the {domain} devices of a scale-up domain of "
            f"{hardware.name}, got {devices}"
        )
    here = replace(
        placement,
        attention_hardware=hardware,
        ffn_hardware=hardware,
        attention_devices=domain,
        ffn_devices=devices,
        ffn_workers=1,
        speculative_tokens=0,
        # All parts are on one worker, and no rows are dispatched: no habit of a split holds.
        system=replace(SYSTEMS["any"], router="ffn", dispatches=False),
    )
    memory = here.memory()
    room = _room(memory)
    if room <= 0:
        raise InfeasibleError(
            f"prefill of {architecture.name} does not fit on {devices} x {hardware.name}: weights "
            f"take {(memory.attention_weight_bytes + memory.ffn_weight_bytes) / 1e9:.1f} GB of "
            f"{hardware.memory_size / 1e9:.1f} GB per device; give other hardware, more devices "
            "per worker (--prefill-devices) or another precision"
        )
    per_token = memory.cache_bytes_per_token
    link = placement.attention_hardware.scale_out
    bandwidth = min(link.bandwidth, hardware.scale_out.bandwidth) * here.efficiencies.link
    grid = np.unique(np.round(np.geomspace(1, max(chunk_tokens, 2), GRID_POINTS)))
    return PrefillModel(
        name=f"{architecture.name} on {devices} x {hardware.name} (derived)",
        compute=TabulatedCurve(loads=grid, times=_chunk_times(here, grid)),
        pairs=tuple(_pair_costs(here)),
        chunk_tokens=chunk_tokens,
        devices=devices,
        # Every device sends its share; replicated caches are sent once.
        transfer_per_token=_sent_bytes(architecture, here) / devices / bandwidth,
        transfer_latency=max(link.latency, hardware.scale_out.latency)
        + here.efficiencies.transfer_latency,
        most_tokens=room / per_token if per_token else float("inf"),
        source="derived by a roofline, not measured",
        assumptions=(
            f"prefill runs on workers of {devices} x {hardware.name}: heads are split over "
            f"{domain} of them, experts over all, in passes of at most {chunk_tokens:,} tokens "
            "that waiting prompts share",
            "experts of prefill are balanced, and messages do not overlap with computing: where a "
            "system gives every device prompts of its own and hides messages behind a second "
            f"batch, prompts take down to {PUBLISHED_SHARE} of these times (DeepSeek-V3 on H100, "
            "LMSYS 2025-05-05), so that fewer prefill workers may do",
            "the KV cache of a prompt is sent after its last pass, over the scale-out link of "
            "every device; the worker goes on meanwhile",
        ),
    )


def _room(memory: WorkerMemory) -> float:
    """Return the memory that both kinds of weights leave for the cache on one device."""
    weights = memory.attention_weight_bytes + memory.ffn_weight_bytes
    return memory.attention_memory_bytes - weights - memory.reserve_bytes


def _sent_bytes(architecture: ModelArchitecture, placement: Placement) -> float:
    """Return the KV bytes of one token in all layers, unreplicated."""
    kinds = cache_kinds(architecture, placement.precision, 1)
    return sum(kind.bytes_per_token for kind in kinds if kind.window is None)


def _chunk_times(placement: Placement, tokens: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    architecture, efficiency = placement.architecture, placement.efficiencies
    times = np.full_like(tokens, efficiency.scheduling_time)
    # Only the last token of a prompt passes the output embedding.
    head = Product(architecture.hidden_size, architecture.vocabulary_size)
    shard = Product(head.depth, head.width // placement.attention_devices)
    times += product_time(placement, shard, np.ones(()), "bf16", "attention")
    for mixer, count in Counter(architecture.mixers).items():
        times += count * _mixer_time(placement, mixer, tokens)
    networks = Counter(one for block in architecture.blocks for one in block.feed_forward)
    for network, count in networks.items():
        times += count * (network_time(placement, network, tokens) + _reduction(placement, tokens))
        times += count * _crossing(placement, network, tokens)
    return np.maximum.accumulate(times)


def _mixer_time(
    placement: Placement, mixer: Mixer, tokens: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    own = tokens / _domains(placement)
    heads = mixer.heads.sharded(placement.attention_devices)
    state = heads.state_bytes / getattr(heads, "state_value_bytes", 4)
    # Of state and scores: what the matrix units reach in products of bf16.
    gemm = placement.efficiencies.of(placement.attention_hardware, "gemm", "bf16")
    rate = placement.attention_hardware.matrix_rate("bf16") * gemm.matrix_share
    kernels = 2 if mixer.indexer is not None else 1
    fixed = kernels * attention_operator(placement, mixer.heads).fixed_time
    recurrent = STATE_OPERATIONS * state * own / rate
    return np.asarray(
        products_time(placement, mixer, own) + recurrent + fixed + _reduction(placement, tokens)
    )


def _reduction(
    placement: Placement, tokens: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64] | float:
    """Return the time to add up the parts of a layer's output."""
    devices, hardware = placement.attention_devices, placement.attention_hardware
    if devices == 1:
        return 0.0
    link = hardware.scale_up
    message = placement.architecture.hidden_size * BF16_BYTES * tokens / _domains(placement)
    sent = 2 * (devices - 1) / devices * message
    return (
        2 * link.latency
        + float(pass_time(placement, np.zeros(()), "attention"))
        + sent / (link.bandwidth * placement.efficiencies.link)
    )


def _domains(placement: Placement) -> int:
    """Return G, the scale-up domains of a worker."""
    return placement.ffn_devices // placement.attention_devices


def _crossing(
    placement: Placement, network: FeedForward, tokens: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64] | float:
    """Return the time to send tokens to the experts of other domains and back."""
    domains = _domains(placement)
    if domains == 1 or not network.experts:
        return 0.0
    copies = copies_per_token(network.experts, network.experts_per_token, domains)
    away = copies * (domains - 1) / domains
    number = sum(number_format(one).bytes_per_value for one in (placement.precision.send, "bf16"))
    sent = away * placement.architecture.hidden_size * number * tokens / placement.ffn_devices
    link, efficiency = placement.attention_hardware.scale_out, placement.efficiencies
    return 2 * (link.latency + efficiency.transfer_latency) + sent / (
        link.bandwidth * efficiency.link
    )


def _pair_costs(placement: Placement) -> Iterator[PairCost]:
    """Yield the time per pair of every kind of layer."""
    hardware = placement.attention_hardware
    share = ATTENTION_MATRIX_SHARE * _domains(placement)
    rate, index_rate = hardware.matrix_rate("bf16") * share, hardware.matrix_rate("fp8") * share
    times: defaultdict[int | None, float] = defaultdict(float)
    for mixer, count in Counter(placement.architecture.mixers).items():
        heads = mixer.heads.sharded(placement.attention_devices)
        if not heads.cached_values:
            continue
        score = count * _score_operations(heads, mixer) / rate
        if mixer.indexer is not None:
            scored = count * mixer.indexer.score_flops / index_rate
            times[mixer.window] += scored / mixer.compression
        if mixer.selected_tokens is not None:
            times[mixer.selected_tokens * mixer.compression] += score / mixer.compression
        else:
            times[mixer.window] += score / mixer.compression
        if mixer.local_tokens:
            times[mixer.local_tokens] += score
    for window, time in times.items():
        yield PairCost(time=time, window=window)


def _score_operations(heads: Attention, mixer: Mixer) -> int:
    """Return the operations of one pair: prompts unfold latents unless they select entries."""
    if isinstance(heads, LatentAttention) and mixer.selected_tokens is None:
        key = heads.plain_key_size + heads.rotary_key_size
        return 2 * heads.query_heads * (key + heads.value_size)
    return heads.score_flops
