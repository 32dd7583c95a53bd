"""Load, drift and barrier of forward passes are those that wrote them."""

import json

import numpy as np
import pytest

from afdplan.errors import InsufficientDataError
from afdplan.files.measurements.fpm import read_forward_passes
from afdplan.workload.passes import describe_passes

RANKS = 4


def written(path, passes=600, drift=0.0, jitter=3, seed=5):
    """Write passes of four ranks and return their KV tokens, shape (passes, ranks)."""
    rng = np.random.default_rng(seed)
    tokens = np.zeros((passes, RANKS))
    lines = []
    for k in range(passes):
        for rank in range(RANKS):
            mean = 2000 * (1 + drift * k / passes)
            tokens[k, rank] = int(32 * rng.normal(mean, 300))
            scheduled = {"num_decode_requests": 32, "sum_decode_kv_tokens": int(tokens[k, rank])}
            fpm = {
                "worker_id": "w",
                "dp_rank": rank,
                "counter_id": k + 7 * rank,  # counters drift apart
                "wall_time": 0.01 + 1e-7 * tokens[k, rank],
                "scheduled_requests": scheduled,
            }
            when = 1_782_777_600_000 + 40 * k + int(rng.integers(-jitter, jitter + 1))
            event = {"schema": "dynamo.fpm.trace.v1", "observed_at_unix_ms": when, "fpm": fpm}
            lines.append(json.dumps({"timestamp": 40 * k, "event": event}))
    path.write_text("\n".join(lines) + "\n")
    return tokens


def test_the_slowest_rank_is_matched_by_time(tmp_path):
    path = tmp_path / "fpm.jsonl"
    tokens = written(path)
    found = describe_passes(read_forward_passes(path))
    assert found.passes == tokens.size
    assert found.token_load.value == pytest.approx(tokens.mean() / 32)
    assert found.token_load.low < 2000 < found.token_load.high
    barrier = found.barrier
    assert barrier.passes == len(tokens)
    assert barrier.tokens == pytest.approx(tokens.max(axis=1).mean() / tokens.mean())
    times = 0.01 + 1e-7 * tokens
    assert barrier.time == pytest.approx(times.max(axis=1).mean() / times.mean())
    assert barrier.step_time == pytest.approx(times.max(axis=1).mean())
    assert barrier.requests == 1.0
    assert found.duration == pytest.approx(599 * 0.04, abs=0.01)


def test_drift_is_seen(tmp_path):
    path = tmp_path / "fpm.jsonl"
    written(path, drift=0.5)
    found = describe_passes(read_forward_passes(path))
    assert found.drift[-1] / found.drift[0] == pytest.approx(
        (1 + 7.5 / 16) / (1 + 0.5 / 16), rel=0.02
    )


def test_ranks_whose_passes_never_meet_have_no_barrier(tmp_path):
    path = tmp_path / "fpm.jsonl"
    written(path)
    lines = path.read_text().splitlines()
    kept = [line for line in lines if '"dp_rank": 0' in line][:300]
    kept += [line for line in lines if '"dp_rank": 1' in line][300:]
    path.write_text("\n".join(kept))
    assert describe_passes(read_forward_passes(path)).barrier is None
    assert describe_passes(read_forward_passes(path, "0")).barrier is None
    path.write_text("\n".join(kept[:20]))
    with pytest.raises(InsufficientDataError, match="20 passes"):
        describe_passes(read_forward_passes(path))
