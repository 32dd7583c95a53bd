"""Drawn models have the stored means and covariances, and stay in their domain."""

from dataclasses import replace

import numpy as np
import pytest

from afdplan.errors import LatencyModelError
from afdplan.model.curve import TabulatedCurve
from afdplan.model.latency import LatencyModel, coefficients_of
from afdplan.model.sampling import sample_latency
from afdplan.model.stages import AttentionLayers, Transfer
from afdplan.model.uncertainty import Uncertainty

LINES = LatencyModel.linear(attention=(1.0, 20.0), ffn=(3.0, 40.0), transfer=(5.0, 60.0))


def test_with_coefficients_moves_only_what_is_named():
    changed = LINES.with_coefficients({"transfer.slope": 7.0, "attention.time_per_request": 0.5})
    assert changed.send.curve.slope == changed.receive.curve.slope == 7.0
    assert changed.attention[0].time_per_request == 0.5
    assert changed.ffn == LINES.ffn
    assert "transfer.slope" not in coefficients_of(LINES.with_coefficients({"send.slope": 1.0}))
    with pytest.raises(LatencyModelError, match=r"did you mean 'ffn.slope'"):
        LINES.with_coefficients({"ffn.slopes": 1.0})
    with pytest.raises(LatencyModelError, match="slope must be a finite number >= 0"):
        LINES.with_coefficients({"ffn.slope": -1.0})


def test_several_kinds_are_numbered():
    kinds = (LINES.attention[0], AttentionLayers(curve=TabulatedCurve(loads=[1], times=[2.0])))
    model = replace(LINES, attention=kinds)
    assert model.with_coefficients({"attention.2.times.1": 9.0}).attention[1].curve(5.0) == 9.0
    assert coefficients_of(model)["attention.1.slope"] == 1.0


def test_draws_have_the_stored_covariance():
    covariance = np.array([[0.01, -0.05], [-0.05, 1.0]])
    names = ("ffn.slope", "ffn.intercept")
    model = replace(LINES, uncertainty=Uncertainty(coefficients=names, covariance=covariance))
    draws = sample_latency(model, np.random.default_rng(3), 4000)
    points = np.array([[coefficients_of(d)[n] for n in names] for d in draws])
    assert np.allclose(points.mean(axis=0), [3.0, 40.0], atol=[0.01, 0.1])
    assert np.allclose(np.cov(points.T), covariance, rtol=0.15)


def test_draws_out_of_domain_are_drawn_again_or_refused():
    def with_error(value):
        known = Uncertainty(coefficients=("ffn.slope",), covariance=[[value**2]])
        return replace(LINES, uncertainty=known)

    draws = sample_latency(with_error(3.0), np.random.default_rng(4), 300)
    assert min(d.ffn.slope for d in draws) >= 0
    hopeless = replace(
        LINES,
        uncertainty=Uncertainty(
            coefficients=tuple(coefficients_of(LINES)),
            covariance=np.diag(np.full(len(coefficients_of(LINES)), 1e12)),
        ),
    )
    with pytest.raises(LatencyModelError, match="calibrate with more data"):
        sample_latency(hopeless, np.random.default_rng(5), 50)


def test_tables_are_drawn_monotone():
    table = TabulatedCurve(loads=[1, 2, 3], times=[5.0, 5.0, 9.0])
    model = replace(
        LINES,
        ffn=table,
        uncertainty=Uncertainty(
            coefficients=("ffn.times.1", "ffn.times.2", "ffn.times.3"), covariance=np.eye(3)
        ),
    )
    draws = np.array([d.ffn.times for d in sample_latency(model, np.random.default_rng(6), 500)])
    assert (np.diff(draws, axis=1) >= 0).all()
    assert np.allclose(draws[:, 2].std(), 1.0, rtol=0.2)


def test_scaling_and_equality():
    known = Uncertainty(coefficients=("send.slope",), covariance=[[4.0]])
    model = replace(LINES, uncertainty=known)
    scaled = model.scaled(10.0)
    assert scaled.uncertainty.standard_errors == {"send.slope": 20.0}
    assert model == replace(model) != scaled
    assert hash(known) == hash(Uncertainty(coefficients=("send.slope",), covariance=[[4.0]]))
    assert sample_latency(LINES, np.random.default_rng(0), 2) == [LINES, LINES]
    assert isinstance(LINES.send, Transfer)


@pytest.mark.parametrize(
    ("names", "matrix", "message"),
    [
        ((), np.zeros((0, 0)), "one or more"),
        (("a", "a"), np.eye(2), "'?a'? twice"),
        (("a", "b"), [[1.0, 2.0], [2.0, 1.0]], "semidefinite"),
        (("a", "b"), [[1.0, 0.5], [0.1, 1.0]], "symmetric"),
        (("a",), [[np.nan]], "finite"),
        (("a",), "x", "square matrix"),
    ],
)
def test_no_covariance(names, matrix, message):
    with pytest.raises(LatencyModelError, match=message):
        Uncertainty(coefficients=names, covariance=matrix)


def test_stored_draws_are_what_is_drawn_and_survive_a_file(tmp_path):
    from afdplan.files.latency_file import load_latency, save_latency

    values = [[2.9, 41.0], [3.1, 39.0], [3.3, 38.0]]
    known = Uncertainty(coefficients=("ffn.slope", "ffn.intercept"), draws=values)
    assert known.covariance == pytest.approx(np.cov(np.array(values).T))
    model = replace(LINES, uncertainty=known)
    drawn = sample_latency(model, np.random.default_rng(1), 3)
    assert [[one.ffn.slope, one.ffn.intercept] for one in drawn] == values
    many = sample_latency(model, np.random.default_rng(1), 50)
    assert {one.ffn.slope for one in many} == {2.9, 3.1, 3.3}
    for name in ("model.toml", "model.json"):
        save_latency(model, tmp_path / name)
        assert load_latency(tmp_path / name) == model
    assert model.scaled(2.0).uncertainty.draws[0].tolist() == [5.8, 82.0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "a covariance or draws, one of the two"),
        ({"covariance": [[1.0]], "draws": [[1.0], [2.0]]}, "a covariance or draws"),
        ({"draws": [[1.0]]}, "2 or more rows of 1 numbers"),
        ({"draws": [[1.0, 2.0], [1.0, 2.0]]}, "rows of 1 numbers"),
        ({"draws": [["a"], ["b"]]}, "rows of numbers"),
        ({"draws": [[1.0], [float("nan")]]}, "draws must be finite"),
    ],
)
def test_no_draws(given, said):
    with pytest.raises(LatencyModelError, match=said):
        Uncertainty(coefficients=("ffn.slope",), **given)
