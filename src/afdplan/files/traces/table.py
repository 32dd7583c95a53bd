"""Which columns does a table file have, and what stands in a few of them?"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TextIO

import numpy as np
import polars as pl

from afdplan.errors import TraceError
from afdplan.files.document import LONGEST_LINE, Source

__all__ = ["Table", "csv_table", "parquet_tables", "shown"]

Field = tuple[str, pl.Expr, Any]
"""Dotted name, expression and type of a column or of a part of one."""
NULLS = ["null", "NULL", "None", "NA", "N/A", "n/a"]
BLOCK = 1 << 24
LARGEST_CELL = 1 << 23
"""Characters: a quote that nobody closes makes a cell of all that follows."""
SNAPSHOT = (
    "is a snapshot of metrics, which hold no requests: afdplan check --metrics reads it, and "
    "afdplan calibrate --to-trace lays out its lengths (results without names as prompt=FILE and "
    "decode=FILE)"
)
COUNTERS = re.compile(rb"(?m)^# (HELP|TYPE) |^\w*(vllm|sglang|dynamo)\w*[:_]\w+\{")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table whose columns are read only when asked for.

    Attributes
    ----------
    name
        The file, for messages.
    columns
        Column names as the file spells them; nested fields joined by dots.
    read
        Takes column names, returns their series (text or numbers) in that order.
    line
        Takes a 0-based row, returns its line in the file; None if the file has no lines.
    notes
        What the reader decided.
    level
        Dotted name of the nested list whose objects are the rows; empty for the file's own rows.
    own
        How many columns, the first ones, are the rows' own and do not stand around the list.
    full
        Names from the top of a record, for columns that have a shorter one in this table.
    totals
        What the file itself says of its runs: (run, ``prompt`` or ``decode``, tokens in all).
    counted_again
        (run, output tokens by the server, and by the client that tokenised the texts again).
    doubts
        Why it may not be all that there is.
    """

    name: str
    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], list[pl.Series]]
    line: Callable[[int], int | None]
    notes: tuple[str, ...] = field(default=())
    level: str = ""
    own: int = 0
    full: Mapping[str, str] = field(default_factory=dict)
    totals: tuple[tuple[int, str, float], ...] = ()
    counted_again: tuple[tuple[int, float, float], ...] = ()
    doubts: tuple[str, ...] = ()

    def place(self, row: int, column: str) -> str:
        """Return "FILE, row R (line L), column C" for a message; `row` counts from 0."""
        line = self.line(row)
        where = f" (line {line})" if line is not None else ""
        return f"{self.name}, row {row + 1}{where}, column {shown(column)}"


