"""Rounds of blocks by hand, and beside attention as it was measured."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from afdplan.calibration.block_rounds import ALONE, block_rounds, mean_loss
from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.derived import derived_latency
from afdplan.calibration.derived_attention import attention_rounds
from afdplan.calibration.derived_error import part_errors, with_factor
from afdplan.calibration.placement import place


@pytest.mark.parametrize(
    ("blocks", "held", "expected"),
    [
        (152, 0, 1.0),
        (304, 0, 1.0),
        # 8 blocks of a second round last as 152 / 2.5 = 60.8 would.
        (160, 0, (152 + 60.8) / 160),
        # 104 keep the memory busy.
        (256, 0, 1.0),
        # Each of 48 is split: they fill what is free.
        (48, 24, 1.0),
        (128, 24, 1.0),
        # 16 of the 144 find no processor at once.
        (144, 24, (128 + 60.8) / 144),
        (288, 24, (256 + 60.8) / 288),
        (192, 24, 1.0),
    ],
)
def test_a_last_round_of_few_blocks_waits_for_one_block(blocks, held, expected):
    assert float(block_rounds(blocks, 152, held)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("processors", "held"), [(152, 0), (152, 24), (30, 24), (25, 24), (1, 0), (1_000_000, 0)]
)
def test_more_requests_never_take_less_time(processors, held):
    blocks = np.arange(1, 4000)
    times = blocks * block_rounds(blocks, processors, held)
    assert (np.diff(times) >= -1e-9).all()
    assert (times >= blocks - 1e-9).all()


# SGLang 0.5.14 on GB200 in aiconfigurator-core 0.12.0, bf16, 128 numbers per head: time over that
# of the same bytes in powers of two of blocks, in the median of all calls of more than 200 MB.
GB200_SGLANG = {160: 1.307, 192: 1.132, 320: 1.134, 384: 1.028, 640: 1.050, 768: 1.043}


def test_rounds_are_those_of_measured_attention():
    derived = block_rounds(list(GB200_SGLANG), find_hardware("gb200").processors)
    assert derived == pytest.approx(list(GB200_SGLANG.values()), abs=0.04)
    assert 1.5 < ALONE < 4


@pytest.mark.parametrize("held", [0, 24])
def test_the_mean_loss_is_that_of_all_remainders(held):
    free = 152 - held
    blocks = np.arange(8 * free, 9 * free)
    lost = blocks * (block_rounds(blocks, 152, held) - 1)
    # A sum over whole blocks in place of an integral.
    assert lost.mean() == pytest.approx(mean_loss(1.0e3, 152, held) * 1e3, rel=0.03)
    assert mean_loss(76, 152, held) == 0


def test_what_a_last_round_loses_is_unsure():
    """18 requests of 8 KV heads: one standard error is (152 / 2.5)^2 / (2 152 144)."""
    placement = place(find_model("minimax-m2.5"), find_hardware("gb200"), ffn_devices=4)
    assert part_errors(placement)["rounds"] == 1.0
    moved = with_factor(placement, "rounds", 2.0)
    heads = placement.architecture.mixers[0].heads
    assert attention_rounds(moved, heads, 18) == pytest.approx(1 + 60.8**2 / (2 * 152 * 144))
    assert "rounds" not in part_errors(
        place(find_model("minimax-m2.5"), find_hardware("h200"), ffn_devices=8)
    )
    latent = place(find_model("deepseek-v3"), find_hardware("gb200"), ffn_devices=16)
    assert "rounds" not in part_errors(latent)


def test_only_held_processors_and_known_ones_count():
    """MiniMax has 8 KV heads: 18 requests are 144 blocks, of which 128 are computed at once."""
    model = find_model("minimax-m2.5")

    def rounds(device, system, batch=18):
        found = place(model, find_hardware(device), ffn_devices=4, serving_system=system)
        return attention_rounds(found, model.mixers[0].heads, batch)

    assert rounds("gb200", "fastafd") == pytest.approx((128 + 60.8) / 144)
    assert rounds("gb200", "any") == 1.0
    assert rounds("h200", "fastafd") == 1.0
    assert rounds("gb200", "fastafd", None) == 1.0
    two = place(model, find_hardware("gb200"), ffn_devices=4, attention_devices=2)
    assert attention_rounds(two, model.mixers[0].heads, 40) == pytest.approx(212.8 / 160)


def test_rounds_lengthen_reading_alone():
    slow, fast = (
        derived_latency("minimax-m2.5", "gb200", batch_size=batch, ffn_devices=4).attention[0]
        for batch in (20, 19)
    )
    assert slow.curve.slope / fast.curve.slope == pytest.approx(212.8 / 160)
    assert slow.curve.intercept == pytest.approx(fast.curve.intercept)


def test_what_the_exchange_holds_is_told():
    def told(device, system):
        latency = derived_latency(
            "minimax-m2.5", device, batch_size=18, ffn_devices=8, serving_system=system
        )
        return [line for line in latency.assumptions if "processors" in line]

    held = told("gb200", "fastafd")
    assert any("rounds over 152 processors, of which the exchange holds 24" in one for one in held)
    assert any("with one microbatch, too" in one for one in held)
    (unknown,) = told("h200", "fastafd")
    assert "a kernel of Blackwell: what it takes on H200 is not known" in unknown
    assert told("h200", "any") == []


def test_an_exchange_leaves_some_processors():
    few = replace(find_hardware("gb200"), processors=24)
    model = find_model("minimax-m2.5")
    with pytest.raises(ValueError, match="more than the 24 that the exchange of 'fastafd' holds"):
        place(model, few, ffn_devices=4, serving_system="fastafd")
    assert place(model, few, ffn_devices=4).held_processors == 0
    one_more = place(
        model, replace(few, processors=25), ffn_devices=4, serving_system="fastafd", batch_size=2
    )
    # One block after the other.
    assert attention_rounds(one_more, model.mixers[0].heads, 2) == 1.0


def test_without_a_batch_size_rounds_are_told_as_not_counted():
    latency = derived_latency("minimax-m2.5", "gb200", ffn_devices=4, serving_system="fastafd")
    (told,) = (line for line in latency.assumptions if "rounds over" in line)
    # 129 blocks last as 128 and 60.8 would.
    assert f"takes up to {(128 + 60.8) / 129 - 1:.0%}"[:-1] in told
    assert "give batch_size" in told


def test_a_device_of_a_file_may_state_its_processors():
    from afdplan.calibration.hardware import hardware_from_table
    from afdplan.report.hardware import device_answer

    gb200 = find_hardware("gb200")
    table = json.loads(json.dumps(device_answer("gb200", gb200), default=asdict))
    assert hardware_from_table(table).processors == gb200.processors == 152
    with pytest.raises(ValueError, match="processors"):
        replace(gb200, processors=0)
