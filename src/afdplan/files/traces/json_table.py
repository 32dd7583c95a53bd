"""Which tables do JSON records hold: one per list of objects, however deep it stands?"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from afdplan.errors import TraceError
from afdplan.files.document import Source
from afdplan.files.traces.json_shape import BYTE_ORDER_MARK, line_blocks, shape_reader
from afdplan.files.traces.json_values import series
from afdplan.files.traces.partial import pages_left
from afdplan.files.traces.records import (
    RUN,
    Record,
    decode,
    is_arrays,
    is_bundle,
    parts,
    records_of,
    where,
)
from afdplan.files.traces.table import SNAPSHOT, Table, shown

__all__ = ["json_tables"]

Path = tuple[str, ...]
Blocks = Iterator[list[Record]]

DEEPEST = 12
RETOKENIZED = "total_output_tokens_retokenized"
SAMPLE = 1000
"""Records by whose keys the shape of all is guessed, before the others are held against it."""
LARGEST_VALUE = 1 << 30
"""Bytes of a trace that is one JSON value: all of it is in memory, several times as large."""

_NO_TRACES = (
    (re.compile(rb'"resultType"\s*:\s*"(vector|matrix)"'), SNAPSHOT),
    (
        re.compile(rb"(?m)^\[[^\]\n]*\] (Decode|Prefill) batch"),
        "is the log of a server, which holds no lengths of requests: afdplan calibrate reads the "
        "times of its steps",
    ),
)
"""What looks like JSON and holds no requests, and what to say of it."""


def json_tables(source: Source) -> list[Table]:
    """Return the tables of JSON records, that of the records themselves first.

    Known are one object per line, a list of objects, an object (or several, one per line) of
    arrays as benchmark clients write it, and OpenTelemetry's export of spans. Nested keys get
    dotted names; a list of objects inside a record is a table of its own, whose rows have the
    values around the list too. Names are those of the whole file, not of its first records.

    Raises
    ------
    TraceError
        If the text is no JSON, cut, nested without end, or holds no objects.
    """
    for marks, told in _NO_TRACES:
        if marks.search(source.head):
            raise TraceError(f"{source.name}: {told}")
    has_lines = _has_lines(source)
    value = None if has_lines else _value(source)
    whole = [] if has_lines else records_of(source.name, value)

    def blocks() -> Blocks:
        return _blocks(source) if has_lines else iter([whole])

    def line(at: int) -> int | None:
        numbered = ((n, record) for n, text in _lines(source) for record in [decode(text)])
        numbers = (n for n, record in numbered for _ in parts(record, itertools.count()))
        return next(itertools.islice(numbers, at, None), None) if has_lines else None

    head = itertools.islice(_lines(source), SAMPLE) if has_lines else ()
    sample = [_record(source, number, text) for number, text in head] or whole
    if not sample:
        raise TraceError(f"{source.name}: holds no requests; a trace needs at least one")
    if is_arrays(sample[0]):
        return [_table_of_arrays(source.name, [r for block in blocks() for r in block])]
    structure = _Structure()
    if has_lines and not any(map(is_bundle, sample)):
        for record in sample:
            structure.learn(record)

        def widen(record: Record) -> tuple[Path, ...] | None:
            structure.learn(record)
            has_rows = is_bundle(record) or len(structure.levels()) > 1
            return None if has_rows else tuple(structure.paths)

        if len(structure.levels()) == 1:
            read = shape_reader(source, tuple(structure.paths), structure.listed, widen)
            if read is not None:
                return [_shaped_table(source.name, tuple(structure.paths), read, line)]
    for block in blocks():
        for record in block:
            structure.learn(record)
    doubts = pages_left(sample if has_lines else [value])
    return [
        replace(_level(source.name, blocks, line, structure.paths, level), doubts=doubts)
        for level in structure.levels()
    ]


def _shaped_table(
    name: str,
    paths: tuple[Path, ...],
    read: Callable[[Sequence[Path]], list[list[Any]]],
    line: Callable[[int], int | None],
) -> Table:
    keys = {".".join(path): path for path in reversed(paths)}

    def columns(names: Sequence[str]) -> list[pl.Series]:
        return [series(values) for values in read([keys[name] for name in names])]

    return Table(name=name, columns=tuple(reversed(keys)), read=columns, line=line)


def _has_lines(source: Source) -> bool:
    """Return whether the file has one JSON object per line, and not one value in all."""
    lines = _lines(source)
    _, first = next(lines)
    _, second = next(lines, (0, b""))
    if not second or first[:1] == b"[":
        return False
    try:
        decode(first)
    except ValueError:
        return second[:1] == b"{" and len(first) > 1
    return True


def _value(source: Source) -> Any:
    """Return the value of a file that is one JSON value."""
    data = source.content(LARGEST_VALUE).removeprefix(BYTE_ORDER_MARK)
    try:
        return decode(data)
    except ValueError as error:
        raise TraceError(f"{source.name}: {where(data, str(error))}") from None


def _lines(source: Source) -> Iterator[tuple[int, bytes]]:
    """Yield (1-based line, text) of every line that is not blank."""
    with source.path.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            text = line.removeprefix(BYTE_ORDER_MARK).strip() if number == 1 else line.strip()
            if text:
                yield number, text


def _blocks(source: Source) -> Blocks:
    """Yield the records of a file with one object per line, block by block."""
    import msgspec

    decoder = msgspec.json.Decoder()
    start, runs = 0, itertools.count(1)
    for block in line_blocks(source):
        try:
            records = decoder.decode_lines(block)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            records = [None]
        if not all(type(record) is dict for record in records):
            records = [
                _record(source, start + number, text.strip())
                for number, text in enumerate(block.split(b"\n"), start=1)
                if text.strip()
            ]
        start += block.count(b"\n")
        if any(map(is_bundle, records)):
            records = [part for record in records for part in parts(record, runs)]
        yield records


def _record(source: Source, number: int, text: bytes) -> Record:
    """Return the object of one line."""
    try:
        value = decode(text)
    except ValueError as error:
        raise _bad_line(source, number, str(error)) from None
    if not isinstance(value, dict):
        raise _bad_line(source, number, f"an object is needed, got {shown(str(value))}")
    return value


def _bad_line(source: Source, number: int, reason: str) -> TraceError:
    cut = "truncated" in reason
    what = "is cut short" if cut else f"is no JSON record ({shown(reason, 120)})"
    return TraceError(f"{source.name}, line {number}: {what}; mend or delete the line")


class _Structure:
    """The keys of records, learnt one record after another.

    Attributes
    ----------
    paths
        For the keys that lead to each value that is no object: how many of them lead to each
        list of objects on the way. In order of appearance.
    listed
        Those that led to a list.
    """

    def __init__(self) -> None:
        self.paths: dict[Path, tuple[int, ...]] = {}
        self.listed: set[Path] = set()
        self._inner: dict[Any, tuple[str, ...]] = {}

    def learn(self, node: Record, above: Path = (), lists: tuple[int, ...] = ()) -> None:
        """Add the keys of one object; a kind of object seen before costs next to nothing."""
        kind = (above, tuple(node), tuple(map(type, node.values())))
        inner = self._inner.get(kind)
        if inner is None:
            inner = self._inner[kind] = self._new(node, above, lists)
        for key in inner:
            value = node[key]
            if type(value) is dict:
                self.learn(value, (*above, key), lists)
            elif value and type(value[0]) is dict:
                for item in value:
                    if type(item) is dict:
                        self.learn(item, (*above, key), (*lists, len(above) + 1))

    def _new(self, node: Record, above: Path, lists: tuple[int, ...]) -> tuple[str, ...]:
        """Add the keys of a new kind of object; return those that may lead further down."""
        if len(above) < DEEPEST:
            inner = tuple(key for key, value in node.items() if type(value) in (dict, list))
        else:
            inner = ()
        for key, value in node.items():
            if type(value) is list:
                self.listed.add((*above, key))
            if key not in inner or type(value) is list or not value:
                self.paths.setdefault((*above, key), lists)
        return inner

    def levels(self) -> list[tuple[Path, ...]]:
        """Return the chains of lists whose objects are rows, shortest first."""
        found = {_level_of(keys, lists) for keys, lists in self.paths.items()} | {()}
        return sorted(found, key=lambda level: (len(level), level))


def _level_of(keys: Path, lists: tuple[int, ...]) -> tuple[Path, ...]:
    return tuple(keys[:depth] for depth in lists)


def _level(
    name: str,
    blocks: Callable[[], Blocks],
    line: Callable[[int], int | None],
    paths: dict[Path, tuple[int, ...]],
    level: tuple[Path, ...],
) -> Table:
    """Return the table whose rows are the objects of the innermost list of `level`."""
    inner: dict[str, tuple[int, Path]] = {}
    full: dict[str, str] = {}
    steps = [len(keys) for keys in level]
    # The row's own values first: they hide those of the same name around it.
    for keys, lists in sorted(paths.items(), key=lambda item: -len(item[1])):
        chain = _level_of(keys, lists)
        if chain == level[: len(chain)]:
            rest = keys[lists[-1] :] if lists else keys
            inner.setdefault(".".join(rest), (len(lists), rest))
            full[".".join(keys)] = ".".join(rest)
    ways = [keys[start:] for keys, start in zip(level, [0, *steps], strict=False)]

    def rows(block: list[Record]) -> list[list[Any]]:
        stacks: list[list[Any]] = [[record] for record in block]
        for way in ways:
            stacks = [[*stack, item] for stack in stacks for item in _items(_walk(stack[-1], way))]
        return stacks

    def read(names: Sequence[str]) -> list[pl.Series]:
        wanted = [inner[name] for name in names]
        values: list[list[Any]] = [[] for _ in names]
        for block in blocks():
            stacks = rows(block) if level else []
            for column, (depth, keys) in zip(values, wanted, strict=True):
                nodes = [stack[depth] for stack in stacks] if level else block
                if len(keys) == 1:
                    column += [node.get(keys[0]) for node in nodes]
                else:
                    column += [_walk(node, keys) for node in nodes]
        return [series(column) for column in values]

    def row_line(at: int) -> int | None:
        if not level:
            return line(at)
        numbers = (n for block in blocks() for n, r in enumerate(block) for _ in rows([r]))
        return line(next(itertools.islice(numbers, at, None), 0))

    return Table(
        name=name,
        columns=tuple(inner),
        read=read,
        line=row_line,
        level=".".join(level[-1]) if level else "",
        own=sum(depth == len(level) for depth, _ in inner.values()),
        full=full,
    )


def _items(value: Any) -> list[Any]:
    """Return the objects of a list; one object alone is a list of one."""
    if isinstance(value, dict):
        return [value]
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _walk(record: Any, keys: Path) -> Any:
    for key in keys:
        record = record.get(key) if isinstance(record, dict) else None
    return record


def _table_of_arrays(name: str, records: Sequence[Record]) -> Table:
    """Return the table of benchmark results: one object of arrays per run."""
    runs = [record for record in records if is_arrays(record)]
    for at, run in enumerate(runs, start=1):
        if len(run["input_lens"]) != len(run["output_lens"]):
            raise TraceError(
                f"{name}: run {at} must have as many input_lens as output_lens, got "
                f"{len(run['input_lens'])} and {len(run['output_lens'])}; fetch the file again"
            )
    sizes = [len(run["input_lens"]) for run in runs]

    def fits(key: str) -> bool:
        return all(
            isinstance(run.get(key), list) and len(run[key]) == size
            for run, size in zip(runs, sizes, strict=True)
        )

    columns: dict[str, list[Any]] = {
        key: [value for run in runs for value in run[key]] for key in runs[0] if fits(key)
    }
    columns[RUN] = [at for at, size in enumerate(sizes, start=1) for _ in range(size)]
    short = len(records) - len(runs)
    return Table(
        name=name,
        columns=tuple(columns),
        read=lambda wanted: [series(columns[key]) for key in wanted],
        line=lambda _row: None,
        notes=(f"{short} of {len(records)} runs hold no lengths",) if short else (),
        totals=tuple(
            (at, side, float(run[key]))
            for at, run in enumerate(runs, start=1)
            for side, key in (("prompt", "total_input_tokens"), ("decode", "total_output_tokens"))
            if isinstance(run.get(key), int | float)
        ),
        counted_again=tuple(
            (at, float(run["total_output_tokens"]), float(run[RETOKENIZED]))
            for at, run in enumerate(runs, start=1)
            if all(isinstance(run.get(k), int) for k in ("total_output_tokens", RETOKENIZED))
        ),
    )
