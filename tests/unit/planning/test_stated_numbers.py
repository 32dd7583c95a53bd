"""What is taken where nothing is said, and the numbers that docstrings and documents state."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature
from statistics import NormalDist

import pytest

from afdplan.model import plan_parameters as ask
from afdplan.planning import (
    binding,
    check,
    effect_costs,
    first_token,
    holding,
    infeasible,
    memory_limit,
    plan,
    plan_answer,
    ratio_grid,
    ratio_sensitivity,
    replan,
    running,
    search,
    sensitivity,
    service,
    service_search,
    service_sharing,
    simulated_ratio,
    source,
    source_times,
    step_models,
    supply,
    verdict,
    verdict_error,
    verify,
    worker_memories,
)
from afdplan.planning.design import Design
from afdplan.planning.ratio_question import RatioQuestion


@pytest.mark.parametrize(
    ("function", "name", "value"),
    [
        # No factor, no margin and no share changes anything.
        (replan.replan, "load_factor", 1.0), (search.DesignSearch, "load_factor", 1.0),
        (step_models.StepModels, "load_factor", 1.0),
        (worker_memories.WorkerMemories, "factor", 1.0),
        (worker_memories.WorkerMemories, "load_factor", 1.0),
        (first_token.PrefillPool, "margin", 0.0),
        # Workers are of one device; runs are those of the first seed.
        (source.MeasuredSource, "attention_devices", 1), (source.MeasuredSource, "ffn_devices", 1),
        (verify.verify_plan, "seed", 0),
        # Supplies are judged, times are exact, a server is asked for its last hour.
        (plan.make_plan, "judges_supply", True),
        (source_times.SourceTimes.stages, "at_least", False),
        (running.running, "window", 3600.0),
        (infeasible._enough, "direction", 1), (RatioQuestion.of, "has_around", False),
    ],
)  # fmt: skip
def test_what_a_function_takes_where_nothing_is_said(function, name, value):
    found = signature(function).parameters[name].default
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Design, {"attention_devices": 1, "ffn_devices": 1}),
        (effect_costs.EffectCost, {"attention_scatter": 0.0, "ffn_scatter": 0.0, "ranks": None}),
        (service.Service, {"unique_fraction": 1.0, "steps": (), "cases": (), "baselines": ()}),
        (service_sharing.Sharing, {"decode_factor": 1.0}),
        (plan_answer.PlanQuestion,
         {"has_verification": False, "has_around": False, "has_modes": False}),
    ],
)  # fmt: skip
def test_what_a_value_holds_where_nothing_is_said(kind, values):
    found = {one.name: one.default for one in fields(kind)}
    assert {name: found[name] for name in values} == values


@pytest.mark.parametrize(
    ("module", "values"),
    [
        (binding, {"MATTERS": 1e-3, "MOST": ask.DEVICES.maximum}),
        (check, {"LEAVE": 0.03, "RETURN": 0.015, "TIME_LEAVE": 0.02, "TIME_RETURN": 0.0,
                 "STEP_LEAVE": 0.10, "STEP_RETURN": 0.07, "OVERFLOW_LEAVE": 2.0}),
        (holding, {"MEMORY_MARGIN": 0.05}),
        (memory_limit, {"OVERFLOW": ask.OVERFLOW_PROBABILITY.default}),
        (ratio_grid, {"LARGEST_BATCH": 65_536}), (ratio_sensitivity, {"CHANGE": 0.2}),
        (replan, {"SAME_TIME": 1e-6}), (running, {"UNLIKE_ENGINES": 0.1}),
        (search, {"MOST_DEVICES": 2048}), (sensitivity, {"CHANGE": 0.1}),
        (service, {"MATTERS": 1e-3}), (service_search, {"SAME": 0.01}),
        (service_sharing, {"MORE_DECODE": (1.0, 1.05, 1.1, 1.2, 1.35, 1.5, 2.0, 3.0)}),
        (simulated_ratio, {"PRECISION": 0.002, "MOST_LOST": 0.01, "LEAST_BARRIER": 0.001,
                           "REPLICATIONS": 4, "DECIDING": 8, "MOST_REPLICATIONS": 16}),
        (source, {"GATHERED": {"fan_in": "whole", "dense_share": 1.0}}),
        (step_models, {"SLACK": 0.99998}), (supply, {"MOST_SPARE": 0.5, "LONG_WAIT": 1.0}),
        (verdict, {"CLEAR": 0.05, "SHORT_CONTEXT": 1024, "FINE_GRAINED": 64}),
        (verdict_error, {"CONFIDENCE": 0.95, "WAITING_ERROR": 0.5, "COMMON_ERROR": 0.02,
                         "HOST_GAP": 0.75e-3}),
        (verify, {"DECLARED_MEAN": 0.01, "DECLARED_P99": 0.02}),
    ],
)  # fmt: skip
def test_numbers_are_those_that_are_stated(module, values):
    """Tests that read a threshold from its module do not see it move."""
    assert {name: getattr(module, name) for name in values} == values


def test_the_quantile_of_a_gain_is_that_of_its_confidence():
    reached = NormalDist().cdf(verdict_error.QUANTILE)
    assert reached == pytest.approx((1 + verdict_error.CONFIDENCE) / 2, abs=1e-4)
