"""Are cached prefixes those of a reference count, by sessions and by block ids?"""

from __future__ import annotations

import json

import numpy as np
import pytest

from afdplan.errors import InvalidInputError, TraceError
from afdplan.files.traces.reader import read_trace
from afdplan.lengths.law import EmpiricalLengths
from afdplan.model.trace import Trace
from afdplan.planning.traffic import service_traffic
from afdplan.workload.prefixes import session_prefixes
from tests.shared import shared


def test_sessions_of_the_agentic_trace_are_counted_one_by_one():
    trace = read_trace(shared("traces/claude_code_agentic.csv"))
    held: dict[int, int] = {}
    computed = 0
    rows = zip(
        trace.session_ids.tolist(),
        trace.prompt_tokens.tolist(),
        trace.decode_tokens.tolist(),
        strict=True,
    )
    for session, prompt, decode in rows:
        before = held.get(session, 0)
        computed += prompt - min(before, prompt - 1) if prompt >= before else prompt
        held[session] = prompt + decode
    traffic = service_traffic(EmpiricalLengths(trace), trace, "trace", "session")
    assert int((traffic.prompts - traffic.cached).sum()) == computed
    assert traffic.cached_fraction > 0.5


def written(folder, size=512):
    """Return a trace with block ids as Mooncake writes them, and the tokens to compute."""
    generator = np.random.default_rng(5)
    seen, rows, computed, fresh = [], [], 0, 0
    known = set()
    for k in range(300):
        tail = int(generator.integers(1, 12))
        base = seen[int(generator.integers(len(seen)))] if seen and k % 3 else []
        base = base[: int(generator.integers(len(base) + 1))] if base else []
        ids = [*base, *range(fresh, fresh + tail)]
        fresh += tail
        prompt = size * len(ids) - int(generator.integers(0, size))
        shared_tokens = 0
        for block in ids:
            if block not in known:
                break
            shared_tokens += size
        computed += prompt - min(shared_tokens, prompt - 1)
        known.update(ids)
        seen.append(ids)
        rows.append(
            {
                "timestamp": 10 * k + k % 7,
                "input_length": prompt,
                "output_length": 5,
                "hash_ids": ids,
            }
        )
    path = folder / "mooncake.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path, computed


def test_block_ids_are_a_prefix_cache_that_forgets_nothing(tmp_path):
    path, computed = written(tmp_path)
    trace = read_trace(path, prefixes=True)
    assert int((trace.prompt_tokens - trace.cached_tokens).sum()) == computed
    assert read_trace(path).cached_tokens is None
    traffic = service_traffic(EmpiricalLengths(trace), trace, "trace", "recorded")
    assert np.array_equal(traffic.cached, trace.cached_tokens)
    part = trace.part(100, 200)
    assert np.array_equal(part.cached_tokens, trace.cached_tokens[100:200])


def test_recorded_counts_are_taken_as_they_are(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(
        "timestamp,prompt_tokens,completion_tokens,num_cached_tokens\n"
        "0,100,5,0\n1,220,5,104\n3,300,5,300\n"
    )
    assert read_trace(path, prefixes=True).cached_tokens.tolist() == [0, 104, 299]


def test_what_is_not_recorded_is_refused(tmp_path):
    bare = Trace(prompt_tokens=[5, 6, 7], decode_tokens=[1, 1, 1], arrival_times=[0.0, 1.0, 5.0])
    with pytest.raises(InvalidInputError, match="names no sessions"):
        session_prefixes(bare)
    with pytest.raises(InvalidInputError, match="without its cached"):
        service_traffic(EmpiricalLengths(bare), bare, "trace", "recorded")
    path = tmp_path / "bare.csv"
    path.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0,5,1\n1,9,2\n")
    with pytest.raises(TraceError, match="records no cached prefixes"):
        read_trace(path, prefixes=True)
    with pytest.raises(TraceError, match="at most its prompt"):
        Trace(prompt_tokens=[5], decode_tokens=[1], cached_tokens=[6])
    odd = tmp_path / "odd.jsonl"
    lines = [
        {"timestamp": k, "input_length": 1000 + 37 * k, "output_length": 2, "hash_ids": [k] * 7}
        for k in range(5)
    ]
    odd.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(TraceError, match="tokens per block"):
        read_trace(odd, prefixes=True)
