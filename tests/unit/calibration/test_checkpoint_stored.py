"""What each tool's words mean: bits with their scales, arithmetic; and which modules they name."""

from __future__ import annotations

import pytest

from afdplan.calibration.architecture import Block, FeedForward, Mixer
from afdplan.calibration.attention import CompressedAttention, GroupedAttention, LatentAttention
from afdplan.calibration.checkpoint_dialects import DIALECTS
from afdplan.calibration.checkpoint_groups import (
    compressed_tensors,
    integers,
    modelopt,
    number_stored,
    quark,
    torchao,
)
from afdplan.calibration.checkpoint_modules import (
    Modules,
    modules_of_config,
    modules_of_model,
    shares,
)
from afdplan.calibration.checkpoint_rules import PLAIN, Resolver, Rule, Stored
from afdplan.calibration.recurrent import DeltaAttention, StateSpace

FP8, INT8 = Stored("fp8", 8.0), Stored("int8", 8.0)
NVFP4, MXFP4 = Stored("nvfp4", 4.5), Stored("mxfp4", 4.25)


@pytest.mark.parametrize(
    ("bits", "group", "more", "found"),
    [
        (4, 128, {}, Stored("int4", 4 + 16 / 128)),
        (4, 128, {"zeros": True}, Stored("int4", 4 + 20 / 128)),
        (8, 64, {"zeros": True}, Stored("int8", 8 + 24 / 64, "a16")),
        (4, 64, {"scale_bits": 32.0}, Stored("int4", 4.5)),
        (3, -1, {}, Stored("int3", 3.0)),
        (3, 0, {}, Stored("int3", 3.0)),
        (2, None, {}, Stored("int2", 2.0)),
        (6, 1, {}, Stored("int6", 22.0)),
        (16, 128, {}, PLAIN),
    ],
)
def test_integers_have_a_scale_per_group(bits, group, more, found):
    assert integers(bits, group, **more) == found


@pytest.mark.parametrize("bits", [7, 1, 32, True, "4", 4.0])
def test_other_integers_are_not_known(bits):
    assert integers(bits, 128) == Stored("", said=f"bits {bits!r}")


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ({"num_bits": 8, "type": "float"}, FP8),
        ({"num_bits": 4, "type": "float", "group_size": 16}, NVFP4),
        ({"num_bits": 4, "type": "float", "group_size": 32}, MXFP4),
        ({"num_bits": 8, "type": "int", "group_size": 32}, INT8),
        ({"num_bits": 4, "type": "int", "group_size": 32}, Stored("int4", 4.5)),
        ({"num_bits": 4, "type": "int", "group_size": 32, "symmetric": False},
         Stored("int4", 4.625)),
        ({"num_bits": 6, "type": "float"}, Stored("", said="weights of 6 bits and type 'float'")),
    ],
)  # fmt: skip
def test_numbers_of_compressed_tensors(part, found):
    assert number_stored(part) == found


def grouped(weights, inputs="absent", **more):
    group = {"weights": weights, **more}
    if inputs != "absent":
        group["input_activations"] = inputs
    return compressed_tensors({"config_groups": {"g": group}})


@pytest.mark.parametrize(
    ("weights", "inputs", "found"),
    [
        ({"num_bits": 8, "type": "float"}, "absent", FP8),
        ({"num_bits": 8, "type": "float"}, None, Stored("fp8", 8.0, "a16")),
        ({"num_bits": 8, "type": "int", "group_size": 32}, None, Stored("int8", 8.5, "a16")),
        ({"num_bits": 8, "type": "int", "group_size": -1}, None, Stored("int8", 8.0, "a16")),
        ({"num_bits": 4, "type": "float", "group_size": 16}, None, Stored("int4", 4.5)),
        ({"num_bits": 4, "type": "float", "group_size": 32}, None, MXFP4),
        ({"num_bits": 4, "type": "int", "group_size": 32}, None, Stored("int4", 4.5)),
        ({"num_bits": 4, "type": "int", "group_size": 32}, {"num_bits": 8},
         Stored("int4", 4.5, "a8")),
        ({"num_bits": 4, "type": "int", "group_size": 32}, {"num_bits": 16}, Stored("int4", 4.5)),
        ({"num_bits": 8, "type": "int"}, {"num_bits": 8}, INT8),
    ],
)  # fmt: skip
def test_inputs_that_stay_wide_widen_the_products(weights, inputs, found):
    assert grouped(weights, inputs).default == found


