"""On which side of its point does a label cover nothing?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

__all__ = ["Place", "label_places"]

Place = Literal["above", "left", "right", "below"]
PLACES: tuple[Place, ...] = ("above", "left", "right", "below")
RADIUS, GAP = 0.42, 0.6
"""Of a marker, and from its middle to the label, in heights of a line."""
ROUNDS = 3
Box = tuple[float, float, float, float]


def label_places(
    labels: Sequence[tuple[float, float, str]],
    others: Sequence[tuple[float, float]] = (),
    rules: Sequence[float] = (),
    lines: Sequence[Sequence[tuple[float, float]]] = (),
    *,
    size: tuple[float, float],
    character: tuple[float, float] = (7.5, 16.0),
) -> tuple[Place, ...]:
    """Return a side for each label, so that markers, lines and other labels stay in sight.

    Parameters
    ----------
    labels
        Points with their text, as shares (x, y) of the chart, 0 to 1 from its lower left.
    others
        Points without a label.
    rules
        Vertical lines, x as a share.
    lines
        Points that are joined by a line, as shares, line by line.
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
    verticals = [width * x for x in rules]
    path = [(width * x, height * y) for line in lines for x, y in _along(line)]
    points = [((width * x, height * y), text) for x, y, text in labels]
    places: list[Place] = ["above"] * len(points)

    def cost(k: int, place: Place) -> float:
        at, text = points[k]
        box = _box(at, text, place, character)
        left, bottom, right, top = box
        outside = max(-left, 0.0) + max(right - width, 0.0) + max(-bottom, 0.0)
        covered = sum(
            _covers(box, marker, RADIUS * character[1]) for marker in markers if marker != at
        )
        crossed = sum(left < vertical < right for vertical in verticals)
        crossed += any(left < x < right and bottom < y < top for x, y in path)
        met = sum(
            _meet(box, _box(*points[j], places[j], character)) for j in range(len(points)) if j != k
        )
        return 6.0 * bool(outside) + outside / width + 2.0 * covered + 3.0 * met + crossed

    for _ in range(ROUNDS):  # one after the other, each beside what the others chose
        for k in range(len(points)):
            places[k] = min(PLACES, key=partial(cost, k))
    return tuple(places)


def _box(at: tuple[float, float], text: str, place: Place, character: tuple[float, float]) -> Box:
    """Return left, bottom, right and top of a label."""
    x, y = at
    wide, high = character[0] * len(text), character[1]
    gap = GAP * high
    if place == "left":
        return x - gap - wide, y - high / 2, x - gap, y + high / 2
    if place == "right":
        return x + gap, y - high / 2, x + gap + wide, y + high / 2
    middle = y + gap + high / 2 if place == "above" else y - gap - high / 2
    return x - wide / 2, middle - high / 2, x + wide / 2, middle + high / 2


def _along(line: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return points so close on the line that no label slips between them."""
    shares = [k / 100 for k in range(101)]
    return [
        (x0 + share * (x1 - x0), y0 + share * (y1 - y0))
        for (x0, y0), (x1, y1) in pairwise(line)
        for share in shares
    ]


def _covers(box: Box, marker: tuple[float, float], radius: float) -> bool:
    left, bottom, right, top = box
    x, y = marker
    return left - radius < x < right + radius and bottom - radius < y < top + radius


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
