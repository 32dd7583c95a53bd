"""In which unit are the arrivals of a trace, and how many seconds after the first is each?"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import polars as pl

from afdplan.arrays import FloatArray, IntArray
from afdplan.errors import TraceError
from afdplan.files.traces.columns import Columns
from afdplan.files.traces.table import Table, shown
from afdplan.files.traces.written_times import MEND, from_format, from_text

__all__ = ["Arrivals", "arrival_seconds"]


PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
EPOCHS = {"s": (1e9, 1e10), "ms": (1e12, 1e13), "us": (1e15, 1e16), "ns": (1e18, 1e19)}
"""Where calendar times of 2001 to 2286 lie, by unit since 1970."""
SPREADSHEET_DAYS = (36_526, 73_051)
"""Days since 1900 of the years 2000 to 2099, as spreadsheets number them."""
LONGEST_SPAN = 1e9
"""Seconds (32 years) that no trace spans: larger numbers are in another unit."""
UNIT_WORDS = {
    "s": "s", "sec": "s", "secs": "s", "seconds": "s",
    "ms": "ms", "msec": "ms", "millis": "ms", "milliseconds": "ms",
    "us": "us", "usec": "us", "micros": "us", "microseconds": "us",
    "ns": "ns", "nsec": "ns", "nano": "ns", "nanos": "ns", "nanoseconds": "ns",
}  # fmt: skip
NAMED_UNIT = re.compile(
    rf"(?:[^a-z]|(?<=time)(?!s)|(?<=unix)|(?<=stamp)(?!s))({'|'.join(UNIT_WORDS)})[^a-z]*$"
)
"""A unit at the end of a column's name: ``time_ms``, ``Time (ms)``, ``startTimeUnixNano``."""

TIME_OF_DAY = re.compile(r"(?<!\d)(\d{1,2}):(\d\d)(?::(\d\d(?:[.,]\d+)?))?\s*([AaPp])?(?:\.?[Mm])?")
DAY = 86_400


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arrivals:
    """Arrivals in seconds, unsorted, and the first one's after midnight; None where unknown."""

    seconds: FloatArray | None
    unit: str
    clock: float | None = None
    notes: tuple[str, ...] = ()


def arrival_seconds(
    table: Table,
    columns: Columns,
    values: pl.Series,
    rows: IntArray,
    time_format: str | None = None,
) -> Arrivals:
    """Return the arrivals in seconds after the first, and the unit found.

    Parameters
    ----------
    table, columns
        The file and its columns, for messages and the unit.
    values
        The arrival column: text, numbers or dates, of the kept requests only.
    rows
        0-based row of each value in the file.
    time_format
        How text is to be read, by the letters of ``strptime``.

    Raises
    ------
    TraceError
        If a value is no time, or two units or time formats are mixed.
    """
    missing = values.null_count()
    if missing == len(values):
        return Arrivals(seconds=None, unit="")
    if missing:
        at = int(rows[int(values.is_null().arg_max() or 0)])
        note = (
            f"arrivals are left out: {missing} of {len(values)} requests have none "
            f"(first: {table.place(at, columns.arrival)})"
        )
        return Arrivals(seconds=None, unit="", notes=(note,))
    if time_format is not None:
        seconds = from_format(table, columns, values, rows, time_format)
        return Arrivals(seconds=seconds, unit=time_format, clock=_clock(values, seconds))
    kind = values.dtype
    if kind != pl.String and not kind.is_numeric() and not kind.is_temporal():
        raise TraceError(
            f"{table.name}, column {shown(columns.arrival)}: an arrival must be a number or time, "
            f"the column holds {kind}; name another with --columns arrival=NAME, or arrival=none"
        )
    if kind.is_temporal():
        seconds = _from_dates(table, columns, values, rows)
        return Arrivals(seconds=seconds, unit="calendar time", clock=_clock(values, seconds))
    if kind.is_numeric():
        if columns.unit == "iso":
            raise TraceError(
                f"{table.name}, column {shown(columns.arrival)}: unit=iso is for times written as "
                "2026-03-01T09:00:00, the column holds numbers; give unit=s, ms, us or ns"
            )
        return _from_numbers(table, columns, values, rows)
    values = values.str.strip_chars()
    numbers = _as_numbers(values)
    texts = numbers.is_null()
    if not texts.any() and columns.unit != "iso":
        return _from_numbers(table, columns, numbers, rows)
    if not texts.all():
        first_is_text = bool(texts[0])
        odd = int((~texts if first_is_text else texts).arg_max() or 0)
        raise TraceError(
            f"{table.place(int(rows[odd]), columns.arrival)}: all arrivals must have one format, "
            f"got {shown(values[odd])} after {shown(values[0])}; {MEND}"
        )
    seconds = from_text(table, columns, values, rows)
    return Arrivals(seconds=seconds, unit="ISO 8601", clock=_clock(values, seconds))


def _clock(values: pl.Series, seconds: FloatArray) -> float | None:
    """Return the time of day of the first arrival as written, in whatever zone it was written."""
    found = TIME_OF_DAY.search(str(values[int(np.argmin(seconds))]))
    if found is None:
        return None
    hour, minute, second, half = found.groups()
    hours = int(hour) if half is None else int(hour) % 12 + 12 * (half in "Pp")
    return (hours * 3600 + int(minute) * 60 + float((second or "0").replace(",", "."))) % DAY


