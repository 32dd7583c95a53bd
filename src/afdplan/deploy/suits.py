"""Does a system know the model, and does it run on the devices?"""

from __future__ import annotations

from collections.abc import Callable

from afdplan.deploy.devices import DeviceKind
from afdplan.deploy.names import system_names
from afdplan.deploy.registry import versions
from afdplan.deploy.target import Target
from afdplan.errors import UnsupportedError

__all__ = ["check_devices", "check_model", "those_that"]


def check_model(target: Target, model_type: str) -> None:
    """Raise `UnsupportedError` if a version does not register a model, naming those that do.

    Parameters
    ----------
    target
        System and version.
    model_type
        As in the model's configuration; empty if not known, which passes.

    Examples
    --------
    >>> from afdplan.deploy.registry import find_target
    >>> check_model(find_target("sglang"), "qwen3_moe")
    """
    if target.knows(model_type):
        return
    others = those_that(lambda other: other.models is not None and other.knows(model_type))
    raise UnsupportedError(
        f"{target.name} {target.version} does not register {model_type}: "
        + (f"these do: {others}" if others else "no known system does")
    )


def check_devices(target: Target, kind: DeviceKind | None) -> None:
    """Raise `UnsupportedError` if a version does not run on a kind of device; None passes."""
    if kind is None or kind.name in target.devices:
        return
    others = those_that(lambda other: kind.name in other.devices) or "no known system does"
    raise UnsupportedError(
        f"{target.name} {target.version} runs on {' or '.join(target.devices)} devices, the "
        f"plan is for {kind.name}: {others}"
    )


def those_that(fits: Callable[[Target], bool]) -> str:
    """Return the versions of all systems that fit, in words."""
    found = [
        f"{target.name} {target.version}"
        for name in system_names()
        for target in versions(name)
        if fits(target)
    ]
    return ", ".join(found)
