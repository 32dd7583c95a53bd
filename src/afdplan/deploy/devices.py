"""Which kind of device does a plan run on, and what do schedulers call it?"""

from __future__ import annotations

from dataclasses import dataclass

from afdplan.errors import InvalidInputError

__all__ = ["DEVICE_KINDS", "DeviceKind", "is_blackwell", "kind_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceKind:
    """Names of one maker's devices.

    Attributes
    ----------
    name
        As on the command line.
    resource
        Of its Kubernetes device plugin.
    gres
        Of Slurm.
    visible
        Variable that lists the devices a process may use.
    prefixes
        How the names of its devices begin.
    """

    name: str
    resource: str
    gres: str
    visible: str
    prefixes: tuple[str, ...]


DEVICE_KINDS = {
    kind.name: kind
    for kind in (
        DeviceKind(
            name="nvidia",
            resource="nvidia.com/gpu",
            gres="gpu",
            visible="CUDA_VISIBLE_DEVICES",
            prefixes=("nvidia", "a1", "a8", "b2", "b3", "gb", "h1", "h2", "h8", "l2", "l4", "rtx"),
        ),
        DeviceKind(
            name="amd",
            resource="amd.com/gpu",
            gres="gpu",
            visible="HIP_VISIBLE_DEVICES",
            prefixes=("amd", "mi"),
        ),
        DeviceKind(
            name="ascend",
            resource="huawei.com/Ascend910",
            gres="npu",
            visible="ASCEND_RT_VISIBLE_DEVICES",
            prefixes=("ascend", "huawei"),
        ),
    )
}


def kind_of(name: str | None, hardware: str | None) -> DeviceKind | None:
    """Return the kind that is named, else that of the plan's hardware; None if neither tells.

    Raises
    ------
    InvalidInputError
        If the named kind is unknown.

    Examples
    --------
    >>> kind_of(None, "h200").resource
    'nvidia.com/gpu'
    """
    if name is not None:
        if name not in DEVICE_KINDS:
            raise InvalidInputError(
                f"device kind must be one of {', '.join(DEVICE_KINDS)}, got {name!r:.40}"
            )
        return DEVICE_KINDS[name]
    folded = (hardware or "").lower()
    for kind in DEVICE_KINDS.values():
        if folded.startswith(kind.prefixes):
            return kind
    return None


def is_blackwell(hardware: object) -> bool:
    """Return whether a plan's hardware is a data-centre Blackwell: some kernels are for it alone.

    Examples
    --------
    >>> is_blackwell("GB200"), is_blackwell("h200"), is_blackwell(None)
    (True, False, False)
    """
    return str(hardware or "").lower() in ("b200", "b300", "gb200", "gb300")
