from __future__ import annotations

import gzip

import pytest

from afdplan.files.traces.example import example_trace_path
from tests.cli.invoke import invoke

NAME = "deepseek-v3-ascend-910c"
LAWS = ("--prompt", "geometric:100", "--decode", "geometric:500")
BASE = (*LAWS, "--latency", NAME, "--batch-size", 256)

HEAD = {"schema_version", "afdplan_version", "time_unit", "inputs", "warnings"}
ANSWER = {
    "optimal_ratio",
    "optimal_attention_workers",
    "bottleneck",
    "attention_bound_ratio",
    "communication_bound_ratio",
    "interior_ratio",
    "mean_token_load",
    "curve",
}
POINT = {
    "attention_workers",
    "cycle_time",
    "step_time",
    "objective",
    "throughput_per_instance",
    "regret",
    "attention_idle_fraction",
    "ffn_idle_fraction",
}


def test_json_holds_the_contract():
    document = invoke("ratio", *BASE, "--json").document
    assert set(document) >= HEAD | ANSWER
    assert document["time_unit"] == "abstract"
    assert document["optimal_attention_workers"] == 7
    assert document["inputs"]["overlap"] == "pipelined"
    assert document["inputs"]["microbatches"] == 2
    assert document["inputs"]["method"] == "exact"
    assert [p["attention_workers"] for p in document["curve"]] == list(range(1, 65))
    assert set(document["curve"][0]) == POINT
    point = document["curve"][6]
    tokens = 7 * 2 * 256 / point["step_time"]
    assert point["throughput_per_instance"] == pytest.approx(tokens / 8)
    assert point["step_time"] == pytest.approx(2 * point["cycle_time"])


def test_requests_per_worker_is_m_times_the_batch():
    one = invoke("ratio", *BASE, "--microbatches", 3, "--json").document
    same = (*LAWS, "--latency", NAME, "--requests-per-worker", 768, "--microbatches", 3)
    other = invoke("ratio", *same, "--json").document
    assert one["curve"] == other["curve"]


def test_ffn_weight_enters_the_objective_only():
    plain = invoke("ratio", *BASE, "--json").document
    dear = invoke("ratio", *BASE, "--ffn-weight", 3, "--json").document
    assert dear["optimal_ratio"] > plain["optimal_ratio"]
    for one, other in zip(plain["curve"], dear["curve"], strict=True):
        assert one["throughput_per_instance"] == other["throughput_per_instance"]
        count = one["attention_workers"]
        assert other["objective"] == pytest.approx(one["objective"] * (count + 1) / (count + 3))


def test_a_trace_gives_an_interval_and_its_order_changes_nothing_else(tmp_path):
    path = tmp_path / "trace.csv"
    rows = gzip.decompress(example_trace_path().read_bytes()).decode().splitlines()
    path.write_text("\n".join([rows[0], *rows[1:3001]]))
    command = ("--latency", NAME, "--batch-size", 64, "--json")
    document = invoke("ratio", "--trace", path, *command).document
    uncertainty = document["uncertainty"]
    assert uncertainty["token_load"]["low"] < document["mean_token_load"]
    assert uncertainty["low"] <= document["optimal_attention_workers"] <= uncertainty["high"]
    assert document["inputs"]["requests"] == 3000


def test_model_and_hardware_stand_in_for_a_latency_file():
    command = ("--model", "deepseek-ai/DeepSeek-V3", "--hardware", "h200", "--batch-size", 64)
    document = invoke("ratio", *LAWS, *command, "--json").document
    assert document["time_unit"] == "s"
    assert document["inputs"]["ffn_weight"] == 8  # eight devices of experts, one of attention
    assert len(document["inputs"]["latency"]["assumptions"]) > 3
    text = invoke("ratio", *LAWS, *command, "--full").out
    words = " ".join(text.split())
    for assumption in document["inputs"]["latency"]["assumptions"]:
        assert f"assumed: {assumption}" in words
    assert " ms" in text


