"""Pictures of rounds whose loads move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from afdplan.lengths.law import IndependentLengths
from afdplan.lengths.load_motion import STILL
from afdplan.model.bundle import Bundle
from afdplan.model.latency import LatencyModel
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Scenario
from afdplan.theory.cycle import CycleModel
from afdplan.theory.moving_load import followed_share
from afdplan.theory.problem import RatioProblem
from drawings.canvas import BLUE, GREY, ORANGE, RED, plain_axes, titled

WORKERS, BATCH, MICROBATCHES = 8, 8, 4


def moving_loads() -> Figure:
    """Return errors with frozen and with moving loads, and the share of ties that is followed."""
    figure, (errors, share) = plain_axes(2)
    lives = (6, 12, 25, 50, 100, 200, 400)
    rows = [_errors(mean) for mean in lives]
    for column, color, marker, name in (
        (0, ORANGE, "s", "frozen loads"),
        (1, RED, "o", "moving loads"),
    ):
        errors.plot(lives, [row[column] for row in rows], marker, color=color, label=name)
    low, high = zip(*(row[2] for row in rows), strict=True)
    errors.fill_between(lives, low, high, color="0.9", label="simulation, 95 %")
    errors.axhline(0, color="black", linewidth=0.6)
    errors.set(xscale="log", xlabel="rounds in the life of a request, L E[D]")
    errors.set_ylabel("theory / simulation - 1  [%]")
    errors.legend(frameon=False, fontsize=9)
    titled(errors, "A = 8, B = 8, m = 4, balanced")

    scales = np.geomspace(1e-3, 1e2, 60)
    share.plot(scales, followed_share(scales), color=BLUE, label="h(z)")
    share.plot(scales, 0.44 * scales ** (-1 / 3), color=GREY, linestyle=":", label="0.44 z^(-1/3)")
    jumps = ((0.1, 1.0), (0.1, 10.0), (0.5, 1.0), (0.5, 10.0), (2.0, 10.0), (2.0, 100.0))
    points = [_followed(rate, detour) for rate, detour in jumps]
    share.plot(*zip(*points, strict=True), "o", color=RED, label="longest paths")
    share.set(xscale="log", ylim=(0, 1.1), xlabel="z", ylabel="cost over that of all ties")
    share.legend(frameon=False, fontsize=9)
    titled(share, "Two resources whose difference jumps")
    return figure


def _errors(mean_decode: float) -> tuple[float, float, tuple[float, float]]:
    """Return errors [%] with frozen and moving loads, and the simulation's interval [%]."""
    law = IndependentLengths(prompt="geometric:500", decode=f"geometric:{mean_decode}")
    latency = LatencyModel.linear(
        attention=(70 / (BATCH * law.token_load().mean), 30.0),
        ffn=(0.0, 100.0),
        transfer=(0.0, 5.0),
    )
    bundle = Bundle(attention_workers=WORKERS, batch_size=BATCH, microbatches=MICROBATCHES)
    seen = simulate(
        Scenario(
            bundle=bundle,
            latency=latency,
            lengths=law,
            requests_per_worker=20_000,
            precision=0.0015,
        )
    ).cycle_time
    problem = RatioProblem(law=law, latency=latency, batch_size=BATCH, microbatches=MICROBATCHES)
    slots = problem.slot_loads()
    frozen = tuple(replace(slot, motion=STILL) for slot in slots)
    workers = np.array([float(WORKERS)])
    errors = [
        100 * (float(CycleModel(problem, given).evaluate(workers).cycle[0]) / seen.value - 1)
        for given in (frozen, slots)
    ]
    low, high = (100 * (end / seen.value - 1) for end in (seen.low, seen.high))
    return errors[0], errors[1], (low, high)


def _followed(rate: float, detour: float) -> tuple[float, float]:
    """Return z, and the cost of changes on longest paths over that of following every tie."""
    generator = np.random.default_rng(1)
    lanes, steps = 4096, 2500
    reach = max(25.0, 6 * (2 * detour * rate) ** (1 / 3))
    x, lead = generator.uniform(-reach, reach, lanes), np.zeros(lanes)
    frozen = followed = size = square = 0.0
    for k in range(steps):
        jumps = generator.poisson(rate, lanes)
        move = np.zeros(lanes)
        for n in range(int(jumps.max())):
            live = jumps > n
            signs = generator.choice((-1.0, 1.0), int(live.sum()))
            move[live] += signs * generator.exponential(1.0, signs.size)
        x = x + move
        x = np.where(x > reach, 2 * reach - x, np.where(x < -reach, -2 * reach - x, x))
        lead = np.clip(lead, -detour, detour) + x
        if k >= steps // 5:
            followed += float(np.maximum(lead - detour, 0.0).sum())
            frozen += float(np.maximum(x, 0.0).sum())
            size += float(np.abs(move).sum())
            square += float((move**2).sum())
    count = lanes * (steps - steps // 5)
    size, square = size / count, square / count
    cost = (frozen - followed) / count / (detour * size / (2 * reach))
    return detour * size**3 / square**2, cost
