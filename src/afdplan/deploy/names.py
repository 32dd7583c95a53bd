"""What are the serving systems called? Asked at every key, so nothing heavy is imported."""

from __future__ import annotations

import pkgutil

import afdplan.deploy.targets

__all__ = ["system_names"]


def system_names() -> tuple[str, ...]:
    """Return the names of the serving systems: those of the modules, which are not imported.

    Examples
    --------
    >>> "fastafd" in system_names()
    True
    """
    found = pkgutil.iter_modules(afdplan.deploy.targets.__path__)
    return tuple(sorted(module.name.replace("_", "-") for module in found))
