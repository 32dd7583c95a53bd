"""LeaderWorkerSets: one DisaggregatedSet per bundle, its roles started and replaced together."""

from __future__ import annotations

import re
from typing import Any

from afdplan.deploy.deployment import Deployment, Role
from afdplan.deploy.formats.shell import script_files
from afdplan.deploy.provenance import header, to_yaml
from afdplan.deploy.request import DeployRequest
from afdplan.deploy.target import Target
from afdplan.version import __version__

__all__ = ["kubernetes_files"]

LOAD_SECONDS = 7200
PERIOD = 10
INDEX_LABEL = "leaderworkerset.sigs.k8s.io/worker-index"
"""Set on every pod by LeaderWorkerSet: the node of the role."""
RECREATE = "RecreateGroupOnPodRestart"


VERSIONS = {
    "ConfigMap": "v1",
    "Service": "v1",
    "LeaderWorkerSet": "leaderworkerset.x-k8s.io/v1",
    "DisaggregatedSet": "disaggregatedset.x-k8s.io/v1",
}
"""Of the kinds of objects that are written."""


def kubernetes_files(
    request: DeployRequest, target: Target, deployment: Deployment
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the objects of every bundle, ready for kustomize, and how to start them."""
    scripts = script_files(request, target, deployment)
    files: dict[str, str] = {}
    for number, roles in enumerate(deployment.bundles, 1):
        folder = f"bundle-{number:03d}"
        own = {f"{role.name}.sh": scripts[f"{folder}/{role.name}.sh"] for role in roles}
        files[f"{folder}.yaml"] = header(request, target) + to_yaml(
            *_bundle(request, target, number, roles, own)
        )
    files["kustomization.yaml"] = header(request, target) + to_yaml(
        {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": sorted(files),
        }
    )
    asked = sorted({name for roles in deployment.bundles for role in roles for name in role.asks})
    return files, (
        *(f"Set `{name}` in the environment of every container, by a patch." for name in asked),
        "Install LeaderWorkerSet v0.9 or newer, with DisaggregatedSet.",
        "`kubectl apply -k .`; namespace, model volume, secrets, RDMA resources and node selectors "
        "by a kustomization on top.",
        "Send requests to the Services `afdplan-*-http`, balanced over the bundles. FFN engines "
        "serve no HTTP.",
        "If a pod restarts, its role's group is recreated. The roles of a bundle form one world: "
        "delete the other role's pods too if they do not end by themselves.",
    )


def _object(kind: str, metadata: dict[str, Any], **content: Any) -> dict[str, Any]:
    return {"apiVersion": VERSIONS[kind], "kind": kind, "metadata": metadata, **content}


def _label(text: str) -> str:
    """Return the text as a label's value."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)[:63].strip("._-") or "unknown"


def _bundle(
    request: DeployRequest,
    target: Target,
    number: int,
    roles: tuple[Role, ...],
    scripts: dict[str, str],
) -> list[dict[str, Any]]:
    name = f"afdplan-{number:03d}"
    labels = {
        "app.kubernetes.io/name": target.name,
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/part-of": "afdplan",
        "app.kubernetes.io/managed-by": "afdplan",
        "afdplan/version": _label(__version__),
        "afdplan/target-version": _label(target.version),
    }
    if request.plan_digest:
        labels["afdplan/plan"] = _label(request.plan_digest)

    def meta(suffix: str, **more: str) -> dict[str, Any]:
        return {"name": f"{name}{suffix}", "labels": labels | more}

    objects = [_object("ConfigMap", meta("-scripts"), data=scripts)]
    templates = {}
    for role in roles:
        own = {"afdplan/role": role.name}
        selector = {"app.kubernetes.io/instance": name, **own, INDEX_LABEL: "0"}
        if role.ports:
            spec = {
                # Ranks look for one another before any is ready.
                "clusterIP": "None",
                "publishNotReadyAddresses": True,
                "selector": selector,
                "ports": [{"name": f"p{port}", "port": port} for port in role.ports[:100]],
            }
            objects.append(_object("Service", meta(f"-{role.name}", **own), spec=spec))
        if role.http is not None:
            served = [{"name": "http", "port": role.http, "targetPort": "http"}]
            spec = {"selector": selector, "ports": served}
            objects.append(_object("Service", meta(f"-{role.name}-http", **own), spec=spec))
        templates[role.name] = _group(request, name, role, labels | own)
    if len(roles) == 1:
        return [*objects, _object("LeaderWorkerSet", meta(""), spec=templates[roles[0].name])]
    named = [{"name": role, "spec": spec} for role, spec in templates.items()]
    return [*objects, _object("DisaggregatedSet", meta(""), spec={"roles": named})]


def _group(request: DeployRequest, name: str, role: Role, labels: dict[str, str]) -> dict[str, Any]:
    """Return the group of one role: its pods are its nodes."""
    size, replicas = (1, role.nodes) if role.is_independent else (role.nodes, 1)
    group: dict[str, Any] = {
        "size": size,
        "restartPolicy": RECREATE,
        "leaderTemplate": _pod(request, name, role, labels, leads=True),
        "workerTemplate": _pod(request, name, role, labels, leads=False),
    }
    return {"replicas": replicas, "startupPolicy": "LeaderCreated", "leaderWorkerTemplate": group}


def _pod(
    request: DeployRequest, name: str, role: Role, labels: dict[str, str], *, leads: bool
) -> dict[str, Any]:
    devices = {request.device_kind().resource: str(role.workers_per_node * role.devices)}
    node = {"valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX_LABEL}']"}}}
    sides = {"FFN_HOST": "ffn", "ATTENTION_HOST": "attention", "SERVER_HOST": "server"}
    container: dict[str, Any] = {
        "name": role.name,
        "image": request.needed_image(),
        "command": ["bash", f"/afdplan/{role.name}.sh"],
        "env": [
            {"name": "NODE", **node},
            *({"name": host, "value": f"{name}-{sides[host]}"} for host in role.hosts),
        ],
        "resources": {"limits": devices, "requests": devices},
        "volumeMounts": [
            {"name": "scripts", "mountPath": "/afdplan", "readOnly": True},
            {"name": "shared-memory", "mountPath": "/dev/shm"},
        ],
    }
    if leads and role.http is not None:
        container["ports"] = [{"name": "http", "containerPort": role.http}]
        probe = {"httpGet": {"path": role.health, "port": "http"}, "periodSeconds": PERIOD}
        container["startupProbe"] = probe | {"failureThreshold": LOAD_SECONDS // PERIOD}
        container["readinessProbe"] = probe
        container["livenessProbe"] = probe | {"failureThreshold": 6, "timeoutSeconds": 10}
    elif leads and role.listens is not None:
        # No HTTP here: the rendezvous port is open as long as rank 0 lives.
        probe = {"tcpSocket": {"port": role.listens}, "periodSeconds": PERIOD}
        container["startupProbe"] = probe | {"failureThreshold": LOAD_SECONDS // PERIOD}
        container["readinessProbe"] = probe
    return {
        "metadata": {"labels": labels},
        "spec": {
            "containers": [container],
            "volumes": [
                {"name": "scripts", "configMap": {"name": f"{name}-scripts", "defaultMode": 0o555}},
                {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
            ],
        },
    }
