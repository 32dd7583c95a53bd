"""What do measured operators reach of the peaks of a device? Writes the shipped table.

Run `python -m benchmarks.operator_fits` where aiconfigurator-core 0.12.0 is installed. It fits the
five numbers of `afdplan.calibration.operator` to the tables of every device, system and kernel, on
two thirds of the shapes, states the error on the last third, and writes
`src/afdplan/data/operators.csv` and `benchmarks/operators.md`. Of several systems the fastest is
marked as chosen, to a tenth: a deployment runs the fastest kernel it has. Nothing else is fitted
to. Calls that are faster than the memory can deliver read a cache that serving does not hit: left
out. So are calls of attention whose keys and values fit into the last cache of the device, where
that weighs: a step of serving reads every layer's, and comes back to none of them in time.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from afdplan.calibration.block_rounds import block_rounds
from afdplan.calibration.catalogue import find_hardware
from afdplan.calibration.derived_feed_forward import (
    BF16_BYTES,
    TUNED_SIZE,
    WIDE_SIZE,
    tile_rows,
    tiled_operations,
)
from afdplan.calibration.hardware import Hardware
from afdplan.calibration.operator import Operator, device_distance
from afdplan.calibration.precision import FORMATS
from afdplan.errors import UnsupportedError
from benchmarks.operator_tables import PINNED_VERSION, latest_table, read_table

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "src" / "afdplan" / "data" / "operators.csv"
REPORT = Path(__file__).parent / "operators.md"

SYSTEMS = {
    "A100-80G": "a100_sxm",
    "H100-SXM": "h100_sxm",
    "H200": "h200_sxm",
    "B200": "b200_sxm",
    "GB200": "gb200",
    "B300": "b300_sxm",
    "GB300": "gb300",
    "L40S": "l40s",
    "RTX-PRO-6000": "rtx_pro_6000_server",
}
BACKENDS = ("vllm", "sglang", "trtllm")
FloatArray = npt.NDArray[np.float64]
MOST_ROWS = 4000
LEAST_ROWS = 50
SUSPECT_FIXED = 100e-6
"""A fixed time beyond this was not taken inside a CUDA graph: no serving system pays it."""
SUSPECT_ERROR, SUSPECT_TAIL = 0.3, 0.7
"""A median and a 90th percentile of the error beyond these: the five numbers do not describe it."""
OFTEN_AS_GOOD = 1.5
BARS = dict.fromkeys(("attention", "latent", "gemm", "elementwise"), 0.1)
BARS |= dict.fromkeys(("experts", "wide", "dispatch", "combine"), 0.15)
"""A kernel may be chosen if its error is at most this, or that times the least of its group,"""
OFTEN_AS_WIDE = 0.25
"""and it was measured at this share of the shapes of the widest one."""
AS_FAST = 1.1
_US = 1e-6
_READING = tuple((t * _US, 0.2 * t * _US, 0.0) for t in (30, 100, 300))
_SENDING = tuple((t * _US, 0.0, 0.0) for t in (5, 20))
TYPICAL = {
    # Seconds of memory and of the matrix units at their peaks, and depth.
    "attention": _READING,
    "latent": _READING,
    "gemm": tuple((t * _US, r * t * _US, 4096.0) for t in (2, 5, 15) for r in (0.1, 0.5)),
    **dict.fromkeys(
        ("experts", "wide"),
        tuple((t * _US, r * t * _US, 2e6) for t in (30, 100, 300) for r in (0.1, 0.3, 1)),
    ),
    "elementwise": ((1 * _US, 0.0, 0.0),),
    "dispatch": _SENDING,
    "combine": _SENDING,
}
"""Calls by which kernels are compared: of decoding, one layer."""
TYPICAL_PIECES = {"attention": 256, "latent": 32}
"""Requests times KV heads of these calls."""
HANDLED_BYTES, HANDLED_SHARE = 4, 0.1
"""Of a row that is only handled, and the share of the weights' bytes from which that weighs."""
UNGATED = ((2688, 1856), (4096, 2688), (1024, 2688), (2048, 5120), (8192, 5120))
"""Hidden and inner size of the experts of Nemotron 3, which have no gate."""
WHOLE_ROWS = ("A100-80G",)
"""Whose tables with several devices hold the products of all rows on each: in SGLang 0.5.10, 4,096
tokens take 34.3 ms with one device and 31.6 ms with eight (7168 x 2048, 256 experts)."""
LAST_CACHE = {
    "A100-80G": 40e6,
    "H100-SXM": 50e6,
    "H200": 50e6,
    **dict.fromkeys(("B200", "GB200", "B300", "GB300"), 126e6),
    "L40S": 96e6,
    "RTX-PRO-6000": 128e6,
}
"""Bytes of L2: NVIDIA's architecture papers; B200's as its runtime tells it."""
UNCACHED_SHARE = 0.1
"""Of a call's time: reading that takes less at the memory's peak tells of the fixed time alone."""
LEAST_SHARE = 0.2
"""Of the bandwidth: where memory never binds, the fit could not tell one below."""
MOST_MATRIX = {("attention", "bf16"): 0.75, ("latent", "bf16"): 0.75}
"""Shares of the matrix rate: FlashAttention-3 reaches 740 of 989 Tflop/s where nothing else binds
(arXiv:2407.08608). Decoding reads so much that its fits would not notice more."""
SECONDS = 1e-3
COLUMNS = (
    *("device", "family", "format", "backend", "version", "kernel"),
    *("memory_share", "matrix_share", "fixed_us", "sharpness", "depth_ns"),
    *("error", "error_90", "held_out", "borrowed_error", "chosen"),
)

