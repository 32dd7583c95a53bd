"""What is drawn of a plan, and how?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from afdplan.planning.plan import Plan
from afdplan.plotting.label_places import Place, label_places

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PlanFrontData", "draw_plan", "plan_front_data"]

FloatArray = npt.NDArray[np.float64]
PIXELS, LETTER = (490.0, 285.0), (5.3, 11.0)
"""Size of the axes and of a letter [points]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlanFrontData:
    """Throughput per device in use against time per output token.

    Attributes
    ----------
    front_time, front_rate
        Of the Pareto front [ms or abstract; tokens/s per device], shape (n,).
    front_names
        "A:F" of each point.
    recommended
        (time, rate) of the recommended design.
    colocated_time, colocated_rate
        Of the best un-split deployment of each width, shape (k,).
    colocated_widths
        Expert-parallel widths, k of them.
    limit
        Most time per output token; None without.
    """

    front_time: FloatArray
    front_rate: FloatArray
    front_names: tuple[str, ...]
    recommended: tuple[float, float]
    colocated_time: FloatArray
    colocated_rate: FloatArray
    colocated_widths: tuple[int, ...]
    limit: float | None


def plan_front_data(plan: Plan) -> PlanFrontData:
    """Return what the figure shows."""
    scale = 1e3 if plan.latency.time_unit == "s" else 1.0
    statistic, tokens = plan.limits.statistic, plan.split.tokens_per_step

    def held(step: float) -> float:
        return scale * step / tokens

    best = plan.split
    limit = plan.limits.time_per_output_token
    return PlanFrontData(
        front_time=np.array([held(p.step_time.statistic(statistic)) for p in plan.front]),
        front_rate=np.array([p.tokens_per_second_per_device for p in plan.front]),
        front_names=tuple(
            f"{p.design.attention_workers}:{p.design.ffn_workers}" for p in plan.front
        ),
        recommended=(
            held(best.step_time.statistic(statistic)),
            best.tokens_per_second_per_device,
        ),
        colocated_time=np.array([held(c.step_time.statistic(statistic)) for c in plan.colocated]),
        colocated_rate=np.array([c.tokens_per_second_per_device for c in plan.colocated]),
        colocated_widths=tuple(c.ranks * c.devices_per_rank for c in plan.colocated),
        limit=None if limit is None else scale * limit,
    )


def draw_plan(plan: Plan) -> Figure:
    """Return the figure: Pareto front, recommended design, un-split deployments, limit."""
    from matplotlib.figure import Figure

    data = plan_front_data(plan)
    figure = Figure(figsize=(7.5, 5.0), layout="constrained")
    axes = figure.subplots()
    axes.plot(data.front_time, data.front_rate, "-o", color="#1f5fa8", label="split, best each")
    if data.colocated_widths:
        axes.plot(
            data.colocated_time,
            data.colocated_rate,
            "s",
            color="#7a7a7a",
            label="not split, by width",
        )
    axes.plot(*data.recommended, "o", color="#b3261e", markersize=10, zorder=5, label="recommended")
    if data.limit is not None:
        axes.axvline(data.limit, color="#b3261e", linestyle=":", label="limit")
    axes.set_ylim(0, None)
    axes.set_xlim(0, None)
    _label_points(axes, data)
    unit = " [ms]" if plan.latency.time_unit == "s" else ""
    per = "s" if plan.latency.time_unit == "s" else "time"
    axes.set_xlabel(f"time per output token, {plan.limits.statistic}{unit}")
    axes.set_ylabel(f"tokens/{per} per device in use")
    axes.set_title(str(plan.split.design), loc="left", fontsize=11)
    # Below the axes: inside them it would lie on a line for some plan.
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _label_points(axes: Axes, data: PlanFrontData) -> None:
    """Write the pair at each point of the front, the width at each un-split deployment."""
    (_, wide), (_, high) = axes.get_xlim(), axes.get_ylim()
    offsets: dict[Place, tuple[tuple[int, int], str, str]] = {
        "above": ((0, 8), "center", "bottom"),
        "below": ((0, -8), "center", "top"),
        "left": ((-8, 0), "right", "center"),
        "right": ((8, 0), "left", "center"),
    }
    labels = {
        (x, y): (f"EP{width}", "#555555")
        for x, y, width in zip(
            data.colocated_time, data.colocated_rate, data.colocated_widths, strict=True
        )
    }
    labels |= {
        (x, y): (name, "#1f5fa8")
        for x, y, name in zip(data.front_time, data.front_rate, data.front_names, strict=True)
    }
    places = label_places(
        [(x / wide, y / high, text) for (x, y), (text, _) in labels.items()],
        [(data.recommended[0] / wide, data.recommended[1] / high)],
        [] if data.limit is None else [data.limit / wide],
        [(x / wide, y / high) for x, y in zip(data.front_time, data.front_rate, strict=True)],
        size=PIXELS,
        character=LETTER,
    )
    for (place, (text, colour)), side in zip(labels.items(), places, strict=True):
        offset, horizontal, vertical = offsets[side]
        axes.annotate(
            text,
            place,
            xytext=offset,
            textcoords="offset points",
            ha=horizontal,
            va=vertical,
            fontsize=8,
            color=colour,
        )
