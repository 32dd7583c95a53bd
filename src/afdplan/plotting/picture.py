"""How do figures become one picture, the bytes of a PNG or SVG file?"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.errors import InvalidInputError
from afdplan.plotting.label_places import Place, label_places

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture
    from matplotlib.figure import SubFigure

    from afdplan.plotting.figure import Axis, Chart, Figure, Layer

__all__ = ["check_picture_name", "draw_figures", "picture_bytes"]

FORMATS = (".png", ".svg")
COLOURS = {
    "attention": "#0b5cad", "ffn": "#a84300", "communication": "#00694e", "latency": "#7a2d8f",
    "best": "#b3261e", "main": "#0b5cad", "second": "#a84300", "third": "#00694e",
    "neutral": "#5c636c",
}  # fmt: skip
"""Of the page in print."""
DASHES: dict[str, Any] = {
    "ffn": (0, (4, 2.2)), "second": (0, (4, 2.2)), "communication": (0, (1.2, 1.6)),
    "third": (0, (1.2, 1.6)), "latency": (0, (5, 1.6, 1.2, 1.6)), "neutral": (0, (2.2, 2.2)),
}  # fmt: skip
MARKERS = {
    "ffn": "s", "second": "s", "communication": "^", "third": "^", "latency": "D", "best": "*",
}  # fmt: skip
HATCHES = {"hatch": "////", "cross": "++", "dots": ".."}
OFFSETS: dict[Place, tuple[tuple[int, int], str, str]] = {
    "above": ((0, 7), "center", "bottom"),
    "below": ((0, -7), "center", "top"),
    "left": ((-8, 0), "right", "center"),
    "right": ((8, 0), "left", "center"),
}
WIDTH, PIXELS, FRAME = 7.8, 92.0, 1.0
"""Width of a column [inch], pixels of the page per inch, room for words around a chart [inch]."""
INK, SOFT = "#1c1f23", "#565d66"
NEAR = 0.01
"""Shares of the axes within which one label is enough: that of the point goes first."""
MANY = 60
"""Marks beyond which they are drawn small, lest they hide each other."""


def check_picture_name(path: str | Path) -> str:
    """Return the format that the name of a picture asks for, ``png`` or ``svg``.

    Raises
    ------
    InvalidInputError
        If the name ends otherwise.

    Examples
    --------
    >>> check_picture_name("load.SVG")
    'svg'
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise InvalidInputError(
            f"a picture's name must end in {' or '.join(FORMATS)}, got {str(path)!r}"
        )
    return suffix[1:]


def picture_bytes(picture: Picture, kind: str) -> bytes:
    """Return a picture as the bytes of a ``png`` or ``svg`` file; the same one, same bytes."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context({"svg.hashsalt": "afdplan"}):
        picture.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    return buffer.getvalue()


def draw_figures(figures: Sequence[Figure], heading: str, columns: int = 1) -> Picture:
    """Draw the figures one below the other; what a page shows by a choice must be chosen already.

    Parameters
    ----------
    figures
        Of one chart each, row by row.
    heading
        What they are about, above them.
    columns
        Figures side by side.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure as Picture

    charts = [chart for figure in figures for chart in figure.charts.values()]
    rows = range(0, len(figures), columns)
    heights = [FRAME + max(c.height for c in charts[row : row + columns]) / PIXELS for row in rows]
    # Names come from outside: a dollar sign is no formula.
    with mpl.rc_context({"text.parse_math": False, "font.size": 9, "hatch.linewidth": 0.8}):
        picture = Picture(figsize=(WIDTH * columns, sum(heights) + 0.4), layout="constrained")
        picture.suptitle(textwrap.fill(heading, 85 * columns), x=0.01, ha="left", fontsize=13)
        rooms = picture.subfigures(len(heights), columns, squeeze=False, height_ratios=heights)
        drawn = [
            _draw(room, figure, chart)
            for room, figure, chart in zip(rooms.flat, figures, charts, strict=False)
        ]
        picture.draw_without_rendering()  # labels need to know where everything stands
        for axes, chart in zip(drawn, charts, strict=True):
            _write_labels(axes, chart)
    return picture


