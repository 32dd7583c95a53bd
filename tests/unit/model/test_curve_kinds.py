"""A curve kind is one class: this one is defined here and goes through the whole house."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from afdplan.errors import LatencyModelError
from afdplan.files.latency_document import latency_document
from afdplan.files.latency_file import load_latency, save_latency
from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.checks import check_number
from afdplan.model.curve import (
    CURVES,
    Curve,
    CurveSegments,
    LinearCurve,
    RooflineCurve,
    TabulatedCurve,
)
from afdplan.model.latency import LatencyModel, coefficients_of
from afdplan.model.sampling import sample_latency
from afdplan.model.uncertainty import Uncertainty
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Scenario
from afdplan.theory.cycle import CycleModel
from afdplan.theory.problem import RatioProblem


@pytest.fixture(scope="module")
def step_curve() -> Iterator[type[Curve]]:
    """A line that jumps by `jump` at load `at`: a switch to another kernel."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class SteppedCurve(Curve):
        kind: ClassVar[str] = "stepped"
        slope: float
        intercept: float
        jump: float
        at: float

        def __post_init__(self):
            for name in ("slope", "intercept", "jump", "at"):
                check_number(name, getattr(self, name), error=LatencyModelError)

        def segments(self):
            low = self.intercept + self.slope * self.at
            return CurveSegments(
                np.array([0.0, self.at]),
                np.array([self.intercept, low + self.jump]),
                np.full(2, self.slope),
            )

        def gradient(self, loads):
            ones = np.ones_like(loads)
            return {"slope": loads, "intercept": ones, "jump": np.where(loads >= self.at, 1.0, 0.0)}

        def coefficients(self):
            return {name: getattr(self, name) for name in ("slope", "intercept", "jump")}

    yield SteppedCurve
    del CURVES["stepped"]


@pytest.fixture
def model(step_curve):
    plain = LatencyModel.linear(
        attention=(0.00165, 50.0), ffn=(0.083, 100.0), transfer=(0.022, 20.0), name="stepped"
    )
    return replace(
        plain,
        ffn=step_curve(slope=0.083, intercept=100.0, jump=30.0, at=900.0),
        uncertainty=Uncertainty(
            coefficients=("ffn.jump", "ffn.slope"), covariance=[[4.0, 0.0], [0.0, 1e-6]]
        ),
    )


@pytest.mark.parametrize("ending", ["toml", "json"])
def test_a_new_kind_goes_through_a_file(model, tmp_path, ending):
    path = tmp_path / f"model.{ending}"
    save_latency(model, path)
    assert load_latency(path) == model
    assert latency_document(model)["ffn"] == {
        "kind": "stepped",
        "slope": 0.083,
        "intercept": 100.0,
        "jump": 30.0,
        "at": 900.0,
    }
    broken = path.read_text().replace('"jump"', '"jmup"').replace("jump = 30", "jmup = 30")
    path.write_text(broken)
    with pytest.raises(LatencyModelError, match=r"unknown key 'jmup' in \[ffn\].*'jump'"):
        load_latency(path)


def test_a_new_kind_is_sampled(model):
    draws = sample_latency(model, np.random.default_rng(1), 2000)
    jumps = np.array([draw.ffn.jump for draw in draws])
    assert np.mean(jumps) == pytest.approx(30.0, abs=0.2)
    assert np.std(jumps) == pytest.approx(2.0, rel=0.1)
    known = {kind: curve for kind, curve in CURVES.items() if kind != "stepped"}
    assert known == {"linear": LinearCurve, "roofline": RooflineCurve, "table": TabulatedCurve}


