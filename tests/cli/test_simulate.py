"""Does `afdplan simulate` answer people and machines, and refuse what has no meaning?"""

import itertools
import json
import re
import signal
import subprocess
import sys
import time

import polars
import pytest
from click.testing import CliRunner

from afdplan.cli.simulate import command
from afdplan.errors import AfdplanError
from tests.cli.invoke import invoke
from tests.running import started

BASE = [
    "--prompt", "geometric:20", "--decode", "geometric:10", "--batch-size", "8",
    "--latency", "deepseek-v3-ascend-910c", "--requests", "200",
]  # fmt: skip


POISSON = ["--arrivals", "poisson", "--rate", "1"]


def run(*arguments):
    return CliRunner().invoke(command, [*BASE, *arguments])


def answer(*arguments):
    result = run(*arguments, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)


def test_the_contract():
    found = answer("--attention-workers", "3", "--seed", "4")
    for name in ("throughput_per_instance", "cycle_time"):
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"]
    for name in ("step_time", "request_time_per_output_token"):
        assert found[name]["p50"] <= found[name]["p95"] <= found[name]["p99"]
        assert found[name]["mean"] > 0
    assert 0 <= found["attention_idle_fraction"] <= 1
    assert 0 <= found["ffn_idle_fraction"] <= 1
    assert found["requests_completed"] >= 600
    assert found["tokens_generated"] > 0
    assert found["steps"] > 0
    assert found["time_unit"] == "abstract"
    assert found["inputs"]["seed"] == 4
    causes = sum(found["attention_idle_causes"].values())
    assert causes == pytest.approx(found["attention_idle_fraction"], abs=1e-9)


def test_a_list_sweeps():
    found = answer("--attention-workers", "1,2,4")
    assert [point["attention_workers"] for point in found["curve"]] == [1, 2, 4]
    single = answer("--attention-workers", "2")
    assert found["curve"][1]["throughput_per_instance"] == single["throughput_per_instance"]
    shown = run("--attention-workers", "1,2")
    assert "FFN" in shown.stdout
    assert shown.exit_code == 0


def test_open_arrivals_and_memory():
    found = answer(
        "--attention-workers", "2", "--arrivals", "poisson", "--rate", "0.004",
        "--kv-capacity", "300", "--memory", "preempt", "--policy", "longest-prompt",
        "--variation", "attention=0.2,ffn=0.1", "--expert-imbalance", "1.2,0.5",
    )  # fmt: skip
    assert found["waiting_time"]["mean"] >= 0
    assert found["queue_length"]["value"] >= 0
    assert found["preemptions"] >= 0
    text = run("--attention-workers", "2", "--arrivals", "gamma", "--rate", "0.004").stdout
    assert "Waiting time" in text


def test_precision_of_the_percentile_is_reached_and_told():
    found = answer("--attention-workers", "2", "--p99-precision", "0.5%")
    p99 = found["intervals"]["step_time_p99"]
    assert p99["low"] <= found["step_time"]["p99"] == p99["value"] <= p99["high"]
    assert (p99["high"] - p99["low"]) / 2 <= 0.005 * p99["value"]


def test_precision_is_reached():
    found = answer("--attention-workers", "2", "--precision", "0.5%")
    x = found["throughput_per_instance"]
    assert (x["high"] - x["low"]) / 2 / x["value"] <= 0.005


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_hold_every_request_and_step(tmp_path, suffix):
    requests, steps = tmp_path / f"r.{suffix}", tmp_path / f"s.{suffix}"
    found = answer(
        "--attention-workers", "2", "--replications", "3",
        "--per-request", str(requests), "--per-step", str(steps),
    )  # fmt: skip
    read = polars.read_csv if suffix == "csv" else polars.read_parquet
    table = read(requests)
    assert len(table) == found["requests_completed"]
    assert table["decode_tokens"].min() >= 1
    assert read(steps)["step"].max() == found["steps"] - 1
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([requests.name, steps.name])


