"""What does a report page show of simulated bundles: throughput, lost time, pipeline?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from afdplan.model.latency import TimeUnit
from afdplan.plotting.figure import Axis, Figure, Role, layer, single
from afdplan.plotting.ratio_figures import cost_unit
from afdplan.simulation.result import SimulationResult, best_of
from afdplan.theory.ratio import RatioPoint

__all__ = [
    "ATTENTION_WORKERS",
    "causes_figure",
    "simulation_figures",
    "throughput_figure",
]

ATTENTION_WORKERS = "attention workers A"
CAUSES: dict[str, tuple[Role, str]] = {
    "barrier": ("best", "hatch"),
    "departure": ("best", "hatch"),
    "other side": ("neutral", "cross"),
    "transfer": ("communication", "dots"),
    "step overhead": ("latency", "hatch"),
    "empty bundle": ("neutral", "hatch"),
}


def throughput_figure(
    results: Sequence[SimulationResult], theory: Sequence[RatioPoint], unit: TimeUnit
) -> Figure:
    """Return simulated throughput with its intervals over A, beside the exact theory.

    Parameters
    ----------
    results
        Simulated bundles that differ in A.
    theory
        Points of the exact curve; empty where it does not apply.
    unit
        Of time.
    """
    per = "s" if unit == "s" else "time unit"
    workers = [result.scenario.bundle.attention_workers for result in results]
    found = [result.objective for result in results]
    cost = cost_unit(results[0].scenario.latency, results[0].scenario.ffn_weight)
    curve = [_objective(point, results[0]) for point in theory]
    best = best_of(results)
    confidence = 100 * results[0].scenario.confidence
    layers = []
    if theory:
        layers.append(
            layer(
                "line",
                name="exact theory",
                role="second",
                x=[point.attention_workers for point in theory],
                y=curve,
                words=[f"{value:,.5g}" for value in curve],
            )
        )
    layers += [
        layer(
            "interval",
            name=f"{confidence:.4g} % interval",
            x=workers,
            low=[estimate.low for estimate in found],
            high=[estimate.high for estimate in found],
        ),
        layer(
            "dot",
            name="simulated",
            x=workers,
            y=[estimate.value for estimate in found],
            words=[
                f"{estimate.value:,.5g} ({estimate.low:,.5g} to {estimate.high:,.5g}) tokens "
                f"per {per} and {cost}"
                for estimate in found
            ],
        ),
    ]
    if len(results) > 1:
        at = best.scenario.bundle.attention_workers
        layers.append(
            layer(
                "point",
                name="best simulated",
                role="best",
                x=[at],
                y=[best.objective.value],
                text=[f"A = {at}"],
            )
        )
    highest = max(estimate.high for estimate in found)
    highest = max([highest, *curve])
    return single(
        "throughput",
        f"Throughput per {cost} over the number of attention workers",
        "Simulated bundles with their intervals"
        + ("; the line is the exact theory, which never saw them." if theory else "."),
        x=Axis(label="attention workers A of one bundle", head="A ="),
        y=Axis(label=f"tokens per {per} and {cost}", limits=(0.0, 1.15 * highest)),
        layers=layers,
        height=340,
    )


def _objective(point: RatioPoint, like: SimulationResult) -> float:
    """Return tokens per time and cost of a point of theory, whatever its curve was made for."""
    a, f = point.attention_workers, like.scenario.bundle.ffn_workers
    return point.throughput_per_instance * (a + f) / (a + like.scenario.ffn_weight * f)


def simulation_figures(results: Sequence[SimulationResult]) -> list[Figure]:
    """Return the picture of simulated bundles: what they deliver, and where the time goes.

    Parameters
    ----------
    results
        At least one; only several have a curve of throughput.
    """
    unit = results[0].scenario.latency.time_unit
    curve = [throughput_figure(results, (), unit)] if len(results) > 1 else []
    return [*curve, causes_figure(results)]


def causes_figure(
    results: Sequence[SimulationResult], title: str = "Where the time goes"
) -> Figure:
    """Return busy and idle shares of both sides of each bundle, idle time by its cause."""
    rows: list[tuple[str, float, Mapping[str, float]]] = []
    for result in results:
        count = result.scenario.bundle.attention_workers
        rows += [
            (
                f"A = {count}: attention",
                result.attention_idle_fraction.value,
                result.attention_idle_causes,
            ),
            (f"A = {count}: FFN", result.ffn_idle_fraction.value, result.ffn_idle_causes),
        ]
    names = tuple(name for name, _, _ in rows)
    busy = [100 * (1 - idle) for _, idle, _ in rows]
    layers = [
        layer(
            "rect",
            name="busy",
            y=names,
            x1=[0.0] * len(rows),
            x2=busy,
            roles=["attention", "ffn"] * len(results),
            words=[f"{name} busy {share:.1f} %" for name, share in zip(names, busy, strict=True)],
        )
    ]
    reached = busy
    for cause, (role, fill) in CAUSES.items():
        parts = [100 * causes.get(cause, 0.0) for _, _, causes in rows]
        if max(parts) < 0.05:
            continue
        ends = [start + part for start, part in zip(reached, parts, strict=True)]
        layers.append(
            layer(
                "rect",
                name=f"idle: {cause}",
                role=role,
                y=names,
                x1=reached,
                x2=ends,
                fill=[fill] * len(rows),
                words=[
                    f"{name} idle, {cause}: {part:.1f} %"
                    for name, part in zip(names, parts, strict=True)
                ],
            )
        )
        reached = ends
    return single(
        "causes",
        title,
        "Work, then waiting by its cause: barrier is the slowest attention worker, other side is "
        "the FFN or attention.",
        x=Axis(label="share of the time [%]", limits=(0, 100)),
        y=Axis(label="", scale="category", limits=names),
        layers=layers,
        height=90 + 30 * len(rows),
    )
