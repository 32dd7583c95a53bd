"""Profiler traces give a role's compute times, streamed, whatever the chunks cut through."""

import gzip
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from afdplan.errors import LatencyModelError
from afdplan.files import document
from afdplan.files.measurements.torch_trace import read_torch_trace, trace_events

SAMPLES = Path(__file__).parents[3] / "samples"


def kernel(name, begin, length, **args):
    return {"ph": "X", "cat": "kernel", "name": name, "ts": begin, "dur": length, "args": args}


def wire(kind, begin, length, **args):
    return kernel("ncclDevKernel_SendRecv(...)", begin, length, **{"Collective name": kind, **args})


@pytest.fixture
def trace(tmp_path):
    def _trace(events, name="trace.json", indent=None):
        path = tmp_path / name
        text = json.dumps({"schemaVersion": 1, "traceEvents": events}, indent=indent)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
        return path

    return _trace


def test_sample_of_the_attention_role():
    found = read_torch_trace(
        SAMPLES / "torch_attention.json.gz", "attention", load=393216, requests=48
    )
    assert found.stage("attention").times == pytest.approx(np.full(11, 120e-6), rel=0.03)
    assert found.stage("send").times.tolist() == pytest.approx([15e-6])
    assert found.stage("step").count == 2


def test_sample_of_the_ffn_role_without_directions():
    found = read_torch_trace(SAMPLES / "torch_ffn.json", "ffn", load=384)
    assert found.stage("ffn").times == pytest.approx(np.full(4, 80e-6), rel=0.03)
    assert any("told apart by their turn" in note for note in found.notes)
    # What the FFN sends is what attention receives.
    assert found.stage("receive").times.tolist() == pytest.approx([14e-6])


def test_two_microbatches_in_flight(trace):
    """Two microbatches share one compute stream: 100 us each, replies come 130 us later."""
    events, clock = [], 0.0
    back = [0.0, 0.0]
    for turn in range(20):
        begin = max(clock, back[turn % 2])
        clock = begin + 100.0
        events.append(kernel("attention", begin, 100.0))
        events.append(wire("send", clock, 10.0))
        back[turn % 2] = clock + 130.0
        events.append(wire("recv", clock + 20.0, 110.0))
    path = trace(events)
    with pytest.raises(LatencyModelError, match="several are in flight: give --microbatches"):
        read_torch_trace(path, "attention", load=1000.0)
    found = read_torch_trace(path, "attention", load=1000.0, microbatches=2)
    assert found.stage("attention").times == pytest.approx(np.full(18, 100e-6))


def test_ffn_waits_for_the_last_of_its_peers(trace):
    events = []
    for turn in range(5):
        base = 1000.0 * turn
        events += [wire("recv", base, 100.0), wire("recv", base + 50, 150.0)]
        events += [wire("send", base + 280.0, 10.0), wire("send", base + 290.0, 10.0)]
    found = read_torch_trace(trace(events), "ffn", load=10.0, peers=2)
    assert found.stage("ffn").times == pytest.approx(np.full(5, 80e-6))


def test_ascend_operators_name_their_direction(trace):
    events = []
    for turn in range(4):
        base = 1000.0 * turn
        events += [
            kernel("afd_ascend::a2e", base + 200, 30.0),
            kernel("afd_ascend::e2a", base + 300, 700.0),
        ]
    found = read_torch_trace(trace(events), "attention", load=10.0)
    assert found.stage("attention").times == pytest.approx(np.full(3, 200e-6))


@pytest.mark.parametrize("indent", [None, 1])
def test_chunks_may_cut_anywhere(trace, monkeypatch, indent):
    events = [kernel(f'odd "]}}{{[" naïve 名 {k}', k, 1.0, deep=[[{"a": []}]]) for k in range(40)]
    path = trace(events, indent=indent)
    whole = list(trace_events(path))
    assert whole == events
    for chunk in (7, 64, 333):
        monkeypatch.setattr(document, "BLOCK", chunk)
        assert list(trace_events(path)) == events


def test_memory_does_not_grow_with_the_trace(trace):
    events = [kernel("gemm" + "x" * 200, k, 1.0, stream=7) for k in range(60_000)]
    path = trace(events + [wire("send", k, 1.0) for k in range(9)], "big.json.gz")
    del events
    tracemalloc.start()
    count = sum(1 for _ in trace_events(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 60_009
    assert peak < 12_000_000  # the trace is 18 MB


BAD = [
    (b'{"traceEvents": [{"ph": "X", "ts": 1', "ends within its list of events .after 0.*cut"),
    (b'{"traceEvents": [' + b"[" * 200_000, "nested too deeply"),
    (b'{"traceEvents": [}' + b" " * 20_000_000, "event 1 is no JSON"),
    (b'{"other": 1}', "no list traceEvents"),
    (b'{"traceEvents": []}', "found 0 sends and 0 receives"),
    (b"", "is empty"),
    (
        gzip.compress(b'{"traceEvents": [' + b"{}," * 9999)[:-20],
        "gzip data is cut short or damaged",
    ),
]


@pytest.mark.parametrize(("content", "message"), BAD, ids=range(len(BAD)))
def test_damage_costs_one_line(tmp_path, content, message):
    path = tmp_path / "trace.json"
    path.write_bytes(content)
    with pytest.raises(LatencyModelError, match=message):
        read_torch_trace(path, "attention", load=1.0)


def test_mixed_ranks_and_unknown_directions_are_refused(trace):
    mixed = [wire("send", 10.0 * k, 1.0, device=k % 2) for k in range(8)]
    with pytest.raises(LatencyModelError, match="devices 0, 1 are mixed"):
        read_torch_trace(trace(mixed), "attention", load=1.0)
    plain = [kernel("ncclDevKernel_SendRecv", 10.0 * k, 1.0) for k in range(8)]
    with pytest.raises(LatencyModelError, match="name no direction"):
        read_torch_trace(trace(plain), "attention", load=1.0, microbatches=2)
