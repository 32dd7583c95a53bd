"""What is a running plan by other times? The same design; times, memory and names as asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from afdplan.calibration.derived import times_of
from afdplan.calibration.latency_choice import LatencyChoice
from afdplan.errors import InvalidInputError, TimeUnitError
from afdplan.files.latency_file import save_latency
from afdplan.planning.cache_memory import CacheSpace
from afdplan.planning.retimed import retimed
from tests.unit.planning.test_check import PLAN

MADE = {"model": "deepseek-v3", "hardware": "h200", "kv_precision": "fp8", "devices": 64}
RUNS = replace(
    PLAN,
    attention_devices=2,
    ffn_devices=8,
    bundle=replace(PLAN.bundle, ffn_workers=2, batch_size=16, attention_workers=4),
    model="deepseek-v3",
    inputs=MADE,
    cache_capacity=1.0,
    cache_kinds=((100.0, None),),
)


def option(one):
    return one.option


def expected(**changed):
    """Return the placement of the design by names."""
    named = {name: MADE[name] for name in ("model", "hardware", "kv_precision")} | changed
    return LatencyChoice.of(named, option).placement(
        attention_devices=2, ffn_devices=8, ffn_workers=2, batch_size=16
    )


def same_times(one, other):
    assert one.attention == other.attention
    assert (one.ffn, one.send, one.receive) == (other.ffn, other.send, other.receive)


def test_what_is_not_asked_stays_as_the_plan_was_made():
    found = retimed(RUNS, {"hardware": "h100-sxm", "model": None}, option)
    placement = expected(hardware="h100-sxm")
    same_times(found.latency, times_of(placement))
    assert found.model == "deepseek-v3"
    assert found.cache_capacity == CacheSpace.of(placement.memory()).capacity > 1.0
    doubled = retimed(RUNS, {"kv_precision": "bf16"}, option)
    assert len(found.cache_kinds) == len(doubled.cache_kinds) > 0
    for (one, window), (two, same) in zip(found.cache_kinds, doubled.cache_kinds, strict=True):
        assert window == same
        assert two == pytest.approx(2 * one, rel=0.02)  # one byte a number, then two
    # Nothing else of the plan or of what it was made with is another.
    assert found.inputs == {**RUNS.inputs, **dict.fromkeys(found.inputs), "devices": 64,
                            "model": "deepseek-v3", "hardware": "h100-sxm",
                            "kv_precision": "fp8"}  # fmt: skip
    assert replace(found, latency=RUNS.latency, inputs=MADE, cache_capacity=1.0,
                   cache_kinds=RUNS.cache_kinds) == RUNS  # fmt: skip


def test_a_measured_model_takes_the_place_of_all_names_and_keeps_the_memory(tmp_path):
    file = tmp_path / "measured.toml"
    save_latency(replace(PLAN.latency, name="measured", step_overhead=0.5), file)
    found = retimed(RUNS, {"latency": str(file)}, option)
    assert (found.latency.name, found.latency.step_overhead) == ("measured", 0.5)
    assert found.model == ""
    assert (found.cache_capacity, found.cache_kinds) == (RUNS.cache_capacity, RUNS.cache_kinds)
    assert found.inputs["hardware"] is found.inputs["model"] is None
    assert found.inputs["devices"] == 64


def test_a_plan_of_a_measured_model_takes_the_names_alone():
    measured = replace(RUNS, model="", inputs={"latency": "m.toml", "kv_precision": "fp8"})
    found = retimed(measured, {"model": "deepseek-v3", "hardware": "h200"}, option)
    same_times(found.latency, times_of(expected(kv_precision=None)))
    assert found.inputs["kv_precision"] is None


def test_other_units_and_devices_that_cannot_hold_the_model_are_refused():
    with pytest.raises(TimeUnitError, match="--latency must be in the plan's unit of time, s,"):
        retimed(RUNS, {"latency": "deepseek-v3-ascend-910c"}, option)
    with pytest.raises(InvalidInputError, match="ffn_devices = 8 is too few"):
        retimed(RUNS, {"hardware": "l20", "model": "kimi-k2"}, option)
