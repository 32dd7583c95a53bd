"""Pictures of loads that placement balances."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.simulation.paired import play_paired
from afdplan.simulation.scenario import Scenario
from afdplan.theory.placement import BalancedLoads, cycle_model
from afdplan.theory.problem import RatioProblem
from drawings.canvas import BLUE, GREY, ORANGE, RED, plain_axes, titled

LAW = IndependentLengths(prompt="lognormal:mean=1000,cv=1.2", decode="geometric:150")
WORKERS, BATCH = 16, 64


def placement() -> Figure:
    """Return the spread of placed loads over A and B, and the step over A against simulation."""
    figure, (spread, steps) = plain_axes(2)
    counts = np.geomspace(1, 128, 60)
    loads = BalancedLoads(LAW)
    for batch, color in ((16, GREY), (64, BLUE), (256, RED)):
        spread.plot(counts, loads.shares(counts, batch, 1 / 150), color=color, label=f"B = {batch}")
    spread.set(xscale="log", ylim=(0, 1.05), xlabel="attention workers A")
    spread.set_ylabel("deviation of a load, placed over blind")
    spread.legend(frameon=False, fontsize=9)
    titled(spread, "Prompts of 1,000 tokens (cv 1.2), outputs of 150")

    load = BATCH * LAW.token_load().mean
    latency = LatencyModel.linear(
        attention=(250 / load, 50), ffn=(200 / (WORKERS * BATCH), 100), transfer=(0, 20)
    )
    workers = np.arange(4.0, 25.0)
    for name, color, marker in (("round-robin", ORANGE, "s"), ("longest-prompt", BLUE, "o")):
        problem = RatioProblem(law=LAW, latency=latency, batch_size=BATCH, placement=name)
        model = cycle_model(problem, problem.slot_loads())
        steps.plot(workers, model.evaluate(workers).mean, color=color, label=f"{name}, theory")
        for count in (4, 8, 12, 16, 20, 24):
            scenario = Scenario(
                bundle=Bundle(attention_workers=count, batch_size=BATCH),
                latency=latency,
                lengths=LAW,
                placement=name,
            )
            seen = play_paired(scenario, 4).step_time.value
            steps.plot([count], [seen], marker, color=color)
    steps.set(xlabel="attention workers A", ylabel="output step")
    steps.legend(frameon=False, fontsize=9)
    titled(steps, "m = 2, B = 64, balanced at 16; dots: simulation")
    return figure
