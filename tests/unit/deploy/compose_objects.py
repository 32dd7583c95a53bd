"""The part of the Compose specification that emitted files use, as a JSON schema.

Written from the specification (compose-spec.io, services, deploy and devices, 2026-10): names,
types and what is required; every other name is refused, so a misspelt one is noticed.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

__all__ = ["compose_of"]

Name = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9._-]+$")]
Device = Annotated[str, Meta(pattern=r"^/dev/[A-Za-z0-9_/]+$")]


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    """Refuses names that it does not know."""


class Claim(Strict):
    driver: str
    device_ids: Annotated[list[Annotated[str, Meta(pattern=r"^\d+$")]], Meta(min_length=1)]
    capabilities: Annotated[list[Literal["gpu"]], Meta(min_length=1)]


class Reservations(Strict):
    devices: list[Claim]


class Resources(Strict):
    reservations: Reservations


class Deploy(Strict):
    resources: Resources


class Service(Strict):
    image: Annotated[str, Meta(min_length=1)]
    entrypoint: list[str]
    network_mode: Literal["host"]
    ipc: Literal["host"]
    restart: Literal["no", "always", "on-failure", "unless-stopped"]
    volumes: list[Annotated[str, Meta(pattern=r"^\./[^:]+:/[^:]+:ro$")]]
    deploy: Deploy | None = None
    devices: list[Device] = []
    environment: dict[str, str] = {}


class Compose(Strict):
    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    services: Annotated[dict[Name, Service], Meta(min_length=1)]


def compose_of(document: Any) -> Compose:
    """Return a parsed file, checked; raise `msgspec.ValidationError` if it is not legal."""
    return msgspec.convert(document, Compose)
