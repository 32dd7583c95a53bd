"""Which form is chosen, what is said of a fit, and what a model takes from fits and priors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from afdplan.calibration import stage as module
from afdplan.calibration.assemble import assemble
from afdplan.calibration.expert_load import _dealt, fit_expert_load, with_expert_load
from afdplan.calibration.forms import FormFit
from afdplan.calibration.occupancy import fit_occupancy
from afdplan.calibration.stage import fit_stage
from afdplan.calibration.stage_interval import curve_half_widths
from afdplan.errors import InsufficientDataError, InvalidInputError, LatencyModelError
from afdplan.files.measurements.expert_load import ExpertRecord
from afdplan.model.curve import LinearCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.measurement import StageSamples
from afdplan.model.staged_steps import StagedSteps
from afdplan.model.variation import ExpertLoad


def samples(loads, times, requests=None, stage="ffn"):
    given = None if requests is None else np.asarray(requests, dtype=float)
    return StageSamples(
        stage=stage, loads=np.asarray(loads, dtype=float), times=np.asarray(times, dtype=float),
        requests=given,
    )  # fmt: skip


def test_the_simplest_form_within_a_standard_error():
    best = np.array([0.1, 0.2, 0.3, 0.4])
    # Twice the standard error of the excess worse in the mean; half of it.
    excess = np.array([0.0, 0.1, 0.2, 0.3])
    error = excess.std(ddof=1) / 2
    far = excess - excess.mean() + 2 * error
    near = excess - excess.mean() + 0.5 * error
    of = module._simplest
    assert of({"linear": best + far, "table": best}) == "table"
    assert of({"linear": best + near, "table": best}) == "linear"
    assert of({"linear": best + 9e-4, "table": best}) == "linear"  # a tenth of a per cent
    assert of({"linear": best + 2e-3, "table": best}) == "table"
    assert of({"linear": best[:1] + 5e-4, "table": best[:1]}) == "linear"
    assert of({"linear": best, "roofline": best - 0.09, "table": best - 0.05}) == "roofline"


def test_folds_are_whole_loads_in_turn():
    loads = np.array([10.0, 20, 10, 30, 40, 50, 60])
    assert module._folds(loads).tolist() == [0, 1, 0, 2, 3, 4, 0]
    assert module._folds(np.array([5.0, 7.0])).tolist() == [0, 1]


def test_errors_of_validation_are_of_loads_left_out():
    """A line is exact, whatever is left out; a wild time counts as one at most."""
    loads = np.arange(1.0, 11.0)
    times = 5 + 2 * loads
    times[9] = 1.0
    errors = module._validate("linear", samples(loads, times), module._folds(loads))
    assert errors[9] == 1.0
    assert errors[:4] == pytest.approx(np.zeros(4), abs=0.05)
    requests = np.array([3.0, 1, 4, 1, 5, 9, 2, 6, 5, 3])
    many = samples(loads, 5 + 2 * loads + requests, requests, stage="attention")
    assert module._validate("per-request", many, module._folds(loads)).max() < 1e-6
    few = samples([1, 1, 2, 2], [1, 1, 2, 2])
    assert module._validate("linear", few, module._folds(few.loads)).tolist() == [1.0] * 4


def test_which_forms_are_possible():
    def forms(count, stage="ffn", requests=None):
        loads = np.arange(1.0, count + 1)
        return module._possible_forms(samples(loads, loads, requests, stage))

    assert forms(4) == ["linear"]
    assert forms(5) == ["linear", "roofline", "table"]
    mixed = [3, 1, 4, 1, 5]
    assert forms(5, "attention", mixed) == ["linear", "per-request", "roofline", "table"]
    assert forms(4, "attention", mixed[:4]) == ["linear"]
    assert forms(5, "ffn", mixed) == ["linear", "roofline", "table"]
    assert forms(5, "attention", [2, 2, 2, 2, 2]) == ["linear", "roofline", "table"]


def test_what_stands_against_a_form():
    of = module._obstacle
    assert "2 measurements cannot give the 3" in of("roofline", samples([1, 2], [1, 2]))
    assert of("roofline", samples([1, 2, 3], [1, 2, 3])) == ""
    assert "3 different loads, got 2" in of("roofline", samples([1, 2, 2], [1, 2, 2]))
    assert of("linear", samples([1, 2], [1, 2])) == ""
    assert of("table", samples([1], [1])) == ""
    assert "all 2 loads are 1" in of("linear", samples([1, 1], [1, 2]))


def test_half_of_many_rows_choose_a_form(monkeypatch):
    monkeypatch.setattr(module, "_CHOICE_ROWS", 5)
    many = samples([9, 1, 8, 2, 7, 3, 6, 4, 5], [1] * 9)
    assert sorted(module._thinned(many).loads) == [1, 3, 5, 7, 9]
    few = samples([3, 1, 2, 5, 4], [1] * 5)
    assert module._thinned(few) is few


def judged(loads, times, fitted, **changes):
    """Return the diagnostics of a stated line."""
    found = FormFit(
        curve=LinearCurve(slope=1.0, intercept=0.0), time_per_request=0.0,
        names=("slope", "intercept"), values=np.array([1.0, 0.0]),
        covariance=np.diag([0.01, 0.04]), fitted=np.asarray(fitted, dtype=float), scale=0.01,
        shifts=np.zeros((len(loads), 2)), leverage=np.full(len(loads), 0.2), notes=(),
        freedom=len(loads) - 2,
    )._replace(**changes)  # fmt: skip
    return module._judge(samples(loads, times), "linear", found, {}, [])


def test_diagnostics_by_hand():
    loads = np.arange(1.0, 10.0)
    times = loads * np.array([1, 1.02, 0.99, 1, 1, 0.96, 1, 1.01, 1])
    fit = judged(loads, times, loads)
    assert fit.median_error == pytest.approx(0.0, abs=1e-12)
    assert (fit.largest_error, fit.largest_error_row, fit.largest_error_load) == (
        pytest.approx(-0.04), 6, 6.0
    )  # fmt: skip
    squares, about = ((times - loads) ** 2).sum(), ((times - times.mean()) ** 2).sum()
    assert fit.r_squared == pytest.approx(1 - squares / about)
    assert judged(loads, np.ones(9), loads).r_squared == 0.0
    # Student with seven degrees of freedom.
    slope = fit.coefficients["slope"]
    assert slope.high - slope.value == pytest.approx(2.364624 * 0.1, rel=1e-5)
    assert slope.value - slope.low == pytest.approx(2.364624 * 0.1, rel=1e-5)
    assert slope.method == "Huber fit of linear, Student with 7 degrees of freedom"
    assert fit.covariance == pytest.approx(np.diag([0.01, 0.04]) * (2.364624 / 1.959964) ** 2)
    assert fit.influence is None
    assert fit.warnings == ()


def test_warnings_of_few_measurements_and_of_those_that_decide():
    few = np.arange(1.0, 8.0)
    assert judged(few, few, few).warnings == ("only 7 measurements: intervals are rough",)
    eight = np.arange(1.0, 9.0)
    assert judged(eight, eight, eight).warnings == ()
    two = judged([1.0, 2.0], [1.0, 2.0], [1.0, 2.0])
    assert two.warnings[0].startswith("2 measurements for 2 coefficients leave nothing")
    assert two.covariance == pytest.approx(np.diag([0.01, 0.04]))
    loads = np.arange(1.0, 11.0)
    shifts = np.zeros((10, 2))
    shifts[3, 1] = -2.5
    told = judged(loads, loads, loads, shifts=shifts)
    assert told.influence.standard_errors == 2.5
    assert (told.influence.row, told.influence.load) == (4, 4.0)
    assert told.warnings == (
        "intercept rests on one measurement: without row 4 (load 4) it moves by 2.5 standard "
        "errors",
    )
    assert judged(loads, loads, loads, shifts=shifts * 0.8).warnings == ()
    leverage = np.full(10, 0.2)
    leverage[6] = 0.86
    assert (
        "row 7 (load 7) nearly decides"
        in judged(loads, loads, loads, leverage=leverage).warnings[0]
    )
    leverage[6] = 0.85
    assert judged(loads, loads, loads, leverage=leverage).warnings == ()
    unsure = judged(loads, loads, loads, covariance=np.diag([0.25, 0.04]))
    assert unsure.warnings == ("slope is not told from zero by these data",)


def test_suspicions():
    def said(factors, loads=None, scale=0.01):
        warnings = []
        factors = np.asarray(factors, dtype=float)
        loads = np.arange(1.0, factors.size + 1) if loads is None else loads
        module._suspect(samples(loads, np.ones(factors.size)), factors - 1, scale, warnings)
        return warnings

    quiet = [1.0] * 20
    assert said(quiet) == []
    assert said([*quiet, 300.0]) == []
    (line,) = said([*quiet, 301.0])
    assert line == "1 times look like another unit, about 1000 times the fit (row 21)"
    (line,) = said([*quiet * 2, 1 / 301, 1 / 302, 1 / 303, 1 / 304])
    assert line.startswith(
        "4 times look like another unit, about a thousandth of the fit (row 41, "
    )
    assert line.endswith("42, 43)")
    assert said([*quiet, 1.06, 1.06]) == []
    (line,) = said([*quiet, 1.06, 1.06, 1.06])
    assert line.startswith("13 % of the measurements lie far from the curve")
    assert said([*quiet, 1.06, 1.06, 1.06], scale=0.02) == []  # within five deviations
    (line,) = said([1.11] * 4 + [1.0] * 12, scale=1.0)
    assert line.startswith("at small loads the curve errs by 11 % (median)")
    assert said([1.11] * 2 + [1.0] * 14, scale=1.0) == []  # half of the lowest quarter is right
    assert said([1.09] * 4 + [1.0] * 12, scale=1.0) == []


def test_half_widths_follow_the_gradient():
    """At a load of 10: 10 x slope + intercept + requests x time per request."""
    loads = np.array([1.0, 3, 10, 2, 7, 5, 8, 4])
    requests = np.array([3.0, 1, 4, 1, 5, 9, 2, 6])
    noise = np.array([1.01, 0.99, 1.02, 0.98, 1.01, 0.99, 1.0, 1.0])
    fit = fit_stage(
        samples(loads, (3 + 2 * loads + requests) * noise, requests, "attention"), "per-request"
    )
    names = list(fit.coefficients)
    at = np.array([{"slope": 10.0, "intercept": 1.0, "time_per_request": 6.0}[n] for n in names])
    half = 1.959964 * np.sqrt(at @ fit.covariance @ at)
    assert curve_half_widths(fit, np.array([10.0]), 6.0) == pytest.approx([half], rel=1e-6)


def test_experts_are_dealt_to_the_rank_with_least():
    """Two ranks with two experts each: 5, 3, 2, 1 give 5 + 1 and 3 + 2."""
    assert _dealt(np.array([5.0, 1, 3, 2]), 2).tolist() == [6.0, 5.0]
    assert _dealt(np.array([5.0, 1, 1, 1]), 2).tolist() == [6.0, 2.0]


def test_ranks_that_were_compared():
    busiest = np.array([1.2, 1.4])
    record = ExpertRecord(busiest=busiest, ranks=16, rebalanced=np.array([1.1, 1.1]))
    fit = fit_expert_load(record, ExpertLoad(experts=8, experts_per_token=2))
    assert fit.load.imbalance == pytest.approx(1.3)
    assert fit.load.imbalance_cv == pytest.approx(0.1 / 0.3)
    (balance,) = fit.balances
    assert (balance.ranks, balance.as_it_is, balance.placed_anew) == (
        16, pytest.approx(1.3), pytest.approx(1.1)
    )  # fmt: skip


def test_layers_that_were_not_counted():
    counts = np.array([[3.0, 1.0], [1.0, 1.0]])
    fit = fit_expert_load(ExpertRecord(counts=counts))
    base = LatencyModel.linear(attention=(1e-9, 1e-4), ffn=(1e-7, 1e-4), layers=5, time_unit="s")
    model = with_expert_load(base, fit)
    assert model.experts.popularity == ((0.75, 0.25),) * 3 + ((0.5, 0.5),) * 2
    assert any("the 2 layers that" in said and "stand for the 5" in said
               for said in model.assumptions)  # fmt: skip
    two = replace(base, experts=ExpertLoad(experts=2, experts_per_token=1))
    assert not any("nobody said" in said for said in with_expert_load(two, fit).assumptions)
    with pytest.raises(LatencyModelError, match="counts 2 experts, the latency model has 3"):
        fit_expert_load(ExpertRecord(counts=counts), ExpertLoad(experts=3))


def staged(step, send, n):
    one = np.ones(n)
    return StagedSteps(
        attention=2 * one, ffn=np.linspace(5, 8, n), send=send, receive=send, step=step,
        layers=2 * one, microbatches=2 * one,
    )  # fmt: skip


def ratio(steps, share, launch):
    return steps.times(np.full((1, 1), share), np.full((1, 1), launch))[0] / steps.step


def test_occupancy_and_launch_are_found_with_their_errors():
    send = np.array([0.2, 0.5, 0.3, 0.8, 0.4, 0.6])
    clean = staged(np.ones(6), send, 6).times(np.full((1, 1), 0.5), np.full((1, 1), 0.1))[0]
    fit = fit_occupancy(staged(clean, send, 6))
    assert (fit.share, fit.launch) == (pytest.approx(0.5, rel=1e-4), pytest.approx(0.1, rel=1e-4))
    assert (fit.steps, fit.coupling.send_ffn, fit.coupling.launch) == (6, fit.share, fit.launch)
    noise = 1 + np.array([0.01, -0.02, 0.01, 0.02, -0.01, 0.005])
    steps = staged(clean * noise, send, 6)
    free, given = fit_occupancy(steps), fit_occupancy(steps, 0.5)
    for fit, share in ((free, free.share), (given, 0.5)):
        missed = (
            steps.times(np.full((1, 1), share), np.full((1, 1), fit.launch))[0] / steps.step - 1
        )
        assert fit.median_error == pytest.approx(np.median(np.abs(missed)))
        assert fit.worst_error == pytest.approx(np.abs(missed).max())
        columns = [(ratio(steps, share, fit.launch + 1e-6) - missed - 1) / 1e-6]
        if fit is free:
            columns.append((ratio(steps, share + 1e-6, fit.launch) - missed - 1) / 1e-6)
        design = np.stack(columns, axis=1)
        variance = (missed**2).sum() / (6 - design.shape[1])
        errors = np.sqrt(np.diag(variance * np.linalg.inv(design.T @ design)))
        assert fit.launch_error == pytest.approx(errors[0], rel=1e-3)
        if fit is free:
            assert fit.share_error == pytest.approx(errors[1], rel=1e-3)
    assert given.share_error is None
    with pytest.raises(InvalidInputError, match="at most 1"):
        fit_occupancy(steps, 1.01)
    with pytest.raises(InsufficientDataError, match="at least 3 measured steps, got 2"):
        fit_occupancy(staged(clean[:2], send[:2], 2))
    with pytest.raises(InsufficientDataError, match="at least 2 measured steps, got 1"):
        fit_occupancy(staged(clean[:1], send[:1], 1), 0.5)
    with pytest.raises(InsufficientDataError, match="equally long in all; give the share"):
        fit_occupancy(staged(clean, np.full(6, 0.3), 6))


def test_a_line_of_fits_and_what_is_lent():
    loads = np.arange(1.0, 9.0)
    fits = {
        stage: fit_stage(samples(loads, base + loads, [3, 1, 4, 1, 5, 9, 2, 6], stage), "linear")
        for stage, base in (("attention", 10), ("ffn", 20), ("send", 30), ("receive", 40))
    }
    prior = LatencyModel.linear(
        attention=(1.0, 1.0), ffn=(2.0, 2.0), transfer=(3.0, 3.0), time_unit="s", name="lender"
    )
    common = {"name": "x", "time_unit": "s", "source": "y"}
    whole = assemble(
        list(fits.values()), layers=7, step_overhead=3.0, tokens_per_step=2.0, **common
    )
    assert [kind.layers for kind in whole.attention] == [7]
    assert (whole.step_overhead, whole.tokens_per_step) == (3.0, 2.0)
    intercepts = [c.intercept for c in (whole.attention[0].curve, whole.ffn, whole.send.curve,
                                        whole.receive.curve)]  # fmt: skip
    assert intercepts == pytest.approx([10, 20, 30, 40], rel=1e-6)
    assert whole.validity.batch_size == (1.0, 9.0)
    assert whole.validity.attention_tokens == whole.validity.ffn_tokens == (1.0, 8.0)
    assert whole.assumptions == ()
    some = assemble([fits["attention"], fits["send"]], prior=prior, **common)
    assert some.ffn == prior.ffn
    assert some.receive == prior.receive
    assert some.assumptions == (
        "Times of ffn were lent by lender.", "Times of receive were lent by lender."
    )  # fmt: skip
    alone = assemble([fits["attention"], fits["ffn"]], **common)
    assert alone.send.curve.slope == alone.send.curve.intercept == 0.0
    assert alone.assumptions == tuple(
        f"Times of {way} were not measured and are taken as 0." for way in ("send", "receive")
    )
    transfer = replace(fits["send"], stage="transfer")
    with pytest.raises(InsufficientDataError, match="beside send or receive"):
        assemble([*fits.values(), transfer], **common)