def test_groups_by_module_class_and_name():
    fp8 = {"num_bits": 8, "type": "float"}
    scheme = grouped(fp8, targets=["re:.*mlp.*", "experts", "Linear"])
    assert scheme.default == FP8
    assert scheme.rules == (Rule("re:.*mlp.*", FP8), Rule("experts", FP8))
    assert grouped(fp8, targets=["Embedding"]).default.said.startswith("a group that names")
    assert grouped(fp8, format="dense").default.said.startswith("format 'dense'")
    assert grouped(fp8, format="mxfp4-pack").default == MXFP4
    assert compressed_tensors({"config_groups": {"g": {"weights": None}}}).default == PLAIN
    sparse = {"format": "dense", "sparsity_structure": "2:4"}
    whole = {"config_groups": {"g": {"weights": fp8}}}
    assert compressed_tensors(whole | {"sparsity_config": sparse}).default == FP8
    half = sparse | {"format": "bitmask"}
    assert not compressed_tensors(whole | {"sparsity_config": half}).default.name
    assert compressed_tensors(whole | {"sparsity_config": {"format": "x"}}).default == FP8


@pytest.mark.parametrize(
    ("algorithm", "found"),
    [
        ("FP8", FP8), ("FP8_PB_WO", FP8), ("MXFP8", FP8), ("NVFP4", NVFP4), ("NVFP4_AWQ", NVFP4),
        ("FP8_PER_CHANNEL_PER_TOKEN", FP8), ("W4A16_NVFP4", Stored("int4", 4.5)),
        ("W4A8_AWQ", Stored("int4", 4.125, "a8")), ("W4A16_AWQ", Stored("int4", 4.125)),
        ("INT4_AWQ", Stored("int4", 4.125)), ("W8A16", Stored("int8", 8.125, "a16")),
        ("W8A8_SQ_PER_CHANNEL", INT8), ("INT8_SQ", INT8),
    ],
)  # fmt: skip
def test_algorithms_of_modelopt(algorithm, found):
    assert modelopt({"quant_algo": algorithm}).default == found


