"""The step-time figure keeps all steps, and a constant has one value."""

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.plotting.step_times import step_time_bars, step_time_figure
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Scenario

LAW = IndependentLengths(prompt="geometric:20", decode="geometric:40")


def result(slope):
    return simulate(
        Scenario(
            bundle=Bundle(attention_workers=3, batch_size=8),
            latency=LatencyModel.linear(attention=(slope, 50.0), ffn=(0.083, 100.0)),
            lengths=LAW,
            requests_per_worker=400,
            replications=2,
        )
    )


@pytest.fixture(scope="module")
def scattered():
    return result(0.2)


def test_all_but_the_ends_are_in_a_bar(scattered):
    bars = step_time_bars(scattered.step_time.histogram)
    assert 0.998 <= bars.shares.sum() <= 1 + 1e-12
    assert bars.shares.size <= 60
    assert (np.diff(bars.edges) > 0).all()
    middle = (bars.edges[1:] + bars.edges[:-1]) / 2
    assert (middle * bars.shares).sum() == pytest.approx(scattered.step_time.mean.value, rel=0.01)


def test_half_of_the_steps_lie_below_the_median(scattered):
    bars = step_time_bars(scattered.step_time.histogram)
    below = bars.shares[bars.edges[1:] <= scattered.step_time.p50.value].sum()
    assert below == pytest.approx(0.5, abs=1.5 * bars.shares.max())


def test_the_figure_marks_mean_and_percentiles(scattered):
    (chart,) = step_time_figure([scattered], "abstract").charts.values()
    marks = {layer.name.split()[0]: layer.columns["x"] for layer in chart.layers[1:]}
    assert marks == {name: [value] for name, value in scattered.step_time.values().items()}


def test_percentiles_of_a_constant_are_its_mean():
    """The middle of the histogram's bin lay below: a mean of 880 above a p99 of 879.8."""
    step = result(0.0).step_time
    assert step_time_bars(step.histogram).shares.size == 1
    values = step.values()
    assert values["p50"] == values["p95"] == values["p99"] == values["mean"]
    assert values["mean"] == pytest.approx(2 * 101.992, rel=1e-4)
