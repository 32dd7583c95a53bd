"""Do all records of a file of JSON lines have one shape - and, if so, what stands in a few keys?

Decoding into a fixed shape is several times as fast as into dictionaries, and a key or a nested
object that the shape does not know is an error: so it also tells that nothing was overlooked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any

from afdplan.files.document import Source

__all__ = ["line_blocks", "shape_reader"]

Path = tuple[str, ...]

BLOCK = 1 << 24
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def line_blocks(source: Source) -> Iterator[bytes]:
    """Yield a file in blocks of whole lines."""
    with source.path.open("rb") as handle:
        handle.seek(len(BYTE_ORDER_MARK) if source.head.startswith(BYTE_ORDER_MARK) else 0)
        while block := handle.read(BLOCK):
            yield block + handle.readline()


def shape_reader(
    source: Source, paths: Sequence[Path]
) -> Callable[[Sequence[Path]], list[list[Any]]] | None:
    """Return what reads the values at some of `paths` from every line, or None.

    None if a record has another key, or an object where `paths` know none: then only looking at
    each record tells what there is.

    Parameters
    ----------
    source
        A file with one JSON object per line.
    paths
        Keys that lead to every value that is no object.
    """
    import msgspec

    decoder = msgspec.json.Decoder(_shape(list(paths)))
    try:
        for block in line_blocks(source):
            if not all(record is not None for record in decoder.decode_lines(block)):
                return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None

    def read(wanted: Sequence[Path]) -> list[list[Any]]:
        getters = [_getter(list(paths), keys) for keys in wanted]
        values: list[list[Any]] = [[] for _ in wanted]
        for block in line_blocks(source):
            records = decoder.decode_lines(block)
            for column, getter in zip(values, getters, strict=True):
                column.extend(map(getter, records))
        return values

    return read


def _fields(paths: Sequence[Path]) -> dict[str, str]:
    """Return key -> attribute for the first keys of `paths`."""
    return {key: f"f{at}" for at, key in enumerate(dict.fromkeys(keys[0] for keys in paths))}


def _below(paths: Sequence[Path], key: str) -> list[Path]:
    return [keys[1:] for keys in paths if keys[0] == key and len(keys) > 1]


def _shape(paths: Sequence[Path]) -> Any:
    """Return a type of records with just these keys, in which no other value is an object."""
    import msgspec

    scalar = int | float | str | bool | None
    plain = scalar | list[scalar | list[scalar]]
    fields: list[Any] = []
    for key, attribute in _fields(paths).items():
        inner = _below(paths, key)
        fields.append((attribute, plain | _shape(inner) if inner else plain, None))
    rename = {attribute: key for key, attribute in _fields(paths).items()}
    return msgspec.defstruct("Record", fields, rename=rename, forbid_unknown_fields=True, gc=False)


def _getter(paths: Sequence[Path], keys: Path) -> Callable[[Any], Any]:
    """Return what takes the value at `keys` out of a record; None if it has none."""
    attributes = []
    while keys:
        attributes.append(_fields(paths)[keys[0]])
        paths, keys = _below(paths, keys[0]), keys[1:]
    if len(attributes) == 1:
        return attrgetter(attributes[0])

    def get(record: Any) -> Any:
        for attribute in attributes:
            record = getattr(record, attribute, None)
        return record

    return get
