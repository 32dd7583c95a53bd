"""Small configs of every layout: which layer slides, selects, has experts, and of what sizes."""

from __future__ import annotations

import pytest

from afdplan.calibration.architecture import FeedForward, Mixer
from afdplan.calibration.attention import (
    CompressedAttention,
    GroupedAttention,
    LatentAttention,
    SparseIndexer,
)
from afdplan.calibration.config_fields import ConfigFields
from afdplan.calibration.feed_forward_facts import FeedForwardFields, feed_forward_layers
from afdplan.calibration.hybrid_facts import nemotron_h_blocks, searched_blocks
from afdplan.calibration.mixer_facts import MIXERS, grouped_heads, state_value_bytes
from afdplan.calibration.recurrent import DeltaAttention, StateSpace
from afdplan.errors import InvalidInputError

HEADS = {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 16, "hidden_size": 96}
LATENT = {
    "num_attention_heads": 8, "kv_lora_rank": 64, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
    "v_head_dim": 24,
}  # fmt: skip
INDEX = {"index_n_heads": 4, "index_head_dim": 32, "index_topk": 100}
GROUPED = GroupedAttention(query_heads=8, kv_heads=2, head_size=16)
FULL, SLIDE = "full_attention", "sliding_attention"


def fields(**values):
    return ConfigFields(values, "file")


def windows(name, layers, **values):
    return [mixer.window for mixer in MIXERS[name](fields(**HEADS, **values), layers)]


def test_heads_of_a_config():
    assert grouped_heads(fields(**HEADS)) == GROUPED
    without = {key: value for key, value in HEADS.items() if key != "head_dim"}
    assert grouped_heads(fields(**without)).head_size == 12
    assert grouped_heads(fields(**without, model_type="gpt_oss")).head_size == 64
    assert grouped_heads(fields(**without, model_type="qwen3")).head_size == 128
    with pytest.raises(InvalidInputError, match="8 does not divide hidden_size"):
        grouped_heads(fields(**{**without, "hidden_size": 97}))
    with pytest.raises(InvalidInputError, match="does not divide"):
        grouped_heads(fields(**{**without, "hidden_size": 7}))
    with pytest.raises(InvalidInputError, match="multiple of num_key_value_heads = 3, got 8"):
        grouped_heads(fields(**{**HEADS, "num_key_value_heads": 3}))
    assert grouped_heads(fields(**HEADS, model_type="qwen3_moe")).head_norms
    assert not grouped_heads(fields(**HEADS, model_type="llama")).head_norms
    assert not grouped_heads(fields(**HEADS, model_type="qwen3", use_qk_norm=False)).head_norms
    assert grouped_heads(fields(**HEADS, use_qk_norm=True, v_head_dim=4, share_q_dim=5)) == (
        GroupedAttention(
            query_heads=8, kv_heads=2, head_size=16, value_size=4, query_rank=5, head_norms=True
        )
    )


def test_which_grouped_layers_slide():
    kinds = [SLIDE, FULL, SLIDE]
    assert windows("grouped", 3) == [None] * 3
    assert windows("grouped", 3, sliding_window=9, layer_types=kinds) == [9, None, 9]
    assert windows("grouped", 3, sliding_window=9) == [9] * 3
    assert windows("grouped", 3, sliding_window=9, use_sliding_window=False) == [None] * 3
    assert windows("grouped", 3, sliding_window=9, model_type="qwen3") == [None] * 3
    told = {"use_sliding_window": True, "sliding_window": 9, "model_type": "qwen3"}
    assert windows("grouped", 3, **told, max_window_layers=2) == [None, None, 9]
    assert windows("grouped", 3, **told, max_window_layers=5) == [None] * 3
    assert windows("grouped", 3, sliding_window=9, model_type="gpt_oss") == [9, None, 9]
    for name in ("sliding_window_pattern", "_sliding_window_pattern", "global_attn_every_n_layers"):
        assert windows("grouped", 5, sliding_window=9, **{name: 2}) == [9, None, 9, None, 9]
    assert windows("grouped", 5, sliding_window=9, sliding_window_pattern="LLG") == (
        [9, 9, None, 9, 9]
    )  # fmt: skip
    with pytest.raises(InvalidInputError, match="layer_types has layers that slide"):
        windows("grouped", 3, layer_types=kinds)
    with pytest.raises(InvalidInputError, match="layer_types must be full_attention or"):
        windows("grouped", 1, layer_types=["odd"])
    assert windows("grouped", 2, attn_type_list=[1, 1]) == [None] * 2
    with pytest.raises(InvalidInputError, match="linear attention"):
        windows("grouped", 2, attn_type_list=[1, 0])


