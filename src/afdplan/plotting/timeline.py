"""What is drawn of a few cycles of the pipeline, and how?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from afdplan.model.latency import TimeUnit
from afdplan.simulation.record import STAGES
from afdplan.simulation.timeline import Timeline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Bar", "TimelineData", "draw_timeline", "timeline_data"]

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
MAXIMUM_WORKERS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One stage at work: on which row, from when, how long, for which microbatch."""

    row: int
    start: float
    length: float
    microbatch: int
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineData:
    """Rows from top to bottom, and the bars on them.

    Attributes
    ----------
    rows
        Names of the rows.
    bars
        What lies on them; time zero is the first start.
    microbatches
        How many there are.
    time_unit
        Unit of the times.
    hidden_workers
        Attention workers that are not shown.
    """

    rows: tuple[str, ...]
    bars: tuple[Bar, ...]
    microbatches: int
    time_unit: TimeUnit
    hidden_workers: int


def timeline_data(timeline: Timeline) -> TimelineData:
    """Return what the figure shows: a row per worker and stage, at most 12 workers of each."""
    tracks = sorted(
        {(STAGES.index(span.stage), span.worker) for span in timeline.spans},
    )
    shown = [track for track in tracks if track[1] < MAXIMUM_WORKERS]
    alone = {stage for stage, _ in tracks if sum(track[0] == stage for track in tracks) == 1}
    names = tuple(
        STAGES[stage] if stage in alone else f"{STAGES[stage]} {worker + 1}"
        for stage, worker in shown
    )
    row_of = {track: row for row, track in enumerate(shown)}
    zero = min((span.start for span in timeline.spans), default=0.0)
    bars = tuple(
        Bar(
            row=row_of[STAGES.index(span.stage), span.worker],
            start=span.start - zero,
            length=span.end - span.start,
            microbatch=span.microbatch,
            label=f"{span.step}" + (f".{span.layer}" if span.layer else ""),
        )
        for span in timeline.spans
        if span.worker < MAXIMUM_WORKERS
    )
    workers = 1 + max((span.worker for span in timeline.spans), default=0)
    return TimelineData(
        rows=names,
        bars=bars,
        microbatches=1 + max((span.microbatch for span in timeline.spans), default=0),
        time_unit=timeline.time_unit,
        hidden_workers=max(workers - MAXIMUM_WORKERS, 0),
    )


def draw_timeline(data: TimelineData) -> Figure:
    """Return the figure of a timeline."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    height = 1.3 + 0.26 * max(len(data.rows), 4)
    figure = Figure(figsize=(11, height), layout="constrained")
    axes = figure.add_subplot()
    for microbatch in range(data.microbatches):
        for row in range(len(data.rows)):
            pieces = [
                (bar.start, bar.length)
                for bar in data.bars
                if bar.row == row and bar.microbatch == microbatch
            ]
            if pieces:
                axes.broken_barh(
                    pieces,
                    (row - 0.4, 0.8),
                    facecolors=COLOURS[microbatch % len(COLOURS)],
                    edgecolor="white",
                    linewidth=0.6,
                )
    axes.set_yticks(range(len(data.rows)), data.rows)
    axes.set_ylim(len(data.rows) - 0.4, -0.6)
    unit = "s" if data.time_unit == "s" else "abstract time units"
    axes.set_xlabel(f"time since the first start shown [{unit}]")
    title = "Who works on which microbatch; white is idle"
    if data.hidden_workers:
        title += f" ({data.hidden_workers} more attention workers not shown)"
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
    if data.microbatches > 1:
        axes.legend(
            handles=[
                Patch(color=COLOURS[k % len(COLOURS)], label=f"microbatch {k + 1}")
                for k in range(data.microbatches)
            ],
            loc="upper left",
            bbox_to_anchor=(1.0, 1.0),
            frameon=False,
        )
    return figure
