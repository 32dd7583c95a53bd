"""Which records does a log of JSON lines hold, if its writer may have been stopped in the last?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgspec

from afdplan.errors import LatencyModelError
from afdplan.files.document import Source

__all__ = ["whole_document", "whole_records"]

Record = TypeVar("Record")


def whole_document(source: Source, limit: int) -> Any:
    """Return what a file of one JSON value holds.

    Raises
    ------
    LatencyModelError
        If it is no JSON, or larger than `limit` [bytes].
    """
    try:
        return msgspec.json.decode(source.content(limit))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LatencyModelError(
            f"{source} is no JSON: {str(error)[:120] or 'nested too deeply'}"
        ) from None


def whole_records(
    source: Source, decode: Callable[[bytes], Record], cut: list[str], what: str = "record"
) -> Iterator[tuple[int, Record]]:
    """Yield the number and the record of each line that is not empty.

    Parameters
    ----------
    source
        The file, maybe gzip.
    decode
        What reads a line.
    cut
        Gets a note if the last line was cut.
    what
        What messages call a record.

    Raises
    ------
    LatencyModelError
        If a line before the last one is no record; the message names it.
    """
    broken: tuple[int, str] | None = None
    for at, line in source.lines():
        if not line.strip():
            continue
        if broken is not None:
            raise LatencyModelError(f"{source}: line {broken[0]} is no {what}: {broken[1]}")
        try:
            record = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            broken = (at, str(error)[:120] or "nested too deeply")
            continue
        yield at, record
    if broken is not None:
        cut.append(f"Line {broken[0]}, the last one, was cut and is left out.")
