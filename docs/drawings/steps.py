"""Pictures of the output step: idle shares, drain, tokens per step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.placement import place
from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.plotting.pipeline_figure import timeline_data
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Scenario
from afdplan.simulation.timeline import record_timeline
from drawings.canvas import (
    BASELINE,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    add_simulated,
    cycle_model,
    plain_axes,
    titled,
)


def idle() -> Figure:
    """Return both idle shares over A on the paper's baseline, with simulated points."""
    figure, (axes,) = plain_axes(height=3.6)
    counts = np.arange(1.0, 33.0)
    times = cycle_model(BASELINE).evaluate(counts)
    workers = (1, 2, 4, 6, 8, 10, 12, 16, 20, 24, 32)
    for side, color, name in (("attention", BLUE, "attention"), ("ffn", ORANGE, "FFN")):
        share = getattr(times, f"{side}_idle_fraction")
        axes.plot(counts, share, color=color, linewidth=2)
        axes.annotate(name, (counts[-1], share[-1]), (-4, 8), textcoords="offset points",
                      color=color, ha="right")  # fmt: skip
        label = "simulated, 95 % interval" if side == "ffn" else None
        add_simulated(axes, workers, f"{side}_idle_fraction", label=label)
    axes.set(xlabel="attention workers A for one FFN worker", ylabel="share of the step, idle",
             ylim=(0, 0.7), xlim=(0, 33))  # fmt: skip
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.legend(frameon=False, fontsize=9, loc="upper center")
    return figure


def drain() -> Figure:
    """Return a drained step from the simulator, and what draining costs over the layers."""
    figure, (play, cost) = plain_axes(2, width=9.0)
    latency = LatencyModel.linear(
        attention=(0.0, 30.0), ffn=(0.0, 34.0), transfer=(0.0, 12.0), layers=3
    )
    law = IndependentLengths(prompt="10", decode="fixed:1")
    scenario = Scenario(
        bundle=Bundle(attention_workers=1, batch_size=4), latency=replace(latency, drain=True),
        lengths=law,
    )  # fmt: skip
    data = timeline_data(record_timeline(scenario, steps=2))
    for bar in data.bars:
        play.broken_barh([(bar.start, bar.length)], (bar.row - 0.4, 0.8),
                         facecolors=(BLUE, ORANGE)[bar.microbatch], edgecolor="white")  # fmt: skip
    ends = sorted({round(bar.start + bar.length, 6) for bar in data.bars})
    play.axvline(ends[-1] / 2, color=GREY, linestyle=":")
    play.set_yticks(range(len(data.rows)), data.rows)
    play.set(ylim=(len(data.rows) - 0.4, -0.6), xlabel="time")
    titled(play, "Two steps of three layers: empty in between")

    layers = np.unique(np.geomspace(2, 100, 40).astype(int))
    chosen = {"attention": (0.00165, 50.0), "ffn": (0.083, 100.0), "transfer": (0.022, 20.0)}
    for workers, color in ((2, BLUE), (8, RED), (16, GREEN)):
        extra = [_drain_cost(chosen, int(count), workers, played=False) for count in layers]
        cost.plot(layers, extra, color=color, label=f"A = {workers}")
        some = (2, 4, 16, 61)
        played = [_drain_cost(chosen, count, workers, played=True) for count in some]
        cost.plot(some, played, "k.", markersize=6)
    cost.plot([], [], "k.", label="simulated")
    cost.set(xscale="log", yscale="log", xlabel="layers L", ylabel="step time added")
    cost.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    cost.xaxis.set_major_formatter(ScalarFormatter())
    cost.set_xticks([2, 4, 10, 30, 100])
    cost.minorticks_off()
    titled(cost, "What draining costs, paper's baseline")
    cost.legend(frameon=False, fontsize=9)
    return figure


def _drain_cost(coefficients: dict, layers: int, workers: int, *, played: bool) -> float:
    """Return by how much a step that drains is longer, by theory or played."""
    found = []
    for drained in (False, True):
        latency = replace(LatencyModel.linear(layers=layers, **coefficients), drain=drained)
        if played:
            bundle = Bundle(attention_workers=workers, batch_size=256)
            scenario = Scenario(
                bundle=bundle, latency=latency, lengths=BASELINE, requests_per_worker=2000
            )
            found.append(simulate(scenario).step_time.mean.value)
        else:
            model = cycle_model(BASELINE, latency=latency)
            found.append(float(model.evaluate(np.array([float(workers)])).mean[0]))
    return found[1] / found[0] - 1


def tokens_per_step() -> Figure:
    """Return the mean tokens of a step over the chance that a draft is accepted."""
    figure, (axes,) = plain_axes(width=5.6)
    chances = np.linspace(0, 1, 41)
    generator = np.random.default_rng(1)
    model, device = find_model("deepseek-v3"), find_hardware("h200")
    for drafts, color in ((1, BLUE), (2, ORANGE), (4, GREEN)):
        stated = [
            place(model, device, speculative_tokens=drafts, acceptance=float(p)).tokens_per_step
            for p in chances
        ]
        axes.plot(chances, stated, color=color)
        axes.annotate(f"{drafts} draft{'s' * (drafts > 1)}", (1, stated[-1]), (4, -3),
                      textcoords="offset points", color=color, fontsize=9)  # fmt: skip
        for p in (0.3, 0.6, 0.85):
            refused = generator.random((20_000, drafts)) > p
            accepted = np.where(refused.any(axis=1), refused.argmax(axis=1), drafts)
            axes.plot(p, 1 + accepted.mean(), "k.", markersize=6)
    axes.plot([], [], "k.", label="20,000 drawn steps")
    axes.set(xlabel="chance that a draft token is accepted", ylabel="tokens per step",
             ylim=(0.8, 5.2), xlim=(0, 1.16), xticks=np.arange(0, 1.1, 0.2))  # fmt: skip
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    return figure
