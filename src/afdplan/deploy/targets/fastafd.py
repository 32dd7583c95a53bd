"""FastAFD: both sides from one command, placed by Ray."""

from __future__ import annotations

from dataclasses import replace

from afdplan.deploy.deployment import Check, Deployment, Role, nodes_of
from afdplan.deploy.devices import is_blackwell
from afdplan.deploy.ladder import graph_ladder
from afdplan.deploy.pairs import FREE, MUTUAL
from afdplan.deploy.request import DeployRequest
from afdplan.deploy.target import Target
from afdplan.deploy.words import Variable, Word, flags

__all__ = ["TARGETS"]

SERVER_PORT = 19193
PORTS_PER_SERVER = 10
"""The server takes its port and the six after it."""
RAY_PORT = 6379
# Nodes start at once, and Ray gives up on a head that is not there yet.
JOIN_SECONDS = 1800
JOIN = f"""\
until (: <"/dev/tcp/$0/$1") 2>/dev/null; do
  if (( SECONDS >= {JOIN_SECONDS} )); then
    echo "no Ray head listens at $0:$1 after {JOIN_SECONDS} s: is node 0 running?" >&2
    exit 1
  fi
  sleep 2
done
exec ray start --block --disable-usage-stats --address "$0:$1\""""
MEMORY_RATIO = "0.82"
PREFILL_TOKENS = 512
PAGE_SIZE = 64


