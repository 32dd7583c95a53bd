"""What does a report page show of a ratio: curve, time, sensitivity?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel, TimeUnit
from afdplan.planning.ratio_grid import RatioCase, asked_case
from afdplan.planning.ratio_sensitivity import CHANGE, CurveBand, RatioSensitivity, played_band
from afdplan.plotting.figure import Axis, Chart, Figure, Role, layer, single
from afdplan.theory.layer_cycle import Bottleneck
from afdplan.theory.problem import Method, RatioProblem
from afdplan.theory.ratio import RatioRecommendation, RatioUncertainty

if TYPE_CHECKING:  # it plays bundles, and the compiler is slow to import
    from afdplan.planning.ratio_around import RatioAround

__all__ = [
    "BATCH_SIZE",
    "METHODS",
    "METHOD_ROLES",
    "MICROBATCHES",
    "NAMES",
    "WORKERS_LABEL",
    "BatchCase",
    "asked_figures",
    "case_key",
    "cost_formula",
    "cost_unit",
    "curve_figure",
    "sensitivity_figure",
    "short_time",
    "time_figure",
]

BATCH_SIZE, MICROBATCHES = "batch size B", "microbatches m"
NAMES: dict[Bottleneck, str] = {
    "attention": "attention",
    "communication": "communication",
    "ffn": "FFN",
    "latency": "latency",
}
METHODS: dict[Method, str] = {
    "exact": "exact barrier",
    "gaussian": "Gaussian barrier",
    "mean-field": "mean field, no barrier",
}
PLAYED = "simulated"
METHOD_ROLES: dict[Method, Role] = {"exact": "main", "gaussian": "third", "mean-field": "second"}
WORKERS_LABEL = "attention workers A of one bundle"


class BatchCase(Protocol):
    """What is told for a batch size and a number of microbatches."""

    @property
    def batch_size(self) -> int:
        """Requests per microbatch and attention worker."""

    @property
    def microbatches(self) -> int:
        """Microbatches in flight."""


def case_key(case: BatchCase) -> str:
    """Return the key of a case's charts."""
    return f"{case.batch_size}|{case.microbatches}"


def cost_formula(ffn_weight: float) -> str:
    """Return the cost of a bundle as people write it.

    Examples
    --------
    >>> cost_formula(1.0), cost_formula(8.0)
    ('A + F', 'A + 8 F')
    """
    return "A + F" if ffn_weight == 1 else f"A + {ffn_weight:.4g} F"


def cost_unit(latency: LatencyModel, ffn_weight: float) -> str:
    """Return what tokens per time are divided by, as people say it.

    Examples
    --------
    >>> from afdplan.model.latency import LatencyModel
    >>> named = LatencyModel.linear(
    ...     attention=(1, 2), ffn=(3, 4), attention_devices=1, ffn_devices=8)
    >>> cost_unit(named, 8.0), cost_unit(named, 1.0), cost_unit(named, 2.5)
    ('device', 'worker', 'unit of A + 2.5 F')
    """
    devices = latency.attention_devices
    if devices is not None and ffn_weight == latency.ffn_weight:
        return "device" if devices == 1 else f"{devices} devices"
    return "worker" if ffn_weight == 1 else f"unit of {cost_formula(ffn_weight)}"


def _rate(value: float, unit: TimeUnit, per: str) -> str:
    return f"{value:,.4g} tokens per {'s' if unit == 's' else 'time unit'} and {per}"


def asked_figures(
    answer: RatioRecommendation,
    problem: RatioProblem,
    around: RatioAround | None,
    objectives: dict[int, Estimate] | None = None,
) -> tuple[Figure, ...]:
    """Return the curve and the time of what was asked, as its page shows them at first.

    Parameters
    ----------
    answer, problem
        What was recommended, for which question.
    around
        What stands around it; the curve has no other methods and no bands without.
    objectives
        With intervals, where the answer was played.
    """
    case = asked_case(answer, objectives)
    bands: tuple[CurveBand, ...] = () if objectives is None else (played_band(objectives),)
    if around is not None:
        bands, mine = around.bands, case_key(case)
        case = next(other for other in around.cases if case_key(other) == mine)
    return (curve_figure((case,), problem, bands, known=answer.uncertainty), time_figure((case,)))


def curve_figure(
    cases: Sequence[RatioCase],
    problem: RatioProblem,
    bands: Sequence[CurveBand] = (),
    *,
    known: RatioUncertainty | None = None,
) -> Figure:
    """Return tokens per time and cost over A, with intervals, methods and the best point.

    Parameters
    ----------
    cases
        One per batch size and number of microbatches.
    problem
        What was asked for: the chart of its case has the bands.
    bands
        Intervals of that case.
    known
        How well that case's best A is known.
    """
    charts = {}
    for case in cases:
        is_asked = (case.batch_size, case.microbatches) == (
            problem.batch_size,
            problem.microbatches,
        )
        charts[case_key(case)] = _curve(
            case, problem, bands if is_asked else (), known if is_asked else None
        )
    return Figure(
        identifier="curve",
        title=f"Throughput per {cost_unit(problem.latency, problem.ffn_weight)} over the number "
        "of attention workers",
        caption="Shaded: numbers of workers within 1 % of the best. The star is the best."
        + (" Bands are 95 % intervals of the batch that was asked for." if bands else ""),
        choices=(BATCH_SIZE, MICROBATCHES),
        charts=charts,
    )


