"""What do step times at a few ratios say about attention, FFN and transfer?

One round of m microbatches through one layer takes the longest of three things (see
`theory.pipeline`): the attention worker's own work ``m a``, the FFN worker's ``m f(n)`` with
``n = A B / F``, and the trip of one microbatch ``a + f(n) + c``. A sweep over ratios moves only
n, so it sees a plateau (attention), then a line (FFN). What lies under the maximum at every
measured ratio is bounded, not measured; draws from all coefficients that agree with the data say
which is which.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.calibration.sweep_round import COLUMNS, Maximum, SweepRound
from afdplan.calibration.sweep_space import SweepSpace, expected_coefficients, sweep_space
from afdplan.errors import InsufficientDataError
from afdplan.model.checks import check_choice, check_count, check_number
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.model.sweep import RatioSweep

__all__ = ["SweepFit", "fit_sweep"]


_UNKNOWN = 0.35
"""An estimate with a wider half interval is called bounded, not measured."""

_TOLERANCE = 2.0
"""Misses up to so many times the noise are noise."""

_AROUND = 24
"""Loads at which a stored model keeps to the mean of the draws."""

_FAR = np.log(2.5)
"""A prior that differs by a larger factor from what the points tell is said to contradict them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SweepFit:
    """Coefficients that a sweep supports, per layer and microbatch.

    Attributes
    ----------
    sweep
        The points.
    form
        What was given: L, seconds per step, ``hard`` or ``soft``, the reference load.
    transfer_time
        c there and back [s], as in `point`.
    attention_time
        a at `reference_tokens` [s].
    ffn_slope, ffn_intercept
        The FFN line f(n) = intercept + slope n [s/token, s].
    ffn_time
        f at the largest measured n [s].
    transfer_limit
        The largest c, there and back, that would still be hidden [s].
    identified
        Which of ``attention``, ``ffn_time``, ``ffn_slope``, ``ffn_intercept`` the data tell; the
        others are only bounded from above.
    noise
        Relative error of a step time that was used.
    point
        The one set of coefficients (`COLUMNS`) that a model file holds, shape (8,).
    residuals
        measured / fitted - 1, shape (n,), with the fitted times of `point`.
    draws
        Draws of all coefficients, shape (draws, 8).
    warnings
        One sentence each.
    """

    sweep: RatioSweep
    form: SweepRound
    transfer_time: float
    attention_time: Estimate
    ffn_slope: Estimate
    ffn_intercept: Estimate
    ffn_time: Estimate
    transfer_limit: float
    identified: dict[str, bool]
    noise: float
    point: FloatArray
    residuals: FloatArray
    draws: FloatArray
    warnings: tuple[str, ...]

    @property
    def layers(self) -> int:
        """L, round trips per step."""
        return self.form.layers

    @property
    def maximum(self) -> Maximum:
        """``hard`` or ``soft``."""
        return self.form.maximum

    @property
    def reference_tokens(self) -> float:
        """B theta at which `attention_time` holds: the mean over the points [tokens]."""
        return self.form.tokens

    def predict(self, points: RatioSweep) -> list[Estimate]:
        """Return the step time at each of `points` with its 95 % interval [s].

        Parameters
        ----------
        points
            Ratios to predict; their `step_times` are not looked at.
        """
        times = self.form.times(self.draws, points)
        central = (
            self.form.times(self.point[None, :], points)[0]
            if self.form.maximum == "hard"
            else times.mean(axis=0)
        )
        return [_estimate(c, v) for c, v in zip(times.T, central, strict=True)]


def _estimate(draws: FloatArray, value: float | None = None) -> Estimate:
    low, high = map(float, np.quantile(draws, [0.025, 0.975]))
    value = float(draws.mean() if value is None else value)
    return Estimate(
        value=value,
        low=min(low, value),
        high=max(high, value),
        confidence=0.95,
        method="posterior draws",
    )


