"""Any trace, written in any form, is read back equal; its order changes no length."""

from __future__ import annotations

import json
import tempfile
from functools import cache
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
    store(form, pl.DataFrame(rows, schema=list(names), orient="row"), file)


def store(form: str, frame: pl.DataFrame, file: Path) -> None:
    """Write a table in one of the forms that readers know."""
    if form == "csv":
        frame.write_csv(file)
    elif form == "jsonl":
        frame.write_ndjson(file)
    elif form == "json":
        file.write_text(json.dumps(frame.to_dicts(), indent=1))
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


NAMES = st.sampled_from(
    ["Prompt Tokens", "prompt-tokens", "PROMPT_TOKENS", "input_len", "nb_input_tokens", "isl"]
)
OTHERS = st.sampled_from(
    [("finish_reason", "stop"), ("ttft_ms", 31.5), ("tokens_per_second", 7), ("model", "m"),
     ("prompt_text", "12 monkeys"), ("total_tokens", 9), ("note", None), ("unit", "USD"), ("n", 1),
     ("http_status", 200), ("cached_tokens", 0), ("outcome", "ok"), ("estimated_output_len", 77)]
)  # fmt: skip


@pytest.mark.parametrize("form", ["csv", "jsonl", "json", "parquet"])
@settings(max_examples=30, deadline=None)
@given(
    name=NAMES,
    others=st.lists(OTHERS, max_size=4, unique_by=lambda other: other[0]),
    order=st.randoms(use_true_random=False),
    rows=st.lists(st.tuples(st.integers(0, 999), st.integers(1, 999)), min_size=1, max_size=9),
)
def test_names_order_and_unread_columns_change_nothing(form, name, others, order, rows):
    columns = {name: [p for p, _ in rows], "osl": [d for _, d in rows]}
    columns |= {other: [value] * len(rows) for other, value in others}
    names = list(columns)
    order.shuffle(names)
    frame = pl.DataFrame({key: columns[key] for key in names})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace"
        store(form, frame, file)
        trace = read_trace(file)
    assert trace.prompt_tokens.tolist() == [p for p, _ in rows]
    assert trace.decode_tokens.tolist() == [d for _, d in rows]
    assert trace.dropped_requests == 0


@pytest.mark.parametrize("form", ["csv", "jsonl", "json", "parquet"])
@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(*[st.integers(0, 999)] * 2, st.integers(1, 999), st.integers(0, 999)),
        min_size=1,
        max_size=9,
    ),
    apart=st.tuples(st.booleans(), st.booleans()),
    names=st.sampled_from([("cached_tokens", "reasoning_tokens"), ("cacheRead", "thinkingTokens")]),
    order=st.randoms(use_true_random=False),
)
def test_parts_inside_or_apart_are_told_by_the_total(form, rows, apart, names, order):
    """Cached tokens are even and reasoned ones odd, so that one reading alone gives the total."""
    names = (names[0] + "Tokens" * (names[0] == "cacheRead"), names[1])
    table: list[dict[str, int]] = []
    whole = []
    for fresh, held, said, thought in rows:
        cached, reasoned = 2 * held, 2 * thought + 1
        prompt, decode = fresh + cached, said + reasoned
        whole.append((prompt, decode))
        table.append({
            "prompt_tokens": prompt - cached * apart[0],
            "completion_tokens": decode - reasoned * apart[1],
            names[0]: cached,
            names[1]: reasoned,
            "total_tokens": prompt + decode,
        })  # fmt: skip
    columns = list(table[0])
    order.shuffle(columns)
    frame = pl.DataFrame(table).select(columns)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace"
        store(form, frame, file)
        trace = read_trace(file)
    read = list(zip(trace.prompt_tokens.tolist(), trace.decode_tokens.tolist(), strict=True))
    if read != whole[:-1]:  # a last row may happen to be the sum of all others
        assert read == whole


@pytest.mark.parametrize("form", ["csv", "jsonl", "json", "parquet"])
def test_running_counts_sums_and_models_are_told_in_every_form(form, tmp_path):
    rows = [
        {"request_id": f"r{k}", "model": "ab"[k % 2], "prompt_tokens": 9 * k, "output_tokens": n}
        for k in range(1, 5) for n in (1, k + 3)
    ]  # fmt: skip
    total = {"request_id": "Total", "model": None, "prompt_tokens": 99, "output_tokens": 77}
    frame = pl.DataFrame([*rows, total])
    file = tmp_path / "trace"
    store(form, frame, file)
    trace = read_trace(file)
    assert trace.decode_tokens.tolist() == [4, 5, 6, 7]
    said = "; ".join(trace.doubts)
    for words in ("sum up the others", "4 of 9 records left out: earlier counts", "2 models"):
        assert words in said


CUT = {
    name: (Path(__file__).parents[1] / "samples" / "traces" / name).read_bytes()
    for name in (
        "otel_agent_span.json", "otel_agent_span_flat.jsonl", "aiperf_profile_export.jsonl",
        "litellm_pg_export.csv", "weka_trace.json", "phoenix_spans.csv", "burstgpt_new.csv",
        "openrouter_activity.csv", "langfuse_observations.json",
    )
}  # fmt: skip


@cache
def whole_pairs(name):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace"
        file.write_bytes(CUT[name])
        whole = read_trace(file)
    return set(zip(whole.prompt_tokens.tolist(), whole.decode_tokens.tolist(), strict=True))


@pytest.mark.parametrize("name", CUT)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_cut_file_is_refused_or_read_as_far_as_it_goes(name, data):
    content = CUT[name]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace"
        file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        try:
            part = read_trace(file)
        except TraceError as error:
            assert "\n" not in str(error)  # noqa: PT017 - most cuts are read
            return
    pairs = zip(part.prompt_tokens.tolist(), part.decode_tokens.tolist(), strict=True)
    if name.endswith(".csv"):  # the last field of a row has no end mark: a number may lose digits
        pairs = list(pairs)[:-1]
    assert set(pairs) <= whole_pairs(name)
