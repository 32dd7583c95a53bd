"""Which command starts a plan on FastAFD?"""

from __future__ import annotations

import shlex

from afdplan.deploy.flags import FASTAFD
from afdplan.deploy.provenance import header, readme, settings_yaml
from afdplan.deploy.request import DeployRequest
from afdplan.errors import InvalidInputError

__all__ = ["fastafd_files", "fastafd_settings"]

SERVER_PORT = 19193
PORTS_PER_SERVER = 10
MAXIMUM_BATCHED_TOKENS = 8192


def fastafd_settings(request: DeployRequest) -> dict[str, dict[str, object]]:
    """Return the coupled settings of both roles; FastAFD takes them in one command."""
    plan, bundle = request.plan, request.plan.bundle
    ranks = bundle.ffn_workers * plan.ffn_devices
    attention: dict[str, object] = {
        "dp_size": bundle.attention_workers,
        "tp_size": plan.attention_devices,
        "max_running_requests": bundle.requests_per_attention_worker,
        "decode_graph_bs": bundle.batch_size,
        "num_mb": bundle.microbatches,
    }
    ffn: dict[str, object] = {
        "dp_size": bundle.ffn_workers,
        "tp_size": plan.ffn_devices,
        "ep_size": ranks,
        "tokens_per_microbatch": bundle.ffn_tokens,
        "num_mb": bundle.microbatches,
    }
    return {"attention": attention, "ffn": ffn}


def _script(request: DeployRequest, bundle: int, roles: dict[str, dict[str, object]]) -> str:
    port = SERVER_PORT + PORTS_PER_SERVER * (bundle - 1)
    if port + PORTS_PER_SERVER > 65535:
        raise InvalidInputError(f"{request.plan.bundles} servers need ports beyond 65535")
    attention, ffn = roles["attention"], roles["ffn"]
    pairs = {
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
        "--afd-max-running-requests": attention["max_running_requests"],
        "--afd-decode-graph-bs": attention["decode_graph_bs"],
        "--cuda-graph-max-bs": attention["decode_graph_bs"],
        "--afd-max-batched-tokens": MAXIMUM_BATCHED_TOKENS,
        "--cache-type": "naive",
    }
    FASTAFD.check([*pairs, "--ray-address"])
    lines = "".join(f" \\\n  {flag} {shlex.quote(str(value))}" for flag, value in pairs.items())
    return f"""#!/usr/bin/env bash
{header(request, FASTAFD)}# Bundle {bundle}: attention and FFN roles are placed by Ray.
# Usage: RAY_ADDRESS=HOST:PORT server.sh   (Ray cluster with {request.plan.devices} free GPUs)
set -euo pipefail
exec python -m minisgl{lines} \\
  --ray-address "${{RAY_ADDRESS:-auto}}"
"""


def fastafd_files(request: DeployRequest) -> dict[str, str]:
    """Return every file of the deployment by name."""
    roles = fastafd_settings(request)
    files = {
        f"bundle-{bundle:03d}/server.sh": _script(request, bundle, roles)
        for bundle in range(1, request.plan.bundles + 1)
    }
    files["settings.yaml"] = settings_yaml(request, FASTAFD, roles)
    steps = """1. Start a Ray cluster over all nodes.
2. On its driver node: `RAY_ADDRESS=HOST:PORT bundle-001/server.sh`, one script per bundle.
3. Send requests to the port in each script, balanced over the bundles.

"""
    assumed = [
        "the numbers of attention and FFN workers divide one another",
        "experts are spread over all FFN ranks (full-world expert parallelism); their number "
        "must be divisible by the FFN ranks",
        "`--afd-max-running-requests` is read as requests per attention rank, all microbatches: "
        "look for the captured graph size (the batch of one microbatch) in the log",
    ]
    files["README.md"] = readme(request, FASTAFD, steps, assumed)
    return files
