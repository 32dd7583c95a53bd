"""How far are derived times from published measurements? Rewrites the tables of the docs.

Run `python -m benchmarks.derived_models`. Rows from aiconfigurator are rewritten only where
aiconfigurator-core is installed.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.derived import derived_latency, latency_of
from afdplan.calibration.derived_feed_forward import network_time
from afdplan.calibration.efficiency import Efficiencies
from afdplan.calibration.placement import place
from afdplan.errors import AfdplanError
from afdplan.lengths.law import IndependentLengths
from afdplan.planning.derived_source import DerivedSource
from afdplan.theory.recommend import recommend_ratio
from benchmarks.derived_verdicts import table as verdict_table
from benchmarks.derived_verdicts import verdicts
from benchmarks.published_steps import (
    ASCEND_DECODED,
    ASCEND_TOKENS,
    ASCEND_UNSPLIT_TOKENS,
    FASTAFD_COMBINE_US,
    FASTAFD_DISPATCH_US,
    FASTAFD_MFU,
    FASTAFD_MOE_US,
    FASTAFD_STEP_MS,
    FASTAFD_TOKENS,
    REQUESTS_PER_GPU,
    STEP3_STEP_MS,
    STEP3_TABLE_9,
    WIDE_EP_TOKENS,
    XDEEPSERVE_STEP_MS,
    ascend_step,
    fastafd_step,
)

DOCUMENT = Path(__file__).parents[1] / "docs" / "derived-models.md"


@dataclass(frozen=True)
class Row:
    """One derived number beside a published one."""

    group: str
    what: str
    published: float
    derived: float
    unit: str

    @property
    def error(self) -> float:
        return self.derived / self.published - 1


def attention_slopes() -> list[Row]:
    """Growth of a layer's time from 8K to 32K of context."""
    rows = []
    for (model, device), (short, long) in STEP3_TABLE_9.items():
        kind = _attention(model, device)
        grown = REQUESTS_PER_GPU * (32_768 - 8_192)
        rows.append(
            Row("slope", f"{model}, {device}", long - short, kind.curve.slope * grown * 1e6, "µs")
        )
    return rows


def attention_layers() -> list[Row]:
    """Time of a whole attention layer."""
    rows = []
    for (model, device), times in STEP3_TABLE_9.items():
        kind = _attention(model, device)
        for context, published in zip((8_192, 32_768), times, strict=True):
            derived = kind.time(REQUESTS_PER_GPU * context, REQUESTS_PER_GPU) * 1e6
            what = f"{model}, {device}, {context // 1024}K"
            rows.append(Row("layer", what, published, derived, "µs"))
    return rows


def _attention(model: str, device: str):
    latency = derived_latency(
        model, device, precision="bf16", ffn_devices=64, batch_size=REQUESTS_PER_GPU
    )
    return latency.attention[0]


def experts() -> list[Row]:
    """Expert layers of FastAFD; "1024 tokens per GPU" is read as rows, see the document."""
    model, device = find_model("qwen3-235b-a22b-fp8"), find_hardware("gb200")
    even = Efficiencies(expert_imbalance=1.0)  # as such benchmarks are
    rows = []
    for devices, published in FASTAFD_MOE_US.items():
        placement = place(model, device, ffn_devices=devices, efficiencies=even)
        derived = float(network_time(placement, model.network, 128.0 * devices)) * 1e6
        rows.append(Row("experts", f"MoE GEMM, EP{devices}, 1024 rows", published, derived, "µs"))
    placement = place(model, device, ffn_devices=8, efficiencies=even)
    for tokens, published in FASTAFD_MFU.items():
        count = 16.0 * tokens  # 16 experts per device; k = devices, so rows equal tokens
        seconds = float(network_time(placement, model.network, count))
        operations = 2 * count * model.network.expert_parameters(model.hidden_size)
        derived = operations / seconds / device.matrix_rate("fp8")
        rows.append(
            Row(
                "experts",
                f"share of fp8 peak, EP8, {tokens} rows per expert",
                published,
                derived,
                "",
            )
        )
    return rows


