"""Kinds of files whose numbers mean something else than they seem: read right, and said aloud."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from afdplan.errors import TraceError
from afdplan.files.traces.reader import read_trace

PROMPTS = [100, 200, 300, 400]
OUTPUTS = [10, 20, 30, 40]
PAIRS = list(zip(PROMPTS, OUTPUTS, strict=True))


def written(folder: Path, content: Any) -> Path:
    """Write text as it is, records as lines, anything else as JSON."""
    file = folder / "trace"
    if isinstance(content, str):
        file.write_text(content)
    elif isinstance(content, list):
        file.write_text("".join(json.dumps(record) + "\n" for record in content))
    else:
        file.write_text(json.dumps(content))
    return file


def records(make) -> list[dict[str, Any]]:
    """Return a record of each of the four requests by its number, prompt and output."""
    return [make(at, p, d) for at, (p, d) in enumerate(PAIRS)]


def observation(at, usage, **more) -> dict[str, Any]:
    """Return what Langfuse writes of one call."""
    start = f"2026-01-05T09:00:0{at}.000Z"
    return {"id": f"o{at}", "traceId": f"t{at}", "type": "GENERATION", "startTime": start,
            "usageDetails": usage, **more}  # fmt: skip


# What the columns count apart or inside, where the four requests are always the same.
USAGES: dict[str, Any] = {
    "langfuse, cached and reasoned": records(
        lambda at, p, d: observation(
            at, {"input": p - 50, "input_cached_tokens": 50, "output": d - 5,
                 "output_reasoning_tokens": 5, "total": p + d})
    ),
    "langfuse, spoken, without a total": records(
        lambda at, p, d: observation(
            at, {"input": p - 20, "input_audio_tokens": 20, "output": d - 5,
                 "output_audio_tokens": 5})
    ),
    "langfuse, reasoning of another name": records(
        lambda at, p, d: observation(
            at, {"input": p, "output": d - 3, "reasoning": 3, "total": p + d})
    ),
    "langfuse, a total that holds the cached tokens already": records(
        lambda at, p, d: observation(
            at, {"input": p, "input_cached_tokens": 50, "output": d, "total": p + d})
    ),
    "gemini": records(
        lambda at, p, d: {"createTime": f"2026-01-01T00:00:0{at}Z", "usageMetadata": {
            "promptTokenCount": p, "cachedContentTokenCount": 50, "candidatesTokenCount": d - 5,
            "thoughtsTokenCount": 5, "totalTokenCount": p + d}}
    ),
    "gemini's library, tools, without a total": records(
        lambda at, p, d: {"usage_metadata": {
            "prompt_token_count": p - 9, "tool_use_prompt_token_count": 9,
            "candidates_token_count": d - 5, "thoughts_token_count": 5}}
    ),
    "gemini, thoughts alone in one record": [
        {"usageMetadata": {"promptTokenCount": 100, "thoughtsTokenCount": 10}},
        *records(lambda at, p, d: {"usageMetadata": {
            "promptTokenCount": p, "candidatesTokenCount": d, "totalTokenCount": p + d}})[1:],
    ],
    "responses": records(
        lambda at, p, d: {"id": f"r{at}", "created_at": 1700000000 + at, "usage": {
            "input_tokens": p, "input_tokens_details": {"cached_tokens": 50}, "output_tokens": d,
            "output_tokens_details": {"reasoning_tokens": 9}, "total_tokens": p + d}}
    ),
    "bedrock, converse": records(
        lambda at, p, d: {"usage": {
            "inputTokens": p - 50, "outputTokens": d, "cacheReadInputTokens": 30,
            "cacheWriteInputTokens": 20, "totalTokens": p + d}}
    ),
    "bedrock, log of invocations": records(
        lambda at, p, d: {"timestamp": f"2026-01-01T00:00:0{at}Z", "requestId": f"r{at}",
                          "input": {"inputTokenCount": p - 50, "cacheReadInputTokenCount": 50},
                          "output": {"outputTokenCount": d}}
    ),
    "cohere": records(
        lambda at, p, d: {"id": f"c{at}", "meta": {
            "billed_units": {"input_tokens": p - 60, "output_tokens": d - 1},
            "tokens": {"input_tokens": p, "output_tokens": d}, "cached_tokens": 0}}
    ),
    "openrouter": records(
        lambda at, p, d: {"generation_id": f"g{at}", "created_at": f"2026-01-01T00:00:0{at}Z",
                          "tokens_prompt": p - 10, "tokens_completion": d - 3,
                          "native_tokens_prompt": p, "native_tokens_completion": d,
                          "native_tokens_reasoning": 4, "native_tokens_cached": 0}
    ),
    "openrouter, other columns": records(
        lambda at, p, d: {"tokens_prompt": p - 10, "tokens_completion": d - 3,
                          "native_tokens_prompt": p, "native_tokens_completion": d}
    ),
    "aiperf without the sequence": records(
        lambda at, p, d: {"metadata": {"request_start_ns": at}, "metrics": {
            "input_sequence_length": {"value": p}, "output_token_count": {"value": d - 5},
            "reasoning_token_count": {"value": 5}}}
    ),
    "reasoning beside, by the total": records(
        lambda at, p, d: {"prompt_tokens": p, "completion_tokens": d - 5, "reasoning_tokens": 5,
                          "total_tokens": p + d}
    ),
    "reasoning inside, by the total": records(
        lambda at, p, d: {"prompt_tokens": p, "completion_tokens": d, "reasoning_tokens": 5,
                          "total_tokens": p + d}
    ),
    "reasoning inside, assumed": records(
        lambda at, p, d: {"prompt_tokens": p, "completion_tokens": d, "reasoning_tokens": 5}
    ),
    "reasoning beside, for it is more": records(
        lambda at, p, d: {"prompt_tokens": p, "completion_tokens": 4, "thinking_tokens": d - 4}
    ),
    "cached beside, by the total": "prompt_tokens,cache_read_tokens,completion_tokens,total_tokens"
    "\n" + "".join(f"{p - 50},50,{d},{p + d}\n" for p, d in PAIRS),
    "cached beside, for it is more": "input_tokens,cache_read_tokens,output_tokens\n"
    + "".join(f"9,{p - 9},{d}\n" for p, d in PAIRS),
    "cached inside, by the total": "prompt_tokens,cached_tokens,completion_tokens,total_tokens\n"
    + "".join(f"{p},50,{d},{p + d}\n" for p, d in PAIRS),
    "anthropic, a total without the cached": "input_tokens,cache_read_input_tokens,output_tokens,"
    "total_tokens\n" + "".join(f"{p - 50},50,{d},{p - 50 + d}\n" for p, d in PAIRS),
    "cached beside, by the total of its side": "input_tokens,cached_input_tokens,"
    "total_input_tokens,output_tokens\n" + "".join(f"{p - 50},50,{p},{d}\n" for p, d in PAIRS),
    "asked and actual": records(
        lambda at, p, d: {"input_length": p, "output_length": 4096, "actual_output_length": d}
    ),
    "asked and served": records(
        lambda at, p, d: {"isl": p, "osl": 512, "server_output_tokens": d}
    ),
    "a constant that was asked for": records(
        lambda at, p, d: {"isl": p, "output_length": 512, "generated_tokens": d}
    ),
    "zeros under the names of another interface": records(
        lambda at, p, d: {"usage": {"prompt_tokens": 0, "completion_tokens": 0, "input_tokens": p,
                                    "output_tokens": d}}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", USAGES)
def test_all_tokens_of_a_request_count_once(name, tmp_path):
    trace = read_trace(written(tmp_path, USAGES[name]))
    assert sorted(trace.prompt_tokens.tolist()) == PROMPTS
    assert sorted(trace.decode_tokens.tolist()) == OUTPUTS


DOUBTED = {
    "a constant that was asked for": "'output_length' is 512 in all records",
    "reasoning inside, assumed": "reasoning tokens (column 'reasoning_tokens') are taken as part",
    "reasoning beside, for it is more": "are added to the outputs: they are often more",
    "cached beside, for it is more": "are added to the prompts: they are often more",
    "anthropic, a total without the cached": "'total_tokens' leaves tokens out",
    "asked and actual": "from column 'actual_output_length' (mean 25.0), not from 'output_length'",
    "asked and served": "from column 'server_output_tokens' (mean 25.0), not from 'osl' (mean 512",
}


@pytest.mark.parametrize("name", USAGES)
def test_what_was_assumed_is_said_aloud_and_nothing_else(name, tmp_path):
    doubts = read_trace(written(tmp_path, USAGES[name])).doubts
    if name in DOUBTED:
        assert DOUBTED[name] in "; ".join(doubts)
    elif name != "openrouter, other columns":
        assert not doubts


def test_a_total_that_nothing_explains_is_said(tmp_path):
    text = "prompt_tokens,completion_tokens,total_tokens\n100,10,500\n200,20,600\n"
    (doubt,) = read_trace(written(tmp_path, text)).doubts
    assert "is not prompt and output together in 2 of 2 records" in doubt


def test_columns_of_like_name_that_disagree_are_said(tmp_path):
    records = [
        {"prompt_tokens": 9, "output_tokens": 512 + d, "completion_tokens": d} for d in OUTPUTS
    ]
    trace = read_trace(written(tmp_path, records))
    assert "choose with --columns decode=output_tokens" in trace.doubts[0]
    chosen = read_trace(tmp_path / "trace", columns="decode=output_tokens")
    assert chosen.decode_tokens.tolist() == [512 + d for d in OUTPUTS]
    assert not chosen.doubts
    same = [{**record, "output_tokens": record["completion_tokens"]} for record in records]
    assert not read_trace(written(tmp_path, same)).doubts


def test_lengths_in_other_units_are_refused(tmp_path):
    usage = {"usage": {"input": 5, "output": 9, "unit": "CHARACTERS"}}
    with pytest.raises(TraceError, match="1 of 1 lengths are in characters, not in tokens"):
        read_trace(written(tmp_path, [{**observation(0, {}), **usage}]))


PAGES: dict[str, tuple[Any, str]] = {
    "langfuse": (
        {"data": records(lambda at, p, d: observation(at, {"input": p, "output": d})),
         "meta": {"page": 1, "limit": 4, "totalPages": 7, "totalItems": 28}},
        "page 1 of 7 only",
    ),
    "two pages, one per line": (
        [{"data": [{"isl": p, "osl": d}] * 2, "meta": {"page": page, "totalPages": 5}}
         for page, (p, d) in enumerate(PAIRS[:2], 1)],
        "2 pages of 5 only",
    ),
    "a count of all": ({"items": records(lambda at, p, d: {"isl": p, "osl": d}), "totalCount": 90},
                       "4 of 90 records only"),
    "openai": ({"object": "list", "data": records(lambda at, p, d: {"isl": p, "osl": d}),
                "has_more": True}, "there is more"),
    "a cursor": ({"runs": records(lambda at, p, d: {"isl": p, "osl": d}),
                  "cursors": {"next": "abc"}}, "names a next page"),
    "elasticsearch": (
        {"timed_out": False, "hits": {"total": {"value": 10000}, "hits": records(
            lambda at, p, d: {"_source": {"prompt_tokens": p, "output_tokens": d}})}},
        "4 of 10,000 records only",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_one_page_of_an_answer_is_said_to_be_one(name, tmp_path):
    content, said = PAGES[name]
    trace = read_trace(written(tmp_path, content))
    assert trace.requests == 4
    assert said in "; ".join(trace.doubts)


@pytest.mark.parametrize(
    "more",
    [
        {"meta": {"page": 1, "totalPages": 1}}, {"has_more": False}, {"next": None},
        {"total": 400, "model": "m"}, {"totalCount": 4}, {"count": 2},
    ],
)  # fmt: skip
def test_whole_answers_are_not_doubted(more, tmp_path):
    content = {"data": records(lambda at, p, d: {"isl": p, "osl": d}), **more}
    assert not read_trace(written(tmp_path, content)).doubts


def guidellm(factor=1):
    requests = [
        {"request_id": f"{factor}-{p}", "prompt_tokens": factor * p, "output_tokens": d,
         "start_time": 1000.0 + p}
        for p, d in PAIRS
    ]  # fmt: skip
    return {"requests": {"successful": requests, "errored": [], "incomplete": []}}


def bench(factor=1, **more):
    lens = [factor * p for p in PROMPTS]
    return {"input_lens": lens, "output_lens": OUTPUTS, "start_times": [1.5, 2, 3, 4],
            "total_input_tokens": sum(lens), "total_output_tokens": 100, **more}  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        {"benchmarks": [guidellm(), guidellm(10)]},
        [{"benchmarks": [guidellm()]}, {"benchmarks": [guidellm(10)]}],
        [bench(), bench(10)],
    ],
    ids=["one report", "two reports", "two results"],
)
def test_each_run_of_a_benchmark_has_its_own_load(content, tmp_path):
    file = written(tmp_path, content)
    pooled = read_trace(file)
    assert pooled.requests == 8
    assert pooled.arrival_times is None
    assert "2 runs of a benchmark are taken together, their arrivals left out" in pooled.doubts[0]
    second = read_trace(file, columns="run=2")
    assert second.prompt_tokens.tolist() == [10 * p for p in PROMPTS]
    assert second.arrival_times is not None
    assert not second.doubts
    with pytest.raises(TraceError, match="run must be one of 1, 2, got 3"):
        read_trace(file, columns="run=3")
    with pytest.raises(TraceError, match="run must be a whole number"):
        read_trace(file, columns="run=fast")


def test_one_run_is_not_doubted(tmp_path):
    for content in ({"benchmarks": [guidellm()]}, bench()):
        assert not read_trace(written(tmp_path, content)).doubts


def test_requests_that_do_not_add_up_to_the_files_own_totals_are_said(tmp_path):
    for key, what in (
        ("total_input_tokens", "1,000 prompt"),
        ("total_output_tokens", "100 output"),
    ):
        (doubt,) = read_trace(written(tmp_path, bench(**{key: 1400}))).doubts
        assert f"have {what} tokens, the file says 1,400" in doubt
    # Failed requests count in some clients' sums and not in others'.
    for total in (1000, 600):
        failed = bench(errors=["", "", "", "Timeout"], total_input_tokens=total)
        failed["total_output_tokens"] = 100 if total == 1000 else 60
        assert not read_trace(written(tmp_path, failed)).doubts
    assert not read_trace(written(tmp_path, bench(total_output_tokens_retokenized=97))).doubts
    (doubt,) = read_trace(written(tmp_path, bench(total_output_tokens_retokenized=2365))).doubts
    assert "counts 2,365 output tokens when it tokenises the texts again, not 100" in doubt


def test_failures_are_told_by_any_column_in_any_format(tmp_path):
    good = [True, True, True, False]
    assert read_trace(written(tmp_path, bench(success=good))).dropped_requests == 1


ROWS = "".join(f"m,2026-01-01 00:00:0{at},{p},{d}\n" for at, (p, d) in enumerate(PAIRS))
SUMS = {
    "total": "Total,,1000,100\n",
    "under the times": ",Total,1000,100\n",
    "average": "Average,,250,25\n",
    "average that is no whole number": "Mean:,,250.5,25.5\n",
    "sum and average": "Sum,,1000,100\nAverage,,250,25\n",
    "largest and least": "max,,400,40\nmin,,100,10\n",
    "of a group": "m Total,,1000,100\nGrand Total,,1000,100\n",
    "german": "Gesamtsumme,,1000,100\n",
    "a label further on": "m,Total,1000,100\n",
    "no labels of sum and average": ",2026-01-01 00:00:09,1000,100\n,2026-01-01 00:00:09,250,25\n",
    "no label": ",2026-01-01 00:00:09,1000,100\n",
    "with a count": "Grand Total (4 rows),,1000,100\n",
}


@pytest.mark.parametrize("name", SUMS)
def test_rows_that_sum_up_are_no_requests(name, tmp_path):
    text = "model,timestamp,prompt_tokens,completion_tokens\n" + ROWS + SUMS[name]
    trace = read_trace(written(tmp_path, text))
    assert trace.prompt_tokens.tolist() == PROMPTS
    assert trace.duration == 3.0
    assert "left out: they sum up the others" in trace.doubts[0]
    assert trace.dropped_requests == 0


def test_requests_with_such_words_stay(tmp_path):
    text = "kind,prompt_tokens,completion_tokens\nsum,9,5\nsum,8,4\naverage,7,3\nsum,6,2\n"
    assert read_trace(written(tmp_path, text)).requests == 4


def test_running_counts_of_a_stream_are_one_request(tmp_path):
    chunks = [
        {"request_id": f"r{at}", "timestamp": 1700000000 + at, "prompt_tokens": p,
         "completion_tokens": k}
        for at, (p, d) in enumerate(PAIRS) for k in (1, d // 2, d)
    ]  # fmt: skip
    for rows in (
        chunks,
        [{**chunk, "request_id": int(chunk["request_id"][1])} for chunk in chunks],
    ):
        trace = read_trace(written(tmp_path, rows))
        assert trace.decode_tokens.tolist() == OUTPUTS
        assert "8 of 12 records left out: earlier counts" in trace.doubts[0]
        assert trace.dropped_requests == 0
    openai = [
        {"id": chunk["request_id"], "object": "chat.completion.chunk", "created": 1700000000,
         "usage": {"prompt_tokens": chunk["prompt_tokens"],
                   "completion_tokens": chunk["completion_tokens"]}}
        for chunk in chunks
    ]  # fmt: skip
    assert read_trace(written(tmp_path, openai)).decode_tokens.tolist() == OUTPUTS


def test_ids_of_something_else_make_no_streams(tmp_path):
    turns = [{"id": "a", "isl": 10, "osl": 5}, {"id": "a", "isl": 30, "osl": 9}]
    assert read_trace(written(tmp_path, turns)).requests == 2
    again = [{"id": "a", "isl": 10, "osl": 9}, {"id": "a", "isl": 10, "osl": 5}]
    assert read_trace(written(tmp_path, again)).requests == 2
    inside = [{"id": "a", "calls": [{"isl": 10, "osl": 5}, {"isl": 10, "osl": 9}]}]
    assert read_trace(written(tmp_path, inside)).requests == 2


WRITTEN = {
    "commas": ('isl,osl\n"1,100",10\n"1,200",20\n900,30\n', [1100, 1200, 900]),
    "points": ("isl;osl\n1.100;10\n1.200;20\n", [1100, 1200]),
    "spaces": ("isl;osl\n1 100;10\n1 200;20\n", [1100, 1200]),
    "apostrophes": ("isl;osl\n1'100;10\n12'000;20\n", [1100, 12000]),
    "twice": ("isl,osl\n1.234.567,10\n200.000,20\n", [1234567, 200000]),
    "decimal commas": ("isl;osl\n100,0;10,0\n200,0;20,0\n", [100, 200]),
    "decimal points": ("isl,osl\n100.0,10.0\n12345.000,20\n", [100, 12345]),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_numbers_as_people_and_spreadsheets_write_them(name, tmp_path):
    text, prompts = WRITTEN[name]
    assert read_trace(written(tmp_path, text)).prompt_tokens.tolist() == prompts


@pytest.mark.parametrize("rows", ["1.000;10\n2.000;20\n", "1,000;10\n2,000;20\n"])
def test_thousands_or_decimals_is_asked(rows, tmp_path):
    with pytest.raises(TraceError, match="may have three decimals or be thousands"):
        read_trace(written(tmp_path, "isl;osl\n" + rows))


def test_several_models_are_said(tmp_path):
    rows = records(lambda at, p, d: {"model": "a" if at else "b", "isl": p, "osl": d})
    (doubt,) = read_trace(written(tmp_path, rows)).doubts
    assert "requests of 2 models are taken together (a 75 %, b 25 %, column 'model')" in doubt
    assert not read_trace(written(tmp_path, rows[1:])).doubts


SIGNS = {
    "http_status": (200, 429), "outcome": ("success", "error"), "result": ("ok", "failed"),
    "exception": (None, "Timeout()"), "is_complete": (True, False), "finished": ("true", "false"),
    "failure_reason": ("", "preempted"), "response_code": ("200", "503"),
}  # fmt: skip


@pytest.mark.parametrize("name", SIGNS)
def test_failures_are_told_by_signs_of_any_name(name, tmp_path):
    good, bad = SIGNS[name]
    rows = records(lambda at, p, d: {"isl": p, "osl": d, name: bad if at == 2 else good})
    trace = read_trace(written(tmp_path, rows))
    assert trace.prompt_tokens.tolist() == [100, 200, 400]
    assert trace.dropped_requests == 1


SEVERAL = {
    "count": "how many requests a row stands for", "weight": "how many requests",
    "frequency": "how many requests", "requests": "how many requests", "n": "several answers",
    "best_of": "several answers",
}  # fmt: skip


@pytest.mark.parametrize("name", SEVERAL)
def test_rows_that_may_stand_for_several_are_said(name, tmp_path):
    rows = records(lambda at, p, d: {"isl": p, "osl": d, name: 7 - 2 * at})
    (doubt,) = read_trace(written(tmp_path, rows)).doubts
    assert SEVERAL[name] in doubt
    index = records(lambda at, p, d: {"isl": p, "osl": d, name: at})
    assert not read_trace(written(tmp_path, index)).doubts
    ones = records(lambda at, p, d: {"isl": p, "osl": d, name: 1})
    assert not read_trace(written(tmp_path, ones)).doubts


def test_several_choices_of_an_answer_are_said(tmp_path):
    usage = {"prompt_tokens": 9, "completion_tokens": 20}
    rows = [{"usage": usage, "choices": [{"index": k} for k in range(n)]} for n in (1, 3)]
    (doubt,) = read_trace(written(tmp_path, rows)).doubts
    assert "2 records hold 4 choices" in doubt
    assert not read_trace(written(tmp_path, rows[:1])).doubts


def test_events_and_attempts_of_one_request_count_once(tmp_path):
    done = [{"rid": f"r{p}", "prompt_tokens": p, "completion_tokens": d} for p, d in PAIRS]
    events = [{"rid": record["rid"], "event": "received"} for record in done]
    for rows in (events + done, done + events):
        trace = read_trace(written(tmp_path, rows))
        assert trace.decode_tokens.tolist() == OUTPUTS
        assert trace.dropped_requests == 0
    retried = [{**done[0], "completion_tokens": 0}, *done]
    assert read_trace(written(tmp_path, retried)).dropped_requests == 0


def test_pieces_of_outputs_are_said(tmp_path):
    pieces = [
        {"request_id": f"r{p}", "ts": 1700000000.5 + k, "prompt_tokens": p, "completion_tokens": 1}
        for p in PROMPTS for k in range(5)
    ]  # fmt: skip
    doubts = read_trace(written(tmp_path, pieces)).doubts
    assert "16 records were left out as repeats though their times differ" in doubts[0]
    # The same export twice has the same times.
    twice = [{**piece, "request_id": f"{piece}"} for piece in pieces] * 2
    assert not read_trace(written(tmp_path, twice)).doubts


def test_days_of_a_spreadsheet_are_no_seconds(tmp_path):
    file = written(tmp_path, "timestamp,isl,osl\n46054.25,1,2\n46054.5,3,4\n")
    with pytest.raises(TraceError, match="may be seconds or the days of a spreadsheet"):
        read_trace(file)
    assert read_trace(file, columns="unit=s").duration == 0.25


def test_json_values_one_after_another_are_refused_with_what_to_do(tmp_path):
    text = json.dumps({"requests": [{"isl": 5, "osl": 2}]}, indent=1) * 2
    with pytest.raises(TraceError, match="holds another JSON value from line 8 on: write one"):
        read_trace(written(tmp_path, text))


@pytest.mark.parametrize("column", ["quantile", "percentile", "cdf"])
def test_quantiles_are_no_requests(column, tmp_path):
    text = f"isl,osl,{column}\n100,10,0.5\n200,20,0.9\n300,30,0.99\n"
    with pytest.raises(TraceError, match="says that rows are quantiles or shares, no requests"):
        read_trace(written(tmp_path, text))


@pytest.mark.parametrize("column", ["probability", "share", "fraction"])
def test_shares_of_a_distribution_are_no_requests(column, tmp_path):
    for rows in ("100,10,0.5\n200,20,0.3\n300,30,0.2\n", "100,10,70\n200,20,30\n"):
        with pytest.raises(TraceError, match="says that rows are quantiles or shares"):
            read_trace(written(tmp_path, f"isl,osl,{column}\n" + rows))
    odd = f"isl,osl,{column}\n100,10,0.9\n200,20,0.8\n300,30,0.7\n"
    assert read_trace(written(tmp_path, odd)).requests == 3


def test_records_of_another_service_are_said(tmp_path):
    openai = [{"usage": {"prompt_tokens": p, "completion_tokens": d}} for p, d in PAIRS]
    others = {
        "usage.input_tokens": [
            {"usage": {"input_tokens": p, "output_tokens": d}} for p, d in PAIRS[:2]
        ],
        "usageMetadata.promptTokenCount": [
            {"usageMetadata": {"promptTokenCount": p, "candidatesTokenCount": d}}
            for p, d in PAIRS[:2]
        ],
    }
    for column, more in others.items():
        doubts = read_trace(written(tmp_path, [*openai, *more])).doubts
        said = "; ".join(doubts)
        assert "records are left out: their lengths stand in other columns" in said
        assert column in said or "usage.prompt_tokens" in said
    assert not read_trace(written(tmp_path, [*openai, {"event": "x"}])).doubts


def test_counters_that_only_grow_are_said(tmp_path):
    rows = [{"timestamp": 1700000000 + k, "isl": 100 * k * k, "osl": 10 * k} for k in range(1, 12)]
    (doubt,) = read_trace(written(tmp_path, rows)).doubts
    assert "running sums of a counter" in doubt
    assert not read_trace(written(tmp_path, [*rows, rows[0]])).doubts


def test_lengths_in_a_column_of_other_units(tmp_path):
    with pytest.raises(TraceError, match="in characters, not in tokens"):
        read_trace(written(tmp_path, "isl,osl,unit\n9,5,characters\n8,4,characters\n"))
    assert read_trace(written(tmp_path, "isl,osl,unit\n9,5,USD\n8,4,USD\n")).requests == 2


def test_json_as_text_is_told(tmp_path):
    text = 'id,usage\n1,"{""prompt_tokens"": 5, ""completion_tokens"": 2}"\n'
    with pytest.raises(TraceError, match="column 'usage' holds JSON as text: export"):
        read_trace(written(tmp_path, text))


def test_billed_tokens_are_said(tmp_path):
    rows = [{"meta": {"billed_units": {"input_tokens": 5, "output_tokens": 2}}}]
    assert "billed tokens" in read_trace(written(tmp_path, rows)).doubts[0]
