"""How many seconds after the first are times that people and programs write as text?"""

from __future__ import annotations

import polars as pl

from afdplan.arrays import FloatArray, IntArray
from afdplan.errors import TraceError
from afdplan.files.traces.columns import Columns
from afdplan.files.traces.table import Table, shown

__all__ = ["MEND", "from_format", "from_text"]


ZONE = r"^(.*:\d\d\S*(?:\s[AaPp]\.?[Mm]\.?)??)\s*(Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)$"
"""A time and its zone; a date alone, whose end looks like an offset, has none."""
CLOCK = (
    r"(?:(?:T|,?\s+|:)(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d(?:[.,]\d*)?))?"
    r"\s*(?P<half>[AaPp]\.?[Mm]\.?)?)?$"
)
YEAR_FIRST = rf"^(?P<year>\d{{4}})[-/.](?P<month>\d{{1,2}})[-/.](?P<day>\d{{1,2}}){CLOCK}"
YEAR_LAST = rf"^(?P<day>\d{{1,2}})[-/.](?P<month>\d{{1,2}})[-/.](?P<year>\d{{4}}){CLOCK}"
MONTH_NAMED = (
    r"^(?:[A-Za-z]{3,9},?\s+)?(?P<day>\d{1,2})[- /](?P<month>[A-Za-z]{3})[a-z]*[- /]"
    rf"(?P<year>\d{{4}}){CLOCK}"
)
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
MEND = "convert the column to one unit"


