"""On which side of its point does a label cover nothing?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

__all__ = ["Place", "label_places"]

Place = Literal["above", "left", "right", "below"]
PLACES: tuple[Place, ...] = ("above", "left", "right", "below")
RADIUS = 7.0
GAP = 10.0
Box = tuple[float, float, float, float]


def label_places(
    labels: Sequence[tuple[float, float, str]],
    others: Sequence[tuple[float, float]] = (),
    rules: Sequence[float] = (),
    *,
    size: tuple[float, float],
    character: tuple[float, float] = (7.5, 16.0),
) -> tuple[Place, ...]:
    """Return a side for each label, in order, so that markers and earlier labels stay in sight.

    Parameters
    ----------
    labels
        Points with their text, as shares (x, y) of the chart, 0 to 1 from its lower left.
    others
        Points without a label.
    rules
        Vertical lines, x as a share.
    size
        Width and height of the chart [pixels].
    character
        Width of a character and height of a line [pixels].

    Examples
    --------
    >>> label_places([(0.5, 0.5, "a")], size=(300, 200))
    ('above',)
    >>> label_places([(0.5, 0.5, "a")], [(0.5, 0.58)], size=(300, 200))
    ('left',)
    >>> label_places([(1.0, 0.5, "wide label")], size=(300, 200))
    ('left',)
    """
    width, height = size
    markers = [(width * x, height * y) for x, y in (*others, *((x, y) for x, y, _ in labels))]
    lines = [width * x for x in rules]
    taken: list[Box] = []
    found: list[Place] = []
    for x, y, text in labels:
        at = (width * x, height * y)

        def cost(place: Place, at: tuple[float, float] = at, text: str = text) -> float:
            box = _box(at, text, place, character)
            left, bottom, right, _ = box
            outside = max(-left, 0.0) + max(right - width, 0.0) + max(-bottom, 0.0)
            covered = sum(_covers(box, marker) for marker in markers if marker != at)
            crossed = sum(left < line < right for line in lines)
            met = sum(_meet(box, other) for other in taken)
            return 4.0 * bool(outside) + outside / width + 2.0 * (covered + met) + crossed

        best = min(PLACES, key=cost)
        taken.append(_box(at, text, best, character))
        found.append(best)
    return tuple(found)


def _box(at: tuple[float, float], text: str, place: Place, character: tuple[float, float]) -> Box:
    """Return left, bottom, right and top of a label."""
    x, y = at
    wide, high = character[0] * len(text), character[1]
    if place == "left":
        return x - GAP - wide, y - high / 2, x - GAP, y + high / 2
    if place == "right":
        return x + GAP, y - high / 2, x + GAP + wide, y + high / 2
    middle = y + GAP + high / 2 if place == "above" else y - GAP - high / 2
    return x - wide / 2, middle - high / 2, x + wide / 2, middle + high / 2


def _covers(box: Box, marker: tuple[float, float]) -> bool:
    left, bottom, right, top = box
    x, y = marker
    return left - RADIUS < x < right + RADIUS and bottom - RADIUS < y < top + RADIUS


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
