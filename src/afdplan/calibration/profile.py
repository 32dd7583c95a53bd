"""How long do attention, experts and copies really take on this device?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from afdplan.calibration.architecture import Block, FeedForward, Mixer, ModelArchitecture
from afdplan.calibration.attention import GroupedAttention, LatentAttention
from afdplan.errors import InvalidInputError, UnsupportedError
from afdplan.model import profile_parameters as ask
from afdplan.model.checks import check_choice, check_count
from afdplan.model.parameter import check_fields

__all__ = ["Measurement", "ProfilePlan", "ProfileResult", "Routing", "profile", "small_model"]

Routing = Literal["balanced", "skewed"]
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfilePlan:
    """What is measured, how often, where.

    Attributes
    ----------
    requests
        Requests of a microbatch, B.
    contexts
        KV tokens of each request; every pair (requests, context) is a point.
    tokens
        Tokens n of one FFN worker, and of one copy.
    ffn_devices
        Devices of the FFN worker; this device holds its share of the experts and gets the rows
        of `tokens` that are routed to them.
    routing
        Which of the two routings goes into the table; the other is reported beside it.
    repeats, warmups
        Timed and untimed runs of each point.
    device
        ``auto`` (CUDA if there is one), ``cpu`` or ``cuda``.
    dtype
        Of weights and cache; empty takes float32 on a CPU, bfloat16 on CUDA.
    seed
        Of weights and routing.
    threads
        CPU threads; 0 takes half of the cores, since a thread that waits for a busy core makes
        all others wait.
    largest_bytes
        Points whose cache or weights are larger are left out [bytes].
    """

    requests: tuple[int, ...] = (1, 4, 16)
    contexts: tuple[int, ...] = (128, 512, 1024, 2048)
    tokens: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384)
    ffn_devices: int = ask.FFN_DEVICES.default
    routing: Routing = "balanced"
    repeats: int = ask.REPEATS.default
    warmups: int = ask.WARMUPS.default
    device: str = "auto"
    dtype: str = ""
    seed: int = ask.SEED.default
    threads: int = ask.THREADS.default
    largest_bytes: int = 2 * 2**30

    def __post_init__(self) -> None:
        for name in ("requests", "contexts", "tokens"):
            values = tuple(getattr(self, name))
            if not values:
                raise InvalidInputError(f"{name} must list one or more loads, got none")
            for value in values:
                check_count(name, value, 1, 10_000_000)
            object.__setattr__(self, name, tuple(sorted(set(values))))
        check_fields(self, ask.PROFILE)
        check_choice("routing", self.routing, get_args(Routing))
        check_choice("device", self.device, ("auto", "cpu", "cuda"))
        check_choice("dtype", self.dtype, ("", *DTYPES))
        check_count("largest_bytes", self.largest_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One point: the median of its repeats.

    Attributes
    ----------
    stage
        ``attention``, ``ffn`` or ``transfer``.
    load
        KV tokens, tokens, tokens [tokens].
    requests
        Requests of the microbatch; equals `load` where each request has one token.
    latency
        Median [s].
    spread
        Distance between the quartiles [s].
    routing
        Of an FFN point; empty elsewhere.
    """

    stage: str
    load: int
    requests: int
    latency: float
    spread: float
    routing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileResult:
    """All points and where they were measured.

    Attributes
    ----------
    table
        Rows for `afdplan calibrate`.
    other_routing
        FFN points of the routing that the table does not have.
    environment
        Device, versions, shapes, settings; JSON-ready.
    warnings
        Points left out, noisy points.
    """

    table: tuple[Measurement, ...]
    other_routing: tuple[Measurement, ...]
    environment: dict[str, Any]
    warnings: tuple[str, ...]


def small_model() -> ModelArchitecture:
    """Return a mixture-of-experts model small enough for a laptop's CPU.

    Examples
    --------
    >>> round(small_model().total_parameters / 1e6)
    38
    """
    layer = Block(
        mixers=(Mixer(heads=GroupedAttention(query_heads=8, kv_heads=2, head_size=64)),),
        feed_forward=(FeedForward(experts=16, experts_per_token=2, expert_size=352),),
    )
    return ModelArchitecture(
        name="small",
        hidden_size=512,
        vocabulary_size=1024,
        blocks=(layer,) * 4,
        source="made for profiling where no accelerator is at hand; no published model",
    )


def load_torch() -> Any:
    """Return the torch module, or raise with the mend."""
    try:
        import torch
    except ImportError:
        raise UnsupportedError(
            "afdplan profile needs torch: pip install 'afdplan[profile]'"
        ) from None
    if not hasattr(torch.nn.functional, "grouped_mm"):
        raise UnsupportedError(
            f"afdplan profile needs torch >= 2.10, got {torch.__version__}: "
            "pip install -U 'afdplan[profile]'"
        )
    return torch


