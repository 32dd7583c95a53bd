"""How long do the stages take by the operator tables that NVIDIA measured?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from afdplan.calibration.attention import GroupedAttention, LatentAttention
from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.derived import times_of
from afdplan.calibration.derived_feed_forward import network_time
from afdplan.calibration.placement import Placement, place
from afdplan.errors import InsufficientDataError, UnsupportedError
from afdplan.model.checks import check_choice
from afdplan.model.curve import LinearCurve, TabulatedCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers
from afdplan.model.validity import Validity
from benchmarks.operator_tables import PINNED_VERSION, latest_table, read_table

__all__ = ["TABLE_SYSTEMS", "MeasuredTables", "measured_latency"]

FloatArray = npt.NDArray[np.float64]
Backend = Literal["vllm", "sglang", "trtllm"]

TABLE_SYSTEMS = {
    "A100-80G": "a100_sxm",
    "H100-SXM": "h100_sxm",
    "H200": "h200_sxm",
    "B200": "b200_sxm",
    "GB200": "gb200",
}
"""Names that aiconfigurator gives to the devices of our own catalogue."""

SECONDS = 1e-3  # the tables are in milliseconds
ONE_NODE = 8
SUSPECT_FACTOR = 5.0
BROKEN_FACTOR = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredTables:
    """A latency model from measured operator tables, and how well it repeats them.

    Attributes
    ----------
    latency
        The model; transfers and step overhead are derived, not measured.
    attention_error, ffn_error
        Largest relative error of the curves on the rows they were drawn from.
    warnings
        Known or suspected faults of the tables that were used.
    provenance
        Table, version and number of rows of each curve.
    """

    latency: LatencyModel
    attention_error: float
    ffn_error: float
    warnings: tuple[str, ...]
    provenance: tuple[str, ...]


def measured_latency(
    model: str | Path,
    hardware: str,
    backend: Backend = "vllm",
    *,
    precision: str | None = None,
    ffn_devices: int | None = None,
    batch_range: tuple[int, int] = (8, 512),
    context_range: tuple[int, int] = (256, 65_536),
) -> MeasuredTables:
    """Return a latency model from the tables of `aiconfigurator` 0.12.0.

    Attention is fitted as ``a + b T + c B`` with relative weights on the rows inside the ranges;
    FFN is the table itself against tokens, made non-decreasing.

    Parameters
    ----------
    model
        Shipped name or path of a `config.json`.
    hardware
        One of `TABLE_SYSTEMS`, as our catalogue names it.
    backend
        Whose kernels were measured.
    precision
        ``bf16`` or ``fp8``; the checkpoint's own unless given.
    ffn_devices
        Devices of one FFN worker, at most 8.
    batch_range, context_range
        Rows to fit: requests per worker, context tokens per request.

    Raises
    ------
    UnsupportedError
        If the package is missing or of another version, the tables lack the model's shape, the
        worker is larger than a node (the tables contain the all-to-all of other experts there),
        or the rows are more than 10 times slower than a roofline (a known fault of some files).
    """
    check_choice("backend", backend, ("vllm", "sglang", "trtllm"))
    architecture, device = find_model(model), find_hardware(hardware)
    if device.name not in TABLE_SYSTEMS:
        raise UnsupportedError(
            f"measured tables exist for {', '.join(TABLE_SYSTEMS)}, got {device.name}"
        )
    if len(set(architecture.mixers)) > 1 or architecture.mixer.selected_tokens is not None:
        raise UnsupportedError("measured tables are read for one kind of dense attention only")
    placement = place(architecture, device, precision=precision, ffn_devices=ffn_devices)
    if placement.ffn_devices > ONE_NODE:
        raise UnsupportedError(
            f"ffn_devices must be at most {ONE_NODE} with measured tables, got "
            f"{placement.ffn_devices}: beyond one node their expert times contain the all-to-all"
        )
    system = TABLE_SYSTEMS[device.name]
    notes: list[str] = []
    provenance: list[str] = []
    kinds, attention_error, validity = _attention(
        placement, system, backend, batch_range, context_range, notes, provenance
    )
    curve, ffn_error = _feed_forward(placement, system, backend, notes, provenance)
    derived = times_of(placement)
    latency = replace(
        derived,
        name=f"{architecture.name} on {device.name} (measured tables, {backend})",
        attention=kinds,
        ffn=curve,
        validity=replace(validity, ffn_tokens=(float(curve.loads[0]), float(curve.loads[-1]))),
        source=f"aiconfigurator-core {PINNED_VERSION} (Apache-2.0): " + "; ".join(provenance),
        assumptions=(
            "transfers and step overhead are derived, not measured",
            *(line for line in derived.assumptions if "message" in line or "link" in line),
            *notes,
        ),
    )
    return MeasuredTables(
        latency=latency,
        attention_error=attention_error,
        ffn_error=ffn_error,
        warnings=tuple(notes),
        provenance=tuple(provenance),
    )


def _rows(
    system: str,
    operator: str,
    backend: str,
    file: str,
    conditions: dict[str, Any],
    columns: tuple[str, ...],
    provenance: list[str],
) -> dict[str, FloatArray]:
    path = latest_table(system, operator, backend, file)
    rows: dict[str, FloatArray] = read_table(path, conditions, (*columns, "latency"))
    if rows["latency"].size == 0:
        wanted = ", ".join(f"{key} = {value}" for key, value in conditions.items())
        raise UnsupportedError(
            f"the table {file} of {backend} on {system} has no row with {wanted}; try another "
            "backend or precision, or derive the model instead"
        )
    provenance.append(
        f"{system}/{operator}/{backend}/{path.parent.name}/{file} ({rows['latency'].size} rows)"
    )
    return rows


def _attention(
    placement: Placement,
    system: str,
    backend: str,
    batch_range: tuple[int, int],
    context_range: tuple[int, int],
    notes: list[str],
    provenance: list[str],
) -> tuple[tuple[AttentionLayers, ...], float, Validity]:
    attention = placement.architecture.attention
    if placement.architecture.mixer.window is not None:
        raise UnsupportedError("measured tables of sliding-window models are not read yet")
    if isinstance(attention, LatentAttention):
        rows = _rows(
            system,
            "mla",
            backend,
            "mla_generation_module_perf",
            {
                "num_heads": attention.query_heads,
                "kv_cache_dtype": _cache_format(placement),
                "gemm_type": _table_format(placement.precision.attention_weights),
            },
            ("batch_size", "step"),
            provenance,
        )
        times = rows["latency"]
    else:
        if not isinstance(attention, GroupedAttention) or attention.query_rank is not None:
            raise UnsupportedError("measured tables know no attention with a low-rank query")
        rows = _rows(
            system,
            "attention",
            backend,
            "generation_attention_perf",
            {
                "num_heads": attention.query_heads,
                "num_key_value_heads": attention.kv_heads,
                "head_dim": attention.head_size,
                "kv_cache_dtype": _cache_format(placement),
                "window_size": 0,
            },
            ("batch_size", "step"),
            provenance,
        )
        times = rows["latency"] + _projections(
            placement, attention, rows["batch_size"], system, backend, notes, provenance
        )
    batch, context = rows["batch_size"], rows["step"] + 1
    kept = (
        (batch >= batch_range[0])
        & (batch <= batch_range[1])
        & (context >= context_range[0])
        & (context <= context_range[1])
    )
    if kept.sum() < 6:
        raise InsufficientDataError(
            f"attention tables have {int(kept.sum())} rows in batch_range {batch_range} and "
            f"context_range {context_range}; at least 6 are needed, widen the ranges"
        )
    load, batch, times = (batch * context)[kept], batch[kept], times[kept] * SECONDS
    coefficients = _relative_fit(np.column_stack([np.ones_like(load), load, batch]), times)
    fitted = coefficients[0] + coefficients[1] * load + coefficients[2] * batch
    error = float(np.max(np.abs(fitted / times - 1)))
    _judge("attention", fitted.max() / _derived_attention(placement, load, batch).max(), notes)
    kind = AttentionLayers(
        curve=LinearCurve(slope=coefficients[1], intercept=coefficients[0]),
        layers=placement.architecture.layers,
        time_per_request=coefficients[2],
    )
    validity = Validity(
        attention_tokens=(float(load.min()), float(load.max())),
        batch_size=(float(batch.min()), float(batch.max())),
    )
    return (kind,), error, validity


def _derived_attention(placement: Placement, load: FloatArray, batch: FloatArray) -> FloatArray:
    kind = times_of(placement).attention[0]
    return np.asarray(kind.curve(load) + kind.time_per_request * batch, dtype=np.float64)


def _projections(
    placement: Placement,
    attention: GroupedAttention,
    batch: FloatArray,
    system: str,
    backend: str,
    notes: list[str],
    provenance: list[str],
) -> FloatArray:
    """Return the time of input and output projections at each row's batch [ms]."""
    hidden = placement.architecture.hidden_size
    query = attention.query_heads * attention.head_size
    name = _table_format(placement.precision.attention_weights)
    rows = _rows(
        system, "gemm", backend, "gemm_perf", {"gemm_dtype": name}, ("m", "n", "k"), provenance
    )
    times = _product_time(rows, batch, query + attention.cached_values, hidden) + _product_time(
        rows, batch, hidden, query
    )
    kind = times_of(placement).attention[0]
    derived = kind.curve(0.0) + kind.time_per_request * batch
    _judge("projection", float(np.median(times * SECONDS / derived)), notes)
    return times


