"""What Python code gives by mistake is refused by name, with how to get what is needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import afdplan
from afdplan.errors import AfdplanError

LAW = afdplan.IndependentLengths(prompt="geometric:100", decode="geometric:50")
LATENCY = afdplan.load_latency("deepseek-v3-ascend-910c")
TRACE = afdplan.Trace(prompt_tokens=np.arange(1, 9), decode_tokens=np.arange(1, 9))
SCENARIO = afdplan.Scenario(
    bundle=afdplan.Bundle(attention_workers=2, batch_size=4),
    latency=LATENCY,
    lengths=LAW,
    requests_per_worker=50,
)
ASKED: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "DerivedSource": (
        afdplan.DerivedSource,
        {"placement": afdplan.derived_model("deepseek-v3", "h200").placement},
    ),
    "EmpiricalLengths": (afdplan.EmpiricalLengths, {"trace": TRACE}),
    "MeasuredSource": (afdplan.MeasuredSource, {"latency_model": LATENCY, "kv_tokens": 1e6}),
    "check_plan": (afdplan.check_plan, {"plan": None, "law": LAW}),
    "derived_model": (afdplan.derived_model, {"model": "deepseek-v3", "hardware": "h200"}),
    "describe_workload": (afdplan.describe_workload, {"trace": TRACE}),
    "load_latency": (afdplan.load_latency, {"name_or_path": "deepseek-v3-ascend-910c"}),
    "make_plan": (
        afdplan.make_plan,
        {
            "law": LAW,
            "source": afdplan.MeasuredSource(LATENCY),
            "limits": afdplan.Limits(devices=16),
        },
    ),
    "read_plan": (afdplan.read_plan, {"path": "plan.json"}),
    "read_trace": (afdplan.read_trace, {"path": "trace.csv", "columns": None}),
    "recommend_ratio": (
        afdplan.recommend_ratio,
        {"law": LAW, "latency": LATENCY, "batch_size": 8, "token_load": None},
    ),
    "save_latency": (afdplan.save_latency, {"model": LATENCY, "path": "/dev/null/no"}),
    "simulate": (afdplan.simulate, {"scenario": SCENARIO, "threads": 1}),
    "token_load_estimate": (afdplan.token_load_estimate, {"trace": TRACE, "replicates": 100}),
    "Trace": (
        afdplan.Trace,
        {
            "prompt_tokens": [1, 2],
            "decode_tokens": [1, 2],
            "arrival_times": [0.0, 1.0],
            "session_ids": [0, 1],
        },
    ),
}
FOREIGN = [-1, float("nan"), b"\xff", object(), [{}], SCENARIO]


@pytest.mark.parametrize(
    ("name", "argument"), [(name, key) for name, (_, given) in ASKED.items() for key in given]
)
def test_foreign_objects_are_refused_by_name(name: str, argument: str) -> None:
    call, given = ASKED[name]
    for value in FOREIGN:
        if name == "simulate" and value is SCENARIO:
            continue
        with pytest.raises(AfdplanError) as refused:
            call(**given | {argument: value})
        assert "\n" not in str(refused.value)


def test_a_trace_for_a_law_says_how_to_make_one() -> None:
    with pytest.raises(AfdplanError, match=r"EmpiricalLengths\(trace\)"):
        afdplan.recommend_ratio(TRACE, LATENCY, batch_size=8)


def test_no_threads_are_refused() -> None:
    with pytest.raises(AfdplanError, match="threads must be an integer >= 1"):
        afdplan.simulate(SCENARIO, threads=0)


def test_an_array_is_no_choice() -> None:
    """An array, asked whether it is one of several words, raised a ValueError of NumPy."""
    given = {name: getattr(LATENCY, name) for name in ("attention", "ffn", "send", "receive")}
    with pytest.raises(AfdplanError, match="time_unit must be one of s, abstract") as refused:
        afdplan.LatencyModel(name="x", time_unit=np.zeros((2, 2)), **given)
    assert "\n" not in str(refused.value)
