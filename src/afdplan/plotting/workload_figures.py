"""What does a report page show of a workload: load of a slot, its parts, drift, lengths?"""

from __future__ import annotations

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.lengths.law import EmpiricalLengths, LengthLaw
from afdplan.model.estimate import Estimate
from afdplan.plotting.figure import Axis, Figure, Layer, layer, single
from afdplan.workload.drift import Drift
from afdplan.workload.report import LawReport, WorkloadReport
from afdplan.workload.split import TokenLoadSplit

__all__ = [
    "drift_figure",
    "drift_times",
    "joint_figure",
    "load_figure",
    "slot_figures",
    "split_figure",
    "workload_figures",
]

SHOWN_PROBABILITY = 0.995
"""Share of a slot's time that the histogram shows; the rest is a number in the caption."""
LOAD_BINS, LENGTH_BINS = 80, 40


def workload_figures(report: WorkloadReport | LawReport, law: LengthLaw) -> tuple[Figure, ...]:
    """Return the load of a slot and its parts; of a trace also its drift and its lengths."""
    load = report.token_load
    figures = [
        load_figure(law, load.value, known=load, shortcut=report.geometric.mean_token_load),
        split_figure(report.split),
    ]
    if isinstance(report, WorkloadReport):
        drift = drift_figure(report.drift, load)
        if drift is not None:
            figures.append(drift)
        if isinstance(law, EmpiricalLengths):
            figures.append(joint_figure(law, report.rank_correlation))
    return tuple(figures)


def slot_figures(law: LengthLaw, mean: float, report: WorkloadReport | None) -> tuple[Figure, ...]:
    """Return the load of a slot with its mean and, if there is a trace, how it drifts."""
    drift = None if report is None else drift_figure(report.drift, report.token_load)
    load = load_figure(law, mean)
    return (load,) if drift is None else (load, drift)


def load_figure(
    law: LengthLaw, mean: float, *, known: Estimate | None = None, shortcut: float | None = None
) -> Figure:
    """Return the law of the tokens that one slot holds, with its mean.

    Parameters
    ----------
    law
        Joint law of prompt and decode lengths.
    mean
        Mean token load [tokens].
    known
        The mean with its interval.
    shortcut
        What independent prompts and geometric outputs would give [tokens].
    """
    edges, probabilities, beyond = _load_bins(law)
    start, end, share = edges[:-1], edges[1:], 100 * probabilities
    layers = [
        layer(
            "rect",
            x1=start,
            x2=end,
            y1=np.zeros(share.size),
            y2=share,
            words=[
                f"{low:,.0f} to {high - 1:,.0f} tokens: {part:.2f} % of the time"
                for low, high, part in zip(start, end, share, strict=True)
            ],
        )
    ]
    if known is not None and known.low < known.high:
        layers.insert(
            0,
            layer(
                "range",
                name=f"its {100 * known.confidence:.4g} % interval",
                role="best",
                low=[known.low],
                high=[known.high],
            ),
        )
    text = f"mean {mean:,.0f}"
    layers.append(layer("rule_x", name=text, role="best", x=[mean], text=[text]))
    if shortcut is not None:
        name = f"geometric shortcut {shortcut:,.0f}"
        layers.append(layer("rule_x", name=name, role="second", x=[shortcut]))
    more = f" {100 * beyond:.1f} % of the time lies beyond the right end." * (beyond >= 0.0005)
    return single(
        "load",
        "Tokens that one occupied slot holds",
        "What attention has to read for one request, at a random moment." + more,
        x=Axis(label="KV tokens of a slot [tokens]"),
        y=Axis(label="share of the time [%]", from_zero=True),
        layers=layers,
    )


