"""Arrivals, drift, influence, sessions, lengths: small cases by hand and known limits."""

import numpy as np
import pytest

from afdplan.lengths.discrete import parse_law
from afdplan.model.trace import Trace
from afdplan.workload.arrivals import describe_arrivals, describe_sessions
from afdplan.workload.drift import describe_drift
from afdplan.workload.interval import token_load_estimate
from afdplan.workload.lengths import LengthSummary, correlation, rank_correlation
from afdplan.workload.split import largest_request


def test_poisson_arrivals_have_unit_variation_and_dispersion():
    times = np.cumsum(np.random.default_rng(1).exponential(0.2, 50_000))
    found = describe_arrivals(times)
    assert found.rate == pytest.approx(5, rel=0.03)
    assert found.interarrival_variation == pytest.approx(1, abs=0.03)
    assert [d.window_seconds for d in found.dispersion] == [1.0, 10.0, 60.0]
    for dispersion in found.dispersion:  # standard error sqrt(2 / windows)
        assert abs(dispersion.index - 1) < 5 * (2 / dispersion.windows) ** 0.5


def test_even_spacing_and_equal_times_are_told_apart():
    assert describe_arrivals(np.arange(100.0)).is_evenly_spaced
    at_once = describe_arrivals(np.zeros(5))
    assert not at_once.is_evenly_spaced
    assert (at_once.rate, at_once.equal_fraction, at_once.dispersion) == (0.0, 1.0, ())


def test_dispersion_by_hand():
    times = np.repeat(np.arange(0, 40, 2.0), 3)  # three in every other second
    (one,) = (d for d in describe_arrivals(times).dispersion if d.window_seconds == 1.0)
    counts = np.tile([3, 0], 19)
    assert one.windows == 38
    assert one.index == pytest.approx(counts.var(ddof=1) / counts.mean())


def trace_with_step(size=2400, factor=3, times=None):
    generator = np.random.default_rng(6)
    prompt = generator.integers(100, 200, size)
    prompt[size // 2 :] *= factor
    return Trace(prompt_tokens=prompt, decode_tokens=np.full(size, 20), arrival_times=times)


def test_a_step_is_a_drift_and_windows_partition_the_trace():
    trace = trace_with_step()
    drift = describe_drift(trace, token_load_estimate(trace), by_time=False)
    assert drift.exceeds_interval
    assert len(drift.windows) == 12
    assert sum(window.requests for window in drift.windows) == trace.requests
    assert drift.windows[0].token_load.value == pytest.approx(150 + 9.5, rel=0.02)
    assert drift.windows[-1].token_load.value == pytest.approx(450 + 9.5, rel=0.02)
    # Two levels 300 apart, six windows each: std 150 * sqrt(12 / 11).
    assert drift.std == pytest.approx(150 * (12 / 11) ** 0.5, rel=0.03)


def test_windows_of_time_with_few_requests_are_joined():
    times = np.concatenate([np.linspace(0, 1, 2300), np.linspace(1.001, 100, 100)])
    trace = trace_with_step(times=times)
    drift = describe_drift(trace, token_load_estimate(trace), by_time=True)
    assert all(window.requests >= 40 for window in drift.windows)
    assert sum(window.requests for window in drift.windows) == trace.requests


def test_a_small_trace_has_no_windows_and_no_drift():
    trace = trace_with_step(size=100)
    drift = describe_drift(trace, token_load_estimate(trace), by_time=False)
    assert drift.windows == ()
    assert not drift.exceeds_interval


def test_constant_requests_do_not_drift():
    trace = Trace(prompt_tokens=np.full(600, 50), decode_tokens=np.full(600, 7))
    drift = describe_drift(trace, token_load_estimate(trace), by_time=False)
    assert (drift.std, drift.probability) == (0.0, 1.0)


def test_the_largest_request_and_the_load_without_it():
    found = largest_request(Trace(prompt_tokens=[10, 100, 0], decode_tokens=[1, 3, 1]))
    assert (found.request, found.prompt_tokens, found.decode_tokens) == (2, 100, 3)
    assert found.load_fraction == pytest.approx(303 / 313)
    assert found.token_load_without == 5.0


def test_sessions_that_repeat_their_history():
    trace = Trace(
        prompt_tokens=[10, 15, 99, 20], decode_tokens=[5, 5, 1, 5], session_ids=[1, 1, 2, 1]
    )
    found = describe_sessions(trace)
    assert (found.count, found.most_requests, found.history_fraction) == (2, 3, 1.0)
    assert describe_sessions(Trace(prompt_tokens=[1], decode_tokens=[1])) is None


def test_summary_of_lengths_and_of_a_law_agree():
    law = parse_law("geometric:50")
    sample = law.sample(np.random.default_rng(3), 200_000)
    seen, exact = LengthSummary.of_lengths(sample), LengthSummary.of_law(law)
    assert seen.mean == pytest.approx(exact.mean, rel=0.01)
    assert seen.std == pytest.approx(exact.std, rel=0.02)
    assert abs(seen.quantiles[50] - exact.quantiles[50]) <= 1
    assert exact.quantiles[50] == 35  # 1 - 0.98^34 < 1/2 <= 1 - 0.98^35


def test_correlations_against_their_definition():
    generator = np.random.default_rng(8)
    x = generator.integers(0, 10, 300)
    y = x + generator.integers(0, 10, 300)
    assert correlation(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1], rel=1e-12)
    ranks = [[np.sum(v < a) + (np.sum(v == a) + 1) / 2 for a in v] for v in (x, y)]
    assert rank_correlation(x, y) == pytest.approx(np.corrcoef(ranks)[0, 1], rel=1e-12)
    assert correlation([1, 1], [1, 2]) == 0.0
