"""Which `vllm serve` commands start data-parallel ranks, with or without the AFD plugin?"""

from __future__ import annotations

from typing import Any

from afdplan.deploy.deployment import Check, Deployment
from afdplan.deploy.ladder import graph_ladder
from afdplan.deploy.request import DeployRequest
from afdplan.deploy.target import Target
from afdplan.deploy.unsplit import group_deployment, plan_of
from afdplan.deploy.words import Variable, Word, json_word

__all__ = [
    "PLACEMENT",
    "SERVE_FLAGS",
    "group_of_ranks",
    "kv_words",
    "network_words",
    "prompts_assumed",
    "running_check",
    "serve_words",
]

DECODE_THRESHOLD = 2
PREFILL_THRESHOLD = 12
HTTP_PORT = 8000
RPC_PORT = 13345
LOAD_SECONDS = 7200
"""What the plugin's own test of Qwen3-235B waits for the other role and the first batch."""
PROMPT_TOKENS = 2048
"""Tokens of a step where prompts are computed on the same devices: vLLM's smallest default."""
RESERVED = 0.1
"""Share of the memory that plans leave free, as vLLM does."""

PLACEMENT = (
    "vLLM balances the number of requests of its ranks, not their tokens (vllm #40795 is open): no "
    "switch. A router before the ranks can: Dynamo with --router-mode kv, "
    "--router-kv-overlap-score-weight 0 (from 1.2 on --router-kv-overlap-score-credit 0), "
    "--router-temperature 0.5, --no-kv-events and DYN_ROUTER_LOAD_BLOCK_SIZE=1, or llm-d with its "
    "kv-cache-utilization-scorer. Nothing balances the microbatches of a rank"
)
SERVE_FLAGS = frozenset(
    {
        *("--all2all-backend", "--additional-config", "--api-server-count"),
        *("--compilation-config", "--cpu-distributed-timeout-seconds"),
        *("--data-parallel-address", "--data-parallel-rpc-port", "--data-parallel-size"),
        *("--data-parallel-size-local", "--data-parallel-start-rank"),
        *("--dbo-decode-token-threshold", "--dbo-prefill-token-threshold", "--enable-dbo"),
        *("--enable-expert-parallel", "--enforce-eager", "--gpu-memory-utilization"),
        *("--headless", "--host", "--kv-transfer-config", "--max-cudagraph-capture-size"),
        *("--max-model-len", "--max-num-batched-tokens", "--max-num-seqs", "--port"),
        *("--quantization", "--tensor-parallel-size", "--ubatch-size"),
    }
)
"""Flags of `vllm serve` that are emitted; all are in the parser of vLLM 0.26.0."""


def serve_words(request: DeployRequest, settings: dict[str, Any]) -> list[Word]:
    """Return `vllm serve` with what every use of it shares."""
    words: list[Word] = [
        *("vllm", "serve", request.model),
        *("--data-parallel-size", str(settings["data_parallel_size"])),
        *("--tensor-parallel-size", str(settings["tensor_parallel_size"])),
        "--enable-expert-parallel",
        *("--max-num-seqs", str(settings["max_num_seqs"])),
        *("--max-num-batched-tokens", str(settings["max_num_batched_tokens"])),
        *("--gpu-memory-utilization", f"{1 - RESERVED:g}"),
        *("--cpu-distributed-timeout-seconds", str(LOAD_SECONDS)),
    ]
    sizes = settings["cudagraph_capture_sizes"]
    if sizes:
        graph = {"cudagraph_mode": "FULL_DECODE_ONLY", "cudagraph_capture_sizes": sizes}
        words += ["--max-cudagraph-capture-size", str(sizes[-1])]
        words += ["--compilation-config", json_word(graph)]
    else:
        words.append("--enforce-eager")
    if settings["enable_dbo"]:
        for name in ("decode", "prefill"):
            threshold = str(settings[f"dbo_{name}_token_threshold"])
            words += [f"--dbo-{name}-token-threshold", threshold]
        words.append("--enable-dbo")
    return words + request.model_words("--max-model-len")


