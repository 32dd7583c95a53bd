"""Is every dialect of quantisation read right: experts, attention, shared parts, KV cache?"""

import json
from pathlib import Path

import pytest

from afdplan.calibration.catalogue import find_hardware
from afdplan.calibration.checkpoint_format import checkpoint_format
from afdplan.calibration.model_facts import architecture_from_config
from afdplan.calibration.placement import place
from afdplan.errors import InvalidInputError

SAMPLES = Path(__file__).parents[2] / "samples" / "models"
MOE = {"num_hidden_layers": 48, "num_experts": 128}

WIDE = {"num_bits": 8, "type": "float"}
NARROW = {"num_bits": 4, "type": "float", "group_size": 16}


def widened(weights):
    return {"weights": weights, "input_activations": None}


@pytest.mark.parametrize(
    ("quantization", "weights"),
    [
        ({"quant_method": "gptq", "bits": 4}, "int4"),
        ({"quant_method": "gptq", "bits": 8}, "int8"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8"),
        ({"quant_method": "intel/auto-round", "bits": 4}, "int4"),
        (
            {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}}},
            "fp8",
        ),
        ({"quant_method": "quark", "global_quant_config": {"weight": [{"dtype": "fp4"}]}}, "mxfp4"),
        (
            {
                "quant_method": "quark",
                "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}},
                "layer_quant_config": {"*mlp.experts.*": {"weight": {"dtype": "fp4"}}},
            },
            "mxfp4",
        ),
        ({"quant_method": "torchao", "quant_type": "int4_weight_only"}, "int4"),
        ({"quant_method": "torchao", "quant_type": "float8_weight_only"}, "fp8"),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": NARROW}}},
            "nvfp4",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"a": {"weights": WIDE}, "b": {"weights": NARROW}},
            },
            "nvfp4",
        ),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {}}}}, None),
        ({"quant_method": "compressed-tensors"}, None),
        ({"quant_method": "modelopt", "quant_algo": "W4A16_NVFP4"}, "int4"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": widened(NARROW)}}, "int4"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": widened(WIDE)}}, "fp8"),
        ({"quant_method": "auto-round", "bits": 4, "data_type": "mx_fp", "act_bits": 4}, "mxfp4"),
        ({"quant_method": "auto-round", "bits": 4, "data_type": "nv_fp", "act_bits": 4}, "nvfp4"),
        ({"quant_method": "auto-round", "bits": 4, "data_type": "nv_fp4"}, "int4"),
        ({"quant_method": "auto-round", "bits": 8, "data_type": "fp8"}, "fp8"),
        ({"quant_method": "auto-round", "bits": 8, "data_type": "mx_fp", "act_bits": 8}, "fp8"),
        ({"quant_method": "modelopt", "quantization": {"quant_algo": "NVFP4"}}, "nvfp4"),
        ({"quant_method": "modelopt", "quant_algo": "NEW"}, None),
        ({"quant_method": ["fp8"]}, None),
        ({}, None),
    ],
)
def test_dialects(quantization, weights):
    assert checkpoint_format(MOE, quantization).weights == weights


GATES = [f"model.layers.{k}.mlp.gate" for k in range(48)]
EXPERTS = [f"model.layers.{k}.mlp.experts" for k in range(48)]
LINEAR = {"targets": ["Linear"], "weights": WIDE}
ONLY_ATTENTION = {"targets": ["re:.*self_attn.*"], "weights": WIDE}


