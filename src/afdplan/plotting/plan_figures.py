"""What does a report page show of a plan: the front, idle time, sensitivity?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from afdplan.planning.design import PlannedDesign
from afdplan.planning.plan import Plan
from afdplan.planning.plan_grid import PlanCase
from afdplan.plotting.figure import Axis, Chart, Figure, Layer, Role
from afdplan.plotting.label_places import label_places
from afdplan.plotting.plan import PlanFrontData, plan_front_data
from afdplan.plotting.ratio_figures import BATCH_SIZE, MICROBATCHES, case_key

__all__ = ["front_figure", "idle_figure", "plan_sensitivity_figure", "token_time"]

NARROW = (290.0, 300.0)
"""Width and height of the chart on a phone [pixels]: labels that are clear there are everywhere."""


def front_figure(plan: Plan, cases: Sequence[PlanCase]) -> Figure:
    """Return throughput per device over time per output token: front, baselines, limit.

    Parameters
    ----------
    plan
        The front, the un-split deployments and the recommended design.
    cases
        Designs at other batch sizes and microbatches: each is marked where it is chosen.
    """
    data = plan_front_data(plan)
    seconds = plan.latency.time_unit == "s"
    held = {
        case_key(case): (
            token_time(case.best, plan) * (1e3 if seconds else 1.0),
            case.best.tokens_per_second_per_device,
        )
        for case in cases
        if case.best is not None and case.best.design != plan.split.design
    }
    shown = (data.recommended, *held.values())
    highest = max([*data.front_rate, *data.colocated_rate, *(rate for _, rate in shown)])
    longest = max([*data.front_time, *data.colocated_time, *(time for time, _ in shown)])
    longest = max(longest, data.limit or 0.0)
    charts = {
        case_key(case): Chart(
            x=Axis(
                label=f"time per output token, {plan.limits.statistic}"
                + (" [ms]" if seconds else " [time units]"),
                limits=(0.0, 1.05 * longest),
            ),
            y=Axis(label=_per(plan), limits=(0.0, 1.15 * highest)),
            layers=_front_layers(
                plan, data, held.get(case_key(case)), 1.05 * longest, 1.15 * highest
            ),
            height=380,
        )
        for case in cases
    }
    return Figure(
        identifier="front",
        title="Throughput per device in use over time per output token",
        caption="Up is cheaper, left is faster; every point of the line is an exact optimum.",
        choices=(BATCH_SIZE, MICROBATCHES),
        charts=charts,
    )


def token_time(planned: PlannedDesign, plan: Plan) -> float:
    """Return what a plan's limit is held against: a statistic of the time per output token."""
    return planned.step_time.statistic(plan.limits.statistic) / planned.tokens_per_step


def _per(plan: Plan) -> str:
    return f"tokens per {'s' if plan.latency.time_unit == 's' else 'time unit'} and device"


def _front_layers(
    plan: Plan,
    data: PlanFrontData,
    chosen: tuple[float, float] | None,
    width: float,
    height: float,
) -> list[Layer]:
    unit = " ms" if plan.latency.time_unit == "s" else " time units"
    per = _per(plan)
    order = data.front_time.argsort(kind="stable")
    layers = [
        Layer(
            kind="line",
            name="split, best of each speed",
            columns={"x": data.front_time[order], "y": data.front_rate[order]},
            words=[
                f"{data.front_names[k]}, {data.front_rate[k]:,.4g} {per} at "
                f"{data.front_time[k]:.4g}{unit}"
                for k in order
            ],
        )
    ]
    if data.limit is not None:
        layers.append(
            Layer(kind="rule_x", name="limit", role="neutral", columns={"x": [data.limit]})
        )
    points: list[tuple[str, Role, str, tuple[float, float]]] = []
    if chosen is not None:
        points.append(("chosen B and m", "third", "chosen", chosen))
    points.append(("recommended", "best", "recommended", data.recommended))
    others = list(zip(data.front_time, data.front_rate, strict=True))
    if data.colocated_widths:
        widths = np.array(data.colocated_widths)
        best = int(np.flatnonzero([c is plan.best_colocated for c in plan.colocated])[0])
        others += list(zip(data.colocated_time, data.colocated_rate, strict=True))
        layers.append(
            Layer(
                kind="dot",
                name="not split, by width",
                role="second",
                columns={"x": data.colocated_time, "y": data.colocated_rate},
                words=[
                    f"EP{width}, {rate:,.4g} {per} at {held:.4g}{unit}"
                    for width, rate, held in zip(
                        widths, data.colocated_rate, data.colocated_time, strict=True
                    )
                ],
            )
        )
        baseline = (float(data.colocated_time[best]), float(data.colocated_rate[best]))
        points.insert(0, ("best not split", "second", f"EP{widths[best]}", baseline))
    places = label_places(
        [(x / width, y / height, text) for _, _, text, (x, y) in points],
        [(x / width, y / height) for x, y in others],
        [] if data.limit is None else [data.limit / width],
        [(data.front_time[k] / width, data.front_rate[k] / height) for k in order],
        size=NARROW,
    )
    for (name, role, text, (x, y)), place in zip(points, places, strict=True):
        layers.append(
            Layer(
                kind="point",
                name=name,
                role=role,
                columns={"x": [x], "y": [y], "text": [text], "place": [place]},
                words=[f"{text}, {y:,.4g} {per} at {x:.4g}{unit}"],
            )
        )
    return layers


