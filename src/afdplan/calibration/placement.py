"""On which devices, in which formats and over which link do attention and FFN run?"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from afdplan.calibration.architecture import ModelArchitecture
from afdplan.calibration.assumption import Assumption
from afdplan.calibration.efficiency import Efficiencies
from afdplan.calibration.hardware import Hardware, Link
from afdplan.calibration.memory import (
    WorkerMemory,
    attention_weight_bytes,
    cache_kinds,
    ffn_weight_bytes,
    shared_weight_bytes,
)
from afdplan.calibration.precision import PRECISIONS, Precision
from afdplan.calibration.serving_system import SYSTEMS, ServingSystem
from afdplan.errors import InvalidInputError, UnsupportedError
from afdplan.model import parameters as ask
from afdplan.model.checks import check_count
from afdplan.model.parameters import LinkKind, Side, SystemName, TransferPlace
from afdplan.model.words import counted

__all__ = ["LinkKind", "Placement", "place"]

# vLLM keeps a tenth of the memory free by default (gpu_memory_utilization = 0.9).
RESERVED_MEMORY = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Everything that a derived latency model depends on, every default resolved.

    Attributes
    ----------
    architecture, attention_hardware, ffn_hardware, precision, efficiencies
        Model, devices, formats, shares of the peaks.
    attention_devices
        Tensor-parallel devices of one attention worker.
    ffn_devices
        Devices of one FFN worker.
    ffn_workers
        FFN workers F that share the routed experts.
    link
        Which link joins the two sides.
    system
        Where transfers and router run.
    speculative_tokens
        Draft tokens per step, from multi-token prediction layers.
    acceptance
        Chance that a draft token is accepted, given that those before it were.
    batch_size
        Requests of one worker and microbatch at which the projections are exact; None spreads
        the error over 1 to 512.
    assumptions
        What was assumed to resolve the defaults.
    """

    architecture: ModelArchitecture
    attention_hardware: Hardware
    ffn_hardware: Hardware
    precision: Precision
    efficiencies: Efficiencies
    attention_devices: int
    ffn_devices: int
    ffn_workers: int
    link: LinkKind
    system: ServingSystem
    speculative_tokens: int
    acceptance: float
    batch_size: int | None
    assumptions: tuple[Assumption, ...] = field(default=())

    @property
    def tokens_per_request(self) -> int:
        """Tokens that each request sends through the model per step."""
        return 1 + self.speculative_tokens

    @property
    def tokens_per_step(self) -> float:
        """Mean tokens that a request gains per step: accepted drafts and one more."""
        return float(sum(self.acceptance**i for i in range(self.tokens_per_request)))

    @property
    def expert_devices(self) -> int:
        """Devices over which the routed experts are spread."""
        return self.ffn_devices * self.ffn_workers

    @property
    def ffn_slices(self) -> int:
        """Devices of a node that hold a slice of every expert each; 1 where each has its own."""
        if self.system.layout == "expert":
            return 1
        return math.gcd(self.ffn_hardware.devices_per_node, self.expert_devices)

    def matrix_rate(self, side: str, arithmetic: str) -> float:
        """Return the operations/s of a device's processors that no exchange holds."""
        hardware: Hardware = getattr(self, f"{side}_hardware")
        rate = hardware.matrix_rate(arithmetic)
        if side == "attention" and hardware.processors:
            rate *= 1 - self.held_processors / hardware.processors
        return rate

    @property
    def held_processors(self) -> int:
        """Processors of an attention device that the exchange holds."""
        processors = self.attention_hardware.processors
        return self.system.moving_processors if processors else 0

    def joint_link(self) -> Link:
        """Return the slower of both sides' links."""
        name = "scale_up" if self.link == "scale-up" else "scale_out"
        links = [getattr(side, name) for side in (self.attention_hardware, self.ffn_hardware)]
        return Link(
            bandwidth=min(link.bandwidth for link in links),
            latency=max(link.latency for link in links),
        )

    def memory(self) -> WorkerMemory:
        """Return the memory of the devices of both sides."""
        drafts = 1 if self.speculative_tokens else 0
        moved = 0.0
        if self.system.shared_experts == "attention":
            moved = shared_weight_bytes(self.architecture, self.precision, drafts)
        return WorkerMemory(
            attention_devices=self.attention_devices,
            ffn_devices=self.ffn_devices,
            attention_memory_bytes=self.attention_hardware.memory_size,
            ffn_memory_bytes=self.ffn_hardware.memory_size,
            attention_weight_bytes=attention_weight_bytes(
                self.architecture, self.precision, self.attention_devices, drafts
            )
            + moved / self.attention_devices,
            ffn_weight_bytes=ffn_weight_bytes(
                self.architecture, self.precision, self.ffn_devices, self.ffn_workers, drafts
            )
            - moved,
            reserve_bytes=RESERVED_MEMORY * self.attention_hardware.memory_size,
            cache=cache_kinds(self.architecture, self.precision, self.attention_devices, drafts),
        )