def transfers() -> list[Row]:
    """DeepEP on NVLink, and the tensors of StepMesh on 400 Gb/s RoCE."""
    rows = []
    for name, table in (("dispatch", FASTAFD_DISPATCH_US), ("combine", FASTAFD_COMBINE_US)):
        for devices, published in table.items():
            latency = derived_latency("qwen3-235b-a22b-fp8", "gb200", ffn_devices=devices)
            way = latency.send if name == "dispatch" else latency.receive
            derived = way.time(128, 128.0 * devices) * 1e6
            what = f"DeepEP {name}, EP{devices}, 128 tokens per rank"
            rows.append(Row("transfers", what, published, derived, "µs"))
    mesh = derived_latency("step-3", "h800-sxm", precision="fp8", ffn_devices=8, link="scale-out")
    # 896 KiB are 128 hidden states in fp8 per GPU, 1.75 MiB the same in bf16.
    for what, way, published in (
        ("StepMesh A to F, 896 KB per GPU", mesh.send, 18),
        ("StepMesh F to A, 1.75 MB per GPU", mesh.receive, 37),
    ):
        rows.append(Row("transfers", what, published, way.time(128, 1024.0) * 1e6, "µs"))
    return rows


def deployments() -> list[Row]:
    """Whole stages of a deployment, exactly as published."""
    # xDeepServe (arXiv:2508.02520), sections 5 and 7: DeepSeek-R1 INT8 with one draft token,
    # 288 expert dies serve three domains of 160 attention dies in turn, so one microbatch is of
    # 160 dies with 48 requests each; 2K + 2K tokens, 3K of context on average.
    placement = place(
        find_model("deepseek-r1"),
        find_hardware("ascend-910c"),
        precision="int8",
        ffn_devices=288,
        speculative_tokens=1,
        batch_size=48,
    )
    latency = latency_of(placement)
    tokens = 160.0 * 48
    rows = [
        Row(
            "deployments",
            "xDeepServe attention, 48 requests of 3K",
            700,
            latency.attention[0].time(48 * 3072, 48) * 1e6,
            "µs",
        ),
        Row(
            "deployments",
            "xDeepServe experts, 288 dies",
            120,
            float(network_time(placement, placement.architecture.network, tokens)) * 1e6,
            "µs",
        ),
        Row("deployments", "xDeepServe A2E", 172, latency.send.time(48, tokens) * 1e6, "µs"),
        Row("deployments", "xDeepServe E2A", 193, latency.receive.time(48, tokens) * 1e6, "µs"),
    ]
    return rows


def step_time(
    model: str,
    device: str,
    attention: int,
    requests: int,
    context: int,
    microbatches: int = 2,
    **options: Any,
) -> float:
    """Return the step time of a bundle of `attention` workers [ms]; all requests equally long."""
    latency = derived_latency(model, device, batch_size=requests, **options)
    curve = recommend_ratio(
        IndependentLengths(prompt=f"fixed:{context}", decode="fixed:1"),
        replace(latency, uncertainty=None),
        batch_size=requests,
        microbatches=microbatches,
        ffn_workers=options.get("ffn_workers", 1),
        max_attention_workers=attention,
    ).curve
    (step,) = (point.step_time for point in curve if point.attention_workers == attention)
    return step * 1e3


