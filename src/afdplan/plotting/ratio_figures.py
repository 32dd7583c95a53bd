"""What does a report page show of a ratio: curve, bottlenecks, time, sensitivity?"""

from __future__ import annotations

from collections.abc import Sequence

from afdplan.model.latency import TimeUnit
from afdplan.plotting.figure import Axis, Chart, Figure, Layer, Role
from afdplan.plotting.ratio_grid import RatioCase
from afdplan.plotting.ratio_sensitivity import CHANGE, CurveBand, RatioSensitivity
from afdplan.theory.cycle import Bottleneck
from afdplan.theory.problem import Method

__all__ = [
    "BATCH_SIZE",
    "METHODS",
    "METHOD_ROLES",
    "MICROBATCHES",
    "NAMES",
    "bottleneck_figure",
    "case_key",
    "curve_figure",
    "sensitivity_figure",
    "time_figure",
]

BATCH_SIZE, MICROBATCHES = "batch size B", "microbatches m"
LETTERS: dict[Bottleneck, str] = {
    "attention": "A",
    "communication": "C",
    "ffn": "F",
    "latency": "L",
}
NAMES: dict[Bottleneck, str] = {
    "attention": "attention",
    "communication": "communication",
    "ffn": "FFN",
    "latency": "latency",
}
BINDING: dict[Bottleneck, str] = {
    "attention": "A attention: the slowest worker",
    "communication": "C communication: the slower transfer",
    "ffn": "F FFN",
    "latency": "L latency: the round trip",
}
METHODS: dict[Method, str] = {
    "exact": "exact barrier",
    "gaussian": "Gaussian barrier",
    "mean-field": "mean field, no barrier",
}
METHOD_ROLES: dict[Method, Role] = {"exact": "main", "gaussian": "third", "mean-field": "second"}
WORKERS_LABEL = "attention workers A of one bundle"


def case_key(case: RatioCase) -> str:
    """Return the key of a case's charts."""
    return f"{case.batch_size}|{case.microbatches}"


def _rate(value: float, unit: TimeUnit) -> str:
    return f"{value:,.4g} tokens per {'s' if unit == 's' else 'time unit'} and cost"


def curve_figure(
    cases: Sequence[RatioCase],
    asked: tuple[int, int],
    bands: Sequence[CurveBand],
    *,
    method: Method,
    unit: TimeUnit,
) -> Figure:
    """Return tokens per time and cost over A, with intervals, methods and the best point.

    Parameters
    ----------
    cases
        One per batch size and number of microbatches.
    asked
        B and m that were asked for: its chart has the bands.
    bands
        Intervals at the points of that case.
    method, unit
        What the cases were computed with.
    """
    charts = {}
    for case in cases:
        has_bands = (case.batch_size, case.microbatches) == asked
        charts[case_key(case)] = _curve(case, bands if has_bands else (), method, unit)
    return Figure(
        identifier="curve",
        title="Throughput per cost over the number of attention workers",
        caption="Shaded: numbers of workers within 1 % of the best. The star is the best."
        + (" Bands are 95 % intervals of the batch that was asked for." if bands else ""),
        choices=(BATCH_SIZE, MICROBATCHES),
        charts=charts,
    )