def shown(value: object, width: int = 40) -> str:
    """Return `value` quoted on one line, cut when long."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= width else text[: width - 3] + "..."


@contextmanager
def one_line(name: str, what: str) -> Iterator[None]:
    """Turn whatever the table library raises into one line that names the file."""
    try:
        yield
    except TraceError:
        raise
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = " ".join(str(error).split())
        raise TraceError(f"{name}: {what} ({shown(reason, 120)})") from None


def parquet_tables(source: Source) -> list[Table]:
    """Return the tables of a Parquet file, as those of JSON: nested fields get dotted names.

    Raises
    ------
    TraceError
        If the file is cut short or damaged.
    """
    damaged = "is a Parquet file cut short or damaged; fetch it again"
    with one_line(source.name, damaged):
        frame = pl.scan_parquet(source.path, glob=False)
        schema = frame.collect_schema()
    tables: list[Table] = []
    # (rows, expressions of the columns around them, dotted name of the list, its own columns)
    top: list[Field] = [(name, pl.col(name), kind) for name, kind in schema.items()]
    todo = [(frame, dict[str, tuple[pl.Expr, str]](), "", top)]
    while todo:
        rows, around, level, own = todo.pop(0)
        found: dict[str, tuple[pl.Expr, str]] = {}
        lists: list[tuple[str, pl.Expr, pl.Struct]] = []
        for name, expression, kind in _flattened(own):
            if isinstance(kind, pl.List) and isinstance(kind.inner, pl.Struct):
                lists.append((name, expression, kind.inner))
            short = name.removeprefix(level + ".") if level else name
            found[short] = (expression, name)
        columns = {**found, **{n: e for n, e in around.items() if n not in found}}
        table = _parquet_level(source.name, rows, columns, level, damaged)
        tables.append(replace(table, own=len(found)))
        for name, expression, inner in lists:
            row = f"row {len(tables)} {len(todo)}"
            below = rows.with_columns(expression.alias(row)).explode(row).drop_nulls(row)
            fields: list[Field] = [
                (f"{name}.{f.name}", pl.col(row).struct.field(f.name), f.dtype)
                for f in inner.fields
            ]
            todo.append((below, columns, name, fields))
    return tables


def _parquet_level(
    name: str,
    rows: pl.LazyFrame,
    columns: Mapping[str, tuple[pl.Expr, str]],
    level: str,
    damaged: str,
) -> Table:
    def read(names: Sequence[str]) -> list[pl.Series]:
        picked = [columns[name][0].alias(str(at)) for at, name in enumerate(names)]
        with one_line(name, damaged):
            return rows.select(picked).collect(engine="streaming").get_columns()

    return Table(
        name=name,
        columns=tuple(columns),
        read=read,
        line=lambda _row: None,
        level=level,
        full={full: short for short, (_, full) in columns.items()},
    )


def _flattened(
    fields: Sequence[Field],
) -> Iterator[Field]:
    """Yield (dotted name, expression, type) for each column and each field of a struct column."""
    todo = list(fields)
    while todo:
        name, expression, kind = todo.pop(0)
        if isinstance(kind, pl.Struct):
            todo[:0] = [
                (f"{name}.{part.name}", expression.struct.field(part.name), part.dtype)
                for part in kind.fields
            ]
        else:
            yield name, expression, kind


def csv_table(source: Source) -> Table:
    """Return the table of a text file with a header and one row per line.

    The delimiter (comma, semicolon, tab or bar) is the one that splits the header into most
    columns; blank lines and lines that start with ``#`` before the header are skipped.

    Raises
    ------
    TraceError
        If there is no header, or, once read, a row has more or fewer fields than the header.
    """
    if COUNTERS.search(source.head):
        raise TraceError(f"{source.name}: {SNAPSHOT}")
    skip, header, delimiter = _header(source)
    if len(header) == 1 and re.fullmatch(r"[\w-]+:(\s.*)?", header[0]):
        raise TraceError(f"{source.name}: is YAML; give the JSON file of the same run")

    def read(names: Sequence[str]) -> list[pl.Series]:
        positions = [header.index(name) for name in names]
        try:
            with one_line(source.name, "is no readable CSV; check its quotes"):
                frame = pl.scan_csv(
                    source.path,
                    separator=delimiter,
                    skip_lines=skip,
                    infer_schema=False,
                    encoding="utf8-lossy",
                    null_values=NULLS,
                    glob=False,
                    with_column_names=lambda found: [f"c{at}" for at in range(len(found))],
                ).select(pl.col(f"c{at}").alias(str(k)) for k, at in enumerate(positions))
                columns = frame.collect(engine="streaming").get_columns()
        except TraceError:
            _filled_rows(source, skip, header, delimiter)  # names the row, if it is a ragged one
            raise
        # A short row leaves a gap, a long one upsets the count of delimiters, and so does a
        # delimiter in quotes: only such files are parsed a second time to be sure.
        gaps = any(column.null_count() for column in columns)
        is_even = _every_line_agrees if gaps else _counts_agree
        if is_even(source, skip, len(header), delimiter):
            return columns
        filled = pl.Series(_filled_rows(source, skip, header, delimiter), dtype=pl.Boolean)
        if filled.all():
            return columns
        if len(filled) != len(columns[0]):
            raise TraceError(f"{source.name}: has blank lines within quotes; delete them")
        return [column.filter(filled) for column in columns]

    def line(row: int) -> int | None:
        filled = (at for at, cells in _data_rows(source, skip, delimiter) if not _is_blank(cells))
        return next(itertools.islice(filled, row, None), None)

    return Table(name=source.name, columns=tuple(header), read=read, line=line)


def _header(source: Source) -> tuple[int, list[str], str]:
    """Return (lines before the header, column names, delimiter)."""
    text = source.head.decode("utf-8-sig", errors="replace")
    lines = io.StringIO(text, newline=None)
    skip = 0
    for line in lines:
        if line.strip() and not line.startswith("#"):
            break
        skip += 1
    else:
        raise TraceError(f"{source.name}: has no header; the first line must name the columns")
    rest = line + lines.read()
    counted = {mark: len(next(_rows(rest, mark), [])) for mark in ",;\t|"}
    delimiter = max(counted, key=lambda mark: counted[mark])
    header = [name.strip() for name in next(_rows(rest, delimiter))]
    if all(_is_number(name) for name in header if name):
        raise TraceError(
            f"{source.name}: has no header: its first line is {shown(line.strip(), 60)}; "
            "add a first line that names the columns"
        )
    return skip, header, delimiter


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    try:
        yield from csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    except csv.Error:
        return


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _counts_agree(source: Source, skip: int, width: int, delimiter: str) -> bool:
    """Return whether delimiters and lines are in the header's proportion."""
    mark = delimiter.encode()
    marks = lines = 0
    for block in _blocks(source, skip):
        marks += block.count(mark)
        lines += block.count(b"\n") + (not block.endswith(b"\n"))
    return marks == lines * (width - 1)


