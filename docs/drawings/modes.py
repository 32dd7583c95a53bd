"""Pictures of bundles with and without the barrier."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.simulation.scenario import Scenario
from afdplan.simulation.timeline import record_timeline
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend
from drawings.canvas import BASELINE, BLUE, ORANGE, RED, plain_axes, titled

SPREADS = (0.1, 1.0, 2.0)
FLOORS = (0.0, 0.4, 0.8)


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


def which_pays() -> Figure:
    """Return what going without the barrier gains, over spread of loads and share of the floor."""
    figure, panels = plain_axes(2, width=9.6, height=3.8)
    for axes, microbatches in zip(panels, (1, 2), strict=True):
        gains = np.array(
            [[_gain(spread, floor, microbatches) for spread in SPREADS] for floor in FLOORS]
        )
        image = axes.imshow(100 * gains, cmap="RdBu", vmin=-40, vmax=40, origin="lower")
        for (row, column), gain in np.ndenumerate(gains):
            color = RED if gain < 0 else "black"
            axes.text(column, row, f"{100 * gain:+.0f}", ha="center", va="center", color=color)
        axes.set_xticks(range(len(SPREADS)), [f"{spread:g}" for spread in SPREADS])
        axes.set_yticks(range(len(FLOORS)), [f"{100 * floor:.0f} %" for floor in FLOORS])
        axes.set(xlabel="coefficient of variation of prompts", ylabel="floor of the FFN time")
        titled(axes, f"m = {microbatches}")
    figure.colorbar(image, ax=panels, label="gain without the barrier [%]")
    return figure


def _gain(spread: float, floor: float, microbatches: int) -> float:
    """Return the gain where eight workers of mean load and the FFN need equally long."""
    law = IndependentLengths(
        prompt=f"lognormal:mean=1000,cv={spread}", decode="lognormal:mean=500,cv=0.5"
    )
    batch = 32 // microbatches
    load = law.token_load().mean
    latency = LatencyModel.linear(
        attention=(80.0 / (32 * load), 20.0 / microbatches),
        ffn=((1 - floor) * 100 / (8 * 32), floor * 100 / microbatches),
        transfer=(0.0, 5.0),
    )
    problem = RatioProblem(
        law=law,
        latency=latency,
        batch_size=batch,
        microbatches=microbatches,
        execution="barrier-free",
    )
    found = recommend(problem, max_attention_workers=16).modes
    return 0.0 if found is None else found.gain