@pytest.mark.parametrize(
    ("quantization", "experts", "attention"),
    [
        # What large models list: routers and the head. Nothing changes.
        ({"quant_method": "fp8", "modules_to_not_convert": ["lm_head", *GATES]}, "fp8", "fp8"),
        ({"quant_method": "fp8", "modules_to_not_convert": ["gate", "visual"]}, "fp8", "fp8"),
        ({"quant_method": "fp8", "modules_to_not_convert": EXPERTS[:3]}, "fp8", "fp8"),
        ({"quant_method": "fp8", "modules_to_not_convert": None}, "fp8", "fp8"),
        ({"quant_method": "fp8", "modules_to_not_convert": EXPERTS}, "bf16", "fp8"),
        ({"quant_method": "fp8", "modules_to_not_convert": ["mlp"]}, "bf16", "fp8"),
        ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["experts"]}, "bf16", "fp8"),
        ({"quant_method": "fp8", "ignored_layers": ["model.language_model"]}, "bf16", "bf16"),
        ({"quant_method": "fp8", "modules_to_not_convert": ["self_attn"]}, "fp8", "bf16"),
        ({"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn",
          "model.layers.*.mlp.router", "lm_head"]}, "mxfp4", "bf16"),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "ignore": ["*mlp*"]}, "bf16", "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ["*mlp.gate",
          "*self_attn*", "lm_head"]}, "nvfp4", "bf16"),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "exclude_modules":
          ["model.layers.0.*", "model.layers.1.*"]}, "fp8", "fp8"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": ONLY_ATTENTION}},
         "bf16", "fp8"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": LINEAR},
          "ignore": ["re:.*mlp.*", "lm_head"]}, "bf16", "fp8"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": LINEAR},
          "ignore": ["re:.*self_attn.*"]}, "fp8", "bf16"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": ONLY_ATTENTION,
          "b": {"targets": ["re:.*experts.*"], "weights": NARROW}}}, "nvfp4", "fp8"),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}},
          "exclude": ["lm_head", "re:.*mlp.experts.*"]}, "bf16", "fp8"),
        ({"quant_method": "gptq", "bits": 4, "dynamic": {"-:.*experts.*": {}}}, "bf16", "int4"),
        ({"quant_method": "auto-round", "bits": 4,
          "extra_config": {".*experts.*": {"bits": 16}}}, "bf16", "int4"),
        ({"quant_method": "awq", "bits": 4, "modules_to_not_convert": ["("]},
         "int4", "int4"),
    ],
)  # fmt: skip
def test_parts_that_a_tool_left_in_16_bits(quantization, experts, attention):
    found = checkpoint_format(MOE, quantization)
    assert (found.weights, found.attention) == (experts, attention)
    if experts != attention:
        assert ("leaves the experts in 16 bits" in found.told) == (experts == "bf16")


def test_modelopt_s_second_file_leaves_out_the_networks_of_a_dense_model():
    second = {"quantization": {"quant_algo": "FP8", "exclude_modules": ["*mlp*"]}}
    found = checkpoint_format({"num_hidden_layers": 4}, None, second)
    assert (found.weights, found.attention) == ("bf16", "fp8")


def test_the_times_follow_the_parts():
    config = json.loads((SAMPLES / "qwen3_235b_fbgemm_fp8_config.json").read_text())
    config["quantization_config"]["modules_to_not_convert"] = ["experts"]
    model = architecture_from_config(config, "config.json")
    placement = place(model, find_hardware("h200"))
    assert placement.precision.feed_forward_weights == "bf16"
    assert placement.precision.attention_weights == "fp8"
    said = " ".join(one.text for one in placement.assumptions)
    assert "weights are in bf16, those of attention in fp8" in said


@pytest.mark.parametrize("table", ["layer_quant_config", "kv_cache_quant_config"])
def test_quark_keeps_the_cache_as_its_projections_put_it_out(table):
    part = {"output_tensors": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}}
    quantization = {
        "quant_method": "quark",
        "global_quant_config": {"weight": {"dtype": "fp4"}},
        "export": {"kv_cache_group": ["*k_proj", "*v_proj"]},
        table: {"*k_proj": part, "*v_proj": part},
    }
    assert checkpoint_format(MOE, quantization).cache == "fp8"
    assert checkpoint_format(MOE, quantization).weights == "mxfp4"
    assert checkpoint_format(MOE, quantization | {table: {}}).cache is None


def test_mixed_precision_is_that_of_the_experts():
    layers = {
        **{f"layers.0.self_attn.{p}_proj": {"quant_algo": "FP8"} for p in "qkvo"},
        "layers.0.mlp.shared_experts.up_proj": {"quant_algo": "FP8"},
        "layers.0.mlp.experts.0.up_proj": {"quant_algo": "NVFP4"},
    }
    second = {"quantization": {"quant_algo": "MIXED_PRECISION", "quantized_layers": layers}}
    found = checkpoint_format({"num_hidden_layers": 1, "num_experts": 8}, None, second)
    assert (found.weights, found.attention) == ("nvfp4", "fp8")


ATTENTION = {"targets": ["re:.*self_attn.*"], "weights": WIDE}


@pytest.mark.parametrize(
    ("groups", "weights"),
    [
        # One group per projection: together they are the experts.
        ([(["re:.*down_proj"], WIDE), (["re:.*up_proj", "re:.*gate_proj"], WIDE)], "fp8"),
        ([(["re:.*down_proj"], WIDE), (["re:.*up_proj", "re:.*gate_proj"], NARROW)], None),
        ([(["re:.*up_proj", "re:.*gate_proj"], WIDE)], None),
        ([(["Qwen3MoeMLP"], NARROW)], None),
    ],
)
def test_groups_that_name_projections_or_classes(groups, weights):
    tables = {f"g{k}": {"targets": t, "weights": w} for k, (t, w) in enumerate(groups)}
    quantization = {
        "quant_method": "compressed-tensors",
        "config_groups": tables | {"attention": ATTENTION},
        "ignore": ["lm_head"],
    }
    assert checkpoint_format(MOE, quantization).weights == weights


