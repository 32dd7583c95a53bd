"""Which commands start both roles of a split plan on vLLM's AFD plugin?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from afdplan.deploy.connector import Connector
from afdplan.deploy.deployment import Check, Deployment, Role, evenly, nodes_of
from afdplan.deploy.ladder import graph_ladder
from afdplan.deploy.request import DeployRequest
from afdplan.deploy.target import Target
from afdplan.deploy.vllm_serve import (
    DECODE_THRESHOLD,
    HTTP_PORT,
    LOAD_SECONDS,
    PREFILL_THRESHOLD,
    PROMPT_TOKENS,
    RPC_PORT,
    kv_words,
    network_words,
    prompts_assumed,
    running_check,
    serve_words,
)
from afdplan.deploy.words import Word, flags, json_word
from afdplan.errors import UnsupportedError
from afdplan.model import parameters as ask

__all__ = ["DEEPSEEK", "PLUGIN_KEYS", "plugin_deployment"]

PLUGIN_KEYS = frozenset(
    {
        *("role", "connector", "async", "host", "port", "num_attention_ranks", "num_ffn_ranks"),
        *("compute_gate_on_attention", "connector_extra_config"),
    }
)
DEEPSEEK = frozenset(
    # Kimi-K2 names DeepseekV3ForCausalLM in its configuration, DeepSeek-R1 too.
    {"deepseek", "deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "glm_moe_dsa"}
)


def _settings(request: DeployRequest, connector: Connector) -> dict[str, dict[str, Any]]:
    """Return the coupled settings of both roles; the laws that bind them are checked in tests."""
    plan, bundle = request.plan, request.plan.bundle
    requests = bundle.requests_per_attention_worker
    tokens = requests
    if not request.kv_transfer:
        tokens = max(requests, min(PROMPT_TOKENS, connector.most_tokens or PROMPT_TOKENS))
    if connector.most_tokens is not None and tokens > connector.most_tokens:
        raise UnsupportedError(
            f"{connector.name} takes at most {connector.most_tokens} tokens a step, the plan has "
            f"{tokens} requests on an attention worker: plan with --max-batch-size "
            f"{connector.most_tokens // bundle.microbatches}"
        )

    def busiest(size: int) -> int:
        return connector.ffn_size(size, bundle.attention_workers, bundle.ffn_workers)

    def same(size: int) -> int:
        return size

    ladder = graph_ladder(requests)
    sides: dict[str, tuple[int, int, Callable[[int], int]]] = {
        "ffn": (bundle.ffn_workers, plan.ffn_devices, busiest),
        "attention": (bundle.attention_workers, plan.attention_devices, same),
    }
    overlaps = bundle.microbatches == 2 and connector.overlap_pays(requests)
    return {
        role: {
            "data_parallel_size": workers,
            "tensor_parallel_size": devices,
            "ranks": workers * devices,
            "max_num_seqs": sized(requests),
            "max_num_batched_tokens": sized(tokens),
            "cudagraph_capture_sizes": sorted({sized(size) for size in ladder})
            if connector.graphs
            else [],
            "microbatches": 2 if overlaps else 1,
            "enable_dbo": overlaps and connector.dual_batch,
            "dbo_decode_token_threshold": DECODE_THRESHOLD,
            "dbo_prefill_token_threshold": PREFILL_THRESHOLD,
            "num_attention_ranks": bundle.attention_workers * plan.attention_devices,
            "num_ffn_ranks": bundle.ffn_workers * plan.ffn_devices,
        }
        for role, (workers, devices, sized) in sides.items()
    }


def _asks_for_gates(request: DeployRequest) -> bool:
    """Return whether attention ranks are to choose the experts, of a model that lets them."""
    asked = request.plan.inputs.get(ask.ROUTER_SIDE.name)
    return asked == "attention" and request.architecture in DEEPSEEK


def plugin_deployment(request: DeployRequest, target: Target, connector: Connector) -> Deployment:
    """Return both roles of every bundle of a split plan on the plugin."""
    plan = request.plan
    settings = _settings(request, connector)
    span = 1 + connector.ports_per_ffn_rank * plan.bundle.ffn_workers * plan.ffn_devices
    servers = [range(base, base + 2 * plan.bundles) for base in (HTTP_PORT, RPC_PORT)]
    bundles = []
    for number in range(1, plan.bundles + 1):
        port = request.port_of(number, span, *servers)
        roles = []
        for role, values in settings.items():
            workers, devices = values["data_parallel_size"], values["tensor_parallel_size"]
            second = role == "ffn"
            http = HTTP_PORT + 2 * (number - 1) + second
            rpc = RPC_PORT + 2 * (number - 1) + second
            afd: dict[str, Any] = {
                "role": role,
                "connector": connector.name,
                "host": connector.host(),
                "port": port,
                "num_attention_ranks": values["num_attention_ranks"],
                "num_ffn_ranks": values["num_ffn_ranks"],
            }
            if connector.waits:
                afd["afd_process_group_timeout_s"] = LOAD_SECONDS
            words = serve_words(request, values)
            if connector.gates:
                afd |= {"async": connector.barrier_free, "compute_gate_on_attention": True}
            elif connector.may_gate and _asks_for_gates(request):
                afd |= {"compute_gate_on_attention": True}
            if extra := connector.extra(values["microbatches"]):
                afd["connector_extra_config"] = extra
            if connector.barrier_free:
                words += ["--api-server-count", "1"]
            if connector.ubatch_flag and values["enable_dbo"]:
                words += ["--ubatch-size", "2"]
            if connector.all2all:
                words += ["--all2all-backend", connector.all2all]
            words += kv_words(request) if role == "attention" else []
            words += ["--additional-config", json_word({"afd": afd})]
            words += network_words(f"{role.upper()}_HOST", rpc)
            environment: dict[str, Word] = {
                **connector.environment,
                **connector.role_environment.get(role, {}),
            }
            if connector.one_node:
                environment |= _one_node(request, role, settings)
            first: tuple[Word, ...] = ("--host", "0.0.0.0", "--port", str(http))
            target.check(flags([*words, *first, "--headless"]), afd)
            owns = (role == "ffn") != connector.attention_first  # rank 0 of the world is here
            rendezvous = range(port, port + span) if owns else ()
            roles.append(
                Role(
                    name=role,
                    workers=workers,
                    devices=devices,
                    workers_per_node=evenly(
                        workers, nodes_of(workers, devices, request.node_devices)
                    ),
                    command=tuple(words),
                    first=first,
                    others=("--headless",),
                    environment=environment,
                    http=http if role == "attention" else None,
                    listens=port if owns else None,
                    ports=(http, rpc, *rendezvous),
                )
            )
        bundles.append(tuple(roles))
    return Deployment(
        title=request.split_title,
        bundles=tuple(bundles),
        settings=settings,
        forms=("scripts", "compose") if connector.one_node else (),
        start=_start(request, connector),
        assumed=_assumed(request, target, connector),
        checks=(
            *_version_check(target),
            *request.cache_check("GPU KV cache size: {:,} tokens"),
            Check(
                where="log of each attention rank, `non-default args`",
                shows=f"'max_num_seqs': {settings['attention']['max_num_seqs']}",
                otherwise="the rank takes another number of requests than was planned",
            ),
            running_check(plan.bundle.requests_per_attention_worker),
        ),
    )


def _one_node(
    request: DeployRequest, role: str, settings: Mapping[str, Mapping[str, Any]]
) -> dict[str, Word]:
    """Return what lets both roles share a node: its own devices for each.

    Raises
    ------
    UnsupportedError
        If the node has too few.
    """
    count = {name: values["ranks"] for name, values in settings.items()}
    if sum(count.values()) > request.node_devices:
        raise UnsupportedError(
            f"this connector runs a bundle on one node, {sum(count.values())} devices are more "
            f"than its {request.node_devices}: plan with --max-bundle-devices "
            f"{request.node_devices}"
        )
    found: dict[str, Word] = {"NVSHMEM_REMOTE_TRANSPORT": "none"}
    if not request.one_machine:  # a container sees no others
        first = 0 if role == "attention" else count["attention"]
        devices = range(first, first + count[role])
        found[request.device_kind().visible] = ",".join(map(str, devices))
    return found


def _version_check(target: Target) -> tuple[Check, ...]:
    if not target.engine:
        return ()
    return (
        Check(
            where="log of every process",
            shows=f"version {target.engine.removeprefix('vLLM ')}",
            otherwise="the plugin leaves out its patches on another release: start that release",
        ),
    )


def _start(request: DeployRequest, connector: Connector) -> tuple[str, ...]:
    same = " Both are the same node: give the node of a bundle twice." * connector.one_node
    return (
        f"Set `FFN_HOST` and `ATTENTION_HOST` in every `bundle-*/cluster.env`.{same}",
        "On each node of the FFN role: `bundle-001/ffn.sh NODE` (NODE = 0, 1, ...).",
        "On each node of the attention role: `bundle-001/attention.sh NODE`. Start both roles "
        "together: each waits for the other while weights are loaded.",
        "Send requests to the HTTP port that each `attention.sh` names, balanced over the "
        "bundles. FFN engines serve no requests.",
        "If one process ends, start all of the bundle again: the ranks form one world. Both roles "
        "must agree on topology, thresholds and graph sizes, or they hang at rendezvous: change "
        "them only by planning again.",
    )


def _assumed(request: DeployRequest, target: Target, connector: Connector) -> tuple[str, ...]:
    found = [
        f"{request.node_devices} devices per node, "
        + ("both roles of a bundle on one" if connector.one_node else "roles on different nodes"),
        f"connector {connector.name}: {target.rule}",
        "`--max-num-seqs` of a rank covers all its microbatches",
    ]
    if target.engine:
        found.append(
            f"the engine is {target.engine}: on another release the plugin leaves out its patches "
            "with no more than a warning"
        )
    if connector.peers != "all":
        found.append(
            "an FFN rank serves ceil(A / F) attention ranks, its sizes are theirs times that"
        )
    if connector.barrier_free:
        found += request.mode_words
        if request.plan.least_calls > 1:
            found.append(
                f"the plan's best rule waits for {request.plan.least_calls} calls; this connector "
                "takes whatever has arrived and has no switch to wait: expect longer FFN times"
            )
    if not connector.waits:
        found.append(
            "this version waits 120 s for the other role, which cannot be set: where weights load "
            "longer than that apart, take a newer version"
        )
    found += prompts_assumed(request)
    if request.plan.bundle.microbatches == 2:
        requests = request.plan.bundle.requests_per_attention_worker
        if connector.overlap_pays(requests):
            found.append(
                "two microbatches overlap by dual batch, which was measured to lose 7.1 % at 2,048 "
                "tokens a step, 3.7 % at 4,096 and to win 0.5 % at 8,192 (GpuAsync recipe): "
                "compare with `afdplan plan --microbatches 1`"
            )
        else:
            found.append(
                f"the plan has two microbatches, but at {requests:,} tokens a step this connector "
                "was measured to lose by them (7.1 % at 2,048, 3.7 % at 4,096; it wins 0.5 % at "
                "8,192): they are switched off, all requests of a rank are one batch"
            )
    return tuple(found)
