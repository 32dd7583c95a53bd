"""Do theory and simulator, which share no code, agree on unevenly loaded experts?"""

from dataclasses import replace

import numpy as np
import pytest

from afdplan.errors import UnsupportedError
from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.model.variation import ExpertLoad
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Scenario, Variation
from afdplan.simulation.sources import variation_source
from afdplan.theory.cycle import CycleModel
from afdplan.theory.expert_load import rank_load
from afdplan.theory.problem import RatioProblem

LAW = IndependentLengths(prompt="geometric:300", decode="geometric:100")
LAYERS = 10
HOT = tuple(
    tuple(np.random.default_rng(layer).dirichlet(np.full(64, 4.0)).tolist())
    for layer in range(LAYERS)
)


def uneven(experts, workers, f=1.0):
    latency = LatencyModel.linear(
        attention=(0.7 / (32 * 399), 0.3),
        ffn=(0.8 * f / (workers * 32), 0.2 * f),
        transfer=(0.0, 0.05),
        layers=LAYERS,
    )
    return replace(latency, experts=experts)


@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize(
    ("experts", "costs"),
    [
        (ExpertLoad(experts=64, experts_per_token=4, ranks_per_worker=8), 0.04),
        (ExpertLoad(experts=64, experts_per_token=4, ranks_per_worker=8, popularity=HOT), 0.1),
        (
            ExpertLoad(
                experts=64,
                experts_per_token=4,
                ranks_per_worker=4,
                popularity=HOT[:1],
                overdispersion=3.0,
            ),
            0.1,
        ),
        (ExpertLoad(imbalance=1.3, imbalance_cv=0.3), 0.1),
        (ExpertLoad(imbalance=1.6, imbalance_cv=0.3, share=0.5), 0.1),
    ],
    ids=["chance", "popular", "overdispersed", "measured", "share"],
)
def test_cycle_of_theory_is_that_of_the_simulator(experts, costs, m):
    workers = 8
    latency = uneven(experts, workers)
    scenario = Scenario(
        bundle=Bundle(attention_workers=workers, batch_size=32, microbatches=m),
        latency=latency,
        lengths=LAW,
        requests_per_worker=1500,
    )
    played = simulate(scenario).cycle_time

    def cycle(model):
        problem = RatioProblem(law=LAW, latency=model, batch_size=32, microbatches=m)
        found = CycleModel(problem, problem.slot_loads()).evaluate(np.array([float(workers)]))
        return float(found.cycle[0])

    assert cycle(latency) == pytest.approx(played.value, rel=0.01)
    even = cycle(replace(latency, experts=None))
    assert played.value / even - 1 > costs / (4 if m < 2 else 2)  # power


def of_ranks(load, requests, **options):
    return Scenario(
        bundle=Bundle(attention_workers=1, batch_size=requests, microbatches=2),
        latency=uneven(load, 1),
        lengths=LAW,
        **options,
    )


def test_drawn_choices_of_one_token_are_different_experts():
    load = ExpertLoad(experts=256, experts_per_token=8, ranks_per_worker=256)
    assert (variation_source(of_ranks(load, 1), 0, "experts").draw(500) == 32.0).all()


@pytest.mark.parametrize("popularity", [(), HOT])
def test_choices_do_not_depend_on_how_many_are_drawn_together(popularity):
    load = ExpertLoad(experts=64, experts_per_token=4, ranks_per_worker=8, popularity=popularity)
    scenario = of_ranks(load, 16)
    together = variation_source(scenario, 0, "experts").draw(90)
    source = variation_source(scenario, 0, "experts")
    assert (np.concatenate([source.draw(n) for n in (1, 7, 2, 80)]) == together).all()


@pytest.mark.parametrize(("requests", "popularity"), [(4, ()), (64, ()), (2000, HOT[:1])])
def test_drawn_and_derived_law_of_the_busiest_rank_agree(requests, popularity):
    load = ExpertLoad(experts=64, experts_per_token=4, ranks_per_worker=8, popularity=popularity)
    x = variation_source(of_ranks(load, requests), 0, "experts").draw(4000)
    derived = float(rank_load(load, np.array([float(requests)]), 1).quantiles.mean())
    assert abs(derived - x.mean()) <= 4 * x.std() / np.sqrt(x.size) + 0.003 * x.mean()


def test_variation_says_the_same_as_the_latency_model():
    latency = uneven(ExpertLoad(imbalance=1.4, imbalance_cv=0.2), 4)
    base = Scenario(
        bundle=Bundle(attention_workers=4, batch_size=8),
        latency=latency,
        lengths=LAW,
        requests_per_worker=300,
        replications=2,
    )
    other = replace(
        base,
        latency=replace(latency, experts=None),
        variation=Variation(expert_imbalance=1.4, expert_imbalance_cv=0.2),
    )
    assert simulate(base).cycle_time.value == simulate(other).cycle_time.value


def test_experts_of_part_filled_slots_are_refused():
    with pytest.raises(UnsupportedError, match="drawn for full slots"):
        Scenario(
            bundle=Bundle(attention_workers=4, batch_size=8),
            latency=uneven(ExpertLoad(experts=64), 4),
            lengths=LAW,
            ffn_tokens="active",
        )
