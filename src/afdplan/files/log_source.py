"""How are the lines of a log or table read, whatever they are packed in?"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from afdplan.errors import LatencyModelError

__all__ = ["log_head", "log_lines", "open_log"]

_LONGEST_LINE = 64_000_000


def open_log(path: Path) -> BinaryIO:
    """Return the open file, unpacked on the fly if it is gzip.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    LatencyModelError
        If it is missing, a directory, empty or unreadable.
    """
    try:
        if path.is_dir():
            raise LatencyModelError(f"{path} is a directory: name a file in it")
        with path.open("rb") as file:
            magic = file.read(2)
        if not magic:
            raise LatencyModelError(f"{path} is empty: nothing to calibrate from")
        if magic == b"\x1f\x8b":
            return cast(BinaryIO, gzip.open(path, "rb"))
        return path.open("rb")
    except FileNotFoundError:
        raise LatencyModelError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, LatencyModelError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise LatencyModelError(f"cannot read {path}: {reason.lower()}") from None


def log_head(path: Path, size: int = 65_536) -> bytes:
    """Return the first `size` bytes of the unpacked file.

    Parameters
    ----------
    path
        The file.
    size
        At most so many bytes.

    Raises
    ------
    LatencyModelError
        As `open_log`, or if the gzip data are damaged before that.
    """
    with open_log(path) as file:
        try:
            head = file.read(size)
        except (EOFError, OSError, zlib.error):
            raise LatencyModelError(f"{path} is a damaged gzip file") from None
    if not head.strip():
        raise LatencyModelError(f"{path} is empty: nothing to calibrate from")
    return head


def log_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield each line with its number, counted from 1, without its end.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    LatencyModelError
        As `open_log`; or if gzip data end early, or a line is longer than 64 MB.
    """
    with open_log(path) as file:
        number = 0
        while True:
            number += 1
            try:
                line = file.readline(_LONGEST_LINE + 1)
            except (EOFError, OSError, zlib.error):
                raise LatencyModelError(
                    f"{path} is a truncated or damaged gzip file (after line {number - 1})"
                ) from None
            if not line:
                return
            if len(line) > _LONGEST_LINE:
                raise LatencyModelError(f"{path}: line {number} is longer than 64 MB")
            yield number, line.rstrip(b"\r\n")
