"""What is to be emitted: which plan, which model, on which hosts and ports?"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

from afdplan.deploy.deployment import Check
from afdplan.deploy.devices import DEVICE_KINDS, DeviceKind, kind_of
from afdplan.deploy.words import Word
from afdplan.errors import InvalidInputError
from afdplan.files.plan_file import PlanFile
from afdplan.files.plan_unsplit import UnsplitPlan
from afdplan.model import deploy_parameters as ask
from afdplan.model.parameter import check_fields

__all__ = ["DeployRequest"]

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._:/@+-]{0,252}[A-Za-z0-9])?")


def _is_address(host: str) -> bool:
    """Return whether it is a name, an IPv4 or an IPv6 address; the last alone has colons."""
    try:
        return ipaddress.ip_address(host).version in (4, 6)
    except ValueError:
        return _HOST.fullmatch(host) is not None


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
    per_pod
        Whether servers that know nothing of one another each get a node of their own, as pods do.
    unsplit
        Whether the deployment without a split is emitted.
    device
        Kind of the devices; None takes that of the plan's hardware.
    image
        Container image with the serving system.
    plan_digest
        Of the plan's text, for labels.
    plan_name
        File that the plan was read from, for provenance.

    Raises
    ------
    InvalidInputError
        If a value cannot be emitted safely.
    """

    plan: PlanFile
    model: str
    node_devices: int = ask.NODE_DEVICES.default
    ffn_hosts: tuple[str, ...] = ()
    attention_hosts: tuple[str, ...] = ()
    port: int = ask.PORT.default
    max_model_len: int | None = None
    kv_transfer: str | None = None
    architecture: str = ""
    quantization: str | None = None
    one_machine: bool = False
    per_pod: bool = False
    unsplit: bool = False
    device: str | None = None
    image: str | None = None
    plan_digest: str = ""
    plan_name: str = field(default="plan.json")

    def __post_init__(self) -> None:
        check_fields(self, ask.DEPLOY)
        if not self.model.strip():
            raise InvalidInputError("the plan names no model: give --model NAME or PATH")
        if not self.model.isprintable():
            raise InvalidInputError("the model's name must not hold control characters")
        if self.model.startswith("-"):
            raise InvalidInputError(
                f"the model's name must not start with '-', it would be read as a flag: "
                f"got {self.model!r:.80}; write ./{self.model[:40]}"
            )
        for name in ("kv_transfer", "quantization", "image"):
            value = getattr(self, name)
            if value is not None and not _NAME.fullmatch(value):
                raise InvalidInputError(f"{name} must be a plain name, got {value!r:.80}")
        for name in ("ffn_hosts", "attention_hosts"):
            hosts = getattr(self, name)
            for host in hosts:
                if not _is_address(host):
                    raise InvalidInputError(
                        f"{name} must be host names or addresses without a port, got {host!r:.80}"
                    )
            if hosts and len(hosts) != self.bundles:
                raise InvalidInputError(
                    f"{name} must name one host per bundle, {self.bundles}, got {len(hosts)}"
                )

    def host(self, name: str, bundle: int) -> str:
        """Return the address for ``FFN_HOST`` or ``ATTENTION_HOST`` of bundle 1, 2, ...

        Where none was given it is a placeholder.
        """
        hosts = self.ffn_hosts if name == "FFN_HOST" else self.attention_hosts
        if hosts:
            return hosts[bundle - 1]
        return "127.0.0.1" if self.one_machine else "CHANGE_ME"

    def device_kind(self) -> DeviceKind:
        """Return the kind of the devices.

        Raises
        ------
        InvalidInputError
            If neither the plan nor `device` tells.
        """
        found = kind_of(self.device, str(self.plan.inputs.get("hardware") or ""))
        if found is None:
            raise InvalidInputError(
                f"the plan does not say which devices it is for: give --device "
                f"{'|'.join(DEVICE_KINDS)}"
            )
        return found

    def needed_image(self) -> str:
        """Return the container image.

        Raises
        ------
        InvalidInputError
            If none is given: none is known that holds every system.
        """
        if self.image is None:
            raise InvalidInputError("containers need --image NAME, one that holds the system")
        return self.image

    def model_words(self, length_flag: str) -> list[Word]:
        """Return what a server is told of the model: the longest request, how it is quantized."""
        words: list[Word] = []
        if self.max_model_len is not None:
            words += [length_flag, str(self.max_model_len)]
        if self.quantization is not None:
            words += ["--quantization", self.quantization]
        return words

    @property
    def bundles(self) -> int:
        """Bundles of the split, or groups of the un-split deployment."""
        plan = self.plan
        return plan.unsplit.replicas if self.unsplit and plan.unsplit else plan.bundles

    @property
    def promise(self) -> PlanFile | UnsplitPlan:
        """What the emitted deployment promises."""
        return self.plan.unsplit if self.unsplit and self.plan.unsplit else self.plan

    @property
    def split_title(self) -> str:
        """Bundles and pair of the split, in a few words."""
        bundle = self.plan.bundle
        pair = f"{bundle.attention_workers} attention : {bundle.ffn_workers} FFN"
        return f"{self.plan.bundles} x ({pair})"

    @property
    def mode_words(self) -> tuple[str, ...]:
        """What is known of the plan without a barrier: its limits were not searched."""
        limit, step = self.plan.time_per_output_token, self.plan.step_time_mean
        if self.plan.step_time_p99 is not None:
            return (
                "the plan's step times are those with a barrier: plan with --execution "
                "barrier-free for those without",
            )
        token = step / self.plan.latency.tokens_per_step
        held = "" if limit is None else f", {'above' if token > limit else 'within'} {limit:.4g} s"
        return (
            f"without a barrier a worker's mean time per token is {token:.4g} s{held}; no "
            "percentile is known, so limits on one are not held",
        )

    def cache_check(self, shows: str) -> tuple[Check, ...]:
        """Return the check of the KV cache's size, if the plan knows it and it is of one kind."""
        tokens = self.plan.cache_tokens
        if tokens is None:
            return ()
        return (
            Check(
                where="log of each attention rank",
                shows=f"{shows.format(tokens)} or more",
                otherwise="the cache is smaller than planned: requests are preempted; plan again "
                "with --kv-tokens",
            ),
        )

    def port_of(self, bundle: int, span: int, *others: range) -> int:
        """Return the first of `span` rendezvous ports of bundle 1, 2, ..., clear of `others`.

        Raises
        ------
        InvalidInputError
            If a bundle would need a port beyond 65535 or one that is taken.
        """
        last = self.port + span * self.bundles - 1
        if last > 65535:
            raise InvalidInputError(
                f"{self.bundles} bundles need {span} ports each from {self.port} on, "
                "beyond 65535: give a lower --port"
            )
        for taken in others:
            if self.port < taken.stop and taken.start <= last:
                raise InvalidInputError(
                    f"ports {self.port} to {last} would hold the ports {taken.start} to "
                    f"{taken.stop - 1} of the servers: give another --port"
                )
        return self.port + span * (bundle - 1)
