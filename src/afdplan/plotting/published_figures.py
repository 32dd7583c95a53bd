"""What does a report page show of publications: the paper's baseline, measured systems?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from afdplan.model.estimate import Estimate
from afdplan.plotting.figure import Axis, Figure, Role, layer, single
from afdplan.validation.baseline import CurvePoint
from afdplan.validation.published import PublishedSystem

__all__ = ["baseline_figure", "idle_figure", "system_figure"]

RATIO = "attention workers per FFN worker r"
UNIT = "tokens per 1,000 time units"
LINES: tuple[tuple[str, Role, Callable[[CurvePoint], float]], ...] = (
    ("mean field, ideal overlap", "second", lambda point: point.mean_field),
    ("Gaussian, ideal overlap", "third", lambda point: point.gaussian),
    ("exact, ideal overlap", "latency", lambda point: point.exact),
    ("pipelined, m = 2", "main", lambda point: point.pipelined),
)
PLAYED: tuple[tuple[str, Role, Callable[[CurvePoint], Estimate]], ...] = (
    ("simulated, fresh start", "neutral", lambda point: point.fresh),
    ("simulated, steady", "best", lambda point: point.stationary),
)


def baseline_figure(curve: Sequence[CurvePoint]) -> Figure:
    """Return throughput per instance over the ratio on the paper's baseline."""
    ratios = [point.attention_workers for point in curve]
    layers = []
    for name, role, value in LINES:
        values = [1e3 * value(point) for point in curve]
        layers.append(
            layer(
                "line",
                name=name,
                role=role,
                x=ratios,
                y=values,
                words=[f"{y:,.1f}" for y in values],
            )
        )
    for name, role, seen in PLAYED:
        found = [seen(point) for point in curve]
        layers += [
            layer(
                "dot",
                name=name,
                role=role,
                x=ratios,
                y=[1e3 * estimate.value for estimate in found],
                words=[
                    f"{1e3 * e.value:,.1f} ({1e3 * e.low:,.1f} to {1e3 * e.high:,.1f})"
                    for e in found
                ],
            ),
            layer(
                "interval",
                name=name,
                role=role,
                x=ratios,
                low=[1e3 * estimate.low for estimate in found],
                high=[1e3 * estimate.high for estimate in found],
            ),
        ]
    slowest = min(curve, key=lambda point: point.stationary.low)
    return single(
        "baseline",
        "Throughput per instance over the ratio, on the paper's baseline",
        "Lines are theory, points are simulations with their intervals. The paper "
        "simulates from a fresh start, whose short caches make it faster than what lasts.",
        x=_ratio_axis(),
        y=Axis(label=UNIT, includes=(0.9e3 * slowest.stationary.low,)),
        layers=layers,
        height=380,
    )


def _ratio_axis() -> Axis:
    return Axis(label=RATIO, scale="log", includes=(0.95, 34.0), head="r =")


def idle_figure(curve: Sequence[CurvePoint]) -> Figure:
    """Return the idle shares of both sides over the ratio, simulated."""
    ratios = [point.attention_workers for point in curve]
    layers = []
    sides: tuple[tuple[str, Role, int], ...] = (("attention", "attention", 0), ("FFN", "ffn", 1))
    for side, role, k in sides:
        steady = [100 * point.stationary_idle[k] for point in curve]
        fresh = [100 * point.fresh_idle[k] for point in curve]
        layers += [
            layer(
                "line",
                name=f"{side} idle, steady",
                role=role,
                x=ratios,
                y=steady,
                words=[f"{value:.1f} %" for value in steady],
            ),
            layer(
                "dot",
                name=f"{side} idle, fresh start",
                role=role,
                x=ratios,
                y=fresh,
                words=[f"{value:.1f} %" for value in fresh],
            ),
        ]
    return single(
        "paper-idle",
        "Idle shares of both sides over the ratio",
        "Simulated. Where the lines cross, both sides wait equally.",
        x=_ratio_axis(),
        y=Axis(label="share of the time [%]", from_zero=True),
        layers=layers,
    )


def system_figure(systems: Sequence[PublishedSystem]) -> Figure:
    """Return measured step times beside the model's, one row per measured design."""
    points = [
        (f"{system.title}, {point.ratio}", point) for system in systems for point in system.points
    ]
    names = tuple(name for name, _ in points)
    layers = [
        layer(
            "rect",
            name="measured",
            role="neutral",
            y=names,
            x1=[0.0] * len(points),
            x2=[1e3 * point.measured for _, point in points],
            fill=["tint"] * len(points),
            words=[f"{name}: measured {1e3 * point.measured:.2f} ms" for name, point in points],
        )
    ]
    kinds: tuple[tuple[str, Role, bool], ...] = (
        ("model, calibrated on this point", "third", True),
        ("model, predicted", "main", False),
    )
    for kind, role, is_calibration in kinds:
        own = [(name, point) for name, point in points if point.is_calibration is is_calibration]
        if not own:
            continue
        layers.append(
            layer(
                "dot",
                name=kind,
                role=role,
                y=[name for name, _ in own],
                x=[1e3 * point.predicted for _, point in own],
                words=[
                    f"{name}: {kind}\n{1e3 * point.predicted:.2f} ms, measured "
                    f"{1e3 * point.measured:.2f} ms: {100 * point.error:+.2f} %"
                    for name, point in own
                ],
            )
        )
    return single(
        "systems",
        "Step time of measured systems",
        "Bars are measured; a dot at the end of its bar is a model that agrees. "
        "Triangles are points that the model was given, circles are predictions.",
        x=Axis(label="step time [ms]", from_zero=True),
        y=Axis(label="", scale="category", limits=names),
        layers=layers,
        height=90 + 34 * len(points),
    )
