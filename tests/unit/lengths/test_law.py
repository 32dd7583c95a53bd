from __future__ import annotations

import numpy as np
import pytest

from afdplan.errors import InvalidInputError
from afdplan.lengths.discrete import parse_law
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.trace import Trace
from tests.models import correlated, geometric


def expanded(prompt, decode, window=None):
    """Every token of every request, one by one."""
    loads = np.concatenate([p + np.arange(d) for p, d in zip(prompt, decode, strict=True)])
    return loads if window is None else np.minimum(loads, window)


@pytest.mark.parametrize("window", [None, 1, 17, 40, 10_000])
def test_empirical_load_equals_token_by_token_expansion(window):
    law = correlated()
    loads = expanded(law.prompt_tokens, law.decode_tokens, window)
    load = law.token_load(window)
    assert load.mean == pytest.approx(loads.mean(), rel=1e-12)
    assert load.variance == pytest.approx(loads.var(), rel=1e-10)
    slot = law.slot_load(window)
    values, counts = np.unique(loads, return_counts=True)
    expected = np.zeros(slot.probabilities.size)
    expected[(values - slot.lowest).astype(int)] = counts / loads.size
    np.testing.assert_allclose(slot.probabilities, expected, atol=1e-15)


@pytest.mark.parametrize("window", [None, 5, 30])
def test_independent_load_equals_enumeration(window):
    law = IndependentLengths(prompt="uniform:0..7", decode="uniform:1..40")
    pairs = [(p, d) for p in range(8) for d in range(1, 41)]
    loads = expanded(*zip(*pairs, strict=True), window)
    load = law.token_load(window)
    assert load.mean == pytest.approx(loads.mean(), rel=1e-12)
    assert load.variance == pytest.approx(loads.var(), rel=1e-12)
    slot = law.slot_load(window)
    assert slot.probabilities.sum() == pytest.approx(1)
    assert slot.probabilities @ slot.support == pytest.approx(loads.mean(), rel=1e-12)


@pytest.mark.parametrize("made", [correlated, geometric])
def test_loads_are_found_once_for_each_window(made):
    """All parts of an answer ask for them; a tail of millions of tokens takes a while."""
    law, other = made(), made()
    for load in ("slot_load", "token_load"):
        found = [getattr(law, load)(window) for window in (None, 17, None, 17)]
        assert found[0] is found[2]
        assert found[1] is found[3]
        assert found[0] != found[1]
        assert getattr(other, load)() is not found[0]
    assert law.token_load(window=17) == other.slot_load(17).moments


def test_fft_and_direct_convolution_agree():
    law = IndependentLengths(prompt="uniform:100..400", decode="geometric:50")
    slot = law.slot_load()
    age = law.decode.survival() / law.decode.mean
    direct = np.convolve(law.prompt.probabilities, age)
    np.testing.assert_allclose(slot.probabilities, direct, atol=1e-15)


def test_binning_keeps_the_mean_and_bounds_the_variance():
    slot = IndependentLengths(
        prompt="lognormal:mean=1200,cv=1.3", decode="geometric:500"
    ).slot_load()
    for factor in (2, 7, 64):
        binned = slot.binned(factor)
        assert binned.probabilities @ binned.support == pytest.approx(slot.moments.mean, rel=1e-12)
        spread = slot.binning_variance + (factor * slot.spacing) ** 2 / 4
        assert 0 < binned.binning_variance <= spread


def test_huge_independent_laws_are_binned_with_the_same_mean():
    law = IndependentLengths(prompt="uniform:0..3000000", decode="uniform:1..2000000")
    slot = law.slot_load()
    assert slot.spacing > 1
    assert slot.probabilities.size < 1.1 * 2**20
    assert slot.probabilities @ slot.support == pytest.approx(law.token_load().mean, rel=1e-9)
    assert slot.binning_variance <= slot.spacing**2 / 2 + 1e-6 * slot.moments.variance


def test_million_token_requests_stay_small():
    law = EmpiricalLengths(Trace(prompt_tokens=[5, 900_000], decode_tokens=[10, 1_000_000]))
    slot = law.slot_load()
    assert slot.probabilities.nbytes < 20e6
    assert slot.probabilities @ slot.support == pytest.approx(law.token_load().mean, rel=1e-12)


@pytest.mark.parametrize(
    "law",
    [
        correlated(),
        IndependentLengths(prompt="geometric:20", decode="uniform:1..30"),
        IndependentLengths(prompt="7", decode="lognormal:mean=30,cv=0.8"),
    ],
)
def test_stationary_sample_has_the_stationary_load(law):
    sample = law.sample_stationary(np.random.default_rng(3), 200_000)
    assert (sample.age >= 0).all()
    assert (sample.age < sample.decode_tokens).all()
    loads = sample.prompt_tokens + sample.age
    load = law.token_load()
    z = (loads.mean() - load.mean) / (load.std / np.sqrt(loads.size))
    assert abs(z) <= 5
    prompt, decode = law.sample(np.random.default_rng(4), 200_000)
    z = (decode.mean() - law.mean_decode_tokens) / (decode.std() / np.sqrt(decode.size))
    assert abs(z) <= 5
    assert (
        abs(prompt.mean() - law.mean_prompt_tokens)
        <= 5 * prompt.std() / np.sqrt(prompt.size) + 1e-9
    )


def test_survival_keeps_correlated_prompts():
    law = correlated()
    alive, prompts = law.survival()
    for i in (0, 1, 7):
        longer = law.decode_tokens > i
        assert alive[i] == pytest.approx(longer.mean())
        assert prompts[i] == pytest.approx((law.prompt_tokens * longer).mean())
    assert alive.sum() == pytest.approx(law.mean_decode_tokens)


@pytest.mark.parametrize(
    "text", ["100", "fixed:100", "geometric:500", "uniform:3..9", "lognormal:mean=1200,cv=1.3"]
)
def test_survival_sums_to_the_mean(text):
    law = parse_law(text)
    assert law.survival().sum() == pytest.approx(law.mean, rel=1e-9)
    assert law.probabilities.sum() == pytest.approx(1)
    assert law.probabilities.min() >= 0


def test_mini_language_means():
    assert parse_law("geometric:500").mean == pytest.approx(500)
    assert parse_law("uniform:512..1536").mean == pytest.approx(1024)
    law = parse_law("lognormal:mean=1200,cv=1.3")
    assert law.mean == pytest.approx(1200, rel=1e-6)
    assert law.variance**0.5 / law.mean == pytest.approx(1.3, rel=1e-5)


BAD_LAWS = """
x | 0 | -3 | 1.5 | nan | geometric:0.5 | geometric:inf | geometric:9e6 | uniform:5 | uniform:9..3
| uniform:1..2..3 | lognormal:mean=5 | lognormal:mean=5,cv=0 | lognormal:mean=1e6,cv=9 | zipf:2
| fixed:1e99 | fixed:
"""


@pytest.mark.parametrize("text", ["", *(law.strip() for law in BAD_LAWS.split("|"))])
def test_bad_laws_say_what_is_known(text):
    with pytest.raises(InvalidInputError) as caught:
        parse_law(text, role="decode")
    assert "\n" not in str(caught.value)
    assert "decode law" in str(caught.value)


def test_shortcut_of_three_terms():
    law = correlated()
    prompt, decode = law.prompt_tokens, law.decode_tokens
    split = (
        prompt.mean()
        + ((decode.astype(float) ** 2).mean() / (2 * decode.mean()) - 0.5)
        + np.cov(prompt, decode, bias=True)[0, 1] / decode.mean()
    )
    assert law.token_load().mean == pytest.approx(split, rel=1e-12)
