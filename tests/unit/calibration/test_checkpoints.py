"""Are checkpoints as people have them read right: formats, nested models, hybrids, new names?

The samples hold the field names of public checkpoints; totals are what their publishers state.
"""

import json
from pathlib import Path

import pytest

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.derived import derived_model
from afdplan.calibration.memory import cache_kinds
from afdplan.calibration.model_facts import architecture_from_config
from afdplan.calibration.placement import place
from afdplan.calibration.precision import Precision
from afdplan.errors import InvalidInputError

SAMPLES = Path(__file__).parents[2] / "samples" / "models"
KIB = 1024


def cache_bytes(model):
    return sum(k.bytes_per_token for k in cache_kinds(model, Precision(), 1) if k.window is None)


@pytest.mark.parametrize(
    ("file", "weights", "cache"),
    [
        ("qwen3_235b_nvfp4_checkpoint", "nvfp4", "fp8"),
        ("glm47_fp8_compressed_tensors_config.json", "fp8", None),
        ("kimi_k25_int4_config.json", "int4", None),
        ("qwen3_235b_autoround_config.json", "int4", None),
        ("qwen3_235b_awq_w4_config.json", "int4", None),
        ("qwen3_235b_fbgemm_fp8_config.json", "fp8", None),
        ("qwen3_235b_modelopt_fp8_config.json", "fp8", "fp8"),
        ("qwen3_235b_quark_mxfp4_config.json", "mxfp4", None),
        ("qwen3_235b_torchao_config.json", "fp8", None),
        ("qwen3_235b_w8a8_ascend_config.json", "int8", None),
    ],
)
def test_the_file_says_its_formats(file, weights, cache):
    model = find_model(SAMPLES / file)
    assert (model.precision, model.cache_precision) == (weights, cache)
    placement = place(model, find_hardware("b200"), ffn_devices=8)
    assert placement.precision.feed_forward_weights.partition(":")[0] == weights
    assert placement.precision.cache == (cache or "bf16")
    assert any(line.text.startswith(f"weights are in {weights}") for line in placement.assumptions)


def test_an_unknown_format_names_file_and_option():
    config = json.loads((SAMPLES / "qwen3_235b_awq_w4_config.json").read_text())
    config["quantization_config"] = {"quant_method": "odd"}
    model = architecture_from_config(config, "odd-model")
    with pytest.raises(
        InvalidInputError, match=r"odd-model: quant_method 'odd'.*--weight-precision"
    ):
        place(model, find_hardware("b200"))
    assert place(model, find_hardware("b200"), precision="int4", ffn_devices=8)


@pytest.mark.parametrize(
    ("file", "total", "active", "cache"),
    [
        ("qwen3_vl_235b_config.json", 235.09e9, 22.19e9, 188 * KIB),
        ("internvl_llm_config.json", 235.09e9, 22.19e9, 188 * KIB),
        ("qwen3_omni_thinker_config.json", 30.53e9, 3.35e9, 96 * KIB),
        ("step3_vl_config.json", 316.0e9, 38.8e9, None),
        ("nemotron_infinity_config.json", 235.09e9, 22.19e9, 188 * KIB),
        ("deepseek_v2_lite_config.json", 15.71e9, 2.66e9, 30.4 * KIB),
        ("deepseek_v2_lite_as_v3_config.json", 15.71e9, 2.66e9, 30.4 * KIB),
    ],
)
def test_nested_and_renamed_models(file, total, active, cache):
    model = find_model(SAMPLES / file)
    assert model.total_parameters == pytest.approx(total, rel=0.02)
    assert model.active_parameters == pytest.approx(active, rel=0.02)
    if cache is not None:
        assert cache_bytes(model) == pytest.approx(cache, rel=0.001)


LING = {
    "model_type": "bailing_moe_v2",
    "hidden_size": 8192,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_experts": 256,
    "num_experts_per_tok": 8,
    "num_shared_experts": 1,
    "first_k_dense_replace": 4,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 157184,
}