DISPATCHED = "deepepmoe"
"""Of one shape, but on 4 to 256 devices, and all that DeepEP's users have: may be chosen."""

# Our name of a format, and the names that the tables give to kernels that work in it.
GEMM = {"bf16": ("bfloat16",), "fp8": ("fp8_block", "fp8"), "nvfp4": ("nvfp4",)}
EXPERTS = GEMM | {
    "mxfp4": ("w4a8_mxfp4_mxfp8", "w4a16_mxfp4"),
    "int4": ("int4_wo",),
}
CACHE = {"bf16": ("bfloat16",), "fp8": ("fp8",)}


@dataclass(frozen=True)
class Measured:
    """Calls of one kernel: bytes and operations over the peaks, depth, time; which are held out.

    `pieces` are the requests times KV heads of attention: each is a block of threads at least, and
    its time is added. `rounds` of them multiply what reading and computing take.
    """

    memory: FloatArray
    matrix: FloatArray
    depth: FloatArray
    pieces: FloatArray
    rounds: FloatArray
    times: FloatArray
    held: npt.NDArray[np.bool_]

    def part(self, kept: npt.NDArray[np.bool_]) -> Measured:
        return Measured(*(getattr(self, name)[kept] for name in self.__dataclass_fields__))

    def from_memory(self) -> Measured:
        """Return the calls whose bytes can have come from memory."""
        return self.part(self.times >= self.memory)

    def beyond_cache(self, hardware: Hardware) -> Measured:
        """Return the calls whose bytes do not fit into the last cache, or do not weigh."""
        fits = self.memory * hardware.memory_bandwidth < LAST_CACHE[hardware.name]
        return self.part(~fits | (self.memory < UNCACHED_SHARE * self.times))


@dataclass(frozen=True)
class Fit:
    """One row of the table."""

    device: str
    family: str
    format: str
    backend: str
    version: str
    kernel: str
    operator: Operator
    error: float
    error_90: float
    measured: Measured


