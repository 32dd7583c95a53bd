"""Decode lines of servers as they are today give the step times that made them, or say why not."""

from pathlib import Path

import numpy as np
import pytest

from afdplan.errors import LatencyModelError
from afdplan.files.measurements.fpm import read_forward_passes, read_fpm_times
from afdplan.files.measurements.reader import read_measurements, recognise_measurements

SAMPLES = Path(__file__).parents[3] / "samples" / "logs"


def steps(path, **options):
    return read_measurements(path, **options).stage("step")


@pytest.mark.parametrize(
    "name",
    ["accept_len", "disagg", "dp_ranks", "full_swa_token", "mamba_hybrid", "prefill_between"],
)
def test_step_times_are_those_that_wrote_the_log(name):
    found = steps(SAMPLES / f"sglang_{name}.log")
    # 20 ms + 0.2 us per KV token of the rank, as the makers of the samples chose.
    assert found.times == pytest.approx(0.020 + 2e-7 * found.loads, rel=0.006)


def test_short_logs_of_speculative_decoding():
    for name in ("sglang_accept_len_short.log", "sglang_accept_len_npu.log"):
        found = steps(SAMPLES / name)
        assert found.times == pytest.approx([0.1357, 0.1361, 0.1357], abs=5e-5)
    notes = read_measurements(SAMPLES / name).notes
    assert any("--tokens-per-step 2.71" in note for note in notes)


def test_other_spellings_of_the_accepted_tokens(tmp_path):
    text = (SAMPLES / "sglang_accept_len.log").read_text()
    path = tmp_path / "log"
    expected = steps(SAMPLES / "sglang_accept_len.log").times.tolist()
    for other in ("accept length: ", "avg accept len: ", "accept_len: ", "accept_length="):
        path.write_text(text.replace("accept len: ", other))
        assert steps(path).times.tolist() == expected
    path.write_text(text.replace("accept len: ", "accept rate: "))
    with pytest.raises(LatencyModelError, match="speculative decoding but not how many tokens"):
        steps(path)


@pytest.mark.parametrize("name", ["plain", "spec-decode", "swa"])
def test_layouts_of_the_writer(name):
    found = steps(SAMPLES / f"sglang-0.5.23-{name}.log")
    assert found.count == 12
    assert found.times == pytest.approx(0.018 + 2e-8 * found.loads, rel=0.001)


def test_a_prefill_inside_the_interval_is_left_out_aloud():
    found = read_measurements(SAMPLES / "sglang_prefill_between.log")
    assert found.dropped > 0
    assert any(f"{found.dropped} decode lines are left out: a prefill" in n for n in found.notes)


def test_only_intervals_with_prefill_are_refused(tmp_path):
    text = (SAMPLES / "sglang_prefill_between.log").read_text().splitlines()
    prefill = next(line for line in text if "Prefill" in line)
    decode = next(line for line in text if "Decode" in line)
    path = tmp_path / "busy.log"
    path.write_text("\n".join([prefill, decode] * 5))
    with pytest.raises(LatencyModelError, match="follow a prefill"):
        read_measurements(path)


def test_steps_without_a_graph_are_not_mixed_with_others(tmp_path):
    line = (
        "Decode batch. #running-req: 16, #token: {}, cuda graph: {}, gen throughput (token/s): {}"
    )
    path = tmp_path / "eager.log"
    flags = [True, False, True, True]
    lines = [line.format(1000 * k, flag, 800 if flag else 250) for k, flag in enumerate(flags, 1)]
    path.write_text("\n".join(lines) + "\n")
    found = read_measurements(path)
    assert found.stage("step").times.tolist() == [0.02] * 3
    assert found.dropped == 1
    assert any("1 decode lines are left out: they ran without a graph" in n for n in found.notes)
    path.write_text("\n".join(lines).replace("True", "False") + "\n")
    assert steps(path).count == 4


