"""Are current families of mixtures read with the sizes that their publishers state?

Fields as in the public config.json of each, truths from the publishers' model cards: parameters and
active ones in 10^9, and KV values per token counted by hand.
"""

import pytest

from afdplan.calibration.memory import cache_kinds
from afdplan.calibration.model_facts import architecture_from_config
from afdplan.calibration.precision import Precision
from afdplan.errors import InvalidInputError

GLM_AIR = {
    "model_type": "glm4_moe", "hidden_size": 4096, "intermediate_size": 10944,
    "moe_intermediate_size": 1408, "num_hidden_layers": 46, "num_attention_heads": 96,
    "num_key_value_heads": 8, "head_dim": 128, "n_routed_experts": 128, "n_shared_experts": 1,
    "num_experts_per_tok": 8, "first_k_dense_replace": 1, "vocab_size": 151552,
    "num_nextn_predict_layers": 1,
}  # fmt: skip
GLM_FLASH = {
    "model_type": "glm4_moe_lite", "hidden_size": 2048, "intermediate_size": 10240,
    "moe_intermediate_size": 1536, "num_hidden_layers": 47, "num_attention_heads": 20,
    "num_key_value_heads": 20, "q_lora_rank": 768, "kv_lora_rank": 512, "qk_nope_head_dim": 192,
    "qk_rope_head_dim": 64, "v_head_dim": 256, "n_routed_experts": 64, "n_shared_experts": 1,
    "num_experts_per_tok": 4, "first_k_dense_replace": 1, "vocab_size": 154880,
}  # fmt: skip
DOTS = {
    "model_type": "dots1", "hidden_size": 4096, "intermediate_size": 10944,
    "moe_intermediate_size": 1408, "num_hidden_layers": 62, "num_attention_heads": 32,
    "num_key_value_heads": 32, "head_dim": 128, "n_routed_experts": 128, "n_shared_experts": 2,
    "num_experts_per_tok": 6, "first_k_dense_replace": 1, "moe_layer_freq": 1,
    "vocab_size": 152064, "layer_types": ["full_attention"] * 62, "sliding_window": None,
}  # fmt: skip
OLMOE = {
    "model_type": "olmoe", "hidden_size": 2048, "intermediate_size": 1024,
    "num_hidden_layers": 16, "num_attention_heads": 16, "num_key_value_heads": 16,
    "num_experts": 64, "num_experts_per_tok": 8, "vocab_size": 50304,
}  # fmt: skip
PHI = {
    "model_type": "phimoe", "hidden_size": 4096, "intermediate_size": 6400,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "num_local_experts": 16, "num_experts_per_tok": 2, "vocab_size": 32064,
}  # fmt: skip
GRANITE = {
    "model_type": "granitemoe", "hidden_size": 1536, "intermediate_size": 512,
    "num_hidden_layers": 32, "num_attention_heads": 24, "num_key_value_heads": 8,
    "num_local_experts": 40, "num_experts_per_tok": 8, "vocab_size": 49155,
    "tie_word_embeddings": True,
}  # fmt: skip
ERNIE = {
    "model_type": "ernie4_5_moe", "hidden_size": 2560, "intermediate_size": 12288,
    "moe_intermediate_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 20,
    "num_key_value_heads": 4, "head_dim": 128, "moe_num_experts": 64, "moe_k": 6,
    "moe_num_shared_experts": 2, "moe_layer_start_index": 1, "moe_layer_end_index": 27,
    "moe_layer_interval": 1, "vocab_size": 103424, "tie_word_embeddings": True,
}  # fmt: skip
HUNYUAN = {
    "model_type": "hunyuan_v1_moe", "hidden_size": 4096, "intermediate_size": 3072,
    "moe_intermediate_size": [3072] * 32, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 128, "num_experts": 64, "moe_topk": [8] * 32,
    "num_shared_expert": [1] * 32, "use_cla": False, "cla_share_factor": 2, "use_qk_norm": True,
    "vocab_size": 128167, "tie_word_embeddings": True,
}  # fmt: skip
LING_FLASH = {
    "model_type": "bailing_moe_v2", "hidden_size": 4096, "intermediate_size": 9216,
    "moe_intermediate_size": 1024, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 4, "head_dim": 128, "num_experts": 256, "num_experts_per_tok": 8,
    "num_shared_experts": 1, "first_k_dense_replace": 1, "vocab_size": 157184,
}  # fmt: skip
EXAONE = {
    "model_type": "exaone_moe", "hidden_size": 6144, "intermediate_size": 18432,
    "moe_intermediate_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 64,
    "num_key_value_heads": 8, "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8,
    "num_shared_experts": 1, "first_k_dense_replace": 1, "vocab_size": 153600,
    "sliding_window": 128, "sliding_window_pattern": "LLLG",
}  # fmt: skip
QWEN_CODER = {
    "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144,
    "moe_intermediate_size": 768, "num_hidden_layers": 48, "num_attention_heads": 32,
    "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8,
    "vocab_size": 151936, "sliding_window": 4096, "max_window_layers": 48,
}  # fmt: skip
KIMI = {
    "model_type": "kimi_linear", "hidden_size": 2304, "intermediate_size": 9216,
    "moe_intermediate_size": 1024, "num_hidden_layers": 27, "num_attention_heads": 32,
    "num_key_value_heads": 32, "q_lora_rank": None, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "v_head_dim": 128, "num_experts": 256, "num_experts_per_token": 8,
    "num_shared_experts": 1, "first_k_dense_replace": 1, "vocab_size": 163840,
    "linear_attn_config": {"full_attn_layers": [4, 8, 12, 16, 20, 24, 27], "head_dim": 128,
                           "num_heads": 32, "short_conv_kernel_size": 4},
}  # fmt: skip
SCOUT = {
    "model_type": "llama4_text", "hidden_size": 5120, "intermediate_size": 8192,
    "intermediate_size_mlp": 16384, "num_hidden_layers": 48, "num_attention_heads": 40,
    "num_key_value_heads": 8, "head_dim": 128, "num_local_experts": 16, "num_experts_per_tok": 1,
    "interleave_moe_layer_step": 1, "attention_chunk_size": 8192, "vocab_size": 202048,
}  # fmt: skip
MINIMAX = {
    "model_type": "minimax_m2", "hidden_size": 3072, "intermediate_size": 1536,
    "num_hidden_layers": 62, "num_attention_heads": 48, "num_key_value_heads": 8, "head_dim": 128,
    "num_local_experts": 256, "num_experts_per_tok": 8, "vocab_size": 200064,
    "attn_type_list": [1] * 62,
}  # fmt: skip
LATENT = 512 + 64


