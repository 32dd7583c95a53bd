"""Tables and logs give back what was written into them; damage costs one clear line."""

import gzip
import json
import time
from pathlib import Path

import numpy as np
import pytest

from afdplan.errors import AfdplanError, InvalidInputError, LatencyModelError
from afdplan.files.measurements.expert_load import read_expert_load
from afdplan.files.measurements.fastafd import read_fastafd_steps
from afdplan.files.measurements.prometheus import read_metrics
from afdplan.files.measurements.reader import read_measurements, recognise_measurements
from afdplan.files.measurements.sglang import read_sglang_log, read_sglang_step_times
from afdplan.files.measurements.stepmesh import read_stepmesh_traces
from afdplan.files.measurements.table import (
    read_latency_table,
    read_ratio_sweep,
    write_latency_table,
)
from afdplan.workload.observed import observed_trace

SAMPLES = Path(__file__).parents[3] / "samples"


@pytest.fixture
def write(tmp_path):
    def _write(content, name="data"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return _write


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fastafd_steps.jsonl", "fastafd"),
        ("sglang_decode.log", "sglang-log"),
        ("sglang_server_info.json", "sglang-steps"),
        ("stepmesh_traces.jsonl", "stepmesh"),
        ("torch_attention.json.gz", "torch-trace"),
        ("torch_ffn.json", "torch-trace"),
        ("vllm_metrics.prom", "prometheus"),
    ],
)
def test_formats_are_recognised_by_content(write, name, expected):
    assert recognise_measurements(write((SAMPLES / name).read_bytes())) == expected


def test_a_table_may_name_an_engine(write):
    table = "vllm_version,stage,load,latency_us\nvllm_0.26,attention,1000,50\n"
    assert recognise_measurements(write(table)) == "table"
    for line in (
        "# TYPE vllm:x histogram\n",
        "vllm:num_requests_running 3\n",
        'ray_vllm_x{a="b"} 1\n',
    ):
        assert recognise_measurements(write(line)) == "prometheus"


TABLE = "stage,load,requests,latency_us\nattention,1000,4,50\nattn,2000,8,60\nmoe,64,,120.5\n"


def test_a_table_in_all_its_forms(write, tmp_path):
    import polars

    frame = polars.read_csv(TABLE.encode())
    parquet = tmp_path / "t.parquet"
    frame.write_parquet(parquet)
    forms = [
        write(TABLE),
        write(gzip.compress(TABLE.encode())),
        write(TABLE.replace(",", ";"), "semicolon"),
        write("\ufeff" + TABLE, "bom"),
        write(TABLE.replace("\n", "\r\n"), "crlf"),
        write(frame.write_ndjson().encode(), "lines"),
        parquet,
    ]
    for path in forms:
        found = read_latency_table(path)
        attention, ffn = found.stage("attention"), found.stage("ffn")
        assert attention.times == pytest.approx([50e-6, 60e-6])
        assert attention.requests.tolist() == [4, 8]
        assert ffn.requests is None
        assert ffn.times == pytest.approx([120.5e-6])


def test_units(write):
    plain = write(TABLE.replace("latency_us", "latency"))
    assert read_latency_table(plain).stage("ffn").times[0] == 120.5
    assert "read as seconds" in read_latency_table(plain).notes[0]
    assert read_latency_table(plain, "ms").stage("ffn").times[0] == pytest.approx(0.1205)
    assert read_latency_table(plain, "abstract").time_unit == "abstract"
    with pytest.raises(LatencyModelError, match="says us and the time unit was given as ms"):
        read_latency_table(write(TABLE, "us"), "ms")


def test_a_table_round_trips(write, tmp_path):
    found = read_latency_table(write(TABLE))
    write_latency_table(found, tmp_path / "out.csv")
    again = read_latency_table(tmp_path / "out.csv")
    assert np.array_equal(again.stage("attention").times, found.stage("attention").times)
    assert again.stage("attention").requests.tolist() == [4, 8]


