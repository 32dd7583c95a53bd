"""All bundles on one machine, by Docker Compose."""

from __future__ import annotations

from typing import Any

from afdplan.deploy.deployment import Deployment
from afdplan.deploy.devices import DeviceKind
from afdplan.deploy.formats.shell import address_files, script_files
from afdplan.deploy.provenance import header, to_yaml
from afdplan.deploy.request import DeployRequest
from afdplan.deploy.target import Target
from afdplan.errors import UnsupportedError

__all__ = ["compose_files"]


def compose_files(
    request: DeployRequest, target: Target, deployment: Deployment
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return scripts and compose.yaml, and how to start them.

    Raises
    ------
    UnsupportedError
        If the deployment does not fit on one machine, or two processes would take one port.
    """
    needed = sum(role.workers * role.devices for roles in deployment.bundles for role in roles)
    if needed > request.node_devices:
        raise UnsupportedError(
            f"compose runs on one machine of {request.node_devices} devices, the plan needs "
            f"{needed}: take another --format"
        )
    kind, image = request.device_kind(), request.needed_image()
    services: dict[str, Any] = {}
    first = 0
    for number, roles in enumerate(deployment.bundles, 1):
        for role in roles:
            count = role.workers * role.devices
            devices = range(first, first + count)
            first += count
            services[f"bundle-{number:03d}-{role.name}"] = {
                "image": image,
                "entrypoint": ["bash", f"/afdplan/{role.name}.sh", "0"],
                "network_mode": "host",
                "ipc": "host",
                "restart": "no",
                "volumes": [f"./bundle-{number:03d}:/afdplan:ro"],
                **_devices(kind, devices),
            }
            if role.asks:  # from the shell that starts it; Compose stops where it has none
                own = services[f"bundle-{number:03d}-{role.name}"].setdefault("environment", {})
                own |= {name: f"${{{name}:?set it}}" for name in role.asks}
    taken = [p for roles in deployment.bundles for role in roles for p in role.ports]
    twice = sorted({port for port in taken if taken.count(port) > 1})
    if twice:
        raise UnsupportedError(
            f"two bundles on one machine would take port {twice[0]}: take another --format"
        )
    files = script_files(request, target, deployment)
    files |= address_files(request, target, deployment)
    files["compose.yaml"] = header(request, target) + to_yaml(
        {"name": "afdplan", "services": services}
    )
    return files, (
        "`docker compose up` here; mount your model with a compose.override.yaml if it is a path.",
        "If one container ends, `docker compose down` and start again: the ranks form one world.",
        "Send requests to the HTTP ports that the scripts name.",
    )


def _devices(kind: DeviceKind, devices: range) -> dict[str, Any]:
    ids = [str(device) for device in devices]
    if kind.name == "nvidia":
        claim = {"driver": "nvidia", "device_ids": ids, "capabilities": ["gpu"]}
        return {"deploy": {"resources": {"reservations": {"devices": [claim]}}}}
    nodes = ["/dev/kfd", "/dev/dri"]
    if kind.name == "ascend":
        nodes = [f"/dev/davinci{device}" for device in devices]
        nodes += ["/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc"]
    shown = [str(k) for k in range(len(ids))] if kind.name == "ascend" else ids
    return {"devices": nodes, "environment": {kind.visible: ",".join(shown)}}
