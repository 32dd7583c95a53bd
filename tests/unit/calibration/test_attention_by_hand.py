"""Bytes and operations of every kernel beside the attention of a layer, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from afdplan.calibration.architecture import Mixer
from afdplan.calibration.attention import SparseIndexer
from afdplan.calibration.derived_attention import attention_layers, layer_order, projection_error
from afdplan.calibration.recurrent import DeltaAttention
from tests.unit.calibration.invented import (
    DENSE,
    FACTORS,
    GROUPED,
    HIDDEN,
    LATENT,
    OPERATOR,
    ROUTED,
    SHARES,
    call,
    model,
    placed,
    product,
    reduction,
    sweep_of_states,
    work,
)


@pytest.mark.parametrize("batch", [1, 511, 512, 513, 1024, 1100])
def test_a_layer_of_grouped_attention_on_four_devices(batch):
    """Two drafts more: three tokens per request. A quarter of the heads, one KV head each."""
    architecture = model(*[Mixer(heads=GROUPED)] * 4, networks=(DENSE, ROUTED))
    placement = placed(architecture, attention_devices=4, speculative_tokens=2, batch_size=batch)
    (kind,) = attention_layers(placement)
    assert kind.layers == 4 + 2
    tokens = 3 * batch
    # Two query heads of 32, one key and one value; output. Norm, rotary, cache write, and one
    # quantisation: that of the input, which is 1,024 deep; the output's 64 are not quantized.
    seconds = product(HIDDEN, 64 + 2 * 32, tokens) + product(64, HIDDEN, tokens)
    seconds += 4 * sweep_of_states(tokens)
    seconds += call("attention") + reduction(tokens, 4)
    # One block of threads for the one KV head of each request.
    seconds += batch * OPERATOR.depth_time * FACTORS["attention"]
    # A norm before the network; three layers of four choose experts.
    seconds += sweep_of_states(tokens)
    seconds += 0.75 * (product(HIDDEN, 16, tokens, "bf16") + sweep_of_states(tokens))
    assert kind.time(0.0, batch) == pytest.approx(seconds, rel=1e-12)
    # 64 bytes of cache; six rows (two heads, three tokens) padded to 16: 4 x 32 each.
    each = work("attention", 64, 2 * 2 * 64 * 3 * 16 / 6)
    assert kind.curve.slope == pytest.approx(each, rel=1e-12)
    assert kind.context_window is None
    assert projection_error(placement) == 0.0


def test_a_layer_of_selecting_latent_attention():
    """An index key for every fourth token; 100 entries selected and 10 of the last read."""
    mixer = Mixer(
        heads=LATENT, indexer=SparseIndexer(heads=4, head_size=32), selected_tokens=100,
        compression=4, local_tokens=10,
    )  # fmt: skip
    placement = placed(model(mixer), speculative_tokens=1, batch_size=7)
    (kind,) = attention_layers(placement)
    tokens = 14
    widths = [
        (HIDDEN, 48 + 64 + 8), (48, 8 * 24), (16, 8 * 64), (64, 8 * 24), (8 * 24, HIDDEN),
        (48, 4 * 32), (HIDDEN, 32 + 4),
    ]  # fmt: skip
    seconds = sum(product(depth, width, tokens) for depth, width in widths)
    # Norm; two norms, rotary, write; three of the indexer; two quantisations; norm, choice.
    seconds += (1 + 4 + 3 + 2 + 1 + 1) * sweep_of_states(tokens)
    seconds += product(HIDDEN, 16, tokens, "bf16") + 2 * call("latent")
    operations = 2 * 8 * (64 + 8 + 64)
    # Eight rows are padded to 16; with both tokens of a request they are 16.
    selected = 100 * 2 * work("latent", 72, 2 * operations)
    local = 10 * work("latent", 72, 2 * operations)
    # Queries in, outputs out: as many bytes as operations per entry; one block for all heads of
    # each token, which has entries of its own.
    moved = work("latent", 2 * operations) + 2 * OPERATOR.depth_time * FACTORS["latent"]
    assert kind.time(0.0, 7) == pytest.approx(seconds + 7 * (selected + local + moved), rel=1e-12)
    key = work("latent", 32 + 4, 2 * 4 * 32 * 2, rate="fp8")
    assert kind.curve.slope == pytest.approx(key / 4, rel=1e-12)
    reused = replace(mixer, indexer=None)
    (again,) = attention_layers(placed(model(reused), speculative_tokens=1, batch_size=7))
    assert again.curve.slope == 0.0  # the choice of an earlier layer reads no keys
    every = Mixer(heads=LATENT, compression=4)
    (plain,) = attention_layers(placed(model(every), speculative_tokens=1, batch_size=7))
    assert plain.curve.slope == pytest.approx(work("latent", 72, 2 * operations) / 4, rel=1e-12)


def test_a_recurrent_layer_reads_and_writes_its_state():
    heads = DeltaAttention(query_heads=8, key_heads=4, key_size=16, value_size=32)
    (kind,) = attention_layers(placed(model(Mixer(heads=heads)), batch_size=3))
    state = 8 * 16 * 32 * 4 + (2 * 4 * 16 + 8 * 32) * 3 * 2
    seconds = product(HIDDEN, 2 * 4 * 16 + 2 * 8 * 32 + 2 * 8, 3) + product(8 * 32, HIDDEN, 3)
    # Norm; convolution, decay, output norm; quantisation; norm and choice.
    seconds += 7 * sweep_of_states(3) + product(HIDDEN, 16, 3, "bf16") + call("attention")
    seconds += 3 * work("attention", 2 * state)
    assert kind.curve.slope == 0.0
    assert kind.time(0.0, 3) == pytest.approx(seconds, rel=1e-12)


def test_shared_experts_beside_attention():
    """Half of their 194 numbers on each of two devices; averaged over four layers."""
    architecture = model(*[Mixer(heads=GROUPED)] * 4, networks=(DENSE, ROUTED))
    here, there = (
        attention_layers(
            placed(architecture, attention_devices=2, shared_experts_side=side, batch_size=5)
        )[0].time(0.0, 5)
        for side in ("attention", "ffn")
    )
    added = reduction(5, 2) + 2 * sweep_of_states(5)
    added += product(HIDDEN, 2 * 97, 5) + product(97, HIDDEN, 5)
    assert here - there == pytest.approx(3 / 4 * added, rel=1e-9)


def test_drafts_are_layers_of_the_whole_context():
    near, far = Mixer(heads=GROUPED, window=64), Mixer(heads=GROUPED)
    placement = placed(model(near, far, near), speculative_tokens=2)
    kinds = attention_layers(placement)
    assert [(kind.layers, kind.context_window) for kind in kinds] == [(2, 64), (3, None)]
    assert layer_order(placement) == (1, 2, 1, 2, 2)
    assert layer_order(placed(model(near, near), speculative_tokens=1)) == (1, 1, 1)


def test_the_error_of_a_line_is_that_of_its_worst_kind():
    """Half of the largest gap between the time of the products and its chord to 512 requests."""
    bent = replace(SHARES, operator=replace(OPERATOR, sharpness=8.0))
    wide = Mixer(heads=replace(GROUPED, query_heads=64, kv_heads=8))
    errors = []
    for mixers in ((Mixer(heads=GROUPED),), (wide,), (Mixer(heads=GROUPED), wide)):
        errors.append(projection_error(placed(model(*mixers), efficiencies=bent)))
    assert errors[2] == max(errors[:2]) > 1.1 * min(errors[:2]) > 0
