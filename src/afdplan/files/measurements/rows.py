"""What rows does a table of measurements hold: CSV, JSON lines or Parquet, by content?"""

from __future__ import annotations

import csv
import difflib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from afdplan.errors import LatencyModelError
from afdplan.files.log_source import log_head, log_lines

__all__ = ["TIME_UNITS", "Columns", "find_column", "measurement_rows", "number"]

TIME_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Seconds per unit."""

_SUFFIXES = {
    "s": "s",
    "sec": "s",
    "seconds": "s",
    "ms": "ms",
    "milliseconds": "ms",
    "us": "us",
    "usec": "us",
    "microseconds": "us",
    "ns": "ns",
    "nanoseconds": "ns",
}
Columns = list[str]


def measurement_rows(path: Path) -> tuple[Columns, Iterator[tuple[int, dict[str, Any]]]]:
    """Return the column names of a table and its rows, each with its number in the file.

    Parameters
    ----------
    path
        CSV (any of comma, semicolon, tab), JSON lines or Parquet; text may be gzip.

    Raises
    ------
    LatencyModelError
        If the file is no table; rows raise when they are read.
    """
    head = log_head(path)
    if head[:4] == b"PAR1":
        return _parquet(path)
    if b"\0" in head:
        raise LatencyModelError(f"{path} is binary: measurements are CSV, JSON lines or Parquet")
    if head.lstrip()[:1] == b"{":
        return _json_lines(path)
    return _csv(path, head)


def _parquet(path: Path) -> tuple[Columns, Iterator[tuple[int, dict[str, Any]]]]:
    import polars

    try:
        table = polars.read_parquet(path)
    except Exception as error:  # polars has no common base for damaged files
        raise LatencyModelError(f"{path}: invalid Parquet: {str(error)[:120]}") from None
    return table.columns, enumerate(table.iter_rows(named=True), start=1)


def _json_lines(path: Path) -> tuple[Columns, Iterator[tuple[int, dict[str, Any]]]]:
    def rows() -> Iterator[tuple[int, dict[str, Any]]]:
        for at, line in log_lines(path):
            if not line.strip():
                continue
            try:
                row = msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                problem = "nested too deeply" if isinstance(error, RecursionError) else str(error)
                raise LatencyModelError(
                    f"{path}: line {at} is no JSON ({problem}): was the file cut?"
                ) from None
            if not isinstance(row, dict):
                raise LatencyModelError(f"{path}: line {at} must be a JSON object")
            yield at, row

    first = next(rows(), None)
    return list(first[1]) if first else [], rows()


def _csv(path: Path, head: bytes) -> tuple[Columns, Iterator[tuple[int, dict[str, Any]]]]:
    def text() -> Iterator[str]:
        for at, line in log_lines(path):
            try:
                yield line.decode("utf-8-sig" if at == 1 else "utf-8")
            except UnicodeDecodeError:
                raise LatencyModelError(f"{path}: line {at} is no UTF-8 text") from None

    first = head.split(b"\n", 1)[0].decode("utf-8-sig", "replace")
    delimiter = max(",;\t", key=first.count)
    lines = csv.reader(text(), delimiter=delimiter)
    try:
        names = [name.strip() for name in next(lines, [])]
    except csv.Error as error:
        raise LatencyModelError(f"{path}: line 1: {error}") from None

    def rows() -> Iterator[tuple[int, dict[str, Any]]]:
        try:
            for cells in lines:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(names):
                    raise LatencyModelError(
                        f"{path}: row {lines.line_num} has {len(cells)} cells for {len(names)} "
                        "columns: was the file cut?"
                    )
                yield lines.line_num, dict(zip(names, cells, strict=True))
        except csv.Error as error:
            raise LatencyModelError(f"{path}: row {lines.line_num}: {error}") from None

    return names, rows()


def split_unit(name: str) -> tuple[str, str | None]:
    """Return a column name without its unit of time, and that unit if it names one.

    Examples
    --------
    >>> split_unit("latency_ms"), split_unit("Duration (us)"), split_unit("load")
    (('latency', 'ms'), ('duration', 'us'), ('load', None))
    """
    words = re.findall(r"[a-z0-9]+", name.lower())
    if len(words) > 1 and words[-1] in _SUFFIXES:
        return "_".join(words[:-1]), _SUFFIXES[words[-1]]
    return "_".join(words), None


def find_column(
    path: Path,
    names: Columns,
    aliases: Mapping[str, tuple[str, ...]],
    wanted: str,
    needed: bool = True,
) -> tuple[str | None, str | None]:
    """Return the column that holds `wanted`, and its unit of time if its name says one.

    Parameters
    ----------
    path, names
        The file, for messages, and its columns.
    aliases
        Other names of each wanted column, in lower case with underscores.
    wanted
        What to look for.
    needed
        Whether its absence is an error.

    Raises
    ------
    LatencyModelError
        If it is needed and not there, or there twice.
    """
    accepted = (wanted, *aliases.get(wanted, ()))
    found = [(name, split_unit(name)) for name in names]
    hits = [(name, unit) for name, (plain, unit) in found if plain in accepted]
    hits = hits or [(n, None) for n in names if "_".join(re.findall(r"\w+", n.lower())) in accepted]
    if len(hits) > 1:
        both = " and ".join(_shown(name) for name, _ in hits)
        raise LatencyModelError(f"{path}: columns {both} both give {wanted}: keep one")
    if hits:
        return hits[0]
    if needed:
        near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
        hint = f"; is it {_shown(near[0])!r}?" if near else ""
        raise LatencyModelError(
            f"{path}: no column {wanted} (or {', '.join(accepted[1:6])}) among "
            f"{', '.join(map(_shown, names[:12])) or 'no columns'}{hint}"
        )
    return None, None


def _shown(name: str) -> str:
    """Return a column name that is fit to be shown: short and printable."""
    return name[:40] if name.isprintable() else ascii(name[:40])


def number(path: Path, row: int, column: str, value: Any) -> float:
    """Return a cell as a finite float, or raise naming file, row and column."""
    try:
        found = float("x" if isinstance(value, bool) else value)
    except (TypeError, ValueError, OverflowError):
        raise LatencyModelError(
            f"{path}: {column} in row {row} must be a number, got {str(value)[:40]!r}"
        ) from None
    if not math.isfinite(found):
        raise LatencyModelError(f"{path}: {column} in row {row} must be finite, got {found}")
    return found
