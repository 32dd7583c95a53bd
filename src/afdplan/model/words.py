"""How is a number of things said, and what was meant by a name that nobody knows?"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["counted", "nearest"]


def counted(count: int, noun: str) -> str:
    """Return a number of things.

    Examples
    --------
    >>> counted(1, "bundle"), counted(1200, "device"), counted(2, "microbatch")
    ('1 bundle', '1,200 devices', '2 microbatches')
    """
    plural = "" if count == 1 else "es" if noun.endswith("ch") else "s"
    return f"{count:,} {noun}{plural}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return "did you mean ..." for an unknown name, or the names that are known.

    Examples
    --------
    >>> nearest("bach_size", ["batch_size", "latency"])
    'did you mean batch_size?'
    """
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(names)}"