@pytest.mark.parametrize("name", ["bailing_moe_v2", "brand_new_moe"])
def test_shared_experts_and_dense_layers_of_a_new_name_are_counted(name):
    model = architecture_from_config({**LING, "model_type": name})
    assert model.total_parameters == pytest.approx(1000e9, rel=0.01)  # Ling-1T
    assert model.dense_layers == 4
    assert len(model.notes) == (name != "bailing_moe_v2")


@pytest.mark.parametrize(
    "change",
    [
        {"first_k_dense_replace": None, "num_dense_layers": 2},  # dense layers by another name
        {"num_shared_experts": None, "n_extra_shared_experts": 1},
        {"layer_group_size": 5},  # linear attention in most layers
        {"conv_L_cache": 3},
    ],
)
def test_a_new_name_with_unread_fields_is_not_taken_for_a_known_family(change):
    config = {key: value for key, value in {**LING, **change}.items() if value is not None}
    with pytest.raises(InvalidInputError, match="model_type must be one of"):
        architecture_from_config({**config, "model_type": "brand_new_moe"})


DENSE = {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
}


def test_every_other_layer_of_gpt_oss_slides_unless_the_config_says_otherwise():
    """As its own class of configurations fills `layer_types` in (openai/gpt-oss, transformers)."""
    config = {
        "model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880,
        "num_hidden_layers": 36, "num_attention_heads": 64, "num_key_value_heads": 8,
        "head_dim": 64, "num_local_experts": 128, "num_experts_per_tok": 4,
        "vocab_size": 201088, "sliding_window": 128,
    }  # fmt: skip
    windows = [mixer.window for mixer in architecture_from_config(config).mixers]
    assert windows == [128, None] * 18


def test_layers_that_slide_are_those_that_the_config_says():
    def windows(**stated):
        config = {**DENSE, "use_sliding_window": True, **stated}
        return [mixer.window for mixer in architecture_from_config(config).mixers]

    assert windows(sliding_window=4096) == [4096] * 28
    # Qwen's own class of configurations slides only if it is told to (transformers).
    unsaid = architecture_from_config({**DENSE, "sliding_window": 4096})
    assert {mixer.window for mixer in unsaid.mixers} == {None}
    assert windows(sliding_window=4096, max_window_layers=21) == [None] * 21 + [4096] * 7
    assert windows(sliding_window=4096, max_window_layers=70) == [None] * 28
    with pytest.raises(InvalidInputError, match="layer_types must be"):
        windows(layer_types=["linear_attention"] * 28)
    with pytest.raises(InvalidInputError, match="sliding_window is missing"):
        windows(layer_types=["sliding_attention"] * 28)


def test_tied_embeddings_may_be_said_outside_of_the_text_model():
    text = {**DENSE, "model_type": "qwen3_vl_text"}
    model = architecture_from_config({"tie_word_embeddings": True, "text_config": text})
    assert model.embedding_parameters == 152064 * 3584


def test_known_fields_under_a_new_name_are_read_and_said():
    config = json.loads((SAMPLES / "qwen3_vl_235b_config.json").read_text())
    text = {**config.get("text_config", config), "model_type": "brand_new_moe"}
    model = architecture_from_config(text)
    assert model.total_parameters == pytest.approx(235.09e9, rel=1e-3)
    (note,) = model.notes
    assert "brand_new_moe" in note
    placement = place(model, find_hardware("b200"), ffn_devices=8)
    assert note in [assumption.text for assumption in placement.assumptions]
    with pytest.raises(InvalidInputError, match="model_type must be one of"):
        architecture_from_config({**text, "linear_num_key_heads": 16})
    with pytest.raises(InvalidInputError, match="linear_num_key_heads"):
        architecture_from_config({**text, "model_type": "qwen3_moe", "linear_num_key_heads": 16})


NEXT = {
    "model_type": "qwen3_next",
    "hidden_size": 2048,
    "num_hidden_layers": 48,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
    "num_experts": 512,
    "num_experts_per_tok": 10,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
    "intermediate_size": 5120,
    "vocab_size": 151936,
}


