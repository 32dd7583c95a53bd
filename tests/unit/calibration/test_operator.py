import csv
import io
import math
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest

from afdplan.calibration.catalogue import find_hardware, find_model, shipped_hardware
from afdplan.calibration.derived import latency_of, times_of
from afdplan.calibration.derived_error import part_errors, with_factor
from afdplan.calibration.operator import (
    OTHER_MAKER_ERROR,
    Operator,
    find_operator,
    operator_rows,
)
from afdplan.calibration.placement import place
from afdplan.model.latency import coefficients_of

BARS = {"attention": 0.08, "latent": 0.08, "gemm": 0.10, "experts": 0.15}


def test_parts_add_up_between_their_longest_and_their_sum():
    one = Operator(memory_share=0.5, matrix_share=0.25, fixed_time=1.0, sharpness=2.0,
                   depth_time=0.1)  # fmt: skip
    # 2 / 0.5 = 4, 0.75 / 0.25 = 3, no depth: 5 by Pythagoras.
    assert float(one.time(2.0, 0.75)) == pytest.approx(6.0)
    assert float(one.time(0.0, 0.0, 70)) == pytest.approx(8.0)
    assert float(one.scaled(2.0).time(2.0, 0.75, 3)) == pytest.approx(2 * one.time(2.0, 0.75, 3))
    assert one.time(np.zeros(3)).tolist() == [1.0, 1.0, 1.0]


def test_the_chosen_kernels_meet_their_bars_on_shapes_that_were_held_out():
    rows = {key: row for key, (row, _) in operator_rows().items() if key[1] in BARS}
    large = {"A100-80G", "H100-SXM", "H200", "B200", "GB200", "B300", "GB300"}
    missed = [key for key, row in rows.items() if key[0] in large and row.error > BARS[key[1]]]
    # Weights that are unpacked before the product.
    assert {key[::2] for key in missed} <= {("H100-SXM", "mxfp4"), ("H200", "mxfp4")}
    for family, bar in {"attention": 0.08, "gemm": 0.08, "experts": 0.06}.items():
        errors = [row.error for key, row in rows.items() if key[1] == family]
        assert np.median(errors) < bar


