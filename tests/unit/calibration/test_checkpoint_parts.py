"""Have the parts of a checkpoint each the width that its tool wrote, or is it refused plainly?

Right values were worked out by hand from the dialects' documentation: bits per weight with scales.
"""

import json

import pytest

from afdplan.calibration.catalogue import find_hardware, find_model
from afdplan.calibration.checkpoint_format import checkpoint_format
from afdplan.calibration.memory import attention_weight_bytes, ffn_weight_bytes
from afdplan.calibration.model_facts import architecture_from_config
from afdplan.calibration.placement import place
from afdplan.errors import InvalidInputError

MOE = {
    "model_type": "qwen3_moe", "hidden_size": 2048, "moe_intermediate_size": 768,
    "intermediate_size": 6144, "num_hidden_layers": 48, "num_attention_heads": 32,
    "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8,
    "vocab_size": 151936,
}  # fmt: skip
DEEPSEEK = {
    "model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432,
    "num_hidden_layers": 61, "num_attention_heads": 128, "vocab_size": 129280,
    "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
    "v_head_dim": 128, "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8,
    "moe_intermediate_size": 2048, "first_k_dense_replace": 3,
}  # fmt: skip
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}
ROUND = {"quant_method": "auto-round", "bits": 4, "group_size": 128, "data_type": "int"}
FP4, FP8 = {"weight": {"dtype": "fp4"}}, {"weight": {"dtype": "fp8_e4m3"}}
QUARK = {"quant_method": "quark", "global_quant_config": FP4}
MIXED = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}


def layers(names, algorithm):
    return {
        f"model.layers.{k}.{name}": {"quant_algo": algorithm} for k in range(48) for name in names
    }


def parts(quantization, config=MOE, **outside):
    stored = architecture_from_config(
        {**config, "quantization_config": quantization, **outside}
    ).stored
    assert stored is not None
    return stored.feed_forward_weights, stored.attention_weights


@pytest.mark.parametrize(
    ("quantization", "experts", "attention"),
    [
        # Widths of single modules: GPTQModel, AutoRound.
        ({**GPTQ, "dynamic": {r"+:.*\.experts\..*": {"bits": 8}}}, "int8:8.188a16", "int4"),
        ({**GPTQ, "dynamic": {r".*self_attn.*": {"bits": 8}}}, "int4", "int8:8.188a16"),
        ({**GPTQ, "dynamic": {"-:.*q_proj": {}, "+:.*_proj": {"group_size": 32}}},
         "int4:4.625", "int4:9.681"),
        ({**GPTQ, "modules_in_block_to_quantize": [["mlp.experts"]]}, "int4", "bf16"),
        ({**ROUND, "extra_config": {".*experts.*": {"bits": 8}}}, "int8:8.125a16", "int4"),
        ({**ROUND, "layer_config": {"self_attn": {"bits": 8, "act_bits": 8}}}, "int4", "int8"),
        ({**ROUND, "extra_config": {
            f"model.layers.{k}.self_attn.{p}_proj": {"bits": 16, "data_type": "float"}
            for k in range(48) for p in "qkvo"}}, "int4", "bf16"),
        ({**ROUND, "extra_config": {".*experts.*": {"bits": 8, "data_type": "mx_fp",
          "act_bits": 8}}}, "fp8:8.25", "int4"),
        ({**ROUND, "block_name_to_quantize": "model.layers,model.visual.blocks"}, "int4", "int4"),
        ({**ROUND, "to_quant_block_names": ["model.layers"]}, "int4", "int4"),
        # Attention of its own, in every dialect.
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "int4", "int4"),
        ({"quant_method": "awq", "bits": 4, "modules_to_not_convert": ["self_attn"]},
         "int4:4", "bf16"),
        ({**QUARK, "layer_quant_config": {"*self_attn*": FP8}}, "mxfp4", "fp8"),
        ({**QUARK, "layer_quant_config": {"re:.*self_attn.*": FP8}}, "mxfp4", "fp8"),
        ({**QUARK, "exclude": ["re:.*self_attn.*", "lm_head"]}, "mxfp4", "bf16"),
        ({**QUARK, "layer_type_quant_config": {"Linear": FP8}}, "fp8", "fp8"),
        ({**MIXED, "quantized_layers": layers(["mlp.experts"], "NVFP4")}, "nvfp4", "bf16"),
        ({**MIXED, "quantized_layers": layers(["mlp.experts.0.up_proj"], "NVFP4")
          | layers(["self_attn"], "FP8")}, "nvfp4", "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4", "nvfp4"),
        ({"quant_method": "mxfp4"}, "mxfp4", "bf16"),  # of gpt-oss: experts alone
        ({"quant_method": "w4afp8"}, "int4a8", "fp8"),
        ({"quant_method": "torchao", "quant_type": {"default": {"_type": "FqnToConfig", "_data": {
            "fqn_to_config": {"re:.*self_attn.*": None, "_default": "int4_weight_only"}}}}},
         "int4", "bf16"),
        # Widths that follow from groups.
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4:4.5", "int4:4.5"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8", "int8"),
        ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4,
          "group_size": 64}}}, "int4:4.5", "int4:4.5"),
        ({"quant_method": "eetq", "weights": "int8"}, "int8a16", "int8a16"),
        ({"quant_method": "gptq", "bits": 3, "group_size": 128}, "int3", "int3"),
        ({"quant_method": "torchao", "quant_type": {"default": {"_type": "IntxWeightOnlyConfig",
          "_data": {"weight_dtype": {"_data": "torch.int2"}}}}}, "int2:2", "int2:2"),
    ],
)  # fmt: skip
def test_each_part_has_the_width_that_its_tool_wrote(quantization, experts, attention):
    assert parts(quantization) == (experts, attention)