@pytest.mark.parametrize(
    ("config", "total", "active", "whole", "windowed"),
    [
        (GLM_AIR, 106, 12.5, 46 * 2 * 8 * 128, 0),
        (GLM_FLASH, 30, 3.6, 47 * LATENT, 0),
        (DOTS, 142, 14, 62 * 2 * 32 * 128, 0),
        (OLMOE, 6.92, 1.28, 16 * 2 * 16 * 128, 0),
        (PHI, 41.9, 6.6, 32 * 2 * 8 * 128, 0),
        ({**PHI, "sliding_window": 2047}, 41.9, 6.6, 0, 32 * 2 * 8 * 128),
        (GRANITE, 3.3, 0.88, 32 * 2 * 8 * 64, 0),
        (ERNIE, 21.8, 3.1, 28 * 2 * 4 * 128, 0),
        (HUNYUAN, 80.4, 13, 32 * 2 * 8 * 128, 0),
        (LING_FLASH, 103, 6.1, 32 * 2 * 4 * 128, 0),
        (EXAONE, 236, 23, 12 * 2 * 8 * 128, 36 * 2 * 8 * 128),
        (QWEN_CODER, 30.5, 3.3, 48 * 2 * 4 * 128, 0),
        (KIMI, 48.9, 3.2, 7 * LATENT, 0),
        (SCOUT, 108, 17, 12 * 2 * 8 * 128, 36 * 2 * 8 * 128),
        (MINIMAX, 229, 10.5, 62 * 2 * 8 * 128, 0),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else None,
)
def test_families_have_the_sizes_that_are_published(config, total, active, whole, windowed):
    model = architecture_from_config(config)
    assert model.total_parameters / 1e9 == pytest.approx(total, rel=0.04)
    assert model.active_parameters / 1e9 == pytest.approx(active, rel=0.12)
    kinds = {kind.window: kind.bytes_per_token for kind in cache_kinds(model, Precision(), 1)}
    assert kinds.get(None, 0) == 2 * whole
    assert sum(kinds.get(w, 0) for w in kinds if w not in (None, 1)) == 2 * windowed


@pytest.mark.parametrize(
    ("config", "change", "dense"),
    [
        (DOTS, {"moe_layer_freq": 2}, 32),  # layers 0, 1, 3, 5, ...
        (DOTS, {"moe_layer_freq": [0, 0] + [1] * 60}, 2),
        (DOTS, {"mlp_layer_types": ["dense"] * 3 + ["sparse"] * 59}, 3),
        (GLM_FLASH, {"first_k_dense_replace": None,
                     "mlp_layer_types": ["dense"] + ["sparse"] * 46}, 1),
        (QWEN_CODER, {"mlp_layer_types": ["dense", "sparse"] * 24}, 24),
        (QWEN_CODER, {"decoder_sparse_step": 2}, 24),
        (QWEN_CODER, {"mlp_only_layers": [0, 5]}, 2),
        (SCOUT, {"moe_layers": list(range(1, 48, 2))}, 24),
        (SCOUT, {"interleave_moe_layer_step": 2}, 24),
        (ERNIE, {"moe_layer_end_index": -1}, 1),
        (ERNIE, {"moe_layer_end_index": 20}, 8),
        (ERNIE, {"moe_layer_start_index": 0, "moe_layer_interval": 2}, 14),
    ],
)  # fmt: skip
def test_layers_without_experts_are_counted_by_whatever_field_says_it(config, change, dense):
    assert architecture_from_config({**config, **change}).dense_layers == dense


@pytest.mark.parametrize(
    ("config", "change", "windows"),
    [
        (EXAONE, {"sliding_window_pattern": 4}, [128, 128, 128, None]),
        (EXAONE, {"sliding_window_pattern": "LG"}, [128, None]),
        (EXAONE, {"layer_types": ["full_attention"] + ["sliding_attention"] * 47},
         [None, 128, 128]),
        (EXAONE, {"sliding_window_pattern": None, "global_attn_every_n_layers": 4},
         [128, 128, 128, None]),
        (SCOUT, {"no_rope_layers": [1, 0] * 24}, [8192, None, 8192, None]),
        (SCOUT, {"no_rope_layers": []}, [8192, 8192, 8192, None]),
        (QWEN_CODER, {}, [None, None]),
        (QWEN_CODER, {"use_sliding_window": True, "max_window_layers": 1}, [None, 4096, 4096]),
    ],
)  # fmt: skip
def test_windows_follow_whatever_field_says_them(config, change, windows):
    found = [mixer.window for mixer in architecture_from_config({**config, **change}).mixers]
    assert found[: len(windows)] == windows


@pytest.mark.parametrize(
    ("config", "change", "said"),
    [
        (MINIMAX, {"attn_type_list": [0] * 7 + [1] * 55}, "attn_type_list"),
        (PHI, {"model_type": "minimax_m1", "attn_type_list": [0, 1] * 16}, "attn_type_list"),
        (HUNYUAN, {"use_cla": True}, "use_cla"),
        (HUNYUAN, {"moe_topk": [8] * 31 + [4]}, "moe_topk must be an integer"),
        (GLM_AIR, {"head_dim": None, "model_type": "glm_next"}, "head_dim is missing"),
        (DOTS, {"zero_expert_num": 64}, "model_type must be one of"),
        (DOTS, {"moe_layer_start_index": 4}, "model_type must be one of"),
        (PHI, {"moe_latent_size": 1024}, "model_type must be one of"),
        (PHI, {"swa_num_attention_heads": 64}, "model_type must be one of"),
        (PHI, {"model_type": "dbrx"} | dict.fromkeys(("num_local_experts",)), "num_local_experts"),
        (QWEN_CODER, {"mlp_layer_types": ["dense", "odd"] * 24}, "mlp_layer_types"),
        (QWEN_CODER, {"model_type": "jamba", "mamba_d_state": 16}, "model_type must be one of"),
        (SCOUT, {"moe_layers": ["x"]}, "moe_layers must list"),
        (QWEN_CODER, {"n_shared_experts": 1}, "n_shared_experts speaks of layers"),
        (QWEN_CODER, {"kv_lora_rank": 512}, "kv_lora_rank speaks of layers"),
        (QWEN_CODER, {"moe_latent_size": 1024}, "moe_latent_size speaks of layers"),
        (QWEN_CODER, {"zero_expert_num": 64}, "zero_expert_num speaks of layers"),
        (QWEN_CODER, {"attn_output_gate": True}, "attn_output_gate speaks of layers"),
        (QWEN_CODER, {"attention_chunk_size": 8192}, "attention_chunk_size speaks of layers"),
        (QWEN_CODER, {"hc_mult": 4}, "hc_mult speaks of layers"),
        (GLM_FLASH, {"sliding_window": 4096}, "windows of latent attention"),
        (QWEN_CODER, {"sliding_window_layout": [0, 1] * 24}, "sliding_window_layout speaks of"),
        (QWEN_CODER, {"model_type": "qwen3"}, "num_experts speaks of layers"),
        (QWEN_CODER, {"draft_vocab_size": 32000}, "is the draft head"),
    ],
)  # fmt: skip
def test_layers_that_are_not_read_are_refused(config, change, said):
    with pytest.raises(InvalidInputError, match=said):
        architecture_from_config({**config, **change})


def test_head_sizes_that_a_class_supplies():
    """transformers: 128 for glm4_moe and qwen3, 64 for gpt_oss, else hidden_size / heads."""
    unsaid = {key: value for key, value in GLM_AIR.items() if key != "head_dim"}
    assert architecture_from_config(unsaid).attention.head_size == 128
    assert architecture_from_config({**OLMOE}).attention.head_size == 128
    assert architecture_from_config({**unsaid, "num_attention_heads": 64}).attention.head_size
