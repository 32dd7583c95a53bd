"""How long would every stage take, from the sizes of a model and the facts of a device?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from afdplan.calibration.assumption import Assumption
from afdplan.calibration.block_rounds import most_rounds
from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.derived_attention import attention_layers, layer_order, projection_error
from afdplan.calibration.derived_error import derived_uncertainty, part_errors
from afdplan.calibration.derived_feed_forward import (
    POPULARITY_CV,
    TUNED_SIZE,
    WIDE_SIZE,
    feed_forward_curve,
)
from afdplan.calibration.derived_transfer import receive_transfer, send_transfer
from afdplan.calibration.placement import Placement, place
from afdplan.calibration.precision import number_format
from afdplan.errors import InvalidInputError
from afdplan.model.checks import check_choice
from afdplan.model.latency import LatencyModel
from afdplan.model.words import counted
from afdplan.model.worker_memory import WorkerMemory

__all__ = [
    "DerivedModel",
    "derived_assumptions",
    "derived_latency",
    "derived_model",
    "latency_of",
    "times_of",
]

Cost = Literal["devices", "price", "watts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedModel:
    """A derived latency model with the memory and the cost of its workers.

    Attributes
    ----------
    latency
        Times of the stages [s].
    memory
        Weights and cache on each device.
    placement
        What both were derived from, every default resolved.
    """

    latency: LatencyModel
    memory: WorkerMemory
    placement: Placement

    def __str__(self) -> str:
        """Return what was derived, and of how many devices its workers are."""
        attention, ffn = self.placement.attention_devices, self.placement.ffn_devices
        return (
            f"{self.latency.name}: attention workers of {counted(attention, 'device')}, FFN "
            f"workers of {counted(ffn, 'device')}; stage times in .latency, cache in .memory"
        )

    def ffn_weight(self, cost: Cost = "devices") -> float:
        """Return w, the cost of one FFN worker over that of one attention worker.

        Parameters
        ----------
        cost
            What counts: ``devices``, ``price`` (an assumption of the hardware files) or
            ``watts``.

        Examples
        --------
        >>> derived_model("deepseek-v3", "h200").ffn_weight()
        8.0
        """
        check_choice("cost", cost, get_args(Cost))
        ratio = self.placement.ffn_devices / self.placement.attention_devices
        if cost == "devices":
            return ratio
        name = "price_per_hour" if cost == "price" else "watts"
        attention = float(getattr(self.placement.attention_hardware, name))
        if not attention:
            raise InvalidInputError(
                f"{self.placement.attention_hardware.name} has {name} = 0: no cost to compare with"
            )
        return ratio * float(getattr(self.placement.ffn_hardware, name)) / attention


def latency_of(placement: Placement) -> LatencyModel:
    """Return the latency model of a resolved placement with its uncertainty."""
    model = times_of(placement)
    return replace(model, uncertainty=derived_uncertainty(placement, model, _times))


def times_of(placement: Placement) -> LatencyModel:
    """Return the latency model of a resolved placement, its errors left out."""
    told = tuple(assumed.text for assumed in derived_assumptions(placement))
    return replace(_times(placement), assumptions=told)


def _times(placement: Placement) -> LatencyModel:
    """Return the times alone, which are derived anew for the error of every part."""
    architecture = placement.architecture
    devices = placement.attention_hardware.name
    if placement.ffn_hardware.name != devices:
        devices += f" and {placement.ffn_hardware.name}"
    return LatencyModel(
        name=f"{architecture.name} on {devices} (derived)",
        time_unit="s",
        attention=attention_layers(placement),
        layer_order=layer_order(placement),
        ffn=feed_forward_curve(placement),
        send=send_transfer(placement),
        receive=receive_transfer(placement),
        step_overhead=_step_overhead(placement),
        tokens_per_step=placement.tokens_per_step,
        source="derived from measured operators, not measured itself; "
        f"model sizes: {architecture.source}",
        attention_devices=placement.attention_devices,
        ffn_devices=placement.ffn_devices,
    )


def derived_latency(
    model: str | Path, hardware: str | Path, ffn_hardware: str | Path | None = None, **options: Any
) -> LatencyModel:
    """Return the derived latency model of a named model on named hardware; works offline.

    Parameters
    ----------
    model
        Shipped name, Hugging Face id, or path of a `config.json`.
    hardware, ffn_hardware
        Shipped name or path of a TOML file.
    **options
        As `afdplan.calibration.placement.place`: `precision`, `cache_precision`,
        `attention_devices`, `ffn_devices`, `ffn_workers`, `link`, `speculative_tokens`,
        `acceptance`, `batch_size`, `efficiencies`.

    Returns
    -------
    LatencyModel
        In seconds; `assumptions` lists every input that nobody measured. Its FFN load counts
        requests: with draft tokens, each request sends more than one token.

    Raises
    ------
    InvalidInputError
        If an option is out of its domain or the weights do not fit.
    UnsupportedError
        If draft tokens are asked of a model that cannot draft.

    Notes
    -----
    A roofline sees neither launch gaps nor contention: measured per-layer attention slopes are
    met within 10 % in the median (``docs/derived-models.md``), short stages less well.

    Examples
    --------
    >>> derived_latency("deepseek-ai/DeepSeek-V3", "h200", batch_size=128).name
    'deepseek-ai/DeepSeek-V3 on H200 (derived)'
    """
    return derived_model(model, hardware, ffn_hardware, **options).latency


def derived_model(
    model: str | Path, hardware: str | Path, ffn_hardware: str | Path | None = None, **options: Any
) -> DerivedModel:
    """Return latency, memory and cost weights together; as `derived_latency`.

    The weight matters: an FFN worker of 8 devices costs 8 attention workers of one device, and
    the best ratio under a weight of 1 is another one.

    Examples
    --------
    >>> derived = derived_model("qwen3-235b-a22b-fp8", "gb200", ffn_devices=4)
    >>> derived.ffn_weight("watts"), derived.memory.ffn_fits
    (4.0, True)
    """
    placement = _find(model, hardware, ffn_hardware, options)
    memory = placement.memory()
    latency = replace(latency_of(placement), memory=memory)
    return DerivedModel(latency=latency, memory=memory, placement=placement)


def _find(
    model: str | Path,
    hardware: str | Path,
    ffn_hardware: str | Path | None,
    options: dict[str, Any],
) -> Placement:
    other = None if ffn_hardware is None else find_hardware(ffn_hardware)
    return place(find_model(model), find_hardware(hardware), ffn_hardware=other, **options)


def _step_overhead(placement: Placement) -> float:
    """Return scheduling, and reading the output embedding once per token of a step."""
    architecture, hardware = placement.architecture, placement.attention_hardware
    number = placement.precision.head_weights
    width = number_format(number).bytes_per_value
    head = architecture.vocabulary_size * architecture.hidden_size * width
    product = placement.efficiencies.of(hardware, "gemm", number)
    read = head / placement.attention_devices / hardware.memory_bandwidth / product.memory_share
    return _scheduling(placement) + placement.tokens_per_request * read


def _scheduling(placement: Placement) -> float:
    """Return what the host's work adds to a step [s]."""
    efficiency = placement.efficiencies
    if placement.system.hides_scheduling:
        return 0.0
    return efficiency.scheduling_time * efficiency.factor("scheduling")


