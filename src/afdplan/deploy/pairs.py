"""Which numbers of attention and FFN ranks can be joined?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["ANY_PAIR", "AT_LEAST", "EITHER_MULTIPLE", "MULTIPLE", "MUTUAL", "SINGLE", "PairRule"]

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
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
    """

    words: str
    test: PairTest


def _divides(larger: IntArray, smaller: IntArray) -> BoolArray:
    return np.asarray(larger % smaller == 0)


def _mutual(a: IntArray, f: IntArray, da: int, df: int) -> BoolArray:
    tensor = max(da, df) % min(da, df) == 0
    return (_divides(a, f) | _divides(f, a)) & tensor


ANY_PAIR = PairRule(words="any pair", test=lambda a, f, da, df: (a >= 1) & (f >= 1))
AT_LEAST = PairRule(
    words="there must be at least as many attention ranks as FFN ranks",
    test=lambda a, f, da, df: np.asarray(a * da >= f * df),
)
MULTIPLE = PairRule(
    words="attention ranks must be a multiple of FFN ranks",
    test=lambda a, f, da, df: _divides(a * da, f * df) & (a * da >= f * df),
)
EITHER_MULTIPLE = PairRule(
    words="one of the numbers of ranks must divide the other",
    test=lambda a, f, da, df: _divides(a * da, f * df) | _divides(f * df, a * da),
)
MUTUAL = PairRule(words="one of the numbers of workers must divide the other", test=_mutual)
SINGLE = PairRule(
    words="there must be one FFN rank", test=lambda a, f, da, df: (a >= 1) & (f * df == 1)
)