def _curve(case: RatioCase, bands: Sequence[CurveBand], method: Method, unit: TimeUnit) -> Chart:
    workers = [point.attention_workers for point in case.points]
    low, high = case.near_equal
    layers = [
        Layer(
            kind="range",
            name="within 1 % of the best",
            role="neutral",
            columns={"low": [low - 0.5], "high": [high + 0.5]},
        )
    ]
    colours: tuple[Role, ...] = ("main", "latency")
    for role, band in zip(colours, bands, strict=False):
        layers.append(
            Layer(
                kind="band",
                name=band.cause,
                role=role,
                columns={"x": workers, "low": band.low, "high": band.high},
                words=[
                    f"{lower:,.4g} to {upper:,.4g}"
                    for lower, upper in zip(band.low, band.high, strict=True)
                ],
            )
        )
    for other, objective in case.other_methods.items():
        layers.append(
            Layer(
                kind="line",
                name=METHODS[other],
                role=METHOD_ROLES[other],
                columns={"x": workers, "y": objective},
                words=[f"{value:,.4g}" for value in objective],
                is_shown=other == "mean-field",
            )
        )
    layers.append(
        Layer(
            kind="line",
            name=METHODS[method],
            role=METHOD_ROLES[method],
            columns={"x": workers, "y": [point.objective for point in case.points]},
            words=[
                f"{_rate(point.objective, unit)}, {100 * point.regret:.1f} % below the best"
                for point in case.points
            ],
        )
    )
    layers.append(
        Layer(
            kind="point",
            name="best",
            role="best",
            columns={
                "x": [case.best.attention_workers],
                "y": [case.best.objective],
                "text": [f"A = {case.best.attention_workers}"],
            },
        )
    )
    per = "s" if unit == "s" else "time unit"
    highest = [case.best.objective, *(max(band.high) for band in bands)]
    top = 1.15 * max(*highest, *(max(line) for line in case.other_methods.values()), 0.0)
    return Chart(
        x=Axis(label=WORKERS_LABEL, head="A ="),
        y=Axis(label=f"tokens per {per} and cost", limits=(0.0, top)),
        layers=layers,
        height=360,
    )


def bottleneck_figure(cases: Sequence[RatioCase], unit: TimeUnit) -> Figure:
    """Return which resource binds over A and batch size, one map per number of microbatches.

    Parameters
    ----------
    cases
        One per batch size and number of microbatches.
    unit
        Of their times.
    """
    charts = {}
    for microbatches in sorted({case.microbatches for case in cases}):
        rows = [case for case in cases if case.microbatches == microbatches]
        charts[str(microbatches)] = _map(rows, unit)
    return Figure(
        identifier="bottleneck",
        title="Which resource binds over attention workers and batch size",
        caption="Letters name what takes longest: A attention, C communication, F FFN, "
        "L latency of the round trip. Framed: the best A of each batch size.",
        choices=(MICROBATCHES,),
        charts=charts,
    )


def _map(rows: Sequence[RatioCase], unit: TimeUnit) -> Chart:
    cells: dict[Bottleneck, list[tuple[str, str, str]]] = {}
    best: list[tuple[str, str, str]] = []
    for case in rows:
        nearest = min(case.map_workers, key=lambda count: abs(count - case.best.attention_workers))
        for count, name, times in zip(
            case.map_workers, case.binding, case.resource_times, strict=True
        ):
            parts = ", ".join(
                f"{NAMES[part]} {_time(value, unit)}" for part, value in times.items()
            )
            words = f"A = {count}, B = {case.batch_size}: {NAMES[name]} binds\n{parts}"
            mine = cells.setdefault(name, [])
            mine.append((str(count), str(case.batch_size), words))
            if count == nearest:
                best.append((str(count), str(case.batch_size), LETTERS[name]))
    layers = [
        Layer(
            kind="rect",
            name=BINDING[name],
            role=name,
            columns={
                "x": [cell[0] for cell in cells[name]],
                "y": [cell[1] for cell in cells[name]],
                "fill": ["tint"] * len(cells[name]),
                "text": [LETTERS[name]] * len(cells[name]),
            },
            words=[cell[2] for cell in cells[name]],
        )
        for name in BINDING
        if name in cells
    ]
    layers.append(
        Layer(
            kind="rect",
            role="best",
            columns={
                "x": [cell[0] for cell in best],
                "y": [cell[1] for cell in best],
                "fill": ["frame"] * len(best),
            },
        )
    )
    sizes = sorted({case.batch_size for case in rows}, reverse=True)
    return Chart(
        x=Axis(
            label=WORKERS_LABEL,
            scale="category",
            limits=tuple(str(count) for count in rows[0].map_workers),
        ),
        y=Axis(label="batch size B", scale="category", limits=tuple(str(size) for size in sizes)),
        layers=layers,
        height=90 + 34 * len(sizes),
    )