def fit_sweep(
    sweep: RatioSweep,
    *,
    layers: int = 1,
    step_overhead: float = 0.0,
    maximum: Maximum = "hard",
    transfer_time: float | None = None,
    noise: float = 0.01,
    prior: LatencyModel | None = None,
) -> SweepFit:
    """Return the attention time and the FFN line that agree with a ratio sweep.

    Parameters
    ----------
    sweep
        Measured points; two at least.
    layers
        L, round trips per step.
    step_overhead
        Known time per step outside the layers [s].
    maximum
        ``hard``, or ``soft``: the plateau bends into the line, ``(a^p + f^p)^(1/p)`` with p
        between 2 and 100, as jitter between layers makes it.
    transfer_time
        c, there and back [s], 0 for hidden; None fits it: around the prior's, or without a prior
        with a mean of 5 % of the longest microbatch time a priori.
    noise
        Relative error of a measured step time; raised to the misfit if that is larger.
    prior
        A model that says a priori, to a factor of 1.5, what attention, FFN and transfers take.
        Where it contradicts the points it gives way.

    Returns
    -------
    SweepFit
        Means and 95 % intervals over draws of all coefficients, each with a flat prior from 0 to
        what one measured step allows (or the given prior), and the one point to store.

    Raises
    ------
    InsufficientDataError
        If there are fewer than two points.

    Notes
    -----
    Deterministic: the draws use a fixed seed. Cost: half a second.

    Examples
    --------
    >>> sweep = RatioSweep(attention_workers=[2, 4, 8, 12, 16], ffn_workers=1, batch_size=64,
    ...     microbatches=2, mean_tokens=4096, step_times=[0.02, 0.02, 0.02, 0.025, 0.030])
    >>> fit = fit_sweep(sweep, layers=50)
    >>> round(fit.attention_time.value * 1e6), fit.identified["ffn_slope"]
    (200, True)
    """
    layers = check_count("layers", layers)
    check_choice("maximum", maximum, ("hard", "soft"))
    noise = check_number("noise", noise, strict=True)
    overhead = check_number("step_overhead", step_overhead)
    if sweep.count < 2:
        raise InsufficientDataError("a ratio sweep needs 2 or more points, got 1: measure another")
    if (sweep.step_times <= overhead).any():
        raise InsufficientDataError(
            f"step_overhead must be below every step time, got {overhead:g} and "
            f"{sweep.step_times.min():g}"
        )
    form = SweepRound(
        layers=layers,
        step_overhead=overhead,
        maximum=maximum,
        tokens=float(sweep.attention_tokens.mean()),
        requests=float(sweep.batch_size.mean()),
        length=float(sweep.mean_tokens.mean()),
    )
    expected = None if prior is None else expected_coefficients(prior, sweep, form)
    trip = None if transfer_time is None else check_number("transfer_time", transfer_time)
    if trip is None and (sweep.microbatches == 1).all() and (expected is None or expected[4] == 0):
        trip = 0.0  # it adds to every step and cannot be told from attention and FFN
    space = sweep_space(sweep, form, trip, expected)
    warnings: list[str] = []
    draws = space.draws(noise, expected)
    misfit = space.misfit(draws)
    given = noise
    if misfit > _TOLERANCE * noise:
        warnings.append(
            f"no attention plateau and FFN line come closer than {100 * misfit:.1f} % to these "
            f"step times (expected {100 * noise:.1f} %): intervals are widened; other limits, "
            "or points of different set-ups?"
        )
        noise = misfit
        draws = space.draws(noise, expected)
    largest = float(sweep.ffn_tokens.max())
    estimates = {
        "attention": _estimate(draws[:, 0]),
        "ffn_time": _estimate(draws[:, 2] + draws[:, 3] * largest),
        "ffn_slope": _estimate(draws[:, 3]),
        "ffn_intercept": _estimate(draws[:, 2]),
    }
    identified = {name: value.relative_half_width < _UNKNOWN for name, value in estimates.items()}
    point = _point(space, draws, noise, estimates, identified)
    times = form.times(draws, sweep)
    room = (times - overhead) / layers - form.attention(draws, sweep) - form.ffn(draws, sweep)
    fitted = form.times(point[None, :], sweep, "hard")[0]
    warnings.extend(_unknowns(identified, estimates, sweep))
    if expected is not None:
        warnings.extend(_contradicted(expected, largest, estimates, identified))
    warnings.extend(_missed(sweep, fitted, given, maximum))
    return SweepFit(
        sweep=sweep,
        form=form,
        transfer_time=float(point[COLUMNS.index("trip")]),
        attention_time=estimates["attention"],
        ffn_slope=estimates["ffn_slope"],
        ffn_intercept=estimates["ffn_intercept"],
        ffn_time=estimates["ffn_time"],
        transfer_limit=float(np.quantile(np.maximum(room.min(axis=1), 0.0), 0.975)),
        identified=identified,
        noise=noise,
        point=point,
        residuals=sweep.step_times / fitted - 1.0,
        draws=draws,
        warnings=tuple(warnings),
    )


