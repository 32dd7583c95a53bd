"""Router and shared experts on either side: what moves is what these parts take, to the byte."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.derived import latency_of, times_of
from afdplan.calibration.derived_prefill import derive_prefill
from afdplan.calibration.placement import place
from afdplan.errors import InvalidInputError
from tests.unit.calibration.test_derived import PERFECT

MODEL, DEVICE = find_model("deepseek-v3"), find_hardware("h200")
HIDDEN, SHARED, EXPERTS, CHOSEN, LAYERS, DENSE = 7168, 2048, 256, 8, 61, 3
DENSE_MODEL = replace(MODEL, blocks=MODEL.blocks[:DENSE])
OPTIONS = {"efficiencies": PERFECT, "ffn_devices": 8, "ffn_workers": 2, "batch_size": 4}


def placed(**sides):
    return place(MODEL, DEVICE, **{**OPTIONS, **sides})


def attention(latency):
    return float(latency.attention[0].time(4000.0, 4))


def test_unless_asked_everything_is_where_the_system_has_it_to_the_last_bit():
    plain = latency_of(placed())
    named = latency_of(placed(shared_experts_side="ffn"))
    assert named == plain
    plugin = {"serving_system": "vllm-afd-plugin"}
    assert times_of(placed(router_side="ffn", **plugin)) == times_of(placed(**plugin))


def test_the_router_takes_its_time_along_and_its_choices_travel():
    here, there = times_of(placed(router_side="attention")), times_of(placed(router_side="ffn"))
    # Few tokens: reading its bf16 weights binds on either side; 3 of 61 layers have none.
    read = 2 * HIDDEN * EXPERTS / DEVICE.memory_bandwidth * (LAYERS - DENSE) / LAYERS
    assert attention(here) - attention(there) == pytest.approx(read, rel=0.05)
    assert float(there.ffn(8.0) - here.ffn(8.0)) == pytest.approx(read, rel=0.05)
    hidden = HIDDEN * 1.0  # fp8
    ratio = here.send.curve.slope / there.send.curve.slope
    assert ratio == pytest.approx((hidden + 12 * CHOSEN) / hidden)
    assert here.receive == there.receive
    assert times_of(placed()).send == there.send  # by default nothing is sent along


@pytest.mark.parametrize("devices", [1, 4])
def test_shared_experts_take_time_and_memory_along(devices):
    here = placed(shared_experts_side="attention", attention_devices=devices)
    there = placed(attention_devices=devices)
    weights = 3 * HIDDEN * SHARED  # fp8
    moved = (LAYERS - DENSE) * weights
    before, after = there.memory(), here.memory()
    assert before.ffn_weight_bytes - after.ffn_weight_bytes == pytest.approx(moved)
    more = after.attention_weight_bytes - before.attention_weight_bytes
    assert more == pytest.approx(moved / devices)
    read = weights / DEVICE.memory_bandwidth * (LAYERS - DENSE) / LAYERS
    slow, fast = times_of(here), times_of(there)
    assert float(fast.ffn(8.0) - slow.ffn(8.0)) == pytest.approx(read, rel=0.05)
    added = attention(slow) - attention(fast)
    if devices == 1:
        assert added == pytest.approx(read, rel=0.05)
    else:  # a slice each, and the sums over the slices
        sums = 2 * DEVICE.scale_up.latency * (LAYERS - DENSE) / LAYERS
        assert added == pytest.approx(read / devices + sums, rel=0.05)
    assert slow.send == fast.send


def test_a_worker_that_does_all_is_not_moved():
    sides = derive_prefill(placed(shared_experts_side="attention"), DEVICE, 8)
    whole = derive_prefill(placed(), DEVICE, 8)
    assert np.array_equal(sides.times(np.array([64, 4096])), whole.times(np.array([64, 4096])))


@pytest.mark.parametrize(
    ("model", "sides", "said"),
    [
        ("dense", {"router_side": "ffn"}, "router_side is of models with routed experts"),
        ("qwen3-235b-a22b-fp8", {"shared_experts_side": "ffn"}, "has none: leave it out"),
        ("deepseek-v3", {"router_side": "pool"}, "router_side must be"),
    ],
)
def test_a_side_of_what_a_model_has_not_is_refused(model, sides, said):
    with pytest.raises(InvalidInputError, match=said) as caught:
        place(DENSE_MODEL if model == "dense" else find_model(model), DEVICE, **OPTIONS, **sides)
    assert "\n" not in str(caught.value)
