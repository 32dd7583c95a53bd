"""What does a report page show of theory beside simulation, cell by cell?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from afdplan.plotting.figure import Axis, Figure, Layer, layer, single
from afdplan.plotting.ratio_figures import METHOD_ROLES, METHODS
from afdplan.validation.bands import SYNCHRONOUS, Limits
from afdplan.validation.cell import METHODS as JUDGED
from afdplan.validation.cell import CellGroup, CellResult

__all__ = ["cycle_time_figure", "percentile_figure", "short_figure"]

GROUPS: dict[CellGroup, str] = {
    "grid": "laws",
    "feature": "features",
    "short": "short lives",
    "trace": "traces",
}
SHOWN_LIMITS = 2.5
"""Declared limits up to which a wide interval is drawn."""
NARROWEST = 0.3
"""Share of the axis that a group takes at least: room for its name."""
FLOOR = 1e-4
"""Errors below it are drawn at it where the axis is logarithmic."""
SIDEWAYS = 0.14
"""Cells of equal rounds are spread by this share of them, lest they hide each other."""


@dataclass(frozen=True, slots=True)
class _Row:
    """Cells side by side, group by group, and where each of them stands."""

    cells: list[CellResult]
    places: list[float]
    groups: Layer
    width: float


def _in_groups(cells: Iterable[CellResult], errors: dict[str, float]) -> _Row:
    """Return the cells by group and by error; small groups get room for their names."""
    parts = {
        name: sorted(
            (cell for cell in cells if cell.group == group), key=lambda cell: errors[cell.name]
        )
        for group, name in GROUPS.items()
    }
    parts = {name: part for name, part in parts.items() if part}
    total = sum(len(part) for part in parts.values())
    ordered, places, starts, ends, at = [], [], [], [], 0.0
    for part in parts.values():
        width = max(len(part), NARROWEST * total)
        ordered += part
        places += [at + (k + 0.5) * width / len(part) for k in range(len(part))]
        starts.append(at)
        at += width
        ends.append(at)
    groups = layer("group", low=starts, high=ends, text=list(parts))
    return _Row(ordered, places, groups, at)


def cycle_time_figure(cells: Sequence[CellResult], limits: Limits = SYNCHRONOUS) -> Figure:
    """Return the signed error of E[tau] of every cell in the declared validity, by method."""
    declared = [cell for cell in cells if cell.is_declared]
    row = _in_groups(declared, {cell.name: cell.error for cell in declared})
    widths = [cell.half_width for cell in row.cells]
    reach = _reach(limits.cycle_time, [cell.error for cell in row.cells])
    layers = _frame(row, limits.cycle_time, widths, reach)
    layers += [
        layer(
            "dot",
            name=METHODS[method],
            role=METHOD_ROLES[method],
            x=row.places,
            y=[100 * cell.errors[method] for cell in row.cells],
            words=[f"{100 * cell.errors[method]:+.2f} %" for cell in row.cells],
            is_shown=method == "exact",
        )
        for method in JUDGED
    ]
    return _error_figure(
        "cycle-time",
        "Error of the mean cycle time, cell by cell",
        f"Theory over simulation - 1 of E[tau], from lowest to highest in each group. Bars "
        f"around zero are the simulation's intervals; the band is the declared "
        f"{100 * limits.cycle_time:.0f} %, which counts from the end of a bar. The legend switches "
        "the other methods on." + _cut(widths, reach),
        "error of E[tau] [%]",
        row,
        layers,
        limits.cycle_time,
    )


def percentile_figure(cells: Sequence[CellResult], limits: Limits = SYNCHRONOUS) -> Figure:
    """Return the signed error of the step time's 99th percentile, in the declared validity."""
    declared = [cell for cell in cells if cell.is_declared]
    row = _in_groups(declared, {cell.name: cell.p99_error for cell in declared})
    widths = [cell.simulated.step_time_p99.relative_half_width for cell in row.cells]
    reach = _reach(limits.p99, [cell.p99_error for cell in row.cells])
    layers = _frame(row, limits.p99, widths, reach)
    layers.append(
        layer(
            "dot",
            name=METHODS["exact"],
            role=METHOD_ROLES["exact"],
            x=row.places,
            y=[100 * cell.p99_error for cell in row.cells],
            words=[f"{100 * cell.p99_error:+.2f} %" for cell in row.cells],
        )
    )
    return _error_figure(
        "percentile",
        "Error of the 99th percentile of the step time, cell by cell",
        f"As above, with the declared {100 * limits.p99:.0f} %. A bar that is wider than the band "
        "cannot show a breach of its size: that cell is undecided." + _cut(widths, reach),
        "error of p99 [%]",
        row,
        layers,
        limits.p99,
    )


def _reach(limit: float, errors: Sequence[float]) -> float:
    """Return how far from zero an interval is drawn: beyond it only the errors would shrink."""
    return max(SHOWN_LIMITS * limit, *(1.1 * abs(error) for error in errors))


