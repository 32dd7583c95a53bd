"""The law of the pipelined round against enumeration, Monte Carlo and closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afdplan.theory.attention_time import TimeLaw, exact_time
from afdplan.theory.pipeline import RoundLawTable
from tests.models import PAPER, correlated, geometric


def enumerate_round(law, m, count, floor, longest_delay, sum_delay):
    """Value and chance of max(floor, worst sum + delay, worst single + delay), every case."""
    found = {}
    support, pmf = law.support, law.probabilities
    for case in itertools.product(range(pmf.size), repeat=m * count):
        times = support[np.array(case)].reshape(count, m)
        value = max(floor, times.sum(axis=1).max() + sum_delay, times.max() + longest_delay)
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
    share=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_law_equals_enumeration(shape, weights, lowest, spacing, floor, delay, share):
    m, count = shape
    pmf = np.array(weights) / sum(weights)
    law = TimeLaw(lowest=lowest, spacing=spacing, probabilities=pmf)
    values, chances = enumerate_round(law, m, count, floor, delay, share * delay)
    got = RoundLawTable(law, m).evaluate(
        np.array([float(count)]),
        longest_delay=np.array([delay]),
        floor=np.array([floor]),
        sum_delay=np.array([share * delay]),
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


def test_interpolated_table_equals_the_full_one(monkeypatch):
    kind = PAPER.attention[0]
    times = exact_time(geometric().slot_load(), kind, 256)
    workers = np.arange(1.0, 65.0)
    ffn, both = delays(workers)
    for m in (2, 3, 4):
        few = RoundLawTable(times, m)
        assert few._step > 1
        options = {"longest_delay": ffn + both, "floor": m * np.maximum(ffn, both / 2)}
        quick = few.evaluate(workers, **options).mean
        monkeypatch.setattr("afdplan.theory.pipeline.NODES", 10_000)
        full = RoundLawTable(times, m)
        monkeypatch.undo()
        assert full._step == 1
        np.testing.assert_allclose(quick, full.evaluate(workers, **options).mean, rtol=2e-6)


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
