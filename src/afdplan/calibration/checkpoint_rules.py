"""In which format is a module, by the rules that a tool wrote into a checkpoint?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import translate
from math import comb
from typing import NamedTuple

from afdplan.errors import InvalidInputError

__all__ = ["PLAIN", "Resolver", "Rule", "Scheme", "Stored"]

_OUTER = ("model", "language_model", "text_model", "thinker", "backbone", "transformer")
"""What stands before ``layers`` in one tool's names and not in another's."""

_FULL = ("", "model.", "language_model.model.", "model.language_model.", "backbone.")
"""Beginnings of the names that an expression may ask for."""


_NUMBER = re.compile(r"(?:^|\.)(\d+)(?=\.|$)")
_NUMBERED = re.compile(r"(?<![A-Za-z_\d])\d|\\d|[?\[]")
"""In a pattern of many layers: a number that is no part of a word, or what stands for one."""

_REPEAT = r"[*+]|\{\d*,?\d*\}"
MOST_REPEATS = 5
"""In an expression: each multiplies the ways in which a name of some 50 letters may fit."""
_CHOICE = r"(?<![*+?}(])\?"
_CHOICES = 4
"""Times two ways (something optional, one of two) that count as one repetition."""
_MOST_WORK = 100_000_000
"""Of comparing names with patterns, each as `_work` says: a minute or two if all are the worst."""


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
        self._tests: dict[str | None, list[_Test]] = {}
        self._near: dict[str, list[_Test]] = {}
        self._work = 0
        layers: set[str] = set()
        is_any = False
        first: dict[str, Stored] = {}
        for pattern, stored in rules:
            first.setdefault(pattern, stored)
        for order, (pattern, stored) in enumerate(first.items()):
            if not pattern.startswith("re:") and not any(sign in pattern for sign in "*?["):
                inner = _inner(pattern)
                self._names.setdefault(inner, (order, stored))
                layers.update(_NUMBER.findall(inner))
                continue
            needed = _needed(pattern)
            layer = next((at[1] for one in needed if (at := _LAYER.search(one))), None)
            test = _Test(order, needed, _work(pattern), _test(pattern), stored)
            self._tests.setdefault(layer, []).append(test)
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

        Raises
        ------
        InvalidInputError
            If the names asked for so far had to be compared with too many patterns.
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
        full = _full(name)
        for tests in (self._near_of(name), self._tests.get(layer, ()) if layer else ()):
            for test in tests:
                if first is not None and test.order >= first[0]:
                    break
                if not all(part in full for part in test.needed):
                    continue
                self._work += test.work
                if test.names(name):
                    first = test.order, test.stored
                    break
        if self._work > _MOST_WORK:
            raise InvalidInputError(
                f"the checkpoint's quantization names modules of all layers by "
                f"{len(self._tests[None]):,} patterns, which take too long to try: name them by "
                "fewer or simpler ones"
            )
        return None if first is None else first[1]

    def _near_of(self, name: str) -> list[_Test]:
        """Return the tests of all layers that may fit a module of that name in any of them."""
        alike = re.sub(r"(?<=^layers\.)\d+(?=\.)", _ANY, name)
        if alike not in self._near:
            full = _full(alike)
            self._near[alike] = [
                test
                for test in self._tests.get(None, ())
                if all(part in full or _NUMBER.search(part) for part in test.needed)
            ]
        return self._near[alike]


def _full(name: str) -> str:
    """Return a text that holds a module's name with all its beginnings."""
    return "\n".join([begin + name for begin in _FULL])


def _inner(pattern: str) -> str:
    """Return a name without what stands before ``layers``; empty if that is all it names."""
    parts = pattern.strip(".").split(".")
    while parts and parts[0] in _OUTER:
        parts = parts[1:]
    return ".".join(parts)


class _Test(NamedTuple):
    """A pattern, made ready: its place, what its names hold, its work, what it fits, its format."""

    order: int
    needed: tuple[str, ...]
    work: int
    names: Callable[[str], bool]
    stored: Stored


_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_ANY, _DOT = "\0", "\1"
"""What stands for a place of a pattern that more than one text fits, and for a plain dot."""


def _needed(pattern: str) -> tuple[str, ...]:
    r"""Return texts that are in every name that a pattern fits, the longest first.

    Examples
    --------
    >>> _needed(r"re:.*layers\.3\.mlp\.(gate|up)_proj.*")
    ('layers.3.mlp.', '_proj')
    """
    if pattern.startswith("re:"):
        plain = _literals(pattern[3:])
    else:
        inner = _inner(pattern)
        plain = inner if inner.startswith("layers.") else pattern
        plain = re.sub(r"\[!?\]?[^\]]*\]|[*?]", _ANY, plain)
    return tuple(sorted(filter(None, plain.split(_ANY)), key=len, reverse=True))


def _literals(text: str) -> str:
    """Return an expression with `_ANY` for all that is not plain text."""
    # Flags, as of letters' case, and letters by their number.
    if re.search(r"\(\?[a-zA-Z-]+[:)]|\\[xuUN\d]", text):
        return _ANY
    plain = text.replace(r"\.", _DOT)
    plain = re.sub(r"\\.|\[\^?\]?[^\]]*\]", _ANY, plain, flags=re.DOTALL)
    groups = 1
    while groups:
        plain, groups = re.subn(r"\([^()]*\)", _ANY, plain)
    if "|" in plain:
        return _ANY
    plain = re.sub(r".?(?:[*+?]|\{[^}]*\})+|[.^$]", _ANY, plain)
    return plain.replace(_DOT, ".")


def _work(pattern: str) -> int:
    """Return about how long comparing a name with a pattern may take, in microseconds."""
    if pattern.startswith("re:"):
        return 1 + comb(50, _ways(pattern[3:])[0]) // 100
    return 1 + comb(50, pattern.count("*")) // 100


def _expression(text: str) -> re.Pattern[str]:
    """Return a tool's expression, compiled; what could take for ever on a name is refused."""
    repeats, choices = _ways(text)
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


def _ways(text: str) -> tuple[int, int]:
    """Return how often an expression repeats something, and how often it has a choice."""
    plain = re.sub(r"\\.|\[\^?\]?[^\]]*\]", "a", text)  # without escapes and sets of letters
    plain = re.sub(r"\(\?(?:[:=!]|<[=!]|P<\w+>)", "(", plain)
    repeats, groups = len(re.findall(_REPEAT, plain)), 1
    choices = len(re.findall(_CHOICE, plain))
    while groups:  # from the inside: what has several ways to fit may not be repeated
        if re.search(rf"\([^()]*(?:{_REPEAT}|[?|])[^()]*\)(?:{_REPEAT})", plain):
            repeats = MOST_REPEATS + 1
        choices += sum(body.count("|").bit_length() for body in re.findall(r"\(([^()]*)\)", plain))
        plain, groups = re.subn(r"\(([^()]*)\)", r"\1", plain)
    return repeats, choices


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