def test_latent_layers():
    heads = LatentAttention(
        query_heads=8, query_rank=None, kv_rank=64, plain_key_size=16, rotary_key_size=8,
        value_size=24,
    )  # fmt: skip
    assert MIXERS["latent"](fields(**LATENT), 2) == [Mixer(heads=heads)] * 2
    with pytest.raises(InvalidInputError, match="windows of latent attention"):
        MIXERS["latent"](fields(**LATENT, sliding_window=9), 2)
    assert MIXERS["latent"](fields(**LATENT, sliding_window=9, use_sliding_window=False), 1)
    found = MIXERS["sparse latent"](fields(**LATENT, **INDEX, indexer_types=["full", "shared"]), 2)
    indexer = SparseIndexer(heads=4, head_size=32)
    assert found == [
        Mixer(heads=heads, selected_tokens=100, indexer=indexer),
        Mixer(heads=heads, selected_tokens=100),
    ]
    assert MIXERS["sparse latent"](fields(**LATENT, **INDEX), 3) == [found[0]] * 3


def test_compressed_layers():
    stated = {
        "num_attention_heads": 8, "head_dim": 16, "q_lora_rank": 12, "o_lora_rank": 10,
        "o_groups": 2, "sliding_window": 9, **INDEX,
    }  # fmt: skip
    found = MIXERS["compressed"](fields(**stated, compress_ratios=[0, 4, 128]), 3)

    def heads(compressors):
        return CompressedAttention(
            query_heads=8, head_size=16, query_rank=12, output_rank=10, output_groups=2,
            compressors=compressors,
        )  # fmt: skip

    indexer = SparseIndexer(heads=4, head_size=32, compressors=4)
    assert found == [
        Mixer(heads=heads(0), window=9),
        Mixer(heads=heads(4), compression=4, selected_tokens=100, indexer=indexer, local_tokens=9),
        Mixer(heads=heads(2), compression=128, local_tokens=9),
    ]
    assert MIXERS["compressed"](fields(**stated, compress_ratios=[65_536]), 1)
    for ratio in (65_537, -1, True, 4.0):
        with pytest.raises(InvalidInputError, match="compress_ratios must be integers"):
            MIXERS["compressed"](fields(**stated, compress_ratios=[ratio]), 1)


def test_chunks_two_sizes_and_global_keys():
    assert windows("chunked", 8, attention_chunk_size=9) == [9, 9, 9, None] * 2
    assert windows("chunked", 4, attention_chunk_size=9, no_rope_layer_interval=2) == (
        [9, None, 9, None]
    )  # fmt: skip
    assert windows("chunked", 2, attention_chunk_size=9, no_rope_layers=[0, 1]) == [None, 9]
    kinds = ["chunked_attention", FULL]
    assert windows("chunked", 2, attention_chunk_size=9, layer_types=kinds) == [9, None]
    swa = {f"swa_{key}": value for key, value in HEADS.items()} | {"swa_num_key_value_heads": 4}
    found = MIXERS["two sizes"](
        fields(**HEADS, **swa, sliding_window=9, hybrid_layer_pattern=[0, 1]), 2
    )
    assert [(one.window, one.heads.kv_heads) for one in found] == [(None, 2), (9, 4)]
    stated = {
        "num_global_key_value_heads": 1, "global_head_dim": 32, "attention_k_eq_v": True,
        "sliding_window": 9, "layer_types": [SLIDE, FULL],
    }  # fmt: skip
    near, far = MIXERS["global keys"](fields(**HEADS, **stated), 2)
    assert near == Mixer(heads=GROUPED, window=9)
    assert far == Mixer(
        heads=GroupedAttention(query_heads=8, kv_heads=1, head_size=32, values_are_keys=True)
    )
    assert MIXERS["global keys"](fields(**HEADS, **stated, num_kv_shared_layers=0), 2)
    with pytest.raises(InvalidInputError, match="share a KV cache"):
        MIXERS["global keys"](fields(**HEADS, **stated, num_kv_shared_layers=1), 2)


