import contextlib
import copy
import json
from importlib import resources

import pytest

from afdplan.calibration.attention import GroupedAttention, LatentAttention
from afdplan.calibration.catalogue import find_model, shipped_models
from afdplan.calibration.model_facts import KNOWN_ARCHITECTURES, architecture_from_config
from afdplan.errors import AfdplanError, InvalidInputError

DEEPSEEK = {
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "vocab_size": 129280,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 2048,
    "first_k_dense_replace": 3,
}


def shipped_configs():
    folder = resources.files("afdplan.data") / "models"
    return {f.name: json.loads(f.read_text()) for f in folder.iterdir() if f.name.endswith("json")}


@pytest.mark.parametrize(("name", "config"), sorted(shipped_configs().items()))
def test_totals_match_what_publishers_state(name, config):
    model = architecture_from_config(config)
    facts = config["afdplan"]
    # Kimi-K2 and the DeepSeek family round their totals to "1 T" and "671 B".
    assert model.total_parameters == pytest.approx(facts["published_parameters"], rel=0.03)
    # Some publishers count the embeddings in, some one or both of them out, some the router.
    counted = facts["published_active_parameters"]
    without = model.active_parameters - model.embedding_parameters
    assert 0.87 * without < counted < 1.13 * model.active_parameters
    assert facts["source"]


def test_at_least_nine_models_ship():
    names = {model.name for model in shipped_models().values()}
    assert len(names) >= 9
    assert {"deepseek-ai/DeepSeek-V3", "stepfun-ai/step3"} <= names


@pytest.mark.parametrize("field", [key for key in DEEPSEEK if key not in ("model_type",)])
def test_a_missing_field_is_named(field):
    config = {key: value for key, value in DEEPSEEK.items() if key != field}
    if field in ("q_lora_rank", "n_shared_experts"):  # null is meaningful in these
        architecture_from_config(config)
        return
    with pytest.raises(InvalidInputError, match=f"{field} is missing"):
        architecture_from_config(config)


@pytest.mark.parametrize("value", ["7168", 7168.0, True, -1, 0, 10**30, [1], {}])
def test_a_wrong_field_is_named(value):
    with pytest.raises(InvalidInputError, match="hidden_size"):
        architecture_from_config({**DEEPSEEK, "hidden_size": value})


@pytest.mark.parametrize("kind", [None, "mamba", 3, "x" * 1000, ["llama"], {}])
def test_unknown_architectures_list_the_known_ones(kind):
    with pytest.raises(InvalidInputError) as caught:
        architecture_from_config({"model_type": kind})
    assert all(name in str(caught.value) for name in KNOWN_ARCHITECTURES)
    assert len(str(caught.value)) < 800


def test_every_single_field_may_be_hostile_without_a_traceback():
    hostile = [None, -1, 0, 10**25, 1.5, "x", [], [None], {}, True, float("nan")]
    # One of each kind: what is read depends on the kind and on which keys there are.
    kinds = {(one["model_type"], *sorted(one)): one for one in shipped_configs().values()}
    for config in kinds.values():
        for key in config:
            for value in hostile:
                changed = copy.copy(config)
                changed[key] = value
                with contextlib.suppress(AfdplanError):
                    architecture_from_config(changed)


def test_nested_text_config_and_quantization_are_found():
    model = architecture_from_config(
        {
            "model_type": "kimi_k25",
            "text_config": {**DEEPSEEK, "model_type": "kimi_k2"},
            "quantization_config": {"quant_method": "fp8"},
        }
    )
    assert model.precision == "fp8"
    assert isinstance(model.attention, LatentAttention)


@pytest.mark.parametrize(
    ("quantization", "precision"),
    [
        (None, "bf16"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "awq", "bits": 4}, "int4"),
        ({"quant_method": "odd"}, None),
        ("odd", None),
    ],
)
def test_checkpoint_formats(quantization, precision):
    assert (
        architecture_from_config({**DEEPSEEK, "quantization_config": quantization}).precision
        == precision
    )


def test_sliding_windows_and_dense_layers():
    gpt = find_model("gpt-oss-120b")
    windows = [mixer.window for mixer in gpt.mixers]
    assert windows == [128, None] * 18
    assert find_model("step-3").dense_layers == 5
    assert find_model("deepseek-v3").dense_layers == 3
    assert {mixer.window for mixer in find_model("mixtral-8x22b").mixers} == {None}


def test_shards_split_heads_and_replicate_what_cannot_be_split():
    grouped = GroupedAttention(query_heads=64, kv_heads=4, head_size=128)
    assert grouped.sharded(4).cached_values == grouped.cached_values // 4
    assert grouped.sharded(8).cached_values == grouped.cached_values // 4
    latent = find_model("deepseek-v3").attention
    assert latent.sharded(8).cached_values == latent.cached_values
    assert latent.sharded(8).score_flops == latent.score_flops // 8
    with pytest.raises(InvalidInputError, match="divide"):
        grouped.sharded(3)


def test_parameters_by_hand():
    # DeepSeek-V3: 7168 -> 1536 -> 128 x 192; 7168 -> 576; 512 -> 128 x 256; 128 x 128 -> 7168.
    by_hand = 7168 * 1536 + 1536 * 128 * 192 + 7168 * 576 + 512 * 128 * 256 + 128 * 128 * 7168
    assert find_model("deepseek-v3").mixer.parameters(7168) == by_hand
    qwen = find_model("qwen3-235b-a22b")
    assert qwen.mixer.parameters(4096) == 4096 * 128 * (64 + 8) + 64 * 128 * 4096
