"""What does a report page show of a calibration: fitted curves and what they miss?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from afdplan.arrays import FloatArray
from afdplan.calibration.stage import StageFit
from afdplan.calibration.stage_interval import curve_half_widths
from afdplan.calibration.sweep import SweepFit
from afdplan.model.sweep import RatioSweep
from afdplan.plotting.figure import Axis, Figure, Role, layer, single

__all__ = ["stage_figures", "sweep_figures"]

MOST_DOTS = 600
"""More than an eye tells apart, and every one costs the reader's machine."""
LEAST_REACH, WILD = 5.0, 2.0
"""Errors that are drawn in any case [%]; times the reach beyond which one is drawn at the edge."""


def stage_figures(fits: Sequence[StageFit], time_unit: str) -> tuple[Figure, ...]:
    """Return two figures per stage: curve over measurements, and relative errors.

    Parameters
    ----------
    fits
        The fitted stages.
    time_unit
        ``s`` (shown in microseconds) or ``abstract``.
    """
    return tuple(figure for fit in fits for figure in _stage(fit, time_unit))


def _stage(fit: StageFit, time_unit: str) -> tuple[Figure, Figure]:
    scale, unit = (1e6, "us") if time_unit == "s" else (1.0, "abstract")
    roles: dict[str, Role] = {"attention": "attention", "ffn": "ffn"}
    role, name = roles.get(fit.stage, "communication"), "FFN" if fit.stage == "ffn" else fit.stage
    every, measured, middle = fit.samples.loads, fit.samples.times, 0.0
    low, high = float(every.min()), float(every.max())
    grid = np.geomspace(low, high, 200) if low > 0 else np.linspace(low, high, 200)
    curve = fit.curve(grid)
    if fit.samples.requests is not None and fit.time_per_request > 0:
        # A curve has one abscissa: bring all measurements to the median requests.
        middle = float(np.median(fit.samples.requests))
        curve = curve + fit.time_per_request * middle
        measured = measured - fit.time_per_request * (fit.samples.requests - middle)
    half = curve_half_widths(fit, grid, middle)
    shown = _spread(every)
    loads, errors = every[shown], 100 * fit.residuals[shown]
    axis = Axis(
        label="KV tokens" if fit.stage == "attention" else "tokens",
        scale="log" if low > 0 and high > 20 * low else "linear",
    )
    words = [
        f"{load:,.6g} tokens: {scale * time:,.4g} {unit}, {error:+.1f} % off the curve"
        for load, time, error in zip(loads, measured[shown], errors, strict=True)
    ]
    few = f" {shown.size} of {every.size:,} measurements are shown, evenly by load."
    return single(
        f"fit-{fit.stage}".replace("_", "-"),
        f"{name}: {fit.form}",
        "The fitted curve with its 95 % interval, over what was measured."
        + few * (shown.size < every.size),
        x=axis,
        y=Axis(label=f"time [{unit}]", from_zero=True),
        layers=[
            layer(
                "band",
                name="95 % interval of the curve",
                role="best",
                x=grid,
                low=scale * np.maximum(curve - half, 0.0),
                high=scale * (curve + half),
            ),
            layer(
                "dot", name="measured", role=role, x=loads, y=scale * measured[shown], words=words
            ),
            layer("line", name="fitted", role="best", x=grid, y=scale * curve),
        ],
    ), _residual_figure(
        f"residual-{fit.stage}".replace("_", "-"),
        f"{name}: what the curve misses",
        axis,
        loads,
        errors,
        200 * fit.noise,
        words,
        role,
    )


