"""Units survive the markup of the terminal: ``[s]`` is a unit, not a style."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.report.simulate import render_simulations
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Scenario
from tests.models import PAPER


def test_seconds_are_shown():
    scenario = Scenario(
        lengths=IndependentLengths(prompt="10", decode="geometric:20"),
        latency=replace(PAPER, time_unit="s"),
        bundle=Bundle(attention_workers=2, batch_size=4),
        requests_per_worker=200,
    )
    out = io.StringIO()
    Console(file=out, width=100).print(render_simulations([simulate(scenario)]))
    assert out.getvalue().count("[s]") == 3
