"""In which format is a module, by the rules that a tool wrote into a checkpoint?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate
from typing import NamedTuple

from afdplan.calibration.module_expression import SET, Expression
from afdplan.errors import InvalidInputError

__all__ = ["PLAIN", "Resolver", "Rule", "Scheme", "Stored"]

_OUTER = ("model", "language_model", "text_model", "thinker", "backbone", "transformer")
"""What stands before ``layers`` in one tool's names and not in another's."""

_FULL = ("", "model.", "language_model.model.", "model.language_model.", "backbone.")
"""Beginnings of the names that an expression may ask for."""


_NUMBER = re.compile(r"(?:^|\.)(\d+)(?=\.|$)")
_NUMBERED = re.compile(r"(?<![A-Za-z_\d])\d|\\d|[?\[]")
"""In a pattern of many layers: a number that is no part of a word, or what stands for one."""

_MOST_READING, _MOST_WORK = 5e6, 2e6
"""Microseconds of making patterns ready and of comparing names with them, at worst."""
_TOGETHER = 64
"""Layers of which a module's names are compared at once."""


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
        self._found: dict[tuple[int, str, int], Sequence[bool]] = {}
        self._work = reading = 0.0
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
            reading += _reading(pattern)
            if reading > _MOST_READING:
                raise InvalidInputError(
                    f"the checkpoint's quantization names modules by {len(first):,} patterns, "
                    "which take too long to read: name them by fewer or simpler ones"
                )
            needed = _needed(pattern)
            layer = next((at[1] for one in needed if (at := _LAYER.search(one))), None)
            test = _Test(order, needed, _test(pattern), stored)
            self._tests.setdefault(layer, []).append(test)
            is_any = is_any or (layer is None and _NUMBERED.search(pattern) is not None)
            layers.update(() if layer is None else (layer,))
        self._first = {name.partition(".")[0] for name in self._names}
        self._patterns = sum(map(len, self._tests.values()))
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
        names = [begin + name for begin in _FULL]
        full = "\n".join(names)
        for tests in (self._near_of(name), self._tests.get(layer, ()) if layer else ()):
            for test in tests:
                if first is not None and test.order >= first[0]:
                    break
                if not all(part in full for part in test.needed):
                    continue
                if self._fits(test, names):
                    first = test.order, test.stored
                    break
        return None if first is None else first[1]

    def _fits(self, test: _Test, names: Sequence[str]) -> bool:
        """Return whether a pattern fits one of a module's names, at once for layers around it."""
        expression, layer = test.expression, _LAYER.search(names[0])
        if not expression.is_linear or layer is None or str(int(layer[1])) != layer[1]:
            return any(self._compared(expression, names))
        block, within = divmod(int(layer[1]), _TOGETHER)
        begin, end = layer.span(1)
        key = test.order, f"{names[0][:begin]}{_ANY}{names[0][end:]}", block
        if key not in self._found:
            layers = range(block * _TOGETHER, (block + 1) * _TOGETHER)
            alike = [
                f"{before}{names[0][:begin]}{one}{names[0][end:]}"
                for one in layers
                for before in _FULL
            ]
            held = self._compared(expression, alike)
            count = len(_FULL)
            self._found[key] = [any(held[at : at + count]) for at in range(0, len(held), count)]
        return self._found[key][within]

    def _compared(self, expression: Expression, names: Sequence[str]) -> Sequence[bool]:
        """Return which names an expression fits; refused if that took too long by now."""
        self._work += expression.work[0] + expression.work[1] * len(names)
        if self._work > _MOST_WORK:
            raise InvalidInputError(
                f"the checkpoint's quantization names modules by {self._patterns:,} patterns, "
                "which take too long to try: name them by fewer or simpler ones"
            )
        return expression.fits(names)

    def _near_of(self, name: str) -> list[_Test]:
        """Return the tests of all layers that may fit a module of that name in any of them."""
        alike = re.sub(r"(?<=^layers\.)\d+(?=\.)", _ANY, name)
        if alike not in self._near:
            full = "\n".join([begin + alike for begin in _FULL])
            self._near[alike] = [
                test
                for test in self._tests.get(None, ())
                if all(part in full or _NUMBER.search(part) for part in test.needed)
            ]
        return self._near[alike]


def _inner(pattern: str) -> str:
    """Return a name without what stands before ``layers``; empty if that is all it names."""
    parts = pattern.strip(".").split(".")
    while parts and parts[0] in _OUTER:
        parts = parts[1:]
    return ".".join(parts)


class _Test(NamedTuple):
    """A pattern, made ready: its place, what its names hold, which it fits, its format."""

    order: int
    needed: tuple[str, ...]
    expression: Expression
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
    # Flags, as of letters' case, comments, and letters by their number.
    if re.search(r"\(\?(?:#|[a-zA-Z-]+[:)])|\\[xuUN\d]", text):
        return _ANY
    plain = text.replace(r"\.", _DOT)
    plain = re.sub(rf"\\.|{SET}", _ANY, plain, flags=re.DOTALL)
    groups = 1
    while groups:
        plain, groups = re.subn(r"\([^()]*\)", _ANY, plain)
    if "|" in plain:
        return _ANY
    plain = re.sub(r".?(?:[*+?]|\{[^{}]*\})+|[.^$]", _ANY, plain)
    return plain.replace(_DOT, ".")


def _reading(pattern: str) -> int:
    """Return how long making a pattern ready takes at most, about [microseconds]."""
    return 20 + len(pattern) * (3 + pattern.count("[") // 8 + len(pattern) // 250)


def _test(pattern: str) -> Expression:
    """Return what says whether a module's name, with its beginnings, is one of a pattern's."""
    if pattern.startswith("re:"):
        return Expression.of(pattern[3:])
    inner = _inner(pattern)
    is_inner = inner.startswith("layers.")
    wild = re.compile(f"{translate(inner if is_inner else pattern)[:-2]}(?:\\..*)?\\Z")
    work = 0.0, 1.0 + pattern.count("*") / 4
    if is_inner:
        return Expression(work, lambda names: [wild.match(names[0]) is not None])
    return Expression(work, lambda names: [wild.match(name) is not None for name in names])
