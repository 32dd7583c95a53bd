"""How are simulated step times spread?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.model.latency import TimeUnit
from afdplan.plotting.figure import Axis, Chart, Figure, Role, layer
from afdplan.plotting.ratio_figures import short_time
from afdplan.plotting.simulation_figures import ATTENTION_WORKERS
from afdplan.simulation.distribution import Distribution
from afdplan.simulation.record import Histogram
from afdplan.simulation.result import SimulationResult

__all__ = ["StepTimeBars", "step_time_bars", "step_time_figure"]

MOST_BARS = 60
TAIL = 0.001
"""Share of the steps that may lie outside the bars, on either side."""
MARKS: tuple[tuple[str, Role], ...] = (
    ("mean", "best"),
    ("p50", "neutral"),
    ("p95", "second"),
    ("p99", "third"),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepTimeBars:
    """Shares of the steps in adjoining ranges of time.

    Attributes
    ----------
    edges
        Ends of the ranges [time], increasing, shape (n + 1,).
    shares
        Share of all steps in each, shape (n,).
    """

    edges: FloatArray
    shares: FloatArray


def step_time_bars(histogram: Histogram) -> StepTimeBars:
    """Return at most 60 bars, each of as many of the histogram's bins.

    Parameters
    ----------
    histogram
        Of something that was counted at least once.
    """
    below = np.cumsum(histogram.counts) / histogram.counts.sum()
    begin, end = np.searchsorted(below, (TAIL, 1 - TAIL))
    kept = slice(int(begin), min(int(end) + 1, histogram.bins.size))
    bins, part = histogram.bins[kept], histogram.counts[kept] / histogram.counts.sum()
    first, last = int(bins[0]), int(bins[-1])
    width = -(-(last - first + 1) // MOST_BARS)
    number = -(-(last - first + 1) // width)
    shares = np.zeros(number)
    np.add.at(shares, (bins - first) // width, part)
    return StepTimeBars(edges=histogram.edges(first + width * np.arange(number + 1)), shares=shares)


def step_time_figure(results: Sequence[SimulationResult], unit: TimeUnit) -> Figure:
    """Return the shares of the steps by the time they took, a chart per bundle.

    Parameters
    ----------
    results
        Simulated bundles that differ in A.
    unit
        Of time.
    """
    several = len(results) > 1
    return Figure(
        identifier="step-times",
        title="How long output steps take",
        caption="Every bar is wider than its left neighbour by the same factor, 0.1 % or a "
        f"multiple. Up to {100 * TAIL:.1f} % of the steps at either end are left out.",
        choices=(ATTENTION_WORKERS,) if several else (),
        charts={
            str(result.scenario.bundle.attention_workers) if several else "": _chart(
                result.step_time, unit
            )
            for result in results
        },
    )


def _chart(found: Distribution, unit: TimeUnit) -> Chart:
    bars = step_time_bars(found.histogram)
    scale, name = (1.0, "time units") if unit == "abstract" else (1e3, "ms")
    suffix = " time units" if unit == "abstract" else ""
    start, end, share = scale * bars.edges[:-1], scale * bars.edges[1:], 100 * bars.shares
    layers = [
        layer(
            "rect",
            x1=start,
            x2=end,
            y1=np.zeros(share.size),
            y2=share,
            words=[
                f"{short_time(low, unit)} to {short_time(high, unit)}{suffix}: "
                f"{part:.2f} % of the steps"
                for low, high, part in zip(bars.edges[:-1], bars.edges[1:], share, strict=True)
            ],
        )
    ]
    values = found.values()
    layers += [
        layer(
            "rule_x",
            name=f"{mark} {short_time(values[mark], unit)}",
            role=role,
            x=[scale * values[mark]],
        )
        for mark, role in MARKS
    ]
    is_wide = bars.edges[-1] > 5 * bars.edges[0] > 0
    return Chart(
        x=Axis(label=f"step time [{name}]", scale="log" if is_wide else "linear"),
        y=Axis(label="share of the steps [%]", from_zero=True),
        layers=layers,
    )
