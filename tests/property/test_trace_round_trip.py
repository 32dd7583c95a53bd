"""Any trace, written in any form, is read back equal; its order changes no length."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afdplan.errors import TraceError
from afdplan.files.traces.reader import read_trace
from afdplan.model.trace import MAXIMUM_TOKENS

REQUESTS = st.lists(
    st.tuples(
        st.integers(0, 10**9),
        st.integers(0, MAXIMUM_TOKENS),
        st.integers(1, MAXIMUM_TOKENS),
        st.sampled_from(["a", 'ü, "quoted"', "two\nlines", "-1"]),
    ),
    min_size=1,
    max_size=30,
)


def write(form: str, rows: list[tuple[int, int, int, str]], file: Path) -> None:
    names = ("time_us", "prompt_tokens", "output_tokens", "session_id")
    frame = pl.DataFrame(rows, schema=list(names), orient="row")
    if form == "csv":
        frame.write_csv(file)
    elif form == "jsonl":
        frame.write_ndjson(file)
    elif form == "json":
        file.write_text(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=1))
    else:
        frame.write_parquet(file)


@pytest.mark.parametrize("form", ["csv", "jsonl", "json", "parquet"])
@settings(max_examples=30, deadline=None)
@given(rows=REQUESTS)
def test_written_trace_is_read_back_equal(form, rows):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace"
        write(form, rows, file)
        trace = read_trace(file)
    rows = sorted(rows, key=lambda row: row[0])
    assert trace.prompt_tokens.tolist() == [row[1] for row in rows]
    assert trace.decode_tokens.tolist() == [row[2] for row in rows]
    expected = [(row[0] - rows[0][0]) / 1e6 for row in rows]
    np.testing.assert_allclose(trace.arrival_times, expected, rtol=1e-12, atol=1e-12)
    if trace.session_ids is not None:
        first: dict[int, str] = {}
        for number, row in zip(trace.session_ids.tolist(), rows, strict=True):
            assert first.setdefault(number, row[3]) == row[3]
        assert len(first) == len({row[3] for row in rows})


@settings(max_examples=200, deadline=None)
@given(data=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
@pytest.mark.parametrize("start", [b"", b"isl,osl\n1,2\n", b'{"isl":1,"osl":2}\n', b"PAR1", b"[{"])
def test_no_bytes_whatever_escape_as_anything_but_a_trace_error(start, data):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace"
        file.write_bytes(start + data)
        message = ""
        try:
            read_trace(file)
        except TraceError as error:
            message = str(error)
        assert "\n" not in message