def test_theory_and_simulation_play_a_new_kind(model):
    """Both see the jump: a plain line with the jump as intercept is the same above it."""
    law = IndependentLengths(prompt="fixed:100", decode="geometric:300")
    above = replace(model, ffn=LinearCurve(slope=0.083, intercept=130.0), uncertainty=None)
    below = replace(above, ffn=LinearCurve(slope=0.083, intercept=100.0))
    model = replace(model, uncertainty=None)

    def computed(latency, workers):
        problem = RatioProblem(law=law, latency=latency, batch_size=256)
        cycle = CycleModel(problem, problem.slot_loads())
        return cycle.evaluate(np.array([float(workers)])).mean[0]

    def played(latency, workers):
        bundle = Bundle(attention_workers=workers, ffn_workers=1, batch_size=256, microbatches=2)
        scenario = Scenario(bundle=bundle, latency=latency, lengths=law, requests_per_worker=2000)
        return simulate(scenario).step_time.mean.value

    for step_time in (computed, played):
        for workers, plain in ((2, below), (8, above)):  # 512 and 2048 tokens per FFN worker
            found = step_time(model, workers)
            assert found == pytest.approx(step_time(plain, workers), rel=1e-9)
        assert step_time(above, 8) > step_time(below, 8)


def test_a_kind_must_be_declared_and_be_its_own():
    with pytest.raises(TypeError, match="must declare a kind of its own"):

        class Nameless(LinearCurve):
            pass

    with pytest.raises(TypeError, match="kind of its own, got 'linear'"):

        class Double(Curve):
            kind = "linear"

    known = {kind: curve for kind, curve in CURVES.items() if kind != "stepped"}
    assert known == {"linear": LinearCurve, "roofline": RooflineCurve, "table": TabulatedCurve}


def test_what_is_no_curve_is_refused():
    class Alike:
        slope = intercept = 1.0

        def __call__(self, load):
            return load

    plain = LatencyModel.linear(attention=(1.0, 1.0), ffn=(1.0, 1.0))
    with pytest.raises(LatencyModelError, match="LinearCurve, RooflineCurve, TabulatedCurve"):
        replace(plain, ffn=Alike())


@pytest.mark.parametrize(
    "curve",
    [
        LinearCurve(slope=0.5, intercept=10.0),
        RooflineCurve(floor=30.0, slope=0.5, intercept=-5.0),
        TabulatedCurve(loads=[10, 20, 90], times=[10.0, 30.0, 31.0]),
        TabulatedCurve(loads=[10], times=[10.0]),
    ],
)
def test_gradients_are_differences(curve):
    loads = np.array([0.0, 5.0, 10.0, 13.0, 20.0, 50.0, 69.0, 71.0, 90.0, 200.0])
    gradient = curve.gradient(loads)
    assert list(gradient) == list(curve.coefficients())
    for name, value in curve.coefficients().items():
        moved = curve.with_coefficients({name: value + 1e-4})
        assert gradient[name] == pytest.approx((moved(loads) - curve(loads)) / 1e-4, abs=1e-6)


def test_the_general_time_of_a_curve_is_that_of_each_kind():
    loads = np.linspace(0.0, 200.0, 401)
    for curve in (
        LinearCurve(slope=0.5, intercept=10.0),
        RooflineCurve(floor=30.0, slope=0.5, intercept=-5.0),
        RooflineCurve(floor=30.0, slope=0.5, intercept=35.0),
    ):
        assert Curve._at(curve, loads) == pytest.approx(curve(loads), rel=1e-12)
        assert curve(float(loads[7])) == curve(loads)[7]


def test_coefficients_keep_their_names():
    plain = LatencyModel.linear(attention=(1.0, 2.0), ffn=(3.0, 4.0), transfer=(5.0, 6.0))
    assert list(coefficients_of(plain)) == [
        "attention.slope",
        "attention.intercept",
        "attention.time_per_request",
        "attention.time_per_context",
        "ffn.slope",
        "ffn.intercept",
        "send.slope",
        "send.intercept",
        "receive.slope",
        "receive.intercept",
        "transfer.slope",
        "transfer.intercept",
        "step_overhead",
    ]
