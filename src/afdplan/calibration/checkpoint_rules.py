"""In which format is a module, by the rules that a tool wrote into a checkpoint?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import translate
from typing import NamedTuple

from afdplan.errors import InvalidInputError

__all__ = ["PLAIN", "Resolver", "Rule", "Scheme", "Stored"]

_OUTER = ("model", "language_model", "text_model", "thinker", "backbone", "transformer")
"""What stands before ``layers`` in one tool's names and not in another's."""

_FULL = ("", "model.", "language_model.model.", "model.language_model.", "backbone.")
"""Beginnings of the names that an expression may ask for."""


_NUMBER = re.compile(r"(?:^|\.)(\d+)(?=\.|$)")
_NUMBERED = re.compile(r"(?<![A-Za-z_])\d|\\d|[?\[]")
"""In a pattern of many layers: a number that is no part of a word, or what stands for one."""

_REPEAT = r"[*+]|\{\d*,?\d*\}"
MOST_REPEATS = 5
"""In an expression: each multiplies the ways in which a name of some 50 letters may fit."""
_CHOICE = r"(?<![*+?}(])\?"
_CHOICES = 4
"""Times two ways (something optional, one of two) that count as one repetition."""


class Stored(NamedTuple):
    """How the weights of a module are stored.

    Attributes
    ----------
    name
        Of `afdplan.calibration.precision.FORMATS`; empty if what is stated is not known.
    bits
        Per weight, scales included.
    arithmetic
        ``a16`` or ``a8`` where products are in another format than the name's.
    said
        What was stated where it is not known.
    """

    name: str
    bits: float = 0.0
    arithmetic: str = ""
    said: str = ""


PLAIN = Stored("bf16", 16.0)


class Rule(NamedTuple):
    """Which modules are stored how.

    Attributes
    ----------
    pattern
        Name of a module or of what holds it; with ``*``; or an expression after ``re:``.
    stored
        How it is stored.
    """

    pattern: str
    stored: Stored


class Scheme(NamedTuple):
    """What a tool states of a whole checkpoint.

    Attributes
    ----------
    default
        Of the matrices of all layers.
    rules
        The first that names a module decides over it.
    told
        Where it stands, for people.
    cache, cache_unread
        Format of the KV cache, None if nothing is said; what was said of it and is not known.
    heads
        Of both embeddings where no rule names them.
    """

    default: Stored
    rules: tuple[Rule, ...] = ()
    told: str = "quantization_config"
    cache: str | None = None
    cache_unread: str = ""
    heads: Stored = PLAIN


class Resolver:
    """Rules, made ready to be asked for many modules.

    Parameters
    ----------
    rules
        In their order.

    Attributes
    ----------
    is_empty
        Whether there is no rule.
    layers
        Numbers of the layers that rules tell from others; None if it may be any.

    Examples
    --------
    >>> rules = (Rule("model.layers.*.mlp.experts*", PLAIN), Rule("re:.*k_proj", Stored("fp8", 8)))
    >>> asked = Resolver(rules)
    >>> asked.of("layers.3.mlp.experts.7.up_proj") == PLAIN, asked.of("layers.3.mlp.gate")
    (True, None)
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._names: dict[str, tuple[int, Stored]] = {}
        self._tests: dict[str | None, list[tuple[int, Callable[[str], bool], Stored]]] = {}
        layers: set[str] = set()
        is_any = False
        for order, (pattern, stored) in enumerate(rules):
            if not pattern.startswith("re:") and not any(sign in pattern for sign in "*?["):
                inner = _inner(pattern)
                self._names.setdefault(inner, (order, stored))
                layers.update(_NUMBER.findall(inner))
                continue
            layer = _layer(pattern)
            self._tests.setdefault(layer, []).append((order, _test(pattern), stored))
            is_any = is_any or (layer is None and _NUMBERED.search(pattern) is not None)
            layers.update(() if layer is None else (layer,))
        self._first = {name.partition(".")[0] for name in self._names}
        self.is_empty = not self._names and not self._tests
        self.layers = None if is_any else frozenset(layers)

    def of(self, name: str) -> Stored | None:
        """Return how the first rule that names a module says it is stored; None if none does.

        Parameters
        ----------
        name
            Of the module, from ``layers`` on.
        """
        first: tuple[int, Stored] | None = self._names.get("")
        parts = name.split(".")
        for begin, part in enumerate(parts):
            if part not in self._first:
                continue
            for end in range(begin + 1, len(parts) + 1):
                found = self._names.get(".".join(parts[begin:end]))
                if found is not None and (first is None or found[0] < first[0]):
                    first = found
        layer = parts[1] if parts[0] == "layers" and len(parts) > 1 else None
        for tests in (self._tests.get(None, ()), self._tests.get(layer, ()) if layer else ()):
            for order, test, stored in tests:
                if first is not None and order >= first[0]:
                    break
                if test(name):
                    first = order, stored
                    break
        return None if first is None else first[1]


def _inner(pattern: str) -> str:
    """Return a name without what stands before ``layers``; empty if that is all it names."""
    parts = pattern.strip(".").split(".")
    while parts and parts[0] in _OUTER:
        parts = parts[1:]
    return ".".join(parts)


def _layer(pattern: str) -> str | None:
    """Return the number of the one layer that a pattern can name; None if there may be more."""
    if any(sign in pattern for sign in "|[("):
        return None
    found = re.findall(r"layers\\?\.(\d+)(?=\\?\.)(?!\.[?*+{])", pattern)
    return found[0] if len(found) == 1 and pattern.count("layers") == 1 else None


def _expression(text: str) -> re.Pattern[str]:
    """Return a tool's expression, compiled; what could take for ever on a name is refused."""
    plain = re.sub(r"\\.|\[\^?\]?[^\]]*\]", "a", text)  # without escapes and sets of letters
    plain = re.sub(r"\(\?(?:[:=!]|<[=!]|P<\w+>)", "(", plain)
    repeats, groups = len(re.findall(_REPEAT, plain)), 1
    choices = len(re.findall(_CHOICE, plain))
    while groups:  # from the inside: what has several ways to fit may not be repeated
        if re.search(rf"\([^()]*(?:{_REPEAT}|[?|])[^()]*\)(?:{_REPEAT})", plain):
            repeats = MOST_REPEATS + 1
        choices += sum(body.count("|").bit_length() for body in re.findall(r"\(([^()]*)\)", plain))
        plain, groups = re.subn(r"\(([^()]*)\)", r"\1", plain)
    what = f"the checkpoint's quantization names modules by {text!r:.60}"
    if repeats + choices // _CHOICES > MOST_REPEATS:
        raise InvalidInputError(
            f"{what}, with repetitions of repetitions or more than {MOST_REPEATS} of them ("
            f"{_CHOICES} choices count as one): name the modules by a simpler expression"
        )
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError):
        raise InvalidInputError(f"{what}, which is no regular expression: mend it") from None


def _test(pattern: str) -> Callable[[str], bool]:
    """Return what says whether a module's name is one of the pattern's."""
    if pattern.startswith("re:"):
        expression = _expression(pattern[3:])
        return lambda name: any(expression.match(begin + name) for begin in _FULL)
    wild = re.compile(f"{translate(pattern)[:-2]}(?:\\..*)?\\Z")
    inner = _inner(pattern)
    if inner.startswith("layers."):
        wild = re.compile(f"{translate(inner)[:-2]}(?:\\..*)?\\Z")
        return lambda name: wild.match(name) is not None
    return lambda name: any(wild.match(begin + name) for begin in _FULL)
