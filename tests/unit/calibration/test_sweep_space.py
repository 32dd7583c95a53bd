"""How likely are coefficients a priori, which are stored, and what does a model file hold?"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from afdplan.calibration import sweep_space as module
from afdplan.calibration.least_squares import least_squares
from afdplan.calibration.posterior import posterior_draws
from afdplan.calibration.sweep import fit_sweep
from afdplan.calibration.sweep_model import sweep_latency_model
from afdplan.calibration.sweep_round import SweepRound
from afdplan.calibration.sweep_space import sweep_space
from afdplan.errors import LatencyModelError
from afdplan.model.sweep import RatioSweep

FORM = SweepRound(
    layers=1, step_overhead=0.0, maximum="hard", tokens=8000.0, requests=40.0, length=200.0
)
# Of one microbatch: attention + FFN + trip; the longest round is 100 s, at 8 x 40 / 2 tokens.
SWEEP = RatioSweep(
    attention_workers=np.array([2.0, 4.0, 8.0]), ffn_workers=2.0, batch_size=40.0,
    microbatches=1.0, mean_tokens=200.0, step_times=np.array([40.0, 50.0, 100.0]),
)  # fmt: skip


def density(monkeypatch, space, expected, noise=0.1):
    """Return the logarithm of the density that draws are made of, and its box."""
    kept = {}

    def capture(log_density, low, high, generator):
        kept.update(density=log_density, low=low, high=high)
        return (low + high)[None, :] / 2

    monkeypatch.setattr(module, "posterior_draws", capture)
    middle = space.draws(noise, expected)
    assert middle.shape == (1, 8)
    return kept


def test_how_likely_points_are(monkeypatch):
    space = sweep_space(SWEEP, FORM, None, None)
    assert space.free == (0, 2, 3, 4)
    kept = density(monkeypatch, space, None)
    assert kept["low"].tolist() == [0, 0, 0, 0]
    assert kept["high"].tolist() == [1.5] * 4
    # 20 s + (10 s + 0.125 s a token) + 0: 35, 40 and 50 s, of 40, 50 and 100.
    point = np.array([[0.2, 0.1, 0.125 * 160 / 100, 0.0]])
    misses = np.array([-5 / 40, -10 / 50, -50 / 100])
    data = -0.5 * ((misses / 0.1) ** 2).sum()
    assert kept["density"](point) == pytest.approx([data])
    # A trip of 4 s is 4 % of the longest round, and a mean of 5 % is expected.
    moved = point + np.array([0, 0, 0, 0.04])
    misses += 4 / np.array([40, 50, 100])
    data = -0.5 * ((misses / 0.1) ** 2).sum()
    assert kept["density"](moved) == pytest.approx([data - 0.04 / 0.05])


def test_a_prior_is_trusted_to_a_factor(monkeypatch):
    """Student's three degrees of freedom in the logarithm; what it says is 0 is not trusted."""
    space = sweep_space(SWEEP, FORM, None, None)
    without = density(monkeypatch, space, None)["density"]
    expected = np.array([20.0, 0, 0.0, 0.125, 8.0, 0, 0, 0])
    told = density(monkeypatch, space, expected)["density"]
    point = np.array([[0.3, 0.1, 0.125 * 160 / 100 * 3, 0.04]])
    errors = np.log([30 / 20, 3.0, 4 / 8]) / np.log(1.5)
    prior = -2 * np.log1p(errors**2 / 3).sum()
    # Where the prior knows the trip, nothing else is said of it.
    assert told(point) == pytest.approx(without(point) + 0.04 / 0.05 + prior)
    known = sweep_space(SWEEP, FORM, 4.0, None)
    assert known.free == (0, 2, 3)
    fixed = density(monkeypatch, known, expected)["density"]
    errors = errors[:2]
    free = density(monkeypatch, known, None)["density"]
    assert fixed(point[:, :3]) == pytest.approx(
        free(point[:, :3]) - 2 * np.log1p(errors**2 / 3).sum()
    )


