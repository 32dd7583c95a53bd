"""What is drawn of a few cycles of the pipeline?"""

from __future__ import annotations

from dataclasses import dataclass

from afdplan.model.latency import TimeUnit
from afdplan.plotting.figure import Axis, Figure, Role, layer, single
from afdplan.simulation.record import STAGES
from afdplan.simulation.timeline import Timeline

__all__ = ["Bar", "TimelineData", "pipeline_figure", "timeline_data"]

MAXIMUM_WORKERS = 12
ROUNDS_SHOWN = 6
FILLS = ("solid", "hatch", "cross", "dots")
MICROBATCH_ROLES: tuple[Role, ...] = ("main", "second", "third", "latency")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One stage at work: on which row, from when, how long, for which microbatch."""

    row: int
    start: float
    length: float
    microbatch: int
    label: str

    @property
    def end(self) -> float:
        """When it is done."""
        return self.start + self.length


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
    tracks = sorted({(STAGES.index(span.stage), span.worker) for span in timeline.spans})
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


def pipeline_figure(timeline: Timeline, title: str = "The pipeline, stage by stage") -> Figure:
    """Return who works on which microbatch during the first six rounds of a timeline."""
    data = timeline_data(timeline)
    begin, end = _window(data)
    scale, unit = (1.0, "") if data.time_unit == "abstract" else (1e3, " ms")
    layers = []
    for microbatch in range(data.microbatches):
        bars = [
            bar
            for bar in data.bars
            if bar.microbatch == microbatch and begin < bar.end and bar.start < end
        ]
        if not bars:
            continue
        layers.append(
            layer(
                "rect",
                name=f"microbatch {microbatch + 1}",
                role=MICROBATCH_ROLES[microbatch % len(MICROBATCH_ROLES)],
                y=[data.rows[bar.row] for bar in bars],
                x1=[scale * max(bar.start - begin, 0.0) for bar in bars],
                x2=[scale * (min(bar.end, end) - begin) for bar in bars],
                fill=[FILLS[microbatch % len(FILLS)]] * len(bars),
                words=[
                    f"{data.rows[bar.row]}: microbatch {microbatch + 1}, step {bar.label}, "
                    f"for {scale * bar.length:.4g}{unit}"
                    for bar in bars
                ],
            )
        )
    hidden = f" {data.hidden_workers} more attention workers are not shown." * bool(
        data.hidden_workers
    )
    return single(
        "pipeline",
        title,
        "Each bar is one stage at work on one microbatch; gaps are idle time." + hidden,
        x=Axis(
            label="time" + (" [ms]" if unit else " [abstract units]"),
            limits=(0.0, scale * (end - begin)),
        ),
        y=Axis(label="", scale="category", limits=data.rows),
        layers=layers,
        height=90 + 17 * len(data.rows),
    )


def _window(data: TimelineData) -> tuple[float, float]:
    """Return from when to when a gap is idle time: all rows are recorded, six rounds at most.

    What was at work before the first step that is recorded, or after the last, is not known.
    """
    rows = [[bar for bar in data.bars if bar.row == row] for row in range(len(data.rows))]
    begin = max((min(bar.start for bar in row) for row in rows), default=0.0)
    end = min((max(bar.end for bar in row) for row in rows), default=1.0)
    rounds = sorted(bar.end for bar in rows[0] if bar.end > begin) if rows else []
    rounds = rounds[: ROUNDS_SHOWN * data.microbatches]
    if not begin < end:  # too few steps to overlap: all that there is
        begin, end = 0.0, max(bar.end for bar in data.bars)
    return begin, min([end, *rounds[-1:]])
