"""What does a report page show of simulated bundles: throughput, lost time, pipeline?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from afdplan.model.latency import TimeUnit
from afdplan.plotting.figure import Axis, Chart, Figure, Layer, Role
from afdplan.plotting.timeline import TimelineData
from afdplan.simulation.result import SimulationResult
from afdplan.theory.ratio import RatioPoint

__all__ = ["ATTENTION_WORKERS", "causes_figure", "pipeline_figure", "throughput_figure"]

ATTENTION_WORKERS = "attention workers A"
ROUNDS_SHOWN = 6
FILLS = ("solid", "hatch", "cross", "dots")
MICROBATCH_ROLES: tuple[Role, ...] = ("main", "second", "third", "latency")
CAUSES: dict[str, tuple[Role, str]] = {
    "barrier": ("best", "hatch"),
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
    found = [result.throughput_per_instance for result in results]
    best = max(results, key=lambda result: result.throughput_per_instance.value)
    confidence = 100 * results[0].scenario.confidence
    layers = []
    if theory:
        layers.append(
            Layer(
                kind="line",
                name="exact theory",
                role="second",
                columns={
                    "x": [point.attention_workers for point in theory],
                    "y": [point.throughput_per_instance for point in theory],
                },
                words=[f"{point.throughput_per_instance:,.5g}" for point in theory],
            )
        )
    layers += [
        Layer(
            kind="interval",
            name=f"{confidence:.4g} % interval",
            columns={
                "x": workers,
                "low": [estimate.low for estimate in found],
                "high": [estimate.high for estimate in found],
            },
        ),
        Layer(
            kind="dot",
            name="simulated",
            columns={"x": workers, "y": [estimate.value for estimate in found]},
            words=[
                f"{estimate.value:,.5g} ({estimate.low:,.5g} to {estimate.high:,.5g}) tokens "
                f"per {per} and instance"
                for estimate in found
            ],
        ),
    ]
    if len(results) > 1:
        at = best.scenario.bundle.attention_workers
        layers.append(
            Layer(
                kind="point",
                name="best simulated",
                role="best",
                columns={
                    "x": [at],
                    "y": [best.throughput_per_instance.value],
                    "text": [f"A = {at}"],
                },
            )
        )
    highest = max(estimate.high for estimate in found)
    highest = max([highest, *(point.throughput_per_instance for point in theory)])
    return Figure(
        identifier="throughput",
        title="Throughput per instance over the number of attention workers",
        caption="Simulated bundles with their intervals"
        + ("; the line is the exact theory, which never saw them." if theory else "."),
        charts={
            "": Chart(
                x=Axis(label="attention workers A of one bundle", head="A ="),
                y=Axis(label=f"tokens per {per} and instance", limits=(0.0, 1.15 * highest)),
                layers=layers,
                height=340,
            )
        },
    )


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
        Layer(
            kind="rect",
            name="busy",
            columns={
                "y": names,
                "x1": [0.0] * len(rows),
                "x2": busy,
                "role": ["attention", "ffn"] * len(results),
            },
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
            Layer(
                kind="rect",
                name=f"idle: {cause}",
                role=role,
                columns={"y": names, "x1": reached, "x2": ends, "fill": [fill] * len(rows)},
                words=[
                    f"{name} idle, {cause}: {part:.1f} %"
                    for name, part in zip(names, parts, strict=True)
                ],
            )
        )
        reached = ends
    return Figure(
        identifier="causes",
        title=title,
        caption="Work, then waiting by its cause: barrier is the slowest attention worker, other "
        "side is the FFN or attention.",
        charts={
            "": Chart(
                x=Axis(label="share of the time [%]", limits=(0, 100)),
                y=Axis(label="", scale="category", limits=names),
                layers=layers,
                height=90 + 30 * len(rows),
            )
        },
    )


def pipeline_figure(data: TimelineData, title: str = "The pipeline, stage by stage") -> Figure:
    """Return who works on which microbatch during a few rounds.

    Parameters
    ----------
    data
        Rows and bars of a recorded timeline; what comes after six rounds is left out.
    """
    first_row = sorted(bar.start + bar.length for bar in data.bars if bar.row == 0)
    count = min(ROUNDS_SHOWN * data.microbatches, len(first_row))
    end = first_row[count - 1] if first_row else 0.0
    scale, unit = (1.0, "") if data.time_unit == "abstract" else (1e3, " ms")
    layers = []
    for microbatch in range(data.microbatches):
        bars = [bar for bar in data.bars if bar.microbatch == microbatch and bar.start < end]
        if not bars:
            continue
        layers.append(
            Layer(
                kind="rect",
                name=f"microbatch {microbatch + 1}",
                role=MICROBATCH_ROLES[microbatch % len(MICROBATCH_ROLES)],
                columns={
                    "y": [data.rows[bar.row] for bar in bars],
                    "x1": [scale * bar.start for bar in bars],
                    "x2": [scale * min(bar.start + bar.length, end) for bar in bars],
                    "fill": [FILLS[microbatch % len(FILLS)]] * len(bars),
                },
                words=[
                    f"{data.rows[bar.row]}: microbatch {microbatch + 1}, step {bar.label}, "
                    f"for {scale * bar.length:.4g}{unit}"
                    for bar in bars
                ],
            )
        )
    hidden = f" {data.hidden_workers} more attention workers are not shown." * bool(
        data.hidden_workers
    )
    return Figure(
        identifier="pipeline",
        title=title,
        caption="Each bar is one stage at work on one microbatch; gaps are idle time." + hidden,
        charts={
            "": Chart(
                x=Axis(label="time" + (" [ms]" if unit else " [abstract units]")),
                y=Axis(label="", scale="category", limits=data.rows),
                layers=layers,
                height=90 + 17 * len(data.rows),
            )
        },
    )
