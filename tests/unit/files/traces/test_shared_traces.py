"""The real traces are read without options and agree with the figures published with them."""

from __future__ import annotations

import json

import pytest

from afdplan.files.traces.reader import read_trace
from afdplan.lengths.law import EmpiricalLengths
from tests.shared import shared

NAMES = (
    "arxiv_summarization", "azure2023_code", "azure2023_conv", "claude_code_agentic",
    "lmcache_miniswe", "mooncake_conversation", "servegen_deepseek_r1", "sharegpt_8k_llama2",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_shared_trace(name):
    manifest = json.loads(shared("traces/MANIFEST.json").read_text())
    facts = next(entry for entry in manifest if entry["file"] == f"{name}.csv")
    trace = read_trace(shared(f"traces/{name}.csv"))
    assert trace.requests == facts["rows"]
    assert EmpiricalLengths(trace).token_load().mean == pytest.approx(facts["theta"], rel=1e-12)
    assert (trace.arrival_times is None) == (facts["arrivals"] == "none")
    assert trace.dropped_requests == 0
