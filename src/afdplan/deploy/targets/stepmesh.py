"""StepMesh: the environment of each process; the engine on top is the reader's own."""

from __future__ import annotations

from typing import Any

from afdplan.deploy.deployment import Deployment, Role, nodes_of
from afdplan.deploy.pairs import PairRule
from afdplan.deploy.request import DeployRequest
from afdplan.deploy.target import Target
from afdplan.deploy.words import Variable, Word

__all__ = ["TARGETS"]

# One process per device; instance k is DMLC_NODE_RANK k. The scheduler lives with FFN instance 0.
# If one fails, all end: the others would wait for it for ever.
PROCESSES = """\
processes=()
start() {
  env "$@" bash -c "$STEPMESH_COMMAND" &
  processes+=("$!")
}
if [ "$DMLC_ROLE" = server ] && [ "$FIRST_INSTANCE" -eq 0 ]; then
  start DMLC_ROLE=scheduler
fi
for (( i = 0; i < INSTANCES; i++ )); do
  for (( gpu = 0; gpu < DMLC_GROUP_SIZE; gpu++ )); do
    start "DMLC_NODE_RANK=$(( FIRST_INSTANCE + i ))" "STEPMESH_GPU=$(( i * DMLC_GROUP_SIZE + gpu ))"
  done
done
while (( ${#processes[@]} )); do
  sleep 1
  for i in "${!processes[@]}"; do
    if kill -0 "${processes[i]}" 2>/dev/null; then continue; fi
    wait "${processes[i]}" || { code=$?; kill "${processes[@]}" 2>/dev/null; exit "$code"; }
    unset "processes[i]"
  done
done"""


def _deployment(request: DeployRequest, target: Target) -> Deployment:
    plan, bundle = request.plan, request.plan.bundle
    common: dict[str, Word] = {
        "DMLC_NUM_WORKER": str(bundle.attention_workers),
        "DMLC_NUM_SERVER": str(bundle.ffn_workers),
        "DMLC_GROUP_SIZE": str(plan.attention_devices),
        "DMLC_ENABLE_RDMA": "ibverbs",
        "DMLC_INTERFACE": "auto",
    }
    peers = -(-bundle.attention_workers // bundle.ffn_workers)
    settings: dict[str, dict[str, Any]] = {
        role: {
            "dmlc_role": name,
            "instances": workers,
            "group_size": plan.attention_devices,
            "batch_size": bundle.batch_size,
            "microbatches": bundle.microbatches,
            "tokens_per_microbatch": bundle.batch_size * factor,
        }
        for role, name, workers, factor in (
            ("ffn", "server", bundle.ffn_workers, peers),
            ("attention", "worker", bundle.attention_workers, 1),
        )
    }
    bundles = []
    for number in range(1, plan.bundles + 1):
        port = request.port_of(number, 1)
        bundles.append(
            tuple(
                Role(
                    name=role,
                    workers=values["instances"],
                    devices=plan.attention_devices,
                    workers_per_node=nodes_of(
                        values["instances"], plan.attention_devices, request.node_devices
                    ),
                    command=("bash", "-c", PROCESSES),
                    environment={
                        **common,
                        "DMLC_ROLE": values["dmlc_role"],
                        "DMLC_PS_ROOT_URI": Variable("FFN_HOST"),
                        "DMLC_PS_ROOT_PORT": str(port),
                        "FIRST_INSTANCE": Variable("start"),
                        "INSTANCES": Variable("local"),
                        "MODEL": request.model,
                        "STEPMESH_COMMAND": Variable("STEPMESH_COMMAND"),
                    },
                    listens=port if role == "ffn" else None,
                    ports=(port,) if role == "ffn" else (),
                )
                for role, values in settings.items()
            )
        )
    return Deployment(
        title=request.split_title,
        bundles=tuple(bundles),
        settings=settings,
        start=(
            "Set `FFN_HOST` in every `bundle-*/cluster.env`, and in the environment "
            "`STEPMESH_COMMAND`: the program that every process runs; it finds its role, its "
            "device and `MODEL` in the environment.",
            "On each node of the FFN role: `bundle-001/ffn.sh NODE` (NODE = 0, 1, ...). Node 0 "
            "also runs the scheduler.",
            "On each node of the attention role: `bundle-001/attention.sh NODE`.",
        ),
        assumed=(
            "StepMesh is a library: batch and microbatches are settings of the engine that uses "
            "it, see settings.yaml",
            f"an instance is one worker; {target.rule}",
        ),
    )


TARGETS = (
    Target(
        name="stepmesh",
        version="740ac12",
        source="StepMesh 740ac12 (Step-3): test scripts, variables DMLC_* and STEPMESH_GPU",
        pairs=PairRule(
            words="workers of both sides must have the same number of devices",
            test=lambda a, f, da, df: (a >= 1) & (f >= 1) & (da == df),
        ),
        microbatches=(3,),
        placement="requests are placed by your engine: StepMesh moves tensors only",
        split=_deployment,
    ),
)
