"""Times that are drawn afresh, against drawn ones and against a schedule that is played."""

from dataclasses import replace

import numpy as np
import pytest

from afdplan.errors import LatencyModelError
from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.coupling import Coupling
from afdplan.model.curve import RooflineCurve, TabulatedCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.variation import ExpertLoad, Scatter, zipf_popularity
from afdplan.theory.attention_scatter import AttentionScatter, scattered
from afdplan.theory.attention_time import TimeLaw
from afdplan.theory.cycle import CycleModel
from afdplan.theory.expert_load import rank_load
from afdplan.theory.fresh_times import excess, ffn_times, larger_mean, least_ffn_mean
from afdplan.theory.problem import RatioProblem
from afdplan.theory.validity import theory_warnings

LAW = IndependentLengths(prompt="geometric:300", decode="geometric:1000")


def test_excess_is_that_of_a_lognormal():
    generator = np.random.default_rng(1)
    sigma = np.sqrt(np.log1p(0.3**2))
    drawn = 5 * np.exp(sigma * generator.standard_normal(400_000) - sigma**2 / 2)
    for level in (3.0, 5.0, 8.0):
        paid, chance = excess(np.array([5.0]), np.array([1.5]), np.array([level]))
        assert paid[0] == pytest.approx(np.maximum(drawn - level, 0).mean(), abs=0.01)
        assert chance[0] == pytest.approx((drawn > level).mean(), abs=0.004)
    paid, chance = excess(np.array([5.0]), np.array([0.0]), np.array([4.0]))
    assert (paid[0], chance[0]) == (1.0, 1.0)


def test_larger_mean_is_exact_where_one_side_always_wins():
    levels = np.array([[1.0, 2.0, 3.0]])
    low, high = np.array([0.1]), np.array([50.0])
    assert larger_mean(np.array([2.2]), levels, low, low / 10)[0] == pytest.approx(2.2)
    assert larger_mean(np.array([2.2]), levels, high, high / 10)[0] == pytest.approx(50.0)


def test_scattered_law_keeps_its_mean_and_adds_variances():
    law = TimeLaw(lowest=4.0, spacing=1.0, probabilities=np.array([0.25, 0.5, 0.25]))
    found = scattered(law, 0.2)
    assert found.mean == pytest.approx(5.0, rel=1e-4)
    assert found.std**2 == pytest.approx(0.5 + 0.04 * 25.5, rel=0.01)
    assert scattered(law, 0.0) is law


@pytest.mark.parametrize("law", ["gamma", "lognormal"])
def test_factors_have_the_law_that_is_stated(law):
    """Gamma factors were taken as lognormal: 64 workers at 30 % ended 4 % of a job too late."""
    one = TimeLaw(lowest=100.0, spacing=1.0, probabilities=np.ones(1))
    rng = np.random.default_rng(5)
    sigma = np.sqrt(np.log1p(0.09))
    normal = sigma * rng.standard_normal((40_000, 64)) - sigma**2 / 2
    drawn = gamma_factors(rng, 0.3, (40_000, 64)) if law == "gamma" else np.exp(normal)
    found = scattered(one, 0.3, law)
    chances = np.diff(found.cumulative**64, prepend=0.0)
    assert chances @ found.support == pytest.approx(100 * drawn.max(axis=1).mean(), rel=0.004)


