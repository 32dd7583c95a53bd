"""What does a report page show of a plan: the front, idle time, sensitivity?"""

from __future__ import annotations

from collections.abc import Sequence

from afdplan.planning.colocated import Colocated
from afdplan.planning.design import PlannedDesign
from afdplan.planning.plan import Plan
from afdplan.planning.plan_grid import PlanCase
from afdplan.plotting.figure import Axis, Chart, Figure, Layer, Role, layer, single
from afdplan.plotting.label_places import label_places
from afdplan.plotting.ratio_figures import BATCH_SIZE, MICROBATCHES, case_key

__all__ = ["front_figure", "idle_figure", "plan_sensitivity_figure", "plan_title", "token_time"]

NARROW = (290.0, 300.0)
"""Width and height of the chart on a phone [pixels]: labels that are clear there are everywhere."""
Point = tuple[float, float]


def front_figure(plan: Plan, cases: Sequence[PlanCase] = ()) -> Figure:
    """Return throughput per device over time per output token: front, baselines, limit.

    Parameters
    ----------
    plan
        The front, the un-split deployments and the recommended design.
    cases
        Designs at other batch sizes and microbatches: each is marked where it is chosen. Without
        them there is one chart and nothing to choose.
    """
    held = {
        case_key(case): _point(case.best, plan)
        for case in cases
        if case.best is not None and case.best.design != plan.split.design
    }
    split = [_point(one, plan) for one in (*plan.front, plan.recommended)]
    every = [*split, *(_point(one, plan) for one in plan.colocated)]
    longest = max(time for time, _ in (*every, *held.values()))
    right = 1.05 * max(longest, (_limit(plan) or 0.0))
    top = 1.15 * max(rate for _, rate in (*every, *held.values()))
    unit = " [ms]" if plan.latency.time_unit == "s" else " [time units]"
    return Figure(
        identifier="front",
        title="Throughput per device in use over time per output token",
        caption="Up is cheaper, left is faster; every point of the line is an exact optimum.",
        choices=(BATCH_SIZE, MICROBATCHES) if cases else (),
        charts={
            key: Chart(
                x=Axis(
                    label=f"time per output token, {plan.limits.statistic}{unit}",
                    limits=(0.0, right),
                ),
                y=Axis(label=_per(plan), limits=(0.0, top)),
                layers=_front_layers(plan, held.get(key), (right, top)),
                height=380,
            )
            for key in ([case_key(case) for case in cases] or [""])
        },
    )


def _point(planned: PlannedDesign | Colocated, plan: Plan) -> Point:
    """Return where a deployment stands: time per output token [ms or abstract], and its rate."""
    scale = 1e3 if plan.latency.time_unit == "s" else 1.0
    step = planned.step_time.statistic(plan.limits.statistic)
    # Speculation speeds a split and an un-split deployment alike.
    return (scale * step / plan.split.tokens_per_step, planned.tokens_per_second_per_device)


def _limit(plan: Plan) -> float | None:
    limit = plan.limits.time_per_output_token
    return None if limit is None else limit * (1e3 if plan.latency.time_unit == "s" else 1.0)


def token_time(planned: PlannedDesign, plan: Plan) -> float:
    """Return what a plan's limit is held against: a statistic of the time per output token."""
    return planned.step_time.statistic(plan.limits.statistic) / planned.tokens_per_step


def _per(plan: Plan) -> str:
    return f"tokens per {'s' if plan.latency.time_unit == 's' else 'time unit'} and device"


