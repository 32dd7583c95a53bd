"""Replications leave their sums behind, not their slots: memory does not grow with their number."""

from __future__ import annotations

import gc
import weakref

import pytest

from afdplan.errors import InvalidInputError
from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.simulation import alias, run
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


def test_tables_of_a_law_are_built_once_for_all_replications(monkeypatch):
    built = []

    class Counted(alias.AliasTable):
        def __init__(self, law):
            built.append(law)
            super().__init__(law)

    monkeypatch.setattr(alias, "AliasTable", Counted)
    lengths = IndependentLengths(prompt="lognormal:mean=20,cv=1", decode="geometric:30")
    scenario = Scenario(
        lengths=lengths,
        latency=PAPER,
        bundle=Bundle(attention_workers=2, batch_size=8),
        requests_per_worker=100,
        replications=5,
    )
    run.simulate(scenario)
    assert built == [lengths.prompt, lengths.decode]


def test_more_requests_than_can_be_played_are_refused_at_once():
    with pytest.raises(InvalidInputError, match="at most 1,000,000,000 requests, got 10,000,000,0"):
        Scenario(
            lengths=IndependentLengths(prompt="20", decode="30"),
            latency=PAPER,
            bundle=Bundle(attention_workers=100_000, batch_size=8),
            requests_per_worker=100_000,
        )


def test_replications_in_threads_give_the_same_digits():
    scenario = Scenario(
        bundle=Bundle(attention_workers=2, batch_size=8),
        latency=PAPER,
        lengths=IndependentLengths(prompt="geometric:20", decode="geometric:30"),
        requests_per_worker=200,
        replications=6,
    )
    shares = []
    one = run.simulate(scenario)
    many = run.simulate(scenario, threads=3, progress=shares.append)
    assert one.answer() == many.answer()
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


def test_a_bundle_of_more_slots_than_memory_is_refused():
    with pytest.raises(InvalidInputError, match=r"slots .* at most 4,000,000, got 16,000,000"):
        Scenario(
            bundle=Bundle(attention_workers=1_000_000, batch_size=8, microbatches=2),
            latency=PAPER,
            lengths=IndependentLengths(prompt="20", decode="30"),
            requests_per_worker=1,
        )
