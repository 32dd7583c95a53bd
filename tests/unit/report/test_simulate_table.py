"""Units survive the markup of the terminal: ``[s]`` is a unit, not a style."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.report.quantities import time
from afdplan.report.simulate import render_simulations
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Scenario
from tests.models import PAPER


def played(attention_workers=2):
    scenario = Scenario(
        lengths=IndependentLengths(prompt="10", decode="geometric:20"),
        latency=replace(PAPER, time_unit="s"),
        bundle=Bundle(attention_workers=attention_workers, batch_size=4),
        requests_per_worker=2000,
    )
    return simulate(scenario)


def shown(results, width=80):
    out = io.StringIO()
    Console(file=out, width=width).print(render_simulations(results))
    return out.getvalue()


def test_times_carry_their_unit_and_counts_separators():
    result = played()
    for text in (shown([result]), shown([result, played(3)])):
        assert time(result.step_time.p99.value, "s") in text
        assert time(result.cycle_time.value, "s") in text
    assert f"{result.tokens_generated:,} tokens" in shown([result])
    assert result.tokens_generated >= 10_000


def test_the_window_is_never_exceeded():
    for width in (60, 80):
        text = shown([played()], width)
        assert max(map(len, text.splitlines())) <= width
        assert "tokens per s" in " ".join(text.split())
