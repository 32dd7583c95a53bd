"""Are a played bundle's answers the same in other units of time and of tokens?"""

from dataclasses import replace

import numpy as np
import pytest

from afdplan.lengths.law import EmpiricalLengths
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.model.trace import Trace
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Arrivals, Scenario, Variation

LATENCY = LatencyModel.linear(
    attention=(0.0016, 50.0), ffn=(0.083, 100.0), transfer=(0.022, 20.0), layers=3
)
RNG = np.random.default_rng(5)
PROMPTS, OUTPUTS = RNG.integers(1, 60, 200), RNG.integers(1, 30, 200)


def played(latency, prompts=PROMPTS, outputs=OUTPUTS, **changes):
    bundle = Bundle(attention_workers=3, batch_size=8, microbatches=2)
    lengths = EmpiricalLengths(Trace(prompt_tokens=prompts, decode_tokens=outputs))
    case = Scenario(
        bundle=bundle, latency=latency, lengths=lengths, requests_per_worker=400, **changes
    )
    return simulate(case)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"variation": Variation(attention=0.2, ffn=0.1)},
        {"start": "fresh", "arrivals": Arrivals(process="poisson", rate=2.0**-9)},
    ],
)
def test_eight_times_the_times_give_eight_times_the_steps(changes):
    slow = dict(changes)
    if "arrivals" in slow:
        slow["arrivals"] = replace(slow["arrivals"], rate=slow["arrivals"].rate / 8)
    one, other = played(LATENCY, **changes), played(LATENCY.scaled(8.0), **slow)
    assert other.steps == one.steps
    assert other.step_time.mean.value == pytest.approx(8 * one.step_time.mean.value, rel=1e-12)
    assert other.step_time.p99.value == pytest.approx(8 * one.step_time.p99.value, rel=2e-3)
    assert other.attention_idle_fraction.value == pytest.approx(
        one.attention_idle_fraction.value, rel=1e-9
    )
    assert other.throughput_per_instance.value == pytest.approx(
        one.throughput_per_instance.value / 8, rel=1e-12
    )


def test_tokens_of_half_the_size_change_nothing():
    (kind,) = LATENCY.attention
    finer = replace(kind, curve=replace(kind.curve, slope=kind.curve.slope / 2))
    ones = np.ones_like(OUTPUTS)
    one = played(LATENCY, outputs=ones)
    other = played(replace(LATENCY, attention=(finer,)), 2 * PROMPTS, ones)
    assert other.steps == one.steps
    assert other.step_time.mean.value == pytest.approx(one.step_time.mean.value, rel=1e-12)
