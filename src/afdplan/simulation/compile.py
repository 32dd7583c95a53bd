"""How are kernels compiled? The only file that imports numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

__all__ = ["compiled", "inlined"]

Function = TypeVar("Function", bound=Callable[..., Any])
# Strict floating point, so that a kernel can equal its twin bit for bit; the interpreter lock is
# released; a division by zero gives infinity. Kernels allocate nothing, so that counting
# references (_nrt), most of the cost of small functions, can be left out.
OPTIONS: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": False,
    "_nrt": False,
}


def compiled(function: Function) -> Function:
    """Return `function` compiled to machine code at its first call, cached on disk."""
    result: Function = numba.njit(**OPTIONS)(function)
    return result


def inlined(function: Function) -> Function:
    """Return `function` compiled into every kernel that calls it."""
    result: Function = numba.njit(forceinline=True, **OPTIONS)(function)
    return result
