"""What does a picture of a check show: what runs now, over what the plan predicted?"""

from __future__ import annotations

from afdplan.planning.check import PlanCheck
from afdplan.plotting.figure import Axis, Figure, layer, single

__all__ = ["check_figure"]


WIDEST = 3.0
"""Share at which a bar ends: a chance may be thousands of times the one that is allowed."""


def check_figure(
    result: PlanCheck, *, time_limit: float | None = None, overflow_limit: float | None = None
) -> Figure:
    """Return load and times as they are now, over those predicted or allowed.

    Parameters
    ----------
    result
        What `check_plan` found.
    time_limit
        On the time per output token [s]; None if the plan has none.
    overflow_limit
        On the chance that KV memory overflows: drawn where it is passed.
    """
    rows = [("mean token load", result.mean_token_load / result.planned_token_load)]
    low = high = 1.0
    if result.measured_step_time is not None:
        rows.append(("measured step time", result.measured_step_time / result.step_time))
        if result.step_time_interval is not None:
            low = result.step_time_interval.low / result.step_time
            high = result.step_time_interval.high / result.step_time
    if time_limit is not None:
        rows.append(("time per token / limit", result.time_per_output_token / time_limit))
    beyond = ""
    if overflow_limit is not None and result.memory_overflow_probability > overflow_limit:
        over = WIDEST
        beyond = "; none of KV memory's overflows is allowed"
        if overflow_limit:
            over = result.memory_overflow_probability / overflow_limit
            times = f"{over:,.0f}" if over >= 10 else f"{over:.3g}"
            beyond = f"; KV memory overflows {times} times as often as is allowed"
        rows.append(("KV overflow / limit", over))
    names = [name for name, _ in rows]
    ratios = [ratio for _, ratio in rows]
    layers = [
        layer(
            "rect",
            name="now",
            role="main",
            y=names,
            x1=[0.0] * len(rows),
            x2=[min(ratio, WIDEST) for ratio in ratios],
            fill=["solid"] * len(rows),
            words=[f"{name}: {ratio:.3f} of what was predicted or allowed" for name, ratio in rows],
        ),
        layer("rule_x", role="best", x=[1], text=["predicted, allowed"]),
    ]
    caption = "Load over the planned one; measured step over that of the model"
    if high > low:
        caption += f",\nwhich its own errors leave between {low:.3f} and {high:.3f} of that"
    return single(
        "check",
        "What runs now, over what was predicted or allowed",
        f"{caption}{beyond}.",
        x=Axis(
            label="share of the prediction or limit",
            limits=(0.0, 1.15 * min(max(1.0, *ratios), WIDEST)),
        ),
        y=Axis(label="", scale="category", limits=tuple(names)),
        layers=layers,
        height=90 + 44 * len(rows),
    )