@pytest.mark.parametrize("key", ["quantization", "quantization_config"])
def test_mlx_counts_scale_and_bias_of_every_group(key):
    whole = {"group_size": 64, "bits": 4}
    model = architecture_from_config({**MOE, key: whole})
    assert model.precision == "int4"
    # Four bits, and two numbers of 16 bits per 64 weights: everything, embeddings too.
    both = attention_weight_bytes(model, model.stored, 1) + ffn_weight_bytes(model, model.stored, 1)
    assert both == pytest.approx(model.total_parameters * 4.5 / 8, rel=1e-6)
    odd = {
        **{f"model.layers.{k}.self_attn.{p}_proj": {"group_size": 64, "bits": 8}
           for k in range(48) for p in "qkvo"},
        **{f"model.layers.{k}.mlp.gate": False for k in range(48)},
        "model.layers.0.mlp.switch_mlp.down_proj": {"group_size": 64, "bits": 6},
    }  # fmt: skip
    stored = architecture_from_config({**MOE, key: whole | odd, "quantization": whole | odd}).stored
    assert (stored.attention_weights, stored.head_weights) == ("int8:8.5a16", "int4:4.5")
    assert stored.feed_forward_weights == f"int4:{4.5 + 2 / 3 / 48:.4g}"
    stored = architecture_from_config({**MOE, key: {**whole, "mode": "mxfp4"}}).stored
    assert stored.feed_forward_weights == "mxfp4"


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"quant_algo": "FP8"}, {"quant_algo": "NVFP4"}, "state fp8 and nvfp4"),
        ({"quant_algo": "NVFP4", "ignore": ["*self_attn*"]}, {"quant_algo": "NVFP4"}, "attention"),
        ({"quant_algo": "FP8"}, {"quant_algo": "ODD"}, "fp8 and an unknown format"),
    ],
)
def test_two_files_that_differ_are_refused(first, second, said):
    config = {
        **MOE,
        "quantization_config": {"quant_method": "modelopt", **first},
        "hf_quant_config": {"producer": {"name": "modelopt"}, "quantization": second},
    }
    model = architecture_from_config(config, "folder")
    with pytest.raises(InvalidInputError, match=f"hf_quant_config.json.*{said}.*--weight-prec"):
        place(model, find_hardware("b200"))
    assert place(model, find_hardware("b200"), precision="nvfp4")


