"""RTP-LLM: one server on one node, its last rank runs the FFN of all others."""

from __future__ import annotations

from afdplan.deploy.deployment import Deployment, Role
from afdplan.deploy.pairs import SINGLE
from afdplan.deploy.request import DeployRequest
from afdplan.deploy.target import Target
from afdplan.deploy.words import Word, flags
from afdplan.errors import UnsupportedError

__all__ = ["TARGETS"]

START_PORT = 8088
PORTS_PER_RANK = 9
"""Stride between the ports of two ranks; older releases take 8."""
MODEL_TYPES = {"qwen3": "qwen_3", "qwen3_moe": "qwen_3_moe"}


def _deployment(request: DeployRequest, target: Target) -> Deployment:
    plan, bundle = request.plan, request.plan.bundle
    ranks = bundle.attention_workers + bundle.ffn_workers
    if ranks > request.node_devices:
        raise UnsupportedError(
            f"{target.name} is written for one node, {ranks} ranks need more than its "
            f"{request.node_devices} devices: plan with --max-attention-workers "
            f"{request.node_devices - 1}"
        )
    if plan.attention_devices > 1:
        raise UnsupportedError(
            f"{target.name} runs attention workers of one device, the plan has "
            f"{plan.attention_devices}: plan with --attention-devices 1"
        )
    kind = MODEL_TYPES.get(request.architecture)
    if kind is None:
        raise UnsupportedError(
            f"{target.name} must be told the model's type, of {', '.join(MODEL_TYPES)}: name "
            "such a model with --model"
        )
    requests, workers = bundle.requests_per_attention_worker, bundle.attention_workers
    settings = {
        "attention": {"dp_size": workers, "requests_per_rank": requests, "num_mb": 2},
        "ffn": {"ranks": 1, "tokens_per_microbatch": bundle.batch_size * workers, "num_mb": 2},
    }
    sizes: tuple[Word, ...] = ("--dp_size", str(ranks))
    if "--attention_dp_size" in target.flags:
        sizes = ("--attention_tp_size", "1", "--attention_dp_size", str(workers))
    bundles = []
    for number in range(1, plan.bundles + 1):
        port = START_PORT + PORTS_PER_RANK * ranks * (number - 1)
        words: tuple[Word, ...] = (
            *("python", "-m", "rtp_llm.start_server"),
            *("--checkpoint_path", request.model, "--model_type", kind),
            *("--enable_ffn_disaggregate", "1", "--enable_layer_micro_batch", "1"),
            *("--world_size", str(ranks), *sizes),
            *("--concurrency_limit", str(workers * requests)),
            *("--start_port", str(port)),
        )
        if request.max_model_len is not None:
            words += ("--max_seq_len", str(request.max_model_len))
        target.check(flags(words))
        bundles.append(
            (
                Role(
                    name="server",
                    workers=ranks,
                    devices=1,
                    workers_per_node=ranks,
                    command=words,
                    environment={"LOAD_PYTHON_MODEL": "1"},
                    http=port,
                    ports=tuple(range(port, port + PORTS_PER_RANK * ranks)),
                ),
            )
        )
    return Deployment(
        title=request.split_title,
        bundles=tuple(bundles),
        settings=settings,
        start=(
            "On each host: `bundle-001/server.sh`, one bundle a host.",
            "Send requests to the port in each script, balanced over the bundles.",
        ),
        assumed=(
            f"{target.rule}; all ranks of a bundle are on one node",
            "the server cannot be told how many requests a rank decodes: its concurrency limit is "
            "that of all ranks together",
            "prompts are computed on the same devices, which the plan does not count",
        ),
    )


SERVER_FLAGS = frozenset(
    {
        *("--checkpoint_path", "--concurrency_limit", "--dp_size", "--enable_ffn_disaggregate"),
        *("--enable_layer_micro_batch", "--max_seq_len", "--model_type", "--start_port"),
        *("--world_size",),
    }
)

TARGETS = (
    Target(
        name="rtp-llm",
        version="2026-08",
        source="rtp-llm, 2026-08: page on AFD, server arguments (parallel group), parallel config",
        pairs=SINGLE,
        microbatches=(2,),
        models=frozenset({"qwen3"}),
        placement="no switch is known: the service before the ranks decides",
        flags=SERVER_FLAGS,
        split=_deployment,
    ),
    Target(
        name="rtp-llm",
        version="moe",
        source="rtp-llm, page on AFD that shows Qwen3-30B-A3B with sizes of each side",
        pairs=SINGLE,
        microbatches=(2,),
        models=frozenset({"qwen3", "qwen3_moe"}),
        placement="no switch is known: the service before the ranks decides",
        flags=SERVER_FLAGS | {"--attention_tp_size", "--attention_dp_size"},
        split=_deployment,
    ),
)
