"""What curve do the measured times of one stage follow, and how far can it be trusted?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.calibration.forms import FORMS, Form, FormFit, fit_form, form_columns
from afdplan.calibration.robust import normal_consistent_covariance
from afdplan.errors import InsufficientDataError
from afdplan.model.checks import check_choice
from afdplan.model.curve import Curve
from afdplan.model.estimate import Estimate
from afdplan.model.measurement import StageSamples

__all__ = ["Influence", "StageFit", "fit_stage"]

_CHOICE_ROWS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Influence:
    """The one measurement whose absence would move a coefficient most.

    Attributes
    ----------
    coefficient
        Name of the coefficient.
    standard_errors
        How far it would move [standard errors].
    row, load
        Where the measurement stands in its file, and its load [tokens].
    """

    coefficient: str
    standard_errors: float
    row: int
    load: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageFit:
    """The fitted curve of one stage and what speaks for and against it.

    Attributes
    ----------
    stage, form
        What was fitted, with which form.
    curve, time_per_request
        The result [time; time/request].
    coefficients
        95 % interval of each coefficient (Student, n - k degrees of freedom).
    covariance
        Covariance of these coefficients, widened so that normal draws give the same intervals.
    samples
        The measurements inside the load window.
    fitted
        Fitted time of each [time], shape (n,).
    noise
        Robust standard deviation of the relative error.
    r_squared
        1 - (sum of squared errors) / (sum of squares about the mean); 0 for constant times.
    median_error
        Median absolute relative error.
    largest_error, largest_error_row, largest_error_load
        The largest relative error (measured / fitted - 1), its row and load [tokens].
    influence
        The most influential measurement; None if the fit is exact.
    scores
        Cross-validated mean absolute relative error of each form that was tried.
    warnings
        One sentence each.
    """

    stage: str
    form: Form
    curve: Curve
    time_per_request: float
    coefficients: dict[str, Estimate]
    covariance: FloatArray
    samples: StageSamples
    fitted: FloatArray
    noise: float
    r_squared: float
    median_error: float
    largest_error: float
    largest_error_row: int
    largest_error_load: float
    influence: Influence | None
    scores: dict[str, float]
    warnings: tuple[str, ...]

    @property
    def residuals(self) -> FloatArray:
        """Relative errors, measured / fitted - 1, shape (n,)."""
        errors: FloatArray = self.samples.times / self.fitted - 1.0
        return errors


def fit_stage(
    samples: StageSamples,
    form: Form | Literal["auto"] = "auto",
    window: tuple[float, float] | None = None,
) -> StageFit:
    """Return the robust fit of one stage, in the form that predicts unseen loads best.

    Parameters
    ----------
    samples
        The measurements.
    form
        ``linear``, ``per-request`` (a line plus a time per request), ``roofline``, ``table``, or
        ``auto``: the simplest form whose cross-validated error is within one standard error of
        the best one's.
    window
        Loads (low, high) to fit [tokens]; None takes all.

    Raises
    ------
    InsufficientDataError
        If the data cannot tell the coefficients of the form apart: too few measurements, one
        single load, or requests that only mirror the load.

    Notes
    -----
    Relative errors and Huber's weights, see `robust_lines`. Cross-validation leaves out whole
    loads, so a table must interpolate. Cost: about 20 fits of some milliseconds each for ``auto``.

    Examples
    --------
    >>> loads = np.array([8.0, 16, 32, 64, 128, 256, 512, 1024])
    >>> fit = fit_stage(StageSamples(stage="ffn", loads=loads, times=100 + 0.5 * loads))
    >>> fit.form, round(fit.curve.slope, 6), round(fit.curve.intercept, 6)
    ('linear', 0.5, 100.0)
    """
    check_choice("form", form, ("auto", *FORMS))
    warnings: list[str] = []
    if window is not None:
        keep = (samples.loads >= window[0]) & (samples.loads <= window[1])
        if not keep.any():
            raise InsufficientDataError(
                f"stage {samples.stage}: the load window {window[0]:g} to {window[1]:g} must hold "
                f"measurements, they lie at {samples.loads.min():g} to {samples.loads.max():g}"
            )
        samples = samples.where(keep)
    scores: dict[str, float] = {}
    if form == "auto":
        choices = _possible_forms(samples)
        some = _thinned(samples)
        folds = _folds(some.loads)
        errors = {choice: _validate(choice, some, folds) for choice in choices}
        scores = {choice: float(error.mean()) for choice, error in errors.items()}
        form = _simplest(errors)
        if samples.stage == "attention" and samples.requests is not None:
            problem = _obstacle("per-request", samples)
            if problem:
                warnings.append(f"no time per request was tried: {problem}")
    problem = _obstacle(form, samples)
    if problem:
        raise InsufficientDataError(f"stage {samples.stage}: {problem}")
    found = fit_form(form, samples.loads, samples.requests, samples.times)
    warnings.extend(found.notes)
    return _judge(samples, form, found, scores, warnings)


def _obstacle(form: Form, samples: StageSamples) -> str:
    """Return why `form` cannot be fitted, or nothing."""
    needed = form_columns(form)
    count, different = samples.count, np.unique(samples.loads).size
    if count < needed:
        return f"{count} measurements cannot give the {needed} coefficients of a {form} fit"
    if form == "table":
        return ""
    if different == 1:
        return (
            f"all {count} loads are {samples.loads[0]:g}, so a slope cannot be told from an "
            "intercept: measure at other loads, or name the form table to keep a constant"
        )
    if form == "roofline" and different < 3:
        return f"a roofline needs 3 different loads, got {different}"
    if form == "per-request":
        if samples.requests is None:
            return "a per-request fit needs a column of requests"
        design = np.column_stack([np.ones(count), samples.loads, samples.requests])
        relative = design / samples.times[:, None]
        relative /= np.linalg.norm(relative, axis=0)
        if np.linalg.svd(relative, compute_uv=False)[-1] < 1e-6:
            return (
                "requests only mirror the load (or never change), so a time per request cannot "
                "be told from the slope: vary the context at fixed requests"
            )
    return ""


def _possible_forms(samples: StageSamples) -> list[Form]:
    """Return the forms that `auto` compares, simplest first."""
    problem = _obstacle("linear", samples)
    if problem:
        raise InsufficientDataError(f"stage {samples.stage}: {problem}")
    different = np.unique(samples.loads).size
    forms: list[Form] = ["linear"]
    if (
        samples.stage == "attention"
        and samples.requests is not None
        and samples.count >= 5
        and not _obstacle("per-request", samples)
    ):
        forms.append("per-request")
    if different >= 5:
        forms += ["roofline", "table"]
    return forms


def _thinned(samples: StageSamples) -> StageSamples:
    """Return at most 20,000 measurements, evenly over the sorted loads: enough to choose a form."""
    if samples.count <= _CHOICE_ROWS:
        return samples
    order = np.argsort(samples.loads, kind="stable")
    keep = np.zeros(samples.count, dtype=bool)
    keep[order[np.linspace(0, samples.count - 1, _CHOICE_ROWS).astype(int)]] = True
    return samples.where(keep)


def _folds(loads: FloatArray) -> IntArray:
    """Return the fold of each measurement: whole loads, dealt out in turn, at most five."""
    different = np.unique(loads)
    count = min(5, different.size)
    folds: IntArray = np.searchsorted(different, loads) % count
    return folds


def _validate(form: Form, samples: StageSamples, folds: IntArray) -> FloatArray:
    """Return the absolute relative error of each measurement, predicted without its fold.

    Errors above 1 count as 1, so that one wild timing does not choose the form.
    """
    errors = np.empty(samples.count)
    for fold in np.unique(folds):
        held, rest = folds == fold, samples.where(folds != fold)
        if _obstacle(form, rest):
            errors[held] = 1.0
            continue
        fit = fit_form(form, rest.loads, rest.requests, rest.times)
        predicted = fit.curve(samples.loads[held])
        if samples.requests is not None:
            predicted = predicted + fit.time_per_request * samples.requests[held]
        errors[held] = np.abs(predicted / samples.times[held] - 1.0)
    return np.minimum(errors, 1.0)


def _simplest(errors: dict[Form, FloatArray]) -> Form:
    """Return the first form that is within one standard error of the best."""
    best = min(errors, key=lambda form: float(errors[form].mean()))
    for form, error in errors.items():
        excess = error - errors[best]
        allowed = float(excess.std(ddof=1)) / np.sqrt(excess.size) if excess.size > 1 else 0.0
        # Below a tenth of a per cent nobody cares which form is better.
        if float(excess.mean()) <= max(allowed, 1e-3):
            return form
    return best


def _judge(
    samples: StageSamples,
    form: Form,
    found: FormFit,
    scores: dict[str, float],
    warnings: list[str],
) -> StageFit:
    """Return the fit with its diagnostics."""
    freedom = found.freedom
    covariance = found.covariance
    if freedom >= 1:
        covariance = normal_consistent_covariance(covariance, freedom)
    half = np.sqrt(np.diag(covariance)) * 1.959963984540054
    if freedom < 1:
        warnings.append(
            f"{samples.count} measurements for {len(found.names)} coefficients leave nothing to "
            "judge their errors by: no uncertainty is stored"
        )
    elif freedom < 6:
        warnings.append(f"only {samples.count} measurements: intervals are rough")
    residuals = samples.times / found.fitted - 1.0
    worst = int(np.argmax(np.abs(residuals)))
    _suspect(samples, residuals, found.scale, warnings)
    total = float(((samples.times - samples.times.mean()) ** 2).sum())
    squares = float(((samples.times - found.fitted) ** 2).sum())
    influence = _influence(samples, found) if freedom >= 1 else None
    if influence is not None and influence.standard_errors > 2.0:
        warnings.append(
            f"{influence.coefficient} rests on one measurement: without row {influence.row} (load "
            f"{influence.load:g}) it moves by {influence.standard_errors:.1f} standard errors"
        )
    if form != "table" and freedom >= 1 and found.leverage.max() > 0.85:
        at = int(np.argmax(found.leverage))
        warnings.append(
            f"row {samples.row(at)} (load {samples.loads[at]:g}) nearly decides the fit by itself, "
            "so its own error cannot be seen: measure near that load again"
        )
    for name, value, width in zip(found.names, found.values, half, strict=True):
        if form != "table" and name == "slope" and freedom >= 1 and width > abs(value):
            warnings.append(f"{name} is not told from zero by these data")
    return StageFit(
        stage=samples.stage,
        form=form,
        curve=found.curve,
        time_per_request=found.time_per_request,
        coefficients={
            name: Estimate(
                value=float(value),
                low=float(value - width),
                high=float(value + width),
                confidence=0.95,
                method=f"Huber fit of {form}, Student with {freedom} degrees of freedom",
            )
            for name, value, width in zip(found.names, found.values, half, strict=True)
        },
        covariance=covariance,
        samples=samples,
        fitted=found.fitted,
        noise=found.scale,
        r_squared=1.0 - squares / total if total > 0 else 0.0,
        median_error=float(np.median(np.abs(residuals))),
        largest_error=float(residuals[worst]),
        largest_error_row=samples.row(worst),
        largest_error_load=float(samples.loads[worst]),
        influence=influence,
        scores=scores,
        warnings=tuple(warnings),
    )


def _influence(samples: StageSamples, found: FormFit) -> Influence | None:
    if not found.shifts.size or not np.any(found.shifts):
        return None
    at, column = np.unravel_index(int(np.argmax(np.abs(found.shifts))), found.shifts.shape)
    return Influence(
        coefficient=found.names[int(column)],
        standard_errors=float(abs(found.shifts[at, column])),
        row=samples.row(int(at)),
        load=float(samples.loads[at]),
    )


def _suspect(
    samples: StageSamples, residuals: FloatArray, scale: float, warnings: list[str]
) -> None:
    """Warn of times that look like another unit, and of systematic misfit."""
    factor = 1.0 + residuals
    for name, odd in (("1000 times", factor > 300), ("a thousandth of", factor < 1 / 300)):
        if odd.any():
            rows = ", ".join(str(samples.row(int(at))) for at in np.flatnonzero(odd)[:3])
            warnings.append(
                f"{int(odd.sum())} times look like another unit, about {name} the fit (row {rows})"
            )
    wild = float(np.mean(np.abs(residuals) > max(5 * scale, 0.05)))
    if wild > 0.1:
        warnings.append(
            f"{wild:.0%} of the measurements lie far from the curve".replace("%", " %")
            + ": one-sided outliers bias a fit, look at the residual plot"
        )
    low = np.abs(residuals[samples.loads <= np.quantile(samples.loads, 0.25)])
    if np.median(low) > 0.1:
        warnings.append(
            f"at small loads the curve errs by {np.median(low):.0%} (median)".replace("%", " %")
            + ": fit the loads you will run with a load window, or use a table"
        )
