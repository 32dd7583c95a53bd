"""Three-term split and geometric shortcut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.trace import Trace
from afdplan.workload.split import geometric_shortcut, split_token_load

lengths = st.lists(
    st.tuples(st.integers(0, 1_000_000), st.integers(1, 200_000)), min_size=1, max_size=50
)


@given(lengths)
def test_the_terms_sum_to_the_mean_token_load(pairs):
    prompt, decode = np.array(pairs).T
    law = EmpiricalLengths(Trace(prompt_tokens=prompt, decode_tokens=decode))
    assert split_token_load(law).total == pytest.approx(law.token_load().mean, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("prompt", ["100", "geometric:300", "lognormal:mean=900,cv=1.1"])
@pytest.mark.parametrize("decode", ["1", "64", "geometric:500", "uniform:5..90"])
def test_so_they_do_for_laws(prompt, decode):
    law = IndependentLengths(prompt=prompt, decode=decode)
    split = split_token_load(law)
    assert split.total == pytest.approx(law.token_load().mean, rel=1e-9)
    assert split.dependence == 0.0


def test_each_term_by_hand():
    law = EmpiricalLengths(Trace(prompt_tokens=[0, 6], decode_tokens=[1, 3]))
    split = split_token_load(law)  # E[D] = 2, E[D^2] = 5, Cov = 9 - 6
    assert (split.prompt, split.growth, split.dependence) == (3.0, 0.75, 1.5)


def test_the_shortcut_is_exact_for_what_it_assumes():
    law = IndependentLengths(prompt="uniform:10..90", decode="geometric:200")
    found = geometric_shortcut(law, law.token_load())
    assert found.mean_error_fraction == pytest.approx(0, abs=1e-9)
    assert found.variance_error_fraction == pytest.approx(0, abs=1e-9)
    assert found.variation == pytest.approx(found.geometric_variation, rel=1e-9)


def test_the_shortcut_doubles_the_growth_of_constant_outputs():
    law = IndependentLengths(prompt="0", decode="101")
    found = geometric_shortcut(law, law.token_load())
    assert found.mean_error_fraction == pytest.approx(1.0)  # 100 instead of 50
    assert found.variation == 0.0


def test_one_token_outputs_leave_nothing_to_err_about():
    law = IndependentLengths(prompt="0", decode="1")
    found = geometric_shortcut(law, law.token_load())
    assert (found.mean_error_fraction, found.variance_error_fraction) == (0.0, 0.0)