def test_what_points_can_tell_apart():
    """Contexts that vary by 0.2 of the reference tell no shares, a little more does."""

    def free(lengths, batches=40.0):
        sweep = replace(SWEEP, mean_tokens=np.array(lengths), batch_size=batches * np.ones(3))
        return sweep_space(sweep, FORM, None, None).free

    assert 1 not in free([180.0, 200.0, 220.0])
    assert 1 in free([179.0, 200.0, 220.0])
    # Lengths at equal KV tokens: requests and length are told apart.
    few = np.array([80.0, 40.0, 20.0])
    lengths = 8000 / few
    sweep = replace(SWEEP, mean_tokens=lengths, batch_size=few)
    told = sweep_space(sweep, FORM, None, np.array([1.0, 0.3, 0, 0, 0, 0, 0.2, 0.1]))
    assert told.free == (0, 2, 3, 4, 6, 7)
    assert told.rest[[1, 6, 7]].tolist() == [0.0, 0.2, 0.1]
    prior = sweep_space(SWEEP, FORM, None, np.array([1.0, 0.3, 0, 0, 9.0, 0, 0.2, 0.1]))
    assert prior.rest.tolist() == [0, 0.3, 0, 0, 0, 0, 0.2, 0.1]
    soft = sweep_space(SWEEP, replace(FORM, maximum="soft"), 2.0, None)
    assert soft.free == (0, 2, 3, 5)
    assert soft.rest[4] == 2.0
    assert np.exp([soft.low[5], soft.high[5]]) == pytest.approx([2.0, 100.0])


def test_lengths_must_differ_by_a_tenth():
    for share, told in ((0.0499, False), (0.0505, True)):
        lengths = 200 * np.array([1 - share, 1.0, 1 + share])
        sweep = replace(SWEEP, mean_tokens=lengths, batch_size=8000 / lengths)
        assert module._lengths_tell(sweep) is told
    longer = replace(SWEEP, mean_tokens=np.array([1.0, 2.0, 3.0]))
    assert not module._lengths_tell(longer)  # the tokens explain them


def test_the_point_that_is_stored():
    """Attention of 20 s and an FFN of 10 s + 0.125 s per token, from draws around them."""
    times = 20 + 10 + 0.125 * SWEEP.ffn_tokens
    sweep = replace(SWEEP, step_times=times)
    space = sweep_space(sweep, FORM, 0.0, None)
    generator = np.random.default_rng(3)
    draws = np.array([20.0, 0, 10, 0.125, 0, 0, 0, 0]) * generator.uniform(0.8, 1.2, (60, 8))
    found = space.best(draws, 0.01, lambda every: (every[:, 0] / 12 - 1)[:, None])
    # Attention and what is fixed of the FFN are told by the wish alone.
    assert found == pytest.approx([12, 0, 18, 0.125, 0, 0, 0, 0], rel=1e-4, abs=1e-6)
    assert space.misses(found[None, :]) == pytest.approx(np.zeros((1, 3)), abs=1e-6)


def test_damped_steps_find_the_bottom_of_a_curved_valley():
    """Rosenbrock's; its bottom is (1, 1), or at a side of the box where it is outside."""

    def missed(points):
        x, y = points.T
        return np.stack([10 * (y - x**2), 1 - x], axis=1)

    starts = np.array([[-1.2, 1.0], [0.0, 0.0]])
    wide = least_squares(missed, starts, np.full(2, -3.0), np.full(2, 3.0))
    assert wide == pytest.approx([1.0, 1.0], rel=1e-6)
    tight = least_squares(missed, starts, np.full(2, -3.0), np.array([0.5, 3.0]))
    assert tight == pytest.approx([0.5, 0.25], rel=1e-6)
    low = least_squares(missed, starts, np.array([-3.0, 1.44]), np.full(2, 3.0))
    assert low == pytest.approx([1.2, 1.44], rel=0.01)
    outside = least_squares(missed, np.full((1, 2), 9.0), np.full(2, -3.0), np.full(2, 3.0))
    assert outside == pytest.approx([1.0, 1.0], rel=1e-6)


def test_draws_have_the_moments_of_a_normal_at_a_side():
    """Half a normal distribution: mean sqrt(2 / pi), and a slanted one beside it."""

    def log_density(points):
        x, y, z = points.T
        return -0.5 * (x**2 + (y - 5) ** 2 + ((z - y) / 0.1) ** 2)

    low, high = np.array([0.0, 0.0, 0.0]), np.array([50.0, 10.0, 10.0])
    draws = posterior_draws(log_density, low, high, np.random.default_rng(5))
    assert draws.shape == (3000, 3)
    assert draws.min(axis=0)[0] >= 0
    assert draws[:, 0].mean() == pytest.approx(np.sqrt(2 / np.pi), abs=0.04)
    assert draws.mean(axis=0)[1:] == pytest.approx([5, 5], abs=0.08)
    assert np.cov(draws[:, 1:].T) == pytest.approx(np.array([[1, 1], [1, 1.01]]), abs=0.1)
    again = posterior_draws(log_density, low, high, np.random.default_rng(5))
    assert np.array_equal(draws, again)


