"""Do theory and simulator, which share no code, agree on who is occupied and on uneven ratios?"""

from dataclasses import replace

import numpy as np
import pytest

from afdplan.errors import UnsupportedError
from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.coupling import Coupling
from afdplan.model.latency import LatencyModel
from afdplan.model.variation import ExpertLoad, Scatter
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Scenario
from afdplan.theory.cycle import CycleModel
from afdplan.theory.problem import RatioProblem

LAW = IndependentLengths(prompt="geometric:300", decode="geometric:100")
EVERYBODY = Coupling(send_attention=1, send_ffn=1, receive_attention=1, receive_ffn=1)
EFFECTS = {
    "ffn": (Coupling(send_ffn=1, receive_ffn=1, launch=0.1), 0.05),
    "peers": (Coupling(send_ffn=0.4, receive_ffn=0.2, one_by_one=True), 0.05),
    "attention": (Coupling(send_attention=0.5, receive_attention=1), 0.02),
    "everybody": (EVERYBODY, 0.05),
    "dense": (Coupling(fan_in="whole", dense_share=0.5), 0.005),
}


def bundle_times(workers, ffn_workers, coupling, **others):
    tokens = workers * 32 / ffn_workers
    latency = LatencyModel.linear(
        attention=(0.7 / (32 * 399), 0.3),
        ffn=(0.8 / tokens, 0.2),
        transfer=(0.0, 0.15),
        layers=10,
    )
    return replace(latency, coupling=coupling, **others)


def both(latency, workers, ffn_workers, m, requests=3000):
    scenario = Scenario(
        bundle=Bundle(
            attention_workers=workers, ffn_workers=ffn_workers, batch_size=32, microbatches=m
        ),
        latency=latency,
        lengths=LAW,
        requests_per_worker=requests,
    )
    problem = RatioProblem(
        law=LAW, latency=latency, batch_size=32, microbatches=m, ffn_workers=ffn_workers
    )
    model = CycleModel(problem, problem.slot_loads())
    return model.evaluate(np.array([float(workers)]), (0.99,)), simulate(scenario)


@pytest.mark.parametrize(
    ("effect", "workers", "ffn_workers", "m", "drain"),
    [
        ("ffn", 8, 1, 2, False),
        ("ffn", 1, 4, 3, False),
        ("peers", 8, 2, 2, False),
        ("peers", 7, 2, 3, True),
        ("attention", 6, 1, 2, False),
        ("attention", 8, 1, 4, True),
        ("everybody", 13, 4, 2, False),
        ("everybody", 3, 4, 3, False),
        ("dense", 13, 4, 2, False),
        ("dense", 3, 2, 3, False),
    ],
)
def test_cycle_of_theory_is_that_of_the_simulator(effect, workers, ffn_workers, m, drain):
    coupling, costs = EFFECTS[effect]
    latency = bundle_times(workers, ffn_workers, coupling, drain=drain)
    found, played = both(latency, workers, ffn_workers, m)
    assert found.cycle[0] == pytest.approx(played.cycle_time.value, rel=0.01)
    assert found.quantiles[0, 0] == pytest.approx(played.step_time.p99.value, rel=0.025)
    for side in ("attention_idle_fraction", "ffn_idle_fraction"):
        mine, theirs = getattr(found, side)[0], getattr(played, side)
        assert mine == pytest.approx(getattr(theirs, "value", theirs), abs=0.01)
    plain, _ = both(replace(latency, coupling=Coupling()), workers, ffn_workers, m, 50)
    assert found.cycle[0] / plain.cycle[0] - 1 > costs  # what a blind theory would miss


def test_every_effect_at_once_is_played_as_computed():
    coupling = replace(EVERYBODY, one_by_one=True, launch=0.05, fan_in="whole", dense_share=0.3)
    latency = bundle_times(
        7,
        3,
        coupling,
        experts=ExpertLoad(imbalance=1.3, imbalance_cv=0.3, share=0.5),
        scatter=Scatter(attention=0.1, ffn=0.1),
    )
    found, played = both(latency, 7, 3, 2)
    assert found.cycle[0] == pytest.approx(played.cycle_time.value, rel=0.01)


def test_transfers_of_part_filled_slots_are_refused():
    with pytest.raises(UnsupportedError, match="use padded"):
        Scenario(
            bundle=Bundle(attention_workers=4, batch_size=8),
            latency=bundle_times(4, 1, EVERYBODY),
            lengths=LAW,
            ffn_tokens="active",
        )
