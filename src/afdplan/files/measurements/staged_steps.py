"""Which steps, with the times of their stages, does a table hold?"""

from __future__ import annotations

import numpy as np

from afdplan.errors import InvalidInputError, LatencyModelError
from afdplan.files.document import Source, opened
from afdplan.files.measurements.rows import TIME_UNITS, find_column, measurement_rows, number
from afdplan.files.measurements.table import column_unit
from afdplan.model.staged_steps import StagedSteps

__all__ = ["read_staged_steps"]

TIMES = ("attention", "ffn", "send", "receive", "step")
ALIASES = {
    "attention": ("a", "attention_time"),
    "ffn": ("f", "ffn_time"),
    "send": ("c_out", "a2f_send", "send_time"),
    "receive": ("c_back", "f2a_send", "receive_time"),
    "step": ("step_time", "tpot"),
}


@opened("a table of steps", LatencyModelError)
def read_staged_steps(
    source: Source, *, time_unit: str | None, layers: int, microbatches: int
) -> StagedSteps:
    """Return the measured steps of a table, in seconds unless their time is abstract.

    Parameters
    ----------
    source
        CSV, JSON lines or Parquet with columns attention, ffn, send, receive (of a layer and
        microbatch) and step, each maybe with its unit (``step_ms``).
    time_unit
        Of columns that name none: s (unless given), ms, us, ns or abstract.
    layers, microbatches
        L and m where the table has no such columns.

    Raises
    ------
    LatencyModelError
        If the file is no such table; the message names row and column.
    """
    names, rows = measurement_rows(source)
    columns: dict[str, tuple[str, float]] = {}
    for one in TIMES:
        name, suffix = find_column(source, names, ALIASES, one)
        unit, _ = column_unit(source, str(name), suffix, time_unit)
        columns[one] = str(name), TIME_UNITS.get(unit, 1.0)
    counts = {
        one: (find_column(source, names, {}, one, needed=False)[0], default)
        for one, default in (("layers", layers), ("microbatches", microbatches))
    }
    found: dict[str, list[float]] = {one: [] for one in (*TIMES, *counts)}
    for row, cells in rows:
        for one, (name, scale) in columns.items():
            found[one].append(number(source, row, name, cells.get(name)) * scale)
        for one, (column, default) in counts.items():
            value = default if column is None else number(source, row, column, cells.get(column))
            found[one].append(float(value))
    if not found["step"]:
        raise LatencyModelError(f"{source}: no rows: one measured step each")
    try:
        return StagedSteps(**{one: np.array(values) for one, values in found.items()})
    except InvalidInputError as error:
        raise LatencyModelError(f"{source}: {error}") from None
