"""How a ratio depends on its inputs: 20 % less and more of each, by sums of fixed requests."""

from __future__ import annotations

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.planning.ratio_sensitivity import curve_bands, played_band, ratio_sensitivity
from afdplan.theory.problem import RatioProblem

LAW = IndependentLengths(prompt="fixed:2000", decode="fixed:1")
LATENCY = LatencyModel.linear(
    attention=(1e-6, 1e-3), ffn=(1e-3, 2e-3), transfer=(2e-6, 5e-4), layers=10, time_unit="s"
)


def objective(a, load=1.0, attention=1.0, ffn=1.0, transfer=1.0):
    step = 10 * (
        attention * (1e-3 + 1e-6 * 8 * 2000 * load)
        + ffn * (2e-3 + 1e-3 * 8 * a)
        + 2 * transfer * (5e-4 + 2e-6 * 8)
    )
    return a * 8 / step / (a + 1)


@pytest.mark.parametrize("recommended", [1, 2, 7])
def test_each_input_by_hand(recommended):
    problem = RatioProblem(
        law=LAW, latency=LATENCY, batch_size=8, microbatches=1, max_attention_workers=12
    )
    found = ratio_sensitivity(problem, recommended)
    known = {
        "token load of a slot": "load",
        "attention time": "attention",
        "FFN time": "ffn",
        "transfer time, both ways": "transfer",
    }
    told = {one.input: one for one in found}
    assert set(told) <= set(known), set(told)
    assert {"token load of a slot", "FFN time"} <= told.keys()
    every = np.arange(1, 13)
    for name, one in told.items():
        for at, factor in enumerate((0.8, 1.2)):
            changed = {known[name]: factor}
            here, there = objective(recommended), objective(recommended, **changed)
            assert one.objective_change[at] == pytest.approx(there / here - 1), name
            curve = objective(every, **changed)
            assert one.best[at] == every[np.argmax(curve)], name
            assert one.regret[at] == pytest.approx(1 - there / curve.max(), abs=1e-12)
    moved = [max(map(abs, one.objective_change)) for one in found]
    assert moved == sorted(moved, reverse=True)


def test_bands_of_a_curve_are_its_ends():
    problem = RatioProblem(law=LAW, latency=LATENCY, batch_size=8, microbatches=1)
    load = Estimate(value=2000.0, low=1500.0, high=3000.0, confidence=0.95, method="x")
    (band,) = curve_bands(problem, (1, 4, 9), load)
    assert band.cause == "token load's interval"
    assert band.attention_workers == (1, 4, 9)
    assert band.low == pytest.approx([objective(a, load=1.5) for a in (1, 4, 9)])
    assert band.high == pytest.approx([objective(a, load=0.75) for a in (1, 4, 9)])
    assert curve_bands(problem, (1, 4), Estimate.exact(2000.0)) == ()
    (played,) = (played_band({4: load, 2: load}),)
    assert (played.attention_workers, played.low, played.high) == (
        (2, 4), (1500.0, 1500.0), (3000.0, 3000.0),
    )  # fmt: skip