@pytest.mark.parametrize(("workers", "std"), [(1, 20.0), (8, 20.0), (64, 5.0), (16, 60.0)])
def test_what_the_last_ends_of_two_layers_have_in_common(workers, std):
    """Loads scatter the last end less where factors often make another worker the last."""
    away = np.linspace(-4, 4, 201)
    chances = np.exp(-(away**2) / 2)
    law = TimeLaw(lowest=300 - 4 * std, spacing=0.04 * std, probabilities=chances / chances.sum())
    rng = np.random.default_rng(6)
    loads = 300 + std * rng.standard_normal((60_000, workers))
    first, second = ((loads * gamma_factors(rng, 0.3, loads.shape)).max(axis=1) for _ in range(2))
    scatter = AttentionScatter.of(law, (law.support, law.cumulative), 1, 0.3, "gamma")
    later, fresh, kept = (float(x[0, 0]) for x in scatter.means.barriers(np.array([1.0 * workers])))
    common = np.cov(first, second)[0, 1]
    alone = loads.max(axis=1)
    noise = 4 * first.var() / np.sqrt(len(first))
    assert kept * alone.var() == pytest.approx(common, abs=noise)
    assert fresh**2 == pytest.approx(first.var() - common, abs=2 * noise)
    assert later == pytest.approx((first - alone).mean(), rel=0.01, abs=0.5)


def test_only_the_share_of_the_experts_grows_and_nothing_without_effects():
    plain = LatencyModel.linear(attention=(1.0, 1.0), ffn=(2.0, 10.0))
    tokens = np.array([10.0])
    assert ffn_times(plain, tokens, 2).fresh is None
    uneven = replace(plain, experts=ExpertLoad(imbalance=1.5, share=0.5))
    found = ffn_times(uneven, tokens, 2)
    assert found.mean[0] == pytest.approx(30 + 0.5 * 0.5 * 20)
    assert found.fresh is not None
    assert found.fresh[0] == pytest.approx(0.0, abs=1e-9)


def played(times, f, c, m, layers, generator, *, attention=0.0, ffn=0.0):
    """Mean period with frozen loads of shape (draws, workers, m) and fresh gamma factors."""
    draws, workers, _ = times.shape

    def factor(cv, size):
        return generator.gamma(cv**-2, cv**2, size) if cv else 1.0

    worker, sent, served, back = np.zeros((draws, workers)), *np.zeros((3, draws))
    ready, marks = [back] * m, []
    for _ in range(6):
        for _ in range(layers):
            for u in range(m):
                work = times[:, :, u] * factor(attention, (draws, workers))
                worker = np.maximum(worker, ready[u][:, None]) + work
                sent = np.maximum(sent, worker.max(axis=1)) + c / 2
                served = np.maximum(served, sent) + f * factor(ffn, draws)
                ready[u] = back = np.maximum(back, served) + c / 2
        marks.append(back)
    return (marks[-1] - marks[1]) / (4 * layers * m)


@pytest.mark.parametrize("stage", ["ffn", "attention"])
@pytest.mark.parametrize(("cv", "error"), [(0.05, 0.01), (0.1, 0.01), (0.2, 0.015), (0.3, 0.015)])
def test_cycle_is_that_of_a_schedule_with_fresh_times(stage, cv, error):
    generator = np.random.default_rng([3, round(100 * cv)])
    missed = []
    for m in (1, 2, 3, 4):
        for _ in range(2):
            workers, batch = int(generator.choice([1, 8, 16])), int(generator.choice([8, 32]))
            f, c = generator.uniform(0.7, 1.6), float(generator.choice([0.0, 0.1, 0.3, 0.8]))
            slope = 0.7 / (batch * 1299)
            latency = replace(
                LatencyModel.linear(
                    attention=(slope, 0.3), ffn=(0.0, f), transfer=(0.0, c / 2), layers=20
                ),
                scatter=Scatter(**{stage: cv}),
            )
            slot = LAW.slot_load()
            draws = int(np.clip(100_000 / (workers * batch * m), 200, 1500))
            shape = (draws, workers, m, batch)
            loads = generator.choice(slot.support, size=shape, p=slot.probabilities).sum(axis=-1)
            times = slope * loads + 0.3
            periods = played(times, f, c, m, 20, generator, **{stage: cv})
            problem = RatioProblem(law=LAW, latency=latency, batch_size=batch, microbatches=m)
            model = CycleModel(problem, problem.slot_loads())
            got = float(model.evaluate(np.array([float(workers)])).cycle[0])
            noise = 4 * periods.std() / np.sqrt(draws)
            assert abs(got - periods.mean()) <= error * periods.mean() + noise, (m, workers, f, c)
            missed.append(abs(got / periods.mean() - 1))
    assert np.median(missed) < error


