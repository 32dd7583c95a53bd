"""Mean token load of a trace: the formula by expansion, order, sessions, refusals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afdplan.errors import InsufficientDataError
from afdplan.lengths.law import EmpiricalLengths
from afdplan.model.trace import Trace
from afdplan.workload.interval import bootstrap_token_load, request_loads, token_load_estimate

requests = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40)), min_size=2, max_size=40)


@given(requests)
def test_the_value_is_the_mean_over_every_decode_step(pairs):
    prompt, decode = np.array(pairs).T
    trace = Trace(prompt_tokens=prompt, decode_tokens=decode)
    steps = [p + i for p, d in pairs for i in range(d)]
    assert request_loads(trace).sum() == sum(steps)
    found = token_load_estimate(trace, replicates=100)
    assert found.value == pytest.approx(np.mean(steps), rel=1e-12, abs=1e-12)
    assert found.value == EmpiricalLengths(trace).token_load().mean
    assert found.low <= found.value <= found.high


def test_order_changes_the_interval_but_no_digit_of_the_value():
    generator = np.random.default_rng(2)
    prompt = np.sort(generator.integers(0, 5000, 2000))
    decode = generator.integers(1, 500, 2000)
    order = generator.permutation(2000)
    sorted_trace = Trace(prompt_tokens=prompt, decode_tokens=decode)
    shuffled = Trace(prompt_tokens=prompt[order], decode_tokens=decode[order])
    one, other = (
        bootstrap_token_load(trace, EmpiricalLengths(trace)) for trace in (sorted_trace, shuffled)
    )
    assert one.estimate.value == other.estimate.value
    assert one.standard_error > 5 * other.standard_error
    assert other.widening < 1.5


def test_sessions_are_the_units_however_they_are_interleaved():
    generator = np.random.default_rng(4)
    level = generator.integers(100, 9000, 60)
    ids = generator.permutation(np.repeat(np.arange(60), 30))
    trace = Trace(
        prompt_tokens=level[ids] + generator.integers(0, 50, ids.size),
        decode_tokens=generator.integers(50, 60, ids.size),
        session_ids=ids,
    )
    found = bootstrap_token_load(trace, EmpiricalLengths(trace))
    assert found.units == 60
    assert found.effective_entries < 2.5 * 60
    assert "sessions" in found.estimate.method


def test_one_request_is_refused_with_its_value_and_a_remedy():
    with pytest.raises(InsufficientDataError, match="give more requests") as caught:
        token_load_estimate(Trace(prompt_tokens=[10], decode_tokens=[3]))
    assert caught.value.estimate == 11.0