def test_blocks_of_tokens_that_are_chosen():
    sparse = {
        "use_sparse_attention": True, "sparse_topk_blocks": 3, "sparse_block_size": 64,
        "sparse_num_index_heads": 4, "sparse_index_dim": 32,
    }  # fmt: skip
    chosen = Mixer(heads=GROUPED, selected_tokens=192, indexer=SparseIndexer(heads=4, head_size=32))
    plain = Mixer(heads=GROUPED)

    def read(**more):
        return MIXERS["block sparse"](fields(**HEADS, sparse_attention_config=sparse | more), 2)

    assert read() == [chosen] * 2
    assert read(sparse_attention_freq=[0, 1]) == [plain, chosen]
    assert read(use_sparse_attention=False) == [plain] * 2


def test_layers_of_the_delta_rule():
    linear = {
        "linear_num_value_heads": 8, "linear_num_key_heads": 4, "linear_key_head_dim": 16,
        "linear_value_head_dim": 32, "linear_conv_kernel_dim": 3,
    }  # fmt: skip
    delta = Mixer(heads=DeltaAttention(
        query_heads=8, key_heads=4, key_size=16, value_size=32, convolution=3
    ))  # fmt: skip
    gated = Mixer(heads=GroupedAttention(query_heads=8, kv_heads=2, head_size=16, gated=True))
    assert MIXERS["gated delta"](fields(**HEADS, **linear), 8) == ([delta] * 3 + [gated]) * 2
    two = MIXERS["gated delta"](fields(**HEADS, **linear, full_attention_interval=2), 4)
    assert two == [delta, gated] * 2
    kinds = {"layer_types": [FULL, "linear_attention"], "attn_output_gate": False}
    assert MIXERS["gated delta"](fields(**HEADS, **linear, **kinds), 2) == [
        Mixer(heads=GROUPED), delta
    ]  # fmt: skip
    kimi = {"num_heads": 4, "head_dim": 16, "short_conv_kernel_size": 3, "full_attn_layers": [2]}
    first, second = MIXERS["kimi linear"](fields(**LATENT, linear_attn_config=kimi), 2)
    assert first.heads == DeltaAttention(
        query_heads=4, key_heads=4, key_size=16, value_size=16, convolution=3, gate_rank=16,
        full_rank_gate=False,
    )  # fmt: skip
    assert isinstance(second.heads, LatentAttention)
    for wrong in (None, "2", ["2"], [2, "4"]):
        with pytest.raises(InvalidInputError, match="full_attn_layers must list layer numbers"):
            MIXERS["kimi linear"](
                fields(**LATENT, linear_attn_config=kimi | {"full_attn_layers": wrong}), 2
            )
    assert [state_value_bytes(fields(**one)) for one in (
        {}, {"mamba_ssm_dtype": "float32"}, {"mamba_ssm_dtype": "torch.float32"},
        {"mamba_ssm_dtype": "bfloat16"}, {"mamba_ssm_cache_dtype": "float16"},
    )] == [4, 4, 4, 2, 2]  # fmt: skip


SIZES = {
    "intermediate_size": 50, "experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 6,
    "shared": 3,
}  # fmt: skip
NAMES = FeedForwardFields(experts="experts", shared_experts="shared")
DENSE = FeedForward(dense_size=50)
ROUTED = FeedForward(dense_size=18, experts=4, experts_per_token=2, expert_size=6)


def routed(layers, names=NAMES, **values):
    found = feed_forward_layers(fields(**SIZES, **values), names, layers)
    assert set(found) <= {DENSE, ROUTED, FeedForward(dense_size=18, experts=4,
                          experts_per_token=2, expert_size=6)}  # fmt: skip
    return [network.experts > 0 for network in found]


