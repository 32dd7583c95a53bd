"""Does a checkpoint's regular expression fit a module's name, in a time that can be told before?"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

from afdplan.errors import InvalidInputError

__all__ = ["MOST_REPEATS", "SET", "Expression"]

_REPEAT = r"[*+]|\{\d*,?\d*\}"
MOST_REPEATS = 5
"""In an expression that only Python reads: each multiplies the ways in which a name may fit."""
_CHOICE = r"(?<![*+?}(])\?"
_CHOICES = 4
"""Times two ways (something optional, one of two) that count as one repetition."""
_MICROSECONDS = (0.2, 1.0, 4.0, 50.0, 1000.0, 20_000.0)
"""Of Python, which goes back and tries again, by repetitions: the worst on a name of 60 letters."""
_MICROSECONDS_TO_BEGIN = 250
"""Of the linear engine, which reads the expression anew if it has seen dozens since."""
_QUICK = 2
"""Repetitions up to which Python is tried first: it starts sooner."""

SET = r"\[\^?\]?(?:\\.|[^\]\\])*\]"
"""One of several signs, in an expression."""
_SAID_OTHERWISE = re.compile(
    r"\\[^dDwWsSbB\W]|\\[<>]"  # letters by number, groups by number, ends of words
    r"|\(\?(?![:]|P<|[aimsu]*[:)])"  # looking around, comments
    rf"|(?:\?|{_REPEAT})\+|\{{(?!\d+(?:,\d*)?\}})"
)
"""What a linear engine does not know, or reads as something else than Python."""
_SET_SAID_OTHERWISE = re.compile(r"(?<!^)\[|&&|--|~~|\\[^dDwWsS\W]")


class Expression(NamedTuple):
    r"""A regular expression over modules' names, made ready.

    Attributes
    ----------
    work
        How long it takes at most to begin, and with each name, about [microseconds].
    fits
        Whether it fits the beginning of each of some names.
    is_linear
        Whether many names at once cost little more than a few.

    Examples
    --------
    >>> asked = Expression.of(r"(?!.*lm_head).*layers\.\d+\..*(gate|up)_proj")
    >>> asked.fits(["layers.3.mlp.up_proj", "layers.3.lm_head.up_proj"])
    [True, False]
    """

    work: tuple[float, float]
    fits: Callable[[Sequence[str]], Sequence[bool]]
    is_linear: bool = False

    @classmethod
    def of(cls, text: str) -> Expression:
        """Return a tool's expression, made ready.

        What repeats often is given to an engine whose time grows with the name alone, or, if that
        does not know all its signs, tried by going back, as often as that ends.

        Raises
        ------
        InvalidInputError
            If it is no regular expression, or may take for ever on a name.
        """
        what = f"the checkpoint's quantization names modules by {text!r:.60}"
        try:
            plain = re.compile(text)
        except (re.error, ValueError, OverflowError, RecursionError):  # too long a number
            raise InvalidInputError(f"{what}, which is no regular expression: mend it") from None
        repeats, choices = _ways(text)
        ways = repeats + choices // _CHOICES
        if ways > _QUICK:
            conditions, rest = _conditions(text)
            parts = [(True, rest), *conditions]
            if all(_is_linear(part) for _, part in parts):
                linear = _linear(parts)
                if linear is not None:
                    work = sum(_work(part) for _, part in parts)
                    return cls((_MICROSECONDS_TO_BEGIN * len(parts), work), linear, True)
        if ways > MOST_REPEATS:
            raise InvalidInputError(
                f"{what}, with repetitions of repetitions or more than {MOST_REPEATS} of them ("
                f"{_CHOICES} choices count as one): name the modules by a simpler expression"
            )
        return cls(
            (0.0, _MICROSECONDS[ways]),
            lambda names: [plain.match(name) is not None for name in names],
        )


def _linear(
    parts: Sequence[tuple[bool, str]],
) -> Callable[[Sequence[str]], Sequence[bool]] | None:
    """Return what says which names fit all parts that they shall; None if one is too large."""
    import polars as pl

    ready = [(wanted, f"^(?:{part})") for wanted, part in parts]

    def fits(names: Sequence[str]) -> Sequence[bool]:
        series = pl.Series(names, dtype=pl.String)
        found = [series.str.contains(part).to_list() for _, part in ready]
        wanted = [one for one, _ in ready]
        return [list(held) == wanted for held in zip(*found, strict=True)]

    try:
        fits(["layers.0"])
    except pl.exceptions.ComputeError:
        return None
    return fits


def _work(text: str) -> float:
    """Return how long the linear engine takes for a name, by the states that counts multiply."""
    counts = re.findall(r"\{(\d+)(?:,(\d*))?\}", text)
    states = len(text) * prod(max(int(least), int(most or 0), 1) for least, most in counts)
    return 1.0 + states / 50 if states < len(text) * 3 else 1.0 + states / 12


def _is_linear(text: str) -> bool:
    """Return whether an expression means the same to the linear engine as to Python."""
    sets = re.findall(SET, re.sub(r"\\[^\w]", "a", text))
    plain = re.sub(SET, "a", re.sub(r"\\[^\w<>]", "a", text))
    # Letters of other scripts differ in what else they are without regard to case.
    return (
        text.isascii()
        and not _SAID_OTHERWISE.search(plain)
        and not any(map(_SET_SAID_OTHERWISE.search, sets))
    )


def _conditions(text: str) -> tuple[list[tuple[bool, str]], str]:
    r"""Return what must and what must not begin a name, asked first, and the rest.

    Examples
    --------
    >>> _conditions(r"^(?!.*\.(gate|head))(?=l).*")
    ([(False, '.*\\.(gate|head)'), (True, 'l')], '.*')
    """
    found = []
    rest = text.removeprefix("^")
    while rest[:3] in ("(?!", "(?="):
        depth, end = 1, 3
        for sign in re.finditer(rf"\\.|{SET}|[()]", rest[3:], re.DOTALL):
            depth += {"(": 1, ")": -1}.get(sign[0], 0)
            end = 3 + sign.end()
            if not depth:
                break
        found.append((rest[2] == "=", rest[3 : end - 1]))
        rest = rest[end:]
    # One of several ways to begin: the conditions hold for the first alone.
    return (found, rest) if found and "|" not in _outside_groups(rest) else ([], text)


def _outside_groups(text: str) -> str:
    plain, groups = re.sub(rf"\\.|{SET}", "a", text, flags=re.DOTALL), 1
    while groups:
        plain, groups = re.subn(r"\([^()]*\)", "a", plain)
    return plain


def _ways(text: str) -> tuple[int, int]:
    """Return how often an expression repeats something, and how often it has a choice.

    Examples
    --------
    >>> _ways("(a|b|c)?x*"), _ways("(a(b|c))+")[0] > MOST_REPEATS
    ((1, 3), True)
    """
    plain = re.sub(rf"\\.|{SET}", "a", text, flags=re.DOTALL)
    plain = re.sub(r"\(\?(?:[:=!]|<[=!]|P<\w+>)", "(", plain)
    repeats = choices = 0
    groups = [[0, 0]]  # of each group that is open: its bars, and all in it that has several ways
    closed_at, ways = -1, 0
    for sign in re.finditer(rf"[(|)?]|{_REPEAT}", plain):
        if sign[0] == "(":
            groups.append([0, 0])
        elif sign[0] == ")":
            bars, ways = groups.pop()
            choices += bars.bit_length()
            groups[-1][1] += ways
            closed_at = sign.end()
        elif sign[0] == "|":
            groups[-1][0] += len(groups) > 1
            groups[-1][1] += 1
        else:
            groups[-1][1] += 1
            if sign[0] == "?":
                choices += plain[sign.start() - 1 : sign.start()] not in ("*", "+", "?", "}", "(")
            else:  # what has several ways to fit may not be repeated
                again = ways and sign.start() == closed_at
                repeats += MOST_REPEATS + 1 if again else 1
    return repeats, choices
