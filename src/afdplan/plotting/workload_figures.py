"""What does a report page show of a workload: load of a slot, its parts, drift, lengths?"""

from __future__ import annotations

import numpy as np

from afdplan.lengths.law import EmpiricalLengths, LengthLaw
from afdplan.model.estimate import Estimate
from afdplan.plotting.figure import Axis, Chart, Figure, Layer
from afdplan.plotting.workload import drift_data, joint_data, load_law_data
from afdplan.workload.drift import Drift
from afdplan.workload.split import TokenLoadSplit

__all__ = ["drift_figure", "joint_figure", "load_figure", "split_figure"]


def load_figure(law: LengthLaw, mean: float, others: dict[str, float] | None = None) -> Figure:
    """Return the law of the tokens that one slot holds, with its mean.

    Parameters
    ----------
    law
        Joint law of prompt and decode lengths.
    mean
        Mean token load [tokens].
    others
        Further values to mark, by name [tokens].
    """
    data = load_law_data(law, bins=80)
    start, end = data.edges[:-1], data.edges[1:]
    share = 100 * data.probabilities
    layers = [
        Layer(
            kind="rect",
            columns={"x1": start, "x2": end, "y1": np.zeros(share.size), "y2": share},
            words=[
                f"{low:,.0f} to {high - 1:,.0f} tokens: {part:.2f} % of the time"
                for low, high, part in zip(start, end, share, strict=True)
            ],
        ),
        Layer(
            kind="rule_x",
            name=f"mean {mean:,.0f}",
            role="best",
            columns={"x": [mean], "text": [f"mean {mean:,.0f}"]},
        ),
    ]
    for name, value in (others or {}).items():
        layers.append(
            Layer(
                kind="rule_x",
                name=f"{name} {value:,.0f}",
                role="second",
                columns={"x": [value]},
            )
        )
    beyond = f" {100 * data.beyond:.1f} % of the time lies beyond the right end." * bool(
        data.beyond >= 0.0005
    )
    return Figure(
        identifier="load",
        title="Tokens that one occupied slot holds",
        caption="What attention has to read for one request, at a random moment." + beyond,
        charts={
            "": Chart(
                x=Axis(label="KV tokens of a slot"),
                y=Axis(label="share of the time [%]", from_zero=True),
                layers=layers,
            )
        },
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
    return Figure(
        identifier="split",
        title="Where the mean token load comes from",
        caption="mean P, then E[D^2]/(2 E[D]) - 1/2, then Cov(P, D)/E[D]; their sum is what a "
        "slot holds.",
        charts={
            "": Chart(
                x=Axis(label="tokens"),
                y=Axis(label="", scale="category", limits=names),
                layers=[
                    Layer(
                        kind="rect",
                        columns={
                            "y": names,
                            "x1": [*starts, 0.0],
                            "x2": [*ends, split.total],
                            "role": ["main", "second", "third", "neutral"],
                            "fill": ["solid", "hatch", "cross", "solid"],
                        },
                        words=[
                            f"{name}: {value:+,.1f} tokens, "
                            f"{100 * value / split.total if split.total else 0:.1f} %"
                            for name, value in zip(told, values, strict=True)
                        ],
                    ),
                    Layer(kind="rule_x", role="neutral", columns={"x": [0]}),
                ],
                height=230,
            )
        },
    )


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
    data = drift_data(drift)
    middle = (data.start + data.end) / 2
    ends = np.array([data.start[0], data.end[-1]])
    unit = "request number"
    if data.unit != "requests":
        unit = f"time since the first arrival [{data.unit}]"
    words = [
        f"{value:,.0f} tokens ({lower:,.0f} to {upper:,.0f}), {window.requests:,} requests"
        for value, lower, upper, window in zip(
            data.value, data.low, data.high, drift.windows, strict=True
        )
    ]
    return Figure(
        identifier="drift",
        title="Mean token load over the trace",
        caption="Each window with its 95 % interval; the band is that of the whole trace.",
        charts={
            "": Chart(
                x=Axis(label=unit),
                y=Axis(label="mean token load [tokens]", from_zero=True),
                layers=[
                    Layer(
                        kind="band",
                        name="whole trace, interval",
                        role="best",
                        columns={
                            "x": ends,
                            "low": [load.low, load.low],
                            "high": [load.high, load.high],
                        },
                    ),
                    Layer(
                        kind="rule_y",
                        name="whole trace, mean",
                        role="best",
                        columns={"y": [load.value]},
                    ),
                    Layer(
                        kind="interval",
                        name="window, interval",
                        role="main",
                        columns={"x": middle, "low": data.low, "high": data.high},
                    ),
                    Layer(
                        kind="dot",
                        name="window, mean",
                        role="main",
                        columns={"x": middle, "y": data.value},
                        words=words,
                    ),
                ],
            )
        },
    )


def joint_figure(law: EmpiricalLengths, rank_correlation: float) -> Figure:
    """Return how many requests have which prompt and output length, on logarithmic bins."""
    data = joint_data(law, bins=40)
    rows, columns = np.nonzero(data.counts)
    counts = data.counts[rows, columns]
    strength = np.log1p(counts) / np.log1p(counts.max())
    edges = {
        "x1": data.prompt_edges[rows],
        "x2": data.prompt_edges[rows + 1],
        "y1": data.decode_edges[columns],
        "y2": data.decode_edges[columns + 1],
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
    return Figure(
        identifier="joint",
        title="Prompt and output lengths of the requests",
        caption=f"Darker is more requests; rank correlation {rank_correlation:+.2f}.",
        charts={
            "": Chart(
                x=Axis(label="prompt tokens", scale="log"),
                y=Axis(label="output tokens", scale="log"),
                layers=[Layer(kind="rect", columns={**edges, "value": strength}, words=words)],
                height=360,
            )
        },
    )
