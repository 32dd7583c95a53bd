"""What do StepMesh's eight timestamps of a transfer say?

``fetch_trace(handler)`` returns, per pushed or pulled tensor, eight times in nanoseconds: request
started, posted, received, handed to the server, answered, posted back, received back, done. The
first two and the last two are clocked by the worker, the four between by the server, so only
differences within one side mean anything.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from afdplan.errors import LatencyModelError
from afdplan.files.document import Source, opened
from afdplan.files.measurements.json_lines import whole_records
from afdplan.model.measurement import Measurements, StageSamples

__all__ = ["read_stepmesh_traces"]

_KEYS = ("timestamps_ns", "timestamps", "trace", "costs")


@opened("measurements", LatencyModelError)
def read_stepmesh_traces(source: Source, tokens: float | None = None) -> Measurements:
    """Return FFN times and transfer times from records of eight timestamps.

    ``ffn = t4 - t3``; ``transfer = (t6 - t1) - (t5 - t2)``, there and back together, counting
    from t0. Each line holds one record: the list of eight, or an object with the list under
    ``timestamps_ns`` and the tokens of the transfer under ``tokens``.

    Parameters
    ----------
    source
        JSON lines, maybe gzip.
    tokens
        Tokens of one transfer, for records that do not say.

    Raises
    ------
    LatencyModelError
        If a record is malformed, runs backwards or has no tokens; a last line that was cut is
        dropped and counted.
    """
    records: list[tuple[int, float, float, float]] = []
    cut: list[str] = []
    for at, row in whole_records(source, msgspec.json.decode, cut):
        times, load = _record(source, at, row, tokens)
        process = times[4] - times[3]
        network = (times[6] - times[1]) - (times[5] - times[2])
        if process <= 0 or network <= 0 or times[6] < times[1] or times[5] < times[2]:
            raise LatencyModelError(
                f"{source}: timestamps in line {at} run backwards (process {process:g} ns, network "
                f"{network:g} ns): are the eight in order?"
            )
        records.append((at, load, process * 1e-9, network * 1e-9))
    if not records:
        raise LatencyModelError(f"{source} holds no complete record of eight timestamps")
    table = np.array(records)
    rows, loads = table[:, 0].astype(np.int64), table[:, 1]
    together = "Transfer times are there and back together; both directions are taken as equal."
    return Measurements(
        stages=(
            StageSamples(stage="ffn", rows=rows, loads=loads, times=table[:, 2]),
            StageSamples(stage="transfer", rows=rows, loads=loads, times=table[:, 3] / 2),
        ),
        source=source.short_name,
        format="StepMesh timestamps",
        dropped=len(cut),
        notes=(together, *cut),
    )


def _record(source: Source, at: int, row: Any, tokens: float | None) -> tuple[list[float], float]:
    """Return the eight times and the tokens of one record."""
    times, load = row, tokens
    if isinstance(row, dict):
        times = next((row[key] for key in _KEYS if key in row), None)
        load = row.get("tokens", tokens)
    good = isinstance(times, list) and len(times) == 8
    if not good or not all(isinstance(t, int | float) and not isinstance(t, bool) for t in times):
        raise LatencyModelError(
            f"{source}: line {at} must hold eight timestamps in nanoseconds, as a list or under "
            f"{_KEYS[0]}"
        )
    if isinstance(load, bool) or not isinstance(load, int | float) or not load > 0:
        raise LatencyModelError(
            f"{source}: tokens of the transfer in line {at} must be a number > 0, got "
            f"{load!r:.30}: add the key tokens or the option --load"
        )
    # Differences of nanoseconds since boot: keep integers as they are.
    return times, float(load)
