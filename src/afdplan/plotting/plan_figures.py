"""What does a report page show of a plan: the front, idle time, sensitivity?"""

from __future__ import annotations

from afdplan.planning.plan import Plan
from afdplan.plotting.figure import Axis, Chart, Figure, Layer, Role
from afdplan.plotting.plan import plan_front_data

__all__ = ["front_figure", "idle_figure", "plan_sensitivity_figure"]


def front_figure(plan: Plan) -> Figure:
    """Return throughput per device over time per output token: front, baseline, limit."""
    data = plan_front_data(plan)
    seconds = plan.latency.time_unit == "s"
    unit = " ms" if seconds else ""
    per = f"tokens per {'s' if seconds else 'time unit'} and device"
    time, best_rate = data.recommended
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
    if data.colocated_widths:
        layers.append(
            Layer(
                kind="dot",
                name="not split, by width",
                role="second",
                columns={"x": data.colocated_time, "y": data.colocated_rate},
                words=[
                    f"EP{width}, {rate:,.4g} {per} at {held:.4g}{unit}"
                    for width, rate, held in zip(
                        data.colocated_widths,
                        data.colocated_rate,
                        data.colocated_time,
                        strict=True,
                    )
                ],
            )
        )
    if data.limit is not None:
        layers.append(
            Layer(kind="rule_x", name="limit", role="neutral", columns={"x": [data.limit]})
        )
    layers.append(
        Layer(
            kind="point",
            name="recommended",
            role="best",
            columns={"x": [time], "y": [best_rate], "text": ["recommended"]},
        )
    )
    highest = max([best_rate, *data.front_rate, *data.colocated_rate])
    return Figure(
        identifier="front",
        title="Throughput per device in use over time per output token",
        caption="Up is cheaper, left is faster; every point of the line is an exact optimum.",
        charts={
            "": Chart(
                x=Axis(
                    label=f"time per output token, {plan.limits.statistic}"
                    + (" [ms]" if seconds else ""),
                    from_zero=True,
                ),
                y=Axis(label=per, limits=(0.0, 1.15 * highest)),
                layers=layers,
                height=360,
            )
        },
    )


def idle_figure(plan: Plan) -> Figure:
    """Return busy and idle shares of both sides, of the design and its alternatives."""
    designs = [("recommended", plan.recommended)]
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
