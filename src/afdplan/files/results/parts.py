"""How is one part of a study's results named, read, and written whole or not at all?"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from afdplan.errors import InvalidInputError
from afdplan.files.atomic import cannot_write, staged

__all__ = ["broken", "part_name", "part_range", "read_part", "write_part"]

_NAME = re.compile(r"part-(\d{8})(?:-(\d{8}))?\.parquet")
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
_ROW_GROUP = 2048  # rows that a writer holds before they reach the file


def part_name(number: int) -> str:
    """Return the name of the file of the appended table of a number.

    Examples
    --------
    >>> part_name(7)
    'part-00000007.parquet'
    """
    return f"part-{number:08d}.parquet"


def part_range(path: Path) -> tuple[int, int] | None:
    """Return the first and the last appended table that a file's name tells; None if it is no part.

    Examples
    --------
    >>> part_range(Path("r/part-00000007.parquet")), part_range(Path("r/manifest.json"))
    ((7, 7), None)
    >>> part_range(Path("r/part-00000001-00000016.parquet"))  # merged, by an earlier version
    (1, 16)
    """
    match = _NAME.fullmatch(path.name)
    return (int(match[1]), int(match[2] or match[1])) if match else None


def read_part(path: Path, columns: list[str] | None = None) -> pl.DataFrame:
    """Return some columns of a part, all by default.

    Raises
    ------
    InvalidInputError
        If it cannot be read.
    """
    try:
        return pl.read_parquet(path, columns=columns, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise broken(path, error) from None


def write_part(path: Path, rows: pl.LazyFrame, sources: Sequence[Path] = ()) -> None:
    """Write a part, row group by row group: rows that come from files are never all in memory.

    Parameters
    ----------
    path
        Where; exists only when all is written.
    rows
        What.
    sources
        The parts that `rows` reads, if any: one that is broken is named.

    Raises
    ------
    InvalidInputError
        If the disk is full, the file cannot be written, or a source cannot be read.
    """
    try:
        with staged(path) as temporary:
            rows.sink_parquet(temporary, compression="zstd", row_group_size=_ROW_GROUP)
    except pl.exceptions.PolarsError as error:
        number = _SYSTEM_ERROR.search(str(error))
        if number is not None:
            code = int(number[1])
            raise cannot_write(path, OSError(code, os.strerror(code))) from None
        for source in sources:
            read_part(source)
        raise


def broken(path: Path, error: Exception) -> InvalidInputError:
    """Return the error that names a part which cannot be read."""
    reason = " ".join(str(error).split())[:120]
    return InvalidInputError(
        f"cannot read {path}: {reason}; remove that file and run again with --resume"
    )
