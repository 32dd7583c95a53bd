"""Does a derived prefill worker do the operations, reads and messages that its sizes ask for?"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.derived_attention import products_time
from afdplan.calibration.derived_feed_forward import network_time
from afdplan.calibration.derived_prefill import derive_prefill, prefill_workers
from afdplan.calibration.operator import find_operator
from afdplan.calibration.placement import place
from afdplan.calibration.serving_system import SYSTEMS
from afdplan.errors import AfdplanError, InfeasibleError

H100, H200 = find_hardware("h100"), find_hardware("h200")


def worker(model, hardware, devices, **options):
    return derive_prefill(
        place(find_model(model), hardware, attention_devices=1), hardware, devices, **options
    )


def test_long_passes_of_a_dense_part_are_bound_by_arithmetic():
    """Twice the tokens of a long pass take twice the operations of the active parameters."""
    found = worker("qwen3-235b-a22b-fp8", H200, 2)
    slope = (found.compute(8192.0) - found.compute(4096.0)) / 4096
    model = find_model("qwen3-235b-a22b-fp8")
    operations = 2 * (model.active_parameters - model.embedding_parameters)
    # Experts of which no rows are dispatched: also handled, one by one.
    products, experts = find_operator(H200, "gemm", "fp8"), find_operator(H200, "experts", "int8")
    shares = [products.matrix_share, experts.matrix_share]
    rows = model.layers * model.experts_per_token / 2
    handled = rows * model.hidden_size * experts.depth_time
    least, most = (operations / (2 * H200.matrix_rate("fp8") * f(shares)) for f in (max, min))
    sent = 2 * model.layers * model.hidden_size * 2 / (H200.scale_up.bandwidth * 0.85)
    assert least + sent < slope < 1.1 * most + sent + handled


def test_pairs_are_those_of_heads_and_layers():
    found = worker("qwen3-235b-a22b-fp8", H200, 4)
    model = find_model("qwen3-235b-a22b-fp8")
    heads = model.attention
    operations = model.layers * 4 * heads.query_heads * heads.head_size / 4
    expected = operations / (H200.matrix_rate("bf16") * 0.67)
    assert [kind.window for kind in found.pairs] == [None]
    assert found.pairs[0].time == pytest.approx(expected, rel=1e-9)


def test_windows_and_selected_tokens_bound_the_pairs():
    windows = {kind.window for kind in worker("gpt-oss-120b", H200, 1).pairs}
    assert windows == {None, 128}
    assert {kind.window for kind in worker("deepseek-v3.2", H200, 8).pairs} == {None, 2048}


def test_prefill_of_deepseek_is_near_what_was_published():
    """LMSYS, 2025-05-05, 96 H100: 52.3 k input tokens/s per node of 8 at prompts of 2,000."""
    found = worker("deepseek-v3", H100, 16)
    rate = 8192 / (found.compute(8192.0) + 4 * found.pair_times(2048.0)) / 2
    # Its attention is data parallel and its messages hide behind a second batch: 0.55 of it.
    assert 0.5 < rate / 52_300 < 0.65
    # Without all-reduces, in messages that are hidden: 32 devices, every one with its own prompts.
    alone = replace(
        place(find_model("deepseek-v3"), H100),
        ffn_hardware=H100,
        attention_devices=1,
        ffn_devices=32,
        ffn_workers=1,
        system=replace(SYSTEMS["any"], dispatches=False),
    )
    tokens = np.array([32_768.0])
    busy = sum(
        count * products_time(alone, mixer, tokens / 32)
        for mixer, count in Counter(alone.architecture.mixers).items()
    )
    for network, count in Counter(
        one for block in alone.architecture.blocks for one in block.feed_forward
    ).items():
        busy += count * network_time(alone, network, tokens)
    assert 0.9 < tokens / 4 / busy / 52_300 < 1.35


def test_prefill_has_neither_kernels_nor_processors_of_dispatched_rows():
    b200, model = find_hardware("b200"), find_model("deepseek-v3")
    usual, fused = (
        derive_prefill(place(model, b200, serving_system=name), b200, 8)
        for name in ("any", "fastafd")
    )
    assert fused.compute(8192.0) == usual.compute(8192.0)
    # Each device has experts of its own, as the answer says, whoever slices them in decoding.
    sliced = derive_prefill(place(model, b200, serving_system="stepmesh"), b200, 8)
    assert sliced.compute(8192.0) == usual.compute(8192.0)
    # Eight bits and a scale for every 32 of them run on the kernels of eight bits.
    plain, scaled = (
        derive_prefill(place(model, H200, precision=name, attention_devices=8), H200, 16)
        for name in ("fp8", "fp8:8.25")
    )
    assert 1.0 < scaled.compute(8192.0) / plain.compute(8192.0) < 1.04


def test_workers_have_what_holds_the_model_inside_a_domain():
    placement = place(find_model("deepseek-v3"), H200)
    assert [one.devices for one in prefill_workers(placement, H200)] == [8]
    wide = prefill_workers(placement, H100)
    assert [one.devices for one in wide] == [16]
    longer = np.array([100, 5000])
    assert (
        np.diff(
            [
                one.times(longer)[1]
                for one in prefill_workers(place(find_model("gpt-oss-120b"), H200), H200)
            ]
        )
        < 0
    ).all()


def test_the_cache_is_sent_once():
    """A latent cache is replicated on 8 devices, but each sends an eighth of one copy."""
    found = worker("deepseek-v3", H200, 8)
    entry = 61 * 576 * 2
    assert found.transfer_per_token == pytest.approx(
        entry / 8 / (H200.scale_out.bandwidth * 0.85), rel=1e-9
    )


def test_what_does_not_fit_is_said_in_one_line():
    placement = place(find_model("deepseek-v3"), H200)
    small = replace(H200, memory_size=10e9)
    with pytest.raises(InfeasibleError, match="does not fit") as refused:
        prefill_workers(placement, small)
    assert "\n" not in str(refused.value)
    with pytest.raises(AfdplanError, match="multiple of the 8"):
        prefill_workers(placement, H200, devices=12)
    with pytest.raises(AfdplanError, match="does not fit"):
        prefill_workers(placement, H200, devices=4)