def test_wide_scatter_and_scatter_of_transfers_are_warned_of():
    plain = LatencyModel.linear(attention=(1.0, 1.0), ffn=(1.0, 1.0), layers=10)

    def said(experts=None, **cvs):
        latency = replace(plain, scatter=Scatter(**cvs), experts=experts)
        return " ".join(theory_warnings(LAW, latency, Bundle(attention_workers=8, batch_size=16)))

    assert said(ffn=0.1) == ""
    assert "wrong by up to 2.0 %" in said(ffn=0.2)
    assert "2.0 % or more" in said(attention=0.5)
    assert "transfers" in said(send=0.1)
    # The busiest rank scatters the FFN as well: 2.1 % off where nothing was said.
    assert said(ExpertLoad(imbalance=1.3, imbalance_cv=0.3)) == ""
    assert "wrong by up to 2.0 %." in said(ExpertLoad(imbalance=1.3, imbalance_cv=1.0))
    assert "2.0 % or more" in said(ExpertLoad(imbalance=1.3, imbalance_cv=3.0))


@pytest.mark.parametrize("value", [-0.1, float("nan"), 3.5])
def test_scatter_out_of_its_domain_is_refused(value):
    with pytest.raises(LatencyModelError, match="scatter of ffn"):
        Scatter(ffn=value)


def gamma_factors(rng, cv, shape):
    return rng.gamma(cv**-2, cv**2, shape)


def step_quantiles(latency, workers, microbatches=1, law=None):
    law = law or IndependentLengths(prompt="geometric:300", decode="geometric:300")
    problem = RatioProblem(law=law, latency=latency, batch_size=8, microbatches=microbatches)
    model = CycleModel(problem, problem.slot_loads())
    return model.evaluate(np.array([float(workers)]), (0.5, 0.99)).quantiles[0]


@pytest.mark.parametrize("microbatches", [1, 2, 4])
def test_percentiles_of_a_step_that_the_ffn_binds_are_those_of_the_sum_of_its_times(microbatches):
    """They were the mean: loads never move such a step, and nothing was added."""
    latency = LatencyModel.linear(
        attention=(0.0, 1.0), ffn=(0.0, 100.0), layers=20, scatter=Scatter(ffn=0.3)
    )
    rng = np.random.default_rng(7)
    drawn = 100 * gamma_factors(rng, 0.3, (20_000, 20 * microbatches)).sum(axis=1)
    drawn += 20.0 if microbatches == 1 else 0.0
    expected = np.quantile(drawn, [0.5, 0.99])
    assert step_quantiles(latency, 2, microbatches) == pytest.approx(expected, rel=0.006)


def test_percentiles_of_a_step_of_one_worker_hold_what_both_stages_scatter():
    latency = LatencyModel.linear(
        attention=(0.0, 60.0), ffn=(0.0, 40.0), transfer=(0.0, 10.0), layers=20,
        scatter=Scatter(attention=0.3, ffn=0.2),
    )  # fmt: skip
    rng = np.random.default_rng(8)
    each = 60 * gamma_factors(rng, 0.3, (20_000, 20)) + 40 * gamma_factors(rng, 0.2, (20_000, 20))
    expected = np.quantile(each.sum(axis=1) + 20 * 20.0, [0.5, 0.99])
    assert step_quantiles(latency, 1) == pytest.approx(expected, rel=0.004)


