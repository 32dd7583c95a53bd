"""Sizes, operators and copies of tokens, worked by hand or counted one by one."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.derived_prefill import _reduction
from afdplan.calibration.derived_transfer import copies_per_token
from afdplan.calibration.hardware import hardware_from_table
from afdplan.calibration.operator import Operator, find_operator
from afdplan.calibration.placement import place
from afdplan.calibration.prefill_fit import fit_prefill
from afdplan.calibration.recurrent import DeltaAttention, StateSpace
from afdplan.calibration.robust import normal_consistent_covariance
from afdplan.calibration.stage import fit_stage
from afdplan.calibration.stage_interval import curve_half_widths
from afdplan.errors import InvalidInputError
from afdplan.model.measurement import StageSamples


def test_time_of_a_call_by_hand():
    """3 s to read and 2 s + 2 s to compute, of s = 2 a hypotenuse; a call costs a second."""
    operator = Operator(
        memory_share=0.5, matrix_share=0.25, fixed_time=1.0, sharpness=2.0, depth_time=0.5
    )
    assert operator.time(1.5, 0.5, 4.0) == pytest.approx(1 + math.hypot(3.0, 4.0))
    assert operator.work(1.5, 0.5, 4.0) == pytest.approx(5.0)
    assert operator.work(3.0, 1.0, 8.0) == pytest.approx(10.0)
    assert operator.work(1.5) == pytest.approx(3.0)
    assert operator.scaled(3.0).time(1.5, 0.5, 4.0) == pytest.approx(18.0)
    assert float(operator.time(0.0)) == 1.0


@pytest.mark.parametrize(
    ("experts", "each", "groups"), [(8, 2, 4), (8, 3, 2), (9, 2, 3), (6, 2, 6)]
)
def test_copies_are_the_groups_that_a_token_visits(experts, each, groups):
    size = experts // groups
    visited = [len({e // size for e in chosen}) for chosen in combinations(range(experts), each)]
    assert copies_per_token(experts, each, groups) == pytest.approx(np.mean(visited))


def test_copies_at_the_ends():
    assert copies_per_token(0, 0, 8) == 1.0
    assert copies_per_token(8, 2, 1) == 1.0
    assert copies_per_token(4, 2, 64) == 2.0  # no more groups than experts
    assert copies_per_token(4, 4, 2) == 2.0


def test_layers_of_the_delta_rule_by_hand():
    heads = DeltaAttention(query_heads=8, key_heads=4, key_size=16, value_size=32)
    channels, values = 2 * 4 * 16 + 8 * 32, 8 * 32
    assert heads.state_bytes == 8 * 16 * 32 * 4 + channels * 3 * 2
    # Queries, keys and values; decay and step per head; the gate of full rank; the output.
    inward = channels + 8 + 8 + values
    assert heads.products(100) == ((100, inward), (values, 100))
    assert heads.parameters(100) == 100 * inward + values * 100 + channels * 4
    low = DeltaAttention(
        query_heads=8, key_heads=4, key_size=16, value_size=32, gate_rank=5, full_rank_gate=False
    )
    assert low.products(100) == ((100, channels + 8 + 10), (5, 128), (5, values), (values, 100))
    mixed = DeltaAttention(query_heads=8, key_heads=4, key_size=16, value_size=32, gate_rank=5)
    assert mixed.products(100) == ((100, channels + 8 + values + 5), (5, 128), (values, 100))
    half = heads.sharded(2)
    assert (half.query_heads, half.key_heads, half.key_size) == (4, 2, 16)
    assert heads.sharded(8).key_heads == 1
    with pytest.raises(InvalidInputError, match="must divide the 8 query heads"):
        heads.sharded(3)


def test_layers_of_a_state_space_by_hand():
    heads = StateSpace(query_heads=8, head_size=16, state_size=32, groups=4)
    width, channels = 128, 128 + 2 * 4 * 32
    assert heads.state_bytes == 8 * 16 * 32 * 4 + channels * 3 * 2
    assert heads.products(100) == ((100, width + channels + 8), (width, 100))
    assert heads.parameters(100) == 100 * (width + channels + 8) + width * 100 + channels * 4
    half = heads.sharded(2)
    assert (half.query_heads, half.groups) == (4, 2)
    assert heads.sharded(8).groups == 1


def test_prompts_of_several_passes_are_fitted():
    """Chunks of 1,000: a floor of 20 ms a pass, 50 us a token beyond the knee of 400."""
    tokens = np.array([100, 200, 400, 700, 900, 1000, 1500, 2400, 3900])
    whole, rest = tokens // 1000, tokens % 1000
    times = 0.02 * (whole + (rest > 0)) + 5e-5 * (600 * whole + np.maximum(rest - 400, 0))
    fit = fit_prefill(tokens, times, chunk_tokens=1000)
    curve = fit.model.compute
    assert (fit.prompts, fit.model.chunk_tokens, curve.kind) == (9, 1000, "roofline")
    assert [curve(n) for n in (1.0, 400.0, 1000.0)] == pytest.approx([0.02, 0.02, 0.05], rel=1e-6)
    assert fit.model.pairs[0].time == pytest.approx(0.0, abs=1e-15)
    assert fit.largest_error < 1e-6
    # Behind cached tokens every pair of old and new costs too.
    held = np.array([0, 1000, 3000, 0, 500, 8000, 0, 100, 4000])
    pairs = tokens * held + tokens * (tokens + 1) / 2
    again = fit_prefill(tokens, times + 1e-9 * pairs, cached=held, chunk_tokens=1000)
    assert again.model.pairs[0].time == pytest.approx(1e-9, rel=1e-4)
    slow = fit_prefill(tokens, times * np.where(tokens == 900, 1.5, 1.0), chunk_tokens=1000)
    errors = np.abs(
        slow.model.times(tokens, 0.0 * tokens) / (times * np.where(tokens == 900, 1.5, 1)) - 1
    )
    assert slow.median_error == pytest.approx(np.median(errors))
    assert slow.largest_error == pytest.approx(errors.max())


def test_parts_of_an_output_are_added_up_over_the_link():
    """Of four devices each sends 2 x 3/4 of the message in bf16, twice there and back."""
    hardware = find_hardware("h200")
    placement = place(find_model("qwen3-30b-a3b"), hardware, attention_devices=4, ffn_devices=4)
    tokens = np.array([100.0, 300.0])
    found = _reduction(placement, tokens)
    size = placement.architecture.hidden_size
    slope = 1.5 * size * 2 / (hardware.scale_up.bandwidth * placement.efficiencies.link)
    assert np.diff(found) == pytest.approx([200 * slope])
    one = find_operator(hardware, "elementwise", "bf16")
    assert found[0] - 100 * slope >= 2 * hardware.scale_up.latency + 0.9 * one.fixed_time
    assert _reduction(replace(placement, attention_devices=1), tokens) == 0.0


def test_a_covariance_is_widened_to_students_interval():
    """Of three degrees of freedom the 95 % interval is 3.182 deviations, not 1.960."""
    widened = normal_consistent_covariance(np.array([[4.0, 1.0], [1.0, 9.0]]), 3.0)
    factor = (3.18245 / 1.95996) ** 2
    assert widened == pytest.approx(np.array([[4.0, 1.0], [1.0, 9.0]]) * factor, rel=1e-4)


@pytest.mark.parametrize("form", ["linear", "roofline", "table"])
def test_errors_of_a_fit_have_the_unit_of_its_times(form):
    loads = np.repeat(np.geomspace(10, 1000, 10), 4)
    noise = 1 + 0.02 * np.random.default_rng(3).standard_normal(40)
    times = np.maximum(80.0, 30 + 0.4 * loads) * noise
    one, thousand = (
        fit_stage(StageSamples(stage="ffn", loads=loads, times=k * times), form) for k in (1, 1e3)
    )
    assert thousand.covariance == pytest.approx(1e6 * one.covariance, rel=1e-6)
    assert curve_half_widths(thousand, loads) == pytest.approx(
        1e3 * curve_half_widths(one, loads), rel=1e-6
    )


def test_power_is_another_name_of_watts():
    link = {"bandwidth": 1e9, "latency": 1e-6}
    table = {
        "name": "x", "unit": "die", "memory_bandwidth": 1e12, "memory_size": 1e11,
        "price_per_hour": 1.0, "matrix_tile_rows": 64, "scale_up_devices": 8,
        "devices_per_node": 8, "matrix_rates": {"bf16": 1e15}, "scale_up": link, "scale_out": link,
    }  # fmt: skip
    for name in ("power", "watts"):
        found = hardware_from_table({**table, name: 350.0})
        assert (found.watts, found.name, found.memory_bandwidth) == (350.0, "x", 1e12)
    with pytest.raises(InvalidInputError, match="give one of them"):
        hardware_from_table({**table, "power": 1.0, "watts": 1.0})