def profile(
    architecture: ModelArchitecture,
    plan: ProfilePlan,
    progress: Callable[[int, int], None] | None = None,
) -> ProfileResult:
    """Return measured times of one attention layer, one expert layer and copies.

    Every point runs on fresh random weights of the model's shapes: attention with its projections
    and cache append, experts with router, gather, products and scatter, a copy of hidden states.
    A buffer larger than the last-level cache is written before each run, so weights are read
    from memory as in a model of many layers.

    Parameters
    ----------
    architecture
        The model; attention must be dense.
    plan
        Loads and settings.
    progress
        Called with (points done, points in all).

    Raises
    ------
    UnsupportedError
        If torch or the device is missing, or the attention is sparse.
    """
    from afdplan.calibration.profile_kernels import build_kernels
    from afdplan.calibration.profile_timer import Timer

    torch = load_torch()
    _check_measurable(architecture)
    device = _device(torch, plan.device)
    torch.set_num_threads(plan.threads or max(1, (os.cpu_count() or 2) // 2))
    dtype = plan.dtype or ("bfloat16" if device == "cuda" else "float32")
    if device == "cuda" and dtype != "bfloat16":
        raise UnsupportedError(f"grouped products on CUDA are in bfloat16, got {dtype}")
    kernels = build_kernels(architecture, device, dtype, plan.seed, plan.ffn_devices)
    timer = Timer(torch, device, plan.repeats, plan.warmups)
    warnings: list[str] = []
    points = list(_points(architecture, plan))
    measured: list[Measurement] = []
    for done, (stage, load, requests, routing) in enumerate(points):
        if progress is not None:
            progress(done, len(points))
        if kernels.bytes_needed(stage, load) > plan.largest_bytes:
            warnings.append(
                f"{stage} at {load} tokens left out: needs more than "
                f"{plan.largest_bytes / 2**30:.1f} GiB"
            )
            continue
        times = timer.measure(kernels.prepare(stage, load, requests, routing))
        low, median, high = np.quantile(times, (0.25, 0.5, 0.75))
        measured.append(
            Measurement(
                stage=stage,
                load=load,
                requests=requests,
                latency=float(median),
                spread=float(high - low),
                routing=routing,
            )
        )
    if progress is not None:
        progress(len(points), len(points))
    noisy = [point for point in measured if point.spread > 0.25 * point.latency]
    if noisy:
        warnings.append(
            f"{len(noisy)} of {len(measured)} points spread by more than 25 % between quartiles: "
            "is the machine busy? more repeats help"
        )
    environment = {
        "model": architecture.name,
        "hidden_size": architecture.hidden_size,
        "attention": repr(architecture.attention),
        "experts": architecture.experts,
        "experts_per_token": architecture.experts_per_token,
        "expert_size": architecture.network.expert_size,
        "experts_held": kernels.experts_held,
        "ffn_devices": plan.ffn_devices,
        "dtype": dtype,
        "routing": plan.routing,
        "repeats": plan.repeats,
        "warmups": plan.warmups,
        "seed": plan.seed,
        "statistic": "median; spread is the distance between the quartiles",
        "time_unit": "s",
        **kernels.choices,
        **timer.environment(),
    }
    return ProfileResult(
        table=tuple(p for p in measured if p.routing in ("", plan.routing)),
        other_routing=tuple(p for p in measured if p.routing not in ("", plan.routing)),
        environment=environment,
        warnings=tuple(warnings),
    )


def _check_measurable(architecture: ModelArchitecture) -> None:
    """Raise unless the kernels here are those of every layer of the model."""
    for mixer in architecture.mixers:
        if mixer.selected_tokens is not None or mixer.compression > 1:
            raise UnsupportedError(
                f"profile measures dense attention, {architecture.name} selects tokens; "
                "profile deepseek-v3 for its projections"
            )
        if not isinstance(mixer.heads, GroupedAttention | LatentAttention) or (
            isinstance(mixer.heads, GroupedAttention) and mixer.heads.value_size is not None
        ):
            raise UnsupportedError(
                f"profile measures grouped and latent attention, {architecture.name} has other "
                "layers: derive its latency model, or measure it where it runs"
            )
    network = architecture.network
    if network.matrices != 3 or network.expert_hidden_size is not None:
        raise UnsupportedError(
            f"profile measures gated experts of the model's width, {architecture.name} has others"
        )


def _device(torch: Any, wanted: str) -> str:
    has_cuda = bool(torch.cuda.is_available())
    if wanted == "cuda" and not has_cuda:
        raise UnsupportedError("torch sees no CUDA device: give --device cpu, or a CUDA build")
    return "cuda" if has_cuda and wanted != "cpu" else "cpu"


def _points(
    architecture: ModelArchitecture, plan: ProfilePlan
) -> Iterator[tuple[str, int, int, str]]:
    """Yield (stage, load, requests, routing) of every point."""
    for requests in plan.requests:
        for context in plan.contexts:
            yield "attention", requests * context, requests, ""
    routings = get_args(Routing) if architecture.experts else (plan.routing,)
    for tokens in plan.tokens:
        for routing in routings:
            yield "ffn", tokens, tokens, routing
        yield "transfer", tokens, tokens, ""
