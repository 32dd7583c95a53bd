"""How do servers that know nothing of one another share a node, those for prompts too?"""

from __future__ import annotations

from dataclasses import replace

from afdplan.deploy.deployment import Deployment, Role, nodes_of
from afdplan.deploy.request import DeployRequest
from afdplan.deploy.vllm_serve import RESERVED, kv_words
from afdplan.deploy.words import Variable, Word

__all__ = ["PREFILL_TRANSFER", "independent_role", "with_prefill"]

PREFILL_PORT = 9000
PREFILL_TRANSFER = "NixlConnector"
"""How KV cache goes from prefill to decoding where nobody named a connector."""
SIDE_PORT = 5600
"""Where vLLM's NixlConnector tells what to fetch; a server takes one per device."""
DECODE_SIDE_PORT = 15600
"""Likewise of the ranks that decode: they listen too, perhaps on the same machine."""

# Each server has its devices and port; if one ends, all do. Bash's `wait -n` would not see one that
# ended before it began to wait.
SERVERS = """\
for (( i = 0; i < INSTANCES; i++ )); do
  env "$VISIBLE=$(seq -s, "$(( i * EACH ))" "$(( i * EACH + EACH - 1 ))")" \\
    "$@" --port "$(( FIRST_PORT + i ))" &
done
while (( $(jobs -pr | wc -l) == INSTANCES )); do sleep 1; done
jobs -p | xargs -r kill
exit 1"""
# Nixl tells localhost unless it is told where it runs.
NIXL_SERVERS = """\
: "${VLLM_NIXL_SIDE_CHANNEL_HOST:=$(hostname -I | cut -d' ' -f1)}"
export VLLM_NIXL_SIDE_CHANNEL_HOST
""" + SERVERS.replace(
    "do\n",
    'do\n  export VLLM_NIXL_SIDE_CHANNEL_PORT="$(( FIRST_SIDE_PORT + i * EACH ))"\n',
    1,
)


def independent_role(
    request: DeployRequest,
    name: str,
    *,
    workers: int,
    devices: int,
    words: list[Word],
    port: int,
    side_port: int | None = None,
) -> Role:
    """Return a role of one server per worker, each with devices and a port of its own.

    Parameters
    ----------
    request
        What is deployed.
    name, workers, devices
        Of the role.
    words
        Command of a server, without its port.
    port, side_port
        Of the first server of a node; the second where Nixl tells what to fetch.
    """
    per_node = 1 if request.per_pod else nodes_of(workers, devices, request.node_devices)
    return Role(
        name=name,
        workers=workers,
        devices=devices,
        workers_per_node=per_node,
        command=("bash", "-c", SERVERS if side_port is None else NIXL_SERVERS, name, *words),
        environment={
            "INSTANCES": Variable("local"),
            "EACH": str(devices),
            "FIRST_PORT": str(port),
            "VISIBLE": request.device_kind().visible,
            **({} if side_port is None else {"FIRST_SIDE_PORT": str(side_port)}),
        },
        http=port,
        ports=tuple(range(port, port + per_node)),
        is_independent=True,
    )


def with_prefill(request: DeployRequest, deployment: Deployment) -> Deployment:
    """Return a deployment with the plan's prefill servers, shared out over its bundles."""
    plan, connector = request.plan, request.kv_transfer
    return replace(
        deployment,
        bundles=tuple(
            (*(_fetches(role, number) for role in roles), *_prefill_role(request, number))
            for number, roles in enumerate(deployment.bundles, 1)
        ),
        settings={
            **deployment.settings,
            "prefill": {
                "servers": plan.prefill_workers,
                "tensor_parallel_size": plan.prefill_devices,
            },
        },
        start=(
            *deployment.start,
            "On each node of prefill: `bundle-001/prefill.sh NODE`, servers from the port that it "
            "names upwards. A router sends every prompt to one of them first (llm-d, Dynamo, or "
            f"the proxy of {connector}).",
        ),
        assumed=(
            *deployment.assumed,
            f"prompts are computed by the plan's {plan.prefill_workers} prefill servers of "
            f"{plan.prefill_devices} device(s) and come in through {connector}",
        ),
    )


def _fetches(role: Role, bundle: int) -> Role:
    """Return a role of bundle 1, 2, ... with ports of its own for the cache that comes in."""
    if role.http is None:
        return role
    ranks = role.workers * role.devices
    port = DECODE_SIDE_PORT + ranks * (bundle - 1)
    return replace(
        role,
        environment={**role.environment, "VLLM_NIXL_SIDE_CHANNEL_PORT": str(port)},
        ports=(*role.ports, *range(port, port + ranks)),
    )


def _prefill_role(request: DeployRequest, bundle: int) -> tuple[Role, ...]:
    """Return the prefill servers of bundle 1, 2, ...: its share of the plan's, if there are any."""
    plan = request.plan
    share, left = divmod(plan.prefill_workers, request.bundles)
    workers = share + (bundle <= left)
    if workers == 0:
        return ()
    words: list[Word] = [
        *("vllm", "serve", request.model, "--host", "0.0.0.0"),
        *("--tensor-parallel-size", str(plan.prefill_devices)),
        *("--gpu-memory-utilization", f"{1 - RESERVED:g}"),
        *kv_words(request, "kv_producer"),
    ]
    if plan.prefill_chunk is not None:
        words += ["--max-num-batched-tokens", str(plan.prefill_chunk)]
    words += request.model_words("--max-model-len")
    stride = request.node_devices * (bundle - 1)
    role = independent_role(
        request,
        "prefill",
        workers=workers,
        devices=plan.prefill_devices,
        words=words,
        port=PREFILL_PORT + stride,
        side_port=SIDE_PORT + stride,
    )
    side = range(SIDE_PORT + stride, SIDE_PORT + stride + role.workers_per_node * role.devices)
    return (replace(role, ports=(*role.ports, *side)),)