def test_two_files_that_differ_in_the_cache_are_refused():
    first = {"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_scheme": "INT8"}
    second = {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}
    config = {**MOE, "quantization_config": first, "hf_quant_config": {"quantization": second}}
    model = architecture_from_config(config)
    with pytest.raises(InvalidInputError, match=r"KV cache, fp8 in .* and int8 in .*--kv-prec"):
        place(model, find_hardware("b200"))
    assert place(model, find_hardware("b200"), cache_precision="fp8").precision.cache == "fp8"


@pytest.mark.parametrize(
    "stated",
    [
        {"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_quant_algo": "NVFP4_ROTATE"},
        {"quant_method": "fp8", "kv_cache_scheme": {"num_bits": 4, "type": "float"}},
        {"quant_method": "fp8", "kv_cache_scheme": {"num_bits": 2, "type": "int"}},
    ],
)
def test_a_cache_that_is_not_known_is_not_taken_for_bf16(stated):
    model = architecture_from_config({**MOE, "quantization_config": stated}, "odd")
    with pytest.raises(InvalidInputError, match=r"odd: the KV cache's .*--kv-precision"):
        place(model, find_hardware("b200"))


def test_a_second_file_may_speak_of_the_cache_alone():
    second = {"quantization": {"quant_algo": None, "kv_cache_quant_algo": "FP8"}}
    model = architecture_from_config({**MOE, "hf_quant_config": second})
    assert (model.precision, model.cache_precision) == ("bf16", "fp8")
    both = {**MOE, "quantization_config": {"quant_method": "fp8"}, "hf_quant_config": second}
    assert architecture_from_config(both).precision == "fp8"


def test_compressed_tensors_by_its_old_name():
    group = {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float"}}
    old = {"quant_method": "compressed-tensors", "config_groups": {"g": group}}
    assert architecture_from_config({**MOE, "compression_config": old}).precision == "fp8"
    two = {**MOE, "compression_config": old, "quantization_config": {"quant_method": "fp8"}}
    assert architecture_from_config(two).precision is None
    half = old | {"sparsity_config": {"format": "sparse-24-bitmask", "sparsity_structure": "2:4"}}
    assert "sparsity_config" in checkpoint_format(MOE, half).told


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("aqlm", {"nbits_per_codebook": 16}), ("vptq", {}), ("spqr", {"bits": 3}),
        ("higgs", {"bits": 4}), ("exl3", {"bits": 3.0}), ("gguf", {}), ("deepspeedfp", {"bits": 6}),
        ("hqq", {}), ("torchao", {"quant_type": "Uint7NewConfig"}), ("auto-round", {"bits": 7}),
        ("auto-round", {"bits": [4], "data_type": "mx_fp"}),
        ("quark", {"global_quant_config": {"weight": {"dtype": "fp6_e3m2"}}}),
        ("bitsandbytes", {}), ("modelopt", {"quant_algo": "MIXED_PRECISION"}), (["fp8"], {}),
    ],
)  # fmt: skip
def test_what_is_not_known_names_file_and_option(method, more):
    quantization = {"quant_method": method, **more}
    model = architecture_from_config({**MOE, "quantization_config": quantization}, "folder")
    with pytest.raises(InvalidInputError, match=r"folder: .*quant.*--weight-prec") as caught:
        place(model, find_hardware("b200"))
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)
    assert place(model, find_hardware("b200"), precision="int4:3.1").precision.send == "bf16"


def test_shared_and_dense_parts_have_a_width_of_their_own():
    """As Kimi-K2.5 leaves them (ignore of its config.json)."""
    group = {
        "targets": ["Linear"], "input_activations": None,
        "weights": {"num_bits": 4, "type": "int", "group_size": 32},
    }  # fmt: skip
    ignore = ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", "re:.*mlp.(gate|up|down)_.*"]
    quantization = {
        "quant_method": "compressed-tensors",
        "config_groups": {"g": group},
        "ignore": ignore,
    }
    model = architecture_from_config({**DEEPSEEK, "quantization_config": quantization})
    experts = 58 * 256 * 3 * 7168 * 2048
    rest = 58 * (3 * 7168 * 2048 + 7168 * 256) + 3 * 3 * 7168 * 18432
    assert ffn_weight_bytes(model, model.stored, 1) == experts * 4.5 / 8 + rest * 2
    assert model.stored.common_weights == "bf16"
    said = place(model, find_hardware("b200"), ffn_devices=8).assumptions[0].text
    assert "int4 (4.5 bits per weight), those of attention in bf16, those of dense and" in said


