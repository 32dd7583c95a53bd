"""Which `sglang.launch_server` commands start a plan, with lanes and without a split?"""

from __future__ import annotations

from typing import Any

from afdplan.deploy.deployment import Check, Deployment, Role, nodes_of
from afdplan.deploy.devices import is_blackwell
from afdplan.deploy.ladder import graph_ladder
from afdplan.deploy.request import DeployRequest
from afdplan.deploy.target import Target
from afdplan.deploy.unsplit import group_deployment, plan_of
from afdplan.deploy.words import Variable, Word, flags, json_word
from afdplan.errors import UnsupportedError

__all__ = [
    "HTTP_PORT",
    "MEMORY_SHARE",
    "SERVER_FLAGS",
    "decode_check",
    "group_of_ranks",
    "lane_deployment",
    "spreads",
]

HTTP_PORT = 30000
INIT_PORT = 20000
DERIVED_PORTS = 6
"""Ports that a server takes behind that of --dist-init-addr, and one more per rank."""
LOAD_SECONDS = 7200
MOST_NODES = 8
MEMORY_SHARE = "0.9"


def spreads(ranks: Any, per_node: int = 8) -> Any:
    """Return whether ranks can be shared evenly by nodes of at most `per_node`, elementwise.

    Examples
    --------
    >>> [spreads(ranks) for ranks in (8, 12, 13, 72)]
    [True, True, False, False]
    """
    nodes = -(-ranks // per_node)
    return (ranks % nodes == 0) & (nodes <= MOST_NODES)


SERVER_FLAGS = frozenset(
    {
        *("--afd-config", "--afd-execution-mode", "--attention-backend", "--context-length"),
        *("--cuda-graph-backend-decode", "--cuda-graph-backend-prefill"),
        *("--cuda-graph-bs-decode", "--dist-init-addr", "--deepep-mode", "--dp-size"),
        *("--enable-dp-attention", "--enable-dp-lm-head", "--enable-metrics"),
        *("--enable-two-batch-overlap", "--ep-size", "--host", "--load-balance-method"),
        *("--max-running-requests", "--mem-fraction-static", "--model-path"),
        *("--moe-a2a-backend", "--nnodes", "--node-rank", "--port", "--quantization"),
        *("--tp-size",),
    }
)


def _init_ports(ranks: int, place: int) -> range:
    """Return the ports of server 0, 1, ... of a size: --dist-init-addr, and what comes from it."""
    span = 1 + DERIVED_PORTS + ranks
    first = INIT_PORT + place % ((HTTP_PORT - INIT_PORT) // span) * span
    return range(first, first + span)


def _settings(request: DeployRequest) -> dict[str, dict[str, Any]]:
    plan, bundle = request.plan, request.plan.bundle
    lanes = bundle.ffn_workers * plan.ffn_devices
    requests, workers = bundle.requests_per_attention_worker, bundle.attention_workers
    shared = {
        "lanes": lanes,
        "attention_lanes": workers,
        "stages": bundle.microbatches,
        # A rank decodes one request fewer than its share of this number (SGLang #30294).
        "max_running_requests": workers * (requests + 1),
        "cuda_graph_bs_decode": graph_ladder(requests),
    }
    return {
        "ffn": {"tp_size": lanes, "dp_size": 1, "ep_size": lanes, **shared},
        "attention": {
            "tp_size": workers,
            "dp_size": workers,
            "ep_size": 1,
            "requests_per_rank": requests,
            **shared,
        },
    }


def server_words(request: DeployRequest, settings: dict[str, Any], nodes: int) -> list[Word]:
    """Return the server's command with what every use of it shares."""
    words: list[Word] = [
        *("python", "-m", "sglang.launch_server", "--model-path", request.model),
        *("--tp-size", str(settings["tp_size"]), "--dp-size", str(settings["dp_size"])),
        *("--ep-size", str(settings["ep_size"])),
        *("--max-running-requests", str(settings["max_running_requests"])),
        *("--mem-fraction-static", MEMORY_SHARE),
        *("--nnodes", str(nodes), "--node-rank", Variable("node")),
        *("--cuda-graph-bs-decode", *map(str, settings["cuda_graph_bs_decode"])),
    ]
    if settings["dp_size"] > 1:
        # Requests go where the fewest tokens are: what the barrier waits for.
        words += ["--enable-dp-attention", "--load-balance-method", "total_tokens"]
    return words + request.model_words("--context-length")


def lane_deployment(request: DeployRequest, target: Target) -> Deployment:
    """Return both roles of every bundle of a split plan on lanes."""
    plan, settings = request.plan, _settings(request)
    # Each profile admits its own backends: nsa for GLM-5, fa3 or fa4 for Qwen3 MoE.
    backend = "fa4" if is_blackwell(request.plan.inputs.get("hardware")) else "fa3"
    if request.architecture == "glm_moe_dsa":
        backend = "nsa"
    lanes = settings["ffn"]["lanes"]
    bundles = []
    for number in range(1, plan.bundles + 1):
        rendezvous = request.port_of(
            number, lanes + 2, range(INIT_PORT, HTTP_PORT + 2 * plan.bundles)
        )
        config = {
            "stages": plan.bundle.microbatches,
            "lanes": lanes,
            "attention_lanes": plan.bundle.attention_workers,
            "attention_backend": backend,
            "rendezvous_host": Variable("FFN_HOST"),
            "rendezvous_port": rendezvous,
            "rendezvous_timeout_seconds": LOAD_SECONDS,
        }
        roles = []
        for role, values in settings.items():
            second = role == "ffn"
            http = HTTP_PORT + 2 * (number - 1) + second
            init = _init_ports(plan.bundle.attention_workers, 2 * (number - 1) + second)
            per_node = nodes_of(values["tp_size"], 1, request.node_devices)
            nodes = -(-values["tp_size"] // per_node)
            if not spreads(values["tp_size"], per_node):
                raise UnsupportedError(
                    f"{target.name} spreads the {values['tp_size']} {role} ranks evenly over at "
                    f"most {MOST_NODES} nodes, {request.node_devices} devices a node do not allow "
                    "it: give another --node-devices"
                )
            words = [
                *server_words(request, values, nodes),
                *("--dist-init-addr", (Variable(f"{role.upper()}_HOST"), f":{init.start}")),
                *("--cuda-graph-backend-prefill", "disabled"),
                *("--cuda-graph-backend-decode", "full"),
                *("--moe-a2a-backend", "none", "--attention-backend", backend),
                *("--afd-execution-mode", role, "--afd-config", json_word(config)),
            ]
            first: tuple[Word, ...] = ("--port", str(http))
            if role == "attention":
                first = ("--host", "0.0.0.0", *first, "--enable-metrics")
            target.check(flags([*words, *first]), config)
            own = range(rendezvous, rendezvous + lanes + 2) if second else ()
            roles.append(
                Role(
                    name=role,
                    workers=values["tp_size"],
                    devices=1,
                    workers_per_node=values["tp_size"] // nodes,
                    command=tuple(words),
                    first=first,
                    http=None if second else http,
                    listens=rendezvous if second else None,
                    ports=(http, *init, *own),
                )
            )
        bundles.append(tuple(roles))
    requests = plan.bundle.requests_per_attention_worker
    return Deployment(
        title=request.split_title,
        bundles=tuple(bundles),
        settings=settings,
        start=(
            "Set `FFN_HOST` and `ATTENTION_HOST` in every `bundle-*/cluster.env`.",
            "On each node of the FFN role: `bundle-001/ffn.sh NODE` (NODE = 0, 1, ...).",
            "On each node of the attention role: `bundle-001/attention.sh NODE`, at the same time.",
            "Send requests to the HTTP port that each `attention.sh` names, balanced over the "
            "bundles.",
        ),
        assumed=(
            f"{request.node_devices} devices per node, roles on different nodes",
            f"lanes of srt/afd: {target.rule}",
            "prompts are computed on the same devices, which the plan does not count",
            "requests are spread by tokens (`--load-balance-method total_tokens`)",
            f"`--mem-fraction-static {MEMORY_SHARE}`: the plan leaves a tenth of the memory free",
        ),
        checks=(
            *request.cache_check("max_total_num_tokens={}"),
            decode_check(requests),
            Check(
                where="logs of both roles, `AFD_GRAPH_USAGE_SNAPSHOT`",
                shows='"typed_eager_failures": 0 and "overflow_eager": 0, "replays" growing',
                otherwise="steps run without their graphs",
            ),
        ),
    )


def decode_check(requests: int) -> Check:
    """Return the check that every slot of a rank is busy."""
    return Check(
        where="log of each attention rank, `Decode batch`, under load",
        shows=f"#running-req: {requests}",
        otherwise="slots are empty: too few requests come in, or the cache holds fewer",
    )


def group_of_ranks(request: DeployRequest, target: Target) -> Deployment:
    """Return data-parallel attention with experts over all ranks: the plan without a split."""
    plan = plan_of(request)
    devices = plan.ranks * plan.devices_per_rank
    nodes = -(-plan.ranks // nodes_of(plan.ranks, plan.devices_per_rank, request.node_devices))
    if plan.ranks % nodes:
        raise UnsupportedError(
            f"{target.name} spreads {plan.ranks} ranks evenly over its nodes, {nodes} nodes of "
            f"{request.node_devices} devices do not allow it: give another --node-devices"
        )
    settings = {
        "tp_size": devices,
        "dp_size": plan.ranks,
        "ep_size": devices,
        "requests_per_rank": plan.requests_per_rank,
        "max_running_requests": plan.ranks * (plan.requests_per_rank + 1),
        "cuda_graph_bs_decode": graph_ladder(plan.requests_per_rank),
        "enable_two_batch_overlap": plan.two_batch_overlap,
    }

    def words(number: int, nodes: int) -> tuple[list[Word], tuple[Word, ...]]:
        http, init = ports(number)[:2]
        command = server_words(request, settings, nodes)
        command += ["--dist-init-addr", (Variable("SERVER_HOST"), f":{init}")]
        command += ["--moe-a2a-backend", "deepep", "--deepep-mode", "auto"]
        if plan.ranks > 1:
            command.append("--enable-dp-lm-head")
        if plan.two_batch_overlap:
            command.append("--enable-two-batch-overlap")
        return command, ("--host", "0.0.0.0", "--port", str(http), "--enable-metrics")

    def ports(number: int) -> tuple[int, ...]:
        return HTTP_PORT + 2 * (number - 1), *_init_ports(plan.ranks, number - 1)

    return group_deployment(
        request,
        target,
        settings=settings,
        words=words,
        others=(),
        ports=ports,
        assumed=(
            f"{request.node_devices} devices per node",
            "prompts are computed on the same devices, which the plan does not count",
            "requests are spread by tokens (`--load-balance-method total_tokens`)",
        ),
        checks=(decode_check(plan.requests_per_rank),),
    )
