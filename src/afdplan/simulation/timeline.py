"""When does each worker, link and FFN work on which microbatch?"""

from __future__ import annotations

from dataclasses import dataclass

from afdplan.arrays import FloatArray
from afdplan.model.checks import check_count
from afdplan.model.latency import TimeUnit
from afdplan.simulation import state as ix
from afdplan.simulation.engine import Engine
from afdplan.simulation.record import STAGES
from afdplan.simulation.scenario import Scenario

__all__ = ["Span", "Timeline", "record_timeline"]

MAXIMUM_SPANS = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One stage at work.

    Attributes
    ----------
    stage
        One of `STAGES`.
    worker
        Attention worker, from 0; 0 for the FFN and links that all share.
    microbatch, step, layer
        What it works on, from 0.
    start, end
        When [time].
    calls
        How many microbatches it works on at once: a barrier-free FFN pool takes what waits.
    """

    stage: str
    worker: int
    microbatch: int
    step: int
    layer: int
    start: float
    end: float
    calls: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The spans of a few steps, in the order in which they were played.

    Attributes
    ----------
    spans
        What was at work.
    time_unit
        Unit of the times.
    is_complete
        False if there were more spans than are kept (200,000).
    """

    spans: tuple[Span, ...]
    time_unit: TimeUnit
    is_complete: bool


def record_timeline(scenario: Scenario, *, steps: int = 6, skip: int = 20) -> Timeline:
    """Return the stages of `steps` steps, after `skip` steps that fill the pipeline.

    Parameters
    ----------
    scenario
        What to play; the first replication is shown.
    steps
        Steps to show, >= 1.
    skip
        Steps to play before, >= 0.
    """
    steps = check_count("steps", steps)
    skip = check_count("skip", skip, 0)
    per_step = scenario.latency.layers * scenario.microbatches
    per_step *= 3 * scenario.bundle.attention_workers + 1
    if scenario.execution == "barrier-free":  # up to one departure per call
        per_step *= 2
    rows = min(steps * per_step, MAXIMUM_SPANS)
    engine = Engine(scenario, stage_rows=rows)
    engine.state.constants["stage_room"] = 0
    engine.run(stop_step=skip)
    engine.state.constants["stage_room"] = rows
    engine.run(stop_step=skip + steps)
    return Timeline(
        spans=tuple(_spans(engine.stages, scenario)),
        time_unit=scenario.latency.time_unit,
        is_complete=int(engine.state.integers[ix.STAGE_ROWS]) < MAXIMUM_SPANS,
    )


def _spans(rows: FloatArray, scenario: Scenario) -> list[Span]:
    shared = set()
    if scenario.execution == "barrier-free":
        shared = {ix.FFN}
        if scenario.latency.receive.load == "aggregate":
            shared.add(ix.RECEIVE)
    return [
        Span(
            stage=STAGES[int(stage)],
            worker=int(worker),
            microbatch=0 if stage in shared else int(microbatch),
            step=int(step),
            layer=int(layer),
            start=start,
            end=end,
            calls=int(microbatch) if stage in shared else 1,
        )
        for stage, worker, microbatch, step, layer, start, end in rows.tolist()
    ]