def test_groups_and_layers_of_modelopt():
    assert modelopt({"quant_algo": "W4A16_AWQ", "group_size": 32}).default.bits == 4.5
    assert modelopt({"quant_algo": "W4A16_AWQ", "group_size": 0}).default.bits == 4.125
    assert modelopt({"quant_algo": "W4A16_NVFP4", "group_size": 32}).default.bits == 4.5
    assert modelopt({"quant_algo": "FP8", "group_size": 32}).default == FP8
    assert modelopt({"quant_algo": None}) is None
    layers = {
        "a.mlp.experts.0.up_proj": {"quant_algo": "NVFP4"},
        "a.q_proj": {"quant_algo": "W4A16_AWQ", "group_size": 64},
    }
    mixed = {"quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    scheme = modelopt(mixed)
    assert scheme.default == PLAIN
    assert scheme.rules == (
        Rule("a.mlp.experts", NVFP4), Rule("a.q_proj", Stored("int4", 4.25))
    )  # fmt: skip
    beside = {"quant_method": "fp8", "moe_quant_algo": "NVFP4"}
    assert modelopt(mixed | beside).default == FP8
    assert modelopt(mixed | {"quant_method": "fp8"}).default == PLAIN
    assert modelopt(mixed | {"moe_quant_algo": "NVFP4"}).default == PLAIN
    assert not modelopt({"quant_algo": "MIXED_PRECISION"}).default.name


def torchao_of(kind, **data):
    return torchao({"quant_type": {"default": {"_type": kind, "_data": data}}}).default


@pytest.mark.parametrize(
    ("kind", "data", "found"),
    [
        ("Int4WeightOnlyConfig", {}, Stored("int4", 4.125)),
        ("Int4WeightOnlyConfig", {"group_size": 32}, Stored("int4", 4.5)),
        ("UInt4WeightOnlyConfig", {"group_size": 64}, Stored("int4", 4.25)),
        ("Int8WeightOnlyConfig", {}, Stored("int8", 8.0, "a16")),
        ("Int8DynamicActivationInt8WeightConfig", {}, INT8),
        ("Int8DynamicActivationInt4WeightConfig", {"group_size": 32}, Stored("int4", 4.5, "a8")),
        ("Int8DynamicActivationInt4WeightConfig", {}, Stored("int4", 4.0, "a8")),
        ("Float8WeightOnlyConfig", {}, Stored("fp8", 8.0, "a16")),
        ("Float8DynamicActivationFloat8WeightConfig", {}, FP8),
        ("NVFP4InferenceConfig", {}, NVFP4),
        ("MXFP4Config", {}, MXFP4),
        ("IntxWeightOnlyConfig", {"weight_dtype": "torch.int3", "group_size": 32},
         Stored("int3", 3.5)),
        ("IntxWeightOnlyConfig",
         {"weight_dtype": {"_data": "torch.int4"}, "granularity": {"_data": {"group_size": 64}}},
         Stored("int4", 4.25)),
        ("UIntxWeightOnlyConfig", {"dtype": "torch.uint6"}, Stored("int6", 6.0)),
        ("IntxWeightOnlyConfig", {}, Stored("", said="IntxWeightOnlyConfig")),
        ("OddConfig", {}, Stored("", said="OddConfig")),
    ],
)  # fmt: skip
def test_configurations_of_torchao(kind, data, found):
    assert torchao_of(kind, **data) == found


def test_tables_and_embeddings_of_torchao():
    part = {"_type": "Int8WeightOnlyConfig", "_data": {}}
    table = {"fqn_to_config": {"a.b": part, "_default": None, "c": None}}
    scheme = torchao({"quant_type": {"default": {"_type": "X", "_data": table}}})
    wide = Stored("int8", 8.0, "a16")
    assert (scheme.default, scheme.rules) == (PLAIN, (Rule("a.b", wide), Rule("c", PLAIN)))
    assert torchao({"quant_type": "int8_weight_only"}).heads == PLAIN
    whole = {"quant_type": "int8_weight_only", "include_input_output_embeddings": True}
    assert torchao(whole).heads == wide


def test_steps_and_caches_of_quark():
    def stored(*names):
        steps = [{"dtype": name} for name in names]
        return quark({"global_quant_config": {"weight": steps}}).default

    assert stored("int4") == Stored("int4", 4.125)
    assert stored("fp8_e4m3", "int4") == Stored("int4", 4.125, "a8")
    assert stored("fp4") == MXFP4
    assert stored("int8") == INT8
    assert stored("fp8_e4m3") == FP8
    assert not stored("fp8_e4m3", "odd").name
    assert quark({}).default == PLAIN
    fp8 = {"output_tensors": {"dtype": "fp8_e4m3"}}
    assert quark({"layer_quant_config": {"*k_proj": fp8}}).cache == "fp8"
    assert quark({"layer_quant_config": {"*k_proj": fp8}}).rules == ()
    own = {"export": {"kv_cache_group": ["*kv"]}, "kv_cache_quant_config": {"*kv": fp8}}
    assert quark(own).cache == "fp8"
    assert quark({}).cache is None


@pytest.mark.parametrize(
    ("method", "more", "default"),
    [
        ("gptq", {"bits": 4, "group_size": 128}, Stored("int4", 4 + 20 / 128)),
        ("gptq", {"w_bit": 8, "group_size": -1}, Stored("int8", 8.0, "a16")),
        ("awq", {"bits": 4, "group_size": 64}, Stored("int4", 4 + 20 / 64)),
        ("awq", {"w_bit": 4, "q_group_size": 64, "zero_point": False}, Stored("int4", 4.25)),
        ("auto-round", {"bits": 4, "group_size": 64, "sym": False}, Stored("int4", 4 + 20 / 64)),
        ("auto-round", {"bits": 4, "group_size": 64}, Stored("int4", 4.25)),
        ("auto-round", {"bits": 4, "act_bits": 8}, Stored("int4", 4.125, "a8")),
        ("auto-round", {"bits": 8, "act_bits": 8}, INT8),
        ("auto-round", {"bits": 16}, PLAIN),
        ("auto-round", {"bits": 4, "data_type": "mx_fp"}, MXFP4),
        ("auto-round", {"bits": 8, "data_type": "mx_fp"}, Stored("fp8", 8.25, "a16")),
        ("auto-round", {"bits": 8, "data_type": "mx_fp", "act_bits": 8}, Stored("fp8", 8.25)),
        ("auto-round", {"bits": 4, "data_type": "nv_fp"}, Stored("int4", 4.5)),
        ("auto-round", {"bits": 4, "data_type": "nv_fp4", "act_bits": 4}, NVFP4),
        ("auto-round", {"bits": 8, "data_type": "fp"}, Stored("fp8", 8.0, "a16")),
        ("auto-round", {"bits": 8, "data_type": "fp8", "act_bits": 8}, FP8),
        ("bitsandbytes", {"load_in_4bit": True}, Stored("int4", 4.5)),
        ("bitsandbytes", {"load_in_4bit": True, "bnb_4bit_use_double_quant": True},
         Stored("int4", 4 + (8 + 32 / 256) / 64)),
        ("bitsandbytes", {"load_in_8bit": True}, INT8),
        ("hqq", {"quant_config": {"nbits": 4, "group_size": 64}}, Stored("int4", 4.5)),
        ("mlx", {"bits": 4}, Stored("int4", 4.5)),
        ("mlx", {"bits": 6, "group_size": 32}, Stored("int6", 7.0)),
        ("mlx", {"bits": 8, "mode": "mxfp8"}, Stored("fp8", 8.25, "a16")),
        ("mlx", {"bits": 4, "mode": "nvfp4"}, NVFP4),
        ("quanto", {"weights": "int2"}, Stored("int2", 2.125)),
        ("quanto", {"weights": "int4"}, Stored("int4", 4.125)),
        ("quanto", {"weights": "int8"}, Stored("int8", 8.0, "a16")),
        ("quanto", {"weights": "float8"}, Stored("fp8", 8.0, "a16")),
        ("fp_quant", {"forward_dtype": "mxfp4"}, MXFP4),
        ("fp_quant", {"forward_dtype": "nvfp4"}, NVFP4),
        ("fp8", {}, FP8), ("w8a8_int8", {}, INT8), ("modelopt_fp4", {}, NVFP4),
        ("eetq", {}, Stored("int8", 8.0, "a16")), ("mxfp4", {}, PLAIN), ("w4afp8", {}, FP8),
    ],
)  # fmt: skip
def test_the_default_of_every_dialect(method, more, default):
    assert DIALECTS[method](more).default == default


def test_what_ascend_writes_beside_tensors():
    scheme = DIALECTS["ascend"](
        {"a.q.weight": "W8A8", "a.k.weight": "W4A8_DYNAMIC", "a.norm.weight": "FLOAT",
         "a.v.weight": "W4A16", "a.o.weight": "W8A16", "a.g.weight": "W8A8_MXFP8",
         "kv_quant_type": "C8", "a.bias": "W8A8"}
    )  # fmt: skip
    assert {rule.pattern: rule.stored for rule in scheme.rules} == {
        "a.q": INT8, "a.k": Stored("int4", 4.125, "a8"), "a.v": Stored("int4", 4.125),
        "a.o": Stored("int8", 8.0, "a16"), "a.g": FP8,
    }  # fmt: skip
    assert (scheme.default, scheme.cache, scheme.cache_unread) == (PLAIN, "int8", "")
    odd = DIALECTS["ascend"]({"a.q.weight": "W8A8", "kv_cache_type": "C4"})
    assert (odd.cache, odd.cache_unread) == (None, "the KV cache's 'C4'")
    assert not DIALECTS["ascend"]({}).default.name


def weights(mixer, hidden=100):
    """Return the weights of the first way of naming a layer's projections, as shares."""
    (one,) = modules_of_model(
        (Block(mixers=(mixer,), feed_forward=()),), hidden, apart=False, model_type="x"
    )
    names = one.namings[0]
    whole = sum(weight for _, weight in names)
    return {name.split(".")[-1]: weight / whole for name, weight in names}


@pytest.mark.parametrize(
    ("heads", "sizes"),
    [
        (GroupedAttention(query_heads=8, kv_heads=2, head_size=16, value_size=4),
         {"q_proj": 8 * 16, "k_proj": 2 * 16, "v_proj": 2 * 4, "o_proj": 8 * 4}),
        (GroupedAttention(query_heads=8, kv_heads=2, head_size=16, gated=True),
         {"q_proj": 2 * 8 * 16, "k_proj": 32, "v_proj": 32, "o_proj": 8 * 16}),
        (LatentAttention(query_heads=8, query_rank=48, kv_rank=64, plain_key_size=16,
                         rotary_key_size=8, value_size=24),
         {"q_a_proj": 100 * 48, "q_b_proj": 48 * 8 * 24, "kv_a_proj_with_mqa": 100 * 72,
          "kv_b_proj": 8 * 40 * 64, "o_proj": 100 * 8 * 24}),
        (LatentAttention(query_heads=8, query_rank=None, kv_rank=64, plain_key_size=16,
                         rotary_key_size=8, value_size=24),
         {"q_proj": 100 * 8 * 24, "kv_a_proj_with_mqa": 100 * 72, "kv_b_proj": 8 * 40 * 64,
          "o_proj": 100 * 8 * 24}),
        (CompressedAttention(query_heads=8, head_size=16, query_rank=12, output_rank=10,
                             output_groups=2),
         {"wq_a": 100 * 12, "wq_b": 12 * 128, "wkv": 100 * 16, "wo_a": 64 * 20, "wo_b": 100 * 20}),
        (DeltaAttention(query_heads=8, key_heads=4, key_size=16, value_size=32),
         {"in_proj_qkvz": 2 * 64 + 2 * 256, "out_proj": 256}),
        (StateSpace(query_heads=8, head_size=16, state_size=32, groups=4),
         {"in_proj": 2 * 128 + 2 * 4 * 32, "out_proj": 128}),
    ],
)  # fmt: skip
def test_projections_weigh_as_much_as_their_parameters(heads, sizes):
    whole = sum(sizes.values())
    found = weights(Mixer(heads=heads))
    assert found == pytest.approx({name: size / whole for name, size in sizes.items()})


@pytest.mark.parametrize(("matrices", "experts"), [(3, 0), (2, 0), (3, 4), (2, 4)])
def test_matrices_of_a_network_weigh_alike_by_all_their_names(matrices, experts):
    """A third each with a gate, gate and up in one two thirds; a half each without a gate."""
    sizes = {"dense_size": 20}
    if experts:
        sizes = {"experts": experts, "experts_per_token": 1, "expert_size": 20}
    network = FeedForward(matrices=matrices, **sizes)
    (one,) = modules_of_model(
        (Block(mixers=(), feed_forward=(network,)),), 100, apart=False, model_type="x"
    )
    for names in one.namings:
        found: dict[str, float] = {}
        for name, weight in names:
            found[name.split(".")[-1]] = found.get(name.split(".")[-1], 0.0) + weight
        whole = sum(found.values())
        pair = {"gate_up_proj": 2 / 3, "down_proj": 1 / 3}
        each = dict.fromkeys(found, 1 / matrices)
        wanted = pair if "gate_up_proj" in found else each
        assert {name: weight / whole for name, weight in found.items()} == pytest.approx(wanted)
    beside = modules_of_model(
        (Block(mixers=(), feed_forward=(network,)),), 100, apart=False, model_type="gemma4"
    )
    assert len(beside) == 1


def test_parts_of_layers_by_their_numbers():
    heads = GroupedAttention(query_heads=8, kv_heads=2, head_size=16)
    network = FeedForward(dense_size=20, experts=4, experts_per_token=2, expert_size=10)
    block = Block(mixers=(Mixer(heads=heads),), feed_forward=(network,))
    together, apart = (
        modules_of_model((block,) * 2, 100, apart=apart, model_type="x") for apart in (False, True)
    )
    assert [(one.layer, one.part) for one in together] == [
        (layer, part) for layer in (0, 1) for part in ("attention", "experts", "dense")
    ]
    assert [one.layer for one in apart] == [0, 1, 1, 2, 3, 3]
    attention = 100 * (128 + 2 * 32) + 128 * 100
    assert [one.parameters for one in together[:3]] == [attention, 4 * 3 * 1000, 3 * 100 * 20]
    (first, *_), *_ = (one.namings for one in together if one.part == "experts")
    assert [name for name, _ in first[::3]] == [
        f"mlp.experts.{expert}.gate_proj" for expert in (0, 2, 3)
    ]


def test_parts_of_a_config_alone():
    def told(**config):
        return modules_of_config({"model_type": "x", **config})

    assert {one.layer for one in told(num_hidden_layers=3)} == {0, 1, 2}
    assert {one.layer for one in told(num_hidden_layers=10_001)} == {0}
    assert {one.layer for one in told(num_hidden_layers=0)} == {0}
    assert len({one.layer for one in told(num_hidden_layers=10_000)}) == 10_000
    assert {one.part for one in told()} == {"attention", "dense"}
    for key in ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"):
        found = told(**{key: 2})
        assert {one.part for one in found} == {"attention", "experts"}
        assert told(**{key: 0})[-1].part == "dense"
        (experts,) = (one for one in found if one.part == "experts")
        assert experts.parameters == 2 * 3 * 64 * 64
    (attention,) = (one for one in told() if one.part == "attention")
    assert attention.parameters == 4 * 64 * 512
    assert {weight for _, weight in attention.namings[0]} == {512}


def test_shares_are_of_parameters_in_the_naming_that_rules_name_most():
    namings = ((("a", 1.0), ("b", 3.0)), (("c", 1.0), ("d", 1.0)))
    modules = [Modules(layer, "dense", 40.0, namings) for layer in range(3)]
    rules = Resolver((Rule("layers.0.c", INT8), Rule("b", FP8)))
    found = shares(modules, rules, PLAIN)["dense"]
    # b is three quarters of every layer; c is half of one.
    assert [(one.stored, one.parameters) for one in found] == [(FP8, 90.0), (PLAIN, 30.0)]
    first = shares(modules, Resolver((Rule("layers.0.c", INT8),)), PLAIN)["dense"]
    assert [(one.stored, one.parameters) for one in first] == [(PLAIN, 100.0), (INT8, 20.0)]
    none = shares(modules, Resolver(()), FP8)["dense"]
    assert [(one.stored, one.parameters) for one in none] == [(FP8, 120.0)]