def test_text_says_the_answer_first_and_fits_the_terminal():
    text = invoke("ratio", *BASE, "--full").out
    assert " ".join(text.split()).startswith(
        "Use 7 attention workers with 1 FFN worker: the slowest attention worker sets the pace, "
        "and 7 to 8 are within 1 % of the best."
    )
    assert max(map(len, text.splitlines())) <= 80
    for words in (
        "Throughput",
        "Cycle time",
        "Idle",
        "Cost of the barrier",
        "Real optimum",
        "best",
    ):
        assert words in text


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plot_is_written_whole(tmp_path, suffix):
    target = tmp_path / f"curve.{suffix}"
    assert invoke("ratio", *BASE, "--plot", target).code == 0
    start = target.read_bytes()[:8]
    assert start.startswith(b"\x89PNG" if suffix == "png" else b"<?xml")
    assert [p.name for p in tmp_path.iterdir()] == [target.name]


def test_a_trace_that_cannot_be_trusted_is_said_so(tmp_path):
    path = tmp_path / "outlier.csv"
    path.write_text("prompt,decode\n" + "10,5\n" * 30 + "100000,5000\n7,0\n")
    command = ("ratio", "--trace", path, "--latency", NAME, "--batch-size", 8)
    warnings = invoke(*command, "--json").document["warnings"]
    assert any("alone carries" in warning for warning in warnings)
    text = invoke(*command, "--full").out
    assert "31 requests" in text
    assert "1 dropped" in text


def test_mean_field_has_no_percentiles():
    document = invoke("ratio", *BASE, "--method", "mean-field", "--json").document
    assert set(document["step_time"]) == {"mean"}
    assert "p99" not in invoke("ratio", *BASE, "--method", "mean-field").out


def test_ideal_overlap_counts_one_microbatch():
    ignored = ("--overlap", "ideal", "--microbatches", 8)
    document = invoke("ratio", *BASE, *ignored, "--json").document
    assert document["bundle"]["microbatches"] == 1
    assert document["inputs"]["requests_per_attention_worker"] == 256
    point = document["curve"][0]
    assert point["step_time"] == pytest.approx(point["cycle_time"])


