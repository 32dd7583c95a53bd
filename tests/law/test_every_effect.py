"""Every effect at once against a play that shares no code: order, scatter, experts, transfers, A/F.

Max-plus over jobs in their order, choices of experts drawn one by one. Loads stand still over a
step, as they nearly do in a real one; the simulator moves them, the theory knows both.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.bundle import Bundle
from afdplan.model.coupling import Coupling
from afdplan.model.curve import LinearCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers
from afdplan.model.variation import ExpertLoad, Scatter
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Scenario
from afdplan.theory.cycle import CycleModel
from afdplan.theory.problem import RatioProblem

BATCH, LAYERS, WINDOW = 8, 12, 400
LAW = IndependentLengths(prompt="geometric:500", decode="geometric:200")
BUNDLES = {
    "A=5 F=4, m=2, peers at once": (5, 4, 2, (0.5, 1.0, 0.25, 0.5), False, 0.1, 20.0),
    "A=7 F=2, m=2, peers in turn": (7, 2, 2, (0.0, 0.3, 1.0, 0.2), True, 0.05, 8.0),
    "A=2 F=4, m=3, long ways": (2, 4, 3, (1.0, 0.0, 0.0, 1.0), False, 0.1, 45.0),
    "A=6 F=1, m=1": (6, 1, 1, (0.5, 0.5, 0.5, 0.5), True, 0.1, 6.0),
}


def bundle_of(name):
    workers, ffn_workers, m, shares, in_turn, cv, way = BUNDLES[name]
    mean = BATCH * LAW.token_load().mean
    tokens = workers * BATCH / ffn_workers
    whole = AttentionLayers(curve=LinearCurve(slope=80 / mean, intercept=40.0), layers=8)
    local = AttentionLayers(
        curve=LinearCurve(slope=60 / (BATCH * WINDOW), intercept=20.0), layers=4,
        context_window=WINDOW,
    )  # fmt: skip
    latency = replace(
        LatencyModel.linear(
            attention=(1.0, 1.0), ffn=(60 / tokens, 30.0), transfer=(0.0, way), layers=LAYERS
        ),
        attention=(whole, local),
        layer_order="alternating",
        scatter=Scatter(attention=cv, ffn=cv),
        experts=ExpertLoad(experts=32, experts_per_token=4, ranks_per_worker=2, share=0.6),
        coupling=Coupling(
            send_attention=shares[0], send_ffn=shares[1],
            receive_attention=shares[2], receive_ffn=shares[3],
            one_by_one=in_turn, launch=5.0, fan_in="whole", dense_share=0.3,
        ),
    )  # fmt: skip
    return latency, Bundle(
        attention_workers=workers, ffn_workers=ffn_workers, batch_size=BATCH, microbatches=m
    )


def factors(rng, cv, *shape):
    return rng.gamma(cv**-2, cv**2, shape)


def busiest(rng, ffn_workers, requests, draws):
    """The busiest rank over the mean, each request choosing 4 different experts of 32."""
    ranks = 2 * ffn_workers
    chosen = rng.random((draws, requests, 32)).argpartition(4, axis=2)[:, :, :4]
    on_rank = chosen.reshape(draws, -1) // (32 // ranks)
    counts = np.stack([(on_rank == rank).sum(axis=1) for rank in range(ranks)])
    return counts.max(axis=0) / (4 * requests / ranks)


def played(name, draws=500, warm=2, measured=2, seed=3):
    """Return the mean step over draws of the loads, each played alone for a few steps."""
    workers, ffn_workers, m, (sa, sf, ra, rf), in_turn, cv, way = BUNDLES[name]
    rng = np.random.default_rng(seed)
    mean, tokens = BATCH * LAW.token_load().mean, workers * BATCH / ffn_workers
    slot = LAW.slot_load()
    held = rng.choice(slot.support, p=slot.probabilities, size=(draws, workers, m, BATCH))
    whole = 40.0 + 80 / mean * held.sum(axis=3)
    local = 20.0 + 60 / (BATCH * WINDOW) * np.minimum(held, WINDOW).sum(axis=3)
    # Of 12 layers each third one is local, the furthest behind its share first.
    order, have = [], [0, 0]
    for k in range(1, LAYERS + 1):
        behind = [8 * k / 12 - have[0], 4 * k / 12 - have[1]]
        kind = int(behind[1] > behind[0] + 1e-9)
        have[kind] += 1
        order.append(kind)
    peers = max(math.ceil(workers / ffn_workers), 1)
    one = peers if in_turn else 1
    work = 60 / tokens
    free = np.zeros((draws, workers))
    link_out, link_back = np.zeros((draws, workers)), np.zeros((draws, workers))
    ready = np.zeros((m, draws, workers))  # when the attention job of a microbatch may begin
    ffn = np.zeros(draws)
    marks = []
    for _ in range(warm + measured):
        for layer in range(LAYERS):
            times = (whole, local)[order[layer]]
            for u in range(m):
                a = times[:, :, u] * factors(rng, cv, draws, workers)
                free = np.maximum(free, ready[u]) + a + (ra + sa) * way
                # The way begins with its sender's share and ends with its receiver's.
                link_out = np.maximum(link_out, free - sa * way) + way
                x = busiest(rng, ffn_workers, workers * BATCH, draws)
                f = 30.0 + work * tokens * (1 + 0.6 * (x - 1))
                f += 0.3 * work * (peers * BATCH - tokens)
                f = f * factors(rng, cv, draws) + 5.0
                arrived = (link_out - sf * way).max(axis=1)
                ffn = np.maximum(ffn, arrived) + one * (sf + rf) * way + f
                link_back = np.maximum(link_back, (ffn - rf * way)[:, None]) + way
                ready[u] = link_back - ra * way
        marks.append(ffn.copy())
    return float(((marks[-1] - marks[warm - 1]) / measured).mean())


@pytest.mark.parametrize("name", BUNDLES)
def test_theory_and_simulator_agree_with_a_play_of_their_own_question(name):
    latency, bundle = bundle_of(name)
    step = played(name)
    problem = RatioProblem(
        law=LAW, latency=latency, batch_size=BATCH, ffn_workers=bundle.ffn_workers,
        microbatches=bundle.microbatches,
    )  # fmt: skip
    workers = np.array([float(bundle.attention_workers)])
    theory = CycleModel(problem, problem.slot_loads()).evaluate(workers).mean[0]
    seen = simulate(
        Scenario(bundle=bundle, latency=latency, lengths=LAW, requests_per_worker=300)
    ).step_time.mean
    print(f"{name}: theory {theory / step - 1:+.2%}, simulator {seen.value / step - 1:+.2%}")
    assert seen.value == pytest.approx(step, rel=0.015)
    assert theory == pytest.approx(step, rel=0.015)
