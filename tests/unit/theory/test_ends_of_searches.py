"""Where searches of the theory begin and end, and what bounds them from below: by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.coupling import Coupling
from afdplan.model.curve import TabulatedCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers
from afdplan.theory.cycle import CycleModel
from afdplan.theory.mean_field import MeanField
from afdplan.theory.problem import RatioProblem


@pytest.mark.parametrize(
    ("times", "ffn", "way", "busy"),
    [
        # The FFN: 16 times 18. Ages of 12 and 20 weigh more than a third of 16 levels.
        (((4.0, 12.0, 13.0), (11.0, 20.0, 21.0)), 18.0, 1.0, 16 * 18.0),
        # Attention: four times two layers of 38 / 3 and two of 64 / 3.
        (((10.0, 10.0, 18.0), (19.0, 19.0, 26.0)), 3.0, 10.5, 4 * 2 * (38 + 64) / 3),
    ],
)
def test_no_resource_does_its_mean_work_any_faster(times, ffn, way, busy):
    """Ages 0, 1, 2 in turn, two layers of either kind, four microbatches that hide each other."""
    latency = LatencyModel.linear(
        attention=(0.0, 1.0), ffn=(0.0, ffn), transfer=(0.0, way), layers=4, step_overhead=7.0
    )
    kinds = tuple(
        AttentionLayers(curve=TabulatedCurve(loads=[4.0, 5.0, 6.0], times=list(each)), layers=2)
        for each in times
    )
    problem = RatioProblem(
        law=IndependentLengths(prompt="fixed:4", decode="fixed:3"),
        latency=replace(latency, attention=kinds),
        batch_size=1,
        microbatches=4,
        phase="aligned",
    )
    model = CycleModel(problem, problem.slot_loads())
    step = model.evaluate(np.array([2.0]))
    assert step.mean == pytest.approx([busy + 7.0], rel=1e-12)
    assert step.cycle == pytest.approx([busy / 16], rel=1e-12)


def field_of(latency, coupling):
    """Return the mean field of 64 slots of 300 tokens, two microbatches of them."""
    return MeanField(
        latency=replace(latency, coupling=coupling, step_overhead=25.0),
        mean_token_loads=(300.0,),
        batch_size=64,
        microbatches=2,
        overlap="pipelined",
    )


def stepped(lowest, highest, weight):
    """Return a bundle whose transfers occupy the FFN once more behind every whole ratio."""
    latency = LatencyModel.linear(
        attention=(0.01, 40.0), ffn=(0.05, 60.0), transfer=(0.02, 4.0), layers=3
    )
    coupling = Coupling(send_ffn=0.4, one_by_one=True, fan_in="whole", dense_share=0.3)
    field = field_of(latency, coupling)
    return field, field.optimal_ratio(ffn_weight=weight, lowest=lowest, highest=highest)


@pytest.mark.parametrize("weight", [0.2, 1.0, 30.0])
@pytest.mark.parametrize(
    ("lowest", "highest"), [(0.3, 40.0), (0.3, 2.6), (1.4, 1.9), (2.5, 6.5), (7.0, 7.0)]
)
def test_of_512_ratios_around_the_best_whole_one(lowest, highest, weight):
    field, found = stepped(lowest, highest, weight)

    def best(ratios):
        return max(ratios, key=lambda ratio: field.objective(float(ratio), weight))

    whole = [float(r) for r in range(1, 41) if lowest <= r <= highest]
    top = best([lowest, *whole, highest])
    around = np.linspace(max(top - 1, lowest), min(top + 1, highest), 512)
    assert found == best(sorted({*around.tolist(), top}))


@pytest.mark.parametrize(("intercept", "weight"), [(60.0, 0.5), (200.0, 3.0), (700.0, 1.0)])
def test_between_two_jumps_the_top_is_looked_for_once(intercept, weight):
    """A smooth top, ``sqrt(w p / q)`` about: the best of 512 around the best whole ratio."""
    latency = LatencyModel.linear(
        attention=(1e-4, 5.0), ffn=(0.05, intercept), transfer=(0.0, 0.5), layers=3
    )
    coupling = Coupling(send_ffn=0.02, one_by_one=True, fan_in="whole")
    field = field_of(latency, coupling)
    found = field.optimal_ratio(ffn_weight=weight, lowest=0.3, highest=60.0)

    def value(ratio):
        return field.objective(float(ratio), weight)

    top = max(range(1, 61), key=value)
    around = np.linspace(top - 1, top + 1, 512)
    assert found == pytest.approx(max(around, key=value), rel=1e-12)
    assert value(found) > value(top)
