"""When did requests arrive, by every way to write it, and what is asked where two are meant?"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from afdplan.errors import LatencyModelError, TraceError
from afdplan.files.content import kind_of, packing_of
from afdplan.files.measurements.counters import _gained, _may_count
from afdplan.files.measurements.rows import number, split_unit
from afdplan.files.traces.column_names import listed
from afdplan.files.traces.formats import FORMATS
from afdplan.files.traces.reader import read_trace
from afdplan.files.traces.times import _clock, _is_row_index, arrival_seconds


class Asked:
    """What `--columns` says of arrivals: nothing, unless told."""

    def __init__(self, name="when", unit="", *, is_unit_given=False, is_arrival_given=False):
        self.arrival, self.unit = name, unit
        self.is_unit_given, self.is_arrival_given = is_unit_given, is_arrival_given


class File:
    name = "file"

    def place(self, row, column):
        return f"file, row {row + 1}, column {column}"


def found(values, time_format=None, **asked):
    series = values if isinstance(values, pl.Series) else pl.Series(values)
    return arrival_seconds(File(), Asked(**asked), series, np.arange(len(series)), time_format)


@pytest.mark.parametrize(
    ("values", "unit", "after"),
    [
        ([1e9, 1e9 + 2], "seconds", 2.0), ([1e10 - 3, 1e10 - 1], "seconds", 2.0),
        ([1e12, 1e12 + 2000], "milliseconds", 2.0), ([1e13 - 3000, 1e13 - 1000], "milliseconds", 2),
        ([1e15, 1e15 + 2e6], "microseconds", 2.0),
        ([10**18, 10**18 + 2], "nanoseconds", 2e-9), ([5.0, 7.0], "seconds", 2.0),
        ([1e11, 1e11 + 2], "seconds", 2.0), ([0.0, 1e9 - 1], "seconds", 1e9 - 1),
    ],
)  # fmt: skip
def test_calendar_times_are_known_by_their_size(values, unit, after):
    arrivals = found(values)
    assert arrivals.unit == unit
    assert arrivals.seconds.tolist() == [0.0, pytest.approx(after, rel=1e-12)]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1e10, 1.2e10], "too much for seconds"), ([1e9, 1e12], "all arrivals must have one unit"),
        ([36_526.5, 36_527.0], "days of a spreadsheet"), ([73_050.5, 73_050.0], "spreadsheet"),
        ([1.0, float("inf")], "must be finite"), (["1", "x"], "all arrivals must have one format"),
        (["x", "y"], "a time such as"), ([True, False], "must be a number or time"),
    ],
)  # fmt: skip
def test_arrivals_that_may_mean_two_things_are_refused(values, said):
    with pytest.raises(TraceError, match=said):
        found(values)


def test_other_numbers_near_those_are_seconds():
    assert found([36_525.5, 36_527.0]).unit == "seconds"
    assert found([73_050.5, 73_051.0]).unit == "seconds"
    assert found([36_526.0, 36_527.0]).unit == "seconds"


@pytest.mark.parametrize(
    ("name", "unit", "after"),
    [
        ("time_ms", "milliseconds", 2e-3), ("Time (us)", "microseconds", 2e-6),
        ("startTimeUnixNano", "nanoseconds", 2e-9), ("t_sec", "seconds", 2.0),
        ("millis", "seconds", 2.0), ("times", "seconds", 2.0), ("timestamp_s", "seconds", 2.0),
    ],
)  # fmt: skip
def test_a_name_may_say_the_unit(name, unit, after):
    arrivals = found([5, 7], name=name)
    assert (arrivals.unit, arrivals.seconds[1]) == (unit, pytest.approx(after))
    told = found([5, 7], name=name, unit="ms", is_unit_given=True)
    assert told.seconds[1] == pytest.approx(2e-3)


def test_nanoseconds_stay_exact():
    first = 1_700_000_000_000_000_000
    assert found([first, first + 1, first + 3]).seconds.tolist() == [0.0, 1e-9, 3e-9]
    assert found([str(first), str(first + 1)]).seconds.tolist() == [0.0, 1e-9]
    assert found([first, first + 1]).clock == pytest.approx(first / 1e9 % 86_400)


def test_a_column_that_counts_rows_is_no_time():
    def is_index(values, rows=None, **asked):
        values = np.asarray(values, dtype=float)
        rows = np.arange(values.size) if rows is None else np.asarray(rows)
        return _is_row_index(Asked(**asked), values, rows)

    assert is_index([0, 1, 2])
    assert is_index([1, 2, 3])
    assert is_index([1, 4], [0, 3])
    assert not is_index([2, 3, 4])
    assert not is_index([0, 1, 3])
    assert not is_index([0])
    assert is_index([0, 1])
    assert is_index([0, 1], unit="s")
    assert not is_index([0, 1], unit="ms")
    assert not is_index([0, 1], is_unit_given=True)
    assert not is_index([0, 1], is_arrival_given=True)
    counted = found([0, 1, 2])
    assert counted.seconds is None
    assert "only counts the rows" in counted.notes[0]


@pytest.mark.parametrize(
    ("texts", "after"),
    [
        (["2026-03-01T09:00:00", "2026-03-01T09:00:01.5"], 1.5),
        (["2026-03-01 09:00:00,250", "2026-03-02 09:00:00"], 86_399.75),
        (["2026-03-01T09:00:00Z", "2026-03-01T09:00:00+01:00"], -3600.0),
        (["2026-03-01T09:00:00+0000", "2026-03-01T09:00:00-05:30"], 19_800.0),
        (["2026/3/1 9:00", "2026/3/1 10:30"], 5400.0),
        (["13.02.2026 9:00", "12.02.2026 9:00"], -86_400.0),
        (["02/13/2026 9:00 AM", "02/13/2026 1:30 PM"], 16_200.0),
        (["02/13/2026 12:30 AM", "02/13/2026 12:30 PM"], 43_200.0),
        (["1 Mar 2026 09:00:00", "2 March 2026 09:00:30"], 86_430.0),
        (["01/01/2026 9:00", "01/01/2026 9:01"], 60.0),
        (["2026-02-28", "2026-03-01"], 86_400.0),
        (["2026.02.28 23:59:60", "2026.03.01 00:00:00"], 0.0),
    ],
)  # fmt: skip
def test_times_that_people_write(texts, after):
    seconds = found(texts).seconds
    assert seconds[1] - seconds[0] == pytest.approx(after)
    assert seconds.min() == 0.0


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["02/01/2026 9:00", "02/02/2026 9:00"], "day or the month first"),
        (["13/02/2026 9:00", "02/13/2026 9:00"], "day or the month first"),
        (["2026-03-01T09:00:00Z", "2026-03-01T09:00:00"], "name a time zone or none"),
        (["2026-02-30 09:00", "2026-03-01 09:00"], "a time such as"),
        (["2026/02/28 25:00", "2026/03/01 09:00"], "a time such as"),
        (["2026/02/28 09:00:61", "2026/03/01 09:00"], "a time such as"),
    ],
)
def test_times_of_which_nobody_can_tell_are_refused(texts, said):
    with pytest.raises(TraceError, match=said):
        found(texts)


def test_times_in_a_format_of_ones_own():
    arrivals = found(["01/02/2026 09:00", "02/02/2026 09:01"], "%d/%m/%Y %H:%M")
    assert arrivals.seconds.tolist() == [0.0, 86_460.0]
    assert arrivals.clock == 9 * 3600
    with pytest.raises(TraceError, match=r"row 2.* must be written as"):
        found(["01/02/2026 09:00", "x"], "%d/%m/%Y %H:%M")


@pytest.mark.parametrize(
    ("text", "clock"),
    [
        ("2026-03-01T09:10:11.5", 9 * 3600 + 611.5), ("1/1/2026 12:30 AM", 1800.0),
        ("1/1/2026 12:30 p.m.", 45_000.0), ("1/1/2026 1:30 PM", 48_600.0),
        ("2026-03-01 24:00:00", 0.0), ("2026-03-01 9:10:11,25", 33_011.25), ("2026-03-01", None),
    ],
)  # fmt: skip
def test_the_time_of_day_of_the_first_arrival(text, clock):
    assert _clock(pl.Series(["2027", text]), np.array([1.0, 0.0])) == clock


def test_dates_and_times_of_tables():
    days = pl.Series(["2026-03-01", "2026-03-02"]).str.to_date()
    assert found(days).seconds.tolist() == [0.0, 86_400.0]
    for unit in ("ms", "us", "ns"):
        stamps = pl.Series(["2026-03-01 00:00:00", "2026-03-01 00:00:02"]).str.to_datetime(
            time_unit=unit
        )
        assert found(stamps).seconds.tolist() == [0.0, 2.0]
    with pytest.raises(TraceError, match="a time of day has no date"):
        found(pl.Series(["09:00:00"]).str.to_time())
    with pytest.raises(TraceError, match="unit=iso is for times written"):
        found([1.0, 2.0], unit="iso")
    none = found(pl.Series([None, None], dtype=pl.Float64))
    assert (none.seconds, none.notes) == (None, ())
    some = found(pl.Series([1.0, None, 3.0]))
    assert some.notes == (
        "arrivals are left out: 1 of 3 requests have none (first: file, row 2, column when)",
    )


def test_arrivals_of_a_file_are_sorted_and_begin_at_zero(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("time_ms,prompt_tokens,output_tokens\n1500,3,4\n500,1,2\n1000,2,3\n")
    trace = read_trace(path)
    assert trace.arrival_times.tolist() == [0.0, 0.5, 1.0]
    assert trace.prompt_tokens.tolist() == [1, 2, 3]


def test_names_that_are_listed():
    assert listed(["a" * 60, "b" * 61]) == f"{'a' * 60!r}, {'b' * 57 + '...'!r}"
    twelve = ", ".join(repr(str(k)) for k in range(12))
    assert listed([str(k) for k in range(12)]) == twelve
    assert listed([str(k) for k in range(14)]) == f"{twelve} and 2 more"


def test_what_first_bytes_show():
    def kind(head):
        return kind_of(head, "x", "a table", ValueError)

    assert kind(b"PAR1...") == "parquet"
    assert kind(b"  {") == kind(b"\xef\xbb\xbf[") == "json"
    assert kind(b"a,b\n") == "text"
    assert kind(b"a" * 99 + b"\x01") == "text"
    for binary in (b"a" * 98 + b"\x01\x02", b"a\0b" + b"a" * 999):
        with pytest.raises(ValueError, match="is binary"):
            kind(binary)
    with pytest.raises(ValueError, match="x is empty"):
        kind(b" \n")
    with pytest.raises(ValueError, match=r"torch\.save"):
        kind(b"PK\x03\x04" + b"a" * 187 + b"/data.pkl")
    with pytest.raises(ValueError, match="zip archive"):
        kind(b"PK\x03\x04" + b"a" * 197 + b"/data.pkl")
    assert packing_of(b"\x1f\x8b\x08")[0] == "gzip"
    assert packing_of(b"\x28\xb5\x2f\xfd\x00")[0] == "zstd"
    assert packing_of(b"abcd") is None


def test_units_in_names_of_columns_and_numbers_in_cells():
    assert [split_unit(name) for name in ("ms", "step_time_s", "a-nanoseconds", "time us b")] == [
        ("ms", None), ("step_time", "s"), ("a", "ns"), ("time_us_b", None)
    ]  # fmt: skip
    assert number("f", 3, "c", " 2.5 ") == 2.5
    for cell, said in ((True, "a number"), ("x", "a number"), ("inf", "finite")):
        with pytest.raises(LatencyModelError, match=f"c in row 3 must be {said}"):
            number("f", 3, "c", cell)


def test_counters_that_fall_began_again():
    assert _gained([5.0, 7.0, 2.0, 3.0]) == 2 + 2 + 1
    assert _gained([5.0, 5.0]) == 0
    assert _may_count([1.0, 1.0, 2.0])
    assert not _may_count([1.0, 0.0])
    assert not _may_count([1.5, 2.0])


def test_what_a_forced_format_needs_is_that_formats(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n3,4\n")
    for known in FORMATS[:3]:
        with pytest.raises(TraceError) as refused:
            read_trace(path, format=known.name)
        said = str(refused.value)
        wanted = " and ".join([known.prompt[0], known.decode[0], *known.needs])
        assert f"format {known.name} needs columns {wanted}" in said


def test_a_name_that_is_not_there_is_corrected_by_the_nearest(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("prompt_tokens,output_tokens\n1,2\n3,4\n")
    with pytest.raises(TraceError, match="did you mean prompt=prompt_tokens"):
        read_trace(path, columns="prompt=prompt_token,decode=output_tokens")
    with pytest.raises(TraceError) as refused:
        read_trace(path, columns="prompt=zzz,decode=output_tokens")
    assert "did you mean" not in str(refused.value)
    assert "it has 'prompt_tokens', 'output_tokens'" in str(refused.value)
