"""What Kubernetes objects may hold, written down from their schemas; unknown fields are errors.

DisaggregatedSet and LeaderWorkerSet: kubernetes-sigs/lws v0.10.0-11-g060ab4d (2026-08-21),
api/disaggregatedset/v1 and the CRDs; core objects: the Kubernetes API 1.34, the fields in use.
"""

# ruff: noqa: N815  (the fields are theirs)

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

__all__ = ["objects"]

Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
LabelValue = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$", max_length=63)
]
LabelKey = Annotated[
    str, Meta(pattern=r"^([a-z0-9.-]+/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$", max_length=317)
]
Labels = dict[LabelKey, LabelValue]
Port = Annotated[int, Meta(ge=1, le=65535)]
Count = Annotated[int, Meta(ge=1)]
Quantity = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?([KMGTPE]i?|m)?$")]


class Strict(Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class ObjectMeta(Strict):
    name: Name
    labels: Labels = {}


class PodMeta(Strict):
    labels: Labels


class FieldRef(Strict):
    fieldPath: str


class ValueFrom(Strict):
    fieldRef: FieldRef


class EnvVar(Strict):
    name: Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    value: str | None = None
    valueFrom: ValueFrom | None = None


class HttpGet(Strict):
    path: Annotated[str, Meta(pattern="^/")]
    port: Name | Port


class TcpSocket(Strict):
    port: Name | Port


class Probe(Strict):
    httpGet: HttpGet | None = None
    tcpSocket: TcpSocket | None = None
    periodSeconds: Count = 10
    failureThreshold: Count = 3
    timeoutSeconds: Count = 1

    def __post_init__(self):
        assert (self.httpGet is None) != (self.tcpSocket is None)


class Resources(Strict):
    limits: dict[LabelKey, Quantity]
    requests: dict[LabelKey, Quantity]

    def __post_init__(self):
        # Devices cannot be overcommitted: both must be given alike.
        assert self.limits == self.requests


class ContainerPort(Strict):
    name: Annotated[str, Meta(pattern=r"^[a-z0-9-]+$", max_length=15)]
    containerPort: Port


class Mount(Strict):
    name: Name
    mountPath: Annotated[str, Meta(pattern="^/")]
    readOnly: bool = False


class Container(Strict):
    name: Name
    image: str
    command: list[str]
    env: list[EnvVar]
    resources: Resources
    volumeMounts: list[Mount]
    ports: list[ContainerPort] = []
    startupProbe: Probe | None = None
    readinessProbe: Probe | None = None
    livenessProbe: Probe | None = None


class ConfigMapVolume(Strict):
    name: Name
    defaultMode: Annotated[int, Meta(ge=0, le=0o777)]


class EmptyDir(Strict):
    medium: Literal["", "Memory"]


class Volume(Strict):
    name: Name
    configMap: ConfigMapVolume | None = None
    emptyDir: EmptyDir | None = None


class PodSpec(Strict):
    containers: Annotated[list[Container], Meta(min_length=1)]
    volumes: list[Volume]

    def __post_init__(self):
        known = {volume.name for volume in self.volumes}
        assert {m.name for c in self.containers for m in c.volumeMounts} <= known


class PodTemplate(Strict):
    metadata: PodMeta
    spec: PodSpec


class Group(Strict):
    workerTemplate: PodTemplate
    leaderTemplate: PodTemplate | None = None
    size: Count = 1
    restartPolicy: Literal[
        "Default", "RecreateGroupOnPodRestart", "RecreateGroupAfterStart", "None"
    ] = "RecreateGroupOnPodRestart"


class GroupSpec(Strict):
    leaderWorkerTemplate: Group
    replicas: Annotated[int, Meta(ge=0, le=1_000_000)] = 1
    startupPolicy: Literal["LeaderCreated", "LeaderReady"] = "LeaderCreated"


class RoleSpec(Strict):
    name: Name
    spec: GroupSpec


class Roles(Strict):
    roles: Annotated[list[RoleSpec], Meta(min_length=2, max_length=10)]

    def __post_init__(self):
        names = [role.name for role in self.roles]
        assert len(set(names)) == len(names)
        replicas = [role.spec.replicas > 0 for role in self.roles]
        assert all(replicas) or not any(replicas)


class DisaggregatedSet(Strict):
    apiVersion: Literal["disaggregatedset.x-k8s.io/v1"]
    kind: Literal["DisaggregatedSet"]
    metadata: ObjectMeta
    spec: Roles


class LeaderWorkerSet(Strict):
    apiVersion: Literal["leaderworkerset.x-k8s.io/v1"]
    kind: Literal["LeaderWorkerSet"]
    metadata: ObjectMeta
    spec: GroupSpec


class ServicePort(Strict):
    name: Annotated[str, Meta(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=15)]
    port: Port
    targetPort: str | None = None


class ServiceSpec(Strict):
    selector: Labels
    ports: Annotated[list[ServicePort], Meta(min_length=1, max_length=100)]
    clusterIP: Literal["None"] | None = None
    publishNotReadyAddresses: bool = False


class Service(Strict):
    apiVersion: Literal["v1"]
    kind: Literal["Service"]
    metadata: ObjectMeta
    spec: ServiceSpec


class ConfigMap(Strict):
    apiVersion: Literal["v1"]
    kind: Literal["ConfigMap"]
    metadata: ObjectMeta
    data: dict[Annotated[str, Meta(pattern=r"^[-._a-zA-Z0-9]+$")], str] = field(
        default_factory=dict
    )


class Kustomization(Strict):
    apiVersion: Literal["kustomize.config.k8s.io/v1beta1"]
    kind: Literal["Kustomization"]
    resources: list[str]


KINDS = {
    kind.__name__: kind
    for kind in (DisaggregatedSet, LeaderWorkerSet, Service, ConfigMap, Kustomization)
}


def objects(documents: list[Any]) -> list[Any]:
    """Return documents as the objects that they claim to be.

    Raises
    ------
    msgspec.ValidationError
        If a field is unknown, missing, or out of its domain.
    """
    return [msgspec.convert(document, KINDS[document["kind"]]) for document in documents]
