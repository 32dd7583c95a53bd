"""How does a workload look: the load of a slot, its drift, prompts against outputs?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from afdplan.lengths.law import EmpiricalLengths, LengthLaw
from afdplan.workload.drift import Drift

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from afdplan.workload.report import LawReport, WorkloadReport

__all__ = [
    "DriftData",
    "JointData",
    "LoadLawData",
    "draw_workload",
    "drift_data",
    "joint_data",
    "load_law_data",
]

FloatArray = npt.NDArray[np.float64]

LOAD_COLOUR, MEAN_COLOUR, SHORTCUT_COLOUR = "#4878a8", "#b03a2e", "#7d6608"
SHOWN_PROBABILITY = 0.995
"""Share of a slot's time that the histogram shows; the rest is a number in the corner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadLawData:
    """Histogram of the tokens that a slot holds.

    Attributes
    ----------
    edges
        Ends of the bins, shape (k + 1,) [tokens].
    probabilities
        Share of time in each bin, shape (k,).
    beyond
        Share of time above the last bin.
    """

    edges: FloatArray
    probabilities: FloatArray
    beyond: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftData:
    """Windows of the trace and their mean token loads, arrays of shape (windows,).

    Attributes
    ----------
    start, end
        Ends of the windows in `unit`.
    value, low, high
        Mean token load and its interval [tokens].
    unit
        ``s``, ``min``, ``h``, ``d`` or ``requests``.
    """

    start: FloatArray
    end: FloatArray
    value: FloatArray
    low: FloatArray
    high: FloatArray
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JointData:
    """Number of requests by prompt and decode length on logarithmic bins.

    Attributes
    ----------
    prompt_edges, decode_edges
        Ends of the bins [tokens]; a prompt of no tokens counts in the first bin.
    counts
        Requests, shape (prompt bins, decode bins).
    """

    prompt_edges: FloatArray
    decode_edges: FloatArray
    counts: FloatArray