def sweep_figures(fit: SweepFit) -> tuple[Figure, ...]:
    """Return measured and fitted step times over the ratio, and relative errors."""
    ratio = fit.sweep.attention_workers / fit.sweep.ffn_workers
    grid = _ratios_of(fit.sweep)
    at = grid.attention_workers / grid.ffn_workers
    order = np.argsort(at, kind="stable")
    predicted = fit.predict(grid)
    value, low, high = (
        1e3 * np.array([getattr(estimate, name) for estimate in predicted])[order]
        for name in ("value", "low", "high")
    )
    measured = 1e3 * fit.sweep.step_times
    axis = Axis(label="attention workers per FFN worker", head="A/F =")
    words = [
        f"{count:g} to {ffn:g}: {step:,.4g} ms, {100 * error:+.1f} % off the fit"
        for count, ffn, step, error in zip(
            fit.sweep.attention_workers, fit.sweep.ffn_workers, measured, fit.residuals, strict=True
        )
    ]
    return (
        single(
            "sweep",
            "Step time over the ratio",
            f"The {fit.maximum} maximum of attention, FFN and round trip, with its 95 % interval, "
            "over what was measured.",
            x=axis,
            y=Axis(label="step time [ms]", from_zero=True),
            layers=[
                layer(
                    "band", name="95 % interval", role="neutral", x=at[order], low=low, high=high
                ),
                layer("line", name="fitted", role="best", x=at[order], y=value),
                layer("dot", name="measured", x=ratio, y=measured, words=words),
            ],
        ),
        _residual_figure(
            "residual",
            "What the fit misses",
            axis,
            ratio,
            100 * fit.residuals,
            200 * fit.noise,
            words,
            "main",
        ),
    )


def _spread(loads: FloatArray) -> npt.NDArray[np.intp]:
    """Return at most `MOST_DOTS` indices, evenly by the rank of their load."""
    order = np.argsort(loads, kind="stable")
    if order.size <= MOST_DOTS:
        return order
    return order[np.linspace(0, order.size - 1, MOST_DOTS).round().astype(np.intp)]


def _residual_figure(
    identifier: str,
    title: str,
    axis: Axis,
    loads: FloatArray,
    errors: FloatArray,
    band: float,
    words: Sequence[str],
    role: Role,
) -> Figure:
    # Wild timings are what the fit resists: they are told at the edge, lest the rest is a line.
    reach = max(2.5 * band, LEAST_REACH)
    wild = np.abs(errors) > (reach if np.abs(errors).max() > WILD * reach else np.inf)
    layers = [
        layer(
            "band",
            name="twice the noise",
            role="neutral",
            x=[float(loads.min()), float(loads.max())],
            low=[-band] * 2,
            high=[band] * 2,
        ),
        layer("rule_y", role="neutral", y=[0]),
        layer(
            "dot",
            name="measured",
            role=role,
            x=loads[~wild],
            y=errors[~wild],
            words=[text for text, out in zip(words, wild, strict=True) if not out],
        ),
    ]
    if wild.any():
        layers.append(
            layer(
                "dot",
                name=f"{int(wild.sum())} beyond the axis",
                role="best",
                x=loads[wild],
                y=0.96 * reach * np.sign(errors[wild]),
                words=[text for text, out in zip(words, wild, strict=True) if out],
            )
        )
    return single(
        identifier,
        title,
        "Relative error of each measurement; the band is twice the noise.",
        x=axis,
        y=Axis(
            label="measured / fitted - 1 [%]",
            from_zero=True,
            limits=(-reach, reach) if wild.any() else None,
        ),
        layers=layers,
        height=220,
    )


def _ratios_of(sweep: RatioSweep) -> RatioSweep:
    """Return many ratios of a sweep whose points differ in nothing else, else its own points."""
    same = ("ffn_workers", "batch_size", "microbatches", "mean_tokens")
    if any(np.ptp(getattr(sweep, name)) > 0 for name in same):
        return sweep
    low, high = sweep.attention_workers.min(), sweep.attention_workers.max()
    workers = np.linspace(low, max(high, low + 1), 120)
    return RatioSweep(
        attention_workers=workers,
        step_times=np.ones(workers.size),
        **{name: getattr(sweep, name)[0] for name in same},
    )
