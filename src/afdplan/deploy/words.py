"""What stands on a command line, and which parts of it are known only where it runs?"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

__all__ = ["Variable", "Word", "flags", "joined_hosts", "json_word", "plain", "shell", "variables"]


@dataclass(frozen=True, slots=True)
class Variable:
    """A value of the environment where the command runs, such as ``FFN_HOST``."""

    name: str


Word = str | Variable | tuple[str | Variable, ...]
"""One argument: a literal, a variable, or a row of both."""


def _parts(word: Word) -> tuple[str | Variable, ...]:
    return word if isinstance(word, tuple) else (word,)


def json_word(value: Mapping[str, Any]) -> Word:
    r"""Return an object as one argument of compact JSON; variables may stand for texts inside.

    Examples
    --------
    >>> shell(json_word({"host": Variable("FFN_HOST"), "port": 1}))
    '\'{"host":"\'"$FFN_HOST"\'","port":1}\''
    """
    found: list[Variable] = []

    def keep(item: Any) -> str:
        found.append(item)
        return "\0"

    # No text of a value gives this token: its quotes and backslashes would be escaped.
    first, *texts = json.dumps(value, separators=(",", ":"), default=keep).split('"\\u0000"')
    parts: list[str | Variable] = [first]
    for variable, text in zip(found, texts, strict=True):
        parts = [*parts[:-1], f'{parts[-1]}"', variable, f'"{text}']
    return tuple(parts)


def shell(word: Word) -> str:
    """Return the word as bash reads it back: literals quoted, variables in double quotes.

    Examples
    --------
    >>> shell("a b"), shell(Variable("start"))
    ("'a b'", '"$start"')
    """
    shown = [
        f'"${part.name}"' if isinstance(part, Variable) else shlex.quote(part)
        for part in _parts(word)
        if part
    ]
    return "".join(shown) or "''"


def plain(word: Word, values: Mapping[str, str]) -> str:
    """Return the word with every variable replaced."""
    return "".join(values[p.name] if isinstance(p, Variable) else p for p in _parts(word))


def variables(words: Iterable[Word]) -> set[str]:
    """Return the names of all variables in some words."""
    return {part.name for word in words for part in _parts(word) if isinstance(part, Variable)}


def joined_hosts(words: Iterable[Word]) -> set[str]:
    """Return the variables that a port follows in the same word.

    Examples
    --------
    >>> joined_hosts([(Variable("FFN_HOST"), ":80"), Variable("SERVER_HOST")])
    {'FFN_HOST'}
    """
    return {
        part.name
        for parts in map(_parts, words)
        for part, after in pairwise(parts)
        if isinstance(part, Variable) and isinstance(after, str) and after.startswith(":")
    }


def flags(words: Iterable[Word]) -> list[str]:
    """Return the words that begin with ``--``."""
    return [word for word in words if isinstance(word, str) and word.startswith("--")]
