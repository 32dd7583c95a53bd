"""What does a small TOML or JSON file hold, told apart by its content?"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from afdplan.errors import InvalidInputError, LatencyModelError

__all__ = ["read_document"]

_MAXIMUM_BYTES = 4_000_000


def read_document(
    path: Path,
    shown: str,
    what: str = "a latency model",
    error: type[InvalidInputError] = LatencyModelError,
) -> dict[str, Any]:
    """Return the top-level table of a TOML or JSON file of at most 4 MB.

    Parameters
    ----------
    path
        The file.
    shown
        How messages name it.
    what
        What it should hold, for messages.
    error
        What to raise.

    Raises
    ------
    InvalidInputError
        Or the given `error`: if the file is missing, a directory, unreadable, too large, empty,
        binary, invalid, nested too deeply, or holds no table.
    """
    return _parse(_read(path, shown, what, error), shown, what, error)


def _read(path: Path, shown: str, what: str, error: type[InvalidInputError]) -> str:
    try:
        if path.is_dir():
            raise error(f"{shown} is a directory: name the file of {what} in it")
        with path.open("rb") as file:
            content = file.read(_MAXIMUM_BYTES + 1)
    except FileNotFoundError:
        raise error(f"there is no file {shown}") from None
    except (OSError, ValueError) as failure:
        if isinstance(failure, InvalidInputError):
            raise
        reason = getattr(failure, "strerror", None) or str(failure)
        raise error(f"cannot read {shown}: {reason.lower()}") from None
    if len(content) > _MAXIMUM_BYTES:
        raise error(f"{shown} must be at most {_MAXIMUM_BYTES // 1_000_000} MB to be {what}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise error(f"{shown} is binary: {what} is TOML or JSON text")
    if not text.strip():
        raise error(f"{shown} is empty: {what} is TOML or JSON text")
    return text


def _parse(text: str, shown: str, what: str, error: type[InvalidInputError]) -> dict[str, Any]:
    first = text.lstrip()[0]
    # TOML may start with a [section]; JSON that starts with a list has no "=" outside strings.
    kind = "JSON" if first == "{" or (first == "[" and "=" not in text) else "TOML"
    if Path(shown).suffix.lower() == ".json" and "=" not in text:
        kind = "JSON"
    try:
        document = msgspec.json.decode(text) if kind == "JSON" else tomllib.loads(text)
    except RecursionError:
        raise error(f"{shown}: nested too deeply for {what}") from None
    except (msgspec.DecodeError, ValueError) as failure:
        raise error(f"{shown}: invalid {kind}: {failure}") from None
    if not isinstance(document, dict):
        raise error(f"{shown}: {what} must be one JSON object")
    return document
