"""How are kernels compiled? The only file that imports numba."""

from __future__ import annotations

import hashlib
import inspect
import os
import stat
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np

__all__ = ["ZERO", "U", "compiled", "inlined", "remarks"]

# Typed: a literal would have every function compiled once more.
ZERO: Any = np.int64(0)
# Unsigned: an index that cannot be negative needs no check for counting from the end.
U: Any = np.uint64

Function = TypeVar("Function", bound=Callable[..., Any])
# Strict floating point, so that a kernel can equal its twin bit for bit; the interpreter lock is
# released; a division by zero gives infinity. Kernels allocate nothing, so that counting
# references (_nrt), most of the cost of small functions, can be left out.
OPTIONS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": False,
    "_nrt": False,
}


@lru_cache
def edition(room: Path) -> str:
    """Return a name of the sources in a room.

    The cache watches one file per function, whose name it keeps: named by all files of its room,
    compiled code is never older than what it calls.
    """
    files = (Path(__file__), *sorted(room.glob("*.py")))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


remarks: list[str] = []
"""What to tell whoever waits: that compiled code is kept elsewhere, or not at all."""


def compiled(function: Function) -> Function:
    """Return `function` compiled to machine code at its first call, cached on disk."""
    return _jit(function)


def inlined(function: Function) -> Function:
    """Return `function` compiled into every kernel that calls it."""
    return _jit(function, forceinline=True)


def _jit(function: Function, **options: Any) -> Function:
    """Compile with a cache beside the package or at home, else a temporary one, else none."""
    room = Path(inspect.getfile(function)).parent
    function.__qualname__ = f"{function.__name__}_{edition(room)}"
    result: Function
    try:
        result = numba.njit(**OPTIONS, **options)(function)
    except RuntimeError as failure:
        if "no locator available" not in str(failure) or not OPTIONS["cache"]:
            raise
        folder = None if remarks else _own_temporary_folder()
        if folder is None:
            OPTIONS["cache"] = False
            remarks[:] = ["compiled code cannot be kept: every simulation compiles anew"]
        else:
            setattr(numba.config, "CACHE_DIR", str(folder))  # noqa: B010 - unknown to its types
            remarks.append(f"compiled code is kept in {folder}: no lasting folder can be written")
        return _jit(function, **options)
    return result


def _own_temporary_folder() -> Path | None:
    """Return a temporary folder that this user alone may write, or None: cached code is run."""
    try:
        folder = Path(tempfile.gettempdir(), f"afdplan-{os.getuid()}")
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return folder if is_ours and not found.st_mode & 0o077 else None
