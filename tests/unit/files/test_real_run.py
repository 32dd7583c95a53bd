"""What clients wrote in one run of `make real` is read as each of them sums it up itself."""

import json
from pathlib import Path

import pytest

from afdplan.files.measurements.prometheus import read_metrics
from afdplan.files.traces.reader import read_trace

SAMPLES = Path(__file__).parents[2] / "samples" / "real"
RUNS = [
    ("vllm-0.32.0-bench-serve.json.gz", "start", "vllm-bench", (24, 4172, 1481)),
    ("guidellm-0.8.1.json.gz", "vllm-bench", "guidellm", (8, 1014, 264)),
    ("aiperf-0.13.0-profile_export.jsonl.gz", "guidellm", "aiperf", (8, 797, 351)),
]


@pytest.mark.parametrize(("file", "before", "after", "said"), RUNS)
def test_a_client_s_file_says_what_its_summary_says(file, before, after, said):
    trace = read_trace(SAMPLES / file)
    assert (trace.requests, trace.prompt_tokens.sum(), trace.decode_tokens.sum()) == said
    assert trace.dropped_requests == 0
    assert trace.arrival_times is not None


@pytest.mark.parametrize(("file", "before", "after", "said"), RUNS)
def test_so_do_the_server_s_counters_before_and_after(file, before, after, said):
    names = [SAMPLES / f"vllm-0.32.0-metrics-{name}.txt.gz" for name in (before, after)]
    found = read_metrics(*names)
    counted = found.requests, found.prompt_tokens.total, found.decode_tokens.total
    assert counted == said


def result(values):
    """An answer of Prometheus's HTTP API to ``increase(...)``, which drops the metric's name."""
    found = [
        {"metric": {"engine": "0", **labels}, "value": [1.0, str(value)]}
        for labels, value in values
    ]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": found}})


def test_increases_of_buckets_and_of_their_sum_go_together(tmp_path):
    names = []
    for role, mean in (("prompt", 3000.0), ("decode", 40.0)):
        buckets = [({"le": "1000.0"}, 6), ({"le": "2000.0"}, 8), ({"le": "+Inf"}, 10)]
        for part, content in (("buckets", buckets), ("sum", [({}, 10 * mean)])):
            path = tmp_path / f"{role}-{part}.json"
            path.write_text(result(content))
            names.append(f"{role}={path}")
    found = read_metrics(*names)
    assert found.requests == 10
    assert found.prompt_tokens.mean == 3000.0
    assert found.decode_tokens.counts == (6.0, 2.0, 2.0)
    assert found.is_window