def network_words(host: str, rpc: int) -> list[Word]:
    """Return what tells the ranks of a role where their own rank 0 is."""
    return [
        *("--data-parallel-size-local", Variable("local")),
        *("--data-parallel-start-rank", Variable("start")),
        *("--data-parallel-address", Variable(host)),
        *("--data-parallel-rpc-port", str(rpc)),
    ]


def kv_words(request: DeployRequest, role: str = "kv_consumer") -> list[Word]:
    """Return what lets prompts come in that were computed elsewhere, or go there."""
    if request.kv_transfer is None:
        return []
    kv = {"kv_connector": request.kv_transfer, "kv_role": role}
    return ["--kv-transfer-config", json_word(kv)]


def running_check(requests: int) -> Check:
    """Return the check that every slot of a rank is busy."""
    return Check(
        where="`/metrics` of each HTTP server, under load",
        shows=f"vllm:num_requests_running {requests} for every engine",
        otherwise="slots are empty: too few requests come in, or the cache holds fewer",
    )


def prompts_assumed(request: DeployRequest) -> list[str]:
    """Return what is assumed about routing, prompts and the longest request."""
    found = [
        "vLLM balances requests by their number; in front of it Dynamo's router balances tokens: "
        "`--router-mode kv --router-kv-overlap-score-weight 0 --router-temperature 0.5 "
        "--no-kv-events` with `DYN_ROUTER_LOAD_BLOCK_SIZE=1`"
    ]
    if request.kv_transfer is None:
        found.append(
            f"prompts are computed on the same devices, up to {PROMPT_TOKENS} tokens a step, which "
            "the plan does not count: with --kv-transfer they come from elsewhere"
        )
    if request.max_model_len is None:
        found.append(
            "the longest request is the model's own: give --max-model-len if the KV cache of a "
            "rank is smaller than one such request, or the engine refuses to start"
        )
    return found


def group_of_ranks(request: DeployRequest, target: Target) -> Deployment:
    """Return data-parallel ranks with experts over all of them: the plan without a split."""
    plan = plan_of(request)
    requests = plan.requests_per_rank
    wide = plan.ranks * plan.devices_per_rank > request.node_devices
    # Dual batch hides transfers of DeepEP only, which also pays between nodes.
    backend = "deepep_low_latency" if plan.two_batch_overlap or wide else "allgather_reducescatter"
    settings = {
        "data_parallel_size": plan.ranks,
        "tensor_parallel_size": plan.devices_per_rank,
        "max_num_seqs": requests,
        "max_num_batched_tokens": requests if request.kv_transfer else max(requests, PROMPT_TOKENS),
        "cudagraph_capture_sizes": graph_ladder(requests),
        "enable_dbo": plan.two_batch_overlap,
        "dbo_decode_token_threshold": DECODE_THRESHOLD,
        "dbo_prefill_token_threshold": PREFILL_THRESHOLD,
        "all2all_backend": backend,
    }

    def words(number: int, _: int) -> tuple[list[Word], tuple[Word, ...]]:
        http, rpc = ports(number)
        command = serve_words(request, settings)
        command += ["--all2all-backend", backend]
        command += kv_words(request)
        command += network_words("SERVER_HOST", rpc)
        return command, ("--host", "0.0.0.0", "--port", str(http))

    def ports(number: int) -> tuple[int, int]:
        return HTTP_PORT + 2 * (number - 1), RPC_PORT + 2 * (number - 1)

    return group_deployment(
        request,
        target,
        settings=settings,
        words=words,
        others=("--headless",),
        ports=ports,
        assumed=(
            f"{request.node_devices} devices per node",
            f"transfers by {backend}",
            *prompts_assumed(request),
        ),
        checks=(
            Check(
                where="log of each rank, `non-default args`",
                shows=f"'max_num_seqs': {requests}",
                otherwise="the rank takes another number of requests than was planned",
            ),
            running_check(requests),
        ),
    )
