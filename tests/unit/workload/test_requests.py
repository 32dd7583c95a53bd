from __future__ import annotations

import pytest

from afdplan.errors import InvalidInputError
from afdplan.model.trace import Trace
from afdplan.workload.interval import token_load_estimate
from afdplan.workload.requests import read_requests, requests_of_laws, requests_of_trace


def test_laws_have_no_trace_and_nothing_to_mistrust():
    found = requests_of_laws("100", "10")
    assert found.law.token_load().mean == 104.5
    assert (found.whole, found.trace, found.report, found.token_load) == (None,) * 4
    assert found.warnings == ()
    with pytest.raises(InvalidInputError, match="gauss"):
        requests_of_laws("gauss:100", "10")


def test_a_window_counts_its_requests_and_says_so():
    # An hour of short requests from nine, one of long ones from ten.
    times = [*range(0, 3600, 60), *range(3600, 7200, 60)]
    trace = Trace(
        prompt_tokens=[100] * 60 + [900] * 60,
        decode_tokens=[10] * 120,
        arrival_times=times,
        clock=9 * 3600.0,
    )
    whole, late = requests_of_trace(trace), requests_of_trace(trace, window="10:00-11:00")
    assert whole.trace is whole.whole is late.whole is trace
    assert whole.token_load == token_load_estimate(trace)
    assert whole.token_load.value == 504.5
    assert late.trace.requests == 60
    assert late.token_load.value == 904.5
    assert late.warnings[0] == "only the 60 of 120 requests of 10:00-11:00 count"
    assert not any(text.startswith("only the 60") for text in whole.warnings)


def test_one_request_has_a_law_but_no_interval():
    found = requests_of_trace(Trace(prompt_tokens=[5], decode_tokens=[3]))
    assert found.law.token_load().mean == 6.0
    assert found.report is None
    assert "the token load has no interval" in found.warnings[-1]


def test_a_snapshot_of_counters_stands_for_a_trace(tmp_path):
    lines = []
    for name, value in (("request_prompt_tokens", 64), ("request_generation_tokens", 8)):
        lines += [
            f"# TYPE vllm:{name} histogram",
            f'vllm:{name}_bucket{{le="{value}"}} 50',
            f'vllm:{name}_bucket{{le="+Inf"}} 50',
            f"vllm:{name}_count 50",
            f"vllm:{name}_sum {50 * value * 0.75}",
        ]
    path = tmp_path / "metrics.txt"
    path.write_text("\n".join(lines) + "\n")
    trace = read_requests(str(path), format="prometheus")
    assert trace.requests == 50
    assert trace.prompt_tokens.mean() == pytest.approx(48, abs=1)
    assert trace.decode_tokens.mean() == pytest.approx(6, abs=0.5)