def systems() -> list[Row]:
    """Steps of split systems, from names alone: model, device, formats, serving system."""
    qwen = {"ffn_devices": 4, "serving_system": "fastafd"}
    rows = [
        Row(
            "systems",
            f"FastAFD, Qwen3-235B 8K, {nodes}:1",
            published,
            # An attention worker is one GPU, the FFN worker a tray of four.
            step_time("qwen3-235b-a22b-fp8", "gb200", 4 * nodes, 48, 8192, **qwen),
            "ms",
        )
        for nodes, published in FASTAFD_STEP_MS.items()
    ]
    step3 = {"precision": "fp8", "ffn_devices": 8, "ffn_workers": 2, "serving_system": "stepmesh"}
    for (model, context), (nodes, requests, rate) in FASTAFD_TOKENS.items():
        derived = step_time(model, "gb200", 4 * nodes, requests, 1024 * context, **qwen)
        name = "Qwen3-235B" if "qwen" in model else "MiniMax-M2.5"
        published = fastafd_step(nodes, requests, rate)
        rows.append(
            Row("systems", f"FastAFD, {name} {context}K, {nodes}:1", published, derived, "ms")
        )
    for (attention, requests, context, cache), published in STEP3_STEP_MS.items():
        derived = step_time(
            "step-3", "h800-sxm", attention, requests, context, 3, cache_precision=cache, **step3
        )
        what = f"Step-3 {context // 1024}K, {attention // 8}A2F, {cache} cache"
        rows.append(Row("systems", what, published, derived, "ms"))
    # Three domains of 160 dies take turns on 288 expert dies; one draft token.
    xdeepserve = {"precision": "int8", "ffn_devices": 288, "speculative_tokens": 1}
    derived = step_time(
        "deepseek-r1", "ascend-910c", 160, 48, 3072, serving_system="xdeepserve", **xdeepserve
    )
    rows.append(Row("systems", "xDeepServe, DeepSeek-R1", XDEEPSERVE_STEP_MS, derived, "ms"))
    for (context, attention), rate in ASCEND_TOKENS.items():
        derived = step_time(
            "deepseek-v3.2", "ascend-910c", attention, 224 // context,
            1024 * context + ASCEND_DECODED,
            precision="int8", ffn_devices=1, ffn_workers=64, serving_system="vllm-afd-ascend",
        )  # fmt: skip
        what = f"vLLM AFD plugin, DeepSeek-V3.2 {context}K, {attention}:64"
        rows.append(Row("systems", what, ascend_step(context, attention, rate), derived, "ms"))
    return rows


def unsplit() -> list[Row]:
    """Steps of un-split wide expert parallelism, one batch at a time, from names alone."""
    rows = []
    for model, points in WIDE_EP_TOKENS.items():
        for (context, width, requests), rate in points.items():
            derived = unsplit_step(model, "gb200", width, requests, context * 1024)
            what = f"vLLM, {model} {context}K, EP{width}, {requests} requests"
            rows.append(Row("unsplit", what, requests / rate * 1e3, derived, "ms"))
    for context, rate in ASCEND_UNSPLIT_TOKENS.items():
        requests = 256 // context
        derived = unsplit_step(
            "deepseek-v3.2", "ascend-910c", 64, requests, 1024 * context + ASCEND_DECODED,
            precision="int8",
        )  # fmt: skip
        what = f"vLLM-Ascend, DeepSeek-V3.2 {context}K, EP64, {requests} requests"
        rows.append(Row("unsplit", what, requests / rate * 1e3, derived, "ms"))
    drafts = {"precision": "int8", "speculative_tokens": 1}
    derived = unsplit_step("deepseek-r1", "ascend-910c", 288, 60, 3072, **drafts)
    what = "xDeepServe, DeepSeek-R1, EP288, 60 requests"
    rows.append(Row("unsplit", what, XDEEPSERVE_STEP_MS, derived, "ms"))
    return rows


def unsplit_step(
    model: str, device: str, width: int, requests: int, context: int, **options: Any
) -> float:
    """Return the step time of data-parallel ranks that hold the experts together [ms]."""
    placement = place(find_model(model), find_hardware(device), ffn_devices=width, **options)
    latency = DerivedSource(placement, (1,)).colocated.latency(1, width, requests)
    attention = sum(k.layers * k.time(requests * context, requests) for k in latency.attention)
    shared = latency.ffn(requests) + sum(
        way.time(requests, requests) for way in (latency.send, latency.receive)
    )
    return (latency.step_overhead + attention + latency.layers * shared) * 1e3


