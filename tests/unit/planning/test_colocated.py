"""Does the un-split baseline follow from its own round?"""

from dataclasses import replace

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.model.variation import Scatter
from afdplan.planning.colocated import best_colocated
from afdplan.planning.colocated_search import ColocatedSearch
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.search import DesignSearch
from afdplan.planning.source import MeasuredSource
from afdplan.planning.space import SearchSpace

LATENCY = LatencyModel.linear(
    attention=(2e-8, 2e-5), ffn=(3e-7, 9e-5), transfer=(4e-7, 3e-5), layers=40, time_unit="s"
)
LAW = IndependentLengths(prompt="geometric:400", decode="geometric:300")


LONG_COMBINE = LatencyModel.linear(
    attention=(2e-8, 2e-5), ffn=(3e-7, 9e-5), transfer=(4e-7, 3e-5), layers=40, time_unit="s"
).with_coefficients({"receive.intercept": 2.3e-4})
"""Combine is as long as many attentions: it hides behind no stage."""


def search(sizes, latency=LATENCY):
    space = SearchSpace(batch_sizes=sizes)
    return DesignSearch(LAW, MeasuredSource(latency), space, DeviceCost())


def simulated_round(latency, ranks, b, overlap, rng, rounds=4000):
    """Draw loads of all ranks and take the definition of the round, no law involved."""
    m = 2 if overlap else 1
    ages = LAW.sample_stationary(rng, rounds * ranks * m * b)
    loads = (ages.prompt_tokens + ages.age).reshape(rounds, ranks, m, b).sum(axis=3)
    a = 2e-8 * loads + 2e-5
    f, out, back = (
        float(stage(b)) for stage in (latency.ffn, latency.send.curve, latency.receive.curve)
    )
    if not overlap:
        return a[:, :, 0].max(axis=1) + f + out + back
    trips = np.maximum(a[:, :, 0] + out, a[:, :, 1] + back)
    return np.maximum(a.sum(axis=2), trips).max(axis=1) + f + max(f, out, back)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("ranks", [1, 8])
@pytest.mark.parametrize("latency", [LATENCY, LONG_COMBINE], ids=["short", "long combine"])
def test_step_equals_monte_carlo(latency, ranks, overlap):
    colocated = ColocatedSearch(search((16,), latency))
    m = 2 if overlap else 1
    plan = colocated._evaluate(1, ranks, 16, m, Limits(devices=8))
    rounds = simulated_round(latency, ranks, 16, overlap, np.random.default_rng(5))
    error = 5 * rounds.std() / np.sqrt(rounds.size)
    assert plan.step_time.mean / 40 == pytest.approx(rounds.mean(), abs=error)
    assert plan.step_time.p99 / 40 == pytest.approx(np.quantile(rounds, 0.99), rel=0.02)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("ranks", [1, 8])
def test_attention_of_unsplit_ranks_scatters_as_that_of_a_split(ranks, overlap):
    """Only the split had it: at 10 % eight ranks were promised steps that are 6 % longer."""
    m, layers, rng = 2 if overlap else 1, 40, np.random.default_rng(6)
    latency = replace(LATENCY, scatter=Scatter(attention=0.2, law="lognormal"))
    found = ColocatedSearch(search((16,), latency))._evaluate(1, ranks, 16, m, Limits(devices=8))
    still = ColocatedSearch(search((16,)))._evaluate(1, ranks, 16, m, Limits(devices=8))
    ages = LAW.sample_stationary(rng, 1000 * ranks * m * 16)
    loads = (ages.prompt_tokens + ages.age).reshape(1000, ranks, m, 16).sum(axis=3)
    f, c = (float(stage(16)) for stage in (latency.ffn, latency.send.curve))
    sigma, steps, plain = np.sqrt(np.log1p(0.04)), np.zeros(1000), np.zeros(1000)
    for _ in range(layers):
        drawn = np.exp(sigma * rng.standard_normal(loads.shape) - sigma**2 / 2)
        for total, factor in ((steps, drawn), (plain, 1.0)):
            a = (2e-8 * loads + 2e-5) * factor
            if overlap:
                trip = np.maximum(a.sum(axis=2), a.max(axis=2) + c).max(axis=1)
                total += trip + f + max(f, c)
            else:
                total += a[:, :, 0].max(axis=1) + f + 2 * c
    longer = found.step_time.mean - still.step_time.mean
    assert longer == pytest.approx((steps - plain).mean(), rel=0.05, abs=2e-3 * steps.mean())
    assert found.step_time.p99 == pytest.approx(np.quantile(steps, 0.99), rel=0.03)
    assert overlap or ranks == 1 or longer > 0.02 * still.step_time.mean


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("latency", [LATENCY, LONG_COMBINE], ids=["short", "long combine"])
def test_bound_is_below_the_step(latency, m):
    limits, colocated = Limits(devices=64), ColocatedSearch(search((1, 16, 128), latency))
    for ranks, b in ((1, 1), (1, 16), (8, 16), (64, 128)):
        bounds = colocated._bounded(1, ranks, np.array([b]), np.array([m]), limits)
        most, least = float(bounds.most[0]), float(bounds.least[0])
        plan = colocated._evaluate(1, ranks, b, m, limits)
        assert 0.85 * plan.step_time.mean < least <= plan.step_time.mean
        assert most >= plan.score


def test_best_of_each_width_is_the_best_of_all_batches():
    sizes = (1, 4, 16, 64, 128)
    limits = Limits(devices=8, time_per_output_token=0.015)
    colocated = ColocatedSearch(search(sizes))
    for best in colocated.widths(limits):
        for b in sizes:
            for m in (1, 2):
                other = colocated._evaluate(1, best.ranks, b, m, limits)
                if other.step_time.mean <= limits.time_per_output_token:
                    assert other.score <= best.score * (1 + 1e-9)
        assert best.step_time.mean <= limits.time_per_output_token


@pytest.mark.parametrize(("rate", "tpot"), [(2.0, 0.02), (8.0, 0.0125), (15.0, 0.02)])
def test_with_a_rate_the_baseline_gives_most_of_all_that_cost_as_little(rate, tpot):
    """Only listed batch sizes were filled up; where none of these would do, there was none."""
    limits = Limits(devices=8, requests_per_second=rate, time_per_output_token=tpot)
    space = SearchSpace(batch_sizes=(1, 8, 24, 80), fills_gaps=True)
    colocated = ColocatedSearch(DesignSearch(LAW, MeasuredSource(LATENCY), space, DeviceCost()))
    tried = [
        other
        for ranks in range(1, 9)
        if 8 % ranks == 0
        for b in range(1, 81)
        for m in (1, 2)
        if (other := colocated._evaluate(1, ranks, b, m, limits)).step_time.mean <= tpot
    ]
    least = min(other.cost for other in tried if other.score > 0)
    paid = [other for other in tried if other.score > 0 and other.cost == least]
    most = max(other.tokens_per_second for other in paid)
    told = best_colocated(colocated.widths(limits))
    assert told.cost == least
    assert told.tokens_per_second == pytest.approx(most)
    assert told.step_time.mean <= tpot


def test_wider_barrier_costs_when_experts_do_not_gain():
    scores = [plan.score for plan in ColocatedSearch(search((16, 64))).widths(Limits(devices=64))]
    assert scores == sorted(scores, reverse=True)