def _cut(half_widths: Sequence[float], reach: float) -> str:
    """Return what the caption must say of intervals that are cut."""
    count = sum(width > reach for width in half_widths)
    return f" {count} wider than {100 * reach:.1f} % are cut there." if count else ""


def _frame(row: _Row, limit: float, half_widths: Sequence[float], reach: float) -> list[Layer]:
    """Return the band, the groups, the simulations' intervals and what each cell is."""
    return [
        layer(
            "band",
            name=f"declared: {100 * limit:.0f} %",
            role="latency",
            x=[0.0, row.width],
            low=[-100 * limit] * 2,
            high=[100 * limit] * 2,
        ),
        row.groups,
        layer(
            "line",
            role="neutral",
            x=row.places,
            y=[0.0] * len(row.places),
            words=[
                f"{_bundle(cell)}\n{_sure(width)}"
                for cell, width in zip(row.cells, half_widths, strict=True)
            ],
        ),
        layer(
            "interval",
            name="simulation's interval",
            role="neutral",
            x=row.places,
            low=[-100 * min(width, reach) for width in half_widths],
            high=[100 * min(width, reach) for width in half_widths],
        ),
    ]


def _sure(width: float) -> str:
    if math.isinf(width):
        return "simulated, but its interval has no upper end"
    return f"simulated to +- {100 * width:.2f} %"


def _bundle(cell: CellResult) -> str:
    return (
        f"{cell.name}\nA = {cell.attention_workers}, F = {cell.ffn_workers}, "
        f"B = {cell.batch_size}, m = {cell.microbatches}, L = {cell.layers}; requests live "
        f"{cell.rounds:,.4g} rounds"
    )


def _error_figure(
    identifier: str,
    title: str,
    caption: str,
    label: str,
    row: _Row,
    layers: list[Layer],
    limit: float,
) -> Figure:
    return single(
        identifier,
        title,
        caption,
        x=Axis(label="", limits=(0.0, row.width), has_ticks=False),
        y=Axis(label=label, includes=(-120 * limit, 120 * limit)),
        layers=layers,
        height=340,
    )


def short_figure(cells: Sequence[CellResult]) -> Figure:
    """Return the errors of cells below the declared validity beside what is stated for them."""
    short = sorted(
        (cell for cell in cells if not cell.is_declared), key=lambda cell: (cell.rounds, cell.name)
    )
    places = _side_by_side([cell.rounds for cell in short])
    ends = (places[0] * (1 - SIDEWAYS), places[-1] * (1 + SIDEWAYS))
    stated = [100 * cell.allowed for cell in short]
    limits = [stated[0], *stated, stated[-1]]

    def drawn(error: float) -> float:
        return 100 * max(error, FLOOR)

    layers = [
        layer(
            "line",
            name="stated error",
            role="latency",
            x=[ends[0], *places, ends[1]],
            y=limits,
            words=[
                "",
                *(
                    f"{100 * cell.allowed:.1f} %, for {_bundle(cell)}\n{_sure(cell.half_width)}"
                    for cell in short
                ),
                "",
            ],
        ),
        layer(
            "interval",
            name="simulation's interval",
            role="neutral",
            x=places,
            low=[drawn(abs(cell.error) - cell.half_width) for cell in short],
            high=[drawn(abs(cell.error) + cell.half_width) for cell in short],
        ),
    ]
    layers += [
        layer(
            "dot",
            name=METHODS[method],
            role=METHOD_ROLES[method],
            x=places,
            y=[drawn(abs(cell.errors[method])) for cell in short],
            words=[f"{100 * cell.errors[method]:+.2f} %" for cell in short],
            is_shown=method == "exact",
        )
        for method in JUDGED
    ]
    top = max(*limits, *(100 * abs(e) for cell in short for e in cell.errors.values()))
    return single(
        "short",
        "Below the declared validity: requests that live few rounds",
        "Size of the error of E[tau]; below the line is what is stated. Equal rounds are "
        f"spread a little sideways, and what is smaller than {100 * FLOOR:.2f} % is drawn there.",
        x=Axis(label="rounds that a request lives", scale="log", limits=ends),
        y=Axis(label="|error| of E[tau] [%]", scale="log", limits=(100 * FLOOR, 1.4 * top)),
        layers=layers,
        height=340,
    )


def _side_by_side(rounds: Sequence[float]) -> list[float]:
    """Return places for sorted rounds: equal ones (to 5 %) next to each other."""
    places: list[float] = []
    at = 0
    while at < len(rounds):
        equal = [value for value in rounds[at:] if value <= 1.05 * rounds[at]]
        shares = np.linspace(-SIDEWAYS, SIDEWAYS, len(equal)) if len(equal) > 1 else np.zeros(1)
        places += list(float(np.mean(equal)) * (1 + shares))
        at += len(equal)
    return places
