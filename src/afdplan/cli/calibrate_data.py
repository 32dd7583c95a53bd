"""What do the files given to `calibrate` hold?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from afdplan.cli.report import reading
from afdplan.model.chosen import picked

if TYPE_CHECKING:
    from afdplan.model.measurement import Measurements
    from afdplan.model.sweep import RatioSweep

__all__ = ["kind_of", "read_parts", "read_sweep", "step_points"]


def kind_of(path: str, format_name: str | None) -> str | None:
    """Return the format of a file; None of a pipe, which can be read only once."""
    from afdplan.files.document import is_there
    from afdplan.files.measurements.reader import recognise_measurements

    if format_name or not is_there(path) or not Path(path).is_file():
        return format_name
    return recognise_measurements(path)


def read_parts(
    data: Sequence[str], options: dict[str, Any], first: str | None
) -> list[Measurements]:
    """Return what each file measured, showing which one is read; the first's format if known."""
    from afdplan.files.measurements.reader import read_measurements

    parts = []
    said = picked(
        options, "format_name time_unit role load requests microbatches peers rank layers"
    )
    for path, known in zip_longest(data, [first]):
        told = {**said, "format_name": said["format_name"] or known}
        with reading(path):
            parts.append(read_measurements(path, **told))
    return parts


def read_sweep(data: Sequence[str], options: dict[str, Any]) -> RatioSweep:
    """Return the points of all files that hold a sweep over ratios."""
    from afdplan.calibration.gather import join_sweeps
    from afdplan.files.measurements.table import read_ratio_sweep

    workers = options["ffn_workers"]
    return join_sweeps(
        [
            read_ratio_sweep(
                path,
                **picked(options, "time_unit batch_size context tokens_per_step"),
                ffn_workers=workers[0] if workers else 1.0,
                microbatches=options["microbatches"] or 2,
            )
            for path in data
        ]
    )


def step_points(parts: list[Measurements], options: dict[str, Any]) -> RatioSweep:
    """Return the step times of logs as points of a sweep; each log needs its A and F."""
    from afdplan.calibration.gather import join_sweeps, step_sweep

    attention, ffn = options["attention_workers"], options["ffn_workers"] or (1.0,)
    if len(attention) != len(parts) or len(ffn) not in (1, len(parts)):
        raise click.UsageError(
            "a log of whole steps does not say its bundle: give --attention-workers (and "
            f"--ffn-workers) once per file, {len(parts)} times"
        )
    if len(ffn) == 1:
        ffn = ffn * len(parts)
    return join_sweeps(
        [
            step_sweep(
                part,
                attention_workers=a,
                ffn_workers=f,
                microbatches=options["microbatches"] or 2,
                context=options["context"],
            )
            for part, a, f in zip(parts, attention, ffn, strict=True)
        ]
    )
