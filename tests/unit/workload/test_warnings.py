"""Each warning: said when it should be, and only then."""

import numpy as np
import pytest

from afdplan.errors import UnsupportedError
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.trace import Trace
from afdplan.workload.description import describe_law, describe_workload
from afdplan.workload.warnings import rounded_count


def lengths(size=60_000, seed=1):
    generator = np.random.default_rng(seed)
    return generator.integers(500, 600, size), generator.integers(90, 110, size)


def warnings_of(prompt, decode, **more):
    return describe_workload(Trace(prompt_tokens=prompt, decode_tokens=decode, **more)).warnings


def poisson(size):
    return np.cumsum(np.random.default_rng(9).exponential(1.0, size))


def test_a_good_trace_has_no_warnings():
    prompt, decode = lengths()
    assert warnings_of(prompt, decode, arrival_times=poisson(prompt.size)) == ()


def said(warnings, words):
    return [warning for warning in warnings if words in warning]


def test_one_request_that_carries_the_load():
    prompt, decode = lengths(5000)
    prompt[17] = 4_000_000
    decode[17] = 10_000
    (warning,) = said(warnings_of(prompt, decode), "alone carries")
    assert warning.startswith("request 18 (prompt 4,000,000, output 10,000)")


def test_too_few_requests_for_one_per_cent():
    prompt, decode = np.random.default_rng(2).integers(1, 3000, size=(2, 500))
    warnings = warnings_of(prompt, decode)
    assert said(warnings, "± 1 % would take about")
    assert not said(warnings, "to judge by")
    assert said(warnings_of(prompt[:30], decode[:30]), "only 30 requests to judge by")


def test_drift_beyond_the_interval():
    prompt, decode = lengths(6000)
    assert not said(warnings_of(prompt, decode), "drifts")
    prompt[3000:] *= 2
    assert said(warnings_of(prompt, decode), "the load drifts")


def test_cached_prefixes_by_note_or_by_evidence():
    prompt, decode = lengths(1000)
    note = "prompts include cached prefixes (column 'x'): right for the KV cache"
    assert said(
        warnings_of(prompt, decode, notes=(note,)), "prefixes (column 'x'): right for decode"
    )
    left_out = ("1 of 9 records left out: answered from a cache of answers",)
    assert not said(warnings_of(prompt, decode, notes=left_out), "prefixes")
    ids = np.arange(1000) // 10
    grown = 100 + 300 * (np.arange(1000) % 10)
    assert said(warnings_of(grown, decode, session_ids=ids), "100 % of follow-up requests")
    assert not said(warnings_of(prompt, decode, session_ids=ids), "cached")


def test_constant_outputs_of_traces_and_laws():
    prompt, decode = lengths(1000)
    assert said(warnings_of(prompt, np.full(1000, 64)), "every output has 64 tokens")
    assert not said(warnings_of(prompt, np.ones(1000, dtype=int)), "every output")
    assert not said(warnings_of(prompt, decode), "every output")
    assert said(describe_law(IndependentLengths(prompt="9", decode="64")).warnings, "64 tokens")
    assert not describe_law(IndependentLengths(prompt="9", decode="geometric:64")).warnings


def test_arrivals_missing_even_or_equal():
    prompt, decode = lengths(1000)
    assert said(warnings_of(prompt, decode), "no arrival times")
    even = warnings_of(prompt, decode, arrival_times=np.arange(1000) * 0.5)
    assert said(even, "exactly 0.5 s apart")
    coarse = warnings_of(prompt, decode, arrival_times=np.floor(poisson(1000) / 3) * 3)
    assert said(coarse, "very time of the one before")
    assert said(warnings_of(prompt, decode, arrival_times=np.zeros(1000)), "100 % of requests")


def test_the_law_of_a_trace_is_not_taken_for_a_law():
    trace = Trace(prompt_tokens=[1, 2], decode_tokens=[1, 2])
    with pytest.raises(UnsupportedError, match="describe_workload"):
        describe_law(EmpiricalLengths(trace))


def test_extrapolations_are_rounded_to_two_digits():
    assert [rounded_count(n) for n in (1, 42, 437, 999, 123_456)] == [
        "1", "42", "440", "1,000", "120,000",
    ]  # fmt: skip
