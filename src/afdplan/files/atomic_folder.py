"""How is a folder of files written so that it is there complete or not at all?"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from afdplan.errors import InvalidInputError

__all__ = ["write_folder"]


def write_folder(path: str | Path, files: Mapping[str, str], executable: str = ".sh") -> None:
    """Write `files` to a temporary folder beside `path`, then rename it into place.

    Parameters
    ----------
    path
        The folder; it must not exist yet, or be empty.
    files
        Content by relative name, with ``/`` between folders.
    executable
        Names that end so may be executed.

    Raises
    ------
    InvalidInputError
        If the folder exists with something in it, or cannot be written; then nothing is left.
    """
    shown = Path(path)
    target = Path(os.path.realpath(shown))
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise InvalidInputError(
                f"{shown} exists already: name a new folder, or remove it first"
            )
        temporary.mkdir()
        for name, content in files.items():
            file = temporary / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8", newline="\n")
            if name.endswith(executable):
                file.chmod(0o755)
        temporary.replace(target)
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidInputError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInputError(f"cannot write {shown}: {reason.lower()}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