@pytest.mark.parametrize(("workers", "cv"), [(4, 0.1), (8, 0.2), (32, 0.2)])
def test_the_heaviest_worker_of_a_rare_step_has_few_rivals(workers, cv):
    """Its p99 was up to 3 % too long: rivals were counted as many as in a common step."""
    law = IndependentLengths(prompt="geometric:300", decode="geometric:300")
    latency = LatencyModel.linear(
        attention=(0.05, 20.0), ffn=(0.0, 5.0), layers=20, scatter=Scatter(attention=cv)
    )
    slot = law.slot_load()
    rng = np.random.default_rng(9)
    loads = rng.choice(slot.support, p=slot.probabilities, size=(4000, workers, 8)).sum(axis=2)
    times = 0.05 * loads + 20.0
    steps = np.zeros(len(times))
    for _ in range(20):
        steps += (times * gamma_factors(rng, cv, times.shape)).max(axis=1) + 5.0
    median, p99 = step_quantiles(latency, workers, law=law) / np.quantile(steps, [0.5, 0.99])
    assert median == pytest.approx(1, abs=0.01)
    assert p99 == pytest.approx(1, abs=0.015)


@pytest.mark.parametrize("popular", [False, True])
def test_scatter_of_a_slow_rank_multiplies_second_moments(popular):
    """The slowest rank and an independent factor: ``E[(F g)^2] = E[F^2] (1 + cv^2)``."""
    rows = tuple(zipf_popularity(64, s) for s in (0.2, 0.9)) if popular else ()
    base = LatencyModel.linear(
        attention=(1.0, 1.0), ffn=(1.0, 20.0), layers=2,
        experts=ExpertLoad(experts=64, experts_per_token=4, popularity=rows),
    )  # fmt: skip
    tokens = np.array([50.0, 400.0])
    slow = ffn_times(base, tokens, 8)
    both = ffn_times(replace(base, scatter=Scatter(ffn=0.6)), tokens, 8)
    assert (slow.fresh > 0).all()
    assert (slow.between > slow.fresh).all() == popular
    # Of a straight line: what the busiest rank has more than the mean, anew or between layers.
    busiest = rank_load(base.experts, 8 * tokens, 8)
    variance = (tokens[:, None] * busiest.quantiles).var(axis=1)
    assert slow.fresh**2 == pytest.approx(variance * busiest.fresh)
    assert slow.between**2 == pytest.approx(variance * (1 - busiest.fresh), abs=1e-9)
    assert both.mean == pytest.approx(slow.mean)
    assert both.between == pytest.approx(slow.between)
    second = (one.mean**2 + one.fresh**2 + one.between**2 for one in (slow, both))
    before, after = second
    assert after == pytest.approx(before * (1 + 0.6**2))


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_what_a_mean_is_at_least(share):
    """Of a straight line the mean itself; of a convex curve no more, of a concave one exact."""
    uneven = ExpertLoad(experts=64, experts_per_token=4, share=0.6)
    coupling = Coupling(launch=3.0, dense_share=share, fan_in="whole")
    tokens, own = np.array([8.0, 64.0, 512.0]), np.array([10.0, 70.0, 512.0])
    for experts in (None, uneven, ExpertLoad(imbalance=1.6, share=0.5)):
        line = LatencyModel.linear(
            attention=(1.0, 1.0), ffn=(1.5, 20.0), experts=experts, coupling=coupling
        )
        exact = ffn_times(line, tokens, 8, own).mean
        assert least_ffn_mean(line, tokens, 8, own) == pytest.approx(exact, rel=1e-9)
        expected = 1.5 * tokens + 20 + share * 1.5 * (own - tokens) + 3.0
        if experts is None:
            assert exact == pytest.approx(expected)
        else:
            assert (exact > expected).all()
        convex = replace(line, ffn=RooflineCurve(floor=60.0, slope=1.5, intercept=20.0))
        exact = ffn_times(convex, tokens, 8, own).mean
        least = least_ffn_mean(convex, tokens, 8, own)
        assert (least <= exact * (1 + 1e-9)).all()
        assert least[2] == pytest.approx(exact[2], rel=1e-9)  # far beyond the floor
        concave = replace(
            line, ffn=TabulatedCurve(loads=[0.0, 60.0, 900.0], times=[0.0, 120.0, 600.0])
        )
        exact = ffn_times(concave, tokens, 8, own).mean
        assert least_ffn_mean(concave, tokens, 8, own) == pytest.approx(exact, rel=1e-9)
