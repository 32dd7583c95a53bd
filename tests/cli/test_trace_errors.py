"""Every way in which a trace can be bad gives one line: what, where, which rule, what to do."""

from __future__ import annotations

import errno
import gzip
import re
import sys
from pathlib import Path

import polars as pl
import pytest

from afdplan.errors import TraceError
from afdplan.files.traces.reader import read_trace
from tests.cli.invoke import invoke

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

HEAD = "isl,osl\n"
JSON = '{"isl":1,"osl":2}\n'
LONG = (HEAD + "1,2\n" * 99999).encode()
DEEP = "[" * 200_000

# what is wrong: (content, what the message must say)
BAD: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "is empty"),
    "only blank": ("\n \n", "is empty"),
    "byte order mark only": ("\ufeff", "is empty"),
    "header only": (HEAD, "no rows"),
    "no header": ("0.1,2,3\n0.2,3,4\n", "has no header"),
    "binary": (bytes(range(256)) * 9, "is binary"),
    "zip": (b"PK\x03\x04" + b"x" * 99, "zip archive"),
    "utf-16": (HEAD.encode("utf-16"), "UTF-16"),
    "cut gzip": (gzip.compress(LONG)[:-30], "gzip data is cut short or damaged"),
    "cut zstd": (zstd.compress(LONG)[:-9], "zstd data is cut short or damaged"),
    "damaged gzip": (b"\x1f\x8b" + b"x" * 99, "gzip data is cut short or damaged"),
    "gzip of nothing": (gzip.compress(b""), "is empty"),
    "cut parquet": (b"PAR1" + b"x" * 99, "Parquet file cut short or damaged"),
    "unknown columns": ("foo,bar\n1,2\n", r"'foo', 'bar'; say which with --columns prompt="),
    "misspelt columns": (
        "promt_tokens,ouput_tokens\n1,2\n",
        "--columns prompt=promt_tokens,decode=ouput_tokens",
    ),
    "a column for everything": (
        ",".join(f"c{k}" for k in range(1001)) + "\n" + "1," * 1000 + "1\n",
        "a trace has at most 1,000 columns, got 1,001: keep those of lengths",
    ),
    "twice the same column": ("isl,isl,osl\n1,2,3\n", "'isl' is there 2 times"),
    "negative": (HEAD + "1,2\n-1,2\n", r"row 2 \(line 3\), column 'isl'.* got -1"),
    "negative output": (HEAD + "1,2\n1,-2\n", r"row 2 \(line 3\), column 'osl'.* got -2"),
    "nan": (HEAD + "1,2\nNaN,2\n", r"row 2 \(line 3\), column 'isl'.* got nan"),
    "infinite": (HEAD + "1,2\n1,inf\n", r"row 2 \(line 3\), column 'osl'.* got inf"),
    "fraction": (HEAD + "1,2\n1,2.5\n", r"row 2 \(line 3\), column 'osl'.* got 2.5"),
    "absurd": (HEAD + "1,2\n10000001,2\n", r"row 2 \(line 3\).* 0 to 10000000, got 10000001"),
    "huge": (HEAD + "1,2\n1e30,2\n", r"row 2 \(line 3\).* got 1e\+30"),
    "many digits": (HEAD + "1" * 400 + ",2\n", r"row 1 \(line 2\)"),
    "text": (HEAD + "1,2\nabc,2\n", r"row 2 \(line 3\), column 'isl'.* got 'abc'"),
    "prompt missing": (HEAD + "1,2\n,3\n", r"row 2 \(line 3\), column 'isl'.* got nothing"),
    "after quoted newlines": ('t,isl,osl\n"a\nb",1,2\n"c",x,2\n', r"row 2 \(line 4\)"),
    "after blank lines": (HEAD + "\n1,2\n\nx,2\n", r"row 2 \(line 5\)"),
    "open quote": ('isl,osl,t\n1,2,"a\n2,3,b\n', "check its quotes|fields"),
    "too many fields": (HEAD + "1,2\n1,234,5\n", r"row 2 \(line 3\).* 2 fields, got 3"),
    "too many, unused": ("isl,osl,x\n1,2,3\n1,234,5,6\n", r"row 2 \(line 3\).* 3 fields, got 4"),
    "cut last row": ("t,isl,osl\n1,2,3\n2,3", r"row 2 \(line 3\).* 3 fields, got 2"),
    "no outputs": (HEAD + "1,0\n2,\n", "none of 2 requests has an output"),
    "mixed units": (
        "timestamp,isl,osl\n1700000000,1,2\n1700000001000,1,2\n",
        r"row 2 \(line 3\), column 'timestamp': all arrivals must have one unit",
    ),
    "mixed formats": (
        "timestamp,isl,osl\n2023-11-16 18:17:03,1,2\n5,1,2\n",
        r"row 2 \(line 3\), column 'timestamp': all arrivals must have one format",
    ),
    "mixed zones": (
        "timestamp,isl,osl\n2023-11-16 18:17:03,1,2\n2023-11-16 18:17:03Z,1,2\n",
        "must name a time zone or none",
    ),
    "no ISO date": ("timestamp,isl,osl\nNov 16 at 18:17,1,2\n", "got 'Nov 16 at 18:17'"),
    "no such month": ("timestamp,isl,osl\n2023-13-16 18:17:03,1,2\n", r"row 1 \(line 2\)"),
    "odd date further down": (
        "timestamp,isl,osl\n2023-12-16 18:17:03,1,2\nyesterday,1,2\n",
        r"row 2 \(line 3\).* got 'yesterday'",
    ),
    "infinite arrival": ("arrival,isl,osl\n0,1,2\ninf,1,2\n", "must be finite, got inf"),
    "a clock in nanoseconds": (
        "time,isl,osl\n500000000000000,1,2\n500009000000000,1,2\n",
        "say the unit with --columns unit=ms",
    ),
    "line breaks in names": ('"x\noutput_le\n","b\n"\n1,2\n', "no column is known"),
    "json of numbers": ("[1,2]", "must be an object"),
    "json with a number": ('[{"isl":1,"osl":2}, 5]', "must be an object"),
    "json without requests": ("[]", "holds no requests"),
    "json cut": ('[{"isl":1,"osl":2},\n{"is', "cut short in line 2"),
    "json of one cut line": ('{"isl":1,"os', "cut short in line 1"),
    "json nested too deep": ('{"a":' + DEEP, "nested too deeply"),
    "json line nested too deep": (JSON + '{"isl":1,"osl":2,"a":' + DEEP + "\n", "line 2"),
    "json line cut": (JSON + JSON + '{"isl":1,"os', "line 3: is cut short"),
    "json line broken": (JSON + '{"isl":1 "osl":2}\n' + JSON, "line 2: is no JSON record"),
    "first json line broken": ('{"isl":1 "osl":2}\n' + JSON, "line 1: is no JSON record"),
    "json line no object": (JSON + "7\n", "line 2: is no JSON record"),
    "late json line cut": (JSON * 1500 + '{"isl":1,"os', "line 1501: is cut short"),
    "json text": (JSON + '{"isl":"x","osl":2}\n', r"row 2 \(line 2\), column 'isl'.* got 'x'"),
    "json nan": (JSON + '{"isl":NaN,"osl":2}\n', r"row 2 \(line 2\), column 'isl'.* got nan"),
    "json list": (JSON + '{"isl":[3],"osl":2}\n', r"row 2 \(line 2\), column 'isl'"),
    "json huge": (JSON + JSON.replace("1", "1" + "0" * 40), r"row 2 \(line 2\).* got 1e\+40"),
    "json true": (JSON + '{"isl":true,"osl":2}\n', r"row 2 \(line 2\).* got 'True'"),
    "bench arrays differ": ('{"input_lens":[1],"output_lens":[1,2]}', "1 and 2"),
    "bench arrays cut": ('{"input_lens":[1,2],"output_lens":[1', "cut short in line 1"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_trace_is_one_line_that_names_the_mend(what, tmp_path):
    content, expected = BAD[what]
    file = tmp_path / "trace.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TraceError) as caught:
        read_trace(file)
    message = str(caught.value)
    assert re.search(expected, message)
    assert str(file) in message
    assert "\n" not in message
    assert len(message) < 400 + len(str(file))
    assert "polars" not in message.lower()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"format": "mooncak"}, "got 'mooncak'; nearest: mooncake"),
        ({"format": "mooncake"}, "format mooncake needs columns"),
        ({"columns": "prompt=ils"}, r"no column 'ils'; did you mean prompt=isl\?"),
        ({"columns": "nonsense"}, "must look like prompt=NAME"),
        ({"columns": "prompts=isl"}, "got 'prompts'"),
        ({"columns": "prompt=isl,prompt=osl"}, "exactly one name"),
        ({"columns": "prompt=isl,unit=hours"}, "unit must be one of"),
        ({"columns": {"decode": ""}}, "exactly one name"),
    ],
)
def test_bad_options_are_one_line(options, expected, tmp_path):
    file = tmp_path / "trace.csv"
    file.write_text(HEAD + "1,2\n")
    with pytest.raises(TraceError, match=expected) as caught:
        read_trace(file, **options)
    assert "\n" not in str(caught.value)


