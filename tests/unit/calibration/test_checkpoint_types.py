"""Is a value of a wrong type refused, in every key that a dialect reads?"""

from collections.abc import Mapping

import pytest

from afdplan.calibration.checkpoint_dialects import DIALECTS
from afdplan.calibration.checkpoint_format import checkpoint_format
from afdplan.errors import InvalidInputError

MOE = {"num_hidden_layers": 4, "num_experts": 8}
WIDE = {"num_bits": 8, "type": "float", "symmetric": True, "group_size": 128}
FP4 = {"weight": {"dtype": "fp4"}, "output_tensors": {"dtype": "fp8_e4m3"}}
ROUND = {"bits": 4, "group_size": 128, "data_type": "int", "act_bits": 8, "sym": True}
WEIGHTS = {"weight_quant_params": {"nbits": 4, "group_size": 64}}
INT4 = {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 128}}
LISTS = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules", "exclude")
LISTS += ("llm_int8_skip_modules", "skip_modules", "modules_to_not_quantize")
WHOLE = {
    "fp8": {"kv_cache_dtype": "fp8", **{key: ["lm_head", "*.gate"] for key in LISTS}},
    "gptq": {"bits": 4, "group_size": 128, "lm_head": True, "dynamic": {
        "-:.*gate": {}, "+:.*experts.*": {"bits": 8, "group_size": 64}},
        "modules_in_block_to_quantize": [["mlp.experts"], ["self_attn"]]},
    "gptq_marlin": {"w_bit": 4, "block_name_to_quantize": "model.layers"},
    "awq": {"bits": 4, "group_size": 128, "zero_point": True},
    "awq_marlin": {"w_bit": 4, "q_group_size": 128},
    "auto-round": {**ROUND, "extra_config": {"mlp.gate": ROUND, ".*a.*": {"bits": 16}},
                   "layer_config": {"self_attn": ROUND}, "block_name_to_quantize": "model.layers"},
    "auto_round": {**ROUND, "act_bits": 16, "to_quant_block_names": ["model.layers"]},
    "compressed-tensors": {"format": "float-quantized", "config_groups": {"g": {
        "targets": ["Linear"], "format": "x", "weights": WIDE, "input_activations": WIDE}},
        "ignore": ["lm_head"], "kv_cache_scheme": WIDE,
        "sparsity_config": {"format": "dense", "sparsity_structure": "2:4"}},
    "quark": {"global_quant_config": {"weight": {"dtype": "fp4"}},
              "layer_quant_config": {"*self_attn*": FP4},
              "layer_type_quant_config": {"Linear": FP4}, "kv_cache_quant_config": {"*k_proj": FP4},
              "export": {"kv_cache_group": ["*k_proj"]}},
    "torchao": {"quant_type": {"default": INT4}, "include_input_output_embeddings": True},
    "bitsandbytes": {"load_in_4bit": True, "bnb_4bit_use_double_quant": True},
    "hqq": {"quant_config": WEIGHTS},
    "fp_quant": {"forward_dtype": "mxfp4"},
    "quanto": {"weights": "int8"},
    "mlx": {"bits": 4, "group_size": 64, "mode": "affine", "model.layers.0.mlp.gate": False,
            "model.layers.1.mlp.switch_mlp": {"bits": 8, "group_size": 64, "mode": "affine"}},
    "modelopt": {"quant_algo": "MIXED_PRECISION", "quant_method": "fp8", "moe_quant_algo": "NVFP4",
                 "quantized_layers": {
                     "model.layers.0.mlp.experts": {"quant_algo": "W4A16_AWQ", "group_size": 64}}},
}  # fmt: skip
MORE = {
    "hqq": {"quant_config": {"self_attn.q_proj": WEIGHTS, "mlp.experts": {"nbits": 4,
                                                                         "group_size": 64}}},
    "torchao": {"quant_type": {"default": {"_type": "FqnToConfig", "_data": {
        "module_fqn_to_config": {"_default": INT4, "mlp.gate": INT4}}}}},
    "gptq": {"bits": 4, "modules_in_block_to_quantize": "mlp"},
    "mlx": {"bits": 4},
    "bitsandbytes": {"load_in_8bit": True},
}  # fmt: skip
WRONG = (5, "x", {}, [], True, 1.5, [5], [[5]], {"a": 5}, -1e300)


