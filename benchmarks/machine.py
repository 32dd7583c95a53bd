"""On which machine was it measured, and was it idle?"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

__all__ = ["describe_machine", "load_warning"]

PACKAGES = ("numpy", "scipy", "numba", "polars", "simpy", "aiconfigurator")


def describe_machine() -> str:
    """Return processor, cores, memory, system and the versions that matter, in three lines."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = ""
    if hasattr(os, "sysconf"):
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        memory = f", {size / 2**30:.0f} GiB"
    versions = ", ".join(f"{name} {_version(name)}" for name in ("afdplan", *PACKAGES))
    return (
        f"{_processor()}, {cores} cores{memory}\n"
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}\n{versions}"
    )


def load_warning() -> str | None:
    """Return a sentence if others keep the processors busy, else None."""
    if not hasattr(os, "getloadavg"):
        return None
    busy, cores = os.getloadavg()[0], os.cpu_count() or 1
    if busy < 0.3 * cores:
        return None
    return f"load average {busy:.1f} on {cores} cores: figures of a busy machine are too slow"


def _processor() -> str:
    """Return the processor's name, as far as the system tells."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "-"
