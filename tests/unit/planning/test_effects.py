"""The best bundle without an effect is that of all, from one worker to the most that is allowed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.coupling import Coupling
from afdplan.model.latency import LatencyModel
from afdplan.planning.effect_costs import _best_of, effect_costs
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend

LAW = IndependentLengths(prompt="fixed:2000", decode="fixed:1")


@pytest.mark.parametrize("slope", [2e-2, 2e-3, 2e-4])
@pytest.mark.parametrize("here", [1, 3, 40])
def test_what_a_launch_costs_at_any_number_of_workers(slope, here):
    latency = LatencyModel.linear(
        attention=(1e-7, 1e-3), ffn=(slope, 2e-4), transfer=(2e-6, 5e-4), layers=10, time_unit="s"
    )
    costly = replace(latency, coupling=Coupling(launch=5e-3))
    problem = RatioProblem(law=LAW, latency=costly, batch_size=8)
    (found,) = effect_costs(replace(problem, max_attention_workers=40), here)
    with_it = {
        p.attention_workers: p.objective
        for p in recommend(replace(problem, max_attention_workers=40)).curve
    }
    free = replace(problem, latency=latency)
    without = recommend(replace(free, max_attention_workers=40))
    gone = {p.attention_workers: p.objective for p in without.curve}
    assert found.attention_workers_without == without.optimal_attention_workers
    assert found.cost == pytest.approx(1 - with_it[here] / gone[here])
    assert found.gain == pytest.approx(max(gone.values()) / with_it[here] - 1)
    assert (found.attention_longer, found.ranks) == (0.0, None)
    assert found.ffn_longer == pytest.approx(5e-3 / (2e-4 + slope * 8 * here))


@pytest.mark.parametrize("best", [1, 2, 17, 63, 64, 500, 1999, 2000])
@pytest.mark.parametrize("here", [1, 300, 2000])
def test_the_best_of_many_is_found_by_few(best, here):
    asked = []

    def played(counts):
        asked.extend(counts.tolist())
        return np.exp(-(np.log(counts / best) ** 2)), counts

    able = np.arange(1, 2001)
    found, value, kept = _best_of(played, able, here, np.inf, 0)
    assert found == best
    assert value == 1.0
    assert kept == pytest.approx(np.exp(-(np.log(here / best) ** 2)))
    assert len(asked) == len(set(asked)) <= 120
    # Steps as long as A: none longer than the bound counts.
    found, value, _ = _best_of(played, able, here, 250.0, 0)
    assert found == min(best, 250)