def _operator_lines(placement: Placement) -> list[Assumption]:
    """Return how far each part may be off, and which operators were measured elsewhere."""
    efficiency, precision = placement.efficiencies, placement.precision
    parts = ", ".join(f"{part} {error:.0%}" for part, error in part_errors(placement).items())
    lines = [
        Assumption("efficiencies", f"standard errors of the parts: {parts}".replace("%", " %")),
        Assumption(
            "latencies",
            "scheduling runs beside the step and adds nothing"
            if placement.system.hides_scheduling
            else f"{efficiency.scheduling_time * 1e3:g} ms of scheduling per step",
        ),
    ]
    if efficiency.operator is not None:
        return lines
    lines += _tuned_lines(placement)
    sides = {placement.attention_hardware.name: placement.attention_hardware}
    sides[placement.ffn_hardware.name] = placement.ffn_hardware
    for hardware in sides.values():
        lender = efficiency.of(hardware, "gemm", precision.attention_weights).origin
        lender = lender.partition(",")[0]
        if lender != hardware.name:
            words = f"{hardware.name} was not measured: its kernels are taken as those of {lender}"
            lines.append(Assumption("operators", words))
    return lines


def _tuned_lines(placement: Placement) -> list[Assumption]:
    """Return that the kernels of wide experts are taken as tuned, where nobody ships them so."""
    networks = [one for block in placement.architecture.blocks for one in block.feed_forward]
    whole = max((one.expert_size for one in networks if one.experts), default=0)
    if whole <= WIDE_SIZE:
        return []
    number = placement.precision.feed_forward_weights
    operator = placement.efficiencies.of(placement.ffn_hardware, "wide", number)
    lender, _, kernel = operator.origin.partition(", ")
    size = -(-whole // placement.ffn_slices)
    tuned = TUNED_SIZE.get(lender, size)
    if size <= tuned or not kernel.endswith("bfloat16"):
        return []
    words = (
        f"kernels of experts are taken as tuned for {lender}: none ships for {size:,} inner "
        f"numbers (up to {tuned:,}), and untuned ones take up to twice as long from 16 tokens on"
    )
    return [Assumption("untuned-experts", words)]


def _processor_lines(placement: Placement) -> list[Assumption]:
    """Return how attention's blocks share the processors, and who holds some of them."""
    hardware, system, held = (
        placement.attention_hardware,
        placement.system,
        placement.held_processors,
    )
    lines = []
    families = {mixer.heads.family for mixer in placement.architecture.mixers}
    processors = hardware.processors if "attention" in families else None
    if processors is not None and placement.batch_size is None:
        words = (
            f"attention's blocks come in rounds over {processors} processors, which are "
            "counted at a batch size only: give batch_size, with few requests it takes up to "
            f"{most_rounds(processors, held) - 1:.0%} longer".replace("%", " %")
        )
        lines.append(Assumption("rounds", words))
    elif processors is not None:
        words = (
            f"attention has a block per request and KV head, in rounds over {processors} "
            f"processors{f', of which the exchange holds {held}' if held else ''}, as of requests "
            "of one length in every slot: unequal ones take longer"
        )
        lines.append(Assumption("rounds", words))
    if held:
        words = (
            "the exchange is taken to hold processors with one microbatch, too, where nothing "
            "else would compute on them: there attention may be that much faster"
        )
        lines.append(Assumption("held-processors", words))
    elif system.moving_processors:
        words = (
            f"the fused exchange is a kernel of Blackwell: what it takes on {hardware.name} is not "
            "known, and it is taken to hold no processors there"
        )
        lines.append(Assumption("held-processors", words))
    return lines


def derived_assumptions(placement: Placement) -> tuple[Assumption, ...]:
    """Return every input that a derived latency model assumes, those of the placement first."""
    architecture = placement.architecture
    lines = list(placement.assumptions)
    sides = {
        placement.attention_hardware.name: (placement.attention_hardware, "attention_weights"),
        placement.ffn_hardware.name: (placement.ffn_hardware, "feed_forward_weights"),
    }
    for hardware, field in sides.values():
        lines += [
            Assumption("hardware", f"{hardware.name}: {line}")
            for line in hardware.assumptions
            if "price" not in line
        ]
        wanted = number_format(getattr(placement.precision, field)).arithmetic
        if hardware.arithmetic(wanted) != wanted:
            words = f"{hardware.name} has no {wanted} matrix rate: the bf16 rate is used"
            lines.append(Assumption("matrix-rate", words))
    lines += _operator_lines(placement)
    lines += _processor_lines(placement)
    if architecture.experts:
        words = f"experts are spread evenly over {counted(placement.expert_devices, 'FFN device')}"
        lines.append(Assumption("expert-spread", words))
        stated = placement.efficiencies.expert_imbalance
        busiest = (
            f"the busiest FFN device has what chance and a popularity of cv {POPULARITY_CV:g} give "
            "it: no system's own routing is known"
            if stated is None
            else f"the busiest FFN device has {stated:g} of the mean"
        )
        lines.append(Assumption("expert-imbalance", busiest))
    if architecture.dense_layers and architecture.experts:
        words = (
            f"the {architecture.dense_layers} dense layers run on the FFN workers; their time is "
            "averaged over all layers"
        )
        lines.append(Assumption("dense-layers", words))
    selected = max((mixer.selected_tokens or 0 for mixer in architecture.mixers), default=0)
    if selected:
        words = f"every request reads {selected} selected tokens per layer, also the shorter ones"
        lines.append(Assumption("indexer", words))
    if architecture.state_bytes:
        words = (
            f"recurrent layers read and write {architecture.state_bytes / 2**20:.0f} MiB of state "
            "per request and step"
        )
        lines.append(Assumption("state", words))
    error = projection_error(placement)
    if error:
        words = (
            f"projections are drawn as a line over 1 to 512 requests, off by up to "
            f"{error * 1e6:.1f} µs per layer; give batch_size for the exact value"
        )
        lines.append(Assumption("projections", words))
    words = "transfers are limited by the links of the FFN side, true when A >= F"
    lines.append(Assumption("transfer-side", words))
    return tuple(lines)
