"""Which commands start a plan on vLLM with the AFD plugin?"""

from __future__ import annotations

import json
import shlex

from afdplan.deploy.flags import VLLM_AFD_PLUGIN
from afdplan.deploy.provenance import header, readme, settings_yaml
from afdplan.deploy.request import DeployRequest
from afdplan.errors import InvalidInputError, UnsupportedError

__all__ = ["vllm_files", "vllm_settings"]

DECODE_THRESHOLD = 2
PREFILL_THRESHOLD = 12
HTTP_PORT = 8000
RPC_PORT = 13345
PLACE = "@HOST@"


def vllm_settings(request: DeployRequest) -> dict[str, dict[str, object]]:
    """Return the coupled settings of both roles; the laws that bind them are checked in tests."""
    plan, bundle = request.plan, request.plan.bundle
    requests = bundle.requests_per_attention_worker
    total = bundle.attention_workers * requests
    if total % bundle.ffn_workers:
        raise UnsupportedError(
            f"A m B = {total} requests do not divide among {bundle.ffn_workers} FFN workers"
        )
    roles: dict[str, dict[str, object]] = {}
    sides = (
        ("attention", bundle.attention_workers, plan.attention_devices, requests),
        ("ffn", bundle.ffn_workers, plan.ffn_devices, total // bundle.ffn_workers),
    )
    for role, workers, devices, seqs in sides:
        roles[role] = {
            "data_parallel_size": workers,
            "tensor_parallel_size": devices,
            "ranks": workers * devices,
            "max_num_seqs": seqs,
            "max_num_batched_tokens": seqs,
            "cudagraph_capture_sizes": [seqs],
            "enable_dbo": bundle.microbatches == 2,
            "dbo_decode_token_threshold": DECODE_THRESHOLD,
            "dbo_prefill_token_threshold": PREFILL_THRESHOLD,
            "num_attention_ranks": bundle.attention_workers * plan.attention_devices,
            "num_ffn_ranks": bundle.ffn_workers * plan.ffn_devices,
        }
    return roles


def _afd(role: str, settings: dict[str, object], port: int) -> dict[str, object]:
    return {
        "role": role,
        "connector": "P2pNcclAFDConnector",
        "host": PLACE,
        "port": port,
        "num_attention_ranks": settings["num_attention_ranks"],
        "num_ffn_ranks": settings["num_ffn_ranks"],
    }


def _arguments(role: str, settings: dict[str, object], port: int) -> list[str]:
    """Return what every node of a role passes to `vllm serve`, checked against the allow-list."""
    graph = {
        "cudagraph_mode": "FULL_DECODE_ONLY",
        "cudagraph_capture_sizes": settings["cudagraph_capture_sizes"],
    }
    afd = _afd(role, settings, port)
    arguments = [
        "--data-parallel-size",
        str(settings["data_parallel_size"]),
        "--tensor-parallel-size",
        str(settings["tensor_parallel_size"]),
        "--enable-expert-parallel",
        "--max-num-seqs",
        str(settings["max_num_seqs"]),
        "--max-num-batched-tokens",
        str(settings["max_num_batched_tokens"]),
        "--compilation-config",
        json.dumps(graph, separators=(",", ":")),
    ]
    if settings["enable_dbo"]:
        arguments += [
            "--enable-dbo",
            "--dbo-decode-token-threshold",
            str(settings["dbo_decode_token_threshold"]),
            "--dbo-prefill-token-threshold",
            str(settings["dbo_prefill_token_threshold"]),
        ]
    arguments += ["--additional-config", json.dumps({"afd": afd}, separators=(",", ":"))]
    VLLM_AFD_PLUGIN.check(arguments, afd)
    return arguments


def _script(request: DeployRequest, bundle: int, role: str, settings: dict[str, object]) -> str:
    """Return the launch script of one role of one bundle; its argument is the node, 0, 1, ..."""
    devices = int(str(settings["tensor_parallel_size"]))
    ranks = int(str(settings["data_parallel_size"]))
    per_node = request.node_devices // devices
    if per_node == 0:
        raise InvalidInputError(
            f"a worker of {devices} devices does not fit on a node of {request.node_devices}"
        )
    nodes = -(-ranks // per_node)
    port = _ports(request)[bundle - 1]
    network = [
        "--data-parallel-size-local",
        "--data-parallel-start-rank",
        "--data-parallel-address",
        "--data-parallel-rpc-port",
        "--host",
        "--port",
        "--headless",
    ]
    VLLM_AFD_PLUGIN.check(network)
    http = HTTP_PORT + (role == "ffn")
    rpc = RPC_PORT + 2 * (bundle - 1) + (role == "ffn")
    cases = "".join(
        f"  {node}) start={node * per_node}; local={min(per_node, ranks - node * per_node)} ;;\n"
        for node in range(nodes)
    )
    lines = []
    for argument in _arguments(role, settings, port):
        quoted = shlex.quote(argument)
        # The host is the only variable inside the JSON; cluster.env was checked for its letters.
        quoted = quoted.replace(PLACE, "'\"$FFN_HOST\"'")
        starts = argument.startswith("--")
        lines.append(f" \\\n  {quoted}" if starts else f" {quoted}")
    served = "Requests go to this port." if role == "attention" else "It serves no requests."
    return f"""#!/usr/bin/env bash
{header(request, VLLM_AFD_PLUGIN)}# Bundle {bundle}, {role} role: {ranks} rank(s) of {devices} \
device(s) on {nodes} node(s).
# Usage: {role}.sh NODE   (0 to {nodes - 1}; node 0 is the first host of the role)
set -euo pipefail
folder="$(cd "$(dirname "${{BASH_SOURCE[0]}}")" && pwd)"
source "$folder/cluster.env"
for host in "$FFN_HOST" "$ATTENTION_HOST"; do
  if [[ ! "$host" =~ ^[A-Za-z0-9][A-Za-z0-9.:_-]*$ || "$host" == CHANGE_ME ]]; then
    echo "set FFN_HOST and ATTENTION_HOST in $folder/cluster.env" >&2
    exit 2
  fi
done
node="${{1:-0}}"
case "$node" in
{cases}  *) echo "NODE must be 0 to {nodes - 1}, got $node" >&2; exit 2 ;;
esac
# HTTP port of the role's first node. {served}
network=(--host 0.0.0.0 --port {http})
if (( node > 0 )); then network=(--headless); fi
network+=(
  --data-parallel-size-local "$local"
  --data-parallel-start-rank "$start"
  --data-parallel-address "${role.upper()}_HOST"
  --data-parallel-rpc-port {rpc}
)
export VLLM_USE_V2_MODEL_RUNNER=0
exec vllm serve {shlex.quote(request.model)}{"".join(lines)} \\
  "${{network[@]}}"
"""


def _ports(request: DeployRequest) -> list[int]:
    """Return the rendezvous port of each bundle; ``port + 1 .. port + F`` belong to it too."""
    span = request.plan.bundle.ffn_workers * request.plan.ffn_devices + 1
    ports = [request.port + span * k for k in range(request.plan.bundles)]
    if ports[-1] + span > 65535:
        raise InvalidInputError(
            f"{request.plan.bundles} bundles need {span} ports each from {request.port} on, "
            "beyond 65535: give a lower --port"
        )
    taken = {HTTP_PORT, HTTP_PORT + 1}
    if any(ports[0] <= port < ports[-1] + span for port in taken):
        raise InvalidInputError(
            f"ports {ports[0]} to {ports[-1] + span - 1} would hold the HTTP ports "
            f"{HTTP_PORT} and {HTTP_PORT + 1}: give another --port"
        )
    return ports


def vllm_files(request: DeployRequest) -> dict[str, str]:
    """Return every file of the deployment by name."""
    roles = vllm_settings(request)
    ports = _ports(request)
    files: dict[str, str] = {}
    for bundle in range(1, request.plan.bundles + 1):
        folder = f"bundle-{bundle:03d}"
        for role, settings in roles.items():
            files[f"{folder}/{role}.sh"] = _script(request, bundle, role, settings)
        hosts = {"FFN_HOST": request.host("ffn", bundle)}
        hosts["ATTENTION_HOST"] = request.host("attention", bundle)
        files[f"{folder}/cluster.env"] = (
            header(request, VLLM_AFD_PLUGIN)
            + "# Address of the host with rank 0 of each role, reachable from all nodes.\n"
            + f"# Rendezvous ports {ports[bundle - 1]} to "
            + f"{ports[bundle - 1] + int(str(roles['ffn']['ranks']))} on FFN_HOST must be free.\n"
            + "".join(f"{name}={shlex.quote(host)}\n" for name, host in hosts.items())
        )
    files["settings.yaml"] = settings_yaml(request, VLLM_AFD_PLUGIN, roles)
    steps = f"""1. Set `FFN_HOST` and `ATTENTION_HOST` in every `bundle-*/cluster.env`.
2. On each node of the FFN role: `bundle-001/ffn.sh NODE` (NODE = 0, 1, ...). FFN first.
3. On each node of the attention role: `bundle-001/attention.sh NODE`.
4. Send requests to port {HTTP_PORT} of each `ATTENTION_HOST`, balanced over the bundles.

Both roles must agree on topology, thresholds and graph sizes, or they hang at rendezvous:
change them only by planning again.

"""
    assumed = [
        f"{request.node_devices} devices per node, roles on different nodes",
        "connector P2pNcclAFDConnector: attention ranks are a multiple of FFN ranks",
        "`--max-num-seqs` of a rank covers both microbatches; of an FFN rank it is A S / F",
        "graphs are captured for full batches only; partly filled steps run padded",
    ]
    files["README.md"] = readme(request, VLLM_AFD_PLUGIN, steps, assumed)
    return files
