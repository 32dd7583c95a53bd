"""Numbers of simulated bundles carry their unit, whatever the width of the terminal."""

from __future__ import annotations

from dataclasses import replace

from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.report.quantities import number, time
from afdplan.report.simulate import simulation_told
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Scenario
from tests.media import terminal_words
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
    return terminal_words(simulation_told(results, "subject"), width)


def test_times_carry_their_unit_and_counts_separators():
    result = played()
    for text in (shown([result]), shown([result, played(3)])):
        assert time(result.step_time.p99.value, "s") in text
        assert time(result.cycle_time.value, "s") in text
    assert f"{result.tokens_generated:,} tokens" in shown([result])
    assert result.tokens_generated >= 10_000


def test_the_window_is_never_exceeded():
    result = played()
    for width in (60, 80):
        text = shown([result], width)
        assert f"{number(result.throughput_per_instance.value)} tokens/s" in text
