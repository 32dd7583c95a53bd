"""The overhead of a step adds to the step, whatever binds; constant loads give the closed form."""

from __future__ import annotations

from dataclasses import replace

import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Scenario

LAYERS = 4


@pytest.mark.parametrize("drain", [False, True])
@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("ffn", [10.0, 110.0, 400.0])
def test_step_is_rounds_plus_overhead(ffn, m, drain):
    prompt, batch, workers, overhead = 500, 32, 4, 300.0
    latency = LatencyModel.linear(
        attention=(0.00165, 50.0), ffn=(0.0, ffn), transfer=(0.022, 20.0), layers=LAYERS
    )
    latency = replace(latency, step_overhead=overhead, drain=drain)
    result = simulate(
        Scenario(
            lengths=IndependentLengths(prompt=str(prompt), decode="1"),  # loads never change
            latency=latency,
            bundle=Bundle(attention_workers=workers, batch_size=batch, microbatches=m),
            requests_per_worker=20_000,
        )
    )
    a, c = 50.0 + 0.00165 * batch * prompt, 0.022 * batch + 20.0
    period = max(m * a, m * ffn, m * c, a + ffn + 2 * c)
    step = LAYERS * period + overhead
    if drain:
        last = max(m * a + ffn + 2 * c, a + ffn + 2 * c + (m - 1) * max(ffn, c))
        step = (LAYERS - 1) * period + last + overhead
    assert result.step_time.mean.value == pytest.approx(step, rel=1e-3)
