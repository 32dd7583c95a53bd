"""Which serving systems are known? Every module of `afdplan.deploy.targets` is one."""

from __future__ import annotations

import importlib

from afdplan.deploy.names import system_names
from afdplan.deploy.target import ANY, Target
from afdplan.errors import InvalidInputError, UnsupportedError
from afdplan.model.parameters import Execution

__all__ = ["find_target", "target_names", "versions"]


def target_names() -> tuple[str, ...]:
    """Return what ``--target`` of `plan` takes: ``any`` and the systems."""
    return (ANY.name, *system_names())


def versions(name: str) -> tuple[Target, ...]:
    """Return the known versions of a system, newest first.

    Raises
    ------
    InvalidInputError
        If the name is unknown.
    """
    if name == ANY.name:
        return (ANY,)
    if name not in system_names():
        raise InvalidInputError(
            f"target must be one of {', '.join(target_names())}, got {name!r:.80}"
        )
    module = importlib.import_module(f"afdplan.deploy.targets.{name.replace('-', '_')}")
    found: tuple[Target, ...] = module.TARGETS
    return found


def find_target(
    name: str, version: str | None = None, execution: Execution | None = None
) -> Target:
    """Return a system by name; its newest version (that runs so, if asked) unless one is named.

    Raises
    ------
    InvalidInputError
        If name or version is unknown.
    UnsupportedError
        If no version runs so, or not the named one.

    Examples
    --------
    >>> find_target("fastafd").microbatches
    (1, 2, 3, 4)
    """
    known = versions(name)
    for target in known:
        if version in (None, target.version) and execution in (None, target.execution):
            return target
    fits = [target.version for target in known if execution in (None, target.execution)]
    if execution is not None and (version is None or version in [t.version for t in known]):
        raise UnsupportedError(
            f"{name} {version or ''}".rstrip()
            + f" has no {execution} execution: "
            + (f"versions that have it: {', '.join(fits)}" if fits else "take another system")
        )
    raise InvalidInputError(
        f"version of {name} must be one of {', '.join(t.version for t in known)}, "
        f"got {version!r:.80}"
    )