def place(
    architecture: ModelArchitecture,
    attention_hardware: Hardware,
    *,
    ffn_hardware: Hardware | None = None,
    precision: str | Precision | None = None,
    cache_precision: str | None = None,
    attention_devices: int = 1,
    ffn_devices: int | None = ask.FFN_DEVICES.default,
    ffn_workers: int = ask.FFN_WORKERS.default,
    link: LinkKind | None = ask.LINK.default,
    serving_system: SystemName = ask.SERVING_SYSTEM.default,
    transfers: TransferPlace | None = ask.TRANSFERS.default,
    router_side: Side | None = ask.ROUTER_SIDE.default,
    shared_experts_side: Side | None = ask.SHARED_EXPERTS_SIDE.default,
    speculative_tokens: int = ask.SPECULATIVE_TOKENS.default,
    acceptance: float = ask.ACCEPTANCE.default,
    batch_size: int | None = None,
    efficiencies: Efficiencies | None = None,
) -> Placement:
    """Return a placement with every default resolved and stated as an assumption.

    Parameters
    ----------
    architecture
        The model.
    attention_hardware, ffn_hardware
        Devices of both sides; the FFN side has the same unless given.
    precision
        A name of `PRECISIONS` or a `Precision`; the checkpoint's own unless given.
    cache_precision
        Format of the KV cache; bf16 unless given.
    attention_devices
        Tensor-parallel devices of one attention worker.
    ffn_devices
        Devices of one FFN worker; unless given, the least power of two on which the weights
        leave a tenth of the memory free.
    ffn_workers
        FFN workers F that share the routed experts.
    link
        ``scale-up`` or ``scale-out``; unless given, scale-up on rack-scale machines (domain
        larger than a node) and scale-out elsewhere.
    serving_system
        Whose habits hold, a name of `SYSTEMS`.
    transfers
        Where transfers run; as the system does unless given.
    router_side, shared_experts_side
        ``attention`` or ``ffn``; as the system does unless given. A router that is asked for on
        the attention side sends its choices along; a dense part beside routed experts counts as
        shared.
    speculative_tokens
        Draft tokens per step.
    acceptance
        Chance that a draft token is accepted, in [0, 1].
    batch_size
        Requests of one worker and microbatch, if known.
    efficiencies
        Shares of the peaks.

    Raises
    ------
    InvalidInputError
        If a value is out of its domain or the weights do not fit.
    UnsupportedError
        If draft tokens are asked of a model without multi-token prediction layers.
    """
    assumptions: list[Assumption] = []
    ffn = ffn_hardware or attention_hardware
    formats = _formats(architecture, precision, cache_precision, assumptions)
    check_count("attention_devices", attention_devices, 1, attention_hardware.scale_up_devices)
    ask.FFN_WORKERS.check(ffn_workers)
    ask.SPECULATIVE_TOKENS.check(speculative_tokens)
    acceptance = ask.ACCEPTANCE.check(acceptance)
    for one, value in (
        (ask.FFN_DEVICES, ffn_devices),
        (ask.BATCH_SIZE, batch_size),
        (ask.LINK, link),
        (ask.SERVING_SYSTEM, serving_system),
        (ask.TRANSFERS, transfers),
        (ask.ROUTER_SIDE, router_side),
        (ask.SHARED_EXPERTS_SIDE, shared_experts_side),
    ):
        if value is not None:
            one.check(value)
    system = SYSTEMS[serving_system]
    if transfers is not None and transfers != system.transfers:
        system = replace(system, transfers=transfers)
    system = _sided(system, architecture, router_side, shared_experts_side)
    where = {"in-stage": "inside the FFN stage", "fused": "in one kernel with the experts"}
    words = where.get(system.transfers, "overlapped with both sides")
    assumptions.append(
        Assumption(
            "transfers",
            f"transfers run {words}, the router on the {system.router} side "
            f"(serving system {serving_system!r})",
        )
    )
    if SYSTEMS[serving_system].relays:
        assumptions.append(Assumption("relay", _relay_words(system)))
    if system.shared_experts == "attention":
        words = "the shared experts run on the attention side, in turn with attention"
        assumptions.append(Assumption("shared-experts", words))
    if speculative_tokens:
        if not architecture.prediction_layers:
            raise UnsupportedError(
                f"{architecture.name} has no multi-token prediction layer: "
                "give speculative_tokens = 0"
            )
        words = f"{speculative_tokens} draft tokens per step, each accepted with chance"
        assumptions.append(Assumption("drafts", f"{words} {acceptance:g}"))
    processors = attention_hardware.processors
    if processors is not None and processors <= system.moving_processors:
        raise InvalidInputError(
            f"processors of {attention_hardware.name} must be more than the "
            f"{system.moving_processors} that the exchange of {serving_system!r} holds, got "
            f"{processors}"
        )
    if link is None:
        rack = min(
            side.scale_up_devices / side.devices_per_node for side in (attention_hardware, ffn)
        )
        link = "scale-up" if rack > 1 and ffn.name == attention_hardware.name else "scale-out"
        assumptions.append(Assumption("link", f"attention and FFN are joined by the {link} link"))
    placement = Placement(
        architecture=architecture,
        attention_hardware=attention_hardware,
        ffn_hardware=ffn,
        precision=formats,
        efficiencies=efficiencies or Efficiencies(),
        attention_devices=attention_devices,
        ffn_devices=ffn_devices or 1,
        ffn_workers=ffn_workers,
        link=link,
        system=system,
        speculative_tokens=speculative_tokens,
        acceptance=acceptance,
        batch_size=batch_size,
    )
    if ffn_devices is None:
        placement = _enough_devices(placement)
        devices = counted(placement.ffn_devices, "device")
        words = f"an FFN worker has {devices}, the least power of two that"
        assumptions.append(Assumption("ffn-devices", f"{words} holds its weights"))
    memory = placement.memory()
    if memory.cache_capacity_bytes <= 0:
        raise InvalidInputError(
            f"attention_devices = {attention_devices} leaves no memory for the KV cache: weights "
            f"take {memory.attention_weight_bytes / 1e9:.1f} GB of "
            f"{memory.attention_memory_bytes / 1e9:.1f} GB per device; give more devices"
        )
    if memory.ffn_weight_bytes > memory.ffn_memory_bytes:
        raise InvalidInputError(
            f"ffn_devices = {placement.ffn_devices} is too few: weights take "
            f"{memory.ffn_weight_bytes / 1e9:.1f} GB of {memory.ffn_memory_bytes / 1e9:.1f} GB "
            "per device; give more devices"
        )
    return replace(placement, assumptions=tuple(assumptions))