def idle_figure(plan: Plan) -> Figure:
    """Return busy and idle shares of both sides, of the design and its alternatives."""
    designs = [("recommended", plan.split)]
    designs += [(other.change, other.plan) for other in plan.alternatives]
    rows: list[tuple[str, Role, float]] = []
    for name, planned in designs:
        rows.append((f"{name}: attention", "attention", planned.attention_idle_fraction))
        rows.append((f"{name}: FFN", "ffn", planned.ffn_idle_fraction))
    names = tuple(dict.fromkeys(name for name, _, _ in rows))
    kept = {name: (role, idle) for name, role, idle in reversed(rows)}
    roles = [kept[name][0] for name in names]
    busy = [100 * (1 - kept[name][1]) for name in names]
    words = [
        f"{name} busy {share:.1f} %, idle {100 - share:.1f} %"
        for name, share in zip(names, busy, strict=True)
    ]
    zero, full = [0.0] * len(names), [100.0] * len(names)
    parts = (("busy", zero, busy, "solid"), ("idle", busy, full, "hatch"))
    return Figure(
        identifier="idle",
        title="Where the time goes",
        caption="Solid is work, hatched is waiting, of the recommended design and of the next "
        "ones.",
        charts={
            "": Chart(
                x=Axis(label="share of the time [%]", limits=(0, 100)),
                y=Axis(label="", scale="category", limits=names),
                layers=[
                    Layer(
                        kind="rect",
                        name=part,
                        columns={
                            "y": names,
                            "x1": start,
                            "x2": end,
                            "role": roles,
                            "fill": [fill] * len(names),
                        },
                        words=words,
                    )
                    for part, start, end, fill in parts
                ],
                height=90 + 26 * len(names),
            )
        },
    )


def plan_sensitivity_figure(plan: Plan) -> Figure:
    """Return how the design's throughput answers to each input."""
    entries = plan.sensitivity
    names = tuple(f"{entry.input} {100 * entry.change:+.3g} %" for entry in entries)
    return Figure(
        identifier="sensitivity",
        title="What if an input were wrong",
        caption="Change of the design's throughput if one input were another; hatched where the "
        "limit on time per output token would then be broken.",
        charts={
            "": Chart(
                x=Axis(label="change of throughput [%]"),
                y=Axis(label="", scale="category", limits=tuple(dict.fromkeys(names))),
                layers=[
                    Layer(
                        kind="rect",
                        columns={
                            "y": names,
                            "x1": [0.0] * len(entries),
                            "x2": [100 * entry.throughput_change for entry in entries],
                            "role": ["third" if entry.meets_limit else "best" for entry in entries],
                            "fill": [
                                "solid" if entry.meets_limit else "hatch" for entry in entries
                            ],
                        },
                        words=[
                            f"{name}: throughput {100 * entry.throughput_change:+.1f} %, best A "
                            f"{entry.best_attention_workers}, keeping A gives up "
                            f"{100 * entry.regret:.1f} %"
                            for name, entry in zip(names, entries, strict=True)
                        ],
                    ),
                    Layer(kind="rule_x", role="neutral", columns={"x": [0]}),
                ],
                height=90 + 28 * len(names),
            )
        },
    )
