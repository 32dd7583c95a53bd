"""What is to be emitted: which plan, which model, on which hosts and ports?"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from afdplan.errors import InvalidInputError
from afdplan.files.plan_file import PlanFile
from afdplan.model.checks import check_count

__all__ = ["DeployRequest"]

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:_-]{0,252}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployRequest:
    """Everything that the emitted files depend on.

    Attributes
    ----------
    plan
        What is deployed.
    model
        Name or path that the serving system loads.
    node_devices
        Devices of a host.
    ffn_hosts, attention_hosts
        Address of the first host of each role, one per bundle; missing ones are placeholders
        that the scripts refuse to start with.
    port
        First rendezvous port; each bundle has a range of its own.
    plan_name
        File that the plan was read from, for provenance.

    Raises
    ------
    InvalidInputError
        If a value cannot be emitted safely.
    """

    plan: PlanFile
    model: str
    node_devices: int = 8
    ffn_hosts: tuple[str, ...] = ()
    attention_hosts: tuple[str, ...] = ()
    port: int = 6239
    plan_name: str = field(default="plan.json")

    def __post_init__(self) -> None:
        check_count("node_devices", self.node_devices, 1, 1024)
        check_count("port", self.port, 1024, 65535)
        if not self.model.strip():
            raise InvalidInputError("the plan names no model: give --model NAME or PATH")
        if not self.model.isprintable():
            raise InvalidInputError("the model's name must not hold control characters")
        if self.model.startswith("-"):
            raise InvalidInputError(
                f"the model's name must not start with '-', it would be read as a flag: "
                f"got {self.model!r:.80}; write ./{self.model[:40]}"
            )
        for name in ("ffn_hosts", "attention_hosts"):
            hosts = getattr(self, name)
            for host in hosts:
                if not _HOST.fullmatch(host):
                    raise InvalidInputError(
                        f"{name} must be host names or addresses, got {host!r:.80}"
                    )
            if hosts and len(hosts) != self.plan.bundles:
                raise InvalidInputError(
                    f"{name} must name one host per bundle, {self.plan.bundles}, got {len(hosts)}"
                )

    def host(self, role: str, bundle: int) -> str:
        """Return the host of the first rank of `role` in bundle 1, 2, ...; or a placeholder."""
        hosts = self.ffn_hosts if role == "ffn" else self.attention_hosts
        return hosts[bundle - 1] if hosts else "CHANGE_ME"
