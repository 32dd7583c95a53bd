"""How is any file opened: packed or not, a pipe or standard input, and never more than it may be?

Every reader of the package comes through `open_source`, so that a missing file, a folder, an empty
or a binary one, a damaged archive and an endless pipe are refused in the same words.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, BinaryIO, Concatenate, ParamSpec, TypeAlias, TypeVar

from afdplan.errors import InvalidInputError, reason
from afdplan.files.content import kind_of, packing_of
from afdplan.files.parsed import from_json, from_toml
from afdplan.model.kinds import check_path

__all__ = [
    "LARGEST_DOCUMENT",
    "LONGEST_LINE",
    "Readable",
    "Source",
    "explained",
    "is_there",
    "open_source",
    "opened",
    "read_document",
]

HEAD_BYTES = 1 << 16
BLOCK = 1 << 20
LARGEST_DOCUMENT = 16_000_000
"""Bytes of a TOML or JSON file that is read as a whole."""
LARGEST_PIPE = 4_000_000_000
"""Bytes that are copied from a pipe, which has no size to look at."""
LONGEST_LINE = 64_000_000
LONGEST_NAME = 200
"""Characters of a path that a message says; of a longer one it says both ends."""
LARGEST_BOMB = 1 << 30
"""Bytes above which a file that shrank to under 1/200 is refused as a decompression bomb."""


Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


class Source:
    """An open file: its name, its first bytes, and its content unpacked, as often as needed.

    Attributes
    ----------
    name
        What the user called it, for messages.
    what
        What it should hold, for messages.
    error
        What to raise.
    kind
        "parquet", "json" (one value or one per line) or "text", judged by the first bytes.
    head
        Its first 64 KiB, unpacked.
    """

    def __init__(
        self, file: Path, name: str, what: str, error: type[InvalidInputError], stack: ExitStack
    ) -> None:
        self.name, self.what, self.error = name, what, error
        self._file, self._stack = file, stack
        self.head = next(self._blocks(HEAD_BYTES), b"")
        self.kind = kind_of(self.head, name, what, error)

    def __str__(self) -> str:
        return self.name

    @property
    def short_name(self) -> str:
        """The name without its folders."""
        return Path(self.name).name

    @cached_property
    def path(self) -> Path:
        """A plain file of the content: the user's own, or a copy that goes when the block ends."""
        is_text = os.fsencode(self._file).decode(errors="replace") == str(self._file)
        with self._file.open("rb") as file:
            if is_text and packing_of(file.read(4)) is None:  # polars opens names of Unicode only
                return self._file
        copy = _temporary_folder(self.name, self.error, self._stack)
        with explained(self.name, self.error), (copy / "unpacked").open("wb") as out:
            for block in self.blocks():
                out.write(block)
        return copy / "unpacked"

    def blocks(self) -> Iterator[bytes]:
        """Yield the content, 1 MiB at a time."""
        return self._blocks(BLOCK)

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield each line with its number, counted from 1, without its end; at most 64 MB each."""
        rest, number = bytearray(), 0
        for block in self.blocks():
            first, *whole = block.split(b"\n")
            rest += first  # joined once: a line of many blocks is not split anew with each
            for line in whole:
                number += 1
                yield number, bytes(rest).rstrip(b"\r")
                rest = bytearray(line)
            if len(rest) > LONGEST_LINE:
                raise self.error(f"{self.name}: line {number + 1} is longer than 64 MB")
        if rest:
            yield number + 1, bytes(rest).rstrip(b"\r")

    def content(self, limit: int = LARGEST_DOCUMENT) -> bytes:
        """Return all of the file if it has at most `limit` bytes, or raise."""
        found = bytearray()
        for block in self.blocks():
            found += block
            if len(found) > limit:
                raise _too_large(self.name, limit, self.what, self.error)
        return bytes(found)

    def text(self, limit: int = LARGEST_DOCUMENT) -> str:
        """Return all of the file as UTF-8 text of at most `limit` bytes, or raise."""
        try:
            return self.content(limit).decode("utf-8-sig")
        except UnicodeDecodeError as failure:
            raise self.error(
                f"{self.name} is binary at byte {failure.start}: {self.what} is text in UTF-8"
            ) from None

    def _blocks(self, size: int) -> Iterator[bytes]:
        """Yield the content unpacked, at most twice (a packed log within a packed download)."""
        with ExitStack() as stack, explained(self.name, self.error):
            file: BinaryIO = stack.enter_context(self._file.open("rb"))
            packed = self._file.stat().st_size
            method: str = ""
            failures: tuple[type[Exception], ...] = ()
            written = 0
            try:
                for _ in range(2):
                    packing = packing_of(file.read(4))
                    file.seek(0)
                    if packing is None:
                        break
                    method, opener, raised = packing
                    failures += raised
                    file = stack.enter_context(opener(file, "rb"))
                while block := file.read(size):
                    written += len(block)
                    if written > LARGEST_BOMB and written > 200 * packed and method:
                        raise self.error(
                            f"{self.name}: {packed} bytes of {method} unpack to more than "
                            f"{written}, too many for {self.what}; unpack it if you trust it"
                        )
                    yield block
            except failures:
                raise self.error(
                    f"{self.name}: the {method} data is cut short or damaged after {written} bytes "
                    "of content; fetch the file again"
                ) from None


Readable: TypeAlias = str | Path | Source
"""What every reader takes: a name, ``-`` for standard input, or a file that is open already."""


@contextmanager
def open_source(
    path: Readable,
    what: str,
    error: type[InvalidInputError] = InvalidInputError,
    limit: int | None = None,
) -> Iterator[Source]:
    """Yield the open file behind `path`; temporary copies go when the block ends.

    Parameters
    ----------
    path
        A file, a pipe, or ``-`` for standard input; plain or packed by gzip or zstd, judged by
        content. What is open already is passed on, so that a pipe is read once.
    what
        What it should hold, for messages: "a trace".
    error
        What to raise.
    limit
        The most bytes to take from a pipe, if fewer than 4 GB.

    Raises
    ------
    InvalidInputError
        Or the given `error`: if there is no such file, it is a directory, may not be read, is
        empty, damaged, binary, or a pipe that gives too much.
    """
    if isinstance(path, Source):
        yield path
        return
    check_path(path, error)
    name = "standard input" if str(path) == "-" else str(path)
    name = name if name.isprintable() else repr(name)
    with ExitStack() as stack:
        with explained(name, error):
            file = _regular_file(path, name, what, error, limit, stack)
        yield Source(file, name, what, error, stack)


def opened(
    what: str, error: type[InvalidInputError]
) -> Callable[
    [Callable[Concatenate[Source, Arguments], Answer]],
    Callable[Concatenate[Readable, Arguments], Answer],
]:
    """Let a reader of a `Source` take whatever `open_source` takes, and close it at the end."""

    def decorate(
        read: Callable[Concatenate[Source, Arguments], Answer],
    ) -> Callable[Concatenate[Readable, Arguments], Answer]:
        @wraps(read)
        def open_and_read(
            path: Readable, /, *args: Arguments.args, **names: Arguments.kwargs
        ) -> Answer:
            with open_source(path, what, error) as source:
                return read(source, *args, **names)

        return open_and_read

    return decorate


@contextmanager
def explained(name: str, error: type[InvalidInputError]) -> Iterator[None]:
    """Turn what the operating system says about reading `name` into one line."""
    name = name if len(name) <= LONGEST_NAME else f"{name[:80]}...{name[-40:]}"
    try:
        yield
    except InvalidInputError:
        raise
    except FileNotFoundError:
        raise error(f"there is no file {name}: check the path") from None
    except (OSError, ValueError) as failure:  # ValueError: a NUL byte in the path
        raise error(f"cannot read {name}: {reason(failure)}") from None


def is_there(path: str | Path) -> bool:
    """Return whether something of that name can be opened: a file, a pipe or ``-``.

    Examples
    --------
    >>> is_there("-"), is_there("no such file")
    (True, False)
    """
    try:
        return str(path) == "-" or Path(path).exists()
    except (OSError, ValueError):  # too long a name, or a NUL byte
        return False


def read_document(
    path: Readable,
    what: str,
    error: type[InvalidInputError] = InvalidInputError,
    *,
    is_json: bool = False,
    is_finite: bool = True,
    limit: int = LARGEST_DOCUMENT,
) -> dict[str, Any]:
    """Return the top-level table of a TOML or JSON file, told apart by its content.

    Parameters
    ----------
    path
        The file.
    what
        What it should hold, for messages.
    error
        What to raise.
    is_json
        Whether only JSON will do.
    is_finite
        Whether NaN and infinities, which Python writes to JSON, are refused.
    limit
        The most bytes that it may have.

    Raises
    ------
    InvalidInputError
        Or the given `error`: as `open_source`, or if the file is too large, not UTF-8, invalid,
        nested too deeply, holds a key twice or a number that must be finite in JSON, or no table.
    """
    with open_source(path, what, error, limit) as source:
        text, name = source.text(limit), source.name
    # TOML may start with a [section]; JSON that starts with a list has no "=" outside strings.
    bare = "=" not in text and (source.kind == "json" or name.lower().endswith(".json"))
    form = "JSON" if is_json or text.lstrip()[0] == "{" or bare else "TOML"
    try:
        document = from_json(text, is_finite=is_finite) if form == "JSON" else from_toml(text)
    except RecursionError:
        raise error(f"{name}: nested too deeply for {what}") from None
    except ValueError as failure:
        raise error(f"{name}: invalid {form} for {what}: {failure}") from None
    if not isinstance(document, dict):
        raise error(f"{name}: {what} must be one JSON object, got {type(document).__name__}")
    return document


def _regular_file(
    path: str | Path,
    name: str,
    what: str,
    error: type[InvalidInputError],
    limit: int | None,
    stack: ExitStack,
) -> Path:
    """Return `path` itself if it is a regular file, else a copy of what it yields."""
    is_input = str(path) == "-"
    file = Path(path)
    mode = 0 if is_input else file.stat().st_mode
    if stat.S_ISDIR(mode):
        raise error(f"{name} is a directory: name a file in it")
    if stat.S_ISREG(mode):
        return file.resolve()
    folder = _temporary_folder(name, error, stack)
    most = min(limit or LARGEST_PIPE, shutil.disk_usage(folder).free // 2)
    copy = folder / "pipe"
    with ExitStack() as inner:
        pipe = sys.stdin.buffer if is_input else inner.enter_context(file.open("rb"))
        out = inner.enter_context(copy.open("wb"))
        head = pipe.read(HEAD_BYTES)
        if packing_of(head) is None:
            kind_of(head, name, what, error)  # an endless device is seen for what it is at once
        written = out.write(head)
        while block := pipe.read(BLOCK):
            written += out.write(block)
            if written > most:
                raise _too_large(name, most, f"{what} from a pipe", error)
    return copy


def _temporary_folder(name: str, error: type[InvalidInputError], stack: ExitStack) -> Path:
    """Return a folder for a copy of `name`, which goes when the block ends."""
    try:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="afdplan-")))
    except OSError as failure:  # all of the system is read-only
        raise error(
            f"{name} is packed or a pipe, and its copy has no place ({reason(failure):.40}): set "
            "TMPDIR to a folder that can be written, or give a plain file"
        ) from None


def _too_large(
    name: str, limit: int, what: str, error: type[InvalidInputError]
) -> InvalidInputError:
    return error(f"{name} must have at most {limit / 1e6:,.4g} MB to be {what}")