def _as_numbers(values: pl.Series) -> pl.Series:
    """Return text as numbers; whole ones are not rounded, so that nanoseconds stay exact."""
    whole = values.cast(pl.Int64, strict=False)
    return whole if not whole.null_count() else values.cast(pl.Float64, strict=False)


def _from_dates(table: Table, columns: Columns, values: pl.Series, rows: IntArray) -> FloatArray:
    if values.dtype == pl.Time:
        raise TraceError(
            f"{table.place(int(rows[0]), columns.arrival)}: a time of day has no date; "
            "give date and time"
        )
    if values.dtype == pl.Date:
        values = values.cast(pl.Datetime("us"))
    unit = getattr(values.dtype, "time_unit", None) or "us"
    ticks = values.to_physical().to_numpy()
    seconds: FloatArray = (ticks - ticks.min()) / PER_SECOND[unit]
    return seconds


def _from_numbers(table: Table, columns: Columns, values: pl.Series, rows: IntArray) -> Arrivals:
    if values.dtype.is_integer():
        numbers = values.to_numpy()
        real = numbers.astype(np.float64)
    else:
        real = numbers = values.cast(float).to_numpy()
    finite = np.isfinite(real)
    if not finite.all():
        odd = int(np.argmin(finite))
        raise TraceError(
            f"{table.place(int(rows[odd]), columns.arrival)}: an arrival must be finite, "
            f"got {real[odd]:g}; mend or delete the row"
        )
    if _is_row_index(columns, real, rows):
        note = (
            f"column {shown(columns.arrival)} only counts the rows: arrivals are unknown, the "
            "order of the file is kept (--columns unit=s takes them as seconds)"
        )
        return Arrivals(seconds=None, unit="", notes=(note,))
    unit, notes = _unit(table, columns, real, rows)
    # A span beyond what 64 bits hold is no matter of single nanoseconds.
    exact = real.max() - real.min() < 2.0**62
    after = numbers - numbers.min() if exact else real - real.min()
    seconds = np.asarray(after, dtype=np.float64) / PER_SECOND[unit]
    (low, high), first = EPOCHS[unit], float(real.min())
    clock = first / PER_SECOND[unit] % DAY if low <= first < high else None  # in Greenwich
    return Arrivals(seconds=seconds, unit=WORDS[unit], clock=clock, notes=notes)


def _is_row_index(columns: Columns, numbers: FloatArray, rows: IntArray) -> bool:
    """Return whether arrivals are 0, 1, 2, ... or 1, 2, 3, ... by row, dropped ones counted."""
    if (
        columns.is_unit_given
        or columns.is_arrival_given
        or columns.unit not in {"", "s"}
        or numbers.size < 2
    ):
        return False
    first = numbers[0] - rows[0]
    return bool(first in (0.0, 1.0) and (numbers - rows == first).all())


def _unit(
    table: Table, columns: Columns, numbers: FloatArray, rows: IntArray
) -> tuple[str, tuple[str, ...]]:
    """Return the unit and how it was decided, when that was no matter of course."""
    if columns.is_unit_given and columns.unit != "iso":
        return columns.unit, ()
    named = NAMED_UNIT.search(columns.arrival.lower())
    if named:
        return UNIT_WORDS[named.group(1)], ()
    if columns.unit not in {"", "s"}:
        return columns.unit, ()
    return _by_size(table, columns, numbers, rows)


def _by_size(
    table: Table, columns: Columns, numbers: FloatArray, rows: IntArray
) -> tuple[str, tuple[str, ...]]:
    """Return the unit that makes the numbers calendar times; seconds when they are too small."""
    kinds = np.zeros(numbers.size, dtype=np.int8)
    for at, (low, high) in enumerate(EPOCHS.values(), start=1):
        kinds[(numbers >= low) & (numbers < high)] = at
    if (kinds == kinds[0]).all():
        if kinds[0]:
            unit = tuple(EPOCHS)[kinds[0] - 1]
            return unit, (f"arrivals taken as {WORDS[unit]} since 1970, by their size",)
        span = float(numbers.max() - numbers.min())
        if span > LONGEST_SPAN:
            raise TraceError(
                f"{table.name}, column {shown(columns.arrival)}: arrivals span {span:.15g}, too "
                "much for seconds and no calendar time; say the unit with --columns unit=ms|us|ns"
            )
        if columns.unit:
            return "s", ()
        low, high = SPREADSHEET_DAYS
        if low <= numbers.min() and numbers.max() < high and (numbers != np.floor(numbers)).any():
            raise TraceError(
                f"{table.place(int(rows[0]), columns.arrival)}: {numbers[0]:.15g} may be seconds "
                "or the days of a spreadsheet: say --columns unit=s, or write dates as text"
            )
        return "s", (
            f"arrivals in column {shown(columns.arrival)} taken as seconds: neither its name nor "
            "the size of its numbers says otherwise (--columns unit=ms changes that)",
        )
    odd = int(np.argmax(kinds != kinds[0]))
    raise TraceError(
        f"{table.place(int(rows[odd]), columns.arrival)}: all arrivals must have one unit, "
        f"got {numbers[odd]:.15g} after {numbers[0]:.15g}; {MEND}"
    )
