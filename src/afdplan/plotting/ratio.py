"""What is drawn of a recommended ratio, and how?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from afdplan.model.latency import TimeUnit
from afdplan.theory.ratio import RatioRecommendation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["RatioCurveData", "draw_ratio", "ratio_curve_data"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RatioCurveData:
    """The lines of the figure, cut where the best is far behind.

    Attributes
    ----------
    attention_workers
        A, shape (n,).
    objective
        Tokens per time and cost, shape (n,).
    attention_idle_fraction, ffn_idle_fraction
        Shape (n,).
    best
        Recommended A and its objective.
    near_equal
        First and last A within 1 %.
    uncertain
        First and last A that the interval of the token load allows; None if exact.
    """

    attention_workers: FloatArray
    objective: FloatArray
    attention_idle_fraction: FloatArray
    ffn_idle_fraction: FloatArray
    best: tuple[int, float]
    near_equal: tuple[int, int]
    uncertain: tuple[int, int] | None


def ratio_curve_data(answer: RatioRecommendation) -> RatioCurveData:
    """Return what the figure shows: the curve up to four times the recommended A."""
    last = max(4 * answer.optimal_attention_workers, 16)
    shown = [p for p in answer.curve if p.attention_workers <= last]
    uncertainty = answer.uncertainty
    return RatioCurveData(
        attention_workers=np.array([p.attention_workers for p in shown], dtype=np.float64),
        objective=np.array([p.objective for p in shown]),
        attention_idle_fraction=np.array([p.attention_idle_fraction for p in shown]),
        ffn_idle_fraction=np.array([p.ffn_idle_fraction for p in shown]),
        best=(answer.optimal_attention_workers, answer.best.objective),
        near_equal=answer.near_equal,
        uncertain=None if uncertainty is None else (uncertainty.low, uncertainty.high),
    )


def draw_ratio(answer: RatioRecommendation, unit: TimeUnit) -> Figure:
    """Return the figure: throughput over A with the recommended point, idle shares below."""
    from matplotlib.figure import Figure

    data = ratio_curve_data(answer)
    figure = Figure(figsize=(7.5, 6.0), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _draw_objective(upper, answer, data, unit)
    _draw_idle(lower, answer, data)
    return figure


def _draw_objective(
    axes: Axes, answer: RatioRecommendation, data: RatioCurveData, unit: TimeUnit
) -> None:
    workers, best = data.attention_workers, data.best
    low, high = data.near_equal
    axes.axvspan(low - 0.5, high + 0.5, color="0.92", zorder=0, label="within 1 % of the best")
    axes.plot(workers, data.objective, "-o", color="#1f5fa8", markersize=3.5)
    axes.plot(*best, "o", color="#b3261e", markersize=9, zorder=5)
    axes.annotate(
        f"{best[0]} attention : {answer.bundle.ffn_workers} FFN",
        best,
        xytext=(0, 12),
        textcoords="offset points",
        ha="center",
        fontweight="bold",
        color="#b3261e",
    )
    if data.uncertain is not None and data.uncertain[0] < data.uncertain[1]:
        axes.plot(
            data.uncertain,
            (best[1], best[1]),
            "|-",
            color="#b3261e",
            linewidth=1.5,
            markersize=12,
            label="best workers for the token load's interval",
        )
    axes.set_ylim(0, best[1] * 1.18)
    time = "s" if unit == "s" else "time"
    axes.set_ylabel(f"tokens/{time} per cost, A + wF")
    bundle = answer.bundle
    axes.set_title(
        f"B = {bundle.batch_size}, {bundle.microbatches} microbatches: {answer.bottleneck} binds",
        loc="left",
        fontsize=11,
    )
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_idle(axes: Axes, answer: RatioRecommendation, data: RatioCurveData) -> None:
    workers = data.attention_workers
    for fractions, color, style, name in (
        (data.attention_idle_fraction, "#1f5fa8", "-", "attention"),
        (data.ffn_idle_fraction, "#c77700", "--", "FFN"),
    ):
        axes.plot(workers, 100 * fractions, style, color=color, label=f"{name} idle")
    axes.axvline(data.best[0], color="#b3261e", linewidth=0.8)
    axes.set_ylim(0, 100)
    axes.set_xlim(0.5, workers[-1] + 0.5)
    axes.set_ylabel("idle [%]")
    axes.set_xlabel(f"attention workers A, for {answer.bundle.ffn_workers} FFN worker(s)")
    axes.legend(loc="upper right", ncols=2, frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
