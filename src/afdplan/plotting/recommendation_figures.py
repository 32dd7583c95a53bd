"""What does a report page show of recommendations: what they cost and what they promise?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from afdplan.plotting.figure import Axis, Figure, Layer, layer, single
from afdplan.validation.bands import REGRET
from afdplan.validation.regret import BASELINES, RECOMMENDED, RatioResult, Recommendation

__all__ = ["promise_figure", "regret_figure"]


def regret_figure(ratios: Sequence[RatioResult]) -> Figure:
    """Return the throughput given up by following each method, over all cases."""

    def words(result: RatioResult, pick: Recommendation) -> str:
        return (
            f"{pick.method}, {result.name}: A = {pick.attention_workers}, best simulated "
            f"{result.best_attention_workers}; gives up {100 * pick.regret:.1f} %"
        )

    limit = f"{100 * REGRET:.1f} %: declared for {RECOMMENDED}"
    return _by_method(
        "regret",
        "Throughput given up by following each method",
        "Each dot is a case: what the recommended number of attention workers loses against the "
        "best simulated one. The bar ends at the worst case, its hatched part at the median.",
        ratios,
        lambda pick: pick.regret,
        words,
        label="regret [% of the best throughput]",
        rule=layer("rule_x", role="latency", x=[100 * REGRET], text=[limit]),
    )


def promise_figure(ratios: Sequence[RatioResult]) -> Figure:
    """Return how far the throughput that each method expects is from the delivered one."""

    def words(result: RatioResult, pick: Recommendation) -> str:
        return (
            f"{pick.method}, {result.name}: promises {100 * pick.promise_error:+.1f} % of what "
            f"A = {pick.attention_workers} delivers"
        )

    return _by_method(
        "promise",
        "Throughput promised, against delivered",
        "Each dot is a case: right of zero, a method expects more than its own recommendation "
        "delivers in simulation. The bar holds all cases, its hatched part ends at the median.",
        ratios,
        lambda pick: pick.promise_error,
        words,
        label="promised over delivered - 1 [%]",
        rule=layer("rule_x", x=[0]),
    )


def _by_method(
    identifier: str,
    title: str,
    caption: str,
    ratios: Sequence[RatioResult],
    value: Callable[[Recommendation], float],
    words: Callable[[RatioResult, Recommendation], str],
    *,
    label: str,
    rule: Layer,
) -> Figure:
    names = list(BASELINES)
    values = {name: [100 * value(result.of(name)) for result in ratios] for name in names}
    worst = [max(values[name], key=abs) for name in names]
    low = [min(0.0, *values[name]) for name in names]
    high = [max(0.0, *values[name]) for name in names]
    middle = [median(values[name]) for name in names]
    told = [
        f"{name}: {BASELINES[name]}\nmedian {mid:+.1f} %, worst {end:+.1f} % of {len(ratios)} cases"
        for name, mid, end in zip(names, middle, worst, strict=True)
    ]
    bars = [
        layer(
            "rect",
            name=name,
            role="second",
            y=names,
            x1=starts,
            x2=ends,
            fill=[fill] * len(names),
            words=told,
        )
        for name, starts, ends, fill in (
            ("all cases", low, high, "tint"),
            ("to the median", [0.0] * len(names), middle, "hatch"),
        )
    ]
    dots = layer(
        "dot",
        name="a case",
        role="latency",
        y=[name for name in names for _ in ratios],
        x=[x for name in names for x in values[name]],
        words=[words(result, result.of(name)) for name in names for result in ratios],
    )
    reach = max(high) - min(low)
    return single(
        identifier,
        title,
        caption,
        x=Axis(label=label, includes=(min(low) - 0.02 * reach, max(high) + 0.02 * reach)),
        y=Axis(label="", scale="category", limits=tuple(names)),
        layers=[*bars, rule, dots],
        height=90 + 42 * len(names),
    )