def test_a_hybrid_keeps_a_state_per_request():
    model = architecture_from_config(NEXT)
    assert model.total_parameters == pytest.approx(79.7e9, rel=0.01)  # "80B"
    assert model.active_parameters == pytest.approx(3.9e9, rel=0.05)
    assert [mixer.heads.cached_values > 0 for mixer in model.mixers] == [
        False,
        False,
        False,
        True,
    ] * 12
    # 36 layers of 32 heads of 128 x 128 numbers of 4 bytes, and 3 tokens of 8,192 channels.
    state = 36 * (32 * 128 * 128 * 4 + 8192 * 3 * 2)
    assert model.state_bytes == state
    kinds = {kind.window: kind.bytes_per_token for kind in cache_kinds(model, Precision(), 1)}
    assert kinds == {1: state, None: 12 * 2 * 2 * 256 * 2}
    derived = derived_model("qwen3-next-80b-a3b", "h200", batch_size=64)
    assert derived.memory.request_cache_bytes(1000) == state + 1000 * kinds[None]
    slopes = {kind.curve.slope > 0: kind.layers for kind in derived.latency.attention}
    assert slopes == {False: 36, True: 12}
    linear = next(kind for kind in derived.latency.attention if not kind.curve.slope)
    # The state of one layer is read and written once per request, at 0.9 of 4.8 TB/s.
    assert linear.time_per_request >= 2 * state / 36 / (0.9 * 4.8e12)


def test_layers_that_follow_each_other_are_one_round_trip():
    pattern = "MEM*EM-"
    config = {
        **{"model_type": "nemotron_h", "hidden_size": 2688, "vocab_size": 131072},
        **{"num_hidden_layers": 7, "hybrid_override_pattern": pattern, "mamba_num_heads": 64},
        **{"mamba_head_dim": 64, "ssm_state_size": 128, "n_groups": 8, "conv_kernel": 4},
        **{"num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128},
        **{"n_routed_experts": 128, "num_experts_per_tok": 6, "moe_intermediate_size": 1856},
        **{"moe_shared_expert_intermediate_size": 3712, "n_shared_experts": 1},
        **{"intermediate_size": 1856},
    }
    model = architecture_from_config(config)
    assert [len(block.mixers) for block in model.blocks] == [1, 2, 1]
    assert model.layers == 3
    assert model.decoder_layers == 7
    by_hand = sum(m.parameters(2688) for m in model.mixers) + 2 * 131072 * 2688
    experts = 128 * 2 * 2688 * 1856 + 2 * 2688 * 3712 + 2688 * 128
    assert model.total_parameters == by_hand + 2 * experts + 2 * 2688 * 1856
    with pytest.raises(InvalidInputError, match="layers must be"):
        architecture_from_config({**config, "hybrid_override_pattern": "MEX"})


def test_compressed_attention_caches_a_share_of_the_tokens():
    model = find_model("deepseek-v4-flash")
    assert model.total_parameters == pytest.approx(284e9, rel=0.01)
    assert model.active_parameters == pytest.approx(13e9, rel=0.07)
    kinds = {kind.window: kind.bytes_per_token for kind in cache_kinds(model, Precision(), 1)}
    ratios = [mixer.compression for mixer in model.mixers]
    fours, dense = ratios.count(4), ratios.count(128)
    assert (fours, dense, ratios.count(1)) == (21, 20, 2)
    assert kinds[None] == pytest.approx(fours * (1024 + 132) / 4 + dense * 1024 / 128)
    assert kinds[128] == 43 * 1024


def test_the_state_of_a_linear_layer_is_as_wide_as_the_config_says():
    whole, half = (
        architecture_from_config({**NEXT, "mamba_ssm_dtype": dtype}).state_bytes
        for dtype in ("float32", "bfloat16")
    )
    assert whole == architecture_from_config(NEXT).state_bytes
    assert whole - half == 36 * 32 * 128 * 128 * 2