def test_missing_file_directory_and_odd_name(tmp_path):
    with pytest.raises(TraceError, match="there is no file"):
        read_trace(tmp_path / "missing.csv")
    with pytest.raises(TraceError, match="is a directory"):
        read_trace(tmp_path)
    with pytest.raises(TraceError, match=r"cannot read .*: embedded null byte"):
        read_trace("a\0b")


def test_file_without_permission(tmp_path, monkeypatch):
    file = tmp_path / "trace.csv"
    file.write_text(HEAD + "1,2\n")

    def refuse(*_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root, who runs many tests, may read everything
    with pytest.raises(TraceError, match=r"cannot read .*permission denied"):
        read_trace(file)


def test_parquet_columns_of_a_wrong_kind(tmp_path):
    file = tmp_path / "trace.parquet"
    pl.DataFrame({"isl": [[1], [2]], "osl": [1, 2]}).write_parquet(file)
    with pytest.raises(TraceError, match="whole number of tokens, the column holds List"):
        read_trace(file)
    pl.DataFrame({"isl": [1.0, float("nan")], "osl": [1, 2]}).write_parquet(file)
    with pytest.raises(TraceError, match=r"row 2, column 'isl'.* got nan"):
        read_trace(file)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(TraceError, match="cut short or damaged"):
        read_trace(file)


def test_failed_rows_may_hold_anything_but_a_false_length(tmp_path):
    file = tmp_path / "trace.csv"
    file.write_text("isl,osl,error\n1,2,\n,,boom\n3,0,\n4,5,timeout\n6,7,None\n")
    trace = read_trace(file)
    assert trace.prompt_tokens.tolist() == [1, 6]
    assert trace.dropped_requests == 3


@pytest.mark.parametrize("columns", ["prompt=tokens,decode=tokens", "decode=prompt_tokens"])
def test_one_column_is_not_both_lengths(tmp_path, columns):
    path = tmp_path / "one.csv"
    path.write_text("prompt_tokens,tokens\n10,20\n30,40\n")
    outcome = invoke("workload", path, "--columns", columns)
    assert outcome.code == 1
    assert "must be two columns" in outcome.error_line


def test_the_advice_for_one_column_is_not_refused_itself(tmp_path):
    path = tmp_path / "one.csv"
    path.write_text("prompt_tokens\n10\n30\n")
    line = invoke("workload", path).error_line
    assert line.endswith("--columns prompt=prompt_tokens,decode=NAME")


def test_day_first_dates_by_time_format(tmp_path):
    file = tmp_path / "days.csv"
    file.write_text("timestamp,isl,osl\n2/1/2026 10:00:00,10,2\n3/1/2026 10:00:00,30,4\n")
    refused = invoke("workload", file)
    assert refused.code == 1
    assert "--time-format" in refused.error_line
    form = "%d/%m/%Y %H:%M:%S"
    told = invoke("workload", file, "--time-format", form, "--json").document
    assert told["inputs"]["time_format"] == form
    assert told["arrivals"]["duration"] == 86400.0
    none = invoke("workload", file, "--columns", "arrival=none", "--json").document
    assert none["arrivals"] is None
    alone = invoke("ratio", "--prompt", "9", "--decode", "9", "--time-format", form)
    assert alone.code == 2
    odd = invoke("workload", file, "--time-format", "\udcff%Y")
    assert "is not understood" in odd.error_line


def test_requests_without_load_cost_one_line(tmp_path):
    file = tmp_path / "nothing.csv"
    file.write_text("isl,osl\n" + "0,1\n" * 50)
    for command in (
        ("workload", file),
        ("ratio", "--trace", file, "--latency", "deepseek-v3-ascend-910c", "--batch-size", "8"),
        (
            "plan",
            "--trace",
            file,
            "--model",
            "deepseek-v3",
            "--hardware",
            "h200",
            "--devices",
            "16",
        ),
    ):
        outcome = invoke(*command)
        assert outcome.code in (0, 1)
        assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("metrics/prometheus-2.42-query.json", "afdplan check --metrics reads it"),
        ("metrics/prometheus-2.42-increase.json", "afdplan check --metrics reads it"),
        ("logs/sglang-0.5.23-swa.log", "afdplan calibrate reads the times of its steps"),
        ("logs/sglang_dp_ranks.log", "afdplan calibrate reads the times of its steps"),
    ],
)
def test_answers_and_logs_given_as_a_trace_say_who_reads_them(file, told):
    outcome = invoke("workload", Path(__file__).parents[1] / "samples" / file)
    assert outcome.code == 1
    assert told in outcome.error_line


def test_metrics_given_as_a_trace_say_where_they_belong():
    samples = Path(__file__).parents[1] / "samples"
    outcome = invoke("workload", samples / "vllm_metrics.prom")
    assert outcome.code == 1
    assert "calibrate --to-trace" in outcome.error_line
    outcome = invoke("workload", samples / "logs" / "sglang_disagg.log")
    assert outcome.code == 1
