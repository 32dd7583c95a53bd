"""Is numba for others what it was before a kernel has been compiled?"""

import pytest
from numba.core import errors
from numba.core.types.functions import BaseFunction

from afdplan.compile import bits_of, compiled, of_bits


def _no_sum(value):
    return value + "text"


def _there_and_back(value):
    return of_bits(bits_of(value)), bits_of(value)


def test_a_kernel_that_does_not_compile_says_why_and_leaves_numba_as_it_was():
    before = BaseFunction.get_call_type, errors.termcolor
    with pytest.raises(errors.TypingError, match="No implementation of function"):
        compiled(_no_sum)(1.0)
    assert (BaseFunction.get_call_type, errors.termcolor) == before


def test_bits_of_a_float():
    assert compiled(_there_and_back)(2.5) == (2.5, 0x4004 << 48)
