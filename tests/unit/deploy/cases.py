"""Plans for deploy tests, built from numbers: no search, no file."""

from __future__ import annotations

from types import MappingProxyType

from afdplan.deploy.request import DeployRequest
from afdplan.files.plan_file import PlanFile
from afdplan.files.plan_unsplit import UnsplitPlan
from afdplan.model.bundle import Bundle
from afdplan.model.curve import LinearCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers, Transfer

__all__ = ["MODEL_OF", "NEEDED", "pair_plan", "request_for"]

MODEL_OF = {
    "fastafd": "qwen3_moe",
    "rtp-llm": "qwen3",
    "sglang": "qwen3_moe",
    "stepmesh": "step3_text",
    "vllm-afd-ascend": "deepseek_v3",
    "vllm-afd-plugin": "deepseek_v3",
}
"""A model type that the newest version of each system knows."""
NEEDED = {"rtp-llm": "qwen3"}
"""A model type for systems whose every version must be told one."""


def _latency() -> LatencyModel:
    curve = LinearCurve(intercept=0.0, slope=1e-6)
    return LatencyModel(
        name="test",
        time_unit="s",
        attention=(AttentionLayers(curve=curve, layers=4),),
        ffn=curve,
        send=Transfer(curve=curve),
        receive=Transfer(curve=curve),
    )


def pair_plan(
    a: int = 4,
    f: int = 2,
    batch: int = 24,
    m: int = 2,
    bundles: int = 2,
    devices: tuple[int, int] = (1, 1),
    hardware: str = "h200",
    unsplit: UnsplitPlan | None = None,
    recommends_unsplit: bool = False,
) -> PlanFile:
    """Return a plan of a pair; its promises are made up."""
    return PlanFile(
        bundles=bundles,
        bundle=Bundle(attention_workers=a, ffn_workers=f, batch_size=batch, microbatches=m),
        attention_devices=devices[0],
        ffn_devices=devices[1],
        latency=_latency(),
        step_time_mean=0.03,
        step_time_p99=0.04,
        tokens_per_second=1e4,
        mean_prompt_tokens=1000.0,
        mean_decode_tokens=300.0,
        mean_token_load=1300.0,
        time_per_output_token=None,
        statistic="mean",
        overflow_probability=1e-3,
        cache_capacity=7e9,
        cache_kinds=((70_000.0, None),),
        planned_regret=0.0,
        model="m",
        target="any",
        target_version=None,
        unsplit=unsplit,
        recommends_unsplit=recommends_unsplit,
        afdplan_version="0",
        inputs=MappingProxyType({"hardware": hardware}),
    )


def request_for(name: str, plan: PlanFile | None = None, **options: object) -> DeployRequest:
    """Return a request that the newest version of a system accepts."""
    if plan is None:
        hardware = "ascend-910c" if name == "vllm-afd-ascend" else "h200"
        pair = {"rtp-llm": (4, 1)}.get(name, (4, 2))
        plan = pair_plan(*pair, m=3 if name == "stepmesh" else 2, hardware=hardware)
    given = {"model": "org/model", "architecture": MODEL_OF[name], **options}
    return DeployRequest(plan=plan, **given)