BAD_TABLES = [
    (TABLE.replace("120.5", "-1"), "latency_us in row 4 must be > 0, got -1"),
    (TABLE.replace("120.5", "0"), "latency_us in row 4 must be > 0"),
    (TABLE.replace("120.5", "nan"), "latency_us in row 4 must be finite"),
    (TABLE.replace("120.5", "fast"), "latency_us in row 4 must be a number, got 'fast'"),
    (TABLE.replace("moe", "gemm"), "stage in row 4 must be one of attention"),
    (TABLE.replace("64,,120.5", "64,,120.5,9"), "row 4 has 5 cells for 4 columns"),
    (TABLE.rstrip("\n")[:-8], "row 4 has 2 cells for 4 columns: was the file cut"),
    (TABLE.replace("moe,64", "moe,-64"), "loads of stage ffn must be finite and >= 0"),
    (TABLE.replace("load", "lode"), "no column load .* is it 'lode'"),
    (TABLE.replace("requests", "latency_ms"), "both give latency"),
    ("stage,load,latency\n", "no measurements, only its columns"),
    ("", "is empty"),
    (b"\x89PNG\x00\x00\x01", "is binary"),
    (gzip.compress(TABLE.encode())[:-12], "gzip data is cut short or damaged"),
    ("PAR1 broken", "invalid Parquet"),
    ('{"stage": "ffn", "load": 1, "latency_s": 1e-4}\n{"stage": "f', "line 2 is no JSON .* cut"),
    ('{"stage": ' + "[" * 100_000, "nested too deeply|no JSON"),
]


@pytest.mark.parametrize(("content", "message"), BAD_TABLES, ids=range(len(BAD_TABLES)))
def test_bad_tables_cost_one_line(write, content, message):
    with pytest.raises(LatencyModelError, match=message) as caught:
        read_latency_table(write(content))
    assert "\n" not in str(caught.value)


def test_missing_and_directory(tmp_path):
    for read in (read_latency_table, read_fastafd_steps, read_stepmesh_traces, read_sglang_log):
        with pytest.raises(LatencyModelError, match="there is no file"):
            read(tmp_path / "none")
        with pytest.raises(LatencyModelError, match="is a directory"):
            read(tmp_path)


def test_sweep_columns(write):
    steps = "A,step_time_ms\n3,30\n7,35\n"
    sweep = read_ratio_sweep(write(steps), batch_size=48, context=8192)
    assert sweep.step_times == pytest.approx([0.03, 0.035])
    assert sweep.ffn_tokens.tolist() == [144, 336]
    rates = "ratio,max_num_seqs,isl,tok_s_per_gpu\n3,96,8192,2193\n"
    sweep = read_ratio_sweep(write(rates, "rates"))
    assert sweep.batch_size[0] == 48
    assert sweep.step_times[0] == pytest.approx(0.032826, rel=1e-3)
    total = (
        "attention_workers,ffn_workers,throughput,microbatches,batch_size,context\n6,2,1000,1,5,9\n"
    )
    assert read_ratio_sweep(write(total, "total")).step_times[0] == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("A,step_time\n3,1\n", "needs context for its points: add the column or the option"),
        ("A,context,step_time\n3,8,1\n", "--batch-size"),
        ("A,context,batch_size\n3,8,1\n", "no column step_time"),
        ("A,context,batch_size,step_time\n3,8,1,0\n", "step_time in row 2 must be > 0"),
        ("A,context,batch_size,step_time\n", "no points"),
    ],
)
def test_bad_sweeps_cost_one_line(write, content, message):
    with pytest.raises(LatencyModelError, match=message):
        read_ratio_sweep(write(content))


def test_fastafd_steps():
    steps = read_fastafd_steps(SAMPLES / "fastafd_steps.jsonl").stage("step")
    assert steps.count == 60
    assert steps.requests.tolist() == [1152] * 60
    assert steps.times == pytest.approx(2 * 94 * (20e-6 + 4e-10 * steps.loads / 24), rel=0.03)


