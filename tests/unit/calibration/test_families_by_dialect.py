"""Is each dialect read right whatever a family calls its attention, experts and shared experts?

Names of modules as in the publishers' checkpoints (model.safetensors.index.json of each).
"""

import json
from importlib import resources

import pytest

from afdplan.calibration.model_facts import architecture_from_config

NAMES = {
    # family: what stands before layers, attention, experts, shared experts.
    "deepseek-v3": ("model.", "self_attn", "mlp.experts", "mlp.shared_experts"),
    "deepseek-v3.2": ("model.", "self_attn", "mlp.experts", "mlp.shared_experts"),
    "deepseek-v4-flash": ("", "attn", "ffn.experts", "ffn.shared_experts"),
    "glm-4.5": ("model.", "self_attn", "mlp.experts", "mlp.shared_experts"),
    "glm-5": ("model.", "self_attn", "mlp.experts", "mlp.shared_experts"),
    "gpt-oss-20b": ("model.", "self_attn", "mlp.experts", ""),
    "kimi-k2": ("language_model.model.", "self_attn", "mlp.experts", "mlp.shared_experts"),
    "llama-4-scout": ("language_model.model.", "self_attn", "feed_forward.experts",
                      "feed_forward.shared_expert"),
    "mimo-v2-flash": ("model.", "self_attn", "mlp.experts", ""),
    "minimax-m2": ("model.", "self_attn", "block_sparse_moe.experts", ""),
    "mixtral-8x22b": ("model.", "self_attn", "block_sparse_moe.experts", ""),
    "qwen3-235b-a22b": ("model.", "self_attn", "mlp.experts", ""),
    "qwen3-vl-235b-a22b": ("model.language_model.", "self_attn", "mlp.experts", ""),
    "step-3.7-flash": ("model.", "self_attn", "moe", "share_expert"),
}  # fmt: skip
FOLDER = resources.files("afdplan.data") / "models"


def layers_of(config):
    return range(config["num_hidden_layers"])


def left_out(names, form, layers):
    """Return a list of modules in one of the forms in which tools write it."""
    begin = names[0]
    if form == "each":
        return [f"{begin}layers.{k}.{part}" for k in layers for part in names[1:]]
    if form == "wild":
        return [f"*layers.*.{part}*" for part in names[1:]]
    return [rf"re:.*\.{part}(\.|$).*" for part in names[1:]]


def compressed(ignore):
    group = {
        "targets": ["Linear"],
        "weights": {"num_bits": 4, "type": "int", "group_size": 128},
        "input_activations": None,
    }
    return {"quant_method": "compressed-tensors", "config_groups": {"g": group}, "ignore": ignore}


TOOLS = {
    "fp8": ("fp8", ("each",), lambda left: {"quant_method": "fp8", "modules_to_not_convert": left}),
    "awq": ("int4", ("each",), lambda left: {
        "quant_method": "awq", "bits": 4, "group_size": 128, "modules_to_not_convert": left}),
    "gptq": ("int4", ("regex",), lambda left: {"quant_method": "gptq", "bits": 4,
        "group_size": 128, "dynamic": {f"-:{one.removeprefix('re:')}": {} for one in left}}),
    "auto-round": ("int4", ("each",), lambda left: {"quant_method": "auto-round", "bits": 4,
        "group_size": 128, "extra_config": {one: {"bits": 16} for one in left}}),
    "compressed-tensors": ("int4", ("each", "regex"), compressed),
    "modelopt": ("nvfp4", ("each", "wild"), lambda left: {
        "quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": left}),
    "quark": ("mxfp4", ("each", "regex", "wild"), lambda left: {"quant_method": "quark",
        "global_quant_config": {"weight": {"dtype": "fp4"}}, "exclude": left}),
    "torchao": ("int8", ("each",), lambda left: {"quant_method": "torchao",
        "quant_type": {"default": {"_type": "Int8WeightOnlyConfig"}},
        "modules_to_not_convert": left}),
    "mlx": ("int4", ("each",), lambda left: {
        "bits": 4, "group_size": 128, **dict.fromkeys(left, False)}),
}  # fmt: skip
# Every sixth pair: each family meets several tools, each tool several families.
CASES = [
    (family, tool, form) for family in NAMES for tool, (_, forms, _) in TOOLS.items()
    for form in forms
][::6]  # fmt: skip


def formats(config, quantization):
    stored = architecture_from_config({**config, "quantization_config": quantization}).stored
    assert stored is not None
    names = (stored.feed_forward_weights, stored.common_weights, stored.attention_weights)
    return tuple(name.partition(":")[0].removesuffix("a16") for name in names)


@pytest.mark.parametrize(("family", "tool", "form"), CASES, ids=lambda value: value)
def test_attention_shared_and_routed_experts_are_told_apart(family, tool, form):
    config = json.loads((FOLDER / f"{family}.json").read_text())
    config = {k: v for k, v in config.items() if k not in ("quantization_config", "expert_dtype")}
    begin, attention, experts, shared = NAMES[family]
    name, _, tool_of = TOOLS[tool]
    layers = layers_of(config)

    def read(*parts):
        return formats(config, tool_of(left_out((begin, *parts), form, layers)))

    assert read("lm_head") == (name, name, name)
    assert read(attention) == (name, name, "bf16")
    model = architecture_from_config(config)
    found = read(experts)
    if experts != "moe":  # whose gate and experts tools name together
        dense = name if any(n.dense_size for b in model.blocks for n in b.feed_forward) else "bf16"
        assert found == ("bf16", dense, name)
    if shared:
        routed, common, mixing = read(attention, shared)
        assert (routed, mixing) == (name, "bf16")
        # The part that has more of both widths decides over dense layers and shared experts.
        networks = [network for block in model.blocks for network in block.feed_forward]
        of_shared = sum(network.dense_size for network in networks if network.experts)
        of_dense = sum(network.dense_size for network in networks if not network.experts)
        assert common == ("bf16" if of_shared > of_dense else name)
