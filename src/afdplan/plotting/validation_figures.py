"""What does a report page show of the verdict: declared bands, and the order of traces?"""

from __future__ import annotations

from collections.abc import Sequence

from afdplan.plotting.figure import Axis, Figure, Role, layer, single
from afdplan.validation.bands import SYNCHRONOUS, BandCheck, Limits
from afdplan.validation.traces import TraceResult

__all__ = ["band_figure", "order_figure"]


def band_figure(checks: Sequence[BandCheck], sentences: Sequence[str]) -> Figure:
    """Return how much of each declared limit is used.

    Parameters
    ----------
    checks
        The bands.
    sentences
        What is told of each.
    """
    used = [check.worst / check.limit for check in checks]
    layers = []
    for name, holds in (("holds", True), ("broken", False)):
        rows = [k for k, check in enumerate(checks) if check.holds is holds]
        if not rows:
            continue
        layers.append(
            layer(
                "rect",
                name=name,
                role="third" if holds else "best",
                y=[checks[k].band for k in rows],
                x1=[0.0] * len(rows),
                x2=[used[k] for k in rows],
                fill=["solid" if holds else "hatch"] * len(rows),
                words=[f"{used[k]:.2f} of the limit\n{sentences[k]}" for k in rows],
            )
        )
    layers.append(layer("rule_x", role="best", x=[1], text=["limit"]))
    return single(
        "bands",
        "How much of each declared limit is used",
        "The worst case of each band over its limit: a bar that reaches 1 breaks it.",
        x=Axis(label="share of the limit", limits=(0.0, max(1.15, 1.05 * max(used)))),
        y=Axis(label="", scale="category", limits=tuple(check.band for check in checks)),
        layers=layers,
        height=90 + 44 * len(checks),
    )


def order_figure(traces: Sequence[TraceResult], limits: Limits = SYNCHRONOUS) -> Figure:
    """Return the error of E[tau] on each trace, resampled and replayed in its order."""
    band = 100 * limits.cycle_time
    slow = [100 * _against(trace, trace.replay_cycle_time.high) for trace in traces]
    fast = [100 * _against(trace, trace.replay_cycle_time.low) for trace in traces]
    pad = 0.03 * (max(fast) - min(slow))
    layers = [
        layer(
            "range",
            name=f"{band:.0f} %, for the eye",
            role="latency",
            low=[-band],
            high=[band],
        ),
        layer("rule_x", role="neutral", x=[0]),
        layer(
            "span",
            name="interval of the replay",
            role="neutral",
            y=[trace.file for trace in traces],
            low=slow,
            high=fast,
        ),
        layer(
            "dot",
            name="resampled",
            role="main",
            y=[trace.file for trace in traces],
            x=[100 * trace.cells[0].error for trace in traces],
            words=[
                f"{trace.file}, resampled: {100 * trace.cells[0].error:+.2f} %\n"
                f"simulated to +- {100 * trace.cells[0].half_width:.2f} %"
                for trace in traces
            ],
        ),
    ]
    kinds: tuple[tuple[str, Role, bool], ...] = (
        ("replayed in order", "second", False),
        ("replayed, but too short to tell", "third", True),
    )
    for name, role, is_too_short in kinds:
        own = [trace for trace in traces if trace.is_too_short is is_too_short]
        if not own:
            continue
        layers.append(
            layer(
                "dot",
                name=name,
                role=role,
                y=[trace.file for trace in own],
                x=[100 * trace.replay_error for trace in own],
                words=[
                    f"{trace.file}, {name}: {100 * trace.replay_error:+.2f} %\n"
                    f"{trace.requests:,} requests fill all slots {trace.fills:,.0f} times"
                    for trace in own
                ],
            )
        )
    return single(
        "order",
        "The order of a trace: resampled and replayed",
        "Theory over simulation - 1 of E[tau]. Resampled requests are independent draws; "
        "a replay keeps their order, and its distance is what drift costs. No band is declared "
        "for it.",
        x=Axis(label="error of E[tau] [%]", includes=(min(slow) - pad, max(fast) + pad)),
        y=Axis(label="", scale="category", limits=tuple(trace.file for trace in traces)),
        layers=layers,
        height=90 + 30 * len(traces),
    )


def _against(trace: TraceResult, replayed: float) -> float:
    """Return the error of the theory if the replay had given `replayed`."""
    return (1 + trace.replay_error) * trace.replay_cycle_time.value / replayed - 1
