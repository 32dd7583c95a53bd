"""What is in this file, judged by its content, and where can a reader find it uncompressed?"""

from __future__ import annotations

import gzip
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from afdplan.errors import TraceError

__all__ = ["TraceSource", "open_source"]

HEAD_BYTES = 1 << 16
LARGEST_BOMB = 1 << 30
"""Bytes above which a file that shrank to under 1/200 is refused as a decompression bomb."""

FOREIGN = {
    b"PK\x03\x04": "a zip archive (or a spreadsheet): unpack it, or save the table as CSV",
    b"BZh": "compressed by bzip2: unpack it, or use gzip or zstd",
    b"\xfd7zXZ\x00": "compressed by xz: unpack it, or use gzip or zstd",
    b"\xff\xfe": "text in UTF-16: save it as UTF-8",
    b"\xfe\xff": "text in UTF-16: save it as UTF-8",
    b"%PDF": "a PDF document, no trace",
    b"SQLite format 3": "an SQLite database: export the table as CSV",
    b"ARROW1": "an Arrow file: save it as Parquet or CSV",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSource:
    """An uncompressed file and what its first bytes say.

    Attributes
    ----------
    path
        The file to read: the user's own, or a temporary uncompressed copy.
    name
        What the user called it, for messages.
    kind
        "parquet", "json" (one value or one per line) or "csv".
    head
        Its first 64 KiB.
    """

    path: Path
    name: str
    kind: str
    head: bytes


@contextmanager
def open_source(path: str | Path) -> Iterator[TraceSource]:
    """Yield the uncompressed file behind `path`; temporary copies go when the block ends.

    Parameters
    ----------
    path
        A file, a pipe, or ``-`` for standard input.

    Raises
    ------
    TraceError
        If there is no such file, it may not be read, is empty, cut short, or no text.
    """
    name = "standard input" if str(path) == "-" else str(path)
    if not name.isprintable():
        name = repr(name)
    with tempfile.TemporaryDirectory(prefix="afdplan-") as folder:
        try:
            plain = _plain_file(path, name, Path(folder))
            for level in range(2):
                unpacked = _uncompressed(plain, name, Path(folder) / f"unpacked{level}")
                if unpacked is plain:
                    break
                plain = unpacked
            with plain.open("rb") as handle:
                head = handle.read(HEAD_BYTES)
        except OSError as error:
            raise TraceError(f"{name}: cannot be read ({error.strerror or error})") from None
        except ValueError as error:  # a NUL byte in the path
            if isinstance(error, TraceError):
                raise
            raise TraceError(f"{name}: is no file name ({error})") from None
        yield TraceSource(path=plain, name=name, kind=_kind(head, name), head=head)


def _plain_file(path: str | Path, name: str, folder: Path) -> Path:
    """Return `path` itself if it is a regular file, else a copy of what it yields."""
    if str(path) == "-":
        return _copy(sys.stdin.buffer, folder / "stdin")
    file = Path(path)
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        raise TraceError(f"{name}: there is no such file; check the path") from None
    if stat.S_ISDIR(mode):
        raise TraceError(f"{name}: is a directory; name one trace file in it")
    if stat.S_ISREG(mode):
        return file.resolve()
    with file.open("rb") as handle:
        return _copy(handle, folder / "pipe")


def _copy(handle: IO[bytes], target: Path) -> Path:
    with target.open("wb") as out:
        shutil.copyfileobj(handle, out, 1 << 20)
    return target


def _uncompressed(file: Path, name: str, target: Path) -> Path:
    """Return `file`, or `target` filled with what gzip or zstd had packed."""
    with file.open("rb") as handle:
        magic = handle.read(4)
    failures: tuple[type[Exception], ...]
    opener: Any
    if magic[:2] == b"\x1f\x8b":
        method, opener = "gzip", gzip.open
        failures = (EOFError, zlib.error, gzip.BadGzipFile)
    elif magic == b"\x28\xb5\x2f\xfd":
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd

        method, opener = "zstd", zstd.open
        failures = (EOFError, zstd.ZstdError)
    else:
        return file
    size = file.stat().st_size
    written = 0
    try:
        with opener(file, "rb") as packed, target.open("wb") as out:
            while block := packed.read(1 << 20):
                written += out.write(block)
                if written > LARGEST_BOMB and written > 200 * size:
                    raise TraceError(
                        f"{name}: {size} bytes of {method} unpack to more than {written}, which no "
                        "trace does; unpack it yourself if you trust it"
                    )
    except failures:
        raise TraceError(
            f"{name}: the {method} data is cut short or damaged after {written} bytes of text; "
            "fetch the file again"
        ) from None
    return target


def _kind(head: bytes, name: str) -> str:
    """Return "parquet", "json" or "csv" from the first bytes, or raise saying what it is."""
    if not head.removeprefix(b"\xef\xbb\xbf").strip():
        raise TraceError(f"{name}: is empty; a trace needs column names and one row per request")
    if head[:4] == b"PAR1":
        return "parquet"
    for magic, what in FOREIGN.items():
        if head.startswith(magic):
            raise TraceError(f"{name}: is {what}")
    control = sum(head.count(bytes([code])) for code in (*range(9), *range(14, 32)))
    if b"\0" in head or control > len(head) / 100:
        raise TraceError(f"{name}: is binary; a trace is CSV, JSON, JSON lines or Parquet")
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return "json" if first in b"{[" else "csv"