def test_timelines(tmp_path):
    for suffix, start in (("json", b"{"), ("svg", b"<?xml"), ("png", b"\x89PNG")):
        path = tmp_path / f"t.{suffix}"
        assert run("--attention-workers", "2", "--timeline", str(path)).exit_code == 0
        assert path.read_bytes().startswith(start)
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    assert all(span["dur"] >= 0 for span in spans)
    names = {event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert names == {"attention", "transfer out", "FFN", "transfer back"}
    tracks = {}
    for span in spans:
        tracks.setdefault((span["pid"], span["tid"]), []).append((span["ts"], span["dur"]))
    for track in tracks.values():  # nobody does two things at once
        track.sort()
        assert all(a + d <= b + 1e-6 for (a, d), (b, _) in itertools.pairwise(track))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["--attention-workers", "0"], 1),
        (["--attention-workers", "4,4"], 2),
        (["--attention-workers", "x"], 2),
        (["--attention-workers", "1,2", "--timeline", "t.json"], 2),
        (["--attention-workers", "1", "--timeline", "t.pdf"], 2),
        (["--attention-workers", "1", "--rate", "1"], 2),
        (["--attention-workers", "1", "--order", "trace"], 2),
        (["--attention-workers", "1", "--precision", "150%"], 2),
        (["--attention-workers", "1", "--variation", "gpu=1"], 2),
        (["--attention-workers", "1", "--arrivals", "poisson"], 1),
        (["--attention-workers", "1", "--arrivals", "trace"], 1),
        (["--attention-workers", "1", "--memory", "preempt"], 1),
        (["--attention-workers", "1", "--kv-capacity", "1", "--prompt", "5"], 1),
        (["--attention-workers", "1", "--replications", "1"], 1),
        (["--attention-workers", "1", "--requests", "0"], 1),
        (["--attention-workers", "1", "--per-step", "x.txt"], 1),
        (["--attention-workers", "1", *POISSON, "--start", "stationary"], 1),
    ],
)  # fmt: skip
def test_refusals(arguments, code):
    result = run(*arguments)
    if code == 2:
        assert result.exit_code == 2, result.output
    else:
        assert isinstance(result.exception, AfdplanError), (result.output, result.exception)
        assert "\n" not in str(result.exception)


@pytest.mark.parametrize("pair", ["nan", "0.5", "1.2,4", "1.2,-1"])
def test_both_numbers_of_an_expert_imbalance_are_called_by_their_option(pair):
    result = run("--attention-workers", "1", "--expert-imbalance", pair)
    assert str(result.exception).startswith("--expert-imbalance must be")