def _draw(room: SubFigure, figure: Figure, chart: Chart) -> Axes:
    axes = room.subplots()
    layers = [layer for layer in chart.layers if layer.is_shown]
    for axis, name in ((chart.x, "x"), (chart.y, "y")):
        if axis.scale == "log":
            axes.set(**{f"{name}scale": "log"})
    for depth, layer in enumerate(layers):
        _draw_layer(axes, layer, chart, 2 + 0.01 * depth)
    _set_axis(axes, chart.x, "x")
    _set_axis(axes, chart.y, "y")
    letters = int(13.5 * room.bbox.width / room.dpi_scale_trans.transform((1, 1))[0])
    has_rule_words = any(layer.kind == "rule_x" and "text" in layer.columns for layer in layers)
    room.suptitle(figure.title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_title(
        textwrap.fill(figure.caption, letters),
        loc="left",
        fontsize=9,
        color=SOFT,
        pad=18 if has_rule_words else 8,
    )
    axes.spines[["top", "right"]].set_visible(False)
    named = {layer.name: layer for layer in reversed(layers) if layer.name}
    if len(named) > 1:
        names = [layer.name for layer in layers if named.get(layer.name) is layer]
        wide = max(map(len, names)) + 8
        room.legend(
            [_handle(named[name]) for name in names],
            names,
            loc="outside lower center",
            ncols=max(1, min(len(names), letters // wide)),
            frameon=False,
            fontsize=9,
        )
    return axes


def _set_axis(axes: Axes, axis: Axis, name: str) -> None:
    """Scale, ticks and label of one axis, after all is drawn."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    ruler = axes.xaxis if name == "x" else axes.yaxis
    axes.set(**{f"{name}label": axis.label})
    if axis.scale == "category":
        names = [str(limit) for limit in axis.limits or ()]
        step = 1 if name == "y" else max(1, -(-len(names) * max(map(len, names)) // 90))
        shown = range(0, len(names), step)
        ruler.set_ticks(list(shown), [textwrap.fill(names[k], 30) for k in shown])
        ruler.set_tick_params(length=0)
        ends = (-0.5, len(names) - 0.5)
        axes.set(**{f"{name}lim": ends if name == "x" else ends[::-1]})
        return
    if axis.includes:
        axes.update_datalim(
            [(v, v) for v in axis.includes], updatex=name == "x", updatey=name == "y"
        )
        axes.autoscale_view()
    low, high = axes.dataLim.intervalx if name == "x" else axes.dataLim.intervaly
    if axis.limits is not None:
        axes.set(**{f"{name}lim": axis.limits})
    elif axis.from_zero and low >= 0:
        axes.set(**{f"{name}lim": (0, 1.06 * high or 1)})
    elif axis.from_zero and high <= 0:
        axes.set(**{f"{name}lim": (1.06 * low, 0)})
    if name == "y":
        axes.grid(axis="y", color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
    if axis.scale == "log":
        decades = np.log10(high / low)
        steps = (1.0, 2.0, 5.0) if decades < 2.5 else (1.0, 3.0) if decades < 3.5 else (1.0,)
        ruler.set_major_locator(LogLocator(subs=steps, numticks=8))
        ruler.set_minor_formatter(NullFormatter())
    else:
        ruler.set_major_locator(MaxNLocator(8 if name == "x" else 5, steps=[1, 2, 2.5, 5, 10]))
    ruler.set_major_formatter(
        FuncFormatter(lambda v, _: f"{abs(v) if axis.is_mirrored else v:,.6g}")
    )
    if not axis.has_ticks:
        ruler.set_ticks([])


def _place(column: Sequence[Any] | FloatArray, axis: Axis) -> FloatArray:
    """Return where values stand: categories at whole numbers; what is not finite nowhere."""
    if axis.scale == "category":
        index = {str(limit): k for k, limit in enumerate(axis.limits or ())}
        return np.array([index[str(value)] for value in column], dtype=np.float64)
    values = np.array(column, dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _mix(role: str, share: float) -> tuple[float, float, float]:
    """Return a role's colour, thinned with white."""
    from matplotlib.colors import to_rgb

    red, green, blue = (share * part + 1 - share for part in to_rgb(COLOURS[role]))
    return red, green, blue


def _draw_layer(axes: Axes, layer: Layer, chart: Chart, depth: float) -> None:
    columns, colour, dash = layer.columns, COLOURS[layer.role], DASHES.get(layer.role, "-")
    at = {
        name: _place(column, chart.x if name[0] == "x" else chart.y)
        for name, column in columns.items()
        if name in ("x", "x1", "x2", "y", "y1", "y2")
    }
    size = len(next(iter(columns.values()), ()))
    look: dict[str, Any] = {"color": colour, "zorder": depth}
    match layer.kind:
        case "line":
            dots = "." if "text" in columns else ""  # what its labels are of
            axes.plot(at["x"], at["y"], linestyle=dash, linewidth=1.8, marker=dots, **look)
        case "band":
            axes.fill_between(at["x"], columns["low"], columns["high"], alpha=0.2, lw=0, **look)
        case "interval" | "span":
            ends = np.array([columns["low"], columns["high"]], dtype=np.float64)
            length = np.nan_to_num(np.array([[0.0] * size, ends[1] - ends[0]]), posinf=0.0)
            thin = size > MANY
            look |= {"fmt": "none", "capsize": 0 if thin else 3, "elinewidth": 1 if thin else 1.6}
            look["alpha"] = 0.4 if thin else 1.0
            if layer.kind == "span":
                axes.errorbar(ends[0], at["y"], xerr=length, **look)
            else:
                axes.errorbar(at["x"], ends[0], yerr=length, **look)
        case "dot" | "point":
            front = depth + (layer.kind == "point")
            axes.plot(at["x"], at["y"], zorder=front, clip_on=False, **_marker(layer, size))
        case "rule_x":
            for x in at["x"]:
                axes.axvline(x, linestyle=dash, linewidth=1.5, **look)
            for x, text in zip(at["x"], columns.get("text", ()), strict=False):
                axes.annotate(
                    text, (x, 1.0), (0, 3), xycoords=("data", "axes fraction"), color=colour,
                    textcoords="offset points", ha="center", va="bottom", fontweight="bold",
                )  # fmt: skip
        case "rule_y":
            for y in at["y"]:
                axes.axhline(y, linestyle=dash, linewidth=1.3, **look)
        case "range":
            for low, high in zip(columns["low"], columns["high"], strict=True):
                axes.axvspan(low, high, color=_mix(layer.role, 0.14), linewidth=0, zorder=0.5)
        case "group":
            for low, high, text in zip(
                columns["low"], columns["high"], columns["text"], strict=True
            ):
                if low > columns["low"][0]:
                    axes.axvline(low, color=SOFT, linewidth=0.8, zorder=depth)
                axes.annotate(
                    text, ((low + high) / 2, 0), (0, -5), xycoords=("data", "axes fraction"),
                    textcoords="offset points", ha="center", va="top", color=INK,
                )  # fmt: skip
        case _:
            _draw_rectangles(axes, layer, chart, at, depth)


def _marker(layer: Layer, size: int) -> dict[str, Any]:
    """Return how a dot of a layer looks."""
    many, is_point = size > MANY, layer.kind == "point"
    return {
        "linestyle": "none",
        "marker": MARKERS.get(layer.role, "o"),
        "markersize": (17 if layer.role == "best" else 11) if is_point else 3 if many else 5.5,
        "markerfacecolor": COLOURS[layer.role] if many or is_point else "white",
        "markeredgecolor": "white" if is_point else COLOURS[layer.role],
        "markeredgewidth": 0.5 if many else 1.2,
        "alpha": 0.6 if many else 1.0,
    }


def _paint(role: str, fill: str, value: float | None) -> dict[str, Any]:
    """Return how a rectangle looks: patterns tell idle from busy without colour."""
    if fill == "frame":
        return {"facecolor": "none", "edgecolor": COLOURS[role], "linewidth": 2.4}
    if fill in HATCHES:
        face, edge = _mix(role, 0.12), COLOURS[role]
        return {"facecolor": face, "edgecolor": edge, "linewidth": 0.5, "hatch": HATCHES[fill]}
    share = 0.08 + 0.92 * value if value is not None else 0.22 if fill == "tint" else 1.0
    return {"facecolor": _mix(role, share), "edgecolor": "white", "linewidth": 0.5}


def _draw_rectangles(
    axes: Axes, layer: Layer, chart: Chart, at: dict[str, FloatArray], depth: float
) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    def ends(name: str, half: float) -> tuple[FloatArray, FloatArray]:
        if name in at:
            return at[name] - half, at[name] + half
        return at[f"{name}1"], at[f"{name}2"]

    (left, right), (low, high) = ends("x", 0.46), ends("y", 0.4 if "x1" in at else 0.46)
    columns, size = layer.columns, left.size
    roles = columns.get("role", [layer.role] * size)
    fills = columns.get("fill", ["solid"] * size)
    values = columns.get("value", [None] * size)
    groups: dict[tuple[Any, ...], list[int]] = {}
    for k, look in enumerate(zip(roles, fills, values, strict=True)):
        groups.setdefault(look, []).append(k)
    for (role, fill, value), own in groups.items():
        shapes = [Rectangle((left[k], low[k]), right[k] - left[k], high[k] - low[k]) for k in own]
        paint = _paint(role, fill, value)
        if size > 400 and fill not in HATCHES:
            paint["linewidth"] = 0
        axes.add_collection(PatchCollection(shapes, zorder=depth, **paint))
    axes.autoscale_view()
    for k, text in enumerate(columns.get("text", ())):
        axes.text(
            (left[k] + right[k]) / 2, (low[k] + high[k]) / 2, text, ha="center", va="center",
            fontweight="bold", color=INK, zorder=depth + 0.005, clip_on=True,
        )  # fmt: skip


def _handle(layer: Layer) -> Any:
    """Return the layer's mark in the legend."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if layer.kind == "rect":
        role = layer.columns.get("role", [layer.role])[0]
        return Patch(**_paint(role, layer.columns.get("fill", ["solid"])[0], None))
    if layer.kind in ("band", "range"):
        return Patch(facecolor=_mix(layer.role, 0.2), linewidth=0)
    if layer.kind in ("dot", "point"):
        return Line2D(
            [], [], **(_marker(layer, 1) | {"markersize": 11 if layer.role == "best" else 7})
        )
    return Line2D([], [], color=COLOURS[layer.role], linestyle=DASHES.get(layer.role, "-"))


def _write_labels(axes: Axes, chart: Chart) -> None:
    """Write the text of points and of lines where it covers no mark, line or other text."""
    from matplotlib.patheffects import withStroke

    shown = [layer for layer in chart.layers if layer.is_shown]

    def shares(layer: Layer) -> list[tuple[float, float]]:
        x, y = _place(layer.columns["x"], chart.x), _place(layer.columns["y"], chart.y)
        points = axes.transAxes.inverted().transform(
            axes.transData.transform(np.column_stack([x, y]))
        )
        return [(float(a), float(b)) for a, b in points]

    labelled = [
        layer for layer in shown if layer.kind in ("line", "point") and "text" in layer.columns
    ]
    if not labelled:
        return
    labels: list[tuple[float, float, str, str]] = []
    for layer in sorted(labelled, key=lambda layer: layer.kind == "line"):
        for (x, y), text in zip(shares(layer), layer.columns["text"], strict=True):
            if all(max(abs(x - other[0]), abs(y - other[1])) > NEAR for other in labels):
                labels.append((x, y, text, COLOURS[layer.role]))
    rules = [layer for layer in shown if layer.kind == "rule_x"]
    bottom = axes.get_ylim()[0]
    box = axes.get_window_extent()
    point = axes.figure.dpi / 72  # pixels; the size of letters below is in points
    places = label_places(
        [(x, y, text) for x, y, text, _ in labels],
        [at for layer in shown if layer.kind in ("dot", "point") for at in shares(layer)],
        [float(axes.transAxes.inverted().transform(axes.transData.transform((x, bottom)))[0])
         for layer in rules for x in _place(layer.columns["x"], chart.x)],
        [shares(layer) for layer in shown if layer.kind == "line"],
        size=(box.width, box.height),
        character=(6.4 * point, 12.0 * point),
    )  # fmt: skip
    halo = [withStroke(linewidth=3, foreground="white")]
    for (x, y, text, colour), place in zip(labels, places, strict=True):
        offset, horizontal, vertical = OFFSETS[place]
        axes.annotate(
            text, (x, y), offset, xycoords="axes fraction", textcoords="offset points",
            ha=horizontal, va=vertical, color=colour, fontweight="bold", zorder=5,
            path_effects=halo,
        )  # fmt: skip