def test_ranks_are_chosen_or_taken_together():
    log = SAMPLES / "sglang_dp_ranks.log"
    together = read_measurements(log)
    assert any("Lines of 4 ranks" in note for note in together.notes)
    ones = [steps(log, rank=name) for name in ("DP0", "1", "DP2 TP2", "dp3")]
    assert sum(one.count for one in ones) == together.stage("step").count
    assert {one.count for one in ones} == {together.stage("step").count // 4}
    with pytest.raises(LatencyModelError, match=r"no line is of rank 'DP9'; there are DP0 TP0"):
        steps(log, rank="DP9")


def test_a_log_is_recognised_however_late_it_begins(tmp_path):
    start = "".join(
        f"[2026-03-01 09:00:00 TP{k % 8}] weights are loaded {k}\n" for k in range(3000)
    )
    path = tmp_path / "long.log"
    path.write_text(start + (SAMPLES / "sglang_disagg.log").read_text())
    assert recognise_measurements(path) == "sglang-log"
    assert steps(path).count == steps(SAMPLES / "sglang_disagg.log").count
    info = tmp_path / "info.json"
    info.write_text('{"arguments": "' + "x" * 3_000_000 + '", "step_time_dict": {"4": [0.1, 0.2]}}')
    assert recognise_measurements(info) == "sglang-steps"


BLOCK = """comm bmk gpu=6: mean=0.301ms, p50=0.298ms, p99=0.400ms, max=0.500ms
\t gpu=6 push 1:
\t\tpython_req\t0.010\t0.010\t0.020\t0.030 0.020 0.020
\t\tprocess  \t0.121\t0.120\t0.140\t0.150 0.150 0.140
\t\tnet_cost\t0.082\t{cost}\t0.090\t0.100 0.090 0.090
\t gpu=6 push 2:
\t\tprocess  \t0.121\t0.120\t0.140\t0.150 0.150 0.140
\t\tnet_cost\t0.012\t0.010\t0.020\t0.030 0.030 0.020
"""


def test_text_of_the_stepmesh_benchmark(tmp_path):
    path = tmp_path / "bench.txt"
    path.write_text("starting\n" + BLOCK.format(cost="0.080") + BLOCK.format(cost="0.084"))
    assert recognise_measurements(path) == "stepmesh-text"
    found = read_measurements(path, load=64)
    assert found.stage("transfer").times == pytest.approx([40e-6, 42e-6])
    assert found.stage("ffn").times == pytest.approx([120e-6, 120e-6])
    assert found.stage("ffn").loads.tolist() == [64, 64]
    with pytest.raises(LatencyModelError, match="--load TOKENS"):
        read_measurements(path)
    path.write_text(BLOCK.format(cost="0.000").replace("0.010", "0.000"))
    with pytest.raises(LatencyModelError, match="STEPMESH_ENABLE_TRACE"):
        read_measurements(path, load=64)
    path.write_text(BLOCK.format(cost="0.080")[:200])
    with pytest.raises(LatencyModelError, match="no whole block"):
        read_measurements(path, load=64)


POOL = (
    "[2026-04-01 10:00:0{at}] afd pool time: 2000 calls in 1.42s (1408/s) -- wire in 0.110 ms, "
    "work 0.45{at} ms, wire out 0.070 ms a call; 89% of the wall clock is accounted for\n"
)


def test_lines_of_an_ffn_pool(tmp_path):
    path = tmp_path / "pool.log"
    path.write_text("up\n" + POOL.format(at=1) + POOL.format(at=3))
    assert recognise_measurements(path) == "sglang-pool"
    found = read_measurements(path, load=128)
    assert found.stage("ffn").times == pytest.approx([451e-6, 453e-6])
    assert found.stage("send").times == pytest.approx([110e-6] * 2)
    assert found.stage("receive").times == pytest.approx([70e-6] * 2)
    path.write_text(POOL.format(at=1).replace("0.451", "0.000"))
    with pytest.raises(LatencyModelError, match="above 0"):
        read_measurements(path, load=128)


@pytest.mark.parametrize("name", ["sglang_disagg.log", "sglang_accept_len.log"])
def test_a_log_cut_at_any_byte_gives_no_other_step(name, tmp_path):
    content = (SAMPLES / name).read_bytes()
    whole = set(steps(SAMPLES / name).times.tolist())
    path = tmp_path / "cut.log"
    for end in range(len(content) - 400, len(content)):
        path.write_bytes(content[:end])
        assert set(steps(path).times.tolist()) <= whole


def trace_lines(passes=400, ranks=4, seed=3):
    """Write passes whose time is 10 ms + 0.3 us per KV token + 50 us per request."""
    import json

    rng = np.random.default_rng(seed)
    lines = []
    for k in range(passes):
        for rank in range(ranks):
            requests = int(rng.integers(8, 64))
            tokens = int(requests * rng.uniform(1000, 4000))
            is_idle, is_prefill = k % 50 == 49, k % 20 == 19
            wall = 0.010 + 3e-7 * tokens + 5e-5 * requests + 0.05 * is_prefill
            fpm = {
                "version": 1,
                "worker_id": "4192",
                "dp_rank": rank,
                "counter_id": k + rank,
                "wall_time": 0.0 if is_idle else wall,
                "scheduled_requests": {
                    "num_prefill_requests": int(is_prefill),
                    "sum_prefill_tokens": 256 * is_prefill,
                    "sum_prefill_kv_tokens": 64 * is_prefill,
                    "num_decode_requests": 0 if is_idle else requests,
                    "sum_decode_kv_tokens": 0 if is_idle else tokens,
                    "var_decode_kv_tokens": 50.0,
                },
                "queued_requests": {"num_prefill_requests": 1},
            }
            when = 1_782_777_601_250 + 50 * k + rank
            event = {"schema": "dynamo.fpm.trace.v1", "capture_mode": "full", "fpm": fpm,
                     "source": {"component": "backend"}, "observed_at_unix_ms": when}  # fmt: skip
            lines.append(json.dumps({"timestamp": 50 * k, "event": event}))
    return lines


def test_forward_passes_give_times_of_attention(tmp_path):
    import gzip

    path = tmp_path / "dynamo-fpm.4192.000000.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(trace_lines()).encode()))
    assert recognise_measurements(path) == "fpm"
    found = read_measurements(path, layers=10)
    samples = found.stage("attention")
    expected = 0.010 + 3e-7 * samples.loads + 5e-5 * samples.requests
    assert samples.times * 10 == pytest.approx(expected, rel=1e-9)
    assert found.dropped == 4 * (400 // 50 + 400 // 20 - 400 // 100)
    passes = read_forward_passes(path)
    assert passes.prefill_tokens == 320
    assert len(passes.ranks) == 4
    one = read_fpm_times(path, "2")
    assert one.stage("attention").count * 4 == samples.count
    with pytest.raises(LatencyModelError, match="it has 4192 rank 0"):
        read_forward_passes(path, "7")


def test_damaged_forward_passes(tmp_path):
    lines = trace_lines(passes=10)
    path = tmp_path / "fpm.jsonl"
    path.write_text("\n".join(lines)[:-30])
    assert "was cut" in " ".join(read_forward_passes(path).notes)
    path.write_text("\n".join([*lines[:3], lines[3][:50], *lines[4:]]))
    with pytest.raises(LatencyModelError, match="line 4 is no record"):
        read_forward_passes(path)
    path.write_text(
        "\n".join(line.replace('"wall_time": 0.0', '"wall_time": -1.0') for line in lines)
    )
    with pytest.raises(LatencyModelError, match="wall_time in record"):
        read_forward_passes(path)


def benchmark(**changes):
    def result(batch, tokens, wall, raw):
        point = {"point_type": "decode", "batch_size": batch, "total_kv_read_tokens": tokens,
                 "padding_tokens": 2 if batch == 6 else 0}  # fmt: skip
        scheduled = {"num_decode_requests": batch, "sum_decode_kv_tokens": tokens}
        record = {"wall_time": wall, "dp_rank": 0, "scheduled_requests": scheduled}
        return {"point": point, raw: [record]} if raw else {**point, "wall_time": wall}

    grid = [(b, t) for b in (2, 4, 6) for t in (1000, 2000)]
    rows = [
        result(b, t, 0.01 + 1e-6 * t, ("fpms", "raw_fpms", "")[k % 3])
        for k, (b, t) in enumerate(grid)
    ]
    return {"schema_version": 2, "status": "complete", "valid": True, "results": rows} | changes


def test_the_grid_of_a_self_benchmark(tmp_path):
    import json

    path = tmp_path / "benchmark.json"
    path.write_text(json.dumps(benchmark()))
    assert recognise_measurements(path) == "fpm"
    found = read_measurements(path)
    samples = found.stage("attention")
    assert samples.count == 6
    assert samples.times == pytest.approx(0.01 + 1e-6 * samples.loads)
    assert any("2 passes were padded" in note for note in found.notes)
    for changes, message in (
        ({"schema_version": 3}, "must be 2, got 3"),
        ({"timing_valid": False}, "timing invalid"),
        ({"results": [{"point": {}, "fpms": [{"wall_time": "x"}]}]}, "pass 1"),
    ):
        path.write_text(json.dumps(benchmark(**changes)))
        with pytest.raises(LatencyModelError, match=message):
            read_measurements(path, format_name="fpm")
