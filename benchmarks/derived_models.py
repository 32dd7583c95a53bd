"""How far are derived times from published measurements? Rewrites the tables of the docs.

Run `python -m benchmarks.derived_models`. Rows from aiconfigurator are rewritten only where
aiconfigurator-core is installed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.derived import derived_latency, latency_of
from afdplan.calibration.derived_feed_forward import network_time
from afdplan.calibration.efficiency import Efficiencies
from afdplan.calibration.placement import place
from afdplan.errors import AfdplanError
from benchmarks.derived_steps import microbatches, systems, unsplit
from benchmarks.derived_verdicts import table as verdict_table
from benchmarks.derived_verdicts import verdicts
from benchmarks.published_rows import Row, table
from benchmarks.published_steps import (
    FASTAFD_COMBINE_US,
    FASTAFD_DISPATCH_US,
    FASTAFD_MFU,
    FASTAFD_MOE_US,
    REQUESTS_PER_GPU,
    STEP3_TABLE_9,
)

DOCUMENT = Path(__file__).parents[1] / "docs" / "derived-models.md"


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
    for name, times in (("dispatch", FASTAFD_DISPATCH_US), ("combine", FASTAFD_COMBINE_US)):
        for devices, published in times.items():
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


SECTIONS = {
    "attention-slopes": attention_slopes,
    "attention-layers": attention_layers,
    "experts": experts,
    "transfers": transfers,
    "deployments": deployments,
    "systems": systems,
    "microbatches": microbatches,
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