def _contradicted(
    expected: FloatArray, largest: float, estimates: dict[str, Estimate], known: dict[str, bool]
) -> list[str]:
    """Return where a prior is far from what the points tell, in words."""
    said = {
        "attention": ("attention", expected[0]),
        "ffn_time": ("the FFN", expected[2] + expected[3] * largest),
    }
    return [
        f"the prior contradicts the points and gave way: {name} would take {1e6 * value:.4g} us "
        f"per layer and microbatch, they say {1e6 * estimates[key].value:.4g} us"
        for key, (name, value) in said.items()
        if known[key] and value > 0 and abs(np.log(value / estimates[key].value)) > _FAR
    ]


def _point(
    space: SweepSpace,
    draws: FloatArray,
    noise: float,
    estimates: dict[str, Estimate],
    identified: dict[str, bool],
) -> FloatArray:
    """Return the coefficients to store: they meet the points, then the mean of the draws.

    A stage that the points only bound is taken as long as they allow: a planner that believes it
    does not go beyond what was measured.
    """
    sweep, form = space.sweep, space.form
    around = _around(sweep)
    drawn = form.times(draws, around, "hard")
    target = drawn.mean(axis=0)
    spread = np.maximum(drawn.std(axis=0) / noise, target)  # what is unsure may be missed by more
    cautious = {}
    if not identified["attention"]:
        cautious[0] = estimates["attention"].high
    if not identified["ffn_time"]:
        longer = estimates["ffn_time"].high / estimates["ffn_time"].value
        cautious |= {2: draws[:, 2].mean() * longer, 3: draws[:, 3].mean() * longer}
    wish = np.array(list(cautious.values()))

    def wanted(every: FloatArray) -> FloatArray:
        if cautious:
            found: FloatArray = every[:, list(cautious)] / wish - 1.0
            return found
        off: FloatArray = (form.times(every, around, "hard") - target) / spread
        return off

    return space.best(draws, noise, wanted)


def _around(sweep: RatioSweep) -> RatioSweep:
    """Return points from half of the lowest to twice the highest load of the FFN."""
    loads, one = sweep.ffn_tokens, np.ones(_AROUND)
    batch = float(np.median(sweep.batch_size))
    return RatioSweep(
        attention_workers=np.geomspace(loads.min() / 2, 2 * loads.max(), _AROUND) / batch,
        ffn_workers=one,
        batch_size=batch * one,
        microbatches=np.median(sweep.microbatches) * one,
        mean_tokens=np.median(sweep.mean_tokens) * one,
        step_times=one,
    )


def _missed(sweep: RatioSweep, fitted: FloatArray, noise: float, maximum: Maximum) -> list[str]:
    """Return what the stored model does not reproduce, in words."""
    errors = fitted / sweep.step_times - 1.0
    worst = int(np.argmax(np.abs(errors)))
    if abs(errors[worst]) <= _TOLERANCE * noise:
        return []
    a, f = sweep.attention_workers[worst], sweep.ffn_workers[worst]
    return [
        f"the stored model misses the step time at {a:g}:{f:g} by {100 * errors[worst]:+.1f} % "
        f"(noise {100 * noise:.1f} %)"
        + (": a model file has no soft maximum" if maximum == "soft" else "")
    ]


def _unknowns(
    identified: dict[str, bool], estimates: dict[str, Estimate], sweep: RatioSweep
) -> list[str]:
    """Return what the data cannot tell, in words."""
    said = []
    if not identified["attention"]:
        said.append(
            "attention is never the limit at these ratios: its time is only bounded, at most "
            f"{estimates['attention'].high * 1e6:.4g} µs per layer and microbatch; measure a lower "
            "ratio"
        )
    if not identified["ffn_time"]:
        said.append(
            "the FFN is never the limit at these ratios: its time is only bounded, at most "
            f"{estimates['ffn_time'].high * 1e6:.4g} µs per layer and microbatch at "
            f"{sweep.ffn_tokens.max():g} tokens; measure a higher ratio or give a prior"
        )
    elif not identified["ffn_slope"]:
        said.append(
            "only one end of the FFN line is exposed: its slope and intercept are not told apart; "
            "measure another ratio beyond the knee or give a prior"
        )
    return said
