"""Figure data of a workload: mass is kept, windows are those of the report."""

import numpy as np
import pytest

from afdplan.errors import InvalidInputError
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.trace import Trace
from afdplan.plotting.picture import check_picture_name, picture_bytes
from afdplan.plotting.workload import draw_workload, drift_data, joint_data, load_law_data
from afdplan.plotting.workload_figures import split_figure
from afdplan.workload.description import describe_law, describe_workload


def example(size=900, **more):
    lengths = np.random.default_rng(4).integers(1, 2000, size=(2, size))
    return Trace(prompt_tokens=lengths[0] - 1, decode_tokens=lengths[1], **more)


@pytest.mark.parametrize("bins", [1, 7, 120, 10_000])
def test_the_load_histogram_keeps_all_probability(bins):
    law = EmpiricalLengths(example())
    data = load_law_data(law, bins)
    assert data.probabilities.sum() + data.beyond == pytest.approx(1, abs=1e-12)
    assert data.beyond <= 0.005
    assert data.edges.size == data.probabilities.size + 1 <= bins + 1
    assert data.edges[0] == law.slot_load().lowest


def test_every_request_is_in_the_joint_histogram():
    data = joint_data(EmpiricalLengths(example()))
    assert data.counts.sum() == 900
    assert (np.diff(data.prompt_edges) > 0).all()
    alike = Trace(prompt_tokens=[0, 0], decode_tokens=[1, 1])
    assert joint_data(EmpiricalLengths(alike)).counts.sum() == 2


def test_drift_windows_are_told_in_a_fitting_unit():
    times = np.linspace(0, 7200, 900) ** 1.01
    report = describe_workload(example(arrival_times=times))
    data = drift_data(report.drift)
    assert data.unit == "h"
    assert data.end[-1] == pytest.approx(times[-1] / 3600)
    assert data.value.tolist() == [w.token_load.value for w in report.drift.windows]
    assert drift_data(describe_workload(example()).drift).unit == "requests"


def test_the_same_report_gives_the_same_bytes():
    trace = example()
    law, report = EmpiricalLengths(trace), describe_workload(trace)
    first, second = (picture_bytes(draw_workload(report, law), "svg") for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "trace", [example(size=3), Trace(prompt_tokens=[0, 0], decode_tokens=[1, 1])]
)
def test_tiny_traces_can_be_drawn(trace):
    figure = draw_workload(describe_workload(trace), EmpiricalLengths(trace))
    assert picture_bytes(figure, "png").startswith(b"\x89PNG")


def test_a_law_can_be_drawn():
    law = IndependentLengths(prompt="100", decode="geometric:50")
    assert picture_bytes(draw_workload(describe_law(law), law), "png").startswith(b"\x89PNG")


def test_other_pictures_are_refused():
    with pytest.raises(InvalidInputError, match="must end in"):
        check_picture_name("load.pdf")


def test_the_waterfall_names_the_sign_of_every_part():
    prompts, outputs = np.arange(1, 400), np.arange(400, 1, -1)
    report = describe_workload(Trace(prompt_tokens=prompts, decode_tokens=outputs))
    assert report.split.dependence < 0
    (chart,) = split_figure(report.split).charts.values()
    assert chart.y.limits[2] == f"long outputs' prompts {report.split.dependence:+,.0f}"
    assert "+" in chart.y.limits[0]
    assert set(chart.layers[0].columns["y"]) == set(chart.y.limits)
