"""The command `afdplan workload`: contract of the JSON, text, pictures, one-line refusals."""

import io
import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest

from afdplan.cli import main

HEADER = "arrived_at,num_prefill_tokens,num_decode_tokens"


def run(*arguments, encoding="utf-8", columns="80"):
    """Run the command in this process, with streams of that encoding."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    with (
        mock.patch.object(sys, "argv", ["afdplan", "workload", *arguments]),
        mock.patch.object(sys, "stdout", out),
        mock.patch.object(sys, "stderr", err),
        mock.patch.dict(os.environ, {"COLUMNS": columns}),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    for stream in (out, err):
        stream.flush()
    return SimpleNamespace(
        returncode=ended.value.code, stdout=out.buffer.getvalue(), stderr=err.buffer.getvalue()
    )


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    generator = np.random.default_rng(1)
    rows = zip(
        np.cumsum(generator.exponential(0.3, 800)),
        generator.integers(1, 3000, 800),
        generator.integers(1, 700, 800),
        strict=True,
    )
    file = tmp_path_factory.mktemp("traces") / "requests.csv"
    file.write_text("\n".join([HEADER, *(f"{t:.6f},{p},{d}" for t, p, d in rows)]) + "\n")
    return file


def test_json_has_the_names_of_the_contract(trace):
    done = run(str(trace), "--json", "--confidence", "0.9")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["schema_version"] == 1
    assert answer["time_unit"] == "s"
    assert answer["inputs"]["trace"] == str(trace)
    assert answer["requests"] == 800
    load = answer["token_load"]
    assert load["mean_low"] < load["mean"] < load["mean_high"]
    assert load["confidence"] == 0.9
    assert sum(answer["token_load_split"].values()) == pytest.approx(load["mean"], rel=1e-9)
    assert answer["prompt_tokens"]["p50"] == pytest.approx(1500, rel=0.1)
    assert sum(w["requests"] for w in answer["drift"]["windows"]) == 800
    assert answer["arrivals"]["interarrival_variation"] == pytest.approx(1, abs=0.2)
    assert any("1 % would take" in warning for warning in answer["warnings"])


def test_the_trace_may_be_named_either_way(trace):
    one, other = run(str(trace), "--json"), run("--trace", str(trace), "--json")
    assert same(one) == same(other)
    assert json.loads(one.stdout)["command"] != json.loads(other.stdout)["command"]


def same(done):
    return {k: v for k, v in json.loads(done.stdout).items() if k != "command"}


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("columns", ["80", "40", "200"])
def test_text_fits_every_terminal(trace, encoding, columns):
    done = run(str(trace), encoding=encoding, columns=columns)
    assert done.returncode == 0, done.stderr
    assert b"Mean token load" in done.stdout
    assert done.stderr == b""
    text = done.stdout.decode(encoding)
    assert "…" not in text
    assert all(len(line) <= max(int(columns), 80) for line in text.splitlines())


def test_laws_are_exact_and_have_no_requests():
    done = run("--prompt", "geometric:100", "--decode", "geometric:500", "--json")
    answer = json.loads(done.stdout)
    assert answer["requests"] is None
    load = answer["token_load"]
    assert load["mean"] == pytest.approx(599)
    assert load["mean_low"] == load["mean"] == load["mean_high"]
    assert load["confidence"] == 1.0
    text = run("--prompt", "100", "--decode", "64").stdout.decode()
    assert "exact" in text
    assert "every output has 64 tokens" in " ".join(text.split())


@pytest.mark.parametrize("row", ["0,1", "100,64", "10000000,10000000"])
@pytest.mark.parametrize("rows", [2, 300])
def test_requests_all_alike_and_extreme_lengths_give_finite_numbers(tmp_path, row, rows):
    file = tmp_path / "alike.csv"
    file.write_text("\n".join([HEADER, *(f"{0.3 * i**1.1:.3f},{row}" for i in range(rows))]) + "\n")
    answer = json.loads(run(str(file), "--json").stdout)  # NaN and infinity are no JSON here
    prompt, decode = map(int, row.split(","))
    load = answer["token_load"]
    assert load["mean_low"] == load["mean"] == load["mean_high"]
    assert load["mean"] == pytest.approx(prompt + (decode - 1) / 2, rel=1e-12)
    assert not answer["drift"]["exceeds_interval"]
    text = run(str(file)).stdout.decode()
    assert "all requests alike" in text
    assert "inf" not in text
    assert "nan" not in text


@pytest.mark.parametrize("name", ["load.png", "load.svg"])
def test_plot_writes_a_picture_and_says_so_on_standard_error(trace, tmp_path, name):
    target = tmp_path / name
    done = run(str(trace), "--json", "--plot", str(target))
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    assert name.encode() in done.stderr
    content = target.read_bytes()
    assert content.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "--trace FILE"),
        (("a.csv", "--trace", "b.csv"), 2, "once"),
        (("a.csv", "--prompt", "3"), 2, "not both"),
        (("--prompt", "3"), 2, "--decode"),
        (("no-such-file.csv",), 1, "no-such-file.csv"),
        (("TRACE", "--confidence", "1"), 1, "--confidence must be < 1"),
        (("TRACE", "--plot", "picture.gif"), 1, ".png or .svg"),
        (("TRACE", "--plot", "no-such-folder/picture.png"), 1, "cannot write"),
        (("ONE",), 1, "at least 2 requests"),
    ],
)
def test_bad_use_is_refused_in_one_line(trace, tmp_path, arguments, code, words):
    one = tmp_path / "one.csv"
    one.write_text(f"{HEADER}\n0.5,100,10\n")
    named = {"TRACE": str(trace), "ONE": str(one)}
    done = run(*(named.get(argument, argument) for argument in arguments))
    error = done.stderr.decode()
    assert done.returncode == code, error
    assert words in error
    assert "Traceback" not in error
    assert done.stdout == b""
    if code == 1:
        assert error.count("\n") == 1


def test_counts_of_a_server_stand_for_a_trace():
    counts = Path(__file__).parents[1] / "samples/metrics/vllm-0.32.0-after-bench.prom"
    done = run("--trace", str(counts), "--format", "prometheus", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    text = counts.read_text()
    for name, key in (("prompt", "mean_prompt_tokens"), ("generation", "mean_decode_tokens")):
        total, count = (
            float(re.search(rf"^vllm:request_{name}_tokens_{part}{{.*?}} (\S+)$", text, re.M)[1])
            for part in ("sum", "count")
        )
        assert answer[key] == pytest.approx(total / count, rel=0.02)
    assert any("paired at random" in note for note in answer["inputs"]["notes"])
    for columns in ("prompt=a,decode=b", ""):
        refused = run("--trace", str(counts), "--format", "prometheus", "--columns", columns)
        assert refused.returncode == 2


@pytest.mark.parametrize(("prompt", "batch"), [(2_000, 128), (40_000, None), (3_000_000, 0)])
def test_the_ratio_that_is_told_to_come_next_fits_the_memory(tmp_path, prompt, batch):
    """A batch that does not fit is made smaller; where one request does not, none is told."""
    file = tmp_path / "requests.csv"
    rows = "".join(f"{k},{prompt + k % 7},{20 + k % 5}\n" for k in range(60))
    file.write_text(f"{HEADER}\n{rows}")
    done = run(str(file), columns="300")
    found = re.search(r"--batch-size (\d+)", done.stdout.decode())
    if batch == 0:
        assert found is None
        return
    told = int(found[1])
    assert told == batch if batch else 1 <= told < 128
    line = ["ratio", "--trace", str(file), "--model", "deepseek-v3", "--hardware", "h200"]
    for size, fits in ((told, True), *(() if batch else ((told + 1, False),))):
        command = ["afdplan", *line, "--batch-size", str(size)]
        with mock.patch.object(sys, "argv", command), pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code == 0) == fits
