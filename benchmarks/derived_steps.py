"""How long is a whole step, split and un-split, from names alone?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.derived import derived_latency
from afdplan.calibration.placement import place
from afdplan.lengths.law import IndependentLengths
from afdplan.planning.derived_source import DerivedSource
from afdplan.theory.recommend import recommend_ratio
from benchmarks.published_rows import Row
from benchmarks.published_steps import (
    ASCEND_DECODED,
    ASCEND_TOKENS,
    ASCEND_UNSPLIT_TOKENS,
    FASTAFD_MICROBATCH_MS,
    FASTAFD_STEP_MS,
    FASTAFD_TOKENS,
    STEP3_STEP_MS,
    WIDE_EP_TOKENS,
    XDEEPSERVE_STEP_MS,
    ascend_step,
    fastafd_step,
)

__all__ = ["microbatches", "step_time", "systems", "unsplit", "unsplit_step"]


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


def microbatches() -> list[Row]:
    """Steps of FastAFD as the same requests are cut into more microbatches."""
    return [
        Row(
            "microbatches",
            f"FastAFD, MiniMax-M2.5 8K, {nodes}:1, m = {m}",
            published,
            step_time(
                "minimax-m2.5", "gb200", 4 * nodes, 72 // m, 8192, m,
                ffn_devices=4, serving_system="fastafd",
            ),
            "ms",
        )
        for nodes, steps in FASTAFD_MICROBATCH_MS.items()
        for m, published in enumerate(steps, start=1)
    ]  # fmt: skip


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
