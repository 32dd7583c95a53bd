"""The law of the busiest expert rank against choices that are drawn one by one."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import betabinom, binom, poisson

from afdplan.errors import LatencyModelError
from afdplan.model.variation import ExpertLoad, zipf_popularity
from afdplan.theory.busiest_rank import largest_count
from afdplan.theory.expert_load import mean_rank_load, rank_load

# Shares of 16 ranks as published for a layer of a large model: one hot rank, a long tail.
MEASURED = np.array([9, 8, 7, 7, 7, 6, 6, 6, 6, 6, 6, 6, 5, 5, 5, 5]) / 100


def drawn(shares, choices, phi, generator, count=2000):
    if phi > 1:
        concentration = ExpertLoad(overdispersion=phi).concentration(choices)
        drift = generator.standard_gamma(concentration * shares, (count, shares.size))
        shares = drift / drift.sum(axis=1, keepdims=True)
    return generator.multinomial(choices, shares, size=None if phi > 1 else count).max(axis=1)


@pytest.mark.parametrize("phi", [1.0, 4.0])
@pytest.mark.parametrize("ranks", [1, 2, 3, 8, 16, 64, 256])
def test_mean_and_tail_are_those_of_drawn_choices(ranks, phi):
    generator = np.random.default_rng(ranks)
    popularities = [np.full(ranks, 1 / ranks), np.array(zipf_popularity(ranks, 0.7))]
    popularities += [MEASURED] if ranks == 16 else []
    for tokens in (16, 256, 2048, 65536):
        for shares in popularities:
            counts = drawn(shares, 8 * tokens, phi, generator)
            x, cumulative = largest_count(shares, 8.0 * tokens, phi)
            whole = np.arange(np.floor(x[0]), x[-1] + 1)
            chances = np.interp(whole, x, cumulative)
            mean = x[-1] - chances[:-1].sum()
            assert abs(mean - counts.mean()) <= 5 * counts.std() / np.sqrt(counts.size) + 1e-9
            late = 1 - np.interp(np.quantile(counts, 0.9), x, cumulative)
            assert ranks == 1 or 0.05 < late < 0.14 or counts.std() < 6


def different_experts(experts, k, ranks, tokens, generator, count):
    """Draw X, each token choosing k different experts."""
    found = np.empty(count)
    for at in range(count):
        chosen = generator.random((tokens, experts)).argpartition(k - 1, axis=1)[:, :k]
        found[at] = np.bincount(chosen.ravel() * ranks // experts, minlength=ranks).max()
    return found * (ranks / (tokens * k))


@pytest.mark.parametrize(
    ("experts", "k", "ranks", "tokens"),
    [
        (256, 8, 256, 1),
        (256, 8, 256, 4),
        (256, 8, 8, 40),
        (256, 8, 32, 6),
        (8, 2, 8, 3),
        (8, 2, 4, 64),
        (8, 2, 2, 16),
        (8, 2, 2, 1),
        (8, 8, 4, 5),
    ],
)
def test_chance_is_that_of_tokens_that_choose_different_experts(experts, k, ranks, tokens):
    x = different_experts(experts, k, ranks, tokens, np.random.default_rng(tokens), 1500)
    load = ExpertLoad(experts=experts, experts_per_token=k)
    found = float(rank_load(load, np.array([float(tokens)]), ranks).quantiles.mean())
    assert abs(found - x.mean()) <= 4 * x.std() / np.sqrt(x.size) + 0.012 * x.mean()


def test_one_token_gives_no_rank_more_than_one_expert():
    load = ExpertLoad(experts=256, experts_per_token=8)
    assert rank_load(load, np.ones(1), 256).quantiles == pytest.approx(32.0)


@pytest.mark.parametrize(
    ("share", "choices"),
    [(0.5, 64), (0.3, 100), (0.9, 10), (0.5, 100_000), (0.3, 100_000), (0.6, 5000), (0.02, 9000)],
)
def test_two_ranks_are_the_binomial_law(share, choices):
    x, cumulative = largest_count(np.array([share, 1 - share]), float(choices))
    whole = np.unique(np.round(np.linspace(np.ceil(choices / 2), x[-1], 500)))
    exact = binom.cdf(whole, choices, share) - binom.cdf(choices - whole - 1, choices, share)
    assert np.abs(np.interp(whole, x, cumulative) - exact).max() < (
        1e-9 if choices < 500 else 0.003 if share == 0.5 else 1e-4
    )


@pytest.mark.parametrize(
    ("share", "choices", "phi"), [(0.5, 16, 4.0), (0.3, 40, 2.0), (0.5, 12, 3.0)]
)
def test_two_overdispersed_ranks_are_the_beta_binomial_law(share, choices, phi):
    """Its variance is phi times the binomial one: s + 1 = (N - 1) / (phi - 1)."""
    s = (choices - 1) / (phi - 1) - 1
    law = betabinom(choices, s * share, s * (1 - share))
    assert law.var() == pytest.approx(phi * choices * share * (1 - share))
    x, cumulative = largest_count(np.array([share, 1 - share]), float(choices), phi)
    whole = np.arange(-(-choices // 2), choices)
    exact = law.cdf(whole) - law.cdf(choices - whole - 1)
    assert np.interp(whole, x, cumulative) == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize(
    ("ranks", "error"), [(3, 0.008), (4, 0.003), (8, 6e-4), (16, 1e-3), (32, 5e-4)]
)
@pytest.mark.parametrize("choices", [8, 12, 48, 96])
def test_more_ranks_are_the_convolved_law(ranks, error, choices):
    x, cumulative = largest_count(np.full(ranks, 1 / ranks), float(choices))
    exact = []
    whole = np.arange(-(-choices // ranks), min(choices, x[-2]) + 1)
    for most in whole:
        one = poisson.pmf(np.arange(most + 1), choices / ranks)
        law = np.ones(1)
        for _ in range(ranks):
            law = np.convolve(law, one)[: choices + 1]
        exact.append(law[choices] if law.size > choices else 0.0)
    exact = np.array(exact) / poisson.pmf(choices, choices)
    assert np.abs(np.interp(whole, x, cumulative) - exact).max() < error


def test_designs_of_many_ffn_workers_are_evaluated_as_one_by_one():
    for load in (
        ExpertLoad(experts=64, experts_per_token=6, ranks_per_worker=2),
        ExpertLoad(experts=64, popularity=(zipf_popularity(64, 0.5),), overdispersion=2.0),
    ):
        requests, workers = np.array([3.0, 700.0, 41.0, 700.0]), np.array([4, 1, 8, 2])
        together = rank_load(load, requests, workers).quantiles
        for at in range(4):
            alone = rank_load(load, requests[at : at + 1], int(workers[at])).quantiles
            assert (together[at] == alone[0]).all()


def test_layers_with_hot_experts_of_their_own_differ_and_chance_does_not():
    rows = (zipf_popularity(8, 1.0), (0.125,) * 8)
    mixed = rank_load(ExpertLoad(experts=8, popularity=rows), np.array([1e5]), 8)
    assert mixed.fresh[0] < 0.01
    assert mixed.quantiles[0].max() == pytest.approx(8 * rows[0][0], rel=0.02)
    chance = rank_load(ExpertLoad(experts=8), np.array([1e5]), 8)
    assert chance.fresh[0] == 1.0


def test_between_doublings_and_at_both_ends():
    """Logarithms of what is beyond 1 lie on a line between 2^k and 2^(k+1) tokens; ends stay."""
    for load in (
        ExpertLoad(experts=64, experts_per_token=6),
        ExpertLoad(experts=8, popularity=(zipf_popularity(8, 1.0), (0.125,) * 8)),
    ):
        tokens = np.array([64.0, 64 * 2**0.25, 64 * 2**0.5, 128.0])
        found = rank_load(load, tokens, 8)
        logs = np.log(found.quantiles - 1)
        for at, part in ((1, 0.25), (2, 0.5)):
            line = (1 - part) * logs[0] + part * logs[3]
            assert logs[at] == pytest.approx(line, rel=1e-9)
            fresh = (1 - part) * found.fresh[0] + part * found.fresh[3]
            assert found.fresh[at] == pytest.approx(fresh)
        for inside, outside in ((1.0, 0.25), (2.0**40, 2.0**47)):
            one, other = (rank_load(load, np.array([x]), 8) for x in (inside, outside))
            assert one.quantiles.tolist() == other.quantiles.tolist()
        twice = replace(load, tokens_per_request=2)
        assert rank_load(twice, tokens[:1], 8).quantiles[0] == pytest.approx(found.quantiles[3])


def test_a_mean_for_bounds_is_that_of_the_law():
    for load in (
        ExpertLoad(experts=64, experts_per_token=6),
        ExpertLoad(experts=8, popularity=(zipf_popularity(8, 1.0), (0.125,) * 8)),
        ExpertLoad(imbalance=1.3, imbalance_cv=0.5),
        ExpertLoad(imbalance=1.3),
    ):
        tokens = np.array([1.0, 64.0, 4096.0])
        quantiles = rank_load(load, tokens, 8).quantiles
        assert quantiles.shape == (3, 24)
        assert mean_rank_load(load, tokens, 8) == pytest.approx(quantiles.mean(axis=1), rel=1e-9)


def test_a_share_of_the_variance_is_within_layers():
    """Two layers of one law each: between them the variance of their means, here by hand."""
    rows = (zipf_popularity(8, 0.4), zipf_popularity(8, 0.3))
    load = ExpertLoad(experts=8, popularity=rows, overdispersion=2.0)
    found = rank_load(load, np.array([256.0]), 8)
    means, variances = [], []
    for row in rows:
        alone = rank_load(replace(load, popularity=(row,)), np.array([256.0]), 8)
        assert alone.fresh.tolist() == [1.0]
        means.append(alone.quantiles.mean())
        variances.append(alone.quantiles.var())
    within, between = np.mean(variances), np.var(means)
    assert 0.2 < within / (within + between) < 0.95
    assert found.fresh[0] == pytest.approx(within / (within + between), rel=0.025)
    assert found.quantiles.mean() == pytest.approx(np.mean(means), rel=3e-3)


def test_measured_imbalance_is_taken_as_it_is():
    load = ExpertLoad(imbalance=1.3, imbalance_cv=0.5)
    quantiles = rank_load(load, np.array([10.0, 1e4]), 4).quantiles
    assert quantiles.mean(axis=1) == pytest.approx([1.3, 1.3])
    assert quantiles[0].std() == pytest.approx(0.15, rel=0.1)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"experts": 2, "popularity": ((0.5, 0.6),)}, "must sum to 1, got 1.1"),
        ({"experts": 3, "popularity": ((0.5, 0.5),)}, "must have experts = 3 shares, got 2"),
        ({"experts": 2, "popularity": ((1.5, -0.5),)}, "shares >= 0"),
        ({"experts": 2, "popularity": ((float("nan"), 1.0),)}, "shares >= 0"),
        ({"experts": 2, "experts_per_token": 3}, "at most experts = 2"),
        ({"imbalance": 0.9}, "imbalance must be"),
        ({"overdispersion": 0.5}, "overdispersion must be"),
        ({"share": 1.5}, "share must be at most 1"),
    ],
)
def test_loads_that_cannot_be_are_refused(values, said):
    with pytest.raises(LatencyModelError, match=said):
        ExpertLoad(**values)


def test_ranks_must_divide_experts_of_known_popularity():
    load = ExpertLoad(experts=4, popularity=((0.25,) * 4,))
    with pytest.raises(LatencyModelError, match="3 ranks of 3 FFN workers must divide the 4 "):
        rank_load(load, np.array([10.0]), 3)
    six = ExpertLoad(experts=6, ranks_per_worker=4, popularity=((1 / 6,) * 6,))
    with pytest.raises(LatencyModelError, match="the 4 ranks of 1 FFN worker must divide the 6 "):
        rank_load(six, np.array([10.0]), 1)
