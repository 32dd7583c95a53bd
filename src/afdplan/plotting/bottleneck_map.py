"""Which resource binds at which number of attention workers and batch size?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from afdplan.model.latency import TimeUnit
from afdplan.planning.ratio_grid import RatioCase
from afdplan.plotting.figure import Axis, Chart, Figure, Layer
from afdplan.plotting.ratio_figures import MICROBATCHES, NAMES, WORKERS_LABEL, short_time
from afdplan.theory.layer_cycle import Bottleneck
from afdplan.theory.solve import largest_resource

__all__ = ["LETTERS", "BottleneckMap", "MapRow", "bottleneck_figure", "bottleneck_maps"]

LETTERS: dict[Bottleneck, str] = {
    "attention": "A",
    "communication": "C",
    "ffn": "F",
    "latency": "L",
}
BINDING: dict[Bottleneck, str] = {
    "attention": "A attention: the slowest worker",
    "communication": "C communication: the slower transfer",
    "ffn": "F FFN",
    "latency": "L latency: the round trip",
}
COLUMNS = 14
"""Columns that lead from 1 to beyond the largest best A; those of the best come on top."""
NEAR = 1.15
"""A column nearer than this factor to one of the best tells nothing new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MapRow:
    """One batch size of the map.

    Attributes
    ----------
    batch_size
        B.
    best
        A that is framed; None where there is none.
    resource_times
        Time of each resource at every column, per layer and microbatch [time].
    """

    batch_size: int
    best: int | None
    resource_times: tuple[dict[Bottleneck, float], ...]

    @property
    def binding(self) -> tuple[Bottleneck, ...]:
        """The resource that needs longest at every column."""
        return tuple(largest_resource(times) for times in self.resource_times)


@dataclass(frozen=True, slots=True, kw_only=True)
class BottleneckMap:
    """The map of one number of microbatches.

    Attributes
    ----------
    microbatches
        m.
    workers
        The columns: A, ascending; every framed A is one of them.
    rows
        By batch size.
    """

    microbatches: int
    workers: tuple[int, ...]
    rows: tuple[MapRow, ...]


def bottleneck_maps(
    cases: Sequence[RatioCase], best: Mapping[tuple[int, int], int | None] | None = None
) -> tuple[BottleneckMap, ...]:
    """Return one map per number of microbatches, in which every best A has its column.

    Parameters
    ----------
    cases
        One per batch size and number of microbatches.
    best
        A to frame by (B, m), None where no A will do; by default the best of each case.
    """
    if best is None:
        best = {(case.batch_size, case.microbatches): case.best.attention_workers for case in cases}
    maps = []
    for microbatches in sorted({case.microbatches for case in cases}):
        mine = [case for case in cases if case.microbatches == microbatches]
        framed = [best[case.batch_size, microbatches] for case in mine]
        columns = _columns([count for count in framed if count is not None])
        rows = tuple(
            MapRow(
                batch_size=case.batch_size,
                best=count,
                resource_times=tuple(case.model.resources(a) for a in columns),
            )
            for case, count in zip(mine, framed, strict=True)
        )
        maps.append(BottleneckMap(microbatches=microbatches, workers=columns, rows=rows))
    return tuple(maps)


def _columns(best: Sequence[int]) -> tuple[int, ...]:
    """Return all of `best`, and between them numbers evenly on a logarithm.

    Examples
    --------
    >>> _columns([35])
    (1, 2, 3, 4, 5, 7, 10, 14, 19, 26, 35, 50, 70)
    """
    last = max([16, *(2 * count for count in best)])
    coarse = np.rint(np.geomspace(1, last, COLUMNS)).astype(int).tolist()
    far = [a for a in coarse if all(not 1 / NEAR < a / count < NEAR for count in best)]
    return tuple(sorted({*far, *best}))


def bottleneck_figure(maps: Sequence[BottleneckMap], unit: TimeUnit, framed: str = "") -> Figure:
    """Return which resource binds over A and batch size, one map per number of microbatches.

    Parameters
    ----------
    maps
        What `bottleneck_maps` found.
    unit
        Of their times.
    framed
        What is framed, if it is not the best A of each batch size.
    """
    return Figure(
        identifier="bottleneck",
        title="Which resource binds over attention workers and batch size",
        caption="Letters name what takes longest: A attention, C communication, F FFN, "
        f"L latency of the round trip. Framed: {framed or 'the best A of each batch size'}.",
        choices=(MICROBATCHES,),
        charts={str(one.microbatches): _chart(one, unit) for one in maps},
    )


def _chart(found: BottleneckMap, unit: TimeUnit) -> Chart:
    cells: dict[Bottleneck, list[tuple[str, str, str]]] = {}
    for row in found.rows:
        for count, name, times in zip(found.workers, row.binding, row.resource_times, strict=True):
            parts = ", ".join(
                f"{NAMES[part]} {short_time(value, unit)}" for part, value in times.items()
            )
            words = f"A = {count}, B = {row.batch_size}: {NAMES[name]} binds\n{parts}"
            cells.setdefault(name, []).append((str(count), str(row.batch_size), words))
    layers = [
        Layer(
            kind="rect",
            name=BINDING[name],
            role=name,
            columns={
                "x": [cell[0] for cell in cells[name]],
                "y": [cell[1] for cell in cells[name]],
                "fill": ["tint"] * len(cells[name]),
                "text": [LETTERS[name]] * len(cells[name]),
            },
            words=[cell[2] for cell in cells[name]],
        )
        for name in BINDING
        if name in cells
    ]
    framed = [row for row in found.rows if row.best is not None]
    layers.append(
        Layer(
            kind="rect",
            role="best",
            columns={
                "x": [str(row.best) for row in framed],
                "y": [str(row.batch_size) for row in framed],
                "fill": ["frame"] * len(framed),
            },
        )
    )
    sizes = sorted((row.batch_size for row in found.rows), reverse=True)
    return Chart(
        x=Axis(
            label=WORKERS_LABEL,
            scale="category",
            limits=tuple(str(count) for count in found.workers),
        ),
        y=Axis(label="batch size B", scale="category", limits=tuple(str(size) for size in sizes)),
        layers=layers,
        height=90 + 34 * len(sizes),
    )