def _product_time(rows: dict[str, FloatArray], batch: FloatArray, n: int, k: int) -> FloatArray:
    """Return the time of an (m, k) x (k, n) product by bilinear interpolation in n and k."""
    total: FloatArray = np.zeros_like(batch)
    for wide, wide_share in _neighbours(rows["n"], n):
        for deep, deep_share in _neighbours(rows["k"], k):
            kept = (rows["n"] == wide) & (rows["k"] == deep)
            order = np.argsort(rows["m"][kept])
            m, time = rows["m"][kept][order], rows["latency"][kept][order]
            total += wide_share * deep_share * np.interp(batch, m, time)
    return total


def _neighbours(values: FloatArray, wanted: float) -> list[tuple[float, float]]:
    """Return the grid values around `wanted` and their shares."""
    grid = np.unique(values)
    if not grid[0] <= wanted <= grid[-1]:
        raise UnsupportedError(
            f"the table of matrix products ends at {grid[-1]:g}, the model needs {wanted:g}"
        )
    above = float(grid[np.searchsorted(grid, wanted)])
    if above == wanted:
        return [(above, 1.0)]
    below = float(grid[np.searchsorted(grid, wanted) - 1])
    share = (wanted - below) / (above - below)
    return [(below, 1 - share), (above, share)]


