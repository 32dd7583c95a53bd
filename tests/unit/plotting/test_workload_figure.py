"""Figure data of a workload: mass is kept, windows are those of the report."""

import numpy as np
import pytest

from afdplan.errors import InvalidInputError
from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
from afdplan.model.trace import Trace
from afdplan.plotting import workload_figures as figures
from afdplan.plotting.picture import check_picture_name, draw_figures, picture_bytes
from afdplan.plotting.workload_figures import (
    drift_figure,
    drift_times,
    joint_figure,
    load_figure,
    split_figure,
    workload_figures,
)
from afdplan.workload.description import describe_law, describe_workload


def example(size=900, **more):
    lengths = np.random.default_rng(4).integers(1, 2000, size=(2, size))
    return Trace(prompt_tokens=lengths[0] - 1, decode_tokens=lengths[1], **more)


def layers(figure):
    (chart,) = figure.charts.values()
    return chart.layers


def drawn(trace):
    report = describe_workload(trace)
    return draw_figures(workload_figures(report, EmpiricalLengths(trace)), "workload", columns=2)


@pytest.mark.parametrize("bins", [1, 7, 120, 10_000])
def test_the_load_histogram_keeps_all_probability(bins, monkeypatch):
    monkeypatch.setattr(figures, "LOAD_BINS", bins)
    law = EmpiricalLengths(example())
    bars = layers(load_figure(law, 1.0))[0].columns
    assert 99.5 <= sum(bars["y2"]) <= 100 + 1e-9
    assert len(bars["x1"]) <= bins
    assert bars["x1"][0] == law.slot_load().lowest
    assert (bars["x1"][1:] == bars["x2"][:-1]).all()
    known = law.token_load().mean
    middle = (bars["x1"] + bars["x2"] - 1) / 2
    beyond = 1 - sum(bars["y2"]) / 100
    if bins >= 120:
        assert (middle * bars["y2"]).sum() / 100 + beyond * bars["x2"][-1] <= known * 1.001


def test_every_request_is_in_the_joint_histogram():
    cells = layers(joint_figure(EmpiricalLengths(example()), 0.0))[0]
    told = [int(word.rsplit(":", 1)[1].split()[0]) for word in cells.words]
    assert sum(told) == 900
    assert (np.asarray(cells.columns["x1"]) < cells.columns["x2"]).all()
    alike = Trace(prompt_tokens=[0, 0], decode_tokens=[1, 1])
    (cells,) = layers(joint_figure(EmpiricalLengths(alike), 0.0))
    assert cells.words[0].endswith("2 requests")


def test_drift_windows_are_told_in_a_fitting_unit():
    times = np.linspace(0, 7200, 900) ** 1.01
    report = describe_workload(example(arrival_times=times))
    _, end, unit = drift_times(report.drift)
    assert unit == "h"
    assert end[-1] == pytest.approx(times[-1] / 3600)
    dots = layers(drift_figure(report.drift, report.token_load))[-1].columns
    assert dots["y"] == [w.token_load.value for w in report.drift.windows]
    assert drift_times(describe_workload(example()).drift)[2] == "requests"


def test_the_same_report_gives_the_same_bytes():
    trace = example()
    first, second = (picture_bytes(drawn(trace), "svg") for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "trace", [example(size=3), Trace(prompt_tokens=[0, 0], decode_tokens=[1, 1])]
)
def test_tiny_traces_can_be_drawn(trace):
    assert picture_bytes(drawn(trace), "png").startswith(b"\x89PNG")


def test_a_law_can_be_drawn():
    law = IndependentLengths(prompt="100", decode="geometric:50")
    picture = draw_figures(workload_figures(describe_law(law), law), "law")
    assert picture_bytes(picture, "png").startswith(b"\x89PNG")


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
