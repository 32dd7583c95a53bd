"""Each known format, by a small faithful sample, is recognised by content and read right."""

from __future__ import annotations

import gzip
import json
import sys
from typing import Any

import numpy as np
import polars as pl
import pytest

from afdplan.errors import TraceError
from afdplan.files.traces.formats import FORMATS
from afdplan.files.traces.reader import read_trace
from tests.running import written_to
from tests.unit.files.traces.test_real_files import RIGHT

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


MOONCAKE = (
    {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47]},
    {"timestamp": 30535, "input_length": 6472, "output_length": 26, "hash_ids": [46]},
)
CHAT = {"created": 1700000000, "usage": {"prompt_tokens": 10, "completion_tokens": 5}}
LATER = {"created": 1700000007, "usage": {"prompt_tokens": 11, "completion_tokens": 6}}
SPAN = [
    {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "5"}},
    {"key": "gen_ai.usage.output_tokens", "value": {"intValue": "7"}},
]
EXPORT = {
    "resourceSpans": [
        {
            "scopeSpans": [
                {
                    "spans": [
                        {"name": "tool", "startTimeUnixNano": "1", "attributes": []},
                        {"startTimeUnixNano": "1715472000000000000", "attributes": SPAN},
                        {"startTimeUnixNano": "1715472000100000000", "attributes": SPAN},
                    ]
                }
            ]
        }
    ]
}
BENCH = {"request_rate": float("inf"), "input_lens": [1, 2, 3], "output_lens": [4, 5, 0]}

