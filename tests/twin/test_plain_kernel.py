"""Does the kernel of plain bundles play, bit for bit, what the one with all extras plays?"""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.simulation import engine, tables
from afdplan.simulation import state as ix
from afdplan.simulation.scenario import Arrivals, Scenario


def plain_scenario(seed):
    r = random.Random(seed)
    arrivals = r.choice([None, None, Arrivals(process="poisson", rate=r.choice([0.01, 0.2]))])
    return Scenario(
        bundle=Bundle(
            attention_workers=r.choice([1, 2, 3, 8]),
            ffn_workers=r.choice([1, 2]),
            batch_size=r.choice([1, 3, 16]),
            microbatches=r.choice([1, 2, 3]),
        ),
        latency=LatencyModel.linear(
            attention=(r.choice([0.0, 0.013]), 5.0),
            ffn=(0.3, r.choice([1.0, 20.0])),
            transfer=(0.02, r.choice([0.0, 7.0])),
            layers=r.choice([1, 2, 5]),
        ),
        lengths=IndependentLengths(
            prompt=r.choice(["geometric:20", "7"]),
            decode=r.choice(["1", "geometric:9", "geometric:300", "uniform:1..9000"]),
        ),
        seed=seed,
        start="fresh" if arrivals else r.choice(["fresh", "stationary"]),
        arrivals=arrivals,
        placement=r.choice(["round-robin", "least-tokens", "fewest-requests"]),
        ffn_tokens=r.choice(["padded", "active"]),
    )


def played(scenario, block):
    one = engine.Engine(scenario, block=block)
    for step in (7, 900, 9000):
        one.run(stop_step=step)
    return one.state


@pytest.mark.parametrize("seed", range(24))
def test_plain_bundles_are_played_alike_by_both_kernels(seed, monkeypatch):
    scenario = plain_scenario(seed)
    if seed >= 16:
        calls = scenario.bundle.attention_workers * scenario.bundle.microbatches
        scenario = replace(
            scenario,
            execution="barrier-free",
            placement="round-robin",
            least_calls=1 + seed % calls,
            longest_wait=(0.0, 9.0)[seed % 2],
        )
    one = played(scenario, 16)
    assert one.tables.plain
    assert one.tables.full == (scenario.arrivals is None and seed < 16)
    monkeypatch.setattr(tables, "is_full", lambda scenario: False)
    without = played(scenario, 33)  # not that kernel, where it is at all
    monkeypatch.setattr(tables, "is_plain", lambda tables: False)
    other = played(scenario, 64)
    assert not without.tables.full
    assert not other.tables.plain
    assert whole(one) == whole(without) == whole(other)
    assert one.integers[ix.COMPLETED] > 0


def whole(state):
    """Return all that a kernel tells, but for its notes and what lies where in a block."""
    moved = {ix.HEAD, ix.AVAILABLE, ix.ARRIVED, ix.EXHAUSTED}
    moved |= {ix.AT_ATTENTION, ix.AT_SEND, ix.AT_FFN, ix.AT_RECEIVE, ix.AT_EXPERTS}
    totals = [int(k) for i, k in enumerate(state.integers[: ix.INTEGER_TOTALS]) if i not in moved]
    noted = {ix.LAST_END, ix.LAST_ARRIVAL}
    times = [float(x) for i, x in enumerate(state.floats[: ix.FLOAT_TOTALS]) if i not in noted]
    parts = ("loads", "active", "present", "histograms", "own_step", "heap", "calls")
    # Of the full kernel, stage times are those of the step that has ended.
    reals = set(state._float_parts) - {"chosen_times", "returned_times", "attention_time"}
    return (
        totals,
        times,
        {part: state.whole(part).tolist() for part in parts if part != "histograms"},
        [np.flatnonzero(row).tolist() for row in state.whole("histograms")],
        [row[row > 0].tolist() for row in state.whole("histograms")],
        {part: state.real(part).tolist() for part in reals if part != "arrival"},
    )


@pytest.mark.parametrize(
    ("seed", "decode"),
    list(
        enumerate(
            ["uniform:1..300000", "geometric:64", "uniform:60..70", "1", "64", "65", "270000"]
        )
    ),
)
def test_a_full_bundle_is_played_alike_over_many_windows(seed, decode, monkeypatch):
    """Requests that live longer than the ring of windows, as long as a window, and one step."""
    scenario = Scenario(
        bundle=Bundle(attention_workers=2, batch_size=3, microbatches=1 + seed % 2),
        latency=LatencyModel.linear(attention=(0.01, 5.0), ffn=(0.3, 1.0)),
        lengths=IndependentLengths(prompt="geometric:20", decode=decode),
        seed=seed,
        start="fresh",
    )
    steps = 600_000 if "0000" in decode else 3000
    states = []
    for full in (True, False):
        monkeypatch.setattr(tables, "is_full", lambda scenario, full=full: full)
        one = engine.Engine(scenario)
        one.run(stop_step=steps)
        states.append(one.state)
    assert [state.tables.full for state in states] == [True, False]
    assert whole(states[0]) == whole(states[1])
    assert states[0].integers[ix.COMPLETED] > 0


@pytest.mark.parametrize("workers", [63, 64, 65])
def test_workers_of_a_full_bundle_take_turns_as_any_others(workers, monkeypatch):
    """Who has a free slot is a bit: of one word up to 64 workers, of several beyond."""
    scenario = Scenario(
        bundle=Bundle(attention_workers=workers, batch_size=3),
        latency=LatencyModel.linear(attention=(0.01, 5.0), ffn=(0.3, 1.0)),
        lengths=IndependentLengths(prompt="geometric:20", decode="geometric:9"),
    )
    states = []
    for full in (True, False):
        monkeypatch.setattr(tables, "is_full", lambda scenario, full=full: full)
        one = engine.Engine(scenario)
        for step in (1, 2, 50, 400):  # what is held is counted up to where it stops
            one.run(stop_step=step)
        states.append(one.state)
    assert whole(states[0]) == whole(states[1])


def test_the_records_of_a_full_bundle_never_outgrow_their_room(monkeypatch):
    """Every slot ends and begins within a window, over and over: what has ended is used again."""
    for decode in ("1", "2", "uniform:1..64", "uniform:1..129", "geometric:70"):
        scenario = Scenario(
            bundle=Bundle(attention_workers=3, batch_size=32),
            latency=LatencyModel.linear(attention=(0.01, 5.0), ffn=(0.3, 1.0)),
            lengths=IndependentLengths(prompt="7", decode=decode),
        )
        one = engine.Engine(scenario)
        one.run(stop_step=5000)
        used = int(one.state.whole("chunks_used")[0])
        assert 0 < used <= one.state.whole("next_chunk").size
        assert used * ix.CHUNK <= 2 * 192 + 2 * 20 * ix.CHUNK
