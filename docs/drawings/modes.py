"""A picture of bundles with and without the barrier."""

from __future__ import annotations

from dataclasses import replace

from matplotlib.figure import Figure

from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.simulation.scenario import Scenario
from afdplan.simulation.timeline import record_timeline
from drawings.canvas import BASELINE, BLUE, ORANGE, plain_axes, titled


def timelines() -> Figure:
    """Return the same bundle with the barrier and without, from the simulator."""
    figure, panels = plain_axes(2, width=9.6, height=3.0)
    scenario = Scenario(
        bundle=Bundle(attention_workers=4, batch_size=16, microbatches=1),
        latency=LatencyModel.linear(attention=(0.004, 10.0), ffn=(0.3, 12.0), transfer=(0.0, 4.0)),
        lengths=BASELINE,
    )
    modes = (("with the barrier", scenario),)
    modes += (("without the barrier", replace(scenario, execution="barrier-free")),)
    for axes, (name, one) in zip(panels, modes, strict=True):
        spans = record_timeline(one, steps=12, skip=40).spans
        zero = min(span.start for span in spans)
        for span in spans:
            if span.stage not in ("attention", "FFN") or span.end - zero > 260:
                continue
            is_ffn = span.stage == "FFN"
            row = 4 if is_ffn else span.worker
            axes.barh(
                row,
                span.end - span.start,
                left=span.start - zero,
                height=0.7,
                color=ORANGE if is_ffn else BLUE,
                edgecolor="white",
            )
            if is_ffn and one.execution == "barrier-free":
                middle = (span.start + span.end) / 2 - zero
                axes.text(middle, row, f"{span.calls}", ha="center", va="center", fontsize=7)
        names = [*(f"attention {i + 1}" for i in range(4)), "FFN"]
        axes.set(yticks=range(5), yticklabels=names, xlim=(0, 260), xlabel="time")
        axes.invert_yaxis()
        titled(axes, name)
    return figure