def test_a_density_that_is_nowhere_finite_is_refused():
    with pytest.raises(LatencyModelError, match="contradict every model"):
        posterior_draws(
            lambda x: np.full(len(x), -np.inf), np.zeros(1), np.ones(1), np.random.default_rng(1)
        )


@cache
def fit_of_points():
    points = replace(SWEEP, microbatches=2.0 * np.ones(3))
    return fit_sweep(points, layers=3, step_overhead=1.0, noise=0.5)


def fitted(**changes):
    """Return a fit whose point and draws are stated: half of attention is fixed in the point."""
    fit = fit_of_points()
    form = replace(FORM, layers=3, step_overhead=1.0)
    point = np.array([8.0, 0.25, 3.0, 0.5, 2.0, 0, 0.125, 0.5])
    draws = np.tile(point, (401, 1))
    draws[:, 2] = np.arange(401)
    known = dict.fromkeys(("attention", "ffn_time", "ffn_slope", "ffn_intercept"), True)
    return replace(fit, form=form, point=point, draws=draws, identified=known, **changes)


def test_what_a_model_file_holds():
    model = sweep_latency_model(fitted(), name="stored", tokens_per_step=1.5)
    (kind,) = model.attention
    assert (kind.layers, model.step_overhead, model.tokens_per_step) == (3, 1.0, 1.5)
    assert kind.curve.intercept == 2.0
    assert kind.curve.slope == pytest.approx(8 / 8 / 8000)
    assert kind.time_per_request == 1 / 40
    assert kind.time_per_context == 4 / 200
    assert (model.ffn.intercept, model.ffn.slope) == (3.0, 0.5)
    assert model.send.curve.intercept == model.receive.curve.intercept == 1.0
    assert model.validity.attention_tokens == (8000.0, 8000.0)
    assert model.validity.ffn_tokens == (40.0, 160.0)
    assert model.validity.batch_size == (40.0, 40.0)
    assert model.source.startswith("ratio sweep of 3 points")
    # 200 of the 401 draws, from the first to the last.
    assert model.uncertainty.coefficients == ("ffn.intercept",)
    assert model.uncertainty.draws.shape == (200, 1)
    assert model.uncertainty.draws[[0, 1, -1], 0].tolist() == [0.0, 2.0, 400.0]
    fit = fitted()
    alike = replace(fit, draws=np.tile(fit.point, (5, 1)) * [1.0000001, 1, 1, 1, 1, 1, 1, 1])
    assert sweep_latency_model(alike, name="sure").uncertainty is None
    assert sweep_latency_model(alike, name="x").attention[0].curve.intercept == 2.0


def test_what_had_to_be_assumed():
    fit = fitted()
    words = " ".join(sweep_latency_model(fit, name="x").assumptions)
    assert "seen at 8,000 KV tokens only; the prior says that 38 % of it does not grow" in words
    assert "Transfers are taken as hidden" not in words
    assert "soft maximum" not in words
    assert "never the limit" not in words
    none = fitted()
    none.draws[:, [1, 6]] = 0.0
    assert "its time is taken as proportional to the tokens" in " ".join(
        sweep_latency_model(none, name="x").assumptions
    )
    both = fitted()
    both.draws[:, 7] = np.linspace(0, 1, 401)
    words = " ".join(sweep_latency_model(both, name="x").assumptions)
    assert "50 % of attention grows with the mean length of the requests and 12 % with" in words
    assert "KV tokens only" not in words
    trips = fitted()
    trips.draws[:, 4] = np.linspace(0, 1, 401)
    assert "prior of 5 % of the longest" in " ".join(
        sweep_latency_model(trips, name="x").assumptions
    )
    hidden = fitted(transfer_limit=12.5e-6)
    hidden.point[4] = 0.0
    words = " ".join(sweep_latency_model(hidden, name="x").assumptions)
    assert "Transfers are taken as hidden; there and back they could take up to 12.5 µs" in words
    alone = replace(hidden, sweep=SWEEP)
    words = " ".join(sweep_latency_model(alone, name="x").assumptions)
    assert "contained in their times" in words
    assert "hidden" not in words
    soft = fitted()
    soft = replace(soft, form=replace(soft.form, maximum="soft"))
    assert "soft maximum" in " ".join(sweep_latency_model(soft, name="x").assumptions)
    bounded = replace(
        fitted(), identified={"attention": False, "ffn_time": True, "ffn_slope": True}
    )
    words = " ".join(sweep_latency_model(bounded, name="x").assumptions)
    assert "Attention was never the limit" in words
    assert "The FFN was never" not in words
