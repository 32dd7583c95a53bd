"""The command calibrate, from the outside."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from afdplan.cli.calibrate import command
from afdplan.errors import AfdplanError
from afdplan.files.latency_file import load_latency, save_latency
from afdplan.files.measurements.table import read_latency_table
from afdplan.model.latency import LatencyModel
from tests.cli.invoke import invoke

SAMPLES = Path(__file__).parents[1] / "samples"
ROWS = (
    "stage,load,requests,latency_us\n"
    + "".join(
        f"attention,{tokens},{requests},{50 + tokens / 1000 + requests + (tokens + requests) % 3}\n"
        for tokens in (10_000, 30_000, 100_000, 300_000)
        for requests in (8, 16, 32, 64)
    )
    + "".join(
        f"ffn,{n},,{max(120, 60 + 0.2 * n) * (1 + 0.01 * (k % 3 - 1)):.3f}\n"
        for k, n in enumerate((4, 8, 16, 32, 64, 128, 256, 400, 512, 700, 1024, 1500, 2048, 4096))
    )
)


@pytest.fixture
def run():
    def _run(*arguments):
        return CliRunner().invoke(command, [str(a) for a in arguments])

    return _run


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "stages.csv"
    path.write_text(ROWS)
    return path


def test_a_table_becomes_a_model_a_picture_and_a_document(run, table, tmp_path):
    model, picture = tmp_path / "m.toml", tmp_path / "r.png"
    result = run(table, "--layers", 61, "-o", model, "--plot", picture, "--json")
    assert result.exit_code == 0, result.exception
    answer = json.loads(result.stdout)
    assert answer["time_unit"] == "s"
    assert answer["stages"]["attention"]["form"] == "per-request"
    assert answer["stages"]["ffn"]["form"] == "roofline"
    assert answer["inputs"]["layers"] == 61
    slope = answer["stages"]["attention"]["coefficients"]["slope"]
    assert slope["low"] <= 1e-9 <= slope["high"]
    read = load_latency(model)
    assert read.layers == 61
    assert read.ffn.floor == pytest.approx(120e-6, rel=0.02)
    assert read.uncertainty is not None
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_text_for_people(run, table):
    result = run(
        table, "--form", "linear", "--form", "ffn=table", "--window", "ffn=64..4096", "--full"
    )
    assert result.exit_code == 0, result.exception
    assert "95 % interval" in result.stdout
    assert "at 64 tokens" in result.stdout
    assert "assumed: Times of send were not measured" in result.stdout


def test_a_sweep(run, tmp_path):
    sweep = tmp_path / "sweep.csv"
    sweep.write_text("attention_workers,step_time_ms\n3,32.826\n11,38.0\n17,48.7\n")
    arguments = [sweep, "--sweep", "--batch-size", 48, "--layers", 94, "--context", 8192]
    text = run(*arguments, "--plot", tmp_path / "s.svg")
    assert text.exit_code == 0, text.exception
    assert "mostly hidden" in text.stdout
    answer = json.loads(run(*arguments, "--json").stdout)
    assert answer["identified"]["ffn_slope"] is True
    assert answer["points"][0]["fitted_step_time"]["value"] == pytest.approx(0.0328, rel=0.01)
    assert answer["model"]["layers"] == 94
    missing = run(sweep, "--sweep", "--layers", 94, "--context", 8192)
    assert isinstance(missing.exception, AfdplanError)
    assert "--batch-size" in str(missing.exception)


def test_the_interval_of_a_sweep_goes_with_its_file(run, tmp_path):
    sweep, model = tmp_path / "sweep.csv", tmp_path / "model.toml"
    sweep.write_text("attention_workers,step_time_ms\n3,32.826\n7,33.4\n11,38.0\n")
    fitted = run(*(sweep, "--sweep", "--batch-size", 48, "--layers", 94), "--context", 8192,
                 "-o", model)  # fmt: skip
    assert fitted.exit_code == 0, fitted.exception
    asked = ("--prompt", "fixed:8192", "--decode", "fixed:2", "--latency", model, "--batch-size")
    answer = invoke("ratio", *asked, 48, "--json").document["latency_uncertainty"]
    assert 0.02 < answer["step_time_low"] < answer["step_time_high"] < 0.06
    beyond = invoke("simulate", *asked, 48, "--attention-workers", 17, "--requests", 100, "--json")
    known = beyond.document["step_time_by_latency_draws"]
    # Measured: 48.7 ms, far beyond the fitted ratios.
    assert known["low"] < 0.0487 < known["high"]
    assert known["high"] - known["low"] > 0.005


def test_logs(run, tmp_path):
    steps = run(SAMPLES / "fastafd_steps.jsonl", "--attention-workers", 12, "--ffn-workers", 4,
                "--layers", 94, "--json")  # fmt: skip
    assert steps.exit_code == 0, steps.exception
    answer = json.loads(steps.stdout)
    # Planted: 20 us + 0.4 ns per KV token of a worker's microbatch.
    expected = 20e-6 + 4e-10 * answer["attention_tokens"]
    assert answer["attention_time"]["value"] == pytest.approx(expected, rel=0.01)
    assert answer["identified"]["ffn_time"] is False
    usage = run(SAMPLES / "fastafd_steps.jsonl")
    assert usage.exit_code == 2
    assert "--attention-workers" in usage.output
    out = tmp_path / "attention.csv"
    trace = run(SAMPLES / "torch_attention.json.gz", "--role", "attention", "--load", 393216,
                "--requests", 48, "--to-table", out)  # fmt: skip
    assert trace.exit_code == 0, trace.exception
    assert read_latency_table(out).stage("attention").count == 11
    lengths = tmp_path / "lengths.csv"
    assert run(SAMPLES / "vllm_metrics.prom", "--to-trace", lengths).exit_code == 0
    assert lengths.read_text().startswith("prompt_tokens,decode_tokens\n")


def test_written_tables_and_traces_have_their_document(run, table, tmp_path):
    out = tmp_path / "out.csv"
    told = json.loads(run(table, "--to-table", out, "--json").stdout)
    stages = {samples.stage: samples.count for samples in read_latency_table(out).stages}
    assert (told["table"], told["times"], told["time_unit"]) == (str(out), stages, "s")
    assert told["inputs"]["data"] == [str(table)]
    told = json.loads(run(SAMPLES / "vllm_metrics.prom", "--to-trace", out, "--json").stdout)
    assert told["requests"] == len(out.read_text().splitlines()) - 1
    assert told["warnings"]


def test_stages_of_several_files_and_a_prior(run, table, tmp_path):
    prior = tmp_path / "prior.toml"
    assert run(table, "-o", prior).exit_code == 0
    result = run(SAMPLES / "stepmesh_traces.jsonl", "--prior", prior, "--json")
    answer = json.loads(result.stdout)
    assert answer["stages"]["ffn"]["coefficients"]["slope"]["value"] == pytest.approx(
        83e-9, rel=0.1
    )
    assert "Times of attention were lent by stages." in answer["model"]["assumptions"]
    both = run(table, SAMPLES / "stepmesh_traces.jsonl", "--json")
    assert json.loads(both.stdout)["stages"]["ffn"]["measurements"] == 14 + 24


def test_suspected_units_are_said(run, tmp_path):
    path = tmp_path / "slip.csv"
    path.write_text(ROWS.replace("latency_us", "latency_s"))
    warnings = json.loads(run(path, "--json").stdout)["warnings"]
    assert any("suspiciously long" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--form", "cubic"], "--form must be one of"),
        (["--form", "gpu=linear"], "the data hold attention, ffn, not gpu"),
        (["--window", "ffn=9"], "--window must be LOW..HIGH"),
        (["--window", "ffn=9..3"], "--window must be LOW..HIGH"),
    ],
)
def test_usage(run, table, arguments, message):
    result = run(table, *arguments)
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layers", "0"], "layers must be an integer >= 1"),
        (["--noise", "0"], "noise must be a finite number > 0"),
        (["--noise", "nan", "--sweep"], "noise must be a finite number"),
        (["--plot", "x.gif"], "must end in .png or .svg"),
        (["-o", "model.yaml"], "must end in .toml or .json"),
        (["--prior", "deepseek"], "no latency model named 'deepseek'"),
        (["--prior", "deepseek-v3"], "in Python call derived_model(MODEL, HARDWARE).latency"),
        (["--time-unit", "h"], "time unit must be one of s, ms, us, ns"),
    ],
)
def test_expected_failures(run, table, arguments, message):
    result = run(table, *arguments)
    assert isinstance(result.exception, AfdplanError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert sorted(p.name for p in table.parent.iterdir()) == ["stages.csv"]


def test_forward_passes_calibrate_attention(tmp_path):
    import gzip

    from tests.unit.files.measurements.test_logs import trace_lines

    path = tmp_path / "dynamo-fpm.4192.000000.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(trace_lines()).encode()))
    ffn = tmp_path / "ffn.csv"
    rows = "".join(f"ffn,{n},{1e-4 + 1e-7 * n}\n" for n in (16, 32, 64, 128, 256))
    ffn.write_text("stage,load,latency_s\n" + rows)
    model_file = tmp_path / "model.toml"
    outcome = invoke("calibrate", path, ffn, "--layers", "10", "-o", model_file, "--full")
    assert outcome.code == 0, outcome
    assert "passes with a prefill" in " ".join(outcome.out.split())
    model = load_latency(str(model_file))
    assert model.uncertainty is not None
    (kind,) = model.attention
    assert kind.curve.slope == pytest.approx(3e-8, rel=1e-3)
    assert kind.time_per_request == pytest.approx(5e-6, rel=1e-2)


def test_requests_between_two_snapshots_become_a_trace(tmp_path):
    samples = Path(__file__).parents[1] / "samples" / "metrics"
    early, late = (samples / f"vllm-0.32.0-{name}.prom" for name in ("during", "after-bench"))
    out = tmp_path / "lengths.csv"
    outcome = invoke("calibrate", early, late, "--to-trace", out)
    assert outcome.code == 0, outcome
    rows = out.read_text().splitlines()
    assert len(rows) == 1 + 77
    assert "77 requests were laid out" in outcome.err


def staged_steps(path, rows):
    header = "attention_ms,ffn_ms,send_ms,receive_ms,step_ms,layers\n"
    path.write_text(header + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


def test_coupling_of_measured_steps_goes_into_the_model(tmp_path):
    """Half of each transfer occupies the FFN, and each launch takes 0.25 ms."""
    rows = [
        (1.0, f, c, c / 2, 10 * 2 * (f + 0.25 + 0.5 * 1.5 * c), 10)
        for f, c in ((3.0, 0.1), (4.0, 0.4), (5.0, 0.2), (7.0, 0.8))
    ]
    table, model = staged_steps(tmp_path / "steps.csv", rows), tmp_path / "model.toml"
    prior = tmp_path / "prior.toml"
    save_latency(
        LatencyModel.linear(attention=(1e-9, 1e-4), ffn=(1e-7, 1e-4), time_unit="s"), prior
    )
    told = invoke("calibrate", table, "--coupling", "--prior", prior, "-o", model)
    assert told.code == 0, told
    words = "busy for 50.0 % of their time, and each launch takes 250 µs more"
    assert words in " ".join(told.out.split())
    found = load_latency(model).coupling
    assert (found.send_ffn, found.receive_ffn) == pytest.approx((0.5, 0.5), abs=1e-4)
    assert found.launch == pytest.approx(2.5e-4, rel=1e-3)
    answer = json.loads(invoke("calibrate", table, "--coupling", "--occupied", 0.5, "--json").out)
    assert answer["launch"] == pytest.approx(2.5e-4, rel=1e-3)
    assert answer["occupied_share_error"] is None


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([(1, 3, 0.1, 0.1, 40, 10)] * 4, (), "give the share"),
        (
            [(1, 3, 0.1, 0.1, 40, 10)] * 4,
            ("--occupied", 1.2),
            "--occupied must be <= 1, got 1.2",
        ),
        ([(1, 3, 0.1, 0.1, -40, 10)] * 4, (), "step of step 1 must be a number > 0, got -0.04"),
        ([(9, 1, 0.1, 0.1, 200, 10)] * 4, ("--occupied", 1), "no step waits for the FFN"),
        ([(1, 3, 0.1, 0.1, 40, 10)], (), "at least 3 measured steps, got 1"),
    ],
)
def test_steps_that_say_nothing_are_refused_in_one_line(tmp_path, rows, options, words):
    table = staged_steps(tmp_path / "steps.csv", rows)
    told = invoke("calibrate", table, "--coupling", *options)
    assert told.code == 1
    assert words in told.err
    assert told.err.count("\n") == 1


def test_one_absurd_time_is_no_overflow(tmp_path):
    # Found by mutation: a weight of the robust fit was divided by almost nothing.
    path = tmp_path / "stages.csv"
    rows = [
        f"{stage},{load},4,{50 + load / 100}" for stage in ("attention",) for load in (1, 2, 4, 8)
    ]
    rows += [f"{stage},{100 * n},,{8 + 4 * n}" for stage in ("ffn", "transfer") for n in (2, 4, 8)]
    rows += ["ffn,100,,9999999999999999999999999999992.0", "transfer,100,,12"]
    path.write_text("\n".join(["stage,load,requests,latency_us", *rows]) + "\n")
    outcome = invoke("calibrate", path)
    assert outcome.code == 0, outcome.err


def test_a_bundle_without_workers_is_refused_in_one_line():
    # Found by mutation: a warning of NumPy stood before the line.
    log = SAMPLES / "fastafd_steps.jsonl"
    outcome = invoke("calibrate", log, "--attention-workers", 0)
    assert outcome.code == 1
    assert "--attention-workers must be a finite number > 0, got 0" in outcome.error_line
