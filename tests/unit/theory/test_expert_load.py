"""The law of the busiest expert rank against choices that are drawn one by one."""

import numpy as np
import pytest

from afdplan.errors import LatencyModelError
from afdplan.model.variation import ExpertLoad, zipf_popularity
from afdplan.theory.expert_load import largest_count, rank_load

# Shares of 16 ranks as published for a layer of a large model: one hot rank, a long tail.
MEASURED = np.array([9, 8, 7, 7, 7, 6, 6, 6, 6, 6, 6, 6, 5, 5, 5, 5]) / 100


def drawn(shares, choices, phi, generator, count=4000):
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
    for tokens in (16, 64, 256, 2048, 16384, 65536):
        for shares in popularities:
            counts = drawn(shares, 8 * tokens, phi, generator)
            x, cumulative = largest_count(shares, 8.0 * tokens, phi)
            whole = np.arange(np.floor(x[0]), x[-1] + 1)
            chances = np.interp(whole, x, cumulative)
            mean = x[-1] - chances[:-1].sum()
            assert abs(mean - counts.mean()) <= 5 * counts.std() / np.sqrt(counts.size) + 1e-9
            late = 1 - np.interp(np.quantile(counts, 0.9), x, cumulative)
            assert ranks == 1 or 0.05 < late < 0.14 or counts.std() < 6


def test_table_of_designs_is_the_law_itself():
    load = ExpertLoad(experts=256, experts_per_token=8)
    requests = np.array([100.0, 2048.0, 5000.0])
    table = rank_load(load, requests, 8).quantiles.mean(axis=1)
    generator = np.random.default_rng(2)
    for n, found in zip(requests, table, strict=True):
        counts = drawn(np.full(8, 1 / 8), int(8 * n), 1.0, generator, 40_000)
        assert found == pytest.approx(counts.mean() / n, abs=0.002)


def test_layers_with_hot_experts_of_their_own_differ_and_chance_does_not():
    rows = (zipf_popularity(8, 1.0), (0.125,) * 8)
    mixed = rank_load(ExpertLoad(experts=8, popularity=rows), np.array([1e5]), 8)
    assert mixed.fresh[0] < 0.01
    assert mixed.quantiles[0].max() == pytest.approx(8 * rows[0][0], rel=0.02)
    chance = rank_load(ExpertLoad(experts=8), np.array([1e5]), 8)
    assert chance.fresh[0] == 1.0


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
    with pytest.raises(LatencyModelError, match="3 FFN workers must divide the 4 experts"):
        rank_load(load, np.array([10.0]), 3)