def load_law_data(law: LengthLaw, bins: int = 120) -> LoadLawData:
    """Return the stationary law of a slot's load as a histogram of equal, whole-token bins.

    Examples
    --------
    >>> from afdplan.lengths.law import IndependentLengths
    >>> load_law_data(IndependentLengths(prompt="10", decode="4"), bins=2).probabilities
    array([0.5, 0.5])
    """
    slot = law.slot_load()
    reached = np.cumsum(slot.probabilities)
    shown = min(int(np.searchsorted(reached, SHOWN_PROBABILITY)) + 1, reached.size)
    width = max(-(-shown // bins), 1)
    count = -(-shown // width)
    padded = np.zeros(count * width)
    kept = slot.probabilities[: count * width]
    padded[: kept.size] = kept
    return LoadLawData(
        edges=slot.lowest + slot.spacing * width * np.arange(count + 1, dtype=np.float64),
        probabilities=padded.reshape(count, width).sum(axis=1),
        beyond=float(slot.probabilities[count * width :].sum()),
    )


def drift_data(drift: Drift) -> DriftData:
    """Return the windows of a drift in a unit of time that suits their span."""
    span = drift.windows[-1].end - drift.windows[0].start if drift.windows else 0.0
    unit, seconds = "requests", 1.0
    if drift.by_time:
        units = [("s", 1.0), ("min", 60.0), ("h", 3600.0), ("d", 86400.0)]
        unit, seconds = next((u for u in reversed(units) if span >= 2 * u[1]), units[0])
    loads = [window.token_load for window in drift.windows]
    return DriftData(
        start=np.array([window.start for window in drift.windows]) / seconds,
        end=np.array([window.end for window in drift.windows]) / seconds,
        value=np.array([load.value for load in loads]),
        low=np.array([load.low for load in loads]),
        high=np.array([load.high for load in loads]),
        unit=unit,
    )


def joint_data(law: EmpiricalLengths, bins: int = 60) -> JointData:
    """Return how many requests have which prompt and decode length."""
    prompt = np.maximum(law.prompt_tokens, 1).astype(np.float64)
    decode = law.decode_tokens.astype(np.float64)
    edges = [_log_edges(prompt, bins), _log_edges(decode, bins)]
    counts, _, _ = np.histogram2d(prompt, decode, bins=edges)
    return JointData(prompt_edges=edges[0], decode_edges=edges[1], counts=counts)


def draw_workload(report: WorkloadReport | LawReport, law: LengthLaw) -> Figure:
    """Return the drawn figure: load law, and for a trace its drift and joint lengths."""
    from matplotlib.figure import Figure

    from afdplan.workload.report import WorkloadReport

    if not isinstance(report, WorkloadReport):
        figure = Figure(figsize=(7, 4.4), layout="constrained")
        _draw_load(figure.add_subplot(), report, load_law_data(law))
        return figure
    figure = Figure(figsize=(11, 7.6), layout="constrained")
    rooms = figure.subplot_mosaic("LL\nDJ")
    _draw_load(rooms["L"], report, load_law_data(law))
    _draw_drift(rooms["D"], report, drift_data(report.drift))
    if isinstance(law, EmpiricalLengths):
        _draw_joint(rooms["J"], report, joint_data(law))
    return figure


def _log_edges(values: FloatArray, bins: int) -> FloatArray:
    """Return logarithmic edges at half-integers, none closer than one token."""
    low, high = float(values.min()) - 0.5, float(values.max()) + 0.5
    edges = np.floor(np.geomspace(low, high, bins + 1)) + 0.5
    edges[0], edges[-1] = low, high
    unique: FloatArray = np.unique(np.clip(edges, low, high))
    return unique


def _draw_load(axes: Axes, report: WorkloadReport | LawReport, data: LoadLawData) -> None:
    width = float(data.edges[1] - data.edges[0])
    axes.stairs(data.probabilities / width * 1000, data.edges, fill=True, color=LOAD_COLOUR)
    load, std = report.token_load, report.token_load_std
    axes.axvline(load.value, color=MEAN_COLOUR, label=f"mean {_count(load.value)}")
    axes.axvspan(
        load.low,
        load.high,
        color=MEAN_COLOUR,
        alpha=0.2,
        linewidth=0,
        label=None if load.low == load.high else f"its {100 * load.confidence:.0f} % interval",
    )
    height = float(data.probabilities.max()) / width * 1000
    axes.errorbar(
        load.value, height * 1.06, xerr=std, color="black", capsize=4, label=f"std {_count(std)}"
    )
    shortcut = report.geometric
    axes.axvline(
        shortcut.mean_token_load,
        color=SHORTCUT_COLOUR,
        linestyle="--",
        label=f"geometric shortcut {_count(shortcut.mean_token_load)}"
        f" ({100 * shortcut.mean_error_fraction:+.0f} %)",
    )
    axes.set_xlim(left=float(data.edges[0]) - width)
    axes.set_ylim(0, height * 1.15)
    beyond = f" ({100 * data.beyond:.1f} % of the time beyond the right end)" if data.beyond else ""
    axes.set_title(f"Tokens that one occupied slot holds{beyond}", fontsize=11)
    axes.set_xlabel("KV tokens of a slot")
    axes.set_ylabel("probability per 1,000 tokens")
    _finish(axes)


def _draw_drift(axes: Axes, report: WorkloadReport, data: DriftData) -> None:
    load = report.token_load
    axes.set_title("Mean token load over the trace", fontsize=11)
    if not data.value.size:
        axes.text(0.5, 0.5, "too few requests for windows", ha="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    middle = (data.start + data.end) / 2
    axes.axhspan(load.low, load.high, color=MEAN_COLOUR, alpha=0.15, linewidth=0)
    axes.axhline(load.value, color=MEAN_COLOUR, label=f"whole trace, {100 * load.confidence:.0f} %")
    axes.errorbar(
        middle,
        data.value,
        yerr=[data.value - data.low, data.high - data.value],
        xerr=(data.end - data.start) / 2,
        fmt="o",
        markersize=4,
        color=LOAD_COLOUR,
        label=f"window, {100 * load.confidence:.0f} %",
    )
    axes.set_xlabel(
        "request number"
        if data.unit == "requests"
        else f"time since the first arrival [{data.unit}]"
    )
    axes.set_ylabel("mean token load [tokens]")
    axes.set_ylim(bottom=0)
    _finish(axes)


def _draw_joint(axes: Axes, report: WorkloadReport, data: JointData) -> None:
    from matplotlib.colors import LogNorm

    shown = np.where(data.counts > 0, data.counts, np.nan)
    mesh = axes.pcolormesh(
        data.prompt_edges,
        data.decode_edges,
        shown.T,
        norm=LogNorm(vmin=1, vmax=max(float(data.counts.max()), 2.0)),
        cmap="viridis",
        rasterized=True,
    )
    axes.figure.colorbar(mesh, ax=axes, label="requests")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title(
        f"Prompt and output lengths (rank correlation {report.rank_correlation:+.2f})", fontsize=11
    )
    axes.set_xlabel("prompt tokens")
    axes.set_ylabel("output tokens")


def _finish(axes: Axes) -> None:
    from matplotlib.ticker import StrMethodFormatter

    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