def test_which_layers_have_experts():
    first = FeedForwardFields(experts="experts", shared_experts="shared", first_dense="first")
    every = FeedForwardFields(experts="experts", shared_experts="shared", every="every")
    ernie = FeedForwardFields(
        experts="experts", shared_experts="shared", first_dense="moe_layer_start_index"
    )
    assert routed(3) == [True] * 3
    assert routed(3, FeedForwardFields()) == [False] * 3
    assert routed(3, mlp_layer_types=["dense", "sparse", "sparse"]) == [False, True, True]
    assert routed(3, first, first=1) == [False, True, True]
    assert routed(3, first, first=0) == [True] * 3
    assert routed(3, first, first=3) == [False] * 3
    with pytest.raises(InvalidInputError, match="at most num_hidden_layers = 3, got 4"):
        routed(3, first, first=4)
    assert routed(5, first, first=1, moe_layer_freq=2) == [False, False, True, False, True]
    assert routed(2, first, first=0, moe_layer_freq=[0, 1]) == [False, True]
    assert routed(5, every, every=2) == [False, True, False, True, False]
    assert routed(2, every) == [True] * 2
    assert routed(3, every, moe_layers=[0, 2]) == [True, False, True]
    assert routed(3, moe_layers_enum="1,2") == [False, True, True]
    assert routed(2, moe_layer_freq=[1, 0]) == [True, False]
    assert routed(3, mlp_only_layers=[0]) == [False, True, True]
    assert routed(4, decoder_sparse_step=2) == [False, True, False, True]
    start = {"moe_layer_start_index": 1}
    assert routed(4, ernie, **start) == [False, True, True, True]
    assert routed(4, ernie, **start, moe_layer_end_index=2) == [False, True, True, False]
    assert routed(4, ernie, **start, moe_layer_end_index=-1) == [False, True, True, True]
    assert routed(4, ernie, **start, moe_layer_interval=2) == [False, True, False, True]
    third = [False, False, True, False, False, True]
    assert routed(6, ernie, moe_layer_start_index=0, moe_layer_interval=3) == third
    assert routed(6, every, every=3) == routed(6, decoder_sparse_step=3) == third
    assert routed(6, first, first=1, moe_layer_freq=3) == [False] * 3 + [True] + [False] * 2
    with pytest.raises(InvalidInputError, match="must be at most experts = 4, got 5"):
        feed_forward_layers(fields(**{**SIZES, "num_experts_per_tok": 5}), NAMES, 1)
    assert feed_forward_layers(fields(**{**SIZES, "num_experts_per_tok": 4}), NAMES, 1)


def test_widths_of_what_every_token_passes():
    def one(names, **values):
        return feed_forward_layers(fields(**SIZES, **values), names, 1)[0]

    assert one(NAMES).dense_size == 3 * 6
    whole = FeedForwardFields(experts="experts", shared_size="width")
    assert one(whole, width=7).dense_size == 7
    assert one(whole).dense_size == 0
    beside = FeedForwardFields(experts="experts", is_beside=True)
    assert one(beside).dense_size == 50
    assert one(beside).experts == 4
    assert one(beside, enable_moe_block=False) == DENSE
    latent = FeedForwardFields(experts="experts", latent_size="latent")
    assert one(latent, latent=9).expert_hidden_size == 9
    assert one(latent).expert_hidden_size is None


def test_layers_of_nemotron():
    stated = {
        **HEADS, "mamba_num_heads": 8, "mamba_head_dim": 16, "ssm_state_size": 32, "n_groups": 4,
        "conv_kernel": 3, "moe_shared_expert_intermediate_size": 10, "n_routed_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 6, "intermediate_size": 50,
    }  # fmt: skip
    blocks = nemotron_h_blocks(fields(**stated, hybrid_override_pattern="M*E-M"))
    state = StateSpace(query_heads=8, head_size=16, state_size=32, groups=4, convolution=3)
    experts = FeedForward(dense_size=10, experts=4, experts_per_token=2, expert_size=6, matrices=2)
    assert [block.mixers for block in blocks] == [
        (Mixer(heads=state), Mixer(heads=GROUPED)), (Mixer(heads=state),)
    ]  # fmt: skip
    assert blocks[0].feed_forward == (experts, FeedForward(dense_size=50, matrices=2))
    assert blocks[1].feed_forward == ()
    two = nemotron_h_blocks(
        fields(**stated, n_shared_experts=2, moe_latent_size=8, layers_block_type=["mamba", "moe"])
    )
    assert two[0].feed_forward[0].dense_size == 20
    assert two[0].feed_forward[0].expert_hidden_size == 8
    with pytest.raises(InvalidInputError, match="layers must be mamba, attention, moe, mlp"):
        nemotron_h_blocks(fields(**stated, hybrid_override_pattern="MX"))


