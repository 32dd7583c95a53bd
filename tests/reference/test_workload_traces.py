"""Statistics of real traces, against figures found by token-by-token expansion."""

import json
import time

import numpy as np
import pytest

from afdplan.files.traces.reader import read_trace
from afdplan.lengths.law import EmpiricalLengths
from afdplan.workload.description import describe_workload
from afdplan.workload.interval import token_load_estimate
from tests.shared import shared

NAMES = (
    "arxiv_summarization",
    "azure2023_code",
    "azure2023_conv",
    "claude_code_agentic",
    "lmcache_miniswe",
    "mooncake_conversation",
    "servegen_deepseek_r1",
    "sharegpt_8k_llama2",
)


@pytest.fixture(scope="module", params=NAMES)
def trace(request):
    return read_trace(shared(f"traces/{request.param}.csv"))


def test_mean_token_load_is_that_of_the_manifest(trace):
    manifest = json.loads(shared("traces/MANIFEST.json").read_text())
    expected = {entry["file"]: entry["theta"] for entry in manifest}
    report = describe_workload(trace)
    name = trace.source.replace("\\", "/").rpartition("/")[2]
    assert report.token_load.value == pytest.approx(expected[name], rel=1e-12)
    assert report.split.total == pytest.approx(report.token_load.value, rel=1e-9)
    assert report.token_load.low < report.token_load.value < report.token_load.high
    assert -0.78 <= report.geometric.mean_error_fraction <= 1.12  # the range of 17 traces


def test_order_changes_no_digit_of_the_value(trace):
    order = np.random.default_rng(0).permutation(trace.requests)
    shuffled = EmpiricalLengths(
        type(trace)(
            prompt_tokens=trace.prompt_tokens[order], decode_tokens=trace.decode_tokens[order]
        )
    )
    assert shuffled.token_load() == EmpiricalLengths(trace).token_load()


def test_azure2023_conv_to_the_printed_digit():
    trace = read_trace(shared("traces/azure2023_conv.csv"))
    report = describe_workload(trace)
    assert f"{report.token_load.value:.3f}" == "1226.479"
    assert f"{report.token_load_std:.3f}" == "712.879"
    assert report.precision.widening > 2
    assert report.drift.exceeds_interval


def test_azure2023_conv_shortcut_variance_by_simulating_what_the_shortcut_assumes():
    trace = read_trace(shared("traces/azure2023_conv.csv"))
    found = describe_workload(trace).geometric
    generator = np.random.default_rng(5)
    size = 2_000_000
    prompt = trace.prompt_tokens[generator.integers(trace.requests, size=size)]
    age = generator.geometric(1 / trace.decode_tokens.mean(), size) - 1
    load = prompt + age
    centred = (load - load.mean()) ** 2
    z = (load.var() - found.std_token_load**2) / (centred.std() / size**0.5)
    assert abs(z) <= 5
    z = (load.mean() - found.mean_token_load) / (load.std() / size**0.5)
    assert abs(z) <= 5


def test_the_largest_trace_is_estimated_in_no_time():
    trace = read_trace(shared("traces/servegen_deepseek_r1.csv"))
    began = time.perf_counter()
    token_load_estimate(trace)
    assert time.perf_counter() - began < 0.5  # 0.02 s alone; the machine may be busy
