"""What does this hardware file hold?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from afdplan.errors import InvalidInputError
from afdplan.files.document import read_document

__all__ = ["read_hardware_file"]


def read_hardware_file(path: str | Path) -> dict[str, Any]:
    """Return the table of a hardware file; `afdplan.calibration.hardware` checks its keys.

    Parameters
    ----------
    path
        A TOML or JSON file: the facts of one device, or what ``afdplan hardware NAME --json``
        printed.

    Raises
    ------
    InvalidInputError
        If the file is missing, unreadable, neither TOML nor JSON, or holds several devices.
    """
    found = read_document(path, "a hardware file")
    devices = found.get("hardware")
    if devices is None:
        return found
    if not isinstance(devices, list) or len(devices) != 1 or not isinstance(devices[0], dict):
        count = len(devices) if isinstance(devices, list) else "no list"
        raise InvalidInputError(
            f"{path}: hardware must hold one device, got {count}: save one with "
            "`afdplan hardware NAME --json`"
        )
    return devices[0]
