"""What is to be emitted: which plan, which model, on which hosts and ports?"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from afdplan.errors import InvalidInputError
from afdplan.files.plan_file import PlanFile
from afdplan.model.checks import check_count

__all__ = ["DeployRequest"]

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:_-]{0,252}[A-Za-z0-9])?")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._:/@+-]{0,252}[A-Za-z0-9])?")


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
    max_model_len
        Longest prompt and output together [tokens]; None leaves it to the system, which may
        refuse to start where one such request would not fit.
    kv_transfer
        KV connector through which prompts computed elsewhere come in, such as
        ``NixlConnector``; None computes prompts on the same devices.
    architecture
        ``model_type`` in the model's configuration; empty if not known.
    quantization
        What the system calls the format of the weights; None leaves it to the checkpoint.
    one_machine
        Whether everything runs on one host.
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
    max_model_len: int | None = None
    kv_transfer: str | None = None
    architecture: str = ""
    quantization: str | None = None
    one_machine: bool = False
    plan_name: str = field(default="plan.json")

    def __post_init__(self) -> None:
        check_count("node_devices", self.node_devices, 1, 1024)
        check_count("port", self.port, 1024, 65535)
        if self.max_model_len is not None:
            check_count("max_model_len", self.max_model_len, 1, 100_000_000)
        if not self.model.strip():
            raise InvalidInputError("the plan names no model: give --model NAME or PATH")
        if not self.model.isprintable():
            raise InvalidInputError("the model's name must not hold control characters")
        if self.model.startswith("-"):
            raise InvalidInputError(
                f"the model's name must not start with '-', it would be read as a flag: "
                f"got {self.model!r:.80}; write ./{self.model[:40]}"
            )
        for name in ("kv_transfer", "quantization"):
            value = getattr(self, name)
            if value is not None and not _NAME.fullmatch(value):
                raise InvalidInputError(f"{name} must be a plain name, got {value!r:.80}")
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

    def host(self, name: str, bundle: int) -> str:
        """Return the address for ``FFN_HOST`` or ``ATTENTION_HOST`` of bundle 1, 2, ...

        Where none was given it is a placeholder.
        """
        hosts = self.ffn_hosts if name == "FFN_HOST" else self.attention_hosts
        return hosts[bundle - 1] if hosts else "CHANGE_ME"

    def port_of(self, bundle: int, span: int, taken: range = range(0)) -> int:
        """Return the first of `span` rendezvous ports of bundle 1, 2, ..., clear of `taken`.

        Raises
        ------
        InvalidInputError
            If a bundle would need a port beyond 65535 or one that is taken.
        """
        last = self.port + span * self.plan.bundles - 1
        if last > 65535:
            raise InvalidInputError(
                f"{self.plan.bundles} bundles need {span} ports each from {self.port} on, "
                "beyond 65535: give a lower --port"
            )
        if self.port < taken.stop and taken.start <= last:
            raise InvalidInputError(
                f"ports {self.port} to {last} would hold the ports {taken.start} to "
                f"{taken.stop - 1} of the servers: give another --port"
            )
        return self.port + span * (bundle - 1)
