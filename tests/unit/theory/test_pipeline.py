"""The law of the pipelined round against enumeration, Monte Carlo and closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.curve import LinearCurve
from afdplan.model.stages import AttentionLayers
from afdplan.model.trace import Trace
from afdplan.theory import joint_law
from afdplan.theory.attention_time import TimeLaw, exact_time
from afdplan.theory.joint_law import JointLaw
from afdplan.theory.pipeline import RoundLawTable, _atom, _crossing, resolved
from tests.models import PAPER, correlated, geometric


def enumerate_round(law, m, count, floor, longest_delay):
    """Value and chance of max(floor, worst sum, worst single + delay), every case."""
    found = {}
    support, pmf = law.support, law.probabilities
    for case in itertools.product(range(pmf.size), repeat=m * count):
        times = support[np.array(case)].reshape(count, m)
        value = max(floor, times.sum(axis=1).max(), times.max() + longest_delay)
        found[value] = found.get(value, 0.0) + pmf[list(case)].prod()
    return np.array(sorted(found)), np.array([found[v] for v in sorted(found)])


@settings(max_examples=60, deadline=None)
@given(
    shape=st.sampled_from([(1, 3), (2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (4, 1)]),
    weights=st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(lambda w: w[0] and w[-1]),
    lowest=st.floats(0, 20),
    spacing=st.floats(0.01, 5),
    floor=st.floats(0, 60),
    delay=st.floats(0, 40),
)
def test_law_equals_enumeration(shape, weights, lowest, spacing, floor, delay):
    m, count = shape
    pmf = np.array(weights) / sum(weights)
    law = TimeLaw(lowest=lowest, spacing=spacing, probabilities=pmf)
    values, chances = enumerate_round(law, m, count, floor, delay)
    got = RoundLawTable(law, m).evaluate(
        np.array([float(count)]),
        longest_delay=np.array([delay]),
        floor=np.array([floor]),
        probabilities=(0.25, 0.9),
    )
    assert got.mean[0] == pytest.approx(values @ chances, rel=1e-12, abs=1e-12)
    cumulative = np.cumsum(chances)
    for column, probability in enumerate((0.25, 0.9)):
        if np.abs(cumulative - probability).min() < 1e-9:
            continue  # the quantile jumps here
        expected = values[np.searchsorted(cumulative, probability)]
        assert got.quantiles[0, column] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("attention", [30.0, 200.0, 330.0])
def test_constant_loads_give_the_closed_form(m, attention):
    law = TimeLaw(lowest=attention, spacing=1.0, probabilities=np.ones(1))
    for ffn, out, back in itertools.product((10.0, 250.0), (5.0, 300.0), (7.0, 260.0)):
        got = RoundLawTable(law, m).evaluate(
            np.array([9.0]),
            longest_delay=np.array([ffn + out + back]),
            floor=np.array([m * max(ffn, out, back)]),
        )
        expected = max(m * attention, m * ffn, m * out, m * back, attention + ffn + out + back)
        assert got.mean[0] == pytest.approx(expected, rel=1e-14)


def delays(workers):
    ffn = 0.083 * 256 * workers + 100
    return ffn, 2 * (0.022 * 256 + 20)


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize(
    "law", [geometric(), correlated(longest=3000, requests=2000)], ids=["geometric", "correlated"]
)
def test_mean_and_quantiles_agree_with_monte_carlo(m, law):
    kind = PAPER.attention[0]
    times = exact_time(law.slot_load(), kind, 64)
    generator = np.random.default_rng(8)
    cumulative = times.cumulative
    for count in (2, 9):
        ffn, both = 0.4 * times.mean * m, 0.3 * times.mean  # sum and latency compete
        floor = 0.9 * m * times.mean
        draws = generator.random((40_000, count, m))
        a = times.support[np.searchsorted(cumulative, draws)]
        rounds = np.maximum(a.sum(axis=2).max(axis=1), a.max(axis=(1, 2)) + ffn + both)
        rounds = np.maximum(rounds, floor)
        got = RoundLawTable(times, m).evaluate(
            np.array([float(count)]),
            longest_delay=np.array([ffn + both]),
            floor=np.array([floor]),
            probabilities=(0.5, 0.99),
        )
        error = rounds.std() / np.sqrt(rounds.size)
        assert abs(rounds.mean() - got.mean[0]) <= 5 * error
        for column, probability in enumerate((0.5, 0.99)):
            below = (rounds <= got.quantiles[0, column] + times.spacing).mean()
            assert below >= probability - 5 * np.sqrt(probability * (1 - probability) / rounds.size)


def truncated_rounds(times, m, workers, longest_delay, floor, probabilities):
    """Mean and quantiles on the whole grid: the law truncated at every point, convolved m times."""
    pmf, h = times.probabilities, times.spacing
    size = pmf.size
    total = m * (size - 1) + 1
    fast = 1 << (total - 1).bit_length()
    shift = np.maximum(longest_delay - (m - 1) * times.lowest, 0.0) / h
    whole, part = np.floor(shift).astype(int), shift % 1
    spectrum = np.fft.rfft(pmf, fast)
    sums = np.cumsum(np.fft.irfft(spectrum**m, fast))[:total]
    below, above = (
        sums[np.minimum(np.arange(total) + whole[:, None] + x, total - 1)] for x in (0, 1)
    )
    for at in range(0, size, 64):
        limits = np.arange(at, min(at + 64, size))
        kept = np.where(np.arange(size) <= limits[:, None], pmf, 0.0)
        law = np.cumsum(np.fft.irfft(np.fft.rfft(kept, fast, axis=1) ** m, fast), axis=1)
        for x, joint in enumerate((below, above)):
            reach = np.minimum(limits[:, None] + whole + x, total - 1)
            joint[:, limits] = np.take_along_axis(law, reach, axis=1).T
    cdf = np.clip(np.stack([below, above]), 0.0, 1.0) ** workers[:, None]
    begin = times.lowest + ((m - 1) * times.lowest + shift * h)[:, None] + h * np.arange(total)
    part = part[:, None]
    edges = np.maximum(np.stack([begin, begin + (1 - part) * h, begin + h]), floor[:, None])
    mean = edges[0, :, 0] + (np.diff(edges, axis=0) * (1 - cdf)).sum(axis=(0, 2))
    middle = (1 - part) * cdf[0] + part * cdf[1]
    quantiles = [
        [np.interp(p, row, start + h / 2) for p in probabilities]
        for row, start in zip(middle, begin, strict=True)
    ]
    return mean, np.maximum(quantiles, floor[:, None])


LINE = AttentionLayers(layers=1, curve=LinearCurve(slope=0.01, intercept=20.0))


def lognormal_prompts():
    law = IndependentLengths(prompt="lognormal:mean=1200,cv=1.3", decode="geometric:300")
    return exact_time(law.slot_load(), LINE, 16).coarsened(4096)


def two_kinds():
    law = EmpiricalLengths(
        Trace(prompt_tokens=[500] * 50 + [80_000], decode_tokens=[400] * 50 + [300])
    )
    return exact_time(law.slot_load(), LINE, 16)


def long_tail():
    """Nearly all within 150 grid points, one in 100 beyond, up to 5,400."""
    k = np.arange(5400.0)
    bulk = np.exp(-(((k - 80) / 25) ** 2) / 2)
    tail = np.where(k > 80, np.maximum(k, 80.0) ** -2.5, 0.0)
    pmf = 0.99 * bulk / bulk.sum() + 0.01 * tail / tail.sum()
    return TimeLaw(lowest=20.0, spacing=0.5, probabilities=pmf)


@pytest.mark.parametrize(
    ("make", "m"), [(lognormal_prompts, 4), (two_kinds, 3), (long_tail, 2), (long_tail, 3)]
)
def test_levels_equal_every_truncation_on_the_finest_grid(monkeypatch, make, m):
    """Declared: mean within 2e-5, p99 within 2e-4, the trip of one microbatch bound or not."""
    times = make()
    assert times.probabilities.size > 2048
    workers = np.tile([1.0, 4.0, 16.0, 64.0], 2)
    ffn = times.mean * np.concatenate([0.15 + 0.1 * workers[:4], np.full(4, 0.3)])
    both = times.mean * np.concatenate([np.full(4, 0.15), 0.4 + 0.05 * workers[:4]])
    options = {"longest_delay": ffn + both, "floor": m * np.maximum(ffn, both / 2)}
    got = RoundLawTable(times, m).evaluate(workers, probabilities=(0.5, 0.99), **options)
    mean, quantiles = truncated_rounds(times, m, workers, probabilities=(0.5, 0.99), **options)
    np.testing.assert_allclose(got.mean, mean, rtol=2e-5)
    np.testing.assert_allclose(got.quantiles[:, 1], quantiles[:, 1], rtol=2e-4)
    if make is long_tail:  # power: one even grid of as many points fails
        monkeypatch.setattr("afdplan.theory.pipeline.BULK_POINTS", 1)
        monkeypatch.setattr("afdplan.theory.pipeline.GRID_POINTS", 512)
        even = RoundLawTable(times, m).evaluate(workers, **options)
        assert np.abs(even.mean / mean - 1).max() > 2e-5


@pytest.mark.parametrize("m", [1, 2, 3])
def test_the_law_of_a_sum_stands_for_half_cells(m):
    """At every point of a short law; of a long one on each level, about as many as asked for."""
    coin = TimeLaw(lowest=4.0, spacing=3.0, probabilities=np.array([0.5, 0.3, 0.2]))
    sums = np.ones(1)
    for _ in range(m):
        sums = np.convolve(sums, coin.probabilities)
    times, chances = RoundLawTable(coin, m).sum_cumulative(64)
    assert times == pytest.approx(4 * m + 3 * (np.arange(sums.size) + 0.5))
    assert chances == pytest.approx(np.cumsum(sums))
    few, at_few = RoundLawTable(coin, m).sum_cumulative(2)
    step = -(-sums.size // 2)
    kept = sorted({*range(0, sums.size, step), sums.size - 1})
    assert few == pytest.approx(4 * m + 3 * (np.array(kept) + 0.5))
    assert at_few == pytest.approx(np.cumsum(sums)[kept])
    later, same = RoundLawTable(coin, m).later(2.5).sum_cumulative(64)
    assert later == pytest.approx(times + 2.5 * m)
    assert (same == chances).all()


@pytest.mark.parametrize("m", [2, 3])
def test_the_law_of_a_sum_on_several_levels(m):
    law = long_tail()
    table = RoundLawTable(law, m)
    times, chances = table.sum_cumulative(200)
    assert len(table._levels) == 3
    assert 400 < times.size < 600
    assert (np.diff(times) > 0).all()
    assert (np.diff(chances) >= 0).all()
    sums = np.ones(1)
    for _ in range(m):
        sums = np.convolve(sums, law.probabilities)
    exact = np.cumsum(sums)
    at = m * law.lowest + law.spacing * (np.arange(exact.size) + 0.5)
    for level in table._levels:
        inside = (level.begin + 8, 1000 if level.end is None else level.end - 8)
        there = m * law.lowest + level.spacing * np.linspace(*inside, 40)
        found = np.interp(there, times, chances)
        assert found == pytest.approx(np.interp(there, at, exact), abs=3e-3)


def test_where_a_cdf_reaches_what_is_wanted():
    """On cells of 2 from 10 and from 20; of the first the chances change at a quarter."""
    begin = np.array([[10.0, 12.0, 14.0], [20.0, 22.0, 24.0]])
    part = np.array([[0.75], [0.0]])
    cumulative = np.array([
        [[0.0, 0.2, 0.8], [0.1, 0.3, 0.9]],
        [[0.2, 0.6, 1.0], [0.5, 0.5, 0.5]],
    ])  # fmt: skip
    wanted = np.array([0.1, 0.5, 0.95])
    # Means over a cell of 0.15, 0.5, 0.95, told at its middle; nothing is known before the first.
    found = _crossing(begin, part, 2.0, cumulative, wanted)
    assert found[0].tolist() == pytest.approx([11.0, 13.0, 15.0])
    assert found[1].tolist() == pytest.approx([21.0, 23 + 2 * 0.2 / 0.6, np.inf])
    between = _crossing(begin, part, 2.0, cumulative, np.array([0.325]))
    assert between[0].tolist() == pytest.approx([12.0])
    # Atoms: the first half-cell on which the chance is as large, which begins at a quarter of it.
    atoms = _atom(begin, part, 2.0, cumulative, np.array([0.1, 0.7, 0.9, 1.0]))
    assert atoms[0].tolist() == pytest.approx([10.5, 14.0, 14.5, 14.5])
    assert atoms[1, :3].tolist() == pytest.approx([20.0, 24.0, 24.0])
    assert atoms[1, 3] == np.inf


def test_a_law_is_resolved_where_its_bulk_is():
    """Short ones as they are; longer ones on 2,048 points, or with 256 between 1 % and half."""
    short = TimeLaw(lowest=1.0, spacing=1.0, probabilities=np.full(2048, 1 / 2048))
    assert resolved(short) is short
    for size, factor in ((2049, 2), (4096, 2), (4097, 3), (20_000, 10)):
        wide = TimeLaw(lowest=1.0, spacing=1.0, probabilities=np.full(size, 1 / size))
        found = resolved(wide)
        assert found.spacing == pytest.approx(factor)
        assert found.mean == pytest.approx(wide.mean)
    # Of 20,000 points the first 1,200 hold nearly all: 256 of them up to the half, at two each.
    tail = np.append(np.full(1200, 0.99 / 1200), np.full(18_800, 0.01 / 18_800))
    found = resolved(TimeLaw(lowest=1.0, spacing=1.0, probabilities=tail))
    assert found.spacing == pytest.approx(2.0)
    # What is not likely at all counts for nothing.
    ends = np.concatenate([np.full(900, 1e-17), np.full(2048, 1 / 2048), np.full(900, 1e-17)])
    law = TimeLaw(lowest=1.0, spacing=1.0, probabilities=ends)
    assert resolved(law) is law


@pytest.mark.parametrize("place", [900, 1700, 3000, 5300])
def test_a_floor_beyond_all_that_is_likely_is_the_round(place):
    # A grid that goes on long after the law is over: levels without any probability.
    bulk = np.exp(-(((np.arange(400.0) - 200) / 25) ** 2) / 2)
    pmf = np.append(bulk / bulk.sum(), np.full(5000, 1e-18))
    times = TimeLaw(lowest=20.0, spacing=0.5, probabilities=pmf)
    floor = np.array([2 * 20.0 + 0.5 * place])
    law = RoundLawTable(times, 2).evaluate(
        np.array([32.0]), longest_delay=np.array([30.0]), floor=floor, probabilities=(0.5, 0.99)
    )
    assert law.mean == pytest.approx(floor, rel=1e-12)
    assert law.quantiles[0] == pytest.approx(floor[0], rel=1e-12)


@pytest.mark.parametrize("teeth", [16, 32, 64])
def test_nodes_do_not_mistake_the_teeth_of_a_comb_for_a_smooth_law(teeth):
    # Every node on a tooth: twice as many nodes would agree with half of them, and both be wrong.
    k = np.arange(0, 2048, teeth)
    pmf = np.zeros(2048)
    pmf[k] = np.exp(-(((k - 900) / 250) ** 2) / 2)
    comb = TimeLaw(lowest=0.0, spacing=1.0, probabilities=pmf / pmf.sum())
    alike = TimeLaw(lowest=0.0, spacing=float(teeth), probabilities=pmf[k] / pmf.sum())
    workers = np.array([2.0, 16.0])
    options = {"longest_delay": np.array([1807.0, 2007.0]), "floor": np.zeros(2)}
    found = RoundLawTable(comb, 3).evaluate(workers, **options).mean
    np.testing.assert_allclose(found, RoundLawTable(alike, 3).evaluate(workers, **options).mean)


@pytest.mark.parametrize("m", [3, 4])
def test_interpolation_between_truncations_equals_all_of_them(monkeypatch, m):
    pmf = np.exp(-(((np.arange(1200) - 600) / 150) ** 2) / 2)
    index = np.arange(300, 660)[None, :]
    difference = np.array([650])
    few = JointLaw(pmf / pmf.sum(), m).diagonals(index, difference)
    monkeypatch.setattr(joint_law, "NODES", 1 << 20)
    all_of_them = JointLaw(pmf / pmf.sum(), m).diagonals(index, difference)
    assert not np.array_equal(few[0], all_of_them[0])
    # Truncated sums by direct convolution.
    for i in (330, 451, 640):
        kept = pmf[: i + 1] / pmf.sum()
        sums = kept
        for _ in range(m - 1):
            sums = np.convolve(sums, kept)
        for more in (0, 1):
            exact = sums[: i + 650 + more + 1].sum()
            assert all_of_them[more][0, i - 300] == pytest.approx(exact, abs=1e-12)
            assert few[more][0, i - 300] == pytest.approx(exact, abs=1e-6)


def several_peaks(seed):
    """Some normal peaks, as narrow as an atom or as wide as a quarter of the grid."""
    generator = np.random.default_rng(seed)
    n = int(generator.integers(300, 2048))
    pmf = np.zeros(n)
    for _ in range(generator.integers(1, 6)):
        centre, width = generator.integers(0, n), np.exp(generator.uniform(-1.2, np.log(n / 4)))
        pmf += generator.random() * np.exp(-(((np.arange(n) - centre) / width) ** 2) / 2)
    return TimeLaw(
        lowest=float(generator.integers(1, 500)), spacing=1.0, probabilities=pmf / pmf.sum()
    )


@pytest.mark.parametrize("seed", range(12))
def test_few_truncations_give_the_round_of_all_of_them(monkeypatch, seed):
    law = several_peaks(seed)
    mean = law.lowest + float(law.probabilities @ np.arange(law.probabilities.size))
    trips = np.tile([0.1, 0.5, 1.0, 1.3, 1.7, 2.5], 3) * mean
    workers = np.repeat([1.0, 32.0, 1024.0], 6)
    asked = {"longest_delay": trips, "floor": np.zeros(18), "probabilities": (0.5, 0.99)}
    few = RoundLawTable(law, 3).evaluate(workers, **asked)
    monkeypatch.setattr(joint_law, "NODES", 1 << 20)
    every = RoundLawTable(law, 3).evaluate(workers, **asked)
    np.testing.assert_allclose(few.mean, every.mean, rtol=2e-7)
    np.testing.assert_allclose(few.quantiles, every.quantiles, rtol=1e-5)


def test_rough_laws_get_more_nodes_until_they_are_right():
    # A lattice law: smooth interpolation between truncation points would be wrong.
    pmf = np.zeros(601)
    pmf[::60] = 1 / 11
    law = TimeLaw(lowest=100.0, spacing=1.0, probabilities=pmf)
    coarse = TimeLaw(lowest=100.0, spacing=60.0, probabilities=np.full(11, 1 / 11))
    for m in (2, 3):
        options = {"longest_delay": np.array([350.0]), "floor": np.array([300.0])}
        fine = RoundLawTable(law, m).evaluate(np.array([4.0]), **options).mean[0]
        exact = RoundLawTable(coarse, m).evaluate(np.array([4.0]), **options).mean[0]
        assert fine == pytest.approx(exact, rel=1e-5)


def test_ratios_do_not_disturb_each_other():
    times = exact_time(geometric().slot_load(), PAPER.attention[0], 256)
    table = RoundLawTable(times, 3)
    workers = np.arange(1.0, 200.0)
    ffn, both = delays(workers)
    many = table.evaluate(workers, longest_delay=ffn + both, floor=3 * ffn).mean
    for at in (0, 63, 64, 150):
        one = table.evaluate(
            workers[at : at + 1],
            longest_delay=(ffn + both)[at : at + 1],
            floor=3 * ffn[at : at + 1],
        ).mean
        assert one[0] == pytest.approx(many[at], rel=1e-12)


def test_a_heavy_tail_does_not_coarsen_the_bulk():
    # Pareto prompts: the largest of 20,000 is 1,000 times the median. On 1,024 even points the
    # 99th percentile of a round was wrong by 8 %.
    generator = np.random.default_rng(0)
    prompts = np.minimum(np.rint(200 * (generator.pareto(1.3, 20_000) + 1)), 5e5)
    pmf = np.bincount(prompts.astype(int)) / prompts.size
    law = TimeLaw(lowest=0.0, spacing=1.0, probabilities=pmf)
    workers, trip = 8, 500.0
    answer = RoundLawTable(law, 2).evaluate(
        np.array([float(workers)]),
        longest_delay=np.array([trip]),
        floor=np.zeros(1),
        probabilities=(0.5, 0.99),
    )
    draws = generator.choice(prompts, (50_000, workers, 2))
    rounds = np.maximum(draws.sum(axis=2).max(axis=1), draws.max(axis=(1, 2)) + trip)
    half = 5 * rounds.std() / np.sqrt(rounds.size)
    assert abs(answer.mean[0] - rounds.mean()) < half
    for at, share in enumerate((0.5, 0.99)):
        # Quantiles of the draws whose ranks lie five standard errors away.
        error = 5 * np.sqrt(share * (1 - share) / rounds.size)
        low, high = np.quantile(rounds, (share - error, share + error))
        spacing = 0.002 * rounds.mean()
        assert low - spacing <= answer.quantiles[0, at] <= high + spacing


@pytest.mark.parametrize("step", [1, 4, 7])
def test_interpolation_is_exact_for_cubics(step):
    joint = JointLaw(np.full(40, 1 / 40), 2)
    index = np.arange(joint.first, 33)
    nodes, weights = joint._neighbours(index, step)
    assert (np.diff(nodes, axis=0) == step).all()
    for power in range(4):
        found = (weights * nodes.astype(float) ** power).sum(axis=0)
        assert found == pytest.approx(index.astype(float) ** power, abs=1e-9 * 40.0**power)