def from_text(table: Table, columns: Columns, values: pl.Series, rows: IntArray) -> FloatArray:
    """Return seconds of ``2023-11-16 18:17:03.9799600[+00:00|Z]`` and of other written times."""
    split = values.str.extract_groups(ZONE).struct.unnest()
    body, zone = split.to_series(0), split.to_series(1)
    zoned = zone.is_not_null()
    if zoned.any() and not zoned.all():
        odd = int((~zoned if zoned[0] else zoned).arg_max() or 0)
        raise TraceError(
            f"{table.place(int(rows[odd]), columns.arrival)}: all arrivals must name a time zone "
            f"or none, got {shown(values[odd])} after {shown(values[0])}; {MEND}"
        )
    local = body if zoned.any() else values
    minutes = None
    if zoned.any() and zone.n_unique() > 1:  # else all in one zone, whose offset does not matter
        digits = zone.str.replace_all("Z|UTC|GMT|:", "").str.pad_end(5, "0")
        offset = digits.str.slice(0, 5).cast(pl.Int64).fill_null(0)
        minutes = offset.sign() * (offset.abs() // 100 * 60 + offset.abs() % 100)
    seconds = _seconds(local, minutes)
    if seconds is None:
        seconds = _of_any_form(table, columns, local, minutes)
    if seconds is None:
        odd = next(
            row
            for row in range(len(local))
            if _seconds(local[row : row + 1]) is None
            and _of_any_form(table, columns, local[row : row + 1], None) is None
        )
        raise TraceError(
            f"{table.place(int(rows[odd]), columns.arrival)}: an arrival must be a number or "
            f"a time such as 2024-05-12 09:30:00.123, got {shown(values[odd])}; mend it, say how "
            "it is written with --time-format, or leave arrivals out with --columns arrival=none"
        )
    return seconds


def _of_any_form(
    table: Table, columns: Columns, local: pl.Series, minutes: pl.Series | None
) -> FloatArray | None:
    """Return seconds after the first of times in one of the forms that people write."""
    for form in (YEAR_FIRST, YEAR_LAST, MONTH_NAMED):
        parts = local.str.extract_groups(form).struct.unnest()
        if parts["year"].null_count():
            continue
        month = parts["month"]
        if form is MONTH_NAMED:
            month = month.str.to_lowercase().replace_strict(
                MONTHS, list(range(1, 13)), default=None, return_dtype=pl.Int64
            )
        first, second = parts["day"].cast(pl.Int64), month.cast(pl.Int64)
        if form is YEAR_LAST:
            first, second = _day_and_month(table, columns, local, first, second)
        numbers = parts.select(
            pl.col("year", "hour", "minute").cast(pl.Int64).fill_null(0),
            pl.col("second").str.replace(",", ".").cast(pl.Float64).fill_null(0.0),
            pl.col("half").str.to_lowercase().str.slice(0, 1),
        ).with_columns(first.alias("day"), second.alias("month"))
        dates = numbers.select(pl.concat_str("year", "month", "day", separator="-")).to_series()
        days = dates.str.to_date("%Y-%m-%d", strict=False).cast(pl.Int64)
        hour = numbers.select(
            pl.when(pl.col("half").is_null())
            .then(pl.col("hour"))
            .otherwise(pl.col("hour") % 12 + 12 * (pl.col("half") == "p"))
        ).to_series()
        if days.null_count() or (numbers["second"] >= 61).any() or (hour > 24).any():
            return None
        whole = days * 86_400 + hour * 3600 + numbers["minute"] * 60
        if minutes is not None:
            whole = whole - minutes * 60
        after: FloatArray = (whole - whole.min()).to_numpy() + numbers["second"].to_numpy()
        after -= after.min()
        return after
    return None


def _day_and_month(
    table: Table, columns: Columns, local: pl.Series, first: pl.Series, second: pl.Series
) -> tuple[pl.Series, pl.Series]:
    """Return days and months of dates such as 2/1/2026; which is which must be plain."""
    is_day_first, is_month_first = bool((first > 12).any()), bool((second > 12).any())
    if is_day_first != is_month_first:
        return (first, second) if is_day_first else (second, first)
    # All on one day, it does not matter.
    if not is_day_first and first.n_unique() == 1 and second.n_unique() == 1:
        return first, second
    raise TraceError(
        f"{table.name}, column {shown(columns.arrival)}: dates such as {shown(local[0])} may have "
        'the day or the month first; say which with --time-format "%d/%m/%Y %H:%M:%S" or '
        '"%m/%d/%Y %H:%M:%S"'
    )


def from_format(
    table: Table,
    columns: Columns,
    values: pl.Series,
    rows: IntArray,
    time_format: str,
) -> FloatArray:
    """Return seconds after the first of times written as `time_format` says."""
    texts = values.cast(pl.String) if values.dtype != pl.String else values
    texts = texts.str.strip_chars()
    # Python's %f counts digits after a point; the table library calls that %.f.
    pattern = time_format.replace(".%f", "%.f")
    try:
        times = texts.str.to_datetime(pattern, time_unit="us", strict=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, UnicodeError) as error:
        reason = " ".join(str(error).split())
        raise TraceError(
            f"time format {time_format!r} is not understood ({shown(reason, 100)}); write it as "
            "in %d/%m/%Y %H:%M:%S"
        ) from None
    if times.null_count():
        odd = int(times.is_null().arg_max() or 0)
        raise TraceError(
            f"{table.place(int(rows[odd]), columns.arrival)}: an arrival must be written as the "
            f"time format {time_format!r} says, got {shown(values[odd])}"
        )
    ticks = times.to_physical().to_numpy()
    seconds: FloatArray = (ticks - ticks.min()) / 1e6
    return seconds


def _seconds(local: pl.Series, minutes: pl.Series | None = None) -> FloatArray | None:
    """Return seconds after the first of times without zones, None if one is no time."""
    stamps = local.str.slice(0, 19).str.replace("T", " ", literal=True)
    ticks = stamps.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="ms", strict=False)
    whole = ticks.to_physical()
    fraction = local.str.slice(19).str.replace(",", ".", literal=True)
    part = ("0" + fraction).cast(pl.Float64, strict=False)
    if whole.null_count() or part.null_count() or bool((part >= 1).any()):
        return None
    if minutes is not None:
        whole = whole - minutes * 60_000
    ticks_after = whole.to_numpy()
    after: FloatArray = (ticks_after - ticks_after.min()) / 1000 + part.to_numpy()
    after -= after.min()
    return after
