"""Which shapes may a stage's time have, and how is each fitted to timings?"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np

from afdplan.arrays import BoolArray, FloatArray, IntArray
from afdplan.calibration.robust import RobustFit, robust_covariance, robust_lines, rough_lines
from afdplan.model.curve import Curve, LinearCurve, RooflineCurve, TabulatedCurve

__all__ = ["FORMS", "Form", "FormFit", "fit_form", "form_columns"]

Form = Literal["linear", "per-request", "roofline", "table"]
FORMS: tuple[str, ...] = get_args(Form)
"""From the simplest to the most flexible."""

_SPLITS = 6
_KNOTS = 24


class FormFit(NamedTuple):
    """One form fitted to one stage.

    Attributes
    ----------
    curve
        The fitted curve.
    time_per_request
        Extra time per request [time/request].
    names
        Coefficients, k of them, as a latency model spells them after the stage.
    values, covariance
        Their estimates and covariance, shapes (k,) and (k, k).
    fitted
        Fitted time of each measurement, shape (n,).
    scale
        Robust standard deviation of the relative error.
    shifts
        Change of each coefficient if one measurement were left out, in standard errors,
        shape (n, k).
    leverage
        Weight of each measurement in its own fitted value, at most 0.9, shape (n,).
    notes
        What the data could not tell.
    freedom
        Degrees of freedom that its noise is judged by.
    """

    curve: Curve
    time_per_request: float
    names: tuple[str, ...]
    values: FloatArray
    covariance: FloatArray
    fitted: FloatArray
    scale: float
    shifts: FloatArray
    leverage: FloatArray
    notes: tuple[str, ...]
    freedom: int


def form_columns(form: Form) -> int:
    """Return the number of coefficients that `form` needs from the data (1 for a table)."""
    return {"linear": 2, "per-request": 3, "roofline": 3, "table": 1}[form]


def fit_form(
    form: Form, loads: FloatArray, requests: FloatArray | None, times: FloatArray
) -> FormFit:
    """Return `form` fitted to timings with relative, partly wild errors.

    A slope, floor or time per request that comes out negative is set to zero and the others are
    fitted again; so is the intercept of a line.

    Parameters
    ----------
    form
        ``linear``, ``per-request``, ``roofline`` or ``table``.
    loads
        Loads [tokens], shape (n,).
    requests
        Requests of each measurement, shape (n,); needed by ``per-request``.
    times
        Times [time], > 0, shape (n,).
    """
    if form == "table":
        return _fit_table(loads, times)
    if form == "roofline":
        return _fit_roofline(loads, times)
    columns = {"slope": loads, "intercept": np.ones_like(loads)}
    if form == "per-request" and requests is not None:
        columns["time_per_request"] = requests
    return _fit_line(columns, times)


def _fit_line(columns: dict[str, FloatArray], times: FloatArray) -> FormFit:
    """Fit non-negative coefficients: drop the worst negative one until none is left."""
    kept = dict(columns)
    notes: list[str] = []
    while True:
        design = np.column_stack(list(kept.values()))
        fit = robust_lines(design, times[None, :])
        # A coefficient counts by what it adds at the largest load.
        share = fit.coefficients[0] * np.abs(design).max(axis=0)
        worst = int(np.argmin(share))
        if share[worst] >= 0 or len(kept) == 1:
            break
        name = list(kept)[worst]
        notes.append(f"{name} came out negative and was set to 0")
        del kept[name]
    values = np.maximum(fit.coefficients[0], 0.0)
    found = dict(zip(kept, values.tolist(), strict=True))
    return FormFit(
        curve=LinearCurve(slope=found.get("slope", 0.0), intercept=found.get("intercept", 0.0)),
        time_per_request=found.get("time_per_request", 0.0),
        names=tuple(kept),
        values=values,
        covariance=fit.covariance[0],
        fitted=design @ values,
        scale=float(fit.scale[0]),
        shifts=_shifts(fit, design, times),
        leverage=fit.leverage[0],
        notes=tuple(notes),
        freedom=times.size - fit.coefficients[0].size,
    )


def _shifts(fit: RobustFit, design: FloatArray, times: FloatArray) -> FloatArray:
    """Return the one-step change of each coefficient without each point, in standard errors."""
    fitted = np.maximum(design @ fit.coefficients[0], 1e-3 * np.median(times))
    x = design / fitted[:, None]
    threshold = 1.345 * fit.scale[0]
    score = np.clip(fit.residuals[0], -threshold, threshold)
    unit = np.abs(x).max(axis=0)
    unit = np.where(unit > 0, unit, 1.0)
    gram = np.linalg.pinv((x / unit).T @ (x / unit), rcond=1e-13, hermitian=True)
    change = -((x / unit) @ gram) / unit * (score / (1.0 - fit.leverage[0]))[:, None]
    error = np.sqrt(np.diag(fit.covariance[0]))
    shifts: FloatArray = np.divide(change, error, out=np.zeros_like(change), where=error > 0)
    return shifts


def roofline_designs(loads: FloatArray, on_line: BoolArray) -> FloatArray:
    """Return columns (floor, slope, intercept) where `on_line` marks the points beyond the knee.

    Parameters
    ----------
    loads
        Shape (n,).
    on_line
        Shape (..., n).
    """
    line = on_line.astype(float)
    return np.stack([1.0 - line, line * loads, line], axis=-1)


def robust_rooflines(loads: FloatArray, times: FloatArray) -> tuple[RobustFit, BoolArray]:
    """Return robust fits of ``max(floor, intercept + slope x)``, many at once.

    Every start splits the points at one load; then each point goes to the piece that is higher
    there and both pieces are fitted again, until nothing moves. The start with the least sum of
    absolute relative errors wins.

    Parameters
    ----------
    loads
        Shape (n,), with at least three different values.
    times
        Shape (replicates, n).

    Returns
    -------
    fit, on_line
        The fit, with coefficients (floor, slope, intercept), and which points lie beyond the
        knee, shape (replicates, n).
    """
    different = np.unique(loads)
    inner = different[1:-1]
    splits = inner[np.unique(np.linspace(0, inner.size - 1, min(_SPLITS, inner.size)).astype(int))]
    best_loss = np.full(times.shape[0], np.inf)
    best_side = np.zeros(times.shape, dtype=bool)
    for split in splits:
        side = np.broadcast_to(loads >= split, times.shape)
        for _ in range(4):
            beta = rough_lines(roofline_designs(loads, side), times)
            floor, line = beta[:, :1], beta[:, 2:] + beta[:, 1:2] * loads
            loss = np.abs(times / np.maximum(np.maximum(floor, line), 1e-300) - 1.0)
            total = np.minimum(loss, 1.0).sum(axis=1)
            better = (total < best_loss) & (beta[:, 1] >= 0)
            best_loss = np.where(better, total, best_loss)
            best_side = np.where(better[:, None], side, best_side)
            moved = line > floor
            # Two points keep the line a line, one the floor a floor.
            usable = (moved.sum(axis=1) >= 2) & (~moved).any(axis=1) & (beta[:, 1] > 0)
            moved = np.where(usable[:, None], moved, side)
            if np.array_equal(moved, side):
                break
            side = moved
    design = roofline_designs(loads, best_side)
    fit = robust_lines(design, times)
    # Near the knee noise decides on which piece a point lies, and the fit picks the side that
    # suits it: such points may shape the estimate, but they earn no certainty.
    floor, line = (
        fit.coefficients[:, :1],
        fit.coefficients[:, 2:] + fit.coefficients[:, 1:2] * loads,
    )
    clear = np.abs(line - floor) > fit.scale[:, None] * np.maximum(floor, line)
    return fit._replace(
        covariance=robust_covariance(design * clear[:, :, None], times, fit)
    ), best_side


def _fit_roofline(loads: FloatArray, times: FloatArray) -> FormFit:
    fit, on_line = robust_rooflines(loads, times[None, :])
    side = on_line[0]
    floor, slope, intercept = fit.coefficients[0].tolist()
    beyond = np.unique(loads[side]).size
    if beyond < 2 or slope <= 0 or floor <= 0 or not (~side).any():
        line = _fit_line({"slope": loads, "intercept": np.ones_like(loads)}, times)
        return line._replace(notes=(*line.notes, "no knee was found: the roofline is a line"))
    curve = RooflineCurve(floor=floor, slope=slope, intercept=intercept)
    design = roofline_designs(loads, side)
    notes = []
    if np.unique(loads[~side]).size < 2:
        notes.append("the floor rests on one load")
    return FormFit(
        curve=curve,
        time_per_request=0.0,
        names=tuple(curve.coefficients()),
        values=fit.coefficients[0],
        covariance=fit.covariance[0],
        fitted=curve(loads),
        scale=float(fit.scale[0]),
        shifts=_shifts(fit, design, times),
        leverage=fit.leverage[0],
        notes=tuple(notes),
        freedom=times.size - fit.coefficients[0].size,
    )


def _fit_table(loads: FloatArray, times: FloatArray) -> FormFit:
    """Fit a non-decreasing table: a robust mean at each knot, then isotonic regression."""
    from scipy.optimize import isotonic_regression

    different = np.unique(loads)
    knots = min(_KNOTS, different.size)
    # Knots hold equal numbers of different loads; each stands at the mean of its loads.
    group_of = np.minimum((np.arange(different.size) * knots) // different.size, knots - 1)
    group = group_of[np.searchsorted(different, loads)]
    at = np.array([loads[group == g].mean() for g in range(knots)])
    single = np.array([np.unique(loads[group == g]).size == 1 for g in range(knots)])
    centre, count = _robust_means([times[group == g] for g in range(knots)])
    smooth = isotonic_regression(centre, weights=count / centre**2).x
    curve = TabulatedCurve(loads=at, times=smooth)
    fitted = curve(loads)
    error = times / fitted - 1.0
    noise, deviation, freedom = _table_noise(error, count, group)
    if noise == 0.0 or freedom < 3 <= knots:  # hardly a load repeats: how far neighbours scatter
        noise = _neighbour_noise(at, centre)
        deviation, freedom = noise / np.sqrt(count), knots - 1
    deviation = smooth * deviation
    inside = np.clip(error, -1.345 * noise, 1.345 * noise)
    change = np.zeros((loads.size, knots))
    change[np.arange(loads.size), group] = -inside / np.maximum(count[group] - 1, 1)
    change = change * smooth
    shifts = np.divide(change, deviation, out=np.zeros_like(change), where=deviation > 0)
    notes = [] if single.all() else [f"{different.size} loads were pooled into {knots} knots"]
    pooled = int((np.diff(smooth) == 0).sum())
    if pooled:
        notes.append(f"{pooled} of {knots - 1} steps of the table did not rise and were levelled")
    return FormFit(
        curve=curve,
        time_per_request=0.0,
        names=tuple(curve.coefficients()),
        values=smooth,
        covariance=np.diag(deviation**2),
        fitted=fitted,
        scale=noise,
        shifts=shifts,
        leverage=1.0 / count[group],
        notes=tuple(notes),
        freedom=freedom,
    )


def _robust_means(groups: list[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Return Huber's mean of each group, the plain one of fewer than three, and their sizes.

    The scale is that of all groups: three times of which one is wild do not tell their own.
    """
    # One of each is its median itself: it is left out.
    errors = [np.sort(np.abs(g / np.median(g) - 1.0))[1:] for g in groups if g.size >= 3]
    all_errors = np.sort(np.concatenate([*errors, np.zeros(0)]))
    scale = 1.4826 * all_errors[(all_errors.size - 1) // 2] if errors else 0.0
    means = [_huber_mean(g, 1.345 * scale) if g.size >= 3 else g.mean() for g in groups]
    return np.array(means), np.array([float(g.size) for g in groups])


def _huber_mean(times: FloatArray, threshold: float) -> float:
    """Return the mean of times whose relative errors count up to a threshold."""
    centre = float(np.median(times))
    for _ in range(30):
        error = np.abs(times / centre - 1.0)
        weight = np.minimum(1.0, max(threshold, 1e-12) / np.maximum(error, 1e-300))
        centre = float((weight * times).sum() / weight.sum())
    return centre


def _table_noise(
    error: FloatArray, count: FloatArray, group: IntArray
) -> tuple[float, FloatArray, int]:
    """Return the noise of one measurement, the deviation of each knot and their freedom.

    Errors about a mean of n have n - 1 parts in n of the variance; a lone one tells nothing.
    Huber's mean has the variance K^2 E psi^2 / (E psi')^2 / n, where K makes up for few repeats
    (Huber 1981, Robust Statistics, 7.6); a knot of two has the plain mean.
    """
    repeated = count[group] > 1
    freedom = int(repeated.sum() - (count > 1).sum())
    if freedom == 0:
        return 0.0, np.zeros(count.size), 0
    share = 1.0 - 1.0 / count[group[repeated]]
    size = np.abs(error[repeated]) / np.sqrt(share)
    noise = float(1.4826 * np.median(size))
    near = float(np.average(size <= 1.345 * noise))
    few = 1.0 + (1.0 - near) / near * (1.0 - freedom / size.size)
    squares = np.average(np.minimum(size, 1.345 * noise) ** 2, weights=share) * (few / near) ** 2
    variance = np.where(count < 3, np.average(size**2, weights=share), squares)
    return noise, np.sqrt(variance / count), freedom


def _neighbour_noise(at: FloatArray, centre: FloatArray) -> float:
    """Return the relative noise of single measurements from their distance to the chord."""
    if at.size < 3:
        return 0.0
    weight = (at[1:-1] - at[:-2]) / (at[2:] - at[:-2])
    chord = centre[:-2] * (1 - weight) + centre[2:] * weight
    spread = np.sqrt(1 + weight**2 + (1 - weight) ** 2)
    return float(1.4826 * np.median(np.abs(centre[1:-1] / chord - 1.0) / spread))
