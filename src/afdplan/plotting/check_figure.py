"""What does a picture of a check show: what runs now, over what the plan predicted?"""

from __future__ import annotations

from afdplan.planning.check import PlanCheck
from afdplan.plotting.figure import Axis, Figure, layer, single

__all__ = ["check_figure"]


def check_figure(result: PlanCheck) -> Figure:
    """Return load and step time as they are now, over those predicted; a measured step if known.

    Parameters
    ----------
    result
        What `check_plan` found.
    """
    rows = [("mean token load", result.mean_token_load / result.planned_token_load)]
    low = high = 1.0
    if result.measured_step_time is not None:
        rows.append(("measured step time", result.measured_step_time / result.step_time))
        if result.step_time_interval is not None:
            low = result.step_time_interval.low / result.step_time
            high = result.step_time_interval.high / result.step_time
    names = [name for name, _ in rows]
    ratios = [ratio for _, ratio in rows]
    layers = [
        layer(
            "rect",
            name="now",
            role="main",
            y=names,
            x1=[0.0] * len(rows),
            x2=ratios,
            fill=["solid"] * len(rows),
            words=[f"{name}: {ratio:.3f} of what was predicted" for name, ratio in rows],
        ),
        layer("rule_x", role="best", x=[1], text=["predicted"]),
    ]
    caption = "Load over the planned one; measured step over that of the model"
    if high > low:
        caption += f",\nwhich its own errors leave between {low:.3f} and {high:.3f} of that"
    return single(
        "check",
        "What runs now, over what was predicted",
        f"{caption}.",
        x=Axis(label="share of the prediction", limits=(0.0, 1.15 * max(1.0, *ratios))),
        y=Axis(label="", scale="category", limits=tuple(names)),
        layers=layers,
        height=90 + 44 * len(rows),
    )