def test_fastafd_damage(write):
    text = (SAMPLES / "fastafd_steps.jsonl").read_text()
    cut = read_fastafd_steps(write(text[:-40]))
    assert cut.stage("step").count == 59
    assert cut.dropped == 1
    assert "was cut" in cut.notes[-1]
    lines = text.splitlines()
    broken = "\n".join([*lines[:5], lines[5][:30], *lines[6:]])
    with pytest.raises(LatencyModelError, match="line 6 is no step record"):
        read_fastafd_steps(write(broken))
    with pytest.raises(LatencyModelError, match="latency_ms in line 3 must be > 0"):
        read_fastafd_steps(write("\n".join([*lines[:2], _without_latency(lines[2])])))
    with pytest.raises(LatencyModelError, match="schema in line 2 must be"):
        read_fastafd_steps(
            write("\n".join([lines[0], lines[1].replace("metrics.v1", "metrics.v2")]))
        )
    with pytest.raises(LatencyModelError, match="holds no decode steps"):
        read_fastafd_steps(write(lines[0]))


def _without_latency(line):
    return json.dumps(json.loads(line) | {"latency_ms": -1.0})


def test_sglang_decode_lines():
    found = read_sglang_log(SAMPLES / "sglang_decode.log")
    steps = found.stage("step")
    assert steps.count == 37
    assert found.dropped == 3  # two lines with queued requests, one after a prefill
    assert steps.times == pytest.approx(94 * (60e-6 + 1e-9 * steps.loads), rel=0.04)


def test_a_decode_line_of_megabytes_is_read_at_once(write):
    """A line of 40 MB took minutes: of 20 MB of words each could begin a field's name."""
    text = (SAMPLES / "sglang_decode.log").read_text()
    line = next(line for line in text.splitlines() if "Decode batch" in line)
    began = time.process_time()
    found = read_sglang_log(write(f"{line}{' x' * 4_000_000}\n{text}"))
    assert found.stage("step").count == 38
    assert time.process_time() - began < 2


def test_sglang_ranks_are_told_apart(write):
    text = (SAMPLES / "sglang_decode.log").read_text()
    mixed = text.replace("] Decode", " DP0 TP0] Decode", 3).replace(":05] D", ":05 DP1 TP0] D")
    assert any("Lines of 3 ranks" in note for note in read_sglang_log(write(mixed)).notes)
    # The first of its three lines follows the prefill.
    assert read_sglang_log(write(mixed), "DP0").stage("step").count == 2
    with pytest.raises(LatencyModelError, match="no usable decode line"):
        read_sglang_log(write("Decode batch. #running-req: 3, #tok"))


def test_sglang_prefill_interrupts_ranks_that_have_not_decoded_yet(write):
    line = "[{} DP{} TP0] Decode batch, #running-req: 4, #token: {}, token usage: 0.1, "
    line += "gen throughput (token/s): {}, #queue-req: 0\n"
    text = "[10:00:00 DP0 TP0] Prefill batch, #new-seq: 4, #new-token: 4000, #queue-req: 0\n"
    for k, rate in enumerate((40.0, 200.0, 199.0)):  # the first interval holds the prefill
        text += "".join(line.format(f"10:00:0{k}", rank, 4000 + k, rate) for rank in (0, 1))
    found = read_sglang_log(write(text))
    assert found.dropped == 2
    assert found.stage("step").times.max() < 0.021


def test_sglang_step_times_lose_their_idle_tail(write):
    found = read_sglang_step_times(SAMPLES / "sglang_server_info.json")
    assert found.dropped == 1
    assert found.stage("step").times.max() < 0.013
    with pytest.raises(LatencyModelError, match="holds no step_time_dict"):
        read_sglang_step_times(write('{"a": 1}'))
    with pytest.raises(LatencyModelError, match="must be finite and > 0"):
        read_sglang_step_times(write('{"step_time_dict": {"4": [0.1, -1]}}'))
    with pytest.raises(LatencyModelError, match=r"nested too deeply|recursion|no JSON"):
        read_sglang_step_times(write('{"step_time_dict":' * 50_000))