def _time(value: float, unit: TimeUnit) -> str:
    if unit == "abstract":
        return f"{value:.4g}"
    return f"{1e6 * value:,.4g} us" if value < 1e-3 else f"{1e3 * value:,.4g} ms"


def time_figure(cases: Sequence[RatioCase]) -> Figure:
    """Return busy and idle shares of both sides over A, stacked to 100 %."""
    return Figure(
        identifier="time",
        title="Where the time goes",
        caption="Above the line the attention workers, below it the FFN workers: solid is work, "
        "hatched is waiting. Both hatched parts are paid for.",
        choices=(BATCH_SIZE, MICROBATCHES),
        charts={case_key(case): _times(case) for case in cases},
    )


def _times(case: RatioCase) -> Chart:
    shown = [str(point.attention_workers) for point in case.points]
    layers = []
    sides: tuple[tuple[Role, str, int], ...] = (("attention", "attention", 1), ("ffn", "FFN", -1))
    for role, side, sign in sides:
        idle = [
            point.attention_idle_fraction if role == "attention" else point.ffn_idle_fraction
            for point in case.points
        ]
        busy = [100 * sign * (1 - fraction) for fraction in idle]
        words = [
            f"A = {count}: {side} busy {100 * (1 - fraction):.1f} %, idle {100 * fraction:.1f} %"
            for count, fraction in zip(shown, idle, strict=True)
        ]
        zeros, ends = [0.0] * len(shown), [100.0 * sign] * len(shown)
        for name, start, end, fill in (
            (f"{side} busy", zeros, busy, "solid"),
            (f"{side} idle", busy, ends, "hatch"),
        ):
            layers.append(
                Layer(
                    kind="rect",
                    name=name,
                    role=role,
                    columns={"x": shown, "y1": start, "y2": end, "fill": [fill] * len(shown)},
                    words=words,
                )
            )
    layers.append(
        Layer(
            kind="rule_x",
            role="best",
            columns={"x": [str(case.best.attention_workers)], "text": ["best"]},
        )
    )
    layers.append(Layer(kind="rule_y", role="main", columns={"y": [0]}))
    return Chart(
        x=Axis(label=WORKERS_LABEL, scale="category", limits=tuple(shown)),
        y=Axis(label="attention [%], FFN mirrored below", limits=(-100, 100)),
        layers=layers,
        height=340,
    )


def sensitivity_figure(entries: Sequence[RatioSensitivity]) -> Figure:
    """Return how the recommended bundle's throughput answers to 20 % of every input."""
    names = tuple(entry.input for entry in entries)
    change = f"{100 * CHANGE:.0f} %"
    layers = []
    sides: tuple[tuple[int, Role, str], ...] = ((0, "third", "solid"), (1, "second", "hatch"))
    for side, role, fill in sides:
        word = ("less", "more")[side]
        layers.append(
            Layer(
                kind="rect",
                name=f"{change} {word}",
                role=role,
                columns={
                    "y": names,
                    "x1": [0.0] * len(names),
                    "x2": [100 * entry.objective_change[side] for entry in entries],
                    "fill": [fill] * len(names),
                },
                words=[
                    f"{change} {word} {entry.input}: throughput "
                    f"{100 * entry.objective_change[side]:+.1f} %; the best A would be "
                    f"{entry.best[side]}, keeping the recommended one gives up "
                    f"{100 * entry.regret[side]:.1f} %"
                    for entry in entries
                ],
            )
        )
    layers.append(Layer(kind="rule_x", role="main", columns={"x": [0]}))
    return Figure(
        identifier="sensitivity",
        title="What if an input were wrong",
        caption=f"Change of the recommended bundle's throughput for {change} less or more of "
        "one input.",
        charts={
            "": Chart(
                x=Axis(label="change of throughput [%]"),
                y=Axis(label="", scale="category", limits=names),
                layers=layers,
                height=100 + 46 * len(names),
            )
        },
    )
