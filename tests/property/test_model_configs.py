"""Is a config read the same however its keys stand, and refused where it is cut?"""

import contextlib
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afdplan.calibration.catalogue import find_model
from afdplan.calibration.model_facts import architecture_from_config
from afdplan.errors import AfdplanError

FOLDER = Path(__file__).parents[1] / "samples" / "models"
FILES = sorted(path for path in FOLDER.glob("*_config.json"))
GROUP = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "group_size": 32}}
STATED = [
    {"quant_method": "gptq", "bits": 4, "dynamic": {"+:a": {"bits": 8}}, "lm_head": True},
    {"quant_method": "auto-round", "bits": 4, "act_bits": 8, "extra_config": {"a": {"bits": 8}},
     "block_name_to_quantize": "a"},
    {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4"}},
     "layer_quant_config": {"a": {"weight": {"dtype": "int8"}}}, "export": {"kv_cache_group": []},
     "kv_cache_quant_config": {"*k_proj": {"output_tensors": {"dtype": "int8"}}}},
    {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "kv_cache_quant_algo": "FP8",
     "quantized_layers": {"a": {"quant_algo": "FP8", "group_size": 16}}},
    {"quant_method": "compressed-tensors", "config_groups": {"g": GROUP}, "ignore": ["a"],
     "kv_cache_scheme": {"num_bits": 8, "type": "float"}},
    {"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4WeightOnlyConfig",
     "_data": {"group_size": 32, "granularity": {"_data": {"group_size": 3}}}}}},
    {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4}}},
    {"bits": 4, "group_size": 64, "mode": "affine", "a": {"bits": 3}},
]  # fmt: skip
HOSTILE = [None, 0, -1, 10**30, 1.5, float("nan"), "x", "", [], [None], [[1]], {}, {"": None},
           True, False, ["re:("], "re:(", {"*[": {"bits": 4}}]  # fmt: skip
UNREAD = st.dictionaries(
    st.text("abcxyz_", min_size=1, max_size=12).map("zz_".__add__),
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers()),
    max_size=6,
)


def sizes(config):
    model = architecture_from_config(config, "one")
    return replace(model, source="", name="")


def shuffled(value, order):
    if isinstance(value, list):
        return [shuffled(one, order) for one in value]
    if not isinstance(value, dict):
        return value
    keys = list(value)
    # Rules of some tools are read in their order, which means something.
    if not {"dynamic", "extra_config", "layer_quant_config"} & set(keys):
        order.shuffle(keys)
    return {key: shuffled(value[key], order) for key in keys}


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
@settings(max_examples=15, deadline=None)
@given(unread=UNREAD, seed=st.integers(0, 2**32))
def test_order_unread_keys_and_nesting_change_nothing(file, unread, seed):
    config = json.loads(file.read_text())
    plain = sizes(config)
    assert sizes({**unread, **config}) == plain
    assert sizes(shuffled(config, random.Random(seed))) == plain
    assert (
        sizes({"model_type": "outer_vl", "vision_config": unread, "text_config": config}) == plain
    )
    inner = {key: value for key, value in config.items() if key != "quantization_config"}
    outside = {"quantization_config": config.get("quantization_config")}
    assert sizes({**outside, "model_type": "outer", "llm_config": inner}) == plain


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_a_file_that_is_cut_anywhere_is_refused(file, tmp_path):
    whole = file.read_bytes().rstrip()
    cut = tmp_path / "config.json"
    for size in sorted({1, 2, len(whole) // 3, len(whole) // 2, len(whole) - 2, len(whole) - 1}):
        cut.write_bytes(whole[:size])
        with pytest.raises(AfdplanError, match=r"config\.json"):
            find_model(cut)


def places(value, at=()):
    yield at
    for key in value if isinstance(value, dict) else ():
        yield from places(value[key], (*at, key))


def changed(value, at, new):
    return new if not at else {**value, at[0]: changed(value[at[0]], at[1:], new)}


@pytest.mark.parametrize("stated", STATED, ids=lambda one: str(one.get("quant_method", "mlx")))
def test_any_key_of_a_dialect_may_be_hostile_without_a_traceback(stated):
    config = json.loads((FOLDER / "qwen3_235b_awq_w4_config.json").read_text())
    for at in places(stated):
        for value in HOSTILE:
            config["quantization_config"] = changed(stated, at, value)
            with contextlib.suppress(AfdplanError):
                architecture_from_config(config)


@pytest.mark.parametrize("name", ["hf_quant_config.json", "quantize_config.json"])
@pytest.mark.parametrize("size", [0, 1, 20, 45])
def test_a_second_file_that_is_cut_is_refused(name, size, tmp_path):
    config = json.loads((FOLDER / "qwen3_235b_awq_w4_config.json").read_text())
    config.pop("quantization_config")
    (tmp_path / "config.json").write_text(json.dumps(config))
    whole = json.dumps({"quantization": {"quant_algo": "NVFP4", "group_size": 16}})
    (tmp_path / name).write_text(whole[:size])
    with pytest.raises(AfdplanError, match=name):
        find_model(tmp_path)
