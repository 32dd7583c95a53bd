"""Pictures of what is uneven, drawn afresh or occupied: ranks, rounds, transfers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from afdplan.lengths.law import IndependentLengths
from afdplan.model.coupling import Coupling
from afdplan.model.latency import LatencyModel
from afdplan.model.variation import ExpertLoad
from afdplan.theory.busiest_rank import largest_count
from afdplan.theory.cycle import CycleModel
from afdplan.theory.expert_load import rank_load
from afdplan.theory.fresh_cycle import fresh_stage
from afdplan.theory.problem import RatioProblem
from drawings.canvas import BLUE, GREEN, GREY, ORANGE, plain_axes, titled


def busiest_rank() -> Figure:
    """Return the law of the busiest of 8 ranks beside draws, and its mean over the choices."""
    figure, (law, mean) = plain_axes(2)
    generator = np.random.default_rng(1)
    for choices, color in ((512, ORANGE), (2048, BLUE)):
        counts, cumulative = largest_count(np.full(8, 1 / 8), float(choices))
        law.plot(counts * 8 / choices, cumulative, color=color, label=f"{choices:,} choices")
        drawn = generator.multinomial(choices, np.full(8, 1 / 8), size=4000).max(axis=1)
        marks = np.quantile(drawn, (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98))
        law.plot(marks * 8 / choices, [(drawn <= x).mean() for x in marks], "k.", markersize=5)
    law.set(xlabel="choices of the busiest rank over the mean", ylabel="chance of at most",
            xlim=(1, 1.5), ylim=(0, 1))  # fmt: skip
    titled(law, "8 ranks, chance alone (points: draws)")
    law.legend(frameon=False, fontsize=9, loc="lower right")
    tokens = np.geomspace(16, 65_536, 25)
    load = ExpertLoad(experts=256, experts_per_token=8)
    for ranks, color in ((8, GREEN), (32, BLUE), (256, ORANGE)):
        found = rank_load(load, tokens, ranks).quantiles.mean(axis=1)
        mean.plot(tokens, found, color=color, label=f"{ranks} ranks")
    mean.set(xscale="log", xlabel="tokens of a microbatch", ylabel="mean of the busiest over mean",
             ylim=(1, 3))  # fmt: skip
    titled(mean, "8 of 256 experts per token")
    mean.legend(frameon=False, fontsize=9)
    return figure


def fresh_times() -> Figure:
    """Return two microbatches before an FFN that scatters: what a play gives, and the formula."""
    figure, (axes,) = plain_axes(1, width=5.5)
    generator = np.random.default_rng(2)
    spreads = np.linspace(0.0, 0.3, 7)
    for delay, color in ((0.0, BLUE), (0.3, ORANGE)):
        played = [_round(generator, spread, delay) for spread in spreads]
        axes.plot(100 * spreads, played, "o", color=color, label=f"played, c = {delay:g} of f")
        one = np.ones(spreads.size)
        axes.plot(100 * spreads, fresh_stage(one, one, 2 * one + delay, spreads, 2)[0], color=color)
    axes.plot(100 * spreads, [_round(generator, 0.0, 0.0)] * 7, "--", color=GREY,
              label="taken at the mean")  # fmt: skip
    axes.set(xlabel="scatter of the FFN [%]", ylabel="cycle time over f", xlim=(0, 31))
    titled(axes, "Attention and FFN in balance, two microbatches")
    axes.legend(frameon=False, fontsize=9)
    return figure


def coupling() -> Figure:
    """Return the cycle over A / F: transfers that occupy nobody, the FFN, and peers in turn."""
    figure, (axes,) = plain_axes(1, width=5.5)
    law = IndependentLengths(prompt="geometric:1000", decode="geometric:300")
    latency = LatencyModel.linear(
        attention=(1e-4, 10.0), ffn=(0.03, 3.0), transfer=(0.0, 2.0), layers=20
    )
    inside = Coupling(send_ffn=0.5, receive_ffn=0.5)
    cases = (
        ("occupy nobody", Coupling(), BLUE),
        ("occupy the FFN", inside, GREEN),
        ("one peer after another", replace(inside, one_by_one=True), ORANGE),
    )
    workers = np.arange(1, 25)
    for name, shares, color in cases:
        problem = RatioProblem(
            law=law, latency=replace(latency, coupling=shares), batch_size=64, ffn_workers=2
        )
        model = CycleModel(problem, problem.slot_loads())
        cycles = model.evaluate(workers.astype(float)).cycle
        axes.plot(workers / 2, cycles, ".-", color=color, label=name)
    axes.set(xlabel="attention workers per FFN worker", ylabel="cycle time", ylim=(0, None))
    titled(axes, "Transfers that occupy workers, two FFN workers")
    axes.legend(frameon=False, fontsize=9)
    return figure


def _round(generator: np.random.Generator, spread: float, delay: float) -> float:
    """Return the mean cycle of ``a = f = 1`` whose FFN times are lognormal, played in order."""
    width = np.sqrt(np.log1p(spread**2))
    times = np.exp(generator.normal(-(width**2) / 2, width, 60_000)) if spread else np.ones(60_000)
    attention = served = 0.0
    ready = [0.0, 0.0]
    for k, time in enumerate(times):
        u = k % 2
        attention = max(attention, ready[u]) + 1.0
        served = max(served, attention + delay / 2) + time
        ready[u] = served + delay / 2
    return attention / times.size
