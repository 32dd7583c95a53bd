"""Lines as the systems' sources write them, and counts with what they add up to."""

from __future__ import annotations

import json

import numpy as np
import pytest

from afdplan.errors import LatencyModelError
from afdplan.files.measurements.expert_load import read_expert_load
from afdplan.files.measurements.reader import read_measurements, recognise_measurements

VLLM = (
    "(EngineCore pid=7) INFO 08-01 12:00:01 [eplb_state.py:512] [EPLB_TRACE] rank_load step=3000 "
    "rank_tokens=[{}]\n"
)
SGLANG = (
    "[2026-08-01 10:00:00 TP0] [Expert Balancedness] forward_pass_id={} "
    "current_pass_balancedness={} last_10_average_balancedness=0.500 gpu_physical_count_sum=100\n"
)
ASCEND = "INFO [Expert Hotness] Current: mean={}, max=9.1, Updated: mean={}, max=1.3\n"
OTHER = "INFO 08-01 12:00:00 [core.py:1] Engine 000: Avg generation throughput: 9.0 tokens/s\n"
STEP = "INFO EPLB step: 3 for model m: avg_tokens=100.00, max_tokens=120, balancedness=0.8333\n"


def write(path, text):
    path.write_text(text)
    return path


def test_rank_loads_of_vllm(tmp_path):
    lines = [VLLM.format("100, 120, 80, 100"), OTHER, STEP, VLLM.format("0, 0, 0, 0")]
    record = read_expert_load(write(tmp_path / "a.log", "".join([*lines, VLLM.format("1,1,1,5")])))
    assert record.busiest.tolist() == [1.2, 2.5]
    assert (record.ranks, record.rebalanced, record.counts) == (4, None, None)
    assert record.notes == ("1 passes without tokens are left out.",)


def test_balancedness_of_sglang(tmp_path):
    text = SGLANG.format(1, "0.800") + OTHER + SGLANG.format(2, "0.500")
    record = read_expert_load(write(tmp_path / "a.log", text))
    assert record.busiest.tolist() == [1.25, 2.0]
    assert "a little less" in record.notes[0]


def test_hotness_of_ascend(tmp_path):
    text = ASCEND.format("1.400", "1.020") + ASCEND.format("1.600", "1.040")
    record = read_expert_load(write(tmp_path / "a.log", text))
    assert record.busiest.tolist() == [1.4, 1.6]
    assert record.rebalanced.tolist() == [1.02, 1.04]


def test_a_line_that_compares_layers_is_refused(tmp_path):
    with pytest.raises(LatencyModelError, match="compared layers instead of ranks until August"):
        read_expert_load(write(tmp_path / "a.log", STEP))


@pytest.mark.parametrize("form", ["bare", "named", "passes"])
def test_counts_per_layer_and_expert(tmp_path, form):
    counts = np.array([[0, 0, 0], [5, 3, 2], [1, 1, 8]])
    table = np.stack([counts, counts]) if form == "passes" else counts
    document = table.tolist() if form == "bare" else {"rank": 0, "logical_count": table.tolist()}
    record = read_expert_load(write(tmp_path / "a.json", json.dumps(document)))
    assert np.array_equal(record.counts, counts[1:] * (2 if form == "passes" else 1))
    assert record.notes == ("1 of 3 layers chose no expert (dense) and are left out.",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"logical_count": [[1, -2]]}', "at least 0"),
        ('{"logical_count": [[1, 2], [3]]}', "all rows alike"),
        ('{"logical_count": [[0, 0]]}', "no expert was chosen"),
        ('{"logical_count": [1, 2]}', "shape"),
        ('{"logical_count": [["a"]]}', "table of numbers"),
        ('{"logical_count": [[1e999]]}', "is no JSON|finite"),
        ('{"other": 1}', "has no table of counts"),
        ("[[1, 2], [3", "is no JSON"),
        (VLLM.format("1, 2..3"), "line 1 has a load that is no number"),
        (VLLM.format("1, 2") + VLLM.format("1, 2, 3"), "of 2, 3 ranks"),
        (VLLM.format("1, 2") + ASCEND.format("1.1", "1.0"), "mixes Ascend .* and vLLM"),
        (OTHER, "says nothing of the load of experts"),
        ("", "empty"),
    ],
)
def test_what_is_refused(tmp_path, text, told):
    with pytest.raises(LatencyModelError, match=told):
        read_expert_load(write(tmp_path / "a", text))


def test_a_pickle_is_never_read(tmp_path):
    path = tmp_path / "expert_distribution_recorder_1.pt"
    path.write_bytes(b"PK\x03\x04\0\0\x08\x08" + bytes(22) + b"archive/data.pkl" + bytes(99))
    with pytest.raises(LatencyModelError, match=r"torch\.save, as a pickle.*JSON"):
        read_expert_load(path)


@pytest.mark.parametrize(
    "text",
    [OTHER * 2000 + VLLM.format("1, 2"), SGLANG.format(1, 0.5), '{"a": 1, "counts": [[1, 2]]}'],
)
def test_it_is_recognised_and_is_no_time(tmp_path, text):
    path = write(tmp_path / "a", text)
    assert recognise_measurements(path) == "expert-load"
    with pytest.raises(LatencyModelError, match="it holds no stage times"):
        read_measurements(path)
