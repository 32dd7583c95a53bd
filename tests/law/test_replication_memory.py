"""Replications leave their sums behind, not their slots: memory does not grow with their number."""

from __future__ import annotations

import gc
import weakref

from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.simulation import run
from afdplan.simulation.scenario import Scenario
from tests.models import PAPER


def test_at_most_two_engines_live_at_once(monkeypatch):
    alive, most = weakref.WeakSet(), []

    class Counted(run.Engine):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            gc.collect()
            alive.add(self)
            most.append(len(alive))

    monkeypatch.setattr(run, "Engine", Counted)
    result = run.simulate(
        Scenario(
            lengths=IndependentLengths(prompt="geometric:20", decode="geometric:30"),
            latency=PAPER,
            bundle=Bundle(attention_workers=2, batch_size=8),
            requests_per_worker=200,
            replications=6,
        )
    )
    assert len(most) == 6
    assert max(most) <= 2  # the first one and the one at work
    assert result.throughput_per_instance.low < result.throughput_per_instance.high
