"""What is a figure of a page or picture, before anything is drawn?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

__all__ = [
    "Axis",
    "Chart",
    "Figure",
    "Layer",
    "Role",
    "Scale",
    "figure_document",
    "layer",
    "rounded",
    "single",
]

Scale = Literal["linear", "log", "category"]
Role = Literal[
    "attention", "ffn", "communication", "latency", "best", "main", "second", "third", "neutral"
]
Kind = Literal[
    "line",
    "band",
    "interval",
    "span",
    "dot",
    "point",
    "rule_x",
    "rule_y",
    "range",
    "group",
    "rect",
]
COLUMNS: dict[str, tuple[str, ...]] = {
    "line": ("x", "y"),
    "band": ("x", "low", "high"),
    "interval": ("x", "low", "high"),
    "span": ("y", "low", "high"),
    "dot": ("x", "y"),
    "point": ("x", "y", "text"),
    "rule_x": ("x",),
    "rule_y": ("y",),
    "range": ("low", "high"),
    "group": ("low", "high", "text"),
    "rect": (),
}
"""What each kind of layer needs. An interval stands, a span lies; a group is a stretch of the x
axis with its name below. A rectangle takes x or x1 and x2, y or y1 and y2, and may take `role`
(colour), `fill` (pattern), `value` (0 to 1, strength) and `text` of its own. A point may say at
which `place` its text stands on a page: above, below, left or right. The `text` of a line's points
is for pictures: a page tells more where somebody points."""
DIGITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One axis of a chart.

    Attributes
    ----------
    label
        What is shown, with its unit in brackets.
    scale
        ``linear``, ``log`` or ``category``.
    from_zero
        Whether zero must be in sight.
    includes
        Values that must be in sight.
    limits
        Ends of the axis, or its categories in order; None takes those of the data.
    head
        What comes before a value when it is read out, such as ``A =``.
    has_ticks
        Whether its numbers mean something; no where it only sets data side by side.
    is_mirrored
        Whether what lies below zero is told without its sign.
    """

    label: str
    scale: Scale = "linear"
    from_zero: bool = False
    includes: tuple[float, ...] = ()
    limits: tuple[Any, ...] | None = None
    head: str = ""
    has_ticks: bool = True
    is_mirrored: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """Marks of one kind that a reader can switch off together.

    Attributes
    ----------
    kind
        What is drawn; its columns are in `COLUMNS`.
    name
        For the legend; empty keeps the layer out of it.
    role
        What it stands for: colour and dashes follow.
    columns
        Values by column, all of one length.
    words
        What to tell about each datum, units included; empty tells nothing.
    is_shown
        Whether it is switched on at first.

    Raises
    ------
    ValueError
        If a column is missing or of another length.
    """

    kind: Kind
    name: str = ""
    role: Role = "main"
    columns: Mapping[str, Sequence[Any] | np.ndarray[Any, Any]]
    words: Sequence[str] = ()
    is_shown: bool = True

    def __post_init__(self) -> None:
        missing = [name for name in COLUMNS[self.kind] if name not in self.columns]
        if missing:
            raise ValueError(f"a layer of kind {self.kind} needs the column {missing[0]}")
        lengths = {len(column) for column in self.columns.values()}
        if self.words:
            lengths.add(len(self.words))
        if len(lengths) > 1:
            raise ValueError(f"columns of one layer must be of one length, got {sorted(lengths)}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chart:
    """Axes and what lies on them.

    Attributes
    ----------
    x, y
        Axes.
    layers
        From back to front.
    height
        In pixels.
    """

    x: Axis
    y: Axis
    layers: Sequence[Layer]
    height: int = 320


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Figure:
    """A chart for each choice of the reader, and the words around it.

    Attributes
    ----------
    identifier
        Unique on its page; letters and hyphens.
    title
        What is shown.
    caption
        How to read it, in a sentence or two.
    choices
        Names of the page's choices that it follows, in the order of the keys of `charts`.
    charts
        By the labels chosen, joined by ``|``; a single chart has the key ``""``.
    """

    identifier: str
    title: str
    caption: str
    choices: tuple[str, ...] = ()
    charts: Mapping[str, Chart] = field(default_factory=dict)


def layer(
    kind: Kind,
    *,
    name: str = "",
    role: Role = "main",
    words: Sequence[str] = (),
    is_shown: bool = True,
    roles: Sequence[Role] | None = None,
    **columns: Sequence[Any] | np.ndarray[Any, Any],
) -> Layer:
    """Return a layer whose columns are given by name; `roles` is the column ``role``.

    Examples
    --------
    >>> layer("line", name="exact", x=[1, 2], y=[0.3, 0.2]).columns["y"]
    [0.3, 0.2]
    """
    own = {} if roles is None else {"role": roles}
    return Layer(
        kind=kind, name=name, role=role, words=words, is_shown=is_shown, columns=columns | own
    )


def single(
    identifier: str,
    title: str,
    caption: str,
    *,
    x: Axis,
    y: Axis,
    layers: Sequence[Layer],
    height: int = 320,
) -> Figure:
    """Return a figure of one chart, whatever a reader chooses."""
    return Figure(
        identifier=identifier,
        title=title,
        caption=caption,
        charts={"": Chart(x=x, y=y, layers=layers, height=height)},
    )


def rounded(value: Any) -> Any:
    """Return a number for a page: six digits, which no eye tells from more; others as they are.

    Examples
    --------
    >>> rounded(1 / 3), rounded(4), rounded("a"), rounded(float("nan")), rounded(1e7 / 3)
    (0.333333, 4, 'a', None, 3333330)
    """
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def figure_document(figure: Figure) -> dict[str, Any]:
    """Return the figure as plain values for JSON; a page's script draws it and computes nothing."""
    return {
        "id": figure.identifier,
        "choices": list(figure.choices),
        "charts": {key: _chart(chart) for key, chart in figure.charts.items()},
    }


def _chart(chart: Chart) -> dict[str, Any]:
    return {
        "x": _axis(chart.x),
        "y": _axis(chart.y),
        "height": chart.height,
        "layers": [_layer(layer) for layer in chart.layers],
    }


def _axis(axis: Axis) -> dict[str, Any]:
    return {
        "label": axis.label,
        "scale": axis.scale,
        "zero": axis.from_zero,
        "includes": [rounded(value) for value in axis.includes],
        "limits": None if axis.limits is None else [rounded(limit) for limit in axis.limits],
        "head": axis.head,
        "ticks": axis.has_ticks,
        "mirrored": axis.is_mirrored,
    }


def _layer(layer: Layer) -> dict[str, Any]:
    return {
        "kind": layer.kind,
        "name": layer.name,
        "role": layer.role,
        "shown": layer.is_shown,
        "columns": {name: [rounded(v) for v in column] for name, column in layer.columns.items()},
        "words": list(layer.words),
    }
