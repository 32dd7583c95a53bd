"""Which `sglang.launch_server` commands start attention hosts in front of a pool of weights?"""

from __future__ import annotations

import math
from typing import Any

from afdplan.deploy.deployment import Check, Deployment, Role
from afdplan.deploy.ladder import graph_ladder
from afdplan.deploy.request import DeployRequest
from afdplan.deploy.servers import independent_role
from afdplan.deploy.sglang import HTTP_PORT, MEMORY_SHARE, decode_check
from afdplan.deploy.target import Target
from afdplan.deploy.words import Variable, Word, flags

__all__ = ["POOL_FLAGS", "pool_deployment"]

POOL_FLAGS = frozenset(
    {
        *("--afd-bootstrap-port", "--afd-max-wait-ms", "--afd-min-batch", "--afd-mode"),
        *("--afd-pool-addr", "--afd-transfer-backend", "--context-length"),
        *("--cuda-graph-bs-decode", "--enable-metrics", "--host", "--max-running-requests"),
        *("--mem-fraction-static", "--model-path", "--port", "--quantization"),
    }
)


def pool_deployment(request: DeployRequest, target: Target) -> Deployment:
    """Return one server per attention worker, and the pool that all of them call.

    The pool departs with ``--afd-min-batch`` calls or after ``--afd-max-wait-ms``, which is the
    plan's boarding rule: a host has one call in flight, and a call waits for a mean step at most.
    """
    plan, workers = request.plan, request.plan.bundle.attention_workers
    requests = plan.bundle.requests_per_attention_worker
    settings: dict[str, dict[str, Any]] = {
        "ffn": {
            "hosts": workers,
            "afd_min_batch": min(plan.least_calls, workers),
            "afd_max_wait_ms": max(math.ceil(plan.step_time_mean * 1e3), 1),
        },
        "attention": {
            "hosts": workers,
            "requests_per_rank": requests,
            # A server decodes one request fewer than this number (SGLang #30294).
            "max_running_requests": requests + 1,
            "cuda_graph_bs_decode": graph_ladder(requests),
        },
    }
    rule, per_node = settings["ffn"], min(workers, request.node_devices)
    shared: list[Word] = ["python", "-m", "sglang.launch_server", "--model-path", request.model]
    shared += ["--host", "0.0.0.0", "--mem-fraction-static", MEMORY_SHARE]
    shared += request.model_words("--context-length")
    bundles = []
    for number in range(1, plan.bundles + 1):
        http = HTTP_PORT + (per_node + 1) * (number - 1)
        every = range(HTTP_PORT, HTTP_PORT + (per_node + 1) * plan.bundles)
        port = request.port_of(number, 1, every)
        pool: list[Word] = [
            *(*shared, "--port", str(http + per_node), "--afd-mode", "pool"),
            *("--afd-bootstrap-port", str(port), "--afd-transfer-backend", "tcp"),
            *("--afd-min-batch", str(rule["afd_min_batch"])),
            *("--afd-max-wait-ms", str(rule["afd_max_wait_ms"])),
        ]
        host: list[Word] = [
            *(*shared, "--enable-metrics", "--afd-mode", "host"),
            *("--afd-pool-addr", (Variable("FFN_HOST"), f":{port}")),
            *("--afd-transfer-backend", "tcp"),
            *("--max-running-requests", str(requests + 1)),
            *("--cuda-graph-bs-decode", *map(str, graph_ladder(requests))),
        ]
        target.check(flags([*pool, *host]))
        bundles.append(
            (
                Role(
                    name="ffn",
                    workers=1,
                    devices=1,
                    workers_per_node=1,
                    command=tuple(pool),
                    listens=port,
                    ports=(port, http + per_node),
                ),
                independent_role(
                    request, "attention", workers=workers, devices=1, words=host, port=http
                ),
            )
        )
    return Deployment(
        title=request.split_title,
        bundles=tuple(bundles),
        settings=settings,
        start=(
            "Set `FFN_HOST` in every `bundle-*/cluster.env`: the pool's address inside.",
            "On the pool's node: `bundle-001/ffn.sh`; wait until it listens.",
            "On each node of the hosts: `bundle-001/attention.sh NODE` (NODE = 0, 1, ...): one "
            "server per device, from the port that the script names upwards.",
            "Send requests to all of these ports of all nodes, balanced by tokens.",
        ),
        assumed=(
            f"{request.node_devices} devices per node, the pool on a node of its own",
            f"host and pool of the fork: {target.rule}; the pool loads the whole model",
            f"a host has one call in flight: the pool leaves with {rule['afd_min_batch']} calls or "
            f"after {rule['afd_max_wait_ms']} ms, a mean step of the plan",
            "prompts are computed on the hosts, which the plan does not count",
            *request.mode_words,
        ),
        checks=(
            decode_check(requests),
            Check(
                where="log of each host, `afd host: N pool call(s)`",
                shows="mean blocked of its last 512 calls well below the FFN time of the plan",
                otherwise="hosts wait for partners: lower --afd-min-batch",
            ),
        ),
    )
