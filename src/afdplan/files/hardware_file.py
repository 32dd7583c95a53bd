"""What does this hardware TOML file hold?"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from afdplan.errors import InvalidInputError

__all__ = ["read_hardware_file"]

LARGEST_FILE = 2**20


def read_hardware_file(path: str | Path) -> dict[str, Any]:
    """Return the table of a hardware file; `afdplan.calibration.hardware` checks its keys.

    Parameters
    ----------
    path
        A TOML file.

    Raises
    ------
    InvalidInputError
        If the file is missing, larger than 1 MiB, not UTF-8, not TOML or too deeply nested.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise InvalidInputError(
                f"{path}: a hardware file has at most {LARGEST_FILE} bytes, got {size}"
            )
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InvalidInputError(
            f"{path}: no such file; `afdplan hardware` lists the names that ship with afdplan"
        ) from None
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path}: must be UTF-8 text, byte {error.start} is not") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInputError(f"{path}: must be TOML: {error}") from None
    except RecursionError:
        raise InvalidInputError(f"{path}: TOML is nested too deeply for a hardware file") from None
