"""What rows does a table of measurements hold: CSV, JSON lines or Parquet, by content?"""

from __future__ import annotations

import csv
import difflib
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from afdplan.errors import LatencyModelError
from afdplan.files.document import Source
from afdplan.model.checks import LARGEST

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


def measurement_rows(source: Source) -> tuple[Columns, Iterator[tuple[int, dict[str, Any]]]]:
    """Return the column names of a table and its rows, each with its number in the file.

    Parameters
    ----------
    source
        CSV (any of comma, semicolon, tab), JSON lines or Parquet; text may be gzip.

    Raises
    ------
    LatencyModelError
        If the file is no table; rows raise when they are read.
    """
    if source.kind == "parquet":
        return _parquet(source)
    return _json_lines(source) if source.head.lstrip()[:1] == b"{" else _csv(source)


def _parquet(source: Source) -> tuple[Columns, Iterator[tuple[int, dict[str, Any]]]]:
    import polars

    try:
        table = polars.read_parquet(source.path, glob=False)
    except Exception as error:  # polars has no common base for damaged files
        raise LatencyModelError(f"{source}: invalid Parquet: {str(error)[:120]}") from None
    return table.columns, enumerate(table.iter_rows(named=True), start=1)


def _json_lines(source: Source) -> tuple[Columns, Iterator[tuple[int, dict[str, Any]]]]:
    def rows() -> Iterator[tuple[int, dict[str, Any]]]:
        for at, line in source.lines():
            if not line.strip():
                continue
            try:
                row = msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                problem = "nested too deeply" if isinstance(error, RecursionError) else str(error)
                raise LatencyModelError(
                    f"{source}: line {at} is no JSON ({problem}): was the file cut?"
                ) from None
            if not isinstance(row, dict):
                raise LatencyModelError(f"{source}: line {at} must be a JSON object")
            yield at, row

    first = next(rows(), None)
    return list(first[1]) if first else [], rows()


def _csv(source: Source) -> tuple[Columns, Iterator[tuple[int, dict[str, Any]]]]:
    def text() -> Iterator[str]:
        for at, line in source.lines():
            try:
                yield line.decode("utf-8-sig" if at == 1 else "utf-8")
            except UnicodeDecodeError:
                raise LatencyModelError(f"{source}: line {at} is no UTF-8 text") from None

    first = source.head.split(b"\n", 1)[0].decode("utf-8-sig", "replace")
    delimiter = max(",;\t", key=first.count)
    lines = csv.reader(text(), delimiter=delimiter)
    try:
        names = [name.strip() for name in next(lines, [])]
    except csv.Error as error:
        raise LatencyModelError(f"{source}: line 1: {error}") from None

    def rows() -> Iterator[tuple[int, dict[str, Any]]]:
        try:
            for cells in lines:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(names):
                    raise LatencyModelError(
                        f"{source}: row {lines.line_num} has {len(cells)} cells for {len(names)} "
                        "columns: was the file cut?"
                    )
                yield lines.line_num, dict(zip(names, cells, strict=True))
        except csv.Error as error:
            raise LatencyModelError(f"{source}: row {lines.line_num}: {error}") from None

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
    source: Source,
    names: Columns,
    aliases: Mapping[str, tuple[str, ...]],
    wanted: str,
    needed: bool = True,
) -> tuple[str | None, str | None]:
    """Return the column that holds `wanted`, and its unit of time if its name says one.

    Parameters
    ----------
    source, names
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
        raise LatencyModelError(f"{source}: columns {both} both give {wanted}: keep one")
    if hits:
        return hits[0]
    if needed:
        near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
        hint = f"; is it {_shown(near[0])!r}?" if near else ""
        raise LatencyModelError(
            f"{source}: no column {wanted} (or {', '.join(accepted[1:6])}) among "
            f"{', '.join(map(_shown, names[:12])) or 'no columns'}{hint}"
        )
    return None, None


def _shown(name: str) -> str:
    """Return a column name that is fit to be shown: short and printable."""
    return name[:40] if name.isprintable() else ascii(name[:40])


def number(source: Source, row: int, column: str, value: Any) -> float:
    """Return a cell as a finite float, or raise naming file, row and column."""
    try:
        found = float("x" if isinstance(value, bool) else value)
    except (TypeError, ValueError, OverflowError):
        raise LatencyModelError(
            f"{source}: {column} in row {row} must be a number, got {str(value)[:40]!r}"
        ) from None
    if not math.isfinite(found):
        raise LatencyModelError(f"{source}: {column} in row {row} must be finite, got {found}")
    if found and not 1 / LARGEST <= abs(found) <= LARGEST:
        raise LatencyModelError(
            f"{source}: {column} in row {row} must be 0 or of a size from {1 / LARGEST:g} to "
            f"{LARGEST:g}, got {found:g}: check its unit"
        )
    return found