def test_one_request_has_an_answer_without_interval(tmp_path):
    path = tmp_path / "one.csv"
    path.write_text("prompt,decode\n100,3000\n")
    document = invoke(
        "ratio", "--trace", path, "--latency", NAME, "--batch-size", 8, "--json"
    ).document
    assert document["uncertainty"] is None
    assert any("interval" in warning for warning in document["warnings"])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((*LAWS, "--latency", NAME), 2, "--batch-size"),
        ((*BASE, "--requests-per-worker", 512), 2, "one of --batch-size"),
        ((*LAWS, "--latency", NAME, "--requests-per-worker", 7), 2, "multiple"),
        ((*LAWS, "--latency", NAME, "--batch-size", 0), 1, "--batch-size"),
        ((*LAWS, "--latency", NAME, "--batch-size", 10**9), 1, "--batch-size"),
        (
            ("--prompt", 100, "--decode", "geometric:0", "--latency", NAME, "--batch-size", 8),
            1,
            "'geometric:0'",
        ),
        ((*LAWS, "--latency", NAME, "--batch-size", "many"), 2, "--batch-size"),
        (("--latency", NAME, "--batch-size", 8), 2, "--trace"),
        (("--prompt", "100", "--latency", NAME, "--batch-size", 8), 2, "--decode"),
        ((*BASE, "--trace", "x.csv"), 2, "not both"),
        ((*BASE, "--columns", "prompt=a"), 2, "--trace"),
        ((*LAWS, "--batch-size", 8), 2, "--latency"),
        ((*LAWS, "--batch-size", 8, "--model", "deepseek-v3"), 2, "--hardware"),
        ((*BASE, "--model", "deepseek-v3"), 2, "--model belongs to the latter"),
        ((*LAWS, "--batch-size", 8, "--model", "gpt9", "--hardware", "h200"), 1, "gpt9"),
        ((*LAWS, "--batch-size", 8, "--model", "deepseek-v3", "--hardware", "h999"), 1, "h999"),
        ((*BASE, "--microbatches", 0), 1, "microbatches"),
        ((*BASE, "--microbatches", 9), 1, "microbatches"),
        ((*BASE, "--ffn-workers", 0), 1, "--ffn-workers"),
        ((*BASE, "--ffn-weight", "nan"), 1, "--ffn-weight"),
        ((*BASE, "--ffn-weight", -1), 1, "--ffn-weight"),
        ((*BASE, "--max-attention-workers", 0), 1, "--max-attention-workers"),
        ((*BASE, "--max-attention-workers", 10**12), 1, "max_attention_workers"),
        ((*BASE, "--horizon", 100), 1, "mean-field"),
        ((*BASE, "--phase", "aligned"), 1, "aligned"),
        ((*BASE, "--plot", "curve.bmp"), 1, ".png or .svg"),
        ((*BASE, "--plot", "missing/folder/curve.png"), 1, "missing"),
        (("--prompt", "zipf:3", "--decode", "5", *BASE[4:]), 1, "known laws"),
        ((*LAWS, "--latency", "deepseek-v3-ascend", "--batch-size", 8), 1, NAME),
        ((*LAWS, "--latency", "missing.toml", "--batch-size", 8), 1, "missing.toml"),
        (("--trace", "missing.csv", *BASE[4:]), 1, "missing.csv"),
        (("--trace", ".", *BASE[4:]), 1, "directory"),
    ],
)
def test_bad_input_is_one_line(arguments, code, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = invoke("ratio", *arguments)
    assert outcome.code == code
    assert words in outcome.error_line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('schema_version = 1\nname = "x"\ntime_unit = "s"\nspeed = 3\n', "speed"),
        ("not toml at all [", "toml"),
        ("", "empty"),
    ],
)
def test_bad_latency_files_are_one_line(tmp_path, text, words):
    path = tmp_path / "model.toml"
    path.write_text(text)
    outcome = invoke("ratio", *LAWS, "--latency", path, "--batch-size", 8)
    assert outcome.code == 1
    assert words in outcome.error_line.lower()


def test_unknown_command_and_help():
    assert invoke("ration").code == 2
    text = invoke("--help").out
    assert "workload" in text
    assert "ratio" in text
    assert invoke("--version").out.startswith("afdplan, version")
    assert invoke().code == 0


def test_an_interval_that_reaches_to_nothing_is_answered(tmp_path):
    few = tmp_path / "few.csv"
    few.write_text("prompt,decode\n1200,85\n310,410\n2048,12\n")
    outcome = invoke("ratio", "--trace", few, "--latency", NAME, "--batch-size", 8, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["uncertainty"]["token_load"]["low"] >= 0


@pytest.mark.parametrize(
    ("latency", "per"),
    [
        (("--latency", NAME), "worker"),
        (("--model", "deepseek-v3", "--hardware", "h200"), "device"),
        (("--model", "deepseek-v3", "--hardware", "h200", "--attention-devices", 2), "2 devices"),
    ],
)
def test_ratio_and_simulate_call_their_measure_the_same(latency, per):
    """One said "per unit of A + 8 F", the other "per instance", a plan "per device"."""
    bundle = (*LAWS, *latency, "--batch-size", 8)
    ratio = invoke("ratio", *bundle, "--max-attention-workers", 8)
    played = invoke("simulate", *bundle, "--attention-workers", 2, "--requests", 100)
    for done in (ratio, played):
        text = " ".join(done.out.partition("again:")[0].split())
        assert f"per {per}" in text, done
        assert "instance" not in text
        assert "per unit" not in text