def _feed_forward(
    placement: Placement, system: str, backend: str, notes: list[str], provenance: list[str]
) -> tuple[TabulatedCurve, float]:
    architecture = placement.architecture
    if not architecture.experts:
        raise UnsupportedError("measured tables are read for models with routed experts only")
    rows = _rows(
        system,
        "moe",
        backend,
        "moe_perf",
        {
            "hidden_size": architecture.hidden_size,
            "inter_size": architecture.network.expert_size,
            "topk": architecture.experts_per_token,
            "num_experts": architecture.experts,
            "moe_ep_size": placement.ffn_devices,
            "moe_tp_size": 1,
            "moe_dtype": _table_format(placement.precision.feed_forward_weights),
            "distribution": "balanced",
        },
        ("num_tokens",),
        provenance,
    )
    loads, inverse = np.unique(rows["num_tokens"], return_inverse=True)
    # Several kernels may have been measured at one load: a system would run the fastest.
    times: FloatArray = np.full(loads.size, np.inf)
    np.minimum.at(times, inverse, rows["latency"] * SECONDS)
    smooth = np.maximum.accumulate(times)
    error = float(np.max(smooth / times - 1))
    if error > 0.05:
        at = int(np.argmax(smooth / times))
        notes.append(
            f"expert times fall as tokens grow, by up to {error:.0%} at {loads[at]:g} tokens: the "
            "table was made non-decreasing".replace("%", " %")
        )
    derived = network_time(placement, architecture.network, loads)
    _judge("experts", float(np.median(smooth / derived)), notes)
    if architecture.network.dense_size or architecture.dense_layers:
        notes.append("shared experts and dense layers are not in the expert table: left out")
    if placement.ffn_devices > 1:
        notes.append("expert times of several devices include the handling of all tokens' rows")
    return TabulatedCurve(loads=loads, times=smooth), error


def _judge(what: str, factor: float, notes: list[str]) -> None:
    """Refuse rows that cannot be true, warn of those that are hard to believe."""
    if factor > BROKEN_FACTOR:
        raise UnsupportedError(
            f"the {what} rows are {factor:.0f} times slower than a roofline: a fault of the "
            "table (GB200 vLLM fp8 had one of 24); use another backend or precision"
        )
    if factor > SUSPECT_FACTOR:
        notes.append(f"{what} rows are {factor:.1f} times slower than a roofline: suspect")


def _relative_fit(design: FloatArray, times: FloatArray) -> FloatArray:
    """Return non-negative least-squares coefficients with relative weights."""
    from scipy.optimize import nnls

    weighted = design / times[:, None]
    scale = np.linalg.norm(weighted, axis=0)
    solution, _ = nnls(weighted / scale, np.ones_like(times))
    return np.asarray(solution / scale, dtype=np.float64)


def _table_format(name: str) -> str:
    """Return the name that the tables give to a number format."""
    return {"bf16": "bfloat16", "fp8": "fp8_block"}.get(name, name)


def _cache_format(placement: Placement) -> str:
    cache = placement.precision.cache
    return "fp8" if cache == "fp8" else _table_format(cache)
