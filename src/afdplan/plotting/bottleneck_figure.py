"""What does a report page show of the map of bottlenecks?"""

from __future__ import annotations

from collections.abc import Sequence

from afdplan.model.latency import TimeUnit
from afdplan.planning.bottleneck_map import BottleneckMap
from afdplan.plotting.figure import Axis, Chart, Figure, layer
from afdplan.plotting.ratio_figures import MICROBATCHES, NAMES, WORKERS_LABEL, short_time
from afdplan.theory.layer_cycle import Bottleneck

__all__ = ["LETTERS", "bottleneck_figure"]

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
        layer(
            "rect",
            name=BINDING[name],
            role=name,
            x=[cell[0] for cell in cells[name]],
            y=[cell[1] for cell in cells[name]],
            fill=["tint"] * len(cells[name]),
            text=[LETTERS[name]] * len(cells[name]),
            words=[cell[2] for cell in cells[name]],
        )
        for name in BINDING
        if name in cells
    ]
    framed = [row for row in found.rows if row.best is not None]
    layers.append(
        layer(
            "rect",
            role="best",
            x=[str(row.best) for row in framed],
            y=[str(row.batch_size) for row in framed],
            fill=["frame"] * len(framed),
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
