"""Bytes, operations and messages of a pass over prompts, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from afdplan.calibration.architecture import Mixer
from afdplan.calibration.attention import SparseIndexer
from afdplan.calibration.derived_feed_forward import (
    network_time,
)
from afdplan.calibration.derived_prefill import derive_prefill
from afdplan.calibration.hardware import Link
from afdplan.calibration.recurrent import DeltaAttention
from tests.unit.calibration.invented import (
    DEVICE,
    GROUPED,
    HIDDEN,
    LATENT,
    ROUTED,
    VOCABULARY,
    call,
    model,
    placed,
    product,
    reduction,
    sweep_of_states,
)


def parts_of_a_layer(n):
    """One routed layer on two domains of eight devices, whose experts are spread over all 16."""
    own = n / 2
    # A head of 32 with a key and a value; its output. Norm, rotary, write, one quantisation.
    seconds = product(HIDDEN, 96, own) + product(32, HIDDEN, own) + 4 * sweep_of_states(own)
    seconds += call("attention") + 2 * reduction(own, 8)  # after attention and after the network
    each = n / 16
    seconds += product(HIDDEN, 2 * 194, each) + product(194, HIDDEN, each)
    # The shared network's activation and quantisation; the router, and the choice after it.
    seconds += 2 * sweep_of_states(each)
    seconds += product(HIDDEN, 16, each, "bf16") + sweep_of_states(each)
    expert, touched = 3 * HIDDEN * 96, 1 - (14 / 16) ** n
    rows = n * 2 / 16 * 1.25
    moved = touched * expert * (0.5 + 2 / 128) + rows * (HIDDEN * 3 + 96 * 10)
    seconds += call("experts", moved, 2 * expert * (rows + 16 * touched), rows * HIDDEN)
    copies = 2 * (1 - (8 * 7) / (16 * 15))
    seconds += 2 * 9e-6 + copies / 2 * HIDDEN * (1 + 2) * each / (0.8 * 5e10)
    return seconds


def test_a_prefill_worker_of_two_domains():
    placement = placed(model(*[Mixer(heads=GROUPED)] * 3), serving_system="fastafd",
                       router_side="attention")  # fmt: skip
    far = replace(DEVICE, scale_out=Link(bandwidth=9e10, latency=3e-6))
    other = replace(DEVICE, scale_out=Link(bandwidth=3e10, latency=7e-6))
    found = derive_prefill(replace(placement, attention_hardware=far), DEVICE, 16, 4096)
    assert (found.devices, found.chunk_tokens) == (16, 4096)
    assert found.compute.loads[[0, -1]].tolist() == [1.0, 4096.0]
    # Scheduling, and an eighth of the output embedding for one token.
    once = 1e-3 + product(HIDDEN, VOCABULARY // 8, 1, "bf16")
    for n in (1.0, 4096.0):
        assert found.compute(n) == pytest.approx(once + 3 * parts_of_a_layer(n), rel=1e-9)
    (pair,) = found.pairs
    assert pair.time == pytest.approx(3 * 4 * 32 / (0.67 * 2 * 1e14), rel=1e-12)
    # 128 numbers of a byte in three layers, from 16 devices over the slower link.
    assert found.transfer_per_token == pytest.approx(3 * 128 / 16 / (0.8 * 5e10), rel=1e-12)
    assert found.transfer_latency == pytest.approx(4e-6 + 5e-6)
    slow = derive_prefill(replace(placement, attention_hardware=other), DEVICE, 16, 4096)
    assert slow.transfer_per_token == pytest.approx(3 * 128 / 16 / (0.8 * 3e10), rel=1e-12)
    assert slow.transfer_latency == pytest.approx(7e-6 + 5e-6)
    # A tenth is kept free; KV heads are replicated: a key and a value of 32 on every device.
    attention = 3 * HIDDEN * (96 + 32) + 2 * VOCABULARY * HIDDEN * 2 / 8
    experts = 3 * 3 * HIDDEN * 96 * (0.5 + 2 / 128)
    common = 3 * (3 * HIDDEN * 194 + HIDDEN * 16)
    room = 0.9 * 8e10 - attention - experts - common
    assert found.most_tokens == pytest.approx(room / (3 * 64), rel=1e-12)


@pytest.mark.parametrize("other", ["fastafd", "vllm-afd-plugin", "xdeepserve"])
def test_prompts_take_as_long_whoever_routes_in_decoding(other):
    placements = [
        placed(model(Mixer(heads=GROUPED)), serving_system=name) for name in ("any", other)
    ]
    times = [derive_prefill(one, DEVICE, 16).compute.times.tolist() for one in placements]
    assert times[0] == times[1]


def test_pairs_of_a_prompt_by_kind_of_layer():
    """A prompt unfolds latents, unless it selects entries of the cache."""
    select = Mixer(
        heads=LATENT, indexer=SparseIndexer(heads=4, head_size=32), selected_tokens=100,
        compression=4, local_tokens=10,
    )  # fmt: skip
    mixers = (select, Mixer(heads=LATENT), Mixer(heads=GROUPED, window=64), Mixer(heads=LATENT))
    recurrent = Mixer(heads=DeltaAttention(query_heads=8, key_heads=4, key_size=16, value_size=32))
    placement = placed(model(*mixers, recurrent))
    found = derive_prefill(placement, DEVICE, 2)
    rate = 0.67 * 1e14
    # Four heads on each of two devices.
    selected, unfolded = 2 * 4 * (64 + 8 + 64) / rate, 2 * 4 * (24 + 24) / rate
    wanted = {
        None: 2 * 4 * 32 / (0.67 * 3e14) / 4 + 2 * unfolded,
        400: selected / 4,
        10: selected,
        64: 2 * 4 * 64 / rate,
    }
    assert {one.window: one.time for one in found.pairs} == pytest.approx(wanted, rel=1e-12)
    # Two key heads; values and their gate, decay and step for four heads. Norm; three more;
    # quantisation. Decay, update and read of the state, in units of its 4 bytes.
    n = float(found.compute.loads[-1])
    added = product(HIDDEN, 2 * 2 * 16 + 2 * 4 * 32 + 2 * 4, n) + product(128, HIDDEN, n)
    added += 5 * sweep_of_states(n) + call("attention") + 2 * reduction(n, 2)
    added += 6 * (4 * 16 * 32 + 192 * 3 * 2 / 4) * n / (0.25 * 1e14 / 5)
    # Whoever routes in decoding: a prefill worker does all itself.
    here = placed(model(recurrent), ffn_devices=2, router_side="ffn")
    added += float(network_time(here, ROUTED, n))
    more = found.compute(n) - derive_prefill(placed(model(*mixers)), DEVICE, 2).compute(n)
    assert more == pytest.approx(added, rel=1e-9)