@pytest.mark.parametrize(
    "quantization",
    [
        {
            "quant_method": "torchao",
            "quant_type": {"default": {"_type": "Float8DynamicActivationInt4WeightConfig"}},
        },
        {
            "quant_method": "quark",
            "global_quant_config": {"weight": [{"dtype": "fp8_e4m3"}, {"dtype": "int4"}]},
        },
    ],
)
def test_four_bit_weights_of_eight_bit_arithmetic_are_four_bits(quantization):
    assert checkpoint_format(MOE, quantization).weights == "int4"


@pytest.mark.parametrize(
    ("left", "weights"),
    [
        (["lm_head", "re:.*mlp.gate$"], "fp8"),
        ([f"model.layers.{k}.mlp.experts" for k in (0, 47)], "fp8"),  # the ends, as tools do
        ([f"model.layers.{k}.mlp.experts" for k in range(24)], None),
        (["re:.*experts.*down_proj"], None),
        (["re:.*mlp.experts.*"], "bf16"),
    ],
)
@pytest.mark.parametrize("dialect", ["fp8", "compressed-tensors"])
def test_experts_that_are_quantised_in_part_are_refused(dialect, left, weights):
    quantization = {"quant_method": dialect, "ignore": left}
    if dialect == "compressed-tensors":
        quantization["config_groups"] = {"g": {"targets": ["Linear"], "weights": WIDE}}
    found = checkpoint_format(MOE, quantization)
    assert found.weights == weights
    assert ("a part of the experts" in found.told) == (weights is None)


def test_the_dense_network_beside_the_experts_of_gemma_is_not_the_experts():
    """nvidia/Gemma-4-26B-A4B-NVFP4 leaves `mlp`, router and attention of every layer out."""
    parts = ("mlp", "router", "self_attn")
    quantization = {
        "quant_method": "modelopt",
        "config_groups": {"g": {"targets": ["Linear"], "weights": NARROW}},
        "quant_algo": "NVFP4",
        "ignore": [f"model.language_model.layers.{k}.{part}*" for k in range(30) for part in parts],
    }
    gemma = {"model_type": "gemma4_text", "num_hidden_layers": 30, "num_experts": 128}
    found = checkpoint_format(gemma, quantization)
    assert (found.weights, found.attention) == ("nvfp4", "bf16")
    assert checkpoint_format(gemma | {"model_type": "qwen3_moe"}, quantization).weights == "bf16"


def test_weights_that_were_saved_without_packing_are_of_no_known_width():
    groups = {"g": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "int"}}}
    quantization = {"quant_method": "compressed-tensors", "config_groups": groups}
    assert checkpoint_format(MOE, quantization).weights == "int8"
    assert checkpoint_format(MOE, {**quantization, "format": "dense"}).weights is None


@pytest.mark.parametrize(
    "expression",
    [
        r"(.+)+!(?<!a)",
        r"((a+)b)+c\\b(?!d)",
        r"(?P<x>[a-z]+)*!(?P=x)",
        r"(?<!b)(a|aa)*!",
        r"(?:a?){50}(?!b)",
        "(?:a?){50}",
        r"(?<!b).*.*.*.*.*.*!",
        "(?<!b)" + ".?" * 30 + "!",
        "(?<!b)" + "(.|.)" * 30 + "!",
        "[",
        "a{9999999999999}",
    ],
)
def test_an_expression_that_may_take_for_ever_or_is_none_is_refused(expression):
    ignored = {"config_groups": {"a": LINEAR}, "ignore": [f"re:{expression}"]}
    with pytest.raises(InvalidInputError, match="the checkpoint's quantization names modules by"):
        checkpoint_format(MOE, {"quant_method": "compressed-tensors"} | ignored)


@pytest.mark.parametrize(
    "expression",
    [
        r".*self_attn.*",
        r"^(?!.*experts).*$",
        "(.+)+!",
        r"((a+)b)+c",
        r"(?P<x>[a-z]+)*!",
        "(a|aa)*!",
        ".*.*.*.*.*.*!",
        ".?" * 30 + "!",
        "(.|.)" * 30 + "!",
        r"model\.layers\.(?:[0-9]|[1-3][0-9]|4[0-7])\.mlp\.(gate|up)_proj",
        r".*\.mlp\.gate$",
        r"[*+]{2}\(a+\)+",
        rf".*layers\.({'|'.join(map(str, range(61)))})\..*\.(q|k|v|o|gate|up|down)_proj.*",
    ],
)
def test_expressions_that_tools_write_are_read(expression):
    ignored = {"config_groups": {"a": LINEAR}, "ignore": [f"re:{expression}"]}
    assert checkpoint_format(MOE, {"quant_method": "compressed-tensors"} | ignored)
