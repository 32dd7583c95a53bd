"""Do all records of a file of JSON lines have one shape - and, if so, what stands in a few keys?

Decoding into a fixed shape is several times as fast as into dictionaries, and a key or a nested
object that the shape does not know is an error: so it also tells that nothing was overlooked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from operator import attrgetter
from typing import Any

from afdplan.files.document import Source

__all__ = ["line_blocks", "shape_reader"]

Path = tuple[str, ...]

BLOCK = 1 << 24
KEPT = 1 << 25
"""Bytes of a file whose records are kept from looking at them to reading them."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def line_blocks(source: Source) -> Iterator[bytes]:
    """Yield a file in blocks of whole lines."""
    with source.path.open("rb") as handle:
        handle.seek(len(BYTE_ORDER_MARK) if source.head.startswith(BYTE_ORDER_MARK) else 0)
        while block := handle.read(BLOCK):
            yield block + handle.readline()


def shape_reader(
    source: Source,
    paths: Sequence[Path],
    lists: Collection[Path],
    widen: Callable[[Any], Sequence[Path] | None],
) -> Callable[[Sequence[Path]], list[list[Any]]] | None:
    """Return what reads the values at some of the paths from every line, or None.

    Parameters
    ----------
    source
        A file with one JSON object per line.
    paths
        Keys that lead to every value that is no object, so far as is known.
    lists
        Those of lists: they are only searched for objects, not taken apart.
    widen
        Called with the first record that has another key, or an object where none is known: it
        returns the paths with those, or None if only looking at each record tells what there is.
    """
    fits = _Checker(paths, lists)
    kept: list[tuple[list[Path], list[Any]]] = []
    size = 0
    for block in line_blocks(source):
        size += len(block)
        rest = block
        while (records := fits(rest)) is None:
            at, odd = _first_odd(fits, rest)
            wider = widen(odd) if isinstance(odd, dict) else None
            if wider is None or len(wider) == len(fits.paths):
                return None
            if at:
                kept.append((fits.paths, fits(rest[:at]) or []))
            fits, rest = _Checker(wider, lists), rest[at:]
        kept.append((fits.paths, records))
        if size > KEPT:
            kept.clear()

    def read(wanted: Sequence[Path]) -> list[list[Any]]:
        again = size > KEPT or any(keys in lists for keys in wanted)
        values: list[list[Any]] = [[] for _ in wanted]
        for known, records in _read_again(source, fits.paths, wanted) if again else kept:
            leaves, places = set(known), _places(known)
            for column, keys in zip(values, wanted, strict=True):
                # A key that came later has no value before.
                has = keys in leaves
                column.extend(map(_getter(places[keys]), records) if has else [None] * len(records))
        return values

    return read


def _read_again(
    source: Source, paths: Sequence[Path], wanted: Sequence[Path]
) -> Iterator[tuple[list[Path], list[Any]]]:
    """Yield the records block by block with no more than is wanted in them."""
    import msgspec

    asked = set(wanted)
    few = [keys for keys in paths if any(keys[: k + 1] in asked for k in range(len(keys)))]
    decoder = msgspec.json.Decoder(_shape(few, is_closed=False))
    for block in line_blocks(source):
        yield few, decoder.decode_lines(block)


class _Checker:
    """Decodes lines whose records have just these keys."""

    def __init__(self, paths: Sequence[Path], lists: Collection[Path]) -> None:
        import msgspec

        self.paths = list(paths)
        self._decoder = msgspec.json.Decoder(_shape(self.paths, lists=lists))
        places = _places(self.paths) if lists else {}
        self._lists = [_getter(places[keys]) for keys in paths if keys in lists]

    def __call__(self, lines: bytes) -> list[Any] | None:
        """Return the records; None if one has another key or an object elsewhere."""
        import msgspec

        try:
            records: list[Any] = self._decoder.decode_lines(lines)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        # Compiled loops: this is done for every line of a file.
        has_objects = any(
            b"{" in b"".join(map(bytes, filter(None, map(of, records)))) for of in self._lists
        )
        return None if has_objects else records


def _first_odd(fits: _Checker, block: bytes) -> tuple[int, Any]:
    """Return where the first line that does not fit begins, and its value; None if it has none."""
    import msgspec

    low, high = 0, len(block)
    while (middle := block.find(b"\n", (low + high) // 2, high - 1) + 1) > low:
        low, high = (middle, high) if fits(block[low:middle]) is not None else (low, middle)
    for line in block[low:high].splitlines(keepends=True):
        if fits(line) is None:
            break
        low += len(line)
    try:
        return low, msgspec.json.decode(block[low:high].split(b"\n")[0])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return low, None


def _below(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Return what follows each first key of `paths`: one walk, however many keys there are."""
    found: dict[str, list[Path]] = {}
    for key, *rest in paths:
        found.setdefault(key, []).extend([tuple(rest)] if rest else [])
    return found


def _places(paths: Sequence[Path]) -> dict[Path, tuple[str, ...]]:
    """Return the attributes that lead to each value of a record."""
    found: dict[Path, tuple[str, ...]] = {}
    for at, (key, inner) in enumerate(_below(paths).items()):
        found[key,] = (f"f{at}",)
        found |= {(key, *rest): (f"f{at}", *place) for rest, place in _places(inner).items()}
    return found


def _shape(
    paths: Sequence[Path], is_closed: bool = True, lists: Collection[Path] = (), above: Path = ()
) -> Any:
    """Return a type of records with these keys, in which no other value is an object.

    Closed, it has no other keys; else those are skipped, which costs next to nothing.
    """
    import msgspec

    scalar = int | float | str | bool | None
    plain = scalar | list[scalar | list[scalar]]
    fields: list[Any] = []
    rename: dict[str, str] = {}
    for at, (key, inner) in enumerate(_below(paths).items()):
        attribute, here = f"f{at}", (*above, key)
        rename[attribute] = key
        kind: Any = plain | _shape(inner, is_closed, lists, here) if inner else plain
        kind = msgspec.Raw if not inner and here in lists else kind
        fields.append((attribute, kind, msgspec.Raw() if kind is msgspec.Raw else None))
    return msgspec.defstruct(
        "Record", fields, rename=rename, forbid_unknown_fields=is_closed, gc=False
    )


def _getter(attributes: tuple[str, ...]) -> Callable[[Any], Any]:
    """Return what takes a value out of a record; None if it has none."""
    if len(attributes) == 1:
        return attrgetter(attributes[0])

    def get(record: Any) -> Any:
        for attribute in attributes:
            record = getattr(record, attribute, None)
        return record

    return get