def _every_line_agrees(source: Source, skip: int, width: int, delimiter: str) -> bool:
    """Return whether each line has the header's delimiters and no quotes."""
    for block in _blocks(source, skip):
        if b'"' in block:
            return False
        codes = np.frombuffer(block, dtype=np.uint8)
        marks = np.flatnonzero(codes == ord(delimiter))
        ends = np.flatnonzero(codes == ord("\n"))
        if not block.endswith(b"\n"):
            ends = np.append(ends, codes.size)
        counts = np.diff(np.searchsorted(marks, ends), prepend=0)
        if (counts != width - 1).any():
            return False
    return True


def _blocks(source: Source, skip: int) -> Iterator[bytes]:
    """Yield the file below its first `skip` lines in blocks of whole lines."""
    with source.path.open("rb") as handle:
        for _ in range(skip):
            handle.readline()
        while block := handle.read(BLOCK):
            yield block + handle.readline()


def _data_rows(source: Source, skip: int, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, fields) of each row below the header; a blank line has no fields."""
    csv.field_size_limit(LARGEST_CELL)
    with source.path.open(encoding="utf-8-sig", errors="replace", newline="") as handle:
        for _ in range(skip):
            handle.readline()
        reader = csv.reader(_lines(handle, source, skip), delimiter=delimiter)
        next(reader, None)
        before = reader.line_num
        try:
            for fields in reader:
                yield skip + before + 1, fields
                before = reader.line_num
        except csv.Error as error:
            raise TraceError(f"{source.name}, line {skip + before + 1}: {error}") from None


def _lines(handle: TextIO, source: Source, before: int) -> Iterator[str]:
    """Yield the lines of a text file, of which none may be endless."""
    for number in itertools.count(before + 1):
        line = handle.readline(LONGEST_LINE)
        if len(line) == LONGEST_LINE:
            raise TraceError(f"{source.name}: line {number} is longer than 64 MB")
        if not line:
            return
        yield line


def _filled_rows(source: Source, skip: int, header: list[str], delimiter: str) -> list[bool]:
    """Return which rows are no blank lines; raise at the first with too few or many fields."""
    filled: list[bool] = []
    for line, fields in _data_rows(source, skip, delimiter):
        filled.append(not _is_blank(fields))
        if filled[-1] and len(fields) != len(header):
            raise TraceError(
                f"{source.name}, row {sum(filled)} (line {line}): every row must have the header's "
                f"{len(header)} fields, got {len(fields)}; mend or delete the row"
            )
    return filled


def _is_blank(fields: list[str]) -> bool:
    return not fields or (len(fields) == 1 and not fields[0].strip())