def places(value, at=()):
    """Every place of an object at which something stands."""
    if at:
        yield at, value
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from places(one, (*at, key))


def with_value(value, at, new):
    return {**value, at[0]: with_value(value[at[0]], at[1:], new)} if at else new


def same_type(dialect, one, other):
    if isinstance(one, list | str) and other in ("x", []):  # names may be one text, or a list
        return True
    number = isinstance(one, int) and not isinstance(one, bool)
    if isinstance(one, bool | dict) and dialect == "mlx" and isinstance(other, bool | dict):
        return True
    return type(one) is type(other) or (number and isinstance(other, int) and other is not True)


CASES = [
    (dialect, whole, at, wrong)
    for examples in (WHOLE, MORE)
    for dialect, whole in examples.items()
    for at, value in places(whole)
    for wrong in WRONG
    if at not in {("quant_method",), ("bits",), ("export",)}
    and at[-1] != "_type"
    and not same_type(dialect, value, wrong)
]
# Of another type than in the example, which their tools write too.
SOUND = [
    *(("auto-round", (*at, "group_size"), [5])
      for at in ((), ("extra_config", "mlp.gate"), ("layer_config", "self_attn"))),
    ("auto_round", ("group_size",), [5]),
    ("torchao", ("quant_type", "default", "_data", "module_fqn_to_config", "mlp.gate"), "x"),
]  # fmt: skip


def test_a_value_of_a_wrong_type_is_refused_or_what_it_decides_is_not_known():
    silent = []
    for dialect, whole, at, wrong in CASES:
        stated = with_value({"quant_method": dialect, **whole}, at, wrong)
        try:
            found = checkpoint_format(MOE, stated)
        except InvalidInputError as error:
            if at[-1] not in str(error) or "\n" in str(error):
                silent.append((dialect, at, str(error)))
            continue
        if found.weights is not None and not found.cache_unread:
            silent.append((dialect, at, wrong))
    assert [one for one in silent if one not in SOUND] == []
    assert len(CASES) > 500


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.parametrize("key", LISTS)
def test_every_dialect_refuses_lists_that_are_none(dialect, key):
    for wrong in (5, {}, True, [5], [{}], 1.5):
        with pytest.raises(InvalidInputError, match=rf"^quantization_config: {key} must be a list"):
            checkpoint_format(MOE, {"quant_method": dialect, key: wrong})
    assert checkpoint_format(MOE, {"quant_method": "fp8", key: None}).weights == "fp8"


@pytest.mark.parametrize("key", ["dtype", "torch_dtype", "expert_dtype", "quantize"])
@pytest.mark.parametrize("wrong", [5, {}, ["bfloat16"], True])
def test_a_format_beside_it_is_text(key, wrong):
    with pytest.raises(InvalidInputError, match=f"^the model's config: {key} must be text, got"):
        checkpoint_format(MOE | {key: wrong}, {"quant_method": "fp8"})


@pytest.mark.parametrize("wrong", [5, [5], [[]], [["Linear"]], {"Linear": 1}])
def test_targets_of_a_group_are_names(wrong):
    group = {"targets": wrong, "weights": WIDE}
    stated = {"quant_method": "compressed-tensors", "config_groups": {"g": group}}
    with pytest.raises(
        InvalidInputError, match=r"config_groups\.g\.targets must be a list of names"
    ):
        checkpoint_format(MOE, stated)


def test_a_target_that_is_no_list_is_one_name():
    group = {"targets": "re:.*self_attn.*", "weights": WIDE}
    stated = {"quant_method": "compressed-tensors", "config_groups": {"g": group}}
    found = checkpoint_format(MOE, stated)
    assert (found.weights, found.attention) == ("bf16", "fp8")


def test_the_second_file_is_held_to_it_too():
    with pytest.raises(InvalidInputError, match=r"^hf_quant_config\.json: exclude_modules must be"):
        checkpoint_format(MOE, None, {"quantization": {"quant_algo": "FP8", "exclude_modules": 5}})