def _front_layers(plan: Plan, chosen: Point | None, corner: Point) -> list[Layer]:
    unit, per = " ms" if plan.latency.time_unit == "s" else " time units", _per(plan)

    def told(name: str, point: Point) -> str:
        return f"{name}, {point[1]:,.4g} {per} at {point[0]:.4g}{unit}"

    front = sorted(
        (_point(one, plan), f"{one.design.attention_workers}:{one.design.ffn_workers}")
        for one in plan.front
    )
    line = [point for point, _ in front]
    layers = [
        layer(
            "line",
            name="split, best of each speed",
            x=[time for time, _ in line],
            y=[rate for _, rate in line],
            text=[name for _, name in front],
            words=[told(name, point) for point, name in front],
        )
    ]
    limit = _limit(plan)
    if limit is not None:
        layers.append(layer("rule_x", name="limit", role="neutral", x=[limit]))
    points: list[tuple[str, Role, str, Point]] = []
    if chosen is not None:
        points.append(("chosen B and m", "third", "chosen", chosen))
    points.append(("recommended", "best", "recommended", _point(plan.recommended, plan)))
    unsplit = {_point(one, plan): f"EP{one.ranks * one.devices_per_rank}" for one in plan.colocated}
    if unsplit:
        layers.append(
            layer(
                "dot",
                name="not split, by width",
                role="second",
                x=[time for time, _ in unsplit],
                y=[rate for _, rate in unsplit],
                words=[told(name, point) for point, name in unsplit.items()],
            )
        )
    if plan.best_colocated is not None:
        at = _point(plan.best_colocated, plan)
        points.insert(0, ("best not split", "second", unsplit[at], at))
    right, top = corner
    places = label_places(
        [(x / right, y / top, text) for _, _, text, (x, y) in points],
        [(x / right, y / top) for x, y in (*line, *unsplit)],
        [] if limit is None else [limit / right],
        [[(x / right, y / top) for x, y in line]],
        size=NARROW,
    )
    for (name, role, text, (x, y)), place in zip(points, places, strict=True):
        layers.append(
            layer(
                "point",
                name=name,
                role=role,
                x=[x],
                y=[y],
                text=[text],
                place=[place],
                words=[told(text, (x, y))],
            )
        )
    return layers


def plan_title(plan: Plan) -> str:
    """Return what a picture of a plan is headed by: the deployment that is recommended."""
    return str(plan.split.design if plan.kind == "split" else plan.recommended)


def idle_figure(plan: Plan) -> Figure:
    """Return busy and idle shares of both sides, of the design and its alternatives."""
    first = "recommended" if plan.kind == "split" else "best split"
    designs = [(first, plan.split)]
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
    return single(
        "idle",
        "Where the time goes",
        "Solid is work, hatched is waiting, of the recommended design and of the next ones."
        if plan.kind == "split"
        else "Solid is work, hatched is waiting, of the best split and of the designs next to it.",
        x=Axis(label="share of the time [%]", limits=(0, 100)),
        y=Axis(label="", scale="category", limits=names),
        layers=[
            layer(
                "rect",
                name=part,
                y=names,
                x1=start,
                x2=end,
                roles=roles,
                fill=[fill] * len(names),
                words=words,
            )
            for part, start, end, fill in parts
        ],
        height=90 + 26 * len(names),
    )


def plan_sensitivity_figure(plan: Plan) -> Figure:
    """Return how the design's throughput answers to each input."""
    entries = plan.sensitivity
    names = tuple(f"{entry.input} {100 * entry.change:+.3g} %" for entry in entries)
    return single(
        "sensitivity",
        "What if an input were wrong",
        "Change of the design's throughput if one input were another; hatched where the "
        "limit on time per output token would then be broken.",
        x=Axis(label="change of throughput [%]"),
        y=Axis(label="", scale="category", limits=tuple(dict.fromkeys(names))),
        layers=[
            layer(
                "rect",
                y=names,
                x1=[0.0] * len(entries),
                x2=[100 * entry.throughput_change for entry in entries],
                roles=["third" if entry.meets_limit else "best" for entry in entries],
                fill=["solid" if entry.meets_limit else "hatch" for entry in entries],
                words=[
                    f"{name}: throughput {100 * entry.throughput_change:+.1f} %, best A "
                    f"{entry.best_attention_workers}, keeping A gives up "
                    f"{100 * entry.regret:.1f} %"
                    for name, entry in zip(names, entries, strict=True)
                ],
            ),
            layer("rule_x", role="neutral", x=[0]),
        ],
        height=90 + 28 * len(names),
    )