def test_stepmesh_process_and_network():
    found = read_stepmesh_traces(SAMPLES / "stepmesh_traces.jsonl")
    ffn, wire = found.stage("ffn"), found.stage("transfer")
    assert ffn.times == pytest.approx(100e-6 + 83e-9 * ffn.loads, rel=0.05)
    assert wire.times == pytest.approx(18e-6 + 20e-9 * wire.loads, rel=1e-9)


def test_stepmesh_damage(write):
    good = "[1000,2000,500,600,90600,91000,100000,101000]"
    found = read_stepmesh_traces(write(f"{good}\n{good}\n[1000,20"), tokens=84)
    assert found.stage("ffn").times.tolist() == pytest.approx([90e-6, 90e-6])
    assert found.dropped == 1
    for content, message in (
        (good, "tokens of the transfer in line 1"),
        ("[1,2,3]", "line 1 must hold eight timestamps"),
        (f"[1]x\n{good}", "line 1 is no record"),
        ("[1,9,5,6,5,8,30,31]", "timestamps in line 1 run backwards"),
        ("[1", "no complete record"),
    ):
        with pytest.raises(LatencyModelError, match=message):
            read_stepmesh_traces(write(content), tokens=None if content == good else 84)


def test_prometheus_histograms_become_lengths(write):
    trace = observed_trace(read_metrics(SAMPLES / "vllm_metrics.prom"), "sample")
    assert trace.requests == 4000
    text = (SAMPLES / "vllm_metrics.prom").read_text()
    for metric, lengths in (
        ("request_prompt_tokens", trace.prompt_tokens),
        ("request_generation_tokens", trace.decode_tokens),
    ):
        value = {
            line.split("{")[0]: float(line.rsplit(maxsplit=1)[1])
            for line in text.splitlines()
            if line.startswith((f"vllm:{metric}_sum", f"vllm:{metric}_count"))
        }
        mean = value[f"vllm:{metric}_sum"] / value[f"vllm:{metric}_count"]
        assert lengths.mean() == pytest.approx(mean, rel=2e-3)
        below = next(
            line
            for line in text.splitlines()
            if f"{metric}_bucket" in line and 'le="500.0"' in line
        )
        share = float(below.rsplit(maxsplit=1)[1]) / value[f"vllm:{metric}_count"]
        assert (lengths <= 500).mean() == pytest.approx(share, abs=0.003)
    with pytest.raises(InvalidInputError, match="no histogram of prompt and output lengths"):
        read_metrics(write("vllm:num_requests_running 3\n"))
    with pytest.raises(InvalidInputError, match="must be a finite number"):
        read_metrics(write(text.replace("4000.0", "NaN")))


def test_prometheus_holds_no_times():
    with pytest.raises(AfdplanError, match="no stage times"):
        read_measurements(SAMPLES / "vllm_metrics.prom")
    with pytest.raises(AfdplanError, match="--role attention"):
        read_measurements(SAMPLES / "torch_ffn.json")
    with pytest.raises(AfdplanError, match="format must be one of"):
        read_measurements(SAMPLES / "torch_ffn.json", format_name="zip")


@pytest.mark.parametrize(
    ("begin", "again"),
    [
        (b"Decode batch, #running-req: 5, ", b"a"),
        (b"Decode batch, ", b"a "),
        (b"Decode batch, ", b"a: "),
        (b"", b"[EPLB_TRACE] rank_load"),
        (b"", b"[Expert Balancedness]"),
    ],
)
def test_a_damaged_line_of_a_log_takes_no_square_of_its_length(tmp_path, begin, again):
    # With the square of 300,000 letters this test would not end.
    file = tmp_path / "server.log"
    file.write_bytes(begin + again * (300_000 // len(again)) + b"\n")
    read = read_sglang_log if begin else read_expert_load
    with pytest.raises(LatencyModelError):
        read(file)