def operator_tables() -> list[Row]:
    """Derived against the tables of aiconfigurator; raises where it is not installed."""
    from benchmarks.measured_tables import measured_latency

    cases = [
        ("qwen3-235b-a22b", "h100-sxm", "vllm", 8, "bf16"),
        ("qwen3-235b-a22b", "h200", "vllm", 8, "bf16"),
        ("qwen3-235b-a22b", "h200", "sglang", 8, "bf16"),
        ("qwen3-235b-a22b", "b200", "vllm", 8, "bf16"),
        ("qwen3-235b-a22b", "gb200", "vllm", 4, "bf16"),
        ("qwen3-30b-a3b", "h200", "vllm", 1, "bf16"),
        ("minimax-m2", "h200", "vllm", 4, "fp8"),
        ("mixtral-8x22b", "h100-sxm", "vllm", 4, "bf16"),
        ("mixtral-8x22b", "h200", "vllm", 4, "bf16"),
        ("deepseek-v3", "h200", "vllm", 8, "fp8"),
        ("deepseek-v3", "b200", "vllm", 8, "fp8"),
    ]
    rows = []
    for model, device, backend, devices, precision in cases:
        options = {"precision": precision, "ffn_devices": devices}
        try:
            measured = measured_latency(model, device, backend, **options).latency
        except AfdplanError as error:
            print(f"left out: {model}, {device}, {backend}: {error}")
            continue
        derived = derived_latency(model, device, **options)
        label = f"{model}, {device}, {backend}"
        rows.append(
            Row(
                "table slope",
                label,
                measured.attention[0].curve.slope * 1e9,
                derived.attention[0].curve.slope * 1e9,
                "ns/token",
            )
        )
        rows += [
            Row(
                "table experts",
                f"{label}, EP{devices}, {tokens} tokens",
                measured.ffn(tokens) * 1e6,
                # Shared experts and dense layers are not in the table: compare routed layers.
                _routed(model, device, tokens, options),
                "µs",
            )
            for tokens in (16, 128, 1024)
        ]
    return rows


def _routed(model: str, device: str, tokens: int, options: dict) -> float:
    even = Efficiencies(expert_imbalance=1.0)
    placement = place(find_model(model), find_hardware(device), efficiencies=even, **options)
    routed = replace(placement.architecture.network, dense_size=0)
    return float(network_time(placement, routed, float(tokens))) * 1e6


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(rows: list[Row]) -> str:
    """Markdown of one group of rows, its median error below."""
    lines = ["| what | published | derived | error |", "|---|---:|---:|---:|"]
    for row in rows:
        unit = f" {row.unit}" if row.unit else ""
        lines.append(
            f"| {row.what} | {_short(row.published)}{unit} | {_short(row.derived)}{unit} "
            f"| {row.error:+.0%} |".replace("%", " %")
        )
    middle = statistics.median(abs(row.error) for row in rows)
    worst = max(rows, key=lambda row: abs(row.error))
    lines.append("")
    lines.append(
        f"Median absolute error {middle:.0%}; largest {worst.error:+.0%} ({worst.what}).".replace(
            "%", " %"
        )
    )
    return "\n".join(lines)


SECTIONS = {
    "attention-slopes": attention_slopes,
    "attention-layers": attention_layers,
    "experts": experts,
    "transfers": transfers,
    "deployments": deployments,
    "systems": systems,
    "unsplit": unsplit,
}


def replace_section(text: str, name: str, body: str) -> str:
    """Return `text` with what stands between the markers of `name` replaced."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    head, rest = text.split(begin)
    return f"{head}{begin}\n{body}\n{end}{rest.split(end)[1]}"


def main() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, rows in SECTIONS.items():
        text = replace_section(text, name, table(rows()))
    text = replace_section(text, "verdicts", verdict_table(verdicts()))
    try:
        rows = operator_tables()
    except AfdplanError as error:
        print(error)
        rows = []
    if rows:
        slopes = [row for row in rows if row.group == "table slope"]
        loads = [row for row in rows if row.group == "table experts"]
        text = replace_section(text, "operator-tables", table(slopes) + "\n\n" + table(loads))
    DOCUMENT.write_text(text, encoding="utf-8")
    print(f"written: {DOCUMENT}")


if __name__ == "__main__":
    main()
