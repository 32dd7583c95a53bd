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
from typing import Literal

import numpy as np
import numpy.typing as npt

from afdplan.calibration.posterior import posterior_draws
from afdplan.errors import InsufficientDataError
from afdplan.model.checks import check_choice, check_count, check_number
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.model.sweep import RatioSweep

__all__ = ["SweepFit", "fit_sweep"]

FloatArray = npt.NDArray[np.float64]
Maximum = Literal["hard", "soft"]

_SEED = 20260121
_TRIP_SHARE = 0.03
"""Mean a priori of the exposed trip over the longest microbatch time: transfers mostly hide, but
a limit of zero would push what little shows into the FFN line (see the user guide)."""

_PRIOR_SPREAD = np.log(1.5)
"""A prior model is trusted to a factor of 1.5 (one standard deviation)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SweepFit:
    """Coefficients that a sweep supports, per layer and microbatch.

    Attributes
    ----------
    sweep
        The points.
    layers, step_overhead, maximum, transfer_time
        What was given: L, seconds per step, ``hard`` or ``soft``, c there and back [s] (its mean
        if it was fitted).
    attention_time
        a at `reference_tokens` [s].
    ffn_slope, ffn_intercept
        The FFN line f(n) = intercept + slope n [s/token, s].
    ffn_time
        f at the largest measured n [s].
    transfer_limit
        The largest c, there and back, that would still be hidden [s].
    reference_tokens
        B theta at which `attention_time` holds [tokens]; the mean over the points.
    identified
        Which of ``attention``, ``ffn_time``, ``ffn_slope``, ``ffn_intercept`` the data tell; the
        others are only bounded from above.
    noise
        Relative error of a step time that was used.
    residuals
        measured / fitted - 1, shape (n,).
    draws
        Draws of (a, share of a that does not grow with the load, intercept, slope, c, ln
        sharpness), shape (draws, 6).
    warnings
        One sentence each.
    """

    sweep: RatioSweep
    layers: int
    step_overhead: float
    maximum: Maximum
    transfer_time: float
    attention_time: Estimate
    ffn_slope: Estimate
    ffn_intercept: Estimate
    ffn_time: Estimate
    transfer_limit: float
    reference_tokens: float
    identified: dict[str, bool]
    noise: float
    residuals: FloatArray
    draws: FloatArray
    warnings: tuple[str, ...]

    def predict(self, points: RatioSweep) -> list[Estimate]:
        """Return the step time at each of `points` with its 95 % interval [s].

        Parameters
        ----------
        points
            Ratios to predict; their `step_times` are not looked at.
        """
        times = _step_times(
            self.draws, points, self.layers, self.step_overhead, self.maximum, self.reference_tokens
        )
        return [_estimate(column) for column in times.T]


def _estimate(draws: FloatArray) -> Estimate:
    low, high = np.quantile(draws, [0.025, 0.975])
    value = float(np.clip(draws.mean(), low, high))
    return Estimate(
        value=value, low=float(low), high=float(high), confidence=0.95, method="posterior draws"
    )


def _step_times(
    draws: FloatArray,
    points: RatioSweep,
    layers: int,
    overhead: float,
    maximum: Maximum,
    reference: float,
) -> FloatArray:
    """Return the step time of every draw at every point, shape (draws, points)."""
    at_reference, fixed, intercept, slope, trip, sharpness = (column[:, None] for column in draws.T)
    attention = at_reference * (fixed + (1 - fixed) * points.attention_tokens / reference)
    ffn = intercept + slope * points.ffn_tokens
    high = np.maximum(np.maximum(attention, ffn), 1e-300)
    busy = high
    if maximum == "soft":
        power = np.exp(sharpness)
        busy = high * ((attention / high) ** power + (ffn / high) ** power) ** (1 / power)
    m = points.microbatches
    round_time = np.maximum(np.maximum(m * busy, m * trip / 2), attention + ffn + trip)
    times: FloatArray = layers * round_time + overhead
    return times


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
        c, there and back [s], 0 for hidden; None takes the prior's, or without a prior fits it
        with a mean of 3 % of the longest microbatch time a priori.
    noise
        Relative error of a measured step time; raised to the misfit if that is larger.
    prior
        A model that says a priori, to a factor of 1.5, what attention, FFN and transfers take.

    Returns
    -------
    SweepFit
        Means and 95 % intervals over draws of all coefficients, each with a flat prior from 0 to
        what one measured step allows (or the given prior).

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
    reference = float(sweep.attention_tokens.mean())
    warnings: list[str] = []
    trip = transfer_time
    if prior is not None and trip is None:
        size, tokens = float(sweep.batch_size.mean()), float(sweep.ffn_tokens.mean())
        trip = sum(link.time(size, tokens) for link in (prior.send, prior.receive))
    elif trip is None and (sweep.microbatches == 1).all():
        trip = 0.0  # it adds to every step and cannot be told from attention and FFN
    if trip is not None:
        trip = check_number("transfer_time", trip)
    draws = _draw(sweep, layers, overhead, maximum, trip, noise, prior)
    misfit = _misfit(draws, sweep, layers, overhead, maximum, reference)
    if misfit > 2 * noise:
        warnings.append(
            f"no attention plateau and FFN line come closer than {100 * misfit:.1f} % to these "
            f"step times (expected {100 * noise:.1f} %): intervals are widened; other limits, "
            "or points of different set-ups?"
        )
        noise = misfit
        draws = _draw(sweep, layers, overhead, maximum, trip, noise, prior)
    times = _step_times(draws, sweep, layers, overhead, maximum, reference)
    largest = float(sweep.ffn_tokens.max())
    at_largest = draws[:, 2] + draws[:, 3] * largest
    estimates = {
        "attention": _estimate(draws[:, 0]),
        "ffn_time": _estimate(at_largest),
        "ffn_slope": _estimate(draws[:, 3]),
        "ffn_intercept": _estimate(draws[:, 2]),
    }
    identified = {name: value.relative_half_width < 0.35 for name, value in estimates.items()}
    attention = draws[:, :1] * (
        draws[:, 1:2] + (1 - draws[:, 1:2]) * sweep.attention_tokens / reference
    )
    room = (
        (times - overhead) / layers - attention - draws[:, 2:3] - draws[:, 3:4] * sweep.ffn_tokens
    )
    limit = float(np.quantile(np.maximum(room.min(axis=1), 0.0), 0.975))
    warnings.extend(_unknowns(identified, estimates, sweep))
    return SweepFit(
        sweep=sweep,
        layers=layers,
        step_overhead=overhead,
        maximum=maximum,
        transfer_time=float(draws[:, 4].mean()),
        attention_time=estimates["attention"],
        ffn_slope=estimates["ffn_slope"],
        ffn_intercept=estimates["ffn_intercept"],
        ffn_time=estimates["ffn_time"],
        transfer_limit=limit,
        reference_tokens=reference,
        identified=identified,
        noise=noise,
        residuals=sweep.step_times / times.mean(axis=0) - 1.0,
        draws=draws,
        warnings=tuple(warnings),
    )


def _unknowns(
    identified: dict[str, bool], estimates: dict[str, Estimate], sweep: RatioSweep
) -> list[str]:
    """Return what the data cannot tell, in words."""
    said = []
    if not identified["attention"]:
        said.append(
            "attention is never the limit at these ratios: its time is only bounded, at most "
            f"{estimates['attention'].high * 1e6:.4g} us per layer and microbatch; measure a lower "
            "ratio"
        )
    if not identified["ffn_time"]:
        said.append(
            "the FFN is never the limit at these ratios: its time is only bounded, at most "
            f"{estimates['ffn_time'].high * 1e6:.4g} us per layer and microbatch at "
            f"{sweep.ffn_tokens.max():g} tokens; measure a higher ratio or give a prior"
        )
    elif not identified["ffn_slope"]:
        said.append(
            "only one end of the FFN line is exposed: its slope and intercept are not told apart; "
            "measure another ratio beyond the knee or give a prior"
        )
    return said


def _draw(
    sweep: RatioSweep,
    layers: int,
    overhead: float,
    maximum: Maximum,
    transfer_time: float | None,
    noise: float,
    prior: LatencyModel | None,
) -> FloatArray:
    """Return draws of all six coefficients; those that stay fixed are filled in."""
    reference = float(sweep.attention_tokens.mean())
    largest = float(sweep.ffn_tokens.max())
    rounds = (sweep.step_times - overhead) / layers
    # No stage of a layer can take longer than the longest round.
    unit = float((rounds / np.where(sweep.microbatches > 1, sweep.microbatches, 1)).max())
    varied = float(np.ptp(sweep.attention_tokens)) > 0.2 * reference
    free = [0, 2, 3]
    free += [1] if varied else []
    free += [4] if transfer_time is None else []
    free += [5] if maximum == "soft" else []
    free.sort()
    low = np.array([0, 0, 0, 0, 0, np.log(2.0)])
    high = np.array([1.5, 1.0, 1.5, 1.5, 1.5, np.log(100.0)])
    scale = np.array([unit, 1.0, unit, unit / largest, unit, 1.0])
    rest = np.array([0.0, 0.0, 0.0, 0.0, transfer_time or 0.0, 0.0])
    expected = _expected(prior, sweep, reference) if prior is not None else None
    if expected is not None:
        rest[1] = expected[1]

    def complete(points: FloatArray) -> FloatArray:
        every: FloatArray = np.broadcast_to(rest, (points.shape[0], 6)).copy()
        every[:, free] = points * scale[free]
        return every

    def log_density(points: FloatArray) -> FloatArray:
        every = complete(points)
        times = _step_times(every, sweep, layers, overhead, maximum, reference)
        with np.errstate(over="ignore"):  # infinitely unlikely: refused by whoever draws
            misses = ((times / sweep.step_times - 1.0) / noise) ** 2
            density: FloatArray = -0.5 * misses.sum(axis=1)
        if 4 in free:
            density = density - every[:, 4] / (_TRIP_SHARE * unit)
        if expected is not None:
            for column in (0, 2, 3):
                if expected[column] > 0:
                    ratio = np.maximum(every[:, column], 1e-300) / expected[column]
                    density = density - 0.5 * (np.log(ratio) / _PRIOR_SPREAD) ** 2
        return density

    generator = np.random.default_rng(_SEED)
    return complete(posterior_draws(log_density, low[free], high[free], generator))


def _expected(prior: LatencyModel, sweep: RatioSweep, reference: float) -> FloatArray:
    """Return the prior's coefficients in the order of the draws."""
    requests = round(float(sweep.batch_size.mean()))
    layers = prior.layers

    def attention(tokens: float) -> float:
        return sum(k.layers * float(k.time(tokens, requests)) for k in prior.attention) / layers

    at_reference = attention(reference)
    fixed = attention(0.0) / at_reference if at_reference > 0 else 0.0
    low, high = float(sweep.ffn_tokens.min()), float(sweep.ffn_tokens.max())
    if low == high:
        low = 0.5 * high
    slope = float(prior.ffn(high) - prior.ffn(low)) / (high - low)
    intercept = max(float(prior.ffn(high)) - slope * high, 0.0)
    return np.array([at_reference, fixed, intercept, slope, 0.0, 0.0])


def _misfit(
    draws: FloatArray,
    sweep: RatioSweep,
    layers: int,
    overhead: float,
    maximum: Maximum,
    reference: float,
) -> float:
    """Return the least root-mean-square relative error among the draws."""
    times = _step_times(draws, sweep, layers, overhead, maximum, reference)
    errors: FloatArray = np.sqrt(((times / sweep.step_times - 1.0) ** 2).mean(axis=1))
    return float(errors.min())