def _load_bins(law: LengthLaw) -> tuple[FloatArray, FloatArray, float]:
    """Return edges of equal, whole-token bins, the share of time in each, and that beyond."""
    slot = law.slot_load()
    reached = np.cumsum(slot.probabilities)
    shown = min(int(np.searchsorted(reached, SHOWN_PROBABILITY)) + 1, reached.size)
    width = max(-(-shown // LOAD_BINS), 1)
    count = -(-shown // width)
    kept = np.zeros(count * width)
    kept[: min(kept.size, reached.size)] = slot.probabilities[: kept.size]
    edges = slot.lowest + slot.spacing * width * np.arange(count + 1, dtype=np.float64)
    return (
        edges,
        kept.reshape(count, width).sum(axis=1),
        float(slot.probabilities[kept.size :].sum()),
    )


def split_figure(split: TokenLoadSplit) -> Figure:
    """Return where the mean token load comes from, term by term."""
    parts = {
        "mean prompt": split.prompt,
        "output so far": split.growth,
        "long outputs' prompts": split.dependence,
    }
    # A bar does not show which way it goes: its name carries the sign.
    names = (
        *(f"{name} {value:+,.0f}" for name, value in parts.items()),
        f"mean token load {split.total:,.0f}",
    )
    ends = np.cumsum(list(parts.values()))
    starts = np.concatenate(([0.0], ends[:-1]))
    told = (*parts, "mean token load")
    values = [*parts.values(), split.total]
    return single(
        "split",
        "Where the mean token load comes from",
        "mean P, then E[D^2]/(2 E[D]) - 1/2, then Cov(P, D)/E[D]; their sum is what a slot holds.",
        x=Axis(label="tokens"),
        y=Axis(label="", scale="category", limits=names),
        layers=[
            layer(
                "rect",
                y=names,
                x1=[*starts, 0.0],
                x2=[*ends, split.total],
                roles=["main", "second", "third", "neutral"],
                fill=["solid", "hatch", "cross", "solid"],
                words=[
                    f"{name}: {value:+,.1f} tokens, "
                    f"{100 * value / split.total if split.total else 0:.1f} %"
                    for name, value in zip(told, values, strict=True)
                ],
            ),
            layer("rule_x", role="neutral", x=[0]),
        ],
        height=230,
    )


def drift_times(drift: Drift) -> tuple[FloatArray, FloatArray, str]:
    """Return starts and ends of the windows in a unit of time that suits their span.

    The unit is ``s``, ``min``, ``h``, ``d`` or, where arrivals are not known, ``requests``.
    """
    span = drift.windows[-1].end - drift.windows[0].start if drift.windows else 0.0
    unit, seconds = "requests", 1.0
    if drift.by_time:
        units = [("s", 1.0), ("min", 60.0), ("h", 3600.0), ("d", 86400.0)]
        unit, seconds = next((u for u in reversed(units) if span >= 2 * u[1]), units[0])
    start, end = np.array([(window.start, window.end) for window in drift.windows]).T / seconds
    return start, end, unit


def drift_figure(drift: Drift, load: Estimate) -> Figure | None:
    """Return the mean token load by windows of the trace; None if there are none.

    Parameters
    ----------
    drift
        The windows.
    load
        Mean token load of the whole trace [tokens].
    """
    if not drift.windows:
        return None
    start, end, unit = drift_times(drift)
    middle, ends = (start + end) / 2, [start[0], end[-1]]
    loads = [window.token_load for window in drift.windows]
    words = [
        f"{w.token_load.value:,.0f} tokens ({w.token_load.low:,.0f} to {w.token_load.high:,.0f}), "
        f"{w.requests:,} requests"
        for w in drift.windows
    ]
    return single(
        "drift",
        "Mean token load over the trace",
        "Each window with its 95 % interval; the band is that of the whole trace.",
        x=Axis(
            label="request number"
            if unit == "requests"
            else f"time since the first arrival [{unit}]"
        ),
        y=Axis(label="mean token load [tokens]", from_zero=True),
        layers=[
            layer(
                "band",
                name="whole trace, interval",
                role="best",
                x=ends,
                low=[load.low, load.low],
                high=[load.high, load.high],
            ),
            layer("rule_y", name="whole trace, mean", role="best", y=[load.value]),
            layer(
                "interval",
                name="window, interval",
                x=middle,
                low=[own.low for own in loads],
                high=[own.high for own in loads],
            ),
            layer(
                "dot", name="window, mean", x=middle, y=[own.value for own in loads], words=words
            ),
        ],
    )


def joint_figure(law: EmpiricalLengths, rank_correlation: float) -> Figure:
    """Return how many requests have which prompt and output length, on logarithmic bins."""
    prompt = np.maximum(law.prompt_tokens, 1).astype(np.float64)  # none counts in the first bin
    decode = law.decode_tokens.astype(np.float64)
    prompt_edges, decode_edges = _log_edges(prompt), _log_edges(decode)
    table, _, _ = np.histogram2d(prompt, decode, bins=[prompt_edges, decode_edges])
    rows, columns = np.nonzero(table)
    counts = table[rows, columns]
    strength = np.log1p(counts) / np.log1p(counts.max())
    edges = {
        "x1": prompt_edges[rows],
        "x2": prompt_edges[rows + 1],
        "y1": decode_edges[columns],
        "y2": decode_edges[columns + 1],
    }
    words = [
        f"prompt {x1:,.0f} to {x2:,.0f}, output {y1:,.0f} to {y2:,.0f} tokens: {n:,.0f} requests"
        for x1, x2, y1, y2, n in zip(
            np.ceil(edges["x1"]),
            np.floor(edges["x2"]),
            np.ceil(edges["y1"]),
            np.floor(edges["y2"]),
            counts,
            strict=True,
        )
    ]
    return single(
        "joint",
        "Prompt and output lengths of the requests",
        f"Darker is more requests; rank correlation {rank_correlation:+.2f}.",
        x=Axis(label="prompt tokens", scale="log"),
        y=Axis(label="output tokens", scale="log"),
        layers=[Layer(kind="rect", columns={**edges, "value": strength}, words=words)],
        height=360,
    )


def _log_edges(values: FloatArray) -> FloatArray:
    """Return logarithmic edges at half-integers, none closer than one token."""
    low, high = float(values.min()) - 0.5, float(values.max()) + 0.5
    edges = np.floor(np.geomspace(low, high, LENGTH_BINS + 1)) + 0.5
    edges[0], edges[-1] = low, high
    unique: FloatArray = np.unique(np.clip(edges, low, high))
    return unique