def test_the_table_states_what_was_not_chosen_too():
    text = (resources.files("afdplan.data") / "operators.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    keys = [(row["device"], row["family"], row["format"]) for row in rows if row["chosen"] == "yes"]
    assert len(keys) == len(set(keys)) < len(rows)
    measured = {device for device, *_ in operator_rows()}
    assert {device for device, *_ in keys} == measured
    assert measured <= {one.name for one in shipped_hardware().values()}


@pytest.mark.parametrize(("device", "like"), [("h800-sxm", "H100-SXM"), ("mi355x", "B200")])
def test_a_device_without_a_table_takes_a_like_one_and_errs_more(device, like):
    borrowed = find_operator(find_hardware(device), "attention", "bf16")
    lender = next(one for one in shipped_hardware().values() if one.name == like)
    own = find_operator(lender, "attention", "bf16")
    assert borrowed.origin == own.origin
    assert borrowed.error > own.error
    assert borrowed.memory_share == own.memory_share


@pytest.mark.parametrize(
    ("device", "maker"), [("ascend-910c", "Huawei"), ("mi300x", "AMD"), ("mi355x", "AMD")]
)
def test_kernels_of_another_maker_are_less_sure(device, maker):
    hardware = find_hardware(device)
    own = replace(hardware, maker="NVIDIA")
    assert hardware.maker == maker
    assert find_operator(replace(own, maker="nvidia"), "gemm", "bf16") == find_operator(
        own, "gemm", "bf16"
    )
    for family in ("attention", "experts"):
        same, other = (find_operator(one, family, "bf16").error for one in (own, hardware))
        lender = find_operator(find_hardware(hardware.like), family, "bf16").error
        assert other == pytest.approx(math.hypot(lender, OTHER_MAKER_ERROR))
        assert same < other


def test_a_stand_in_on_a_device_that_was_not_measured_errs_by_both():
    """Products of mxfp4 run as nvfp4's of B200: on MI355X another maker's, on B200 its own."""
    row, stands_in = operator_rows()["B200", "gemm", "nvfp4"]
    here = find_operator(find_hardware("b200"), "gemm", "mxfp4").error
    there = find_operator(find_hardware("mi355x"), "gemm", "mxfp4").error
    assert stands_in > 0.02
    assert here == pytest.approx(math.hypot(row.error, stands_in))
    assert there == pytest.approx(math.hypot(row.error, OTHER_MAKER_ERROR, stands_in))


def test_kernels_that_nobody_ships_tuned_are_told():
    """Of eight experts vLLM has them for A100 up to 7,168 inner numbers; Mixtral has 16,384."""
    mixtral = find_model("mixtral-8x22b")

    def told(device, **options):
        placement = place(mixtral, find_hardware(device), **options)
        return [line for line in times_of(placement).assumptions if "untuned" in line]

    for device in ("a100", "a800-80g"):
        (words,) = told(device, ffn_devices=8)
        assert "none ships for 16,384 inner numbers (up to 7,168)" in words
    assert told("h200", ffn_devices=8) == []
    assert told("a100", ffn_devices=8, precision="int8a16") == []
    # Slices of a tensor-parallel node are small enough.
    assert told("a100", ffn_devices=8, serving_system="stepmesh") == []


def test_slow_matrix_units_are_used_better():
    # H20 has H200's everything else at a seventh of its matrix rate.
    slow, fast = (find_operator(find_hardware(n), "latent", "bf16") for n in ("h20", "h200"))
    assert fast.matrix_share < slow.matrix_share < 1


def test_a_device_of_a_file_takes_the_nearest():
    near = replace(find_hardware("b200"), name="B200-of-ours", memory_size=1e12)
    assert find_operator(near, "gemm", "nvfp4").origin.startswith("B")
    unknown = find_operator(find_hardware("a100"), "gemm", "fp8")
    assert unknown.error > 0


@pytest.mark.parametrize(
    ("device", "number", "kernels"),
    [
        ("a100", "fp8", ("A100-80G", "int4_wo")),  # has no fp8 units: bf16's rate is not doubled
        ("a100", "mxfp4", ("A100-80G", "int4_wo")),
        ("ascend-910c", "fp8", ("H100-SXM", "int4_wo")),  # the like device has fp8 units
        ("h200", "nvfp4", ("H200", "int4_wo")),
        ("mi300x", "nvfp4", ("H200", "int4_wo")),
        ("h200", "mxfp4", ("H200", "w4a16_mxfp4")),  # measured, unpacking
        ("h20", "mxfp4", ("H200", "w4a16_mxfp4")),
        ("h200", "fp8", ("H200", "deepepmoe")),
        ("gb10", "nvfp4", ("RTX-PRO-6000", "nvfp4")),
    ],
)
def test_a_device_that_has_to_unpack_weights_takes_kernels_that_do(device, number, kernels):
    origin = find_operator(find_hardware(device), "experts", number).origin
    assert (origin.partition(",")[0], origin.split()[-1]) == kernels


def test_each_part_moves_its_own_times_and_all_flow_into_the_uncertainty():
    placement = place(find_model("qwen3-235b-a22b-fp8"), find_hardware("gb200"), ffn_devices=4)
    middle = coefficients_of(times_of(placement))
    moved = {
        part: {
            name.split(".")[0]
            for name, value in coefficients_of(times_of(with_factor(placement, part, 2.0))).items()
            if value > middle[name] * (1 + 1e-9)
        }
        for part in part_errors(placement)
    }
    assert moved["attention"] == {"attention"}
    assert moved["experts"] == {"ffn"}
    assert moved["dispatch"] == {"send"}
    assert moved["combine"] == {"receive"}
    assert {"attention", "step_overhead"} <= moved["gemm"]
    assert moved["scheduling"] == {"step_overhead"}
    errors = latency_of(placement).uncertainty.standard_errors
    share = part_errors(placement)["attention"]
    assert errors["attention.slope"] == pytest.approx(share * middle["attention.slope"], rel=1e-6)
    assert errors["ffn.times.50"] > 0
    assert errors["send.slope"] > 0
