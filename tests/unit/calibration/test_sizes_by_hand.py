"""Heads, networks, memory and placements of an invented model, worked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from afdplan.calibration.architecture import Block, FeedForward, Mixer, ModelArchitecture
from afdplan.calibration.attention import (
    CompressedAttention,
    GroupedAttention,
    LatentAttention,
    SparseIndexer,
)
from afdplan.calibration.hardware import Link
from afdplan.calibration.heads import Product
from afdplan.calibration.memory import (
    attention_weight_bytes,
    cache_kinds,
    embedding_bytes,
    ffn_weight_bytes,
    shared_weight_bytes,
)
from afdplan.calibration.placement import place
from afdplan.calibration.precision import Precision, format_name, number_format
from afdplan.calibration.recurrent import DeltaAttention
from afdplan.errors import InvalidInputError
from tests.unit.calibration.invented import (
    DENSE,
    DEVICE,
    FORMATS,
    GROUPED,
    HIDDEN,
    LATENT,
    ROUTED,
    VOCABULARY,
    model,
    placed,
)


def test_grouped_heads_by_hand():
    plain = GroupedAttention(query_heads=8, kv_heads=2, head_size=32)
    assert (plain.cached_values, plain.score_flops, plain.query_rows) == (128, 1024, 4.0)
    assert plain.products(100) == (Product(100, 256 + 128), Product(256, 100))
    assert (plain.passes, plain.state_bytes, plain.family) == (2, 0.0, "attention")
    odd = replace(plain, value_size=16, query_rank=10, gated=True, head_norms=True)
    assert (odd.cached_values, odd.score_flops) == (2 * 48, 2 * 8 * 48)
    assert odd.products(100) == (
        Product(100, 10 + 64 + 32), Product(10, 2 * 256), Product(128, 100)
    )  # fmt: skip
    assert odd.passes == 2 + 2 + 1 + 1
    keys = replace(plain, values_are_keys=True)
    assert keys.products(100)[0] == Product(100, 256 + 64)
    assert keys.cached_values == 128
    assert plain.parameters(100) == 100 * 384 + 25_600
    assert [plain.sharded(n).kv_heads for n in (1, 2, 4, 8)] == [2, 1, 1, 1]
    assert plain.sharded(4).query_heads == 2
    with pytest.raises(InvalidInputError, match="multiple of kv_heads, got 8 and 3"):
        replace(plain, kv_heads=3)
    six = GroupedAttention(query_heads=12, kv_heads=6, head_size=8)
    with pytest.raises(InvalidInputError, match="must divide the 6 KV heads, got 4"):
        six.sharded(4)
    with pytest.raises(InvalidInputError, match="must divide the 12 query heads"):
        six.sharded(5)
    assert six.sharded(6).kv_heads == 1


def test_latent_heads_by_hand():
    heads = LatentAttention(
        query_heads=4, query_rank=10, kv_rank=64, plain_key_size=16, rotary_key_size=8,
        value_size=12, gated=True,
    )  # fmt: skip
    assert (heads.cached_values, heads.score_flops, heads.query_rows) == (72, 8 * 136, 4.0)
    assert heads.products(100) == (
        Product(100, 10 + 72), Product(10, 4 * 24), Product(16, 4 * 64), Product(64, 48),
        Product(100, 48), Product(48, 100),
    )  # fmt: skip
    assert (heads.passes, heads.family) == (5, "latent")
    direct = replace(heads, query_rank=None, gated=False)
    assert direct.products(100)[:2] == (Product(100, 96 + 72), Product(16, 256))
    assert direct.passes == 3
    assert heads.sharded(2) == replace(heads, query_heads=2)


def test_compressed_heads_and_indexers_by_hand():
    heads = CompressedAttention(
        query_heads=8, head_size=16, query_rank=10, output_rank=5, output_groups=2, compressors=4
    )
    assert (heads.cached_values, heads.score_flops, heads.query_rows) == (16, 4 * 128, 8.0)
    assert heads.products(100) == (
        Product(100, 10 + 16 * 5), Product(10, 128), Product(64, 10), Product(10, 100)
    )  # fmt: skip
    assert (heads.passes, replace(heads, compressors=0).passes) == (5, 4)
    assert replace(heads, compressors=0).products(100)[0] == Product(100, 26)
    assert [heads.sharded(n).output_groups for n in (1, 2, 4)] == [2, 1, 1]
    indexer = SparseIndexer(heads=4, head_size=32)
    assert (indexer.score_flops, indexer.passes) == (256, 3)
    assert indexer.products(100, None) == (Product(100, 128), Product(100, 36))
    assert indexer.products(100, 10) == (Product(10, 128), Product(100, 36))
    assert replace(indexer, compressors=4).products(100, 10)[1] == Product(100, 4 * 32 + 4)
    assert indexer.parameters(100, 10) == 1280 + 3600
    mixer = Mixer(heads=heads, indexer=indexer)
    assert mixer.query_rank == 10
    assert mixer.parameters(100) == heads.parameters(100) + 4880
    assert Mixer(heads=GROUPED).query_rank is None


@pytest.mark.parametrize(
    ("make", "name", "low", "high"),
    [
        (lambda n: Mixer(heads=GROUPED, window=n), "window", 1, 10**9),
        (lambda n: Mixer(heads=GROUPED, selected_tokens=n), "selected_tokens", 1, 10**9),
        (lambda n: Mixer(heads=GROUPED, compression=n), "compression", 1, 10**6),
        (lambda n: Mixer(heads=GROUPED, local_tokens=n), "local_tokens", 0, 10**9),
        (lambda n: FeedForward(dense_size=n), "dense_size", 1, 10**7),
        (lambda n: FeedForward(experts=n, experts_per_token=1, expert_size=1, dense_size=1),
         "experts", 0, 10**6),
        (lambda n: FeedForward(experts=2, experts_per_token=n, expert_size=1),
         "experts_per_token", 1, 2),
        (lambda n: FeedForward(experts=2, experts_per_token=1, expert_size=n),
         "expert_size", 1, 10**7),
        (lambda n: FeedForward(dense_size=1, matrices=n), "matrices", 2, 3),
        (lambda n: replace(GROUPED, head_size=n), "head_size", 1, 10**6),
        (lambda n: replace(GROUPED, query_rank=n), "query_rank", 1, 10**6),
        (lambda n: replace(model(Mixer(heads=GROUPED)), hidden_size=n), "hidden_size", 1, 10**8),
        (lambda n: replace(model(Mixer(heads=GROUPED)), prediction_layers=n),
         "prediction_layers", 0, 1000),
        (lambda n: replace(model(Mixer(heads=GROUPED)), blocks=model(Mixer(heads=GROUPED)).blocks
                           * n), "blocks", 1, 10_000),
        (lambda n: replace(DEVICE, matrix_tile_rows=n), "matrix_tile_rows", 1, 10**6),
        (lambda n: replace(DEVICE, devices_per_node=n), "devices_per_node", 1, 10**6),
    ],
)  # fmt: skip
def test_both_ends_of_a_size_are_inside(make, name, low, high):
    make(low), make(high)
    for outside in (low - 1, high + 1):
        with pytest.raises(InvalidInputError, match=name):
            make(outside)


def test_parameters_of_a_model_by_hand():
    latent = FeedForward(
        dense_size=10, experts=4, experts_per_token=2, expert_size=6, expert_hidden_size=8,
        matrices=2,
    )  # fmt: skip
    assert latent.expert_width(100) == 8
    assert latent.expert_parameters(100) == 2 * 8 * 6
    assert latent.dense_parameters(100) == 2 * 100 * 10 + 2 * 100 * 8
    assert latent.common_parameters(100) == 3600 + 400
    assert latent.parameters(100) == 4 * 96 + 4000
    assert latent.parameters(100, 2) == 2 * 96 + 4000
    heads = GroupedAttention(query_heads=2, kv_heads=2, head_size=4)
    blocks = [(latent,), (FeedForward(dense_size=7),), (latent,)]
    found = ModelArchitecture(
        name="x", hidden_size=100, vocabulary_size=11,
        blocks=tuple(Block(mixers=(Mixer(heads=heads),), feed_forward=one) for one in blocks),
    )  # fmt: skip
    assert (found.layers, found.dense_layers, found.experts) == (3, 1, 4)
    assert found.experts_per_token == 2
    assert found.network == latent
    assert found.shared_networks == (latent, latent)
    assert found.embedding_parameters == 2 * 1100
    assert replace(found, tied_embeddings=True).embedding_parameters == 1100
    assert found.mixer_parameters == 3 * (100 * 24 + 800)
    rest = 2200 + 3 * 3200 + 3 * 100 * 7
    assert found.total_parameters == rest + 2 * (4 * 96 + 4000)
    assert found.active_parameters == rest + 2 * (2 * 96 + 4000)
    few = FeedForward(experts=4, experts_per_token=2, expert_size=6)
    two = replace(found, blocks=(*found.blocks[:1], replace(found.blocks[1], feed_forward=(few,))))
    assert two.network == latent  # as many experts, and a dense part


def test_the_commonest_mixer_that_caches():
    state = Mixer(heads=DeltaAttention(query_heads=8, key_heads=4, key_size=16, value_size=32))
    near, far = Mixer(heads=GROUPED, window=9), Mixer(heads=GROUPED)
    assert model(state, state, state, near, far, far).mixer == far
    assert model(state, state).mixer == state
    assert model(state, state, far).state_bytes == 2 * state.heads.state_bytes


def test_memory_of_weights_by_hand():
    architecture = model(*[Mixer(heads=GROUPED)] * 3, networks=(DENSE, ROUTED))
    precision = replace(FORMATS, head_weights="fp8")
    # A quarter of eight heads, one KV head each; a draft layer more.
    each = HIDDEN * (2 * 32 + 64) + 64 * HIDDEN
    tables = VOCABULARY * HIDDEN * (1 + 2)
    assert embedding_bytes(architecture, precision) == tables
    assert embedding_bytes(architecture, FORMATS) == VOCABULARY * HIDDEN * 4
    tied = replace(architecture, tied_embeddings=True)
    assert embedding_bytes(tied, precision) == VOCABULARY * HIDDEN
    assert attention_weight_bytes(architecture, precision, 4, 1) == 4 * each + tables / 4
    assert attention_weight_bytes(architecture, precision, 4) == 3 * each + tables / 4
    expert, scale = 3 * HIDDEN * 96, 0.5 + 2 / 128
    routed = 3 * HIDDEN * 194 + HIDDEN * 16
    dense = 3 * HIDDEN * 512
    # Of 16 experts six devices hold at most three each, twice as many at most two.
    assert ffn_weight_bytes(architecture, precision, 6) == 2 * 3 * expert * scale + (
        2 * routed + dense
    )
    assert ffn_weight_bytes(architecture, precision, 6, 2, 1) == 3 * 2 * expert * scale + (
        3 * routed + dense
    )
    shared = 3 * HIDDEN * 194
    assert shared_weight_bytes(architecture, precision) == 2 * shared
    assert shared_weight_bytes(architecture, precision, 1) == 3 * shared
    last = model(*[Mixer(heads=GROUPED)] * 2, networks=(ROUTED, DENSE))
    assert shared_weight_bytes(last, precision, 1) == shared  # a draft is like the last, dense one
    here = placed(architecture, attention_devices=2, shared_experts_side="attention")
    there = placed(architecture, attention_devices=2)
    moved = here.memory().attention_weight_bytes - there.memory().attention_weight_bytes
    assert moved == pytest.approx(2 * shared / 2)
    assert there.memory().ffn_weight_bytes - here.memory().ffn_weight_bytes == 2 * shared
    assert there.memory().reserve_bytes == pytest.approx(0.1 * DEVICE.memory_size)


def test_memory_of_caches_by_hand():
    state = DeltaAttention(query_heads=8, key_heads=4, key_size=16, value_size=32)
    chosen = Mixer(
        heads=LATENT, indexer=SparseIndexer(heads=4, head_size=32), compression=4, local_tokens=10
    )
    mixers = (Mixer(heads=state), chosen, Mixer(heads=GROUPED, window=64), Mixer(heads=GROUPED))
    kinds = {k.window: k.bytes_per_token for k in cache_kinds(model(*mixers), FORMATS, 2, 1)}
    assert kinds == {
        1: state.sharded(2).state_bytes,
        None: (72 + 32 + 4) / 4 + 2 * 64,  # a byte each; a KV head; the draft is like the last
        10: 72.0,
        64: 64.0,
    }
    bf16 = cache_kinds(model(chosen), Precision(), 2)
    assert {k.window: k.bytes_per_token for k in bf16} == {None: (144 + 36) / 4, 10: 144.0}
    all_ = cache_kinds(model(replace(chosen, local_tokens=0)), FORMATS, 1)
    assert [(k.window, k.bytes_per_token) for k in all_] == [(None, 27.0 + 72.0)]


def test_bits_of_formats():
    bits = {name: 8 * number_format(name).bytes_per_value for name in (
        "bf16", "fp8", "int8", "mxfp4", "nvfp4", "int2", "int3", "int4", "int5", "int6",
        "int4:4.85", "int8a16",
    )}  # fmt: skip
    assert bits == pytest.approx({
        "bf16": 16, "fp8": 8, "int8": 8, "mxfp4": 4.25, "nvfp4": 4.5, "int2": 2.125,
        "int3": 3.125, "int4": 4.125, "int5": 5.125, "int6": 6.125, "int4:4.85": 4.85,
        "int8a16": 8,
    })  # fmt: skip
    for name, arithmetic in (("int4", "bf16"), ("int8", "int8"), ("int8a16", "bf16"),
                             ("int4a8", "fp8"), ("mxfp4", "fp4")):  # fmt: skip
        assert number_format(name).arithmetic == arithmetic
    assert (number_format("int4:1").bytes_per_value, number_format("bf16:33").bytes_per_value) == (
        1 / 8, 33 / 8
    )  # fmt: skip
    for name in ("int4:0.99", "int4:34", "int7", "fp8b", "int4:", "a16"):
        with pytest.raises(InvalidInputError, match="number format"):
            number_format(name)
    # Within a hundredth of the usual bits nothing is said.
    assert [format_name("bf16", b) for b in (16.1, 16.2, 15.9, 15.8)] == [
        "bf16", "bf16:16.2", "bf16", "bf16:15.8"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "weights", "attention", "send"),
    [
        ("int4", "int4", "bf16", "bf16"), ("int4:4.5", "int4:4.5", "bf16", "bf16"),
        ("int8", "int8", "int8", "int8"), ("int8a16", "int8a16", "bf16", "bf16"),
        ("fp8:8.25", "fp8:8.25", "fp8:8.25", "fp8"), ("nvfp4", "nvfp4", "bf16", "fp8"),
        ("int4a8", "int4a8", "bf16", "fp8"), ("mxfp4", "mxfp4", "bf16", "bf16"),
    ],
)  # fmt: skip
def test_what_systems_do_with_a_format(name, weights, attention, send):
    found = Precision.named(name, "fp8")
    assert (found.feed_forward_weights, found.attention_weights, found.send) == (
        weights, attention, send
    )  # fmt: skip
    assert (found.cache, found.receive, found.common_weights) == ("fp8", "bf16", weights)


def test_defaults_of_a_placement():
    """Scale-up where both sides are one kind of device, and its domain is larger than a node."""
    architecture = model(Mixer(heads=GROUPED))
    assert placed(architecture).link == "scale-up"
    assert placed(architecture, ffn_hardware=replace(DEVICE, name="Other")).link == "scale-out"
    flat = replace(DEVICE, scale_up_devices=4)
    assert place(architecture, flat, precision=FORMATS, ffn_devices=2).link == "scale-out"
    assert placed(architecture, ffn_hardware=flat).link == "scale-out"  # one side has no rack
    found = placed(
        architecture, speculative_tokens=2, acceptance=0.5, ffn_workers=3,
        ffn_hardware=replace(DEVICE, scale_out=Link(bandwidth=4e10, latency=9e-6)),
        link="scale-out",
    )  # fmt: skip
    assert (found.tokens_per_request, found.tokens_per_step) == (3, 1.75)
    assert found.expert_devices == 18
    assert found.joint_link() == Link(bandwidth=4e10, latency=9e-6)
    assert found.ffn_slices == 1
    assert placed(architecture, serving_system="stepmesh").ffn_slices == 2
    for name in ("attention_devices",):
        with pytest.raises(InvalidInputError, match=f"{name} .*9"):
            placed(architecture, **{name: 9})
    texts = [one.text for one in found.assumptions]
    assert "2 draft tokens per step, each accepted with chance 0.5" in texts
    assert not any("joined by" in text for text in texts)


def test_the_fewest_ffn_devices_are_a_power_of_two():
    """137 GB of experts, spread, and 8.3 GB on each: two devices would leave less than a tenth."""
    big = FeedForward(dense_size=900_000, experts=16, experts_per_token=2, expert_size=1_800_000)
    architecture = model(*[Mixer(heads=GROUPED)] * 3, networks=(big,))
    found = placed(architecture, ffn_devices=None)
    whole = {
        n: ffn_weight_bytes(architecture, FORMATS, n) <= 0.9 * DEVICE.memory_size
        for n in (1, 2, 4, 8)
    }
    assert found.ffn_devices == min(n for n, fits in whole.items() if fits) == 4
    assert found.memory().ffn_fits
    with pytest.raises(InvalidInputError, match="ffn_devices = 1 is too few"):
        placed(architecture, ffn_devices=1)
    small = replace(DEVICE, memory_size=9e9)
    with pytest.raises(InvalidInputError, match="does not fit on 16 devices"):
        place(architecture, DEVICE, ffn_hardware=small, precision=FORMATS)
    tiny = replace(DEVICE, memory_size=1e6)
    with pytest.raises(InvalidInputError, match="leaves no memory for the KV cache"):
        place(architecture, tiny, ffn_hardware=DEVICE, precision=FORMATS, ffn_devices=8)
