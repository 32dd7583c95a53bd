"""Does the kernel of plain bundles play, bit for bit, what the one with all extras plays?"""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.simulation import engine
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
    assert engine.is_plain(one.constants)
    monkeypatch.setattr(engine, "is_plain", lambda constants: False)
    other = played(scenario, 64)
    for state in (one, other):  # what one of them does without, and where it keeps notes
        for part in ("held", "growing", "output", "chosen"):
            state.whole(part)[:] = 0
        state.real("chosen_times")[:] = 0
        state.floats[[ix.LAST_END, ix.LAST_ARRIVAL]] = 0
    totals = one.integers.size
    moved = (ix.HEAD, ix.AVAILABLE, ix.ARRIVED, ix.EXHAUSTED)
    counted = {ix.AT_ATTENTION, ix.AT_SEND, ix.AT_FFN, ix.AT_RECEIVE}
    counted |= {ix.AT_EXPERTS, *moved}  # positions in blocks
    same = np.ones(totals, bool)
    same[list(counted)] = False
    assert np.array_equal(one.integers[same], other.integers[same])
    assert one.floats.tobytes() == other.floats.tobytes()
    assert one.integers[ix.COMPLETED] > 0
