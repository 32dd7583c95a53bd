"""Which laws of one length does the mini-language know, and what are their probabilities?"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.errors import InvalidInputError
from afdplan.lengths.blocks import block_moments
from afdplan.lengths.load_motion import Atoms
from afdplan.model.checks import frozen_array
from afdplan.model.trace import MAXIMUM_TOKENS

__all__ = ["LAW_SYNTAX", "DiscreteLaw", "parse_law"]

TAIL_PROBABILITY = 1e-15
"""Where an unbounded law is cut: the chance of anything longer."""

FINEST_ATOMS = 1 << 17
"""A law on more points is first taken together to so many."""

LOST_SQUARE = 1e-3
"""Share of a lognormal's second moment that may lie beyond the longest request."""

LAW_SYNTAX = "100, fixed:100, geometric:500, uniform:512..1536 or lognormal:mean=1200,cv=1.3"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DiscreteLaw:
    """Probabilities of one length [tokens] on consecutive integers.

    Attributes
    ----------
    lowest
        Smallest length with probability, >= 0 [tokens].
    probabilities
        Chance of ``lowest + k``, shape (n,); sums to 1.
    name
        The law in the mini-language.
    mean, variance
        E[X] and Var(X) [tokens, tokens^2], computed once: a tail may have 10 million points.

    Examples
    --------
    >>> law = parse_law("uniform:1..3")
    >>> law.mean, law.highest
    (2.0, 3)
    """

    lowest: int
    probabilities: FloatArray
    name: str
    mean: float = field(init=False)
    variance: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "probabilities", frozen_array(self.probabilities, np.float64))
        support = self.support
        object.__setattr__(self, "mean", float(self.probabilities @ support))
        support -= self.mean
        support *= support
        object.__setattr__(self, "variance", float(self.probabilities @ support))

    @property
    def highest(self) -> int:
        """Largest length with probability [tokens]."""
        return self.lowest + self.probabilities.size - 1

    @property
    def support(self) -> FloatArray:
        """All lengths from lowest to highest, shape (n,) [tokens]."""
        return np.arange(self.lowest, self.highest + 1, dtype=np.float64)

    @property
    def is_constant(self) -> bool:
        """Whether only one length has probability."""
        return self.probabilities.size == 1

    def moment(self, order: int) -> float:
        """Return E[X^order] [tokens^order]."""
        return float(self.probabilities @ self.support**order)

    def survival(self) -> FloatArray:
        """Return ``P(X > i)`` for i = 0 .. highest - 1, shape (highest,)."""
        tail = np.cumsum(self.probabilities[::-1])[::-1]
        return np.concatenate([np.ones(self.lowest), np.minimum(tail[1:], 1.0)])

    def atoms(self, most: int, window: int | None = None) -> Atoms:
        """Return the law on at most `most` points of about equal chance, its mean kept.

        What is longer than `window` is one point at or beyond it.
        """
        pmf = self.probabilities
        if window is not None and window < self.highest:
            pmf = pmf[: max(window - self.lowest, 0)]
            pmf = np.append(pmf, max(1.0 - float(pmf.sum()), 0.0))
        block = -(-pmf.size // FINEST_ATOMS)
        weights, places = block_moments(pmf, block)
        begins = self.lowest + block * np.arange(weights.size, dtype=np.float64)
        kept = weights > 0
        weights = weights[kept]
        points = begins[kept] + block * places[kept] / weights
        if points.size > most:
            share = np.minimum((np.cumsum(weights) - weights / 2) * most, most - 1)
            starts = np.flatnonzero(np.diff(share.astype(np.int64), prepend=-1))
            totals = np.add.reduceat(weights, starts)
            points, weights = np.add.reduceat(points * weights, starts) / totals, totals
        return Atoms(points=points, weights=weights / weights.sum())

    def sample(self, generator: np.random.Generator, size: int) -> IntArray:
        """Return `size` independent lengths, by inversion of the cumulative law."""
        cumulative = np.cumsum(self.probabilities)
        draws = generator.random(size) * cumulative[-1]
        index = np.searchsorted(cumulative, draws, side="right")
        index = np.minimum(index, self.probabilities.size - 1)
        lengths: IntArray = index + self.lowest
        return lengths


def parse_law(text: str, minimum: int = 1, role: str = "length") -> DiscreteLaw:
    """Return the law that `text` names.

    Parameters
    ----------
    text
        ``100`` or ``fixed:100``; ``geometric:500`` (on 1, 2, ..., mean 500);
        ``uniform:512..1536`` (both ends included); ``lognormal:mean=1200,cv=1.3`` (rounded to
        the nearest integer, at least `minimum`; mean and cv are those before rounding).
    minimum
        Smallest length allowed: 0 for prompts, 1 for outputs [tokens].
    role
        What the length is, for the message.

    Returns
    -------
    DiscreteLaw
        Cut where less than 1e-15 of probability remains, and at 10,000,000 tokens.

    Raises
    ------
    InvalidInputError
        If the text is no law, a parameter is out of its domain, or too much of the law lies
        beyond 10,000,000 tokens.

    Examples
    --------
    >>> round(parse_law("geometric:500").mean, 9)
    500.0
    """
    if not isinstance(text, str):
        text = str(text)
    kind, _, parameters = text.strip().partition(":")
    if not parameters:
        kind, parameters = "fixed", kind
    if kind == "fixed":
        value = _integer(role, parameters, minimum, text)
        return DiscreteLaw(lowest=value, probabilities=np.ones(1), name=f"fixed:{value}")
    if kind == "geometric":
        return _geometric(role, parameters, text)
    if kind == "uniform":
        low, dots, high = parameters.partition("..")
        if not dots:
            raise _bad(role, text, "uniform needs two ends, as in uniform:512..1536")
        ends = _integer(role, low, minimum, text), _integer(role, high, minimum, text)
        if ends[0] > ends[1]:
            raise _bad(role, text, "the lower end comes first")
        count = ends[1] - ends[0] + 1
        return DiscreteLaw(
            lowest=ends[0],
            probabilities=np.full(count, 1 / count),
            name=f"uniform:{ends[0]}..{ends[1]}",
        )
    if kind == "lognormal":
        match = re.fullmatch(r"\s*mean=([^,]+),\s*cv=([^,]+)", parameters)
        if not match:
            raise _bad(role, text, "lognormal needs mean and cv, as in lognormal:mean=1200,cv=1.3")
        return _lognormal(role, match.group(1), match.group(2), minimum, text)
    raise _bad(role, text, f"known laws are {LAW_SYNTAX}")


def _bad(role: str, text: str, rule: str) -> InvalidInputError:
    shown = text if len(text) <= 60 else text[:57] + "..."
    return InvalidInputError(f"{role} law {shown!r} is not understood: {rule}")


def _integer(role: str, text: str, minimum: int, whole: str) -> int:
    value = _number(role, text, whole)
    if value != math.floor(value) or not minimum <= value <= MAXIMUM_TOKENS:
        raise _bad(role, whole, f"a length is an integer from {minimum} to {MAXIMUM_TOKENS}")
    return int(value)


def _number(role: str, text: str, whole: str) -> float:
    if not re.fullmatch(r"\s*[+-]?[0-9.]+([eE][+-]?[0-9]+)?\s*|nan|[+-]?inf", text):
        raise _bad(role, whole, f"known laws are {LAW_SYNTAX}")
    try:
        value = float(text)
    except ValueError:
        raise _bad(role, whole, f"known laws are {LAW_SYNTAX}") from None
    if not math.isfinite(value):
        raise _bad(role, whole, "lengths must be finite")
    return value


def _geometric(role: str, text: str, whole: str) -> DiscreteLaw:
    mean = _number(role, text, whole)
    if not 1 <= mean <= MAXIMUM_TOKENS:
        raise _bad(role, whole, f"the mean of a geometric law is from 1 to {MAXIMUM_TOKENS}")
    name = f"geometric:{mean:g}"
    if mean == 1:
        return DiscreteLaw(lowest=1, probabilities=np.ones(1), name=name)
    log_stay = math.log1p(-1 / mean)
    size = math.ceil(math.log(TAIL_PROBABILITY) / log_stay)
    if size > MAXIMUM_TOKENS:
        raise _bad(role, name, f"its tail goes beyond {MAXIMUM_TOKENS} tokens; lower the mean")
    probabilities = np.exp(log_stay * np.arange(size)) / mean
    return DiscreteLaw(lowest=1, probabilities=probabilities / probabilities.sum(), name=name)


@lru_cache(maxsize=4)  # millions of points take seconds; the cases of a study ask for the same law
def _lognormal(role: str, mean_text: str, cv_text: str, minimum: int, whole: str) -> DiscreteLaw:
    from scipy.special import ndtr

    mean, cv = _number(role, mean_text, whole), _number(role, cv_text, whole)
    text = f"lognormal:mean={mean:g},cv={cv:g}"
    if mean < 1 or cv <= 0:
        raise _bad(role, text, "the mean is >= 1 and cv > 0")
    sigma = math.sqrt(math.log1p(cv * cv))
    mu = math.log(mean) - sigma * sigma / 2
    reach = min(mu + 8 * sigma, math.log(MAXIMUM_TOKENS))
    # Share of E[X^2] beyond the cut: the load's variance must not miss it.
    if ndtr(-(reach - mu - 2 * sigma**2) / sigma) > LOST_SQUARE:
        raise _bad(role, text, f"its tail goes beyond {MAXIMUM_TOKENS} tokens; lower mean or cv")
    highest = max(minimum, math.floor(math.exp(reach)))
    edges = np.arange(minimum, highest + 1) + 0.5
    z = (np.log(edges) - mu) / sigma
    # Of either half its own tail: differences of it lose no digits.
    tail = ndtr(-np.abs(z))
    median = int(np.searchsorted(z, 0.0))
    below = tail[:1] if median else 1 - tail[:1]
    middle = np.diff(tail)
    np.negative(middle[median:], out=middle[median:])
    if 0 < median < z.size:
        middle[median - 1] = 1 - tail[median - 1] - tail[median]
    probabilities = np.concatenate([below, middle])
    return DiscreteLaw(lowest=minimum, probabilities=probabilities / probabilities.sum(), name=text)