def _curve(
    case: RatioCase,
    problem: RatioProblem,
    bands: Sequence[CurveBand],
    known: RatioUncertainty | None,
) -> Chart:
    method, unit = problem.method, problem.latency.time_unit
    workers = [point.attention_workers for point in case.points]
    low, high = case.near_equal
    cost = cost_unit(problem.latency, problem.ffn_weight)
    layers = [
        layer(
            "range",
            name="within 1 % of the best",
            role="neutral",
            low=[low - 0.5],
            high=[high + 0.5],
        )
    ]
    colours: tuple[Role, ...] = ("main", "latency")
    for role, band in zip(colours, bands, strict=False):
        layers.append(
            layer(
                "band",
                name=band.cause,
                role=role,
                x=band.attention_workers,
                low=band.low,
                high=band.high,
                words=[
                    f"{lower:,.4g} to {upper:,.4g}"
                    for lower, upper in zip(band.low, band.high, strict=True)
                ],
            )
        )
    for other, objective in case.other_methods.items():
        layers.append(
            layer(
                "line",
                name=METHODS[other],
                # The play is drawn as the asked method is, so the law it is held against is not.
                role="third" if case.objectives is not None else METHOD_ROLES[other],
                x=workers,
                y=objective,
                words=[f"{value:,.4g}" for value in objective],
                is_shown=other == "mean-field",
            )
        )
    layers.append(
        layer(
            "line",
            name=METHODS[method] if case.objectives is None else PLAYED,
            role=METHOD_ROLES[method],
            x=workers,
            y=[point.objective for point in case.points],
            words=[
                f"{_rate(point.objective, unit, cost)}, {100 * point.regret:.1f} % below the best"
                for point in case.points
            ],
        )
    )
    if known is not None and known.low < known.high:
        layers.append(
            layer(
                "span",
                name="best A for the token load's interval",
                role="best",
                y=[case.best.objective],
                low=[known.low],
                high=[known.high],
            )
        )
    layers.append(
        layer(
            "point",
            name="best",
            role="best",
            x=[case.best.attention_workers],
            y=[case.best.objective],
            text=[f"A = {case.best.attention_workers}"],
        )
    )
    per = "s" if unit == "s" else "time unit"
    highest = [case.best.objective, *(max(band.high) for band in bands)]
    top = 1.15 * max(*highest, *(max(line) for line in case.other_methods.values()), 0.0)
    return Chart(
        x=Axis(label=WORKERS_LABEL, head="A ="),
        y=Axis(label=f"tokens per {per} and {cost}", limits=(0.0, top)),
        layers=layers,
        height=360,
    )


def short_time(value: float, unit: TimeUnit) -> str:
    """Return a time of one layer for a tip [us or ms]; abstract times have no unit to tell."""
    if unit == "abstract":
        return f"{value:.4g}"
    return f"{1e6 * value:,.4g} µs" if value < 1e-3 else f"{1e3 * value:,.4g} ms"


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
                layer(
                    "rect",
                    name=name,
                    role=role,
                    x=shown,
                    y1=start,
                    y2=end,
                    fill=[fill] * len(shown),
                    words=words,
                )
            )
    layers.append(layer("rule_x", role="best", x=[str(case.best.attention_workers)], text=["best"]))
    layers.append(layer("rule_y", role="main", y=[0]))
    return Chart(
        x=Axis(label=WORKERS_LABEL, scale="category", limits=tuple(shown)),
        y=Axis(label="attention [%], FFN mirrored below", limits=(-100, 100), is_mirrored=True),
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
            layer(
                "rect",
                name=f"{change} {word}",
                role=role,
                y=names,
                x1=[0.0] * len(names),
                x2=[100 * entry.objective_change[side] for entry in entries],
                fill=[fill] * len(names),
                words=[
                    f"{change} {word} {entry.input}: throughput "
                    f"{100 * entry.objective_change[side]:+.1f} %; the best A would be "
                    f"{entry.best[side]}, keeping the recommended one gives up "
                    f"{100 * entry.regret[side]:.1f} %"
                    for entry in entries
                ],
            )
        )
    layers.append(layer("rule_x", role="main", x=[0]))
    return single(
        "sensitivity",
        "What if an input were wrong",
        f"Change of the recommended bundle's throughput for {change} less or more of one input.",
        x=Axis(label="change of throughput [%]"),
        y=Axis(label="", scale="category", limits=names),
        layers=layers,
        height=100 + 46 * len(names),
    )
