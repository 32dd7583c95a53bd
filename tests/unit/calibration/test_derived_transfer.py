"""Transfers by hand: DeepSeek-V3.2 in int8 on dies of Ascend 910C, 196 GB/s each."""

import functools

import numpy as np
import pytest

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.derived_error import part_errors, with_factor
from afdplan.calibration.derived_transfer import (
    exchange_times,
    receive_transfer,
    send_transfer,
)
from afdplan.calibration.placement import place

ONE = np.array(1.0)
BF16 = 7168 * 2
HOP = BF16 / (196e9 * 0.85)
"""A token's state over 0.85 of the link, as messages over a network get."""
MESSAGE = 2e-6 + 10e-6

dies = functools.partial(
    place, find_model("deepseek-v3.2"), find_hardware("ascend-910c"), precision="int8"
)


def test_the_vllm_plugin_relays_tokens_through_one_ffn_rank():
    """In bf16 to a rank and back, beside the exchange among the ranks."""
    straight = exchange_times(dies(ffn_devices=1, ffn_workers=64, serving_system="any"), ONE)
    relayed = dies(ffn_devices=1, ffn_workers=64, serving_system="vllm-afd-ascend")
    fixed, moving = exchange_times(relayed, ONE)
    assert fixed - straight[0] == pytest.approx(2 * MESSAGE)
    assert moving - straight[1] == pytest.approx(2 * HOP)


def test_one_ffn_rank_has_nobody_to_exchange_with():
    """Qwen3-30B on one H200 behind a network of 50 GB/s and 5 us: two messages, nothing else."""
    alone = place(
        find_model("qwen3-30b-a3b"),
        find_hardware("h200"),
        ffn_devices=1,
        serving_system="vllm-afd-plugin",
    )
    hop = 2048 * 2 / (50e9 * 0.85)
    assert exchange_times(alone, ONE) == (pytest.approx(2 * 15e-6), pytest.approx(2 * hop))


def test_the_gpu_plugin_relays_scores_where_attention_has_the_router():
    """P2pNcclAFDConnector sends 128 scores in bf16 after the state, to the same FFN rank."""
    here = functools.partial(
        place,
        find_model("qwen3-30b-a3b"),
        find_hardware("h200"),
        ffn_devices=1,
        serving_system="vllm-afd-plugin",
    )
    fixed, moving = exchange_times(here(router_side="attention"), ONE)
    usual = exchange_times(here(), ONE)
    assert fixed - usual[0] == pytest.approx(15e-6)
    assert moving - usual[1] == pytest.approx(128 * 2 / (50e9 * 0.85))
    told = {line.key: line.text for line in here(router_side="attention").assumptions}["relay"]
    assert "scores after them" in told
    assert "--transfers in-stage" in told


def test_who_chooses_experts_with_attention_sends_to_them_at_once():
    """On Ascend the Window and CAMAsync connectors, which write to every FFN rank."""
    options = {"ffn_devices": 1, "ffn_workers": 64, "router_side": "attention"}
    relayed = dies(serving_system="vllm-afd-ascend", **options)
    assert exchange_times(relayed, ONE) == exchange_times(
        dies(serving_system="any", **options), ONE
    )


def test_a_relay_that_overlaps_is_in_the_links_times():
    options = {"ffn_devices": 1, "ffn_workers": 64, "transfers": "overlapped"}
    relayed = dies(serving_system="vllm-afd-ascend", **options)
    straight = dies(serving_system="any", **options)
    for way in (send_transfer, receive_transfer):
        longer = way(relayed).time(1, 1.0) - way(straight).time(1, 1.0)
        assert longer == pytest.approx(MESSAGE + HOP)


def test_ffn_ranks_of_one_node_exchange_inside_it():
    """Two H200 behind a network: one message each way, then DeepEP's kernels on NVLink."""
    options = {"ffn_devices": 2, "batch_size": 8}
    h200, qwen = find_hardware("h200"), find_model("qwen3-30b-a3b")
    relayed = place(qwen, h200, serving_system="vllm-afd-plugin", link="scale-out", **options)
    inside = place(qwen, h200, serving_system="any", link="scale-up", **options)
    fixed, moving = exchange_times(relayed, ONE)
    straight = exchange_times(inside, ONE)
    assert fixed - straight[0] == pytest.approx(2 * 15e-6)
    assert moving - straight[1] == pytest.approx(2 * 2048 * 2 / (2 * 50e9 * 0.85))


def test_ffn_ranks_of_several_nodes_exchange_over_the_network():
    options = {"ffn_devices": 16, "link": "scale-out"}
    h200, qwen = find_hardware("h200"), find_model("qwen3-30b-a3b")
    relayed = place(qwen, h200, serving_system="vllm-afd-plugin", **options)
    straight = place(qwen, h200, serving_system="any", **options)
    more = exchange_times(relayed, ONE)[0] - exchange_times(straight, ONE)[0]
    assert more == pytest.approx(2 * 15e-6)


def test_a_relay_is_as_unsure_as_a_message_and_moves_with_its_way():
    alone = place(
        find_model("qwen3-30b-a3b"),
        find_hardware("h200"),
        ffn_devices=1,
        serving_system="vllm-afd-plugin",
    )
    fixed, moving = exchange_times(alone, ONE)
    longer = exchange_times(with_factor(alone, "dispatch", 3.0), ONE)
    assert longer == (pytest.approx(2 * fixed), pytest.approx(2 * moving))
    for part in ("dispatch", "combine"):
        assert part_errors(alone)[part] == pytest.approx(1.4826 * 0.3)