def test_searched_layers():
    def read(*layers):
        stated = {**HEADS, "num_hidden_layers": len(layers), "block_configs": list(layers)}
        return searched_blocks(fields(**stated))

    both = {"attention": {"n_heads_in_group": 4}, "ffn": {"ffn_mult": 8.0}}
    near = {"attention": {"n_heads_in_group": 2, "window_length": 9}, "ffn": {"no_op": True}}
    (first, second) = read(both, near)
    assert first.mixers == (Mixer(heads=GROUPED),)
    # Two thirds of 8 x 96, up to a multiple of 256.
    assert first.feed_forward == (FeedForward(dense_size=512),)
    assert second.mixers[0].window == 9
    assert second.mixers[0].heads.kv_heads == 4
    small = {"attention": {"no_op": True}, "ffn": {"ffn_mult": 0.1}}
    assert read(both, small)[0].feed_forward[1] == FeedForward(dense_size=256)
    exact = {"attention": {"no_op": True}, "ffn": {"ffn_mult": 4.0}}
    assert read(both, exact)[0].feed_forward[1] == FeedForward(dense_size=256)
    with pytest.raises(InvalidInputError, match="must divide 8 heads, got 3"):
        read({"attention": {"n_heads_in_group": 3}, "ffn": {"no_op": True}})
    with pytest.raises(InvalidInputError, match="one or more layers"):
        read({"attention": {"no_op": True}, "ffn": {"no_op": True}})


def test_fields_and_their_domains():
    one = fields(a=5, b=None, c=True, d=[3, 3], num_hidden_layers=2, e=10**8, f=10**8 + 1, g=0)
    assert one.count("b", "a") == 5
    assert one.count("z", default=7) == 7
    assert one.count("d") == 3
    assert one.count("e") == 10**8
    assert one.count("g", minimum=0) == 0
    assert (one.optional("b"), one.optional("z", "a")) == (None, 5)
    assert (one.flag("c"), one.flag("a"), one.flag("z")) == (True, False, False)
    assert (one.layers, fields(num_hidden_layers=10_000).layers) == (2, 10_000)
    for name, said in (("f", "from 1 to"), ("g", "from 1 to"), ("c", "integer"), ("z", "missing")):
        with pytest.raises(InvalidInputError, match=said):
            one.count(name)
    with pytest.raises(InvalidInputError, match="<= 10000, got 10001"):
        _ = fields(num_hidden_layers=10_001).layers
    with pytest.raises(InvalidInputError, match="must be an integer"):
        fields(d=[3, 4], num_hidden_layers=2).count("d")
    with pytest.raises(InvalidInputError, match="must be an integer"):
        fields(d=[3], num_hidden_layers=1).count("d")
    assert fields(x=[1, 2, 3]).listed("x", 2) == [1, 2]
    assert fields(x=None).listed("x", 2) is None
    with pytest.raises(InvalidInputError, match="one entry for each of 4 layers"):
        fields(x=[1, 2, 3]).listed("x", 4)
    assert one.number("x", 0) == 0.0
    for value in (-1, float("inf"), True, "1", 1 << 200):
        with pytest.raises(InvalidInputError, match="x must be"):
            one.number("x", value)
    assert one.number("x", (1 << 200) - 1) > 1e60
    with pytest.raises(InvalidInputError, match="more than 18 digits"):
        fields(a=10**18).count("a")
    with pytest.raises(InvalidInputError, match=f"got {10**18 - 1}"):
        fields(a=10**18 - 1).count("a")
