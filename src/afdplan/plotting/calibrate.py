"""How do fitted curves and their residuals look beside the measurements?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from afdplan.calibration.stage import StageFit
from afdplan.calibration.stage_interval import curve_half_widths
from afdplan.calibration.sweep import SweepFit
from afdplan.model.sweep import RatioSweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "ResidualPanel",
    "draw_stage_fits",
    "draw_sweep_fit",
    "ratio_grid_of",
    "residual_panels",
]

FloatArray = npt.NDArray[np.float64]
_COLORS = {"attention": "#0072B2", "ffn": "#D55E00"}
_OTHER = "#009E73"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResidualPanel:
    """What one stage's two panels show.

    Attributes
    ----------
    stage, form
        What was fitted.
    loads, times, residuals
        Measured loads [tokens], times (brought to the median requests) [time] and relative
        errors [%], shape (n,).
    curve_loads, curve_times
        The fitted curve, at the median requests if it has a time per request.
    curve_low, curve_high
        Its 95 % interval; equal to the curve where the fit is exact.
    band
        Twice the robust deviation of the relative error [%].
    """

    stage: str
    form: str
    loads: FloatArray
    times: FloatArray
    residuals: FloatArray
    curve_loads: FloatArray
    curve_times: FloatArray
    curve_low: FloatArray
    curve_high: FloatArray
    band: float


def residual_panels(fits: Sequence[StageFit]) -> list[ResidualPanel]:
    """Return the data of the residual plot, one entry per stage.

    Parameters
    ----------
    fits
        The fitted stages.
    """
    panels = []
    for fit in fits:
        loads = fit.samples.loads
        low, high = float(loads.min()), float(loads.max())
        grid = np.geomspace(low, high, 200) if low > 0 else np.linspace(low, high, 200)
        times, measured, middle = fit.curve(grid), fit.samples.times, 0.0
        if fit.samples.requests is not None and fit.time_per_request > 0:
            # A curve has one abscissa: bring all measurements to the median requests.
            middle = float(np.median(fit.samples.requests))
            times = times + fit.time_per_request * middle
            measured = measured - fit.time_per_request * (fit.samples.requests - middle)
        half = curve_half_widths(fit, grid, middle)
        panels.append(
            ResidualPanel(
                stage=fit.stage,
                form=fit.form,
                loads=loads,
                times=measured,
                residuals=100 * fit.residuals,
                curve_loads=grid,
                curve_times=times,
                curve_low=np.maximum(times - half, 0.0),
                curve_high=times + half,
                band=200 * fit.noise,
            )
        )
    return panels


def draw_stage_fits(fits: Sequence[StageFit], time_unit: str) -> Figure:
    """Return a figure: curves over measurements above, relative errors below.

    Parameters
    ----------
    fits
        The fitted stages.
    time_unit
        ``s`` (shown in microseconds) or ``abstract``.
    """
    from matplotlib.figure import Figure

    panels = residual_panels(fits)
    figure = Figure(figsize=(1.2 + 3.8 * len(panels), 5.6), layout="constrained")
    axes = figure.subplots(
        2, len(panels), squeeze=False, sharex="col", gridspec_kw={"height_ratios": [3, 2]}
    )
    scale, unit = (1e6, "us") if time_unit == "s" else (1.0, "abstract")
    for column, panel in enumerate(panels):
        color = _COLORS.get(panel.stage, _OTHER)
        top, bottom = axes[0, column], axes[1, column]
        top.plot(panel.loads, scale * panel.times, "o", ms=3.5, alpha=0.6, color=color)
        ends = scale * panel.curve_low, scale * panel.curve_high
        top.fill_between(panel.curve_loads, *ends, color="0.75", alpha=0.7, lw=0)
        top.plot(panel.curve_loads, scale * panel.curve_times, color="black", lw=1.3)
        top.set_title(f"{panel.stage}: {panel.form}")
        top.set_ylabel(f"time [{unit}]")
        bottom.axhspan(-panel.band, panel.band, color="0.9")
        bottom.axhline(0.0, color="black", lw=0.8)
        bottom.plot(panel.loads, panel.residuals, "o", ms=3.5, alpha=0.6, color=color)
        bottom.set_ylabel("measured / fitted - 1 [%]")
        bottom.set_xlabel("KV tokens" if panel.stage == "attention" else "tokens")
        # Wild timings are what the fit resists: show them at the edge, not the rest as a line.
        limit = max(5 * panel.band / 2, 5.0)
        if np.abs(panel.residuals).max() > 2 * limit:
            bottom.set_ylim(-limit, limit)
            wild = np.abs(panel.residuals) > limit
            edge = np.sign(panel.residuals[wild]) * 0.96 * limit
            bottom.plot(panel.loads[wild], edge, "^", ms=6, color="crimson", clip_on=False)
            bottom.text(
                0.99, 0.03, f"{int(wild.sum())} beyond", transform=bottom.transAxes,
                ha="right", color="crimson", fontsize=8,
            )  # fmt: skip
        if panel.loads.min() > 0 and panel.loads.max() > 20 * panel.loads.min():
            top.set_xscale("log")
            _tick_whole_numbers(top, panel.loads)
        for one in (top, bottom):
            one.spines[["top", "right"]].set_visible(False)
    return figure


def _tick_whole_numbers(axes: Axes, loads: FloatArray) -> None:
    """Label 1, 2 and 5 of each decade, only 1 where there are many decades; nothing between."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    decades = float(np.log10(loads.max() / loads.min()))
    steps = (1.0, 2.0, 5.0) if decades < 1.5 else (1.0, 3.0) if decades < 2.5 else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=steps, numticks=6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda load, _: _short(load)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _short(load: float) -> str:
    """Return a load with k or M for thousands and millions."""
    for scale, letter in ((1e6, "M"), (1e3, "k")):
        if load >= scale:
            return f"{load / scale:g}{letter}"
    return f"{load:g}"


