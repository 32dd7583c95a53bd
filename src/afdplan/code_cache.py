"""Where is compiled code kept, and which sources does it belong to?"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from functools import lru_cache
from pathlib import Path

__all__ = ["edition", "own_temporary_folder"]


@lru_cache
def edition(room: Path, compiler: str) -> str:
    """Return a name of the sources in a room, and of what compiles them.

    The cache watches one file per function, whose name it keeps: named by all files of its room,
    compiled code is never older than what it calls.

    Parameters
    ----------
    room
        Folder of the sources.
    compiler
        Version of numba.
    """
    here = Path(__file__)
    files = (here, here.with_name("compile.py"), *sorted(room.glob("*.py")))
    sources = b"".join(path.read_bytes() for path in files) + compiler.encode()
    return hashlib.sha256(sources).hexdigest()[:12]


def own_temporary_folder() -> Path | None:
    """Return a temporary folder that this user alone may write, or None: cached code is run."""
    try:
        folder = Path(tempfile.gettempdir(), f"afdplan-{os.getuid()}")
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return folder if is_ours and not found.st_mode & 0o077 else None