def held_out(*columns: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which shapes are kept from the fit: a third, by a hash of the shape."""
    names = [",".join(f"{value:.0f}" for value in row) for row in zip(*columns, strict=True)]
    return np.array([zlib.crc32(name.encode()) % 3 == 0 for name in names], dtype=bool)


def attention(hardware: Hardware, rows: dict[str, FloatArray], cache: str) -> Measured:
    """Return grouped attention at 64 and 128 numbers per head, from 4,096 cached tokens on.

    Blocks take rounds where the processors are known.
    """
    batch, heads, kv = (rows[name] for name in ("batch_size", "num_heads", "num_key_value_heads"))
    context, size = rows["step"] + 1, rows["head_dim"]
    padded = np.ceil(heads / kv / hardware.matrix_tile_rows) * hardware.matrix_tile_rows * kv
    tokens = batch * context
    width = FORMATS[cache].bytes_per_value
    kept = (tokens >= 4096) & (context >= 256) & (heads >= 8) & (heads >= kv)
    kept &= (size == 64) | (size == 128)
    rounds = np.ones_like(tokens)
    if hardware.processors is not None:
        rounds = block_rounds(batch * kv, hardware.processors)
    return (
        Measured(
            memory=tokens * kv * 2 * size * width / hardware.memory_bandwidth,
            matrix=tokens * 4 * padded * size / hardware.matrix_rate("bf16"),
            depth=np.zeros_like(tokens),
            pieces=batch * kv,
            rounds=rounds,
            times=rows["latency"] * SECONDS,
            held=held_out(heads, kv, size),
        )
        .part(kept)
        .beyond_cache(hardware)
    )


def latent(hardware: Hardware, rows: dict[str, FloatArray], cache: str) -> Measured:
    """Return absorbed latent attention, 512 + 64 numbers per token.

    Queries that are read (576 numbers per head) and outputs that are written (512) weigh beside a
    cache that all heads share.
    """
    batch, heads, context = rows["batch_size"], rows["num_heads"], rows["step"] + 1
    padded = np.ceil(heads / hardware.matrix_tile_rows) * hardware.matrix_tile_rows
    tokens = batch * context
    width = FORMATS[cache].bytes_per_value
    kept = (tokens >= 4096) & (context >= 256) & (heads >= 16)
    return (
        Measured(
            memory=(tokens * 576 * width + batch * heads * 1088 * BF16_BYTES)
            / hardware.memory_bandwidth,
            matrix=tokens * 2 * padded * 1088 / hardware.matrix_rate("bf16"),
            depth=np.zeros_like(tokens),
            pieces=batch,
            rounds=np.ones_like(tokens),
            times=rows["latency"] * SECONDS,
            held=held_out(heads, batch),
        )
        .part(kept)
        .beyond_cache(hardware)
    )


def gemm(hardware: Hardware, rows: dict[str, FloatArray], number: str) -> Measured:
    """Return products of up to 1,024 rows with weights from 512 x 512 on."""
    m, n, k = (rows[name] for name in "mnk")
    form = FORMATS[number]
    moved = (n * k + m * k) * form.bytes_per_value + 2 * m * n
    kept = (m <= 1024) & (n >= 512) & (k >= 512) & (n * k <= 3e8)
    return Measured(
        memory=moved / hardware.memory_bandwidth,
        matrix=2 * m * n * k / hardware.matrix_rate(form.arithmetic),
        depth=k,
        pieces=np.zeros_like(m),
        rounds=np.ones_like(m),
        times=rows["latency"] * SECONDS,
        held=held_out(n, k),
    ).part(kept)


def wide(hardware: Hardware, rows: dict[str, FloatArray], number: str) -> Measured:
    """Return gated experts of more than `WIDE_SIZE` inner numbers, see `experts`."""
    return _experts(hardware, rows, number, rows["inter_size"] > WIDE_SIZE)


def experts(hardware: Hardware, rows: dict[str, FloatArray], number: str) -> Measured:
    """Return gated experts of up to 8 devices and 8 slices, balanced.

    With several devices the tables hold the handling of all tokens' rows on every device, which
    nobody pays who sends each device its own: the depth is that of all rows, and calls where it
    weighs are left out. So are networks of two matrices, of which the tables do not say whether
    the kernel computed a third, and tables in which every device computes all rows. Slices (tensor
    parallel) tell the handling of rows from their products: it is not sliced.
    """
    return _experts(hardware, rows, number, rows["inter_size"] <= WIDE_SIZE)


def _experts(
    hardware: Hardware, rows: dict[str, FloatArray], number: str, kept: npt.NDArray[np.bool_]
) -> Measured:
    tokens, hidden, whole, chosen, count, devices, slices = (rows[name] for name in EXPERT_COLUMNS)
    inter = whole / slices
    form, tile = FORMATS[number], tile_rows(hardware, number)
    # Balanced calls give every expert a row before any gets a second one.
    touched = np.minimum(tokens * chosen, count) / devices
    share = tokens * chosen / devices
    row = hidden * (form.bytes_per_value + 2) + inter * (8 + 2 * form.bytes_per_value)
    weights = touched * 3 * hidden * inter * form.bytes_per_value
    moved = weights + share * row
    handled = tokens * chosen * hidden * HANDLED_BYTES
    kept = kept & (devices <= 8) & (chosen > 1)
    kept &= (devices == 1) | (handled <= HANDLED_SHARE * weights)
    kept &= (slices <= 8) & ~np.any([(hidden == h) & (whole == i) for h, i in UNGATED], axis=0)
    if hardware.name in WHOLE_ROWS:
        kept &= devices == 1
    if number == "bf16" and hardware.name in TUNED_SIZE:
        # vLLM's files are `E=8,N=1792` to `N=7168`: with 8192, 14336 and 16384 another kernel runs.
        kept &= (inter <= TUNED_SIZE[hardware.name]) | (whole <= WIDE_SIZE)
    return Measured(
        memory=moved / hardware.memory_bandwidth,
        matrix=tiled_operations(6 * share * hidden * inter, share, touched, tile)
        / hardware.matrix_rate(form.arithmetic),
        depth=tokens * chosen * hidden,
        pieces=np.zeros_like(tokens),
        rounds=np.ones_like(tokens),
        times=rows["latency"] * SECONDS,
        held=held_out(hidden, whole, chosen, count, devices, slices),
    ).part(kept)


def dispatched(hardware: Hardware, rows: dict[str, FloatArray], number: str) -> Measured:
    """Return experts that get the rows of their own tokens only, as DeepEP dispatches them.

    That is what an FFN worker does; masked grouped products of DeepGEMM, uniform routing.
    """
    tokens, hidden, inter, chosen, count, devices = (rows[name] for name in EXPERT_COLUMNS[:-1])
    touched = np.minimum(tokens * chosen, count) / devices
    share = tokens * chosen / devices
    form = FORMATS[number]
    row = hidden * (form.bytes_per_value + 2) + inter * (8 + 2 * form.bytes_per_value)
    moved = touched * 3 * hidden * inter * form.bytes_per_value + share * row
    operations = 6 * share * hidden * inter
    return Measured(
        memory=moved / hardware.memory_bandwidth,
        matrix=tiled_operations(operations, share, touched, tile_rows(hardware, number))
        / hardware.matrix_rate(form.arithmetic),
        depth=np.zeros_like(tokens),
        pieces=np.zeros_like(tokens),
        rounds=np.ones_like(tokens),
        times=rows["latency"] * SECONDS,
        held=held_out(hidden, inter, chosen, count, devices),
    )


def elementwise(hardware: Hardware, rows: dict[str, FloatArray], number: str) -> Measured:
    """Return a pass over m x k numbers that reads bf16 and writes one byte each."""
    m, k = rows["m"], rows["k"]
    kept = (m <= 1024) & (k >= 1024)
    return Measured(
        memory=m * k * 3 / hardware.memory_bandwidth,
        matrix=np.zeros_like(m),
        depth=np.zeros_like(m),
        pieces=np.zeros_like(m),
        rounds=np.ones_like(m),
        times=rows["latency"] * SECONDS,
        held=held_out(m, k),
    ).part(kept)


def exchange(hardware: Hardware, rows: dict[str, FloatArray], number: str) -> Measured:
    """Return one way of DeepEP's low-latency exchange in a node: a copy per chosen expert."""
    tokens, hidden, chosen = (rows[name] for name in ("num_token", "hidden_size", "num_topk"))
    kept = (tokens <= 512) & (chosen >= 4)
    width = FORMATS[number].bytes_per_value
    return Measured(
        memory=tokens * chosen * hidden * width / hardware.scale_up.bandwidth,
        matrix=np.zeros_like(tokens),
        depth=np.zeros_like(tokens),
        pieces=np.zeros_like(tokens),
        rounds=np.ones_like(tokens),
        times=rows["latency"] * 1e-6,
        held=held_out(tokens, hidden, chosen),
    ).part(kept)


EXPERT_COLUMNS = (
    *("num_tokens", "hidden_size", "inter_size", "topk", "num_experts"),
    *("moe_ep_size", "moe_tp_size"),
)
EXPERT_TABLE = (
    "moe", "moe_perf", "moe_dtype", EXPERTS, EXPERT_COLUMNS,
)  # fmt: skip
BALANCED = {"distribution": "balanced"}
# Family: folder, file, column of the format, formats, columns, what makes the numbers.
FAMILIES = {
    "attention": (
        "attention", "generation_attention_perf", "kv_cache_dtype", CACHE,
        ("batch_size", "step", "num_heads", "num_key_value_heads", "head_dim"), attention,
        {"window_size": 0},
    ),
    "latent": (
        "mla", "generation_mla_perf", "kv_cache_dtype", CACHE,
        ("batch_size", "step", "num_heads"), latent, {},
    ),
    "gemm": ("gemm", "gemm_perf", "gemm_dtype", GEMM, ("m", "n", "k"), gemm, {}),
    "experts": (*EXPERT_TABLE, experts, BALANCED),
    "wide": (*EXPERT_TABLE, wide, BALANCED),
    "experts, dispatched": (
        "moe", "wideep_generation_moe_perf", "kernel_source", {"fp8": (DISPATCHED,)},
        EXPERT_COLUMNS[:-1], dispatched, {"distribution": "uniform"},
    ),
    "elementwise": (
        "quantize", "scale_matrix_perf", "quant_dtype", {"bf16": ("fp8",)}, ("m", "k"),
        elementwise, {},
    ),
    "dispatch": (
        "comm", "wideep_deepep_ll_perf", "kernel_source", {"fp8": ("deepep",)},
        ("num_token", "hidden_size", "num_topk"), exchange, {"node_num": 1},
    ),
    "combine": (
        "comm", "wideep_deepep_ll_perf", "kernel_source", {"bf16": ("deepep",)},
        ("num_token", "hidden_size", "num_topk"), exchange, {"node_num": 1},
    ),
}  # fmt: skip
LATENCY = {"dispatch": "dispatch_avg_t_us", "combine": "combine_avg_t_us"}


def measured_kernels(device: str) -> Iterable[tuple[str, str, str, str, str, Measured]]:
    """Yield family, format, backend, version, kernel and calls of one device."""
    hardware = find_hardware(device)
    for name, (folder, file, column, formats, columns, make, only) in FAMILIES.items():
        family = name.partition(",")[0]
        latency = LATENCY.get(family, "latency")
        for backend in BACKENDS:
            try:
                path = latest_table(SYSTEMS[device], folder, backend, file)
            except UnsupportedError:
                continue
            if path.stat().st_size < 1000:  # a pointer to a file that the package leaves out
                continue
            for number, kernels in formats.items():
                for kernel in kernels:
                    rows = read_table(path, only | {column: kernel}, (*columns, latency))
                    rows["latency"] = rows[latency]
                    rows = _fastest({name: rows[name] for name in (*columns, "latency")})
                    if rows["latency"].size:
                        found = make(hardware, rows, number).from_memory()
                        if found.times.size >= LEAST_ROWS and found.held.any():
                            yield family, number, backend, path.parent.name, kernel, found


def _fastest(rows: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """Return one call per shape, the fastest of the kernels that were measured at it."""
    kept = rows["latency"] > 0
    names = [name for name in rows if name != "latency"]
    shapes = np.stack([rows[name][kept] for name in names], axis=1)
    if not len(shapes):
        return {name: np.zeros(0) for name in rows}
    unique, inverse = np.unique(shapes, axis=0, return_inverse=True)
    best: FloatArray = np.full(len(unique), np.inf)
    np.minimum.at(best, inverse.ravel(), rows["latency"][kept])
    return {name: unique[:, i] for i, name in enumerate(names)} | {"latency": best}


def predicted(operator: Operator, calls: Measured) -> FloatArray:
    """Return the fitted times of calls."""
    rounds = calls.rounds
    times = operator.time(rounds * calls.memory, rounds * calls.matrix, calls.depth)
    return times + operator.depth_time * calls.pieces


def fitted(calls: Measured, most_matrix: float = 1.0) -> Operator:
    """Return the operator with the least robust error of the logarithm on the fitted shapes.

    Its share of the matrix rate is at most `most_matrix`.
    """
    from scipy.optimize import least_squares

    train = calls.part(~calls.held)
    if train.times.size > MOST_ROWS:
        chosen = np.random.default_rng(0).choice(train.times.size, MOST_ROWS, replace=False)
        kept = np.zeros(train.times.size, dtype=bool)
        kept[chosen] = True
        train = train.part(kept)
    has_matrix = bool(calls.matrix.any())
    has_depth = bool(calls.depth.any() or calls.pieces.any())

    def operator(point: FloatArray) -> Operator:
        fixed, memory, matrix, sharp, depth = np.exp(point)
        return Operator(
            memory_share=memory,
            matrix_share=matrix if has_matrix else 1.0,
            fixed_time=fixed,
            sharpness=sharp if has_matrix else 1.0,
            depth_time=depth if has_depth else 0.0,
        )

    low = np.log([1e-7, LEAST_SHARE, 0.01, 0.7, 1e-15])
    high = np.log([1e-3, 1.0, most_matrix, 8.0, 1e-7])
    found = [
        least_squares(
            lambda point: np.log(predicted(operator(point), train) / train.times),
            np.log(start),
            bounds=(low, high),
            loss="soft_l1",
            f_scale=0.1,
        )
        for start in ((4e-6, 0.8, 0.5, 2.0, 5e-10), (2e-5, 0.9, 0.4, 3.0, 1e-12))
    ]
    return operator(min(found, key=lambda one: one.cost).x)


def errors(operator: Operator, calls: Measured) -> FloatArray:
    """Return relative errors on the shapes that were held out."""
    held = calls.part(calls.held)
    return np.abs(predicted(operator, held) / held.times - 1)


def fit_all() -> list[Fit]:
    """Return the fits of every device, family, format, backend and kernel."""
    fits = []
    for device in SYSTEMS:
        for family, number, backend, version, kernel, calls in measured_kernels(device):
            operator = fitted(calls, MOST_MATRIX.get((family, number), 1.0))
            off = errors(operator, calls)
            fits.append(
                Fit(
                    device, family, number, backend, version, kernel, operator,
                    float(np.median(off)), float(np.quantile(off, 0.9)), calls,
                )
            )  # fmt: skip
            print(device, family, number, backend, kernel, f"{np.median(off):.1%}", flush=True)
            if (family, number) == ("experts", "fp8") and kernel != DISPATCHED:
                # DeepGEMM has none for int8, which was not measured: like the others of its width.
                fits.append(replace(fits[-1], format="int8"))
    return fits


def typical_time(fit: Fit) -> float:
    """Return the geometric mean of the times of `TYPICAL` calls [s]."""
    pieces = TYPICAL_PIECES.get(fit.family, 0) * fit.operator.depth_time
    times = [pieces + fit.operator.time(*call) for call in TYPICAL[fit.family]]
    return float(np.exp(np.mean(np.log(times))))


def chosen_fits(fits: list[Fit]) -> dict[tuple[str, str, str], Fit]:
    """Return the fastest fit of each (device, family, format) that can be believed.

    Of several that are as fast, to a tenth, it is the one with the least error.
    """
    groups: dict[tuple[str, str, str], list[Fit]] = {}
    for fit in fits:
        is_known = fit.error <= SUSPECT_ERROR and fit.error_90 <= SUSPECT_TAIL
        if is_known and fit.operator.fixed_time <= SUSPECT_FIXED:
            groups.setdefault((fit.device, fit.family, fit.format), []).append(fit)
    chosen = {}
    for key, group in groups.items():
        widest = max(fit.measured.held.sum() for fit in group)
        wide = [
            fit
            for fit in group
            if fit.measured.held.sum() >= OFTEN_AS_WIDE * widest or fit.kernel == DISPATCHED
        ]
        least = min(fit.error for fit in wide)
        fair = [fit for fit in wide if fit.error <= max(OFTEN_AS_GOOD * least, BARS[key[1]])]
        fastest = min(map(typical_time, fair))
        equal = [fit for fit in fair if typical_time(fit) <= AS_FAST * fastest]
        chosen[key] = min(equal, key=lambda fit: fit.error)
    return chosen


def borrowed_errors(chosen: dict[tuple[str, str, str], Fit]) -> dict[tuple[str, str], float]:
    """Return by family and format the error of the nearest other device's numbers."""
    found: dict[tuple[str, str], list[float]] = {}
    for (device, family, number), fit in chosen.items():
        others = [
            one
            for one in chosen.values()
            if (one.family, one.format) == (family, number) and one.device != device
        ]
        if not others:
            continue
        here = find_hardware(device)
        nearest = min(others, key=lambda one: device_distance(here, find_hardware(one.device)))
        off = errors(nearest.operator, fit.measured)
        found.setdefault((family, number), []).append(float(np.median(off)))
    return {key: float(np.mean(values)) for key, values in found.items()}


PUBLISHED = (
    # Device, family, format, source, fixed time [us], error: the least of many exchanges, so
    # without waiting, less the bytes of 120 tokens to 8 experts over the link at its peak.
    ("Ascend-910C", "dispatch", "fp8", "xDeepServe arXiv:2508.02520 section 7", 150.0, 0.3),
    ("Ascend-910C", "combine", "bf16", "xDeepServe arXiv:2508.02520 section 7", 95.0, 0.3),
)
"""Operators that no table has, from published profiles of single operators."""


def main() -> None:
    fits = fit_all()
    chosen = chosen_fits(fits)
    borrowed = borrowed_errors(chosen)
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for fit in fits:
            one, key = fit.operator, (fit.device, fit.family, fit.format)
            writer.writerow(
                [*key, fit.backend, fit.version, fit.kernel, f"{one.memory_share:.3f}",
                 f"{one.matrix_share:.3f}", f"{one.fixed_time * 1e6:.2f}",
                 f"{one.sharpness:.2f}", f"{one.depth_time * 1e9:.3g}", f"{fit.error:.3f}",
                 f"{fit.error_90:.3f}", int(fit.measured.held.sum()),
                 f"{borrowed.get(key[1:], 0.3):.3f}", "yes" if chosen.get(key) is fit else "no"]
            )  # fmt: skip
        for device, family, number, source, fixed, error in PUBLISHED:
            row = [device, family, number, "published", "", source, "1.000", "1.000"]
            row += [f"{fixed:.2f}", "1.00", "0.000", error, error, 0, error, "yes"]
            writer.writerow(row)
    lines = [
        "# Measured operators and what they reach",
        "",
        "Written by `python -m benchmarks.operator_fits` from aiconfigurator-core "
        f"{PINNED_VERSION} (Apache-2.0). Errors: median and 90th percentile",
        "on a third of the shapes, held out. Bold: the fastest that can be believed, which derived "
        "models use.",
        "",
        "| device | family | format | system, kernel | memory | matrix | fixed us | sharpness "
        "| depth ns | error | 90 % | shapes |",
        "|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for fit in fits:
        one, key = fit.operator, (fit.device, fit.family, fit.format)
        name = f"{fit.backend} {fit.version}, {fit.kernel}"
        name = f"**{name}**" if chosen.get(key) is fit else name
        lines.append(
            f"| {fit.device} | {fit.family} | {fit.format} | {name} | {one.memory_share:.2f} "
            f"| {one.matrix_share:.2f} | {one.fixed_time * 1e6:.1f} | {one.sharpness:.1f} "
            f"| {one.depth_time * 1e9:.3g} | {fit.error:.1%} | {fit.error_90:.0%} "
            f"| {fit.measured.held.sum()} |".replace("%", " %")
        )
    lines += [""]
    lines += [
        f"{device}, {family}: fixed {fixed:g} us from {source}, error {error:.0%} assumed.".replace(
            "%", " %"
        )
        for device, family, _, source, fixed, error in PUBLISHED
    ]
    REPORT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"written: {TABLE}, {REPORT}")


if __name__ == "__main__":
    main()
