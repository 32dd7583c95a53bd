"""What was assumed, and by which name can a program tell it from other assumptions?"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Assumption"]


class Assumption(NamedTuple):
    """One assumption.

    Attributes
    ----------
    key
        Name for programs; whoever decides otherwise leaves out what has this key.
    text
        The sentence for people, which a latency file keeps.
    """

    key: str
    text: str