def test_an_interrupt_ends_cleanly_and_leaves_no_file(tmp_path):
    run("--attention-workers", "1")  # the kernel is compiled by now
    arguments = [*BASE, "--attention-workers", "64", "--per-step", str(tmp_path / "s.csv")]
    arguments[arguments.index("200")] = "15000000"
    code = "import sys; from afdplan.cli import main; "
    code += f"sys.argv[1:] = {['simulate', *arguments]!r}; main()"
    with started([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 60
        while not list(tmp_path.iterdir()) and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert time.monotonic() - began < 5
    assert b"Traceback" not in errors
    assert not list(tmp_path.iterdir())


def test_overload_is_known_and_leaves_no_stationary_interval():
    capacity = answer("--attention-workers", "2", *POISSON[:3], "0.001")["offered_load"]
    assert capacity["is_stable"]
    most = capacity["capacity"]["value"]
    busy = answer("--attention-workers", "2")
    finished = busy["throughput_per_instance"]["value"] * 3 / 10  # tokens of a request
    assert most == pytest.approx(finished, rel=0.05)
    over = answer("--attention-workers", "2", *POISSON[:3], str(2 * most))
    assert not over["offered_load"]["is_stable"]
    assert over["offered_load"]["utilization"] == pytest.approx(2, rel=0.01)
    assert any("arrivals exceed what can be finished" in text for text in over["warnings"])
    assert not any("warm-up" in text for text in over["warnings"])
    assert over["queue_length"]["low"] is None
    assert over["queue_length"]["high"] is None
    stable = answer("--attention-workers", "2", *POISSON[:3], str(0.5 * most))
    assert stable["queue_length"]["low"] is not None
    assert not any("exceed" in text for text in stable["warnings"])


def test_extreme_overload_is_refused_at_once():
    result = run("--attention-workers", "2", *POISSON[:3], "1e9")
    assert isinstance(result.exception, AfdplanError)
    assert "lower the rate" in str(result.exception)
    assert "\n" not in str(result.exception)


def test_recorded_arrivals_above_capacity_are_played_with_a_warning(tmp_path):
    path = tmp_path / "burst.csv"
    rows = "".join(f"{k / 1000},20,10\n" for k in range(400))
    path.write_text("arrival_time,prompt_tokens,output_tokens\n" + rows)
    arguments = ["--trace", str(path), "--batch-size", "8", "--requests", "200"]
    arguments += ["--latency", "deepseek-v3-ascend-910c", "--attention-workers", "2"]
    arguments += ["--arrivals", "trace", "--rate", "1e6", "--json"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    warnings = json.loads(result.stdout)["warnings"]
    assert any("arrivals exceed what can be finished" in text for text in warnings)


def test_a_rate_is_in_the_models_time_unit_or_has_one_of_its_own():
    found = answer("--attention-workers", "2", *POISSON[:3], "0.001")
    assert found["inputs"]["rate"] == 0.001
    assert run("--attention-workers", "2", *POISSON[:3], "20/s").exit_code == 2
    seconds = ["--model", "qwen3-30b-a3b", "--hardware", "h100", "--prompt", "100"]
    seconds += ["--decode", "20", "--batch-size", "8", "--attention-workers", "1"]
    seconds += ["--requests", "50", "--arrivals", "poisson", "--json", "--rate"]
    for text, rate in (("20", 20), ("600/min", 10)):
        result = CliRunner().invoke(command, [*seconds, text])
        assert json.loads(result.stdout)["inputs"]["rate"] == rate


def test_failures_are_played_and_told():
    asked = (
        *("simulate", "--model", "qwen3-30b-a3b", "--hardware", "h100", "--prompt", "fixed:200"),
        *("--decode", "geometric:50", "--batch-size", 8, "--attention-workers", 2),
        *("--ffn-workers", 2, "--requests", 1000, "--device-mtbf", "0.02h", "--restart", "2s"),
    )
    told = invoke(*asked, "--json").document
    lost = told["failures"]
    assert lost["failures"] > 0
    assert lost["share"]["low"] <= lost["share"]["value"] <= lost["share"]["high"]
    assert told["inputs"]["device_mtbf"] == 72.0
    assert told["inputs"]["restart"] == 2.0
    text = " ".join(invoke(*asked, "--full").out.split())
    assert f"{lost['failures']:,} failures of 4 devices: " in text
    assert "give --device-mtbf too" in invoke(*asked[:-4], "--restart", "2s").error_line
    # The first line says when none came; what would never end is refused.
    calm = invoke(*asked[:-4], "--device-mtbf", "100000h")
    assert ", 0 failures played" in " ".join(calm.out.split(";")[0].split())
    long = [{"geometric:50": "fixed:9000"}.get(part, part) for part in asked[:-4]]
    for bundle, mtbf, restart in ((long, "1s", "1s"), (asked[:-4], "2min", "20h")):
        refused = invoke(*bundle, "--device-mtbf", mtbf, "--restart", restart)
        assert (refused.code, refused.out) == (1, ""), refused.err
        assert "device_mtbf must leave time for a request to finish" in refused.error_line


def test_help_shows_the_default_of_restart():
    assert re.search(
        r"--restart .*?\[default: \(300\.0\)\]", invoke("simulate", "--help").out, re.S
    )
