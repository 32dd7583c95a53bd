"""Which numbers of attention and FFN ranks can be joined?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from afdplan.arrays import BoolArray, IntArray

__all__ = [
    "ANY_PAIR",
    "BLOCKS",
    "EITHER_MULTIPLE",
    "FREE",
    "MULTIPLE",
    "MUTUAL",
    "SINGLE",
    "WINDOW",
    "PairRule",
]

PairTest = Callable[[IntArray, IntArray, int, int], BoolArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRule:
    """What a connector accepts.

    Attributes
    ----------
    words
        The rule, as it ends an error line.
    test
        From A, F and the devices of a worker of each side: whether the pair is legal,
        elementwise.
    is_uneven
        Whether an FFN rank may serve more attention ranks than another: all are then as slow as
        the one with ``ceil(A / F)``, B tokens where A < F.
    """

    words: str
    test: PairTest
    is_uneven: bool = False

    @staticmethod
    def peers(attention_workers: int, ffn_workers: int) -> int:
        """Return ``ceil(A / F)``: attention workers of the FFN worker that has most."""
        return -(-attention_workers // ffn_workers)


def _divides(larger: IntArray, smaller: IntArray) -> BoolArray:
    return np.asarray(larger % smaller == 0)


def _multiple(a: IntArray, f: IntArray, da: int, df: int) -> BoolArray:
    return _divides(a * da, f * df) & (a * da >= f * df)


def _tensor(da: int, df: int) -> bool:
    return max(da, df) % min(da, df) == 0


def _mutual(a: IntArray, f: IntArray, da: int, df: int) -> BoolArray:
    return (_divides(a, f) | _divides(f, a)) & _tensor(da, df)


def _any(a: IntArray, f: IntArray, da: int, df: int) -> BoolArray:
    return (a >= 1) & (f >= 1)


def _blocks(a: IntArray, f: IntArray, da: int, df: int) -> BoolArray:
    return (a >= f) if da == df else _multiple(a, f, da, df)


def _free(a: IntArray, f: IntArray, da: int, df: int) -> BoolArray:
    return (a >= 1) & (f >= 1) & _tensor(da, df)


def _window(a: IntArray, f: IntArray, da: int, df: int) -> BoolArray:
    return np.asarray((f >= 2) & (da == df == 1))


def _either_multiple(a: IntArray, f: IntArray, da: int, df: int) -> BoolArray:
    return _divides(a * da, f * df) | _divides(f * df, a * da)


def _single(a: IntArray, f: IntArray, da: int, df: int) -> BoolArray:
    return np.asarray((a >= 1) & (f * df == 1))


# Tests have names, so that a plan, which keeps its rule, can be sent to another process.
ANY_PAIR = PairRule(words="any pair", test=_any)
BLOCKS = PairRule(
    words="there must be at least as many attention ranks as FFN ranks; workers of different sizes "
    "need a multiple",
    test=_blocks,
    is_uneven=True,
)
FREE = PairRule(
    words="devices of a worker of one side must be a multiple of the other's",
    test=_free,
    is_uneven=True,
)
MULTIPLE = PairRule(words="attention ranks must be a multiple of FFN ranks", test=_multiple)
WINDOW = PairRule(
    words="there must be two FFN ranks or more, all workers of one device", test=_window
)
EITHER_MULTIPLE = PairRule(
    words="one of the numbers of ranks must divide the other", test=_either_multiple
)
MUTUAL = PairRule(words="one of the numbers of workers must divide the other", test=_mutual)
SINGLE = PairRule(words="there must be one FFN rank", test=_single)
