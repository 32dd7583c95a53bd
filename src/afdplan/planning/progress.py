"""How is somebody shown how far long work is?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

__all__ = ["Bars", "no_bar"]

Bars = Callable[[str], AbstractContextManager[Callable[[float], None]]]
"""Opens a bar for the work of a name; the bar is told shares done, 0 to 1."""


def no_bar(_: str) -> AbstractContextManager[Callable[[float], None]]:
    """Show nothing."""
    return nullcontext(lambda _: None)