# name: (text, format, prompts, decodes, arrivals, unit, dropped)
SAMPLES: dict[str, tuple[str, str, list[int], list[int], list[float] | None, str, int]] = {
    "azure 2023, seven digits": (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319605,3180,8\n",
        "azure", [4808, 3180], [10, 8], [0.0, 0.0520005], "ISO 8601", 0,
    ),
    "azure 2024, zone": (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:01+00:00,2399,6\n",
        "azure", [2162, 2399], [5, 6], [0.0, 0.99007], "ISO 8601", 0,
    ),
    "burstgpt, a failure": (
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,0,230,Conversation log\n"
        "118,GPT-4,417,276,693,API log\n",
        "burstgpt", [472, 417], [18, 276], [0.0, 113.0], "seconds", 1,
    ),
    "mooncake, ms": (
        lines(*MOONCAKE), "mooncake", [6955, 6472], [52, 26], [0.0, 3.053], "milliseconds", 0,
    ),
    "aiperf, no times": (
        lines(*({k: v for k, v in m.items() if k != "timestamp"} for m in MOONCAKE)),
        "mooncake", [6955, 6472], [52, 26], None, "", 0,
    ),
    "bailian, s": (
        lines(
            {"chat_id": 159, "parent_chat_id": -1, "timestamp": 61.114, "input_length": 521,
             "output_length": 132, "type": "text", "turn": 1, "hash_ids": [1, 2]},
            {"chat_id": 160, "parent_chat_id": 159, "timestamp": 62.5, "input_length": 700,
             "output_length": 13, "type": "text", "turn": 2, "hash_ids": [1, 2]},
        ),
        "bailian", [521, 700], [132, 13], [0.0, 1.386], "seconds", 0,
    ),
    "vidur": (
        "arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,374,44\n4.75,396,109\n",
        "vidur", [374, 396], [44, 109], [0.0, 4.25], "seconds", 0,
    ),
    "vidur, row index": (
        "arrived_at,num_prefill_tokens,num_decode_tokens\n0,374,44\n1,396,0\n2,1,2\n",
        "vidur", [374, 1], [44, 2], None, "", 1,
    ),
    "splitwise": (
        "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,"
        "token_size\n0,2,0,0.25,1,374,44\n1,2,0,1.5,1,396,109\n",
        "splitwise", [374, 396], [44, 109], [0.0, 1.25], "seconds", 0,
    ),
    "llmservingsim, ns": (
        lines(
            {"input_toks": 128, "output_toks": 512, "arrival_time_ns": 1000, "input_tok_ids": [1]},
            {"input_toks": 64, "output_toks": 32, "arrival_time_ns": 250_001_000},
        ),
        "llmservingsim", [128, 64], [512, 32], [0.0, 0.25], "nanoseconds", 0,
    ),
    "vllm bench, indented": (
        json.dumps({**BENCH, "errors": ["", "boom", ""], "itls": [[], [], []]}, indent=2),
        "bench", [1], [4], None, "", 2,
    ),
    "sglang bench, two runs": (
        lines({**BENCH, "errors": ["", "", "x"]}, {"input_lens": [9], "output_lens": [8]}),
        "bench", [1, 2, 9], [4, 5, 8], None, "", 1,
    ),
    "openai log": (
        lines(CHAT, {"created": 1700000001, "usage": None, "error": "boom"}, LATER),
        "openai", [10, 11], [5, 6], [0.0, 7.0], "seconds", 1,
    ),
    "openai batch output": (
        lines(*({"response": {"status_code": 200, "body": body}} for body in (CHAT, LATER))),
        "openai", [10, 11], [5, 6], [0.0, 7.0], "seconds", 0,
    ),
    "anthropic, cached tokens added": (
        lines(
            {"timestamp": "2024-05-12T00:00:00Z", "usage": {
                "input_tokens": 5, "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 10, "output_tokens": 7}},
        ),
        "anthropic", [115], [7], [0.0], "ISO 8601", 0,
    ),
    "anthropic as a table": (
        "timestamp,input_tokens,cache_creation_input_tokens,cache_read_input_tokens,output_tokens\n"
        "2026-01-01 00:00:00,10,90,900,10\n2026-01-01 00:00:02,10,90,,20\n",
        "anthropic-table", [1000, 100], [10, 20], [0.0, 2.0], "ISO 8601", 0,
    ),
    "litellm": (
        lines(
            {"prompt_tokens": 10, "completion_tokens": 5, "status": "success",
             "startTime": "2024-05-12T00:00:00.100Z"},
            {"prompt_tokens": 12, "completion_tokens": 7, "status": "failure",
             "startTime": "2024-05-12T00:00:01.100Z"},
            {"prompt_tokens": 11, "completion_tokens": 6, "status": "success",
             "startTime": "2024-05-12T00:00:02.100Z"},
        ),
        "litellm", [10, 11], [5, 6], [0.0, 2.0], "ISO 8601", 1,
    ),
    "opentelemetry, flat": (
        lines({"start_time": "2024-05-12T00:00:00+02:00", "attributes": {
            "gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 7}}),
        "opentelemetry", [5], [7], [0.0], "ISO 8601", 0,
    ),
    "opentelemetry, nested": (
        lines({"attributes": {"gen_ai": {"usage": {"input_tokens": 5, "output_tokens": 7}}}}),
        "opentelemetry", [5], [7], None, "", 0,
    ),
    "opentelemetry, exported": (
        json.dumps(EXPORT), "opentelemetry", [5, 5], [7, 7], [0.0, 0.1], "nanoseconds", 0,
    ),
    "generic, semicolons, BOM, CRLF, unit in name": (
        "\ufeffTime (ms);Prompt Length;Output-Tokens;Benützer\r\n0;10;20;ü\r\n100;11;21;ß\r\n",
        "generic", [10, 11], [20, 21], [0.0, 0.1], "milliseconds", 0,
    ),
    "generic, tabs and comments": (
        "# made by hand\n\nisl\tosl\n3\t4\n\n5\t6\n", "generic", [3, 5], [4, 6], None, "", 0,
    ),
    "generic, epoch ms": (
        "ts,prompt_tokens,output_tokens\n1700000000000,1,2\n1700000001500,3,4\n",
        "generic", [1, 3], [2, 4], [0.0, 1.5], "milliseconds", 0,
    ),
    "gemini": (
        lines({"createTime": "2026-01-01T00:00:00Z", "usageMetadata": {
            "promptTokenCount": 5, "candidatesTokenCount": 7}}),
        "gemini", [5], [7], [0.0], "ISO 8601", 0,
    ),
    "bedrock": (
        lines({"timestamp": "2026-01-01T00:00:00Z", "input": {"inputTokenCount": 5},
               "output": {"outputTokenCount": 7}}),
        "bedrock", [5], [7], [0.0], "ISO 8601", 0,
    ),
    "cohere": (
        lines({"usage": {"billed_units": {"input_tokens": 1, "output_tokens": 6},
                         "tokens": {"input_tokens": 5, "output_tokens": 7}}}),
        "cohere", [5], [7], None, "", 0,
    ),
    "generic, one list of objects": (
        json.dumps({"requests": [{"isl": 3, "osl": 4}, {"isl": 5, "osl": None}]}),
        "generic", [3], [4], None, "", 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLES)
def test_every_format_is_recognised_by_its_content(name, tmp_path):
    text, form, prompts, decodes, arrivals, unit, dropped = SAMPLES[name]
    # Misleading names: only the content counts.
    for ending, data in (
        (".xlsx", text.encode()),
        (".txt", gzip.compress(text.encode())),
        ("", zstd.compress(text.encode())),
    ):
        file = tmp_path / f"trace[1]{ending}"
        file.write_bytes(data)
        trace = read_trace(file)
        assert trace.format == form
        assert trace.prompt_tokens.tolist() == prompts
        assert trace.decode_tokens.tolist() == decodes
        assert trace.time_unit_in_file == unit
        assert trace.dropped_requests == dropped
        if arrivals is None:
            assert trace.arrival_times is None
        else:
            np.testing.assert_allclose(trace.arrival_times, arrivals, rtol=0, atol=1e-9)


def test_no_format_is_without_a_sample():
    forms = {sample[1] for sample in SAMPLES.values()} | {sample[0] for sample in RIGHT.values()}
    assert forms == {known.name for known in FORMATS}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_format_named_by_the_user_reads_the_same(name, tmp_path):
    text, form, prompts, *_ = SAMPLES[name]
    file = tmp_path / "trace"
    file.write_text(text)
    assert read_trace(file, format=form).prompt_tokens.tolist() == prompts


def test_parquet_with_nested_fields_and_dates(tmp_path):
    frame = pl.DataFrame(
        {
            "created": pl.Series(["2024-01-01T00:00:02", "2024-01-01T00:00:00"]).str.to_datetime(),
            "usage": [
                {"prompt_tokens": 1, "completion_tokens": 2},
                {"prompt_tokens": 3, "completion_tokens": 4},
            ],
        }
    )
    frame.write_parquet(tmp_path / "trace.csv")
    trace = read_trace(tmp_path / "trace.csv")
    assert trace.prompt_tokens.tolist() == [3, 1]
    assert trace.arrival_times.tolist() == [0.0, 2.0]
    assert any("sorted" in note for note in trace.notes)


def test_columns_name_what_no_table_of_aliases_knows(tmp_path):
    file = tmp_path / "trace.csv"
    file.write_text("Größe,b,when,who\n5,1,0,x\n6,2,500,y\n7,3,900,x\n")
    trace = read_trace(file, columns="prompt=Größe,decode=b,arrival=when,session=who,unit=ms")
    assert trace.arrival_times.tolist() == [0.0, 0.5, 0.9]
    assert trace.session_ids.tolist() == [0, 1, 0]
    same = read_trace(file, columns={"prompt": "GRÖSSE".lower().replace("ss", "ß"), "decode": "B"})
    assert same.prompt_tokens.tolist() == [5, 6, 7]


def test_cached_prefixes_and_chains_of_chats_are_told(tmp_path):
    file = tmp_path / "trace"
    text = SAMPLES["bailian, s"][0] + lines(
        {"chat_id": 161, "parent_chat_id": 160, "timestamp": 70, "input_length": 9,
         "output_length": 1},
        {"chat_id": 170, "parent_chat_id": -1, "timestamp": 71, "input_length": 9,
         "output_length": 1},
    )  # fmt: skip
    file.write_text(text)
    trace = read_trace(file)
    assert trace.session_ids.tolist() == [0, 0, 0, 1]
    assert any("cached prefixes" in note for note in trace.notes)


def test_sessions_that_nobody_shares_are_left_out(tmp_path):
    file = tmp_path / "trace"
    file.write_text("isl,osl,session_id\n1,2,a\n3,4,b\n")
    assert read_trace(file).session_ids is None


def test_nanoseconds_since_1970_lose_no_digit(tmp_path):
    file = tmp_path / "trace"
    file.write_text("time_ns,isl,osl\n1715472000100000001,1,2\n1715472000100000003,3,4\n")
    assert read_trace(file).arrival_times.tolist() == [0.0, 2e-9]


def test_zones_may_differ_if_all_are_named(tmp_path):
    file = tmp_path / "trace"
    file.write_text("time,isl,osl\n2024-01-01T01:00:00+01:00,1,2\n2024-01-01T00:30:00.5Z,3,4\n")
    assert read_trace(file).arrival_times.tolist() == [0.0, 1800.5]


def test_equal_arrivals_keep_the_order_of_the_file(tmp_path):
    file = tmp_path / "trace"
    file.write_text("arrival,isl,osl\n5,1,1\n0,2,1\n5,3,1\n0,4,1\n")
    assert read_trace(file).prompt_tokens.tolist() == [2, 4, 1, 3]


def test_a_row_index_is_taken_as_time_when_the_user_says_so(tmp_path):
    file = tmp_path / "trace"
    file.write_text(SAMPLES["vidur, row index"][0])
    assert read_trace(file, columns="unit=s").arrival_times.tolist() == [0.0, 2.0]


def test_a_pipe_is_read(tmp_path):
    pipe = tmp_path / "pipe"
    with written_to(pipe, SAMPLES["vidur"][0].encode()):
        assert read_trace(pipe).requests == 2


def test_arrivals_that_are_asked_for_are_no_row_numbers(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("arrival,prompt_tokens,decode_tokens\n1,100,20\n2,200,10\n3,150,30\n")
    assert read_trace(path).arrival_times is None
    asked = read_trace(path, columns="arrival=arrival")
    assert asked.arrival_times.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("at", [0, 500, 5_000, 30_000])
def test_a_key_that_comes_late_is_found_without_reading_each_record(tmp_path, monkeypatch, at):
    """A key, a list of numbers, and an object for what was null: one kind of record after all."""
    from afdplan.files.traces import json_table

    rows = [
        {"timestamp": k, "input_length": 5 + k % 7, "output_length": 2, "x": None, "ids": [k, 1]}
        for k in range(30_001)
    ]
    rows[at] |= {"note": "late", "x": {"y": 1}}
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(json_table, "_blocks", None)
    trace = read_trace(path)
    assert trace.requests == 30_001
    assert trace.prompt_tokens.tolist() == [row["input_length"] for row in rows]
    monkeypatch.setattr("afdplan.files.traces.json_shape.KEPT", 0)
    assert read_trace(path).prompt_tokens.tolist() == trace.prompt_tokens.tolist()
    # An object in a list that held numbers is another table: then each record is read.
    rows[at]["ids"] = [{"input_length": 1}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(TypeError):
        read_trace(path)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "usage.csv",  # the usage export of an API: hours, not requests
            "start_time,num_model_requests,input_tokens,output_tokens\n1730419200,50,4000,900\n"
            "1730422800,60,5000,800\n",
            "sums over several requests, up to 60 by column 'num_model_requests'",
        ),
        (
            "usage.json",
            json.dumps({"data": [{"start_time": 1730419200, "results": [
                {"input_tokens": 4000, "output_tokens": 900, "num_model_requests": 50}]}]}),
            "up to 50 by column 'num_model_requests'",
        ),
        (
            "old.csv",
            "timestamp,n_requests,n_context_tokens_total,n_generated_tokens_total\n1,5,90,30\n",
            "holds sums over several requests",
        ),
        ("guidellm.yaml", "benchmarks:\n- requests:\n    prompt_tokens: 5\n", "is YAML; give"),
    ],
)  # fmt: skip
def test_what_holds_no_requests_is_refused_plainly(tmp_path, name, text, said):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(TraceError, match=said):
        read_trace(path)


def test_one_request_a_row_is_no_sum(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(
        "request_created_at,num_requests,requests,prompt_tokens,completion_tokens\n"
        "2025-03-01 10:00:01.12+00,1,7,5,3\n2025-03-01 10:00:03.12+00,1,9,6,2\n"
    )
    trace = read_trace(path)
    assert trace.prompt_tokens.tolist() == [5, 6]
    assert trace.arrival_times.tolist() == [0.0, 2.0]


@pytest.mark.parametrize(
    ("column", "good", "bad"),
    [
        ("failed", "0", "1"),
        ("is_error", "false", "true"),
        ("ok", "true", "false"),
        ("succeeded", "1", "0"),
        ("is_success", "True", "False"),
        ("aborted", "", "yes"),
        ("state", "COMPLETED", "CANCELLED"),
        ("finish_reason", "length", "abort"),
        ("ok", "t", "f"),
        ("finish_reason", "FinishReason.STOP", "FinishReason.ABORT"),
        ("outcome", "completed", "client_disconnected"),
        ("outcome", "succeeded after a timeout", "request timed out"),
        ("error_on_response", "False", "True"),
        ("status", "no error", "upstream_unavailable"),
        ("status", "2xx", "5xx"),
        ("status", "HTTP 200", "HTTP 502"),
        ("response_code", "200", "0"),
        ("response_flags", "-", "UT"),
        ("grpc_status", "OK", "DEADLINE_EXCEEDED"),
        ("grpc_status_code", "0", "14"),
        ("exception_class", "", "RateLimitError"),
        ("stop_reason", "end_turn", "error"),
    ],
)
def test_flags_of_failed_requests_by_any_name(tmp_path, column, good, bad):
    rows = [f"{100 * k},{10 * k},{good}" for k in range(1, 4)] + [f"9000,40,{bad}"]
    path = tmp_path / "log.csv"
    path.write_text("\n".join([f"prompt_tokens,output_tokens,{column}", *rows]) + "\n")
    trace = read_trace(path)
    assert trace.prompt_tokens.tolist() == [100, 200, 300]
    assert any("1" in note and column in note for note in trace.notes)


def test_an_answer_that_speaks_of_errors_is_no_failure(tmp_path):
    path = tmp_path / "log.csv"
    rows = ["100,10,line 3 holds an error", "200,20,the run failed", "300,30,failed"]
    path.write_text("\n".join(["prompt_tokens,output_tokens,result", *rows]) + "\n")
    assert read_trace(path).prompt_tokens.tolist() == [100, 200]