def test_some_projections_of_attention_count_by_their_parameters():
    """nvidia/DeepSeek-V3.1-NVFP4 leaves all but the output projection out."""
    left = ["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj"]
    excluded = [f"model.layers.{k}.self_attn.{name}" for k in range(61) for name in left]
    second = {"quantization": {"quant_algo": "NVFP4", "exclude_modules": excluded}}
    model = architecture_from_config({**DEEPSEEK, "hf_quant_config": second})
    output, whole = 128 * 128 * 7168, model.mixer.parameters(7168)
    bits = (output * 4.5 + (whole - output) * 16) / whole
    assert model.stored.attention_weights == f"nvfp4:{bits:.4g}"


def test_deepseek_v4_is_in_fp8_beside_its_experts():
    for name in ("deepseek-v4-flash", "deepseek-v4-pro"):
        stored = find_model(name).stored
        assert stored.feed_forward_weights == "mxfp4"
        assert (stored.attention_weights, stored.common_weights) == ("fp8", "fp8")


def test_a_checkpoint_of_32_bits_is_not_called_16_as_in_the_checkpoint():
    model = architecture_from_config({**MOE, "torch_dtype": "float32"})
    assert (model.precision, model.precision_source) == (
        "bf16",
        "servers load a checkpoint of float32",
    )
    assert architecture_from_config({**MOE, "dtype": "float8_e4m3fn"}).precision is None


@pytest.mark.parametrize(
    ("file", "stated", "weights"),
    [
        ("quantize_config.json", {"bits": 4, "group_size": 128, "desc_act": False}, "int4"),
        ("quant_config.json", {"zero_point": True, "q_group_size": 128, "w_bit": 4}, "int4"),
        ("quantization_config.json", {"bits": 8, "data_type": "int", "act_bits": 8}, "int8"),
        ("quant_model_description.json", {
            f"model.layers.{k}.mlp.experts.{e}.{p}_proj.weight": "W8A8_DYNAMIC"
            for k in range(48) for e in range(128) for p in ("gate", "up", "down")}, "int8"),
    ],
)  # fmt: skip
def test_tools_that_write_beside_the_config(tmp_path, file, stated, weights):
    (tmp_path / "config.json").write_text(json.dumps(MOE))
    assert find_model(tmp_path).precision == "bf16"
    (tmp_path / file).write_text(json.dumps(stated))
    assert find_model(tmp_path).precision == weights
    if "description" in file:  # attention is not in it
        assert find_model(tmp_path).attention_precision == "bf16"


def test_a_folder_of_gguf_says_what_to_give(tmp_path):
    (tmp_path / "model-Q4_K_M.gguf").write_bytes(b"GGUF")
    for path in (tmp_path, tmp_path / "model-Q4_K_M.gguf"):
        with pytest.raises(InvalidInputError, match=r"config\.json.*--weight-precision int4:4\.85"):
            find_model(path)


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("key", ["kv_cache_quant_algo", "kv_cache_dtype"])
def test_a_cache_is_read_wherever_it_stands(key, inside):
    """It read as bf16 at the top of a config, and by the name that servers give their option."""
    fp8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    for value, cache, unread in (
        *(("fp8", "fp8", ""), ("fp8_e4m3", "fp8", ""), ("bfloat16", "bf16", "")),
        *(("auto", None, ""), ("tq3", None, "'tq3'")),
    ):
        stated = {key: value}
        found = checkpoint_format({} if inside else stated, fp8 | (stated if inside else {}))
        assert found.cache == cache
        assert unread in found.cache_unread
    assert checkpoint_format({key: "fp8"}, None).cache == "fp8"