def draw_sweep_fit(fit: SweepFit) -> Figure:
    """Return a figure: measured and fitted step times over the ratio, errors below.

    Parameters
    ----------
    fit
        The fitted sweep.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2, 5.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1.4]})
    ratio = fit.sweep.attention_workers / fit.sweep.ffn_workers
    grid = ratio_grid_of(fit.sweep)
    fitted = fit.predict(grid)
    middle, low, high = (
        1e3 * np.array([getattr(estimate, name) for estimate in fitted])
        for name in ("value", "low", "high")
    )
    shown = grid.attention_workers / grid.ffn_workers
    order = np.argsort(shown, kind="stable")
    top.fill_between(shown[order], low[order], high[order], color="0.88", label="95 % interval")
    top.plot(
        shown[order], middle[order], color="black", lw=1.2, label=f"fitted, {fit.maximum} maximum"
    )
    top.plot(ratio, 1e3 * fit.sweep.step_times, "o", color="#D55E00", label="measured")
    top.set_ylabel("step time [ms]")
    top.set_ylim(bottom=0)
    top.legend(frameon=False)
    bottom.axhspan(-200 * fit.noise, 200 * fit.noise, color="0.9")
    bottom.axhline(0.0, color="black", lw=0.8)
    bottom.plot(ratio, 100 * fit.residuals, "o", color="#D55E00")
    bottom.set_ylabel("measured / fitted - 1 [%]")
    bottom.set_xlabel("attention workers per FFN worker")
    for one in (top, bottom):
        one.spines[["top", "right"]].set_visible(False)
    return figure


def ratio_grid_of(sweep: RatioSweep) -> RatioSweep:
    """Return many ratios of a sweep whose points differ in nothing else, else its own points."""
    same = all(
        np.ptp(getattr(sweep, name)) == 0
        for name in ("ffn_workers", "batch_size", "microbatches", "mean_tokens")
    )
    if not same:
        return sweep
    low, high = sweep.attention_workers.min(), sweep.attention_workers.max()
    workers = np.linspace(low, max(high, low + 1), 120)
    return RatioSweep(
        attention_workers=workers,
        ffn_workers=sweep.ffn_workers[0],
        batch_size=sweep.batch_size[0],
        microbatches=sweep.microbatches[0],
        mean_tokens=sweep.mean_tokens[0],
        step_times=np.ones(workers.size),
    )
