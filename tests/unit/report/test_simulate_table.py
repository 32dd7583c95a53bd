"""Numbers of simulated bundles carry their unit, whatever the width of the terminal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.plotting.simulation_figures import throughput_figure
from afdplan.report.quantities import number, time
from afdplan.report.simulate import simulation_told
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Scenario
from tests.media import terminal_words
from tests.models import PAPER


def played(attention_workers=2, **devices):
    scenario = Scenario(
        lengths=IndependentLengths(prompt="10", decode="geometric:20"),
        latency=replace(PAPER, time_unit="s", **devices),
        bundle=Bundle(attention_workers=attention_workers, batch_size=4),
        requests_per_worker=2000,
    )
    return simulate(scenario)


COUNTS = (16, 64)


def shown(results, width=80):
    return terminal_words(simulation_told(results, "subject"), width)


def test_times_carry_their_unit_and_counts_separators():
    result = played()
    for text in (shown([result]), shown([result, played(3)])):
        assert time(result.step_time.p99.value, "s") in text
        assert time(result.cycle_time.value, "s") in text
    assert f"{result.tokens_generated:,} tokens" in shown([result])
    assert result.tokens_generated >= 10_000


def test_bundles_are_judged_by_what_their_devices_cost():
    """An FFN of 8 devices counted as one worker once: few attention workers seemed the best."""
    results = [played(count, ffn_devices=8, attention_devices=1) for count in COUNTS]
    workers = [result.throughput_per_instance.value for result in results]
    totals = [worker * (count + 1) for worker, count in zip(workers, COUNTS, strict=True)]
    assert totals[0] / 17 > totals[1] / 65
    costs = [totals[0] / 24, totals[1] / 72]
    assert costs[1] > costs[0]
    text = shown(results)
    assert "64 attention workers and 1 FFN worker deliver" in " ".join(text.split())
    for result, cost in zip(results, costs, strict=True):
        assert result.answer()["objective"]["value"] == pytest.approx(cost)
        assert number(cost) in text
    assert "tokens/s per device" in text
    (layer,) = (
        one
        for one in next(iter(throughput_figure(results, (), "s").charts.values())).layers
        if one.role == "best"
    )
    assert layer.columns["x"] == [64]


def test_the_window_is_never_exceeded():
    result = played()
    for width in (60, 80):
        text = shown([result], width)
        assert f"{number(result.throughput_per_instance.value)} tokens/s" in text
