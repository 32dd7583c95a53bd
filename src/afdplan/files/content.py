"""What do the first bytes of a file show: how it is packed, and what it is?"""

from __future__ import annotations

import gzip
import sys
import zlib
from typing import Any, Literal, TypeAlias, cast

from afdplan.errors import InvalidInputError

__all__ = ["Kind", "kind_of", "packing_of"]

FOREIGN = {
    b"PK\x03\x04": "a zip archive (or a spreadsheet): unpack it, or save the table as CSV",
    b"BZh": "compressed by bzip2: unpack it, or use gzip or zstd",
    b"\xfd7zXZ\x00": "compressed by xz: unpack it, or use gzip or zstd",
    b"\xff\xfe": "text in UTF-16: save it as UTF-8",
    b"\xfe\xff": "text in UTF-16: save it as UTF-8",
    b"%PDF": "a PDF document",
    b"SQLite format 3": "an SQLite database: export the table as CSV",
    b"ARROW1": "an Arrow file: save it as Parquet or CSV",
}
# Tab, line ends and the escape of coloured logs are text.
CONTROL = bytes({*range(32)} - {9, 10, 11, 12, 13, 27})
MARK = b"\xef\xbb\xbf"

Kind: TypeAlias = Literal["parquet", "json", "text"]
Packing: TypeAlias = tuple[str, Any, tuple[type[Exception], ...]]
"""Method, what opens it, and what that raises where the data is bad."""


def packing_of(magic: bytes) -> Packing | None:
    """Return how a file that starts so is packed: the method, its opener, and its failures."""
    if magic[:2] == b"\x1f\x8b":
        return "gzip", gzip.open, (EOFError, zlib.error, gzip.BadGzipFile)
    if magic[:4] != b"\x28\xb5\x2f\xfd":
        return None
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return "zstd", zstd.open, (EOFError, cast(type[Exception], zstd.ZstdError))


def kind_of(head: bytes, name: str, what: str, error: type[InvalidInputError]) -> Kind:
    """Return what the first bytes show, or raise saying what it is."""
    first = head.removeprefix(MARK).lstrip()[:1]
    if not first:
        raise error(f"{name} is empty: expected {what}")
    if head[:4] == b"PAR1":
        return "parquet"
    if head[:2] == b"PK" and b"/data.pkl" in head[:200]:
        raise error(
            f"{name} was written by torch.save, as a pickle, which could run code when it is read: "
            "write its table as JSON (json.dump(table.tolist(), file))"
        )
    for magic, foreign in FOREIGN.items():
        if head.startswith(magic):
            raise error(f"{name} is {foreign}")
    if b"\0" in head or sum(head.count(code) for code in CONTROL) > len(head) / 100:
        raise error(f"{name} is binary: expected {what}, as text in UTF-8")
    return "json" if first in b"{[" else "text"
