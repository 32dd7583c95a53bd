"""Which columns do JSON records have, one per line, in one list, or as arrays of one object?"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from afdplan.errors import TraceError
from afdplan.files.document import Source
from afdplan.files.traces.records import (
    Record,
    decode,
    is_arrays,
    is_bundle,
    parts,
    records_of,
    where,
)
from afdplan.files.traces.table import Table, shown

if TYPE_CHECKING:
    import polars as pl

__all__ = ["json_table"]

Path = tuple[str, ...]

SAMPLE = 1000
"""Records whose keys are looked at; later ones may have no column that these do not have."""
DEEPEST = 12
LARGEST_VALUE = 1 << 30
"""Bytes of a trace that is one JSON value: all of it is in memory, several times as large."""
BLOCK = 1 << 24
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def json_table(source: Source) -> Table:
    """Return the table of JSON records; nested keys get dotted names.

    Known are one object per line, a list of objects, an object that holds such a list, an
    object (or several, one per line) of arrays as benchmark clients write it, and
    OpenTelemetry's export of spans.

    Raises
    ------
    TraceError
        If the text is no JSON, cut, nested without end, or holds no objects.
    """
    if _has_lines(source):
        sample = list(itertools.islice(_line_records(source), SAMPLE))
        if not any(is_bundle(record) for _, record in sample):
            return _table_of_lines(source, [record for _, record in sample])
        numbered = [
            (line, part) for line, record in _line_records(source) for part in parts(record)
        ]
        records, numbers = [part for _, part in numbered], [line for line, _ in numbered]
    else:
        records, numbers = _whole(source), []
    if records and is_arrays(records[0]):
        return _table_of_arrays(source.name, records)
    return _table_of_records(source.name, records, numbers)


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


def _whole(source: Source) -> list[Record]:
    """Return the records of a file that is one JSON value."""
    data = source.content(LARGEST_VALUE).removeprefix(BYTE_ORDER_MARK)
    try:
        value = decode(data)
    except ValueError as error:
        raise TraceError(f"{source.name}: {where(data, str(error))}") from None
    return records_of(source.name, value)


def _lines(source: Source) -> Iterator[tuple[int, bytes]]:
    """Yield (1-based line, text) of every line that is not blank."""
    with source.path.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            text = line.removeprefix(BYTE_ORDER_MARK).strip() if number == 1 else line.strip()
            if text:
                yield number, text


def _record(source: Source, number: int, text: bytes) -> Record:
    """Return the object of one line."""
    try:
        value = decode(text)
    except ValueError as error:
        raise _bad_line(source, number, str(error)) from None
    if not isinstance(value, dict):
        raise _bad_line(source, number, f"an object is needed, got {shown(str(value))}")
    return value


def _line_records(source: Source) -> Iterator[tuple[int, Record]]:
    """Yield (1-based line, object) of a file with one per line."""
    return ((number, _record(source, number, text)) for number, text in _lines(source))


def _bad_line(source: Source, number: int, reason: str) -> TraceError:
    cut = "truncated" in reason
    what = "is cut short" if cut else f"is no JSON record ({shown(reason, 120)})"
    return TraceError(f"{source.name}, line {number}: {what}; mend or delete the line")


def _paths(records: Iterable[Record]) -> dict[str, Path]:
    """Return dotted name -> keys of every value that is no object, in order of appearance."""
    paths: dict[str, Path] = {}
    for record in records:
        todo: list[tuple[Path, Any]] = [((key,), value) for key, value in record.items()]
        while todo:
            keys, value = todo.pop(0)
            if isinstance(value, dict) and value and len(keys) < DEEPEST:
                todo[:0] = [((*keys, key), inner) for key, inner in value.items()]
            else:
                paths.setdefault(".".join(keys), keys)
    return paths


def _table_of_records(name: str, records: Sequence[Record], numbers: Sequence[int]) -> Table:
    if not records:
        raise TraceError(f"{name}: holds no requests; a trace needs at least one")
    paths = _paths(records[:SAMPLE])

    def read(names: Sequence[str]) -> list[pl.Series]:
        return [_series([_walk(record, paths[n]) for record in records]) for n in names]

    def line(row: int) -> int | None:
        return numbers[row] if row < len(numbers) else None

    return Table(name=name, columns=tuple(paths), read=read, line=line)


def _walk(record: Any, keys: Path) -> Any:
    for key in keys:
        record = record.get(key) if isinstance(record, dict) else None
    return record


def _table_of_lines(source: Source, sample: Sequence[Record]) -> Table:
    """Return a table that decodes, line by line, only the values asked for."""
    paths = _paths(sample)

    def read(names: Sequence[str]) -> list[pl.Series]:
        import msgspec

        wanted = [paths[name] for name in names]
        decoder = msgspec.json.Decoder(_shape(wanted))
        getters = [_getter(wanted, keys) for keys in wanted]
        values: list[list[Any]] = [[] for _ in names]
        start = 0
        for block in _blocks(source):
            try:
                shapes = decoder.decode_lines(block)
            except (msgspec.DecodeError, RecursionError):
                records = [
                    _record(source, start + number, text.strip())
                    for number, text in enumerate(block.split(b"\n"), start=1)
                    if text.strip()
                ]
                for column, keys in zip(values, wanted, strict=True):
                    column.extend(_walk(record, keys) for record in records)
            else:
                for column, getter in zip(values, getters, strict=True):
                    column.extend(map(getter, shapes))
            start += block.count(b"\n")
        return [_series(column) for column in values]

    def line(row: int) -> int | None:
        numbers = (number for number, _ in _lines(source))
        return next(itertools.islice(numbers, row, None), None)

    return Table(name=source.name, columns=tuple(paths), read=read, line=line)


def _blocks(source: Source) -> Iterator[bytes]:
    """Yield the file in blocks of whole lines."""
    with source.path.open("rb") as handle:
        handle.seek(len(BYTE_ORDER_MARK) if source.head.startswith(BYTE_ORDER_MARK) else 0)
        while block := handle.read(BLOCK):
            yield block + handle.readline()


def _fields(paths: Sequence[Path]) -> dict[str, str]:
    """Return key -> attribute for the first keys of `paths`."""
    return {key: f"f{at}" for at, key in enumerate(dict.fromkeys(keys[0] for keys in paths))}


def _below(paths: Sequence[Path], key: str) -> list[Path]:
    return [keys[1:] for keys in paths if keys[0] == key and len(keys) > 1]


def _shape(paths: Sequence[Path]) -> Any:
    """Return a type that holds just the values at `paths`; a decoder skips all others."""
    import msgspec

    fields: list[Any] = []
    for key, attribute in _fields(paths).items():
        inner = _below(paths, key)
        kind = (_shape(inner) | None) if inner else Any
        fields.append((attribute, kind, None))
    rename = {attribute: key for key, attribute in _fields(paths).items()}
    return msgspec.defstruct("Record", fields, rename=rename, gc=False)


def _getter(paths: Sequence[Path], keys: Path) -> Callable[[Any], Any]:
    """Return what takes the value at `keys` out of a decoded record; None if it has none."""
    attributes = []
    while keys:
        attributes.append(_fields(paths)[keys[0]])
        paths, keys = _below(paths, keys[0]), keys[1:]
    if len(attributes) == 1:
        return operator.attrgetter(attributes[0])

    def get(record: Any) -> Any:
        for attribute in attributes:
            if record is None:
                break
            record = getattr(record, attribute)
        return record

    return get


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

    # Every run starts its own clock: arrivals of several cannot be put on one line of time.
    names = [key for key in runs[0] if fits(key) and (len(runs) == 1 or key != "start_times")]
    notes = (f"{len(runs)} benchmark runs were put one after another",) if len(runs) > 1 else ()

    def read(wanted: Sequence[str]) -> list[pl.Series]:
        return [_series([value for run in runs for value in run[key]]) for key in wanted]

    return Table(name=name, columns=tuple(names), read=read, line=lambda _row: None, notes=notes)


def _series(values: list[Any]) -> pl.Series:
    """Return the values as numbers if all are numbers, else as text; null stays null."""
    import polars as pl

    kinds = set(map(type, values)) - {type(None)}
    if kinds <= {bool}:
        return pl.Series(values, dtype=pl.Boolean if kinds else pl.Null)
    if kinds == {int} and all(-(2**63) <= v < 2**63 for v in values if v is not None):
        return pl.Series(values, dtype=pl.Int64)
    if kinds <= {int, float}:
        return pl.Series([None if v is None else _real(v) for v in values], dtype=pl.Float64)
    texts = [None if v is None else v if isinstance(v, str) else str(v) for v in values]
    return pl.Series(texts, dtype=pl.String)


def _real(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
