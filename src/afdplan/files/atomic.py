"""How is a file written so that nobody ever sees half of it?"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from afdplan.errors import InvalidInputError

__all__ = ["write_atomic"]


def write_atomic(path: str | Path, content: bytes) -> None:
    """Write `content` to a temporary name beside `path`, then rename it into place.

    Parameters
    ----------
    path
        Where the file shall be; a symbolic link is followed, a device (``/dev/stdout``) is
        written to directly.
    content
        All of the file.

    Raises
    ------
    InvalidInputError
        If the file cannot be written; then nothing of it is left behind.
    """
    shown = Path(path)
    temporary: Path | None = None
    try:
        target = Path(os.path.realpath(shown))
        if target.is_dir():
            raise InvalidInputError(f"cannot write {shown}: it is a directory; name a file")
        if target.exists() and not target.is_file():
            target.write_bytes(content)
            return
        temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp")
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o777)
        temporary.replace(target)
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidInputError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInputError(f"cannot write {shown}: {reason.lower()}") from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
