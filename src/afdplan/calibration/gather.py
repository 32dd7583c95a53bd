"""How do measurements of several files come together, and are their units believable?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from afdplan.errors import InsufficientDataError, TimeUnitError
from afdplan.model import parameters as ask
from afdplan.model.checks import check_number
from afdplan.model.measurement import STAGES, Measurements, StageSamples
from afdplan.model.sweep import RatioSweep

__all__ = ["gather", "step_sweep", "suspect_units"]

_BINS = 12


def gather(parts: Sequence[Measurements]) -> Measurements:
    """Return the measurements of several files as one; requests stay if all have them.

    Parameters
    ----------
    parts
        One or more, of one time unit.

    Raises
    ------
    TimeUnitError
        If time units differ.
    """
    units = {part.time_unit for part in parts}
    if len(units) > 1:
        raise TimeUnitError("the files mix seconds and abstract times: calibrate them apart")
    if len(parts) == 1:
        return parts[0]
    stages = []
    for name in STAGES:
        samples = [found for part in parts if (found := part.stage(name)) is not None]
        if not samples:
            continue
        requests = [s.requests for s in samples if s.requests is not None]
        stages.append(
            StageSamples(
                stage=samples[0].stage,
                loads=np.concatenate([s.loads for s in samples]),
                times=np.concatenate([s.times for s in samples]),
                requests=np.concatenate(requests) if len(requests) == len(samples) else None,
            )
        )
    return Measurements(
        stages=tuple(stages),
        time_unit=parts[0].time_unit,
        source=", ".join(part.source for part in parts),
        format=", ".join(dict.fromkeys(part.format for part in parts)),
        dropped=sum(part.dropped for part in parts),
        notes=(
            *dict.fromkeys(note for part in parts for note in part.notes),
            "Rows are counted over all files in their order.",
        ),
    )


def suspect_units(measurements: Measurements, layers: int = 1) -> list[str]:
    """Return warnings about stage times that look a thousand times too long or too short.

    A stage of one layer takes between a microsecond and some tens of milliseconds, a whole step
    between a millisecond and some seconds; stages of one system are within a factor of 1000.

    Parameters
    ----------
    measurements
        What was read; abstract times are never suspected.
    layers
        1 means that times may be those of a whole step.
    """
    if measurements.time_unit == "abstract":
        return []
    said = []
    medians = {s.stage: float(np.median(s.times)) for s in measurements.stages}
    for stage, median in medians.items():
        longest = 30.0 if stage == "step" else 3.0 if layers == 1 else 0.1
        shortest = 1e-4 if stage == "step" else 3e-7
        if median > longest:
            said.append(
                f"the median time of {stage} is {median:.3g} s, suspiciously long: were "
                "milliseconds or microseconds read as a larger unit?"
            )
        elif median < shortest:
            said.append(
                f"the median time of {stage} is {median * 1e9:.3g} ns, suspiciously short: were "
                "times read as a smaller unit than they are?"
            )
    inner = {stage: median for stage, median in medians.items() if stage != "step"}
    if len(inner) > 1:
        long, short = max(inner, key=inner.__getitem__), min(inner, key=inner.__getitem__)
        if inner[long] > 1000 * inner[short]:
            said.append(
                f"{long} takes {inner[long] / inner[short]:.0f} times as long as {short}: do both "
                "have the same unit?"
            )
    return said


def step_sweep(
    measurements: Measurements,
    *,
    attention_workers: float,
    ffn_workers: float = 1.0,
    microbatches: int = ask.MICROBATCHES.default,
    context: float | None = None,
) -> RatioSweep:
    """Return step times of one running bundle as sweep points, one per batch and KV level.

    Steps of a log have loads of the whole bundle; those with the same requests are put into at
    most 12 bins of KV tokens, each represented by its medians, so that stalls do not count.

    Parameters
    ----------
    measurements
        With a stage ``step`` that has requests.
    attention_workers, ffn_workers
        A and F of the bundle that was logged (1 for the log of one rank).
    microbatches
        m in flight.
    context
        Mean KV tokens per request, for logs that do not record them.

    Raises
    ------
    InvalidInputError
        If a number of workers or microbatches is not above 0.
    InsufficientDataError
        If there are no steps with requests, or neither KV tokens nor `context`.
    """
    given = {"attention_workers": attention_workers, "ffn_workers": ffn_workers}
    for name, value in (given | {"microbatches": microbatches}).items():
        check_number(name, value, strict=True)
    steps = measurements.stage("step")
    if steps is None or steps.requests is None:
        raise InsufficientDataError(
            f"{measurements.source} holds no decode steps with their requests"
        )
    points = []
    for requests in np.unique(steps.requests):
        mine = steps.where(steps.requests == requests)
        bins = min(_BINS, max(1, mine.count // 5))
        for part in np.array_split(np.argsort(mine.loads, kind="stable"), bins):
            tokens, time = np.median(mine.loads[part]), np.median(mine.times[part])
            each = tokens / requests if tokens > 0 else context
            if each is None:
                raise InsufficientDataError(
                    f"{measurements.source} records no KV tokens: give the mean context per request"
                )
            points.append((requests, each, time, part.size))
    # The levels with most steps say most; a sweep needs no more than a few dozen.
    points.sort(key=lambda point: -point[3])
    table = np.array(points[:60])
    return RatioSweep(
        attention_workers=np.full(len(table), attention_workers),
        ffn_workers=np.full(len(table), ffn_workers),
        batch_size=table[:, 0] / attention_workers / microbatches,
        microbatches=np.full(len(table), float(microbatches)),
        mean_tokens=table[:, 1],
        step_times=table[:, 2],
        source=measurements.source,
        notes=measurements.notes,
    )


def join_sweeps(sweeps: Sequence[RatioSweep]) -> RatioSweep:
    """Return the points of several sweeps of one system as one."""
    first = sweeps[0]
    names = (
        "attention_workers",
        "ffn_workers",
        "batch_size",
        "microbatches",
        "mean_tokens",
        "step_times",
    )
    return replace(
        first,
        **{name: np.concatenate([getattr(sweep, name) for sweep in sweeps]) for name in names},
        source=", ".join(sweep.source for sweep in sweeps),
        notes=tuple(dict.fromkeys(note for sweep in sweeps for note in sweep.notes)),
    )