def _settings(request: DeployRequest) -> dict[str, dict[str, object]]:
    """Return the coupled settings of both roles; FastAFD takes them in one command."""
    plan, bundle = request.plan, request.plan.bundle
    ladder = graph_ladder(bundle.batch_size)
    return {
        "attention": {
            "dp_size": bundle.attention_workers,
            "tp_size": plan.attention_devices,
            "requests_per_rank": bundle.requests_per_attention_worker,
            "max_running_requests": bundle.attention_workers * bundle.requests_per_attention_worker,
            "decode_graph_bs": ladder,
            "num_mb": bundle.microbatches,
        },
        "ffn": {
            "dp_size": bundle.ffn_workers,
            "tp_size": plan.ffn_devices,
            "ep_size": bundle.ffn_workers * plan.ffn_devices,
            "tokens_per_microbatch": bundle.batch_size
            * -(-bundle.attention_workers // bundle.ffn_workers),
            "num_mb": bundle.microbatches,
        },
    }


def _role(request: DeployRequest, target: Target, number: int) -> Role:
    settings = _settings(request)
    attention, ffn = settings["attention"], settings["ffn"]
    plan, bundle = request.plan, request.plan.bundle
    port = replace(request, port=SERVER_PORT).port_of(number, PORTS_PER_SERVER)
    pairs: dict[str, object] = {
        "--mode": "afd-serve",
        "--model-path": request.model,
        "--host": "0.0.0.0",
        "--port": port,
        "--launch-backend": "ray",
        "--afd-attn-dp-size": attention["dp_size"],
        "--afd-attn-tp-size": attention["tp_size"],
        "--afd-mlp-dp-size": ffn["dp_size"],
        "--afd-mlp-tp-size": ffn["tp_size"],
        "--afd-mlp-ep-size": ffn["ep_size"],
        "--afd-num-mb": attention["num_mb"],
        # Both count requests of the whole server.
        "--afd-max-running-requests": attention["max_running_requests"],
        "--afd-batch-size": attention["max_running_requests"],
        "--afd-decode-graph-bs": ",".join(map(str, graph_ladder(bundle.batch_size))),
        "--cuda-graph-max-bs": bundle.batch_size,
        "--afd-max-batched-tokens": PREFILL_TOKENS,
        "--afd-moe-a2a-backend": "deepep",
        "--afd-moe-runner-backend": "deep_gemm",
        "--afd-device-comm-num-sms": 4,
        "--page-size": PAGE_SIZE,
        "--memory-ratio": MEMORY_RATIO,
        "--cache-type": "naive",
    }
    if request.max_model_len is not None:
        pairs["--max-seq-len-override"] = request.max_model_len
    environment: dict[str, Word] = {}
    if is_blackwell(request.plan.inputs.get("hardware")):
        pairs["--attention-backend"] = "trtllm"
        environment = {"MINISGL_AFD_MOE_BACKEND": "megamoe_m2n", "MINISGL_MEGAMOE_AG_SMS": "24"}
    if "--afd-model-placement" in target.flags:
        pairs["--afd-model-placement"] = "legacy"
    ray = RAY_PORT + number - 1
    head = (Variable("SERVER_HOST"), f":{ray}")
    words: list[Word] = ["python", "-m", "minisgl"]
    for flag, value in pairs.items():
        words += [flag, str(value)]
    words += ["--ray-address", head, "--control-host", Variable("SERVER_HOST")]
    target.check(flags(words))
    workers = bundle.attention_workers * plan.attention_devices
    workers += bundle.ffn_workers * plan.ffn_devices
    return Role(
        name="server",
        workers=workers,
        devices=1,
        workers_per_node=nodes_of(workers, 1, request.node_devices),
        command=tuple(words),
        prepare=("ray", "start", "--head", f"--port={ray}", "--disable-usage-stats"),
        join=("bash", "-c", JOIN, Variable("SERVER_HOST"), str(ray)),
        environment=environment,
        http=port,
        health="/v1/models",
        ports=(*range(port, port + 7), ray),
    )


def _deployment(request: DeployRequest, target: Target) -> Deployment:
    bundle = request.plan.bundle
    assumed = [
        target.rule,
        "experts are spread over all FFN ranks (full-world expert parallelism); their number must "
        "be divisible by the FFN ranks",
        f"`--memory-ratio {MEMORY_RATIO}`, as in the published run; the plan leaves a tenth of the "
        "memory free",
        f"prompts are computed on the same devices, {PREFILL_TOKENS} tokens a step, which the plan "
        "does not count",
    ]
    if not is_blackwell(request.plan.inputs.get("hardware")):
        assumed.append(
            "the fused path (megamoe_m2n) and trtllm attention are of Blackwell: left out here"
        )
    requests = bundle.requests_per_attention_worker
    return Deployment(
        title=request.split_title,
        bundles=tuple((_role(request, target, k),) for k in range(1, request.plan.bundles + 1)),
        settings=_settings(request),
        start=(
            "Set `SERVER_HOST` in every `bundle-*/cluster.env`: the first host of the bundle.",
            "On each node of a bundle: `bundle-001/server.sh NODE` (NODE = 0, 1, ...). Node 0 "
            "starts Ray and the server, the others join, and give up if there is none after "
            f"{JOIN_SECONDS // 60} minutes; the server waits for their devices.",
            "Send requests to the port in each script, balanced over the bundles.",
        ),
        assumed=tuple(assumed),
        checks=(
            Check(
                where="log of the coordinator, `centralized_scheduler ready`",
                shows=f"global_max_running_req={bundle.attention_workers * requests} "
                f"attn_local_max_running_req={requests}",
                otherwise="the capacity is read otherwise: batches are too small",
            ),
            Check(
                where="logs `attention_dp*`, under load",
                shows=f"afd_ag_decode_graph:replay ... bs={requests} num_mb={bundle.microbatches}",
                otherwise="steps run without their graph, or slots are empty",
            ),
        ),
    )


SERVER_FLAGS = frozenset(
    {
        *("--mode", "--model-path", "--host", "--port", "--launch-backend", "--ray-address"),
        *("--control-host", "--afd-attn-dp-size", "--afd-mlp-dp-size", "--afd-attn-tp-size"),
        *("--afd-mlp-tp-size", "--afd-mlp-ep-size", "--afd-moe-a2a-backend"),
        *("--afd-moe-runner-backend", "--afd-batch-size", "--afd-max-batched-tokens"),
        *("--afd-max-running-requests", "--afd-decode-graph-bs", "--afd-num-mb"),
        *("--afd-device-comm-num-sms", "--attention-backend", "--cache-type"),
        *("--cuda-graph-max-bs", "--max-seq-len-override", "--memory-ratio", "--page-size"),
    }
)
MODELS = frozenset(
    {"llama", "qwen2", "qwen3", "qwen3_moe", "minimax_m2", "glm4_moe", "mistral", "mistral3"}
)
PLACEMENT = "no switch is known; the microbatches of a rank are filled by equal counts"
TARGETS = (
    Target(
        name="fastafd",
        version="3c71619",
        source="FastAFD 3c71619, 2026-08: python/minisgl/server/args.py, models/register.py and "
        "the Qwen3-235B preset",
        pairs=MUTUAL,
        microbatches=(1, 2, 3, 4),
        models=MODELS,
        placement=PLACEMENT,
        flags=SERVER_FLAGS,
        split=_deployment,
    ),
    Target(
        name="fastafd",
        version="fork-393bc98",
        source="linsj20/FastAFD 393bc98: placement of projections",
        pairs=FREE,
        microbatches=(1, 2, 3, 4),
        models=MODELS,
        placement=PLACEMENT,
        flags=SERVER_FLAGS | {"--afd-model-placement"},
        split=_deployment,
    ),
)
