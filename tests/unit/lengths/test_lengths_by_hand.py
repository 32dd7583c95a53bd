"""Laws of lengths, loads and blocks against numbers worked by hand or by SciPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from afdplan.errors import InvalidInputError
from afdplan.lengths.blocks import block_moments, coarse
from afdplan.lengths.discrete import MAXIMUM_TOKENS, DiscreteLaw, parse_law
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.lengths.load_motion import Atoms, LoadMotion, load_motion
from afdplan.lengths.token_load import SlotLoad, TokenLoad
from afdplan.model.trace import Trace


def law(lowest, *probabilities):
    return DiscreteLaw(lowest=lowest, probabilities=np.array(probabilities), name="x")


def test_blocks_by_hand():
    held, upper = block_moments(np.array([0.1, 0.2, 0.3, 0.25, 0.15]), 3)
    assert held == pytest.approx([0.6, 0.4])
    assert upper == pytest.approx([(0.2 + 2 * 0.3) / 3, 0.15 / 3])
    even, inside = block_moments(np.array([0.1, 0.2, 0.3, 0.4]), 2)
    assert (even.tolist(), inside.tolist()) == ([pytest.approx(0.3), 0.7], [0.1, 0.2])


def test_a_coarse_grid_by_hand():
    """An atom between two points goes to both; a point beyond the last only where it is needed."""
    fine = np.array([0.5, 0.25, 0.125, 0.125])
    assert coarse(fine, 1) is fine
    assert coarse(fine, 2).tolist() == [0.625, 0.3125, 0.0625]
    assert coarse(np.array([0.5, 0.25, 0.25]), 2).tolist() == [0.625, 0.375]
    assert coarse(fine, 4) == pytest.approx([0.78125, 0.21875])
    assert coarse(fine, 4) @ [0, 4] == pytest.approx(fine @ np.arange(4))


def test_moments_and_survival_by_hand():
    two = law(3, 0.25, 0.0, 0.75)
    assert (two.mean, two.variance, two.highest) == (4.5, 0.75, 5)
    assert two.support.tolist() == [3.0, 4.0, 5.0]
    assert two.moment(2) == 0.25 * 9 + 0.75 * 25
    assert two.survival().tolist() == [1.0, 1.0, 1.0, 0.75, 0.75]
    assert not two.is_constant
    assert law(3, 1.0).is_constant
    assert law(3, 1.0).survival().tolist() == [1.0, 1.0, 1.0]


def test_samples_are_the_inverse_of_the_cumulative_law():
    class Draws:
        def random(self, size):
            return np.array([0.0, 0.2499, 0.25, 0.999999999, 1.0])[:size]

    assert law(3, 0.25, 0.0, 0.75).sample(Draws(), 5).tolist() == [3, 3, 5, 5, 5]


@pytest.mark.parametrize("minimum", [0, 1, 7])
@pytest.mark.parametrize(("mean", "cv"), [(12.5, 0.5), (3.0, 0.9), (10.0, 1.1)])
def test_a_lognormal_law_is_rounded(mean, cv, minimum):
    sigma = np.sqrt(np.log1p(cv**2))
    there = stats.lognorm(sigma, scale=mean * np.exp(-(sigma**2) / 2))
    found = parse_law(f"lognormal:mean={mean},cv={cv}", minimum)
    assert found.lowest == minimum
    edges = found.support + 0.5
    wanted = np.append(there.cdf(edges[0]), np.diff(there.cdf(edges)))
    assert found.probabilities == pytest.approx(wanted, abs=1e-14)
    assert found.highest == int(there.isf(stats.norm.sf(8)))
    assert found.name == f"lognormal:mean={mean:g},cv={cv:g}"


def test_a_lognormal_law_below_its_minimum_is_constant():
    found = parse_law("lognormal:mean=2,cv=0.01", 50)
    assert (found.lowest, found.probabilities.tolist()) == (50, [1.0])


def test_a_geometric_law_by_hand():
    found = parse_law("geometric:4")
    chances = 0.25 * 0.75 ** np.arange(found.probabilities.size)
    assert found.lowest == 1
    assert found.probabilities == pytest.approx(chances / chances.sum(), rel=1e-12)
    assert 0.75**found.probabilities.size <= 1e-15 < 0.75 ** (found.probabilities.size - 1)
    one = parse_law("geometric:1")
    assert (one.lowest, one.probabilities.tolist(), one.name) == (1, [1.0], "geometric:1")


def test_a_uniform_law_has_both_ends():
    found = parse_law("uniform:3..6")
    assert (found.lowest, found.highest, found.name) == (3, 6, "uniform:3..6")
    assert found.probabilities.tolist() == [0.25] * 4
    assert parse_law("uniform:5..5").is_constant


@pytest.mark.parametrize(
    ("text", "minimum", "rule"),
    [
        ("0", 1, f"an integer from 1 to {MAXIMUM_TOKENS}"),
        ("10000001", 0, "an integer from 0"),
        ("1.5", 0, "an integer"),
        ("uniform:6..3", 0, "lower end comes first"),
        ("uniform:5", 0, "two ends"),
        ("geometric:0.99", 0, "from 1 to"),
        ("geometric:10000001", 0, "from 1 to"),
        ("geometric:300000", 0, "tail goes beyond 10000000 tokens"),
        ("lognormal:mean=0.9,cv=1", 0, "mean is >= 1"),
        ("lognormal:mean=2,cv=0", 0, "cv > 0"),
        ("lognormal:mean=100000,cv=5", 0, "tail goes beyond"),
        ("geometric:inf", 0, "must be finite"),
        ("geometric:1.2.3", 0, "known laws"),
    ],
)
def test_domains_of_laws(text, minimum, rule):
    with pytest.raises(InvalidInputError, match=rule):
        parse_law(text, minimum)


def test_the_ends_of_domains_are_inside():
    assert parse_law("10000000").mean == 10_000_000
    assert parse_law("0", 0).mean == 0
    assert parse_law("lognormal:mean=1,cv=0.1").mean == pytest.approx(1, abs=0.01)
    with pytest.raises(InvalidInputError) as refused:
        parse_law("z" * 61)
    assert f"'{'z' * 57}...'" in str(refused.value)
    with pytest.raises(InvalidInputError, match=f"'{'z' * 60}'"):
        parse_law("z" * 60)


def test_atoms_keep_the_mean_and_have_about_equal_chances():
    wide = law(10, *np.full(1000, 1e-3))
    few = wide.atoms(8)
    assert few.points.size == 8
    assert few.weights == pytest.approx(np.full(8, 0.125))
    assert few.mean == pytest.approx(wide.mean)
    assert few.points == pytest.approx(10 + 62 + 125 * np.arange(8))
    every = wide.atoms(1000)
    assert every.points.tolist() == wide.support.tolist()
    assert law(2, 0.5, 0.0, 0.5).atoms(5).points.tolist() == [2.0, 4.0]
    heavy = law(0, 0.6, 0.1, 0.1, 0.1, 0.1).atoms(2)
    assert heavy.points == pytest.approx([0.0, 2.5])
    assert heavy.weights == pytest.approx([0.6, 0.4])


def test_atoms_beyond_a_window_are_one():
    found = law(2, 0.25, 0.25, 0.25, 0.25).atoms(9, window=4)
    assert (found.points.tolist(), found.weights.tolist()) == ([2.0, 3.0, 4.0], [0.25, 0.25, 0.5])
    below = law(2, 0.5, 0.5).atoms(9, window=1)
    assert (below.points.tolist(), below.weights.tolist()) == ([2.0], [1.0])
    whole = law(2, 0.5, 0.5).atoms(9, window=3)
    assert whole.points.tolist() == [2.0, 3.0]


def test_slot_loads_scale_and_shrink():
    motion = LoadMotion(
        renewal_rate=0.1, mean_jump=-10.0, mean_absolute_jump=12.0, mean_square_jump=200.0
    )
    load = SlotLoad(
        lowest=2.0, spacing=4.0, probabilities=np.array([0.5, 0.25, 0.25]),
        moments=TokenLoad(mean=5.0, variance=10.0), motion=motion,
    )  # fmt: skip
    assert load.support.tolist() == [2.0, 6.0, 10.0]
    assert load.highest == 10.0
    assert load.binning_variance == pytest.approx(0.5 * 9 + 0.25 + 0.25 * 25 - 10)
    exact = replace(load, moments=TokenLoad(mean=5.0, variance=16.25))
    assert exact.binning_variance == 0.0
    half = load.shrunk(0.5)
    assert (half.lowest, half.spacing) == (3.5, 2.0)
    assert half.moments == TokenLoad(mean=5.0, variance=2.5)
    assert half.motion == motion
    twice = load.stretched(2.0)
    assert twice.support.tolist() == [4.0, 12.0, 20.0]
    assert twice.moments == TokenLoad(mean=10.0, variance=40.0)
    assert load.stretched(1) is load
    pair = load.binned(2)
    assert (pair.lowest, pair.spacing) == (2.0, 8.0)
    assert pair.probabilities.tolist() == [0.625, 0.375]
    assert load.binned(1) is load


def test_motion_between_points_by_hand():
    """From {1, 5} to {2, 3}: all four pairs are 1, 2, 3 and 2 apart."""
    starts = Atoms(points=np.array([5.0, 1.0]), weights=np.array([0.5, 0.5]))
    ends = Atoms(points=np.array([2.0, 3.0]), weights=np.array([0.5, 0.5]))
    motion = load_motion(starts, ends, 0.25)
    assert motion.renewal_rate == 0.25
    assert motion.mean_jump == 0.5
    assert motion.mean_absolute_jump == 2.0
    assert motion.mean_square_jump == pytest.approx((1 + 4 + 9 + 4) / 4)
    assert starts.cut(4).points.tolist() == [4.0, 1.0]
    assert (starts.mean, starts.variance) == (3.0, 4.0)


def test_requests_of_a_trace_by_hand():
    trace = EmpiricalLengths(Trace(prompt_tokens=[2, 4, 4], decode_tokens=[6, 3, 3]))
    assert (trace.mean_prompt_tokens, trace.mean_decode_tokens) == (10 / 3, 4.0)
    assert trace.mean_squared_decode_tokens == (36 + 9 + 9) / 3
    assert trace.commonest_life() == (3, 0.5)
    assert EmpiricalLengths(Trace(prompt_tokens=[1], decode_tokens=[9])).commonest_life() == (9, 1)
    assert not trace.is_constant
    for prompts, decodes in (([2, 2], [3, 4]), ([2, 3], [4, 4])):
        alike = EmpiricalLengths(Trace(prompt_tokens=prompts, decode_tokens=decodes))
        assert not alike.is_constant
    assert EmpiricalLengths(Trace(prompt_tokens=[2, 2], decode_tokens=[4, 4])).is_constant
    points = trace.prompts()
    assert points.points.tolist() == [2.0, 4.0, 4.0]
    assert points.weights.tolist() == [1 / 3] * 3
    alive, prompts = trace.survival()
    assert alive == pytest.approx([1, 1, 1, 1 / 3, 1 / 3, 1 / 3])
    assert prompts == pytest.approx([10 / 3] * 3 + [2 / 3] * 3)
    load = trace.slot_load()
    # 2 to 7, and 4 to 6 twice, of twelve steps.
    assert load.lowest == 2.0
    assert load.probabilities * 12 == pytest.approx([1, 1, 3, 3, 3, 1])
    assert load.motion.mean_jump == pytest.approx(-4.0)


def test_stationary_requests_are_found_at_each_of_their_steps():
    trace = EmpiricalLengths(Trace(prompt_tokens=[2, 4], decode_tokens=[3, 2]))

    class Draws:
        def integers(self, high, size):
            assert (high, size) == (5, 5)
            return np.arange(5)

    found = trace.sample_stationary(Draws(), 5)
    assert found.prompt_tokens.tolist() == [2, 2, 2, 4, 4]
    assert found.age.tolist() == [0, 1, 2, 0, 1]
    assert found.decode_tokens.tolist() == [3, 3, 3, 2, 2]


def test_independent_lengths_by_hand():
    both = IndependentLengths(prompt="uniform:0..1", decode=law(2, 0.5, 0.0, 0.5))
    assert both.commonest_life() == (4, pytest.approx(2 / 3))
    assert both.mean_squared_decode_tokens == 10.0
    assert not both.is_constant
    assert not IndependentLengths(prompt="5", decode="uniform:1..2").is_constant
    assert not IndependentLengths(prompt="uniform:1..2", decode="5").is_constant
    assert IndependentLengths(prompt="5", decode="6").is_constant
    load = both.slot_load()
    # Ages 0 to 3 with chances 1/3, 1/3, 1/6, 1/6, a prompt token half of the time.
    ages = np.array([2, 2, 1, 1]) / 6
    assert load.probabilities == pytest.approx(np.convolve([0.5, 0.5], ages))
    assert both.token_load().mean == pytest.approx(0.5 + ages @ np.arange(4))
    assert (load.lowest, load.spacing) == (0.0, 1.0)
    assert load.motion.mean_square_jump == pytest.approx(2 * 0.25 + 1 + 9)
    near = both.slot_load(2)
    assert near.probabilities == pytest.approx([1 / 6, 1 / 3, 1 / 2])
    assert both.token_load(4) == pytest.approx(both.token_load())
    ahead = IndependentLengths(prompt="7", decode="3").slot_load(5)
    assert (ahead.lowest, ahead.probabilities.tolist()) == (5.0, [1.0])
    assert ahead.moments == TokenLoad(mean=5.0, variance=0.0)
