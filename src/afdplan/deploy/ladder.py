"""For which batch sizes are graphs captured?"""

from __future__ import annotations

__all__ = ["graph_ladder"]


def graph_ladder(largest: int, multiple: int = 8) -> list[int]:
    """Return the largest batch and about its halves, so that partly filled steps pad little.

    Parameters
    ----------
    largest
        Batch of a full step; always in the list.
    multiple
        Smaller sizes are multiples of this number.

    Examples
    --------
    >>> graph_ladder(92), graph_ladder(6)
    ([8, 16, 24, 48, 92], [6])
    """
    sizes, size = {largest}, largest / 2
    while size * 2 > multiple:
        sizes.add(min(-(-int(size + 0.999) // multiple) * multiple, largest))
        size /= 2
    return sorted(sizes)
