"""Does a plan for a connector with uneven pairs count the FFN worker that serves most?"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from afdplan.deploy.registry import find_target
from afdplan.lengths.law import IndependentLengths
from afdplan.model.latency import LatencyModel
from afdplan.planning.design import Combination
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.plan import make_plan
from afdplan.planning.plan_modes import plan_modes
from afdplan.planning.search import DesignSearch
from afdplan.planning.source import MeasuredSource, source_for
from afdplan.planning.space import SearchSpace
from afdplan.theory.cycle import CycleModel
from afdplan.theory.problem import RatioProblem

LAW = IndependentLengths(prompt="geometric:1000", decode="geometric:300")
FFN = (2e-7, 1e-5)
LATENCY = LatencyModel.linear(attention=(2e-9, 5e-6), ffn=FFN, layers=20, time_unit="s")
BATCH, M, F, DEVICES = 40, 2, 3, 10


def step(a: int, f: int, load: float) -> float:
    """Return the mean step of a bundle whose slowest FFN worker has that load, and no other."""
    constant = (0.0, FFN[0] * load + FFN[1])
    latency = LatencyModel.linear(attention=(2e-9, 5e-6), ffn=constant, layers=20, time_unit="s")
    problem = RatioProblem(
        law=LAW, latency=latency, batch_size=BATCH, microbatches=M, ffn_workers=f
    )
    return float(CycleModel(problem, problem.slot_loads()).evaluate(np.array([float(a)])).mean[0])


def plan_for(name: str, version: str):
    space = SearchSpace(
        batch_sizes=(BATCH,), microbatches=(M,), ffn_workers=(F,), target=find_target(name, version)
    )
    return make_plan(
        LAW, MeasuredSource(LATENCY, kv_tokens=1e9), Limits(devices=DEVICES), space=space
    )


@pytest.mark.parametrize(
    ("name", "version"),
    [("vllm-afd-plugin", "0.30"), ("fastafd", "fork-393bc98"), ("vllm-afd-plugin", "2e4378f")],
)
def test_the_plan_is_the_best_pair_with_the_busiest_ffn_worker(name, version):
    target = find_target(name, version)
    best = {}
    for a in range(1, DEVICES - F + 1):
        if target.allows(a, F):
            mean = step(a, F, math.ceil(a / F) * BATCH)
            best[a, F] = a * BATCH * M / mean / (a + F)
    plan = plan_for(name, version)
    design = plan.split.design
    assert plan.split.tokens_per_second_per_device == pytest.approx(max(best.values()), rel=1e-6)
    pair = (design.attention_workers, design.ffn_workers)
    assert best[pair] == pytest.approx(max(best.values()), rel=1e-6)
    assert pair == ((6, F) if version == "2e4378f" else (7, F))
    assert (plan.latency.coupling.fan_in == "whole") == (version != "2e4378f")


@pytest.mark.parametrize(("a", "f"), [(7, 2), (5, 3), (8, 2), (2, 3), (1, 4)])
def test_every_pair_takes_as_long_as_its_slowest_ffn_worker(a, f):
    source = source_for(find_target("fastafd", "fork-393bc98"), MeasuredSource(LATENCY))
    search = DesignSearch(
        LAW, source, SearchSpace(batch_sizes=(BATCH,), microbatches=(M,)), DeviceCost()
    )
    times = search.models.evaluate(Combination(1, M, BATCH), np.array([a]), np.array([f]))
    assert times.mean[0] == pytest.approx(step(a, f, max(math.ceil(a / f), 1) * BATCH), rel=1e-9)
    if a % f and a > 1:
        assert times.mean[0] > step(a, f, a / f * BATCH) * 1.000001  # an even spread is shorter


def test_what_was_measured_of_the_fan_in_is_kept():
    coupling = replace(LATENCY.coupling, fan_in="whole", dense_share=0.4)
    source = MeasuredSource(replace(LATENCY, coupling=coupling))
    found = source_for(find_target("vllm-afd-plugin"), source).latency(1, 2, 8)
    assert found.coupling.dense_share == 0.4
    assert source_for(find_target("sglang"), source) is source


def test_modes_are_compared_with_tokens_spread_evenly():
    """Without a barrier no FFN worker has attention workers of its own."""
    latency = LatencyModel.linear(attention=(2e-9, 5e-6), ffn=FFN, layers=2, time_unit="s")
    asked = {"limits": Limits(devices=5), "law": LAW, "source": MeasuredSource(latency)}
    modes = [
        plan_modes(
            make_plan(
                **asked,
                space=SearchSpace(
                    batch_sizes=(8,), microbatches=(1,), ffn_workers=(1,), target=find_target(name)
                ),
            )
        )
        for name in ("vllm-afd-plugin", "any")
    ]
    assert modes[0] == modes[1]


@pytest.mark.parametrize("bound", [{"max_bundle_devices": 5}, {"max_attention_workers": 2}])
def test_without_a_barrier_a_bundle_keeps_its_bounds(bound):
    """A connector may run a bundle on one node only: more devices would not start."""
    source = MeasuredSource(LATENCY, kv_tokens=1e9)
    space = SearchSpace(batch_sizes=(BATCH,), microbatches=(M,), ffn_workers=(F,), **bound)
    free = SearchSpace(batch_sizes=(BATCH,), microbatches=(M,), ffn_workers=(F,))
    limits = Limits(devices=40)
    assert plan_modes(make_plan(LAW, source, limits, space=free)).attention_workers > 2
    found = plan_modes(make_plan(LAW, source, limits, space=space))
    assert found.attention_workers <= 2
    assert found.synchronous_attention_workers <= 2
