from __future__ import annotations

import numpy as np
import pytest

from afdplan.errors import UnsupportedError
from afdplan.lengths.law import IndependentLengths
from afdplan.theory.transient import horizon_mean_load, renewal_chances
from tests.models import correlated, geometric


def recursion(pmf, steps):
    """The renewal equation as it is written."""
    chances = np.zeros(steps)
    chances[0] = 1.0
    for j in range(1, steps):
        chances[j] = sum(pmf[i] * chances[j - i] for i in range(1, min(j, pmf.size - 1) + 1))
    return chances


# As if geometric up to 9, the rest in one at 11: starts are even for a while, and then are not.
EVEN_AT_FIRST = [0, *(0.5**k for k in range(1, 10)), 0, 0.5**9]


@pytest.mark.parametrize(
    "pmf",
    [[0, 0.5, 0.5], [0, 0, 1.0], [0, 0.1, 0.2, 0.3, 0.4], [0, 1.0], EVEN_AT_FIRST],
)
def test_renewal_chances_solve_the_equation(pmf):
    pmf = np.array(pmf)
    got, expected = renewal_chances(pmf, 60), recursion(pmf, 60)
    np.testing.assert_allclose(got, expected[: got.size], atol=1e-13)
    # What is not returned has reached the limit 1 / E[D].
    limit = 1 / (pmf @ np.arange(pmf.size))
    np.testing.assert_allclose(expected[got.size :], limit, rtol=1e-10)


def test_chances_that_settle_slowly_are_told_until_they_have():
    """Of one step with 5 %, else of two: starts of odd and even steps differ by 0.95^j."""
    pmf = np.array([0.0, 0.05, 0.95])
    got, expected = renewal_chances(pmf, 6000), recursion(pmf, 6000)
    assert 400 < got.size < 6000
    np.testing.assert_allclose(got, expected[: got.size], atol=1e-12)
    np.testing.assert_allclose(expected[got.size :], 1 / 1.95, rtol=1e-10)


@pytest.mark.parametrize("longest", [60, 200])
def test_long_outputs_settle_to_a_small_chance(longest):
    """One of 30 or 100 steps: within 1e-11 of that, not of one."""
    pmf = np.append(0.0, np.full(longest, 1 / longest))
    got, expected = renewal_chances(pmf, 60 * longest), recursion(pmf, 60 * longest)
    np.testing.assert_allclose(got, expected[: got.size], atol=1e-12)
    limit = 1 / (pmf @ np.arange(pmf.size))
    np.testing.assert_allclose(expected[got.size :], limit, rtol=1e-10)


def simulated(law, steps, generator, slots):
    """Mean load over the first steps of slots that start fresh, one request after the other."""
    total = 0.0
    for _ in range(slots):
        step = 0
        while step < steps:
            prompt, decode = law.sample(generator, 1)
            lived = min(int(decode[0]), steps - step)
            total += lived * int(prompt[0]) + lived * (lived - 1) / 2
            step += lived
    return total / steps / slots


@pytest.mark.parametrize("horizon", [3, 40])
@pytest.mark.parametrize(
    "law", [correlated(requests=50), IndependentLengths(prompt="5", decode="uniform:1..30")]
)
def test_horizon_load_equals_the_renewal_sum(law, horizon):
    batch = 4
    steps = max(round(horizon * law.mean_decode_tokens / batch), 1)
    alive, prompts = law.survival()
    pmf = np.concatenate([[0.0], alive - np.append(alive[1:], 0.0)])
    chances = recursion(pmf, steps)
    load = prompts + np.arange(alive.size) * alive
    direct = sum(
        chances[j] * load[k - j]
        for k in range(steps)
        for j in range(max(0, k - load.size + 1), k + 1)
    )
    assert horizon_mean_load(law, horizon, batch) == pytest.approx(direct / steps, rel=1e-10)
    slots = 400
    samples = [simulated(law, steps, np.random.default_rng(s), slots // 20) for s in range(20)]
    error = np.std(samples, ddof=1) / np.sqrt(20)
    assert abs(np.mean(samples) - direct / steps) <= 5 * error


@pytest.mark.parametrize(("horizon", "batch"), [(50, 8), (10_000, 256)])
def test_geometric_outputs_give_the_papers_formula(horizon, batch):
    prompt, decode = 100.0, 500.0
    p = 1 / decode
    steps = round(horizon * decode / batch)
    paper = prompt + (1 - p) / p * (1 - (1 - (1 - p) ** steps) / (p * steps))
    assert horizon_mean_load(geometric(prompt, decode), horizon, batch) == pytest.approx(
        paper, rel=1e-9
    )


def test_long_horizons_tend_to_the_steady_state():
    law = geometric()
    loads = [horizon_mean_load(law, n, 256) for n in (10**4, 10**6, 10**9)]
    steady = law.token_load().mean
    assert loads == sorted(loads)
    assert loads[-1] == pytest.approx(steady, rel=1e-5)


def test_lattice_lengths_over_a_long_horizon_are_refused(monkeypatch):
    monkeypatch.setattr("afdplan.theory.transient.LONGEST", 1 << 12)
    law = IndependentLengths(prompt="10", decode="100")
    assert horizon_mean_load(law, 400, 10) == pytest.approx(10 + 99 / 2)
    with pytest.raises(UnsupportedError, match="horizon"):
        horizon_mean_load(law, 10**9, 10)