def _relay_words(system: ServingSystem) -> str:
    """Return which connectors of vLLM's afd-plugin the transfers are those of."""
    if not system.relays:
        return (
            "attention ranks write straight to the experts, as the plugin's Window and CAMAsync "
            "connectors do: the synchronous CAMP2p connector has its router on the FFN side only"
        )
    scores = ", the router's scores after them" if system.router == "attention" else ""
    return (
        f"tokens pass one FFN rank on their way to the experts{scores}, as with the plugin's "
        "synchronous connectors: for barrier-free ones, which write straight to the experts, plan "
        "with --serving-system any --transfers in-stage"
    )


def _sided(
    system: ServingSystem,
    architecture: ModelArchitecture,
    router: Side | None,
    shared_experts: Side | None,
) -> ServingSystem:
    """Return the system with router and shared experts where they were asked for."""
    for name, side in (("router_side", router), ("shared_experts_side", shared_experts)):
        if side is not None and not architecture.experts:
            raise InvalidInputError(
                f"{name} is of models with routed experts, and {architecture.name} has none: "
                "leave it out"
            )
    if shared_experts is not None and not architecture.shared_networks:
        raise InvalidInputError(
            f"shared_experts_side is of models with shared experts, and {architecture.name} has "
            "none: leave it out"
        )
    relays = system.relays and (router != "attention" or system.relays_scores)
    return replace(
        system,
        router=router or system.router,
        relays=relays,
        sends_choices=router == "attention" and not relays,
        shared_experts=shared_experts or system.shared_experts,
    )


def _formats(
    architecture: ModelArchitecture,
    precision: str | Precision | None,
    cache: str | None,
    assumptions: list[Assumption],
) -> Precision:
    if isinstance(precision, Precision):
        return precision if cache is None else replace(precision, cache=cache)
    assumptions += [Assumption("family", note) for note in architecture.notes]
    told = architecture.precision_source
    stored = architecture.stored
    if precision is not None:
        stored = Precision.named(precision)
    elif stored is None and architecture.precision is not None:
        stored = Precision.named(architecture.precision)
    elif stored is None:
        raise InvalidInputError(
            f"{architecture.name}: {told} cannot be read as one format; give that of the weights "
            f"(--weight-precision, in Python precision=): {', '.join(PRECISIONS)}, or one of them "
            "with its bits per weight (int4:4.85)"
        )
    if precision is None:
        said = f"weights are in {stored.told()}, as in {told}"
        assumptions.append(Assumption("weight-format", said))
    if cache is None:
        if architecture.cache_unread:
            raise InvalidInputError(
                f"{architecture.name}: {architecture.cache_unread} is not known; give the format "
                "of the KV cache (--kv-precision, in Python cache_precision=)"
            )
        cache = architecture.cache_precision
        stated = (
            "the KV cache is in bf16"
            if cache is None
            else (f"the KV cache is in {cache}, as in {told}")
        )
        assumptions.append(Assumption("cache-format", stated))
    return replace(stored, cache=cache or "bf16")


def _enough_devices(placement: Placement) -> Placement:
    devices = 1
    while True:
        candidate = replace(placement, ffn_devices=devices)
        if candidate.memory().ffn_fits:
            return candidate
        if devices * placement.ffn_workers >= max(1, placement.architecture.experts):
            raise InvalidInputError(
                f"{placement.architecture.name} does not fit on {devices} devices of "
                f"{placement.ffn_hardware.name}; give another precision or hardware"
            )
        devices *= 2
