"""One script per role, started by hand on each node."""

from __future__ import annotations

import shlex

from afdplan.deploy.deployment import Deployment
from afdplan.deploy.provenance import header
from afdplan.deploy.request import DeployRequest
from afdplan.deploy.target import Target
from afdplan.deploy.templates import role_script

__all__ = ["address_files", "script_files", "shell_files"]


def script_files(request: DeployRequest, target: Target, deployment: Deployment) -> dict[str, str]:
    """Return the script of every role of every bundle."""
    return {
        f"bundle-{number:03d}/{role.name}.sh": role_script(request, target, number, role)
        for number, roles in enumerate(deployment.bundles, 1)
        for role in roles
    }


def address_files(request: DeployRequest, target: Target, deployment: Deployment) -> dict[str, str]:
    """Return the addresses that the scripts of each bundle read."""
    files = {}
    for number, roles in enumerate(deployment.bundles, 1):
        names = sorted({name for role in roles for name in role.hosts})
        if names:
            files[f"bundle-{number:03d}/cluster.env"] = (
                header(request, target)
                + "# Address of the host with rank 0 of each role, reachable from all nodes.\n"
                + "".join(f"{n}={shlex.quote(request.host(n, number))}\n" for n in names)
            )
    return files


def shell_files(
    request: DeployRequest, target: Target, deployment: Deployment
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return scripts and addresses, and how to start them."""
    files = script_files(request, target, deployment)
    return files | address_files(request, target, deployment), deployment.start
