"""How is a file written so that nobody ever sees half of it?"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from afdplan.errors import AfdplanError

__all__ = ["write_atomically"]


def write_atomically(path: str | Path, content: str | bytes) -> Path:
    """Return `path` once it holds `content` and nothing else.

    Parameters
    ----------
    path
        File to write or replace; its directory must exist.
    content
        Text (written as UTF-8) or bytes.

    Raises
    ------
    AfdplanError
        If the file cannot be written; whatever was there before stays as it was.

    Notes
    -----
    A temporary file in the same directory is written, flushed to the disk and renamed.

    Examples
    --------
    >>> folder = tempfile.mkdtemp()
    >>> write_atomically(Path(folder) / "plan.txt", "32:4").read_text()
    '32:4'
    """
    target = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = ""
    try:
        # Through a link, the file behind it is replaced, not the link.
        target_file = target.resolve()
        handle, temporary = tempfile.mkstemp(dir=target_file.parent, prefix=f".{target.name}.")
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        mode = target_file.stat().st_mode & 0o777 if target_file.exists() else 0o644
        Path(temporary).chmod(mode)
        Path(temporary).replace(target_file)
    except (OSError, ValueError) as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or error
        raise AfdplanError(
            f"{target}: cannot be written ({reason}); name a file in a writable directory"
        ) from None
    return target
