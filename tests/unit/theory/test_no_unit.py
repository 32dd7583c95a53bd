"""Microseconds or seconds: every answer of the theory is the same time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from afdplan.lengths.law import IndependentLengths
from afdplan.model.coupling import Coupling
from afdplan.model.curve import LinearCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers
from afdplan.model.variation import ExpertLoad, Scatter, zipf_popularity
from afdplan.theory.attention_scatter import AttentionScatter
from afdplan.theory.attention_time import TimeLaw
from afdplan.theory.mean_field import MeanField
from afdplan.theory.problem import RatioProblem
from afdplan.theory.step_model import step_model

LAW = IndependentLengths(prompt="geometric:60", decode="geometric:20")
WORKERS = np.array([1.0, 3.0, 16.0])


def kinds(unit, *windows):
    curve = LinearCurve(slope=0.1 * unit, intercept=40.0 * unit)
    return tuple(AttentionLayers(curve=curve, layers=3, context_window=w) for w in windows)


def model(unit, **changes):
    latency = LatencyModel.linear(
        attention=(0.1 * unit, 40.0 * unit), ffn=(1.5 * unit, 30.0 * unit),
        transfer=(0.0, 8.0 * unit), layers=6,
    )  # fmt: skip
    launch = changes.pop("launch", 0.0)
    if launch:
        changes["coupling"] = replace(changes.get("coupling", Coupling()), launch=launch * unit)
    windows = changes.pop("windows", None)
    if windows:
        changes["attention"] = kinds(unit, *windows)
    return replace(latency, step_overhead=changes.pop("overhead", 0.0) * unit, **changes)


BUNDLES = {
    "plain": ({}, {}),
    "overhead and launch": ({"overhead": 9.0, "launch": 3.0}, {}),
    "both scatter": ({"scatter": Scatter(attention=0.2, ffn=0.3)}, {}),
    "attention scatters": ({"scatter": Scatter(attention=0.3, law="lognormal")}, {}),
    "experts": ({"experts": ExpertLoad(experts=64, experts_per_token=4)}, {}),
    "popular experts": (
        {"experts": ExpertLoad(experts=16, popularity=(zipf_popularity(16, 0.8),))}, {},
    ),
    "drained": ({"drain": True}, {}),
    "two kinds": ({"windows": (None, 50)}, {}),
    "occupied": ({"coupling": Coupling(send_attention=0.5, send_ffn=0.3)}, {}),
    "ideal": ({"scatter": Scatter(attention=0.2, ffn=0.3)}, {"overlap": "ideal"}),
    "gaussian": ({}, {"method": "gaussian"}),
    "mean field": ({"windows": (None, 50)}, {"method": "mean-field"}),
    "placed": ({}, {"placement": "longest-prompt"}),
    "placed and scattered": ({"scatter": Scatter(ffn=0.3)}, {"placement": "longest-prompt"}),
    "barrier-free": ({"overhead": 9.0}, {"execution": "barrier-free"}),
}  # fmt: skip


@pytest.mark.parametrize("name", BUNDLES)
@pytest.mark.parametrize("m", [2, 3])
def test_a_step_has_no_unit(name, m):
    effects, options = BUNDLES[name]
    found = []
    for unit in (1.0, 1e-7):
        latency = model(unit, **effects)
        problem = RatioProblem(law=LAW, latency=latency, batch_size=8, microbatches=m, **options)
        steps = step_model(problem, problem.slot_loads())
        step, told = steps.evaluate(WORKERS, (0.5, 0.99)), steps.resources(3.0)
        found.append(
            [
                step.mean / unit, step.quantiles / unit, step.cycle / unit,
                step.attention_idle_fraction, step.ffn_idle_fraction,
                np.array(list(told.values())) / unit,
            ]
        )  # fmt: skip
    near = 5e-3 if name == "barrier-free" else 1e-6  # calls that arrive at once change places
    for whole, small in zip(*found, strict=True):
        assert small == pytest.approx(whole, rel=near, abs=1e-9)


def test_delays_have_no_unit():
    chances, levels = np.array([0.1, 0.2, 0.4, 0.2, 0.1]), (np.arange(16) + 0.5) / 16
    found = []
    for unit in (1.0, 1e-7):
        law = TimeLaw(lowest=80 * unit, spacing=10 * unit, probabilities=chances)
        scatter = AttentionScatter.of(law, (law.support, law.cumulative), 1, 0.3, "gamma")
        late, fresh, kept = scatter.jobs.barriers(WORKERS)
        jobs = np.outer(np.ones(3), np.interp(levels, [0, 1], [90, 118])) * unit
        later = scatter.later(5.0 * unit).delayed(jobs, 2 * jobs, jobs / 4, levels, WORKERS)
        found.append([late / unit, fresh / unit, kept, *(x / unit for x in later)])
    for whole, small in zip(*found, strict=True):
        assert small == pytest.approx(whole, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("coupling", [Coupling(), Coupling(send_ffn=0.4, one_by_one=True)])
def test_a_mean_field_has_no_unit(coupling):
    found = []
    for unit in (1.0, 1e-7):
        field = MeanField(
            latency=model(unit, coupling=coupling), mean_token_loads=(200.0,), batch_size=8,
            microbatches=2, overlap="pipelined",
        )  # fmt: skip
        best = field.optimal_ratio(ffn_weight=1.0, lowest=0.5, highest=40.0)
        found.append([best, field.attention_bound_ratio(), field.communication_bound_ratio()])
    assert found[0] == pytest.approx(found[1], rel=1e-6)
