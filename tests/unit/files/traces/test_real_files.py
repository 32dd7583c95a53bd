"""Files in the form that real programs write are read right, or refused with what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from afdplan.errors import TraceError
from afdplan.files.traces.reader import read_trace
from afdplan.lengths.law import EmpiricalLengths

SAMPLES = Path(__file__).parents[3] / "samples" / "traces"

# file: (format, requests, prompt tokens, output tokens, dropped, seconds or None)
RIGHT: dict[str, tuple[str, int, int, int, int, float | None]] = {
    "aibrix.jsonl": ("aibrix", 3, 510, 140, 0, 1.0),
    "aiperf-0.13.0-profile_export.jsonl": ("aiperf", 4, 688, 157, 0, 0.0),
    "aiperf_profile_export.jsonl": ("aiperf", 3, 2060, 655, 1, 9.0),
    "azure2025_mm.csv": ("azure", 3, 4204, 216, 0, 2.49007),
    "burstgpt_new.csv": ("burstgpt", 3, 2919, 529, 1, 114.0),
    "evalscope-1.14.1-benchmark_data-as.csv": ("evalscope", 16, 2536, 480, 0, 1.355722849999438),
    "evalscope.json": ("evalscope", 2, 1212, 192, 1, 1.0),
    "excel_times.csv": ("generic", 3, 2900, 615, 0, 3.0),
    "genai-bench-0.0.5-run.json": ("genai-bench", 4, 714, 86, 0, None),
    "guidellm-0.8.1.json": ("guidellm", 3, 473, 57, 0, 0.0),
    "guidellm_benchmarks.json": ("guidellm", 2, 1212, 192, 0, 1.0),
    "inference-perf-0.7.0.json": ("inference-perf", 4, 512, 76, 0, 0.0),
    "inferencex_result.json": ("bench", 4, 4024, 3900, 0, None),
    "infperf_per_request.json": ("inference-perf", 3, 2900, 615, 1, 3.0),
    "isl_long.csv": ("generic", 2, 1062, 283, 0, None),
    "iso_minutes.csv": ("generic", 3, 2900, 615, 0, 120.0),
    "langfuse_observations.json": ("langfuse", 3, 2900, 615, 0, 8.0),
    "litellm_pg_export.csv": ("litellm", 3, 2900, 615, 1, 9.127),
    "llmperf_individual_responses.json": ("llmperf", 3, 1623, 443, 1, None),
    "llmperf_short.csv": ("llmperf", 2, 1062, 283, 0, None),
    "nb_tokens.csv": ("generic", 2, 1062, 283, 0, None),
    "openinference.csv": ("openinference", 2, 1062, 283, 0, None),
    "openrouter_activity.csv": ("openrouter", 3, 6800, 795, 1, 11.127),
    "otel_agent_span.json": ("opentelemetry", 3, 9300, 600, 0, 19.0),
    "otel_agent_span_flat.jsonl": ("opentelemetry", 3, 9300, 600, 0, 19.0),
    "otel_embeddings.jsonl": ("opentelemetry", 2, 3000, 300, 0, 2.0),
    "pandas_floats.csv": ("generic", 3, 2900, 615, 1, 3.0),
    "phoenix_spans.csv": ("openinference", 2, 2600, 205, 0, 4.0),
    "sglang-0.5.23-bench_serving.jsonl": ("bench", 24, 3217, 498, 0, None),
    "tk.csv": ("generic", 2, 1062, 283, 0, None),
    "tokens_in_out.csv": ("generic", 2, 1062, 283, 0, None),
    "tokens_prompt.csv": ("generic", 2, 1062, 283, 0, None),
    "trtllm_dataset.jsonl": ("generic", 2, 17, 96, 0, None),
    "vllm-bench-serve-0.32.0-7-failed.json": ("bench", 7, 19169, 120, 7, 0.007759209000141709),
    "weka_trace.json": ("agentic-coding", 3, 4500, 245, 0, 20.0),
}

REFUSED = {
    "aiperf-0.13.0-summary.csv": "no requests; aiperf profile --export-level records",
    "evalscope-1.14.1-benchmark_percentile.json": "holds statistics, no requests",
    "evalscope-1.14.1-benchmark_summary.json": "benchmark_data.db",
    "genai_perf_profile_export.json": "aiperf profile --export-level records",
    "guidellm-0.8.1-summary.csv": "give the JSON report",
    "qa.csv": "--columns prompt=query_tokens,decode=answer_tokens",
    "ti.csv": "--columns prompt=total_input_tokens,decode=total_output_tokens",
    "vllm-bench-serve-0.32.0-not-detailed.json": "--save-result --save-detailed",
}


@pytest.mark.parametrize("name", RIGHT)
def test_requests_are_those_of_the_program(name):
    form, requests, prompt, decode, dropped, seconds = RIGHT[name]
    trace = read_trace(SAMPLES / name)
    assert trace.format == form
    assert trace.requests == requests
    assert trace.prompt_tokens.sum() == prompt
    assert trace.decode_tokens.sum() == decode
    assert trace.dropped_requests == dropped
    if seconds is None:
        assert trace.duration is None
    elif seconds:
        assert trace.duration == pytest.approx(seconds, abs=1e-6)
    else:
        assert trace.duration is not None
    if dropped:
        assert any("left out" in note for note in trace.notes)


@pytest.mark.parametrize("name", REFUSED)
def test_what_holds_no_requests_is_refused_with_what_to_do(name):
    with pytest.raises(TraceError) as caught:
        read_trace(SAMPLES / name)
    assert REFUSED[name] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_sample_is_without_a_right_value():
    assert {file.name for file in SAMPLES.iterdir()} == RIGHT.keys() | REFUSED.keys()


def test_reasoning_tokens_are_decoded_tokens():
    trace = read_trace(SAMPLES / "aiperf_profile_export.jsonl")
    assert EmpiricalLengths(trace).token_load().mean == pytest.approx(765.0, abs=0.05)


def test_calls_of_an_agent_count_once():
    trace = read_trace(SAMPLES / "otel_agent_span.json")
    assert EmpiricalLengths(trace).token_load().mean == pytest.approx(3295.3, abs=0.05)


def written(folder: Path, content: Any, form: str = "jsonl") -> Path:
    """Write records, or text as it is."""
    file = folder / "trace"
    if isinstance(content, str):
        file.write_text(content)
    elif form == "json":
        file.write_text(json.dumps(content))
    else:
        file.write_text("".join(json.dumps(record) + "\n" for record in content))
    return file


def span(own: str, parent: str | None, tokens: tuple[int, int] | None, **more: Any) -> dict:
    usage = (
        {}
        if tokens is None
        else dict(
            zip(("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"), tokens, strict=True)
        )
    )
    start = f"2026-01-01T00:00:0{len(own)}Z"
    return {"trace_id": "t", "span_id": own, "parent_span_id": parent, "start_time": start,
            "attributes": {**usage, **more}}  # fmt: skip


CHAT = {"gen_ai.operation.name": "chat"}
CONTAINERS = {
    "a framework's span without a kind, two levels up": [
        span("a", None, (30, 3)), span("ab", "a", None), span("abc", "ab", (10, 1), **CHAT),
        span("abcd", "ab", (20, 2), **CHAT),
    ],
    "client and server of one call": [
        span("abc", None, (10, 1), **CHAT), span("abcd", "abc", (10, 1)),
        span("abcde", None, (20, 2), **CHAT),
    ],
    "kinds of other conventions": [
        {"span_kind": kind, "llm.token_count.prompt": p, "llm.token_count.completion": d}
        for kind, p, d in (("AGENT", 30, 3), ("LLM", 10, 1), ("CHAIN", 30, 3), ("LLM", 20, 2))
    ],
    "an agent inside an agent": [
        span("a", None, (30, 3)), span("ab", "a", (30, 3)), span("abc", "ab", (10, 1), **CHAT),
        span("abcd", "ab", (20, 2), **CHAT),
    ],
    "spans in no order": [
        span("abcd", "a", (20, 2), **CHAT), span("abc", "a", (10, 1), **CHAT),
        span("a", None, (30, 3), **{"gen_ai.operation.name": "invoke_agent"}),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", CONTAINERS)
def test_sums_over_calls_are_no_requests(name, tmp_path):
    trace = read_trace(written(tmp_path, CONTAINERS[name]))
    assert sorted(trace.prompt_tokens.tolist()) == [10, 20]
    assert any("left out" in note for note in trace.notes)


def test_a_call_that_causes_a_smaller_one_stays(tmp_path):
    calls = [span("a", None, (900, 400), **CHAT), span("ab", "a", (10, 1), **CHAT)]
    assert read_trace(written(tmp_path, calls)).requests == 2


def test_only_sums_is_refused(tmp_path):
    sums = [span("a", None, (9, 9), **{"gen_ai.operation.name": "invoke_agent"})]
    with pytest.raises(TraceError, match="sums of several calls"):
        read_trace(written(tmp_path, sums))


def test_one_request_told_twice_counts_once(tmp_path):
    record = {"request_id": "r1", "prompt_tokens": 10, "output_tokens": 5, "ts": 1}
    other = {**record, "request_id": "r2"}
    trace = read_trace(written(tmp_path, [record, other, {**record, "ts": 2}]))
    assert trace.requests == 2
    assert any("1 of 3 records left out: the same request again" in note for note in trace.notes)
    # Numbers may start again with each run, and a conversation is no request.
    numbered = [{**record, "request_id": k % 2, "ts": k} for k in range(4)]
    assert read_trace(written(tmp_path, numbered)).requests == 4
    talk = [{"conversation_id": "c", "prompt_tokens": 10, "output_tokens": 5}] * 3
    assert read_trace(written(tmp_path, talk)).requests == 3


def test_failed_and_cached_are_told_apart(tmp_path):
    lines = (
        "startTime,prompt_tokens,completion_tokens,status,cache_hit,call_type\n"
        "2026-02-01 10:00:00+00,10,5,success,False,acompletion\n"
        "2026-02-01 10:00:01+00,10,5,success,True,acompletion\n"
        "2026-02-01 10:00:02+00,10,5,failure,,acompletion\n"
        "2026-02-01 10:00:03+00,10,0,success,None,acompletion\n"
        "2026-02-01 10:00:04+00,10,,success,,aembedding\n"
    )
    trace = read_trace(written(tmp_path, lines))
    assert trace.requests == 1
    assert trace.dropped_requests == 3
    said = "; ".join(trace.notes)
    for words in ("failed requests", "answered from a cache", "no output", "other operations"):
        assert f"1 of 5 records left out: {words}" in said


def cache_status(said: str) -> dict:
    return {"ai": {"cache": {"cache_status": said}}}


def ended(said: str) -> dict:
    return {"meta_info": {"finish_reason": {"type": said}}}


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ({"cached": False}, {"cached": True}, "answered from a cache"),
        ({"served_from_cache": "no"}, {"served_from_cache": "yes"}, "answered from a cache"),
        (cache_status("Miss"), cache_status("Hit"), "answered from a cache"),
        ({"is_warmup": False}, {"is_warmup": True}, "a benchmark's requests before"),
        ({"phase": "measure"}, {"phase": "warm-up"}, "a benchmark's requests before"),
        ({"finish_reasons": ["stop"]}, {"finish_reasons": ["error"]}, "failed requests"),
        (ended("stop"), ended("abort"), "failed requests"),
        ({"span": {"kind": "llm"}}, {"span": {"kind": "workflow"}}, "other operations"),
        ({"span_attributes": {"type": "llm"}}, {"span_attributes": {"type": "task"}}, "other"),
        (
            {"ai.operationId": "ai.generateText.doGenerate"},
            {"ai.operationId": "ai.generateText"},
            "other operations",
        ),
    ],
)
def test_what_no_engine_served_to_a_user_is_left_out_aloud(good, bad, said, tmp_path):
    lengths = {"prompt_tokens": 100, "completion_tokens": 10}
    trace = read_trace(written(tmp_path, [{**lengths, **good}] * 3 + [{**lengths, **bad}]))
    assert trace.requests == 3
    assert f"1 of 4 records left out: {said}" in "; ".join(trace.notes)


def test_counts_of_cached_tokens_are_no_answers_from_a_cache(tmp_path):
    rows = [{"prompt_tokens": 100, "completion_tokens": 10, "cached": k} for k in (0, 1, 64)]
    assert read_trace(written(tmp_path, rows)).requests == 3


def test_a_total_elsewhere_tells_cached_tokens_apart(tmp_path):
    call = {
        "gen_ai.usage.input_tokens": 50,
        "gen_ai.usage.cache_read_input_tokens": 30,
        "gen_ai.usage.output_tokens": 7,
    }
    rows: list[dict] = [{"span_id": f"s{k}", "attributes": call} for k in range(3)]
    assert read_trace(written(tmp_path, rows)).prompt_tokens.tolist() == [50] * 3
    for row in rows:
        row["attributes"] = {**call, "llm.usage.total_tokens": 87}
    assert read_trace(written(tmp_path, rows)).prompt_tokens.tolist() == [80] * 3


LONG = {"input_tokens": 9000, "output_tokens": 800}
DOUBTFUL: dict[str, tuple[list[dict], str]] = {
    "bytes": ([{"input_size": 400 + k, "output_size": 80} for k in range(4)], "are these bytes?"),
    "days": ([{"date": f"2026-02-0{k}", **LONG} for k in (1, 2, 3)], "are these sums over all"),
    "calls": ([{"calls": 30 + k, **LONG} for k in (1, 5, 3)], "requests a row stands for"),
    "windows": ([{"window_start": 60 * k, **LONG} for k in (1, 2, 3)], "are windows of time"),
    "choices": (
        [{**LONG, "choices": [{"finish_reason": end}]} for end in ("stop", "abort", "stop")],
        "1 of 3 choices broke off",
    ),
    "probes": (
        [
            {"input_tokens": 1 if k % 2 else 90 + k, "output_tokens": 1 if k % 2 else 50}
            for k in range(8)
        ],
        "4 of 8 records have prompts of 1 and outputs of 1 tokens",
    ),
    "two engines": (
        [{"input_tokens": 90 + k % 3, "output_tokens": 1 if k < 3 else 50} for k in range(6)],
        "the prefill of the same requests",
    ),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_what_may_be_no_requests_is_doubted(name, tmp_path):
    rows, said = DOUBTFUL[name]
    trace = read_trace(written(tmp_path, rows))
    assert any(said in doubt for doubt in trace.doubts)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-02-01 10:00:00+05;2026-02-01 11:00:00.5+06", 0.5),
        ("2026-02-01 10:00:00 GMT;2026-02-01 10:00:02 GMT", 2.0),
        ("Sun, 01 Feb 2026 10:00:00 GMT;Sun, 01 Feb 2026 10:00:09 GMT", 9.0),
        ("01/Feb/2026:10:00:00 +0000;01/Feb/2026:10:01:00 +0000", 60.0),
        ("13/02/2026 10:00;14/02/2026 10:00", 86400.0),
        ("2/13/2026 10:00:01 AM;2/14/2026 10:00:01 PM", 129600.0),
        ("01.02.2026 10:00:00;01.02.2026 10:00:04", 4.0),
        ("2026/02/01 10:00:00;2026/02/01 10:00:04", 4.0),
        ("2026-02-01;2026-02-03", 172800.0),
        ("2026-02-01 12:00 AM;2026-02-01 12:00 PM", 43200.0),
        ("2026-02-01T10:00:00+0530;2026-02-01T10:00:00+0500", 1800.0),
    ],
)
def test_times_as_people_write_them(text, seconds, tmp_path):
    first, second = text.split(";")
    trace = read_trace(written(tmp_path, f'timestamp;isl;osl\n"{first}";1;2\n"{second}";3;4\n'))
    assert trace.duration == pytest.approx(seconds)


def test_day_or_month_first_must_be_plain(tmp_path):
    file = written(tmp_path, "timestamp,isl,osl\n2/1/2026 10:00:00,1,2\n3/1/2026 10:00:00,3,4\n")
    with pytest.raises(TraceError, match="--time-format"):
        read_trace(file)
    assert read_trace(file, time_format="%d/%m/%Y %H:%M:%S").duration == 86400.0
    assert read_trace(file, time_format="%m/%d/%Y %H:%M:%S").duration == 28 * 86400.0
    with pytest.raises(TraceError, match="must be written as the time format"):
        read_trace(file, time_format="%Y")
    assert read_trace(file, columns="arrival=none").arrival_times is None


@pytest.mark.parametrize("form", ["%d.%m.%Y %H:%M:%S.%f", "%d.%m.%Y %H:%M:%S%.f"])
def test_fractions_of_a_second_by_time_format(form, tmp_path):
    file = written(tmp_path, "ts,isl,osl\n02.01.2026 10:00:00.25,1,2\n02.01.2026 10:00:01.5,3,4\n")
    assert read_trace(file, time_format=form).duration == 1.25


NESTED = {"run": {"batches": [
    {"at": 5, "calls": [{"sizes": {"a": 1, "b": 2}}, {"sizes": {"a": 3, "b": 4}}]},
    {"at": 7, "calls": [{"sizes": {"a": 5, "b": 6}}]},
]}}  # fmt: skip


def test_columns_reach_into_nested_lists(tmp_path):
    said = "prompt=run.batches.calls.sizes.a,decode=run.batches.calls.sizes.b,arrival=at,unit=s"
    for form in ("json", "jsonl"):
        trace = read_trace(
            written(tmp_path, NESTED if form == "json" else [NESTED], form), columns=said
        )
        assert trace.prompt_tokens.tolist() == [1, 3, 5]
        assert trace.arrival_times.tolist() == [0, 0, 2]
    file = tmp_path / "nested.parquet"
    pl.DataFrame([NESTED]).write_parquet(file)
    trace = read_trace(file, columns=said)
    assert trace.decode_tokens.tolist() == [2, 4, 6]
    assert trace.arrival_times.tolist() == [0, 0, 2]
    with pytest.raises(TraceError, match=r"has no column 'run.batches.x'.*did you mean"):
        read_trace(file, columns="prompt=run.batches.x,decode=run.batches.calls.sizes.b")


@pytest.mark.parametrize("form", ["json", "jsonl", "parquet"])
def test_lists_of_requests_inside_records(form, tmp_path):
    records = [
        {
            "who": "x",
            "turns": [{"prompt_len": 4, "output_len": 1}, {"prompt_len": 9, "output_len": 2}],
        },
        {"who": "y", "turns": [{"prompt_len": 7, "output_len": 3}]},
    ]
    if form == "parquet":
        file = tmp_path / "trace"
        pl.DataFrame(records).write_parquet(file)
    else:
        file = written(tmp_path, records, form)
    trace = read_trace(file, columns="session=who")
    assert trace.prompt_tokens.tolist() == [4, 9, 7]
    assert trace.session_ids.tolist() == [0, 0, 1]
    assert any("nested lists 'turns'" in note for note in trace.notes)


def test_a_record_that_sums_up_its_list_is_no_request(tmp_path):
    calls = [{"prompt_tokens": 10, "output_tokens": 2}, {"prompt_tokens": 20, "output_tokens": 3}]
    whole = [{"id": "a", "prompt_tokens": 30, "output_tokens": 5, "calls": calls}]
    assert read_trace(written(tmp_path, whole)).decode_tokens.tolist() == [2, 3]
    # A list with lengths of its own kind leaves the record what it is.
    whole[0]["calls"] = [{"prompt_tokens": 10, "output_tokens": 900}]
    assert read_trace(written(tmp_path, whole)).decode_tokens.tolist() == [5]


def test_turns_that_name_the_one_before_are_all_requests(tmp_path):
    turns = [
        {"id": "a", "parent_id": None, "prompt_tokens": 10, "output_tokens": 5},
        {"id": "b", "parent_id": "a", "prompt_tokens": 20, "output_tokens": 5},
    ]
    assert read_trace(written(tmp_path, turns)).requests == 2


@pytest.mark.parametrize(
    "frame",
    [
        {"isl": [1, 2], "osl": [3, 4]},
        {"isl": {"0": 1, "1": 2}, "osl": {"0": 3, "1": 4}},
        {"0": {"isl": 1, "osl": 3}, "1": {"isl": 2, "osl": 4}},
        {"columns": ["isl", "osl"], "index": [0, 1], "data": [[1, 3], [2, 4]]},
    ],
)
def test_data_frames_as_one_object(frame, tmp_path):
    trace = read_trace(written(tmp_path, frame, "json"))
    assert trace.prompt_tokens.tolist() == [1, 2]
    assert trace.decode_tokens.tolist() == [3, 4]


def test_runs_of_chains_are_no_requests(tmp_path):
    runs = [
        {"id": "r1", "run_type": "chain", "prompt_tokens": 30, "completion_tokens": 4},
        {"id": "r2", "run_type": "llm", "prompt_tokens": 30, "completion_tokens": 4},
    ]
    assert read_trace(written(tmp_path, runs)).requests == 1


def test_names_that_come_late_count(tmp_path):
    early = [{"isl": 5, "osl": 2}] * 3000
    late = [{"isl": 5, "osl": 2, "error": {"type": "Timeout"}, "start_time": 3}]
    trace = read_trace(written(tmp_path, [*early, *late]))
    assert trace.requests == 3000
    assert trace.dropped_requests == 1
    spans = [{"name": "GET /", "attributes": {"http.path": "x" * 90}}] * 2000
    assert read_trace(written(tmp_path, [*spans, span("a", None, (7, 2), **CHAT)])).requests == 1


HINTS = {
    "reply_length,query_length,other_length\n1,2,3\n": "prompt=query_length,decode=reply_length",
    "user_tokens,assistant_tokens\n1,2\n": "prompt=user_tokens,decode=assistant_tokens",
    "number_total_tokens,latency\n3,4\n": "prompt=NAME,decode=NAME",
    "query,answer\nhello,world\n": "prompt=NAME,decode=NAME",
    "query_tokens,question_tokens,answer\n1,2,x\n": "prompt=NAME,decode=NAME",
    "input_cost,output_cost,requests\n1,2,3\n": "prompt=NAME,decode=NAME",
}


@pytest.mark.parametrize("text", HINTS)
def test_hints_are_right_or_absent(text, tmp_path):
    with pytest.raises(TraceError) as caught:
        read_trace(written(tmp_path, text))
    assert str(caught.value).endswith(f"--columns {HINTS[text]}")


STATISTICS = {
    "pandas describe": ",prompt_tokens,output_tokens\ncount,9,9\nmean,5,2\nstd,1,1\nmin,1,1\n"
    "25%,2,1\n50%,5,2\n75%,8,3\nmax,9,4\n",
    "percentiles": "percentile,input_tokens,output_tokens\np50,10,5\np90,20,8\np99,30,9\n",
    "quantiles": "stat,isl,osl\np50.5,10,5\nMedian,20,8\n99.9%,30,9\n",
    "a mean": "statistic,isl,osl\naverage,10,5\n",
}


@pytest.mark.parametrize("name", STATISTICS)
def test_tables_of_statistics_are_no_requests(name, tmp_path):
    with pytest.raises(TraceError, match="holds statistics, no requests"):
        read_trace(written(tmp_path, STATISTICS[name]))


def test_statistics_inside_an_object_are_no_request(tmp_path):
    summary = {"mean": {"prompt_tokens": 5, "output_tokens": 3}, "p99": {"prompt_tokens": 9}}
    with pytest.raises(TraceError, match="no column is known"):
        read_trace(written(tmp_path, [summary]))


def costs_at_most_one_line(file: Path) -> None:
    message = ""
    try:
        assert read_trace(file).requests > 0
    except TraceError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 700


HOSTILE = {
    "half a character": '{"isl": 1, "osl": 2, "session_id": "\\ud800"}\n' * 2,
    "attributes of a wrong kind": '{"attributes": 5, "isl": 1, "osl": 2}\n',
    "spans of wrong kinds": '{"resourceSpans": [5, {"scopeSpans": {"a": 1}}], "isl": 1, "osl": 2}',
    "infinite length": '{"isl": 1e400, "osl": 2}',
    "infinite arrival": '{"isl": 1, "osl": 2, "ts": 1e400}',
    "wide arrivals": '{"ts_ns": -9000000000000000000, "isl": 1, "osl": 2}\n'
    '{"ts_ns": 9000000000000000000, "isl": 1, "osl": 2}\n',
    "wider arrivals": "ts_ns,isl,osl\n-9e30,1,2\n9e30,1,2\n",
    "truth": '{"isl": true, "osl": false}',
    "lists": '{"isl": [1, 2], "osl": [[3]]}',
    "deep": '{"isl": ' + '{"a": ' * 500 + "1" + "}" * 500 + ', "osl": 1}',
    "benchmarks of a wrong kind": '{"benchmarks": [{"requests": 5}], "isl": 1, "osl": 2}',
    "own parent": json.dumps(span("a", "a", (1, 1))) + "\n" + json.dumps(span("b", "a", (1, 1))),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_read_or_costs_one_line(name, tmp_path):
    costs_at_most_one_line(written(tmp_path, HOSTILE[name]))


@pytest.mark.parametrize("role", ["isl", "ts", "error", "session_id", "request_id", "cache_hit"])
@pytest.mark.parametrize(
    "values",
    [
        pl.Series([True, False]),
        pl.Series([b"a", b"b"]),
        pl.Series([1, 2]).cast(pl.Duration("ms")),
        pl.Series([[1], [2, 3]]),
        pl.Series([{"a": 1}, {"a": 2}]),
        pl.Series(["a", "b"]).cast(pl.Categorical),
        pl.Series([1, 2]).cast(pl.Time),
    ],
    ids=str,
)
def test_columns_of_any_type_are_read_or_cost_one_line(role, values, tmp_path):
    columns = {"isl": [5, 6], "osl": [1, 2], role: values}
    file = tmp_path / "trace.parquet"
    pl.DataFrame(columns).write_parquet(file)
    costs_at_most_one_line(file)
