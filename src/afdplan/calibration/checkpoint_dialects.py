"""What do the tools that quantise checkpoints write of a whole one and of single modules?

Rules of naming as vLLM, SGLang and transformers apply them (their quantisation documentation).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from afdplan.calibration.checkpoint_groups import (
    FP8,
    INT4_A8,
    INT8,
    MXFP4,
    NVFP4,
    WIDE_INT8,
    compressed_tensors,
    integers,
    mapping,
    quark,
    torchao,
    unknown,
)
from afdplan.calibration.checkpoint_rules import PLAIN, Rule, Scheme, Stored
from afdplan.calibration.checkpoint_types import LEFT_OUT

__all__ = ["DIALECTS", "left_out"]


def left_out(quantization: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Return the modules that lists of a tool leave in 16 bits.

    Examples
    --------
    >>> [rule.pattern for rule in left_out({"modules_to_not_convert": ["lm_head"]})]
    ['lm_head']
    """
    found: list[Rule] = []
    for key in LEFT_OUT:
        listed = quantization.get(key)
        if isinstance(listed, str):
            listed = listed.split(",")
        if isinstance(listed, list | tuple):
            found += [Rule(str(one), PLAIN) for one in listed if str(one).strip(".")]
    return tuple(found)


def _only_under(names: Any, scheme: Scheme) -> Scheme:
    """Return a scheme that holds under some modules alone; the rest is in 16 bits."""
    if isinstance(names, str):
        names = [one.strip() for one in names.split(",")]
    flat: list[str] = []
    for one in names if isinstance(names, list | tuple) else ():
        flat += [str(part) for part in one] if isinstance(one, list | tuple) else [str(one)]
    if not flat:
        return scheme
    rules = [Rule(name, scheme.default) for name in flat]
    return scheme._replace(default=PLAIN, rules=(*scheme.rules, *rules))


def _gptq(quantization: Mapping[str, Any]) -> Scheme:
    """Return GPTQ's and GPTQModel's: zero points always, rules by expression in their order."""

    def stored(part: Mapping[str, Any]) -> Stored:
        bits = part.get("bits", quantization.get("bits", quantization.get("w_bit")))
        return integers(bits, part.get("group_size", quantization.get("group_size")), zeros=True)

    rules = []
    for name, part in mapping(quantization.get("dynamic")).items():
        expression = re.sub(r"^[+-]:", "", str(name))
        rules.append(
            Rule(f"re:{expression}", PLAIN if str(name)[:2] == "-:" else stored(mapping(part)))
        )
    heads = stored({}) if quantization.get("lm_head") is True else PLAIN
    scheme = Scheme(stored({}), tuple(rules))
    scheme = _only_under(quantization.get("modules_in_block_to_quantize"), scheme)
    if "modules_in_block_to_quantize" not in quantization:
        scheme = _only_under(quantization.get("block_name_to_quantize"), scheme)
    return scheme._replace(rules=(*scheme.rules, Rule("lm_head", heads)))


def _awq(quantization: Mapping[str, Any]) -> Scheme:
    bits = quantization.get("bits", quantization.get("w_bit"))
    group = quantization.get("group_size", quantization.get("q_group_size"))
    return Scheme(integers(bits, group, zeros=quantization.get("zero_point") is not False))


_SIGNS = set("*+?^$()[]{}|\\")


def _auto_round(quantization: Mapping[str, Any]) -> Scheme:
    """Return AutoRound's: a table of layers by name or expression, blocks that are quantised."""
    default = _auto_round_stored(quantization)
    rules = []
    for key in ("extra_config", "layer_config"):
        for name, part in mapping(quantization.get(key)).items():
            pattern = f"re:(?:.*)(?:{name})" if _SIGNS & set(str(name)) else str(name)
            if isinstance(part, Mapping):
                rules.append(Rule(pattern, _auto_round_stored({**quantization, **part})))
    rules.sort(key=lambda rule: rule.pattern.startswith("re:"))  # names before expressions
    scheme = Scheme(default, tuple(rules))
    for key in ("block_name_to_quantize", "to_quant_block_names"):
        if quantization.get(key):
            return _only_under(quantization[key], scheme)
    return scheme


def _auto_round_stored(part: Mapping[str, Any]) -> Stored:
    bits, kind = part.get("bits"), str(part.get("data_type", "int"))
    if isinstance(bits, int) and bits >= 16:
        return PLAIN
    inputs = part.get("act_bits")
    widened = inputs not in (4, 8)
    if kind.startswith("int"):
        if inputs == 8:
            return INT8 if bits == 8 else INT4_A8 if bits == 4 else unknown(f"bits {bits!r:.20}")
        return integers(bits, part.get("group_size"), zeros=part.get("sym") is False)
    if kind.startswith("mx_fp") and bits in (4, 8):
        return MXFP4 if bits == 4 else Stored("fp8", 8.25, "a16" if widened else "")
    if kind.startswith("nv_fp") and bits == 4:
        return Stored("int4", 4.5) if widened else NVFP4
    if kind.startswith("fp") and bits == 8:
        return FP8._replace(arithmetic="a16" if widened else "")
    return unknown(f"data_type {kind!r:.40} of {bits!r:.20} bits")


def _bitsandbytes(quantization: Mapping[str, Any]) -> Scheme:
    if quantization.get("load_in_4bit") is True:
        # One 4-byte scale per 64 values; in one byte, with a second scale per 256, if nested.
        double = quantization.get("bnb_4bit_use_double_quant") is True
        return Scheme(Stored("int4", 4 + (8 + 32 / 256 if double else 32) / 64))
    if quantization.get("load_in_8bit") is True:
        return Scheme(INT8)
    return Scheme(unknown("neither load_in_4bit nor load_in_8bit"))


def _hqq(quantization: Mapping[str, Any]) -> Scheme:
    """Return HQQ's: one table of bits and group, or one per kind of layer."""
    whole = mapping(quantization.get("quant_config"))

    def stored(part: Mapping[str, Any]) -> Stored:
        part = mapping(part.get("weight_quant_params", part))
        bits, group = part.get("nbits"), part.get("group_size")
        # A scale and a zero point of two bytes each.
        return integers(bits, group, scale_bits=32.0)

    if "weight_quant_params" in whole or "nbits" in whole:
        return Scheme(stored(whole))
    rules = tuple(Rule(str(name), stored(mapping(part))) for name, part in whole.items())
    return Scheme(PLAIN if rules else unknown("no quant_config"), rules)


def _mlx(quantization: Mapping[str, Any]) -> Scheme:
    """Return MLX's: bits and group of all, embeddings included, and one table per odd module."""

    def stored(part: Mapping[str, Any]) -> Stored:
        bits, group = part.get("bits"), part.get("group_size", 64)
        mode = str(part.get("mode", "affine"))
        modes = {"mxfp4": MXFP4, "nvfp4": NVFP4, "mxfp8": Stored("fp8", 8.25, "a16")}
        if mode != "affine":
            return modes.get(mode, unknown(f"mode {mode!r:.40}"))
        return integers(bits, group, scale_bits=32.0)  # a scale and a bias of two bytes each

    rules = []
    for key, part in quantization.items():
        name = str(key).replace("switch_mlp", "experts")  # its name for all experts of a layer
        if part is False:
            rules.append(Rule(name, PLAIN))
        elif isinstance(part, Mapping) and ("bits" in part or "." in str(key)):
            rules.append(Rule(name, stored(part)))
    default = stored(quantization)
    return Scheme(default, tuple(rules), heads=default)


_ASCEND = {
    "FLOAT": PLAIN,
    "W8A8": INT8,
    "W8A8_DYNAMIC": INT8,
    "W8A8_MIX": INT8,
    "W8A8_MXFP8": FP8,
    "W8A16": WIDE_INT8,
    "W4A8_DYNAMIC": INT4_A8,
    "W4A16": Stored("int4", 4.125),
    "W4A4_FLATQUANT_DYNAMIC": unknown("W4A4_FLATQUANT_DYNAMIC"),
}


def _ascend(quantization: Mapping[str, Any]) -> Scheme:
    """Return ModelSlim's: a format beside the name of every tensor."""
    rules = {
        str(name).removesuffix(".weight"): str(kind)
        for name, kind in quantization.items()
        if str(name).endswith(".weight") and "norm" not in str(name)
    }
    said = quantization.get("kv_quant_type", quantization.get("kv_cache_type"))
    return Scheme(
        PLAIN if rules else unknown("no tensors"),
        tuple(Rule(name, _ASCEND.get(kind, unknown(kind))) for name, kind in rules.items()),
        told="quant_model_description.json",
        cache={"C8": "int8"}.get(str(said)),
        cache_unread="" if said in (None, "C8") else f"the KV cache's {said!r:.40}",
    )


def _named(stored: Stored) -> Callable[[Mapping[str, Any]], Scheme]:
    return lambda quantization: Scheme(stored)


def _experts_only(experts: Stored, others: Stored) -> Callable[[Mapping[str, Any]], Scheme]:
    return lambda quantization: Scheme(others, (Rule("experts", experts),))


def _fp_quant(quantization: Mapping[str, Any]) -> Scheme:
    form = str(quantization.get("forward_dtype"))
    return Scheme({"nvfp4": NVFP4, "mxfp4": MXFP4}.get(form, unknown(f"forward_dtype {form:.40}")))


def _quanto(quantization: Mapping[str, Any]) -> Scheme:
    weights = str(quantization.get("weights"))
    forms = {"int2": integers(2, 128), "int4": integers(4, 128), "int8": WIDE_INT8}
    forms |= {"float8": Stored("fp8", 8.0, "a16")}
    return Scheme(forms.get(weights, unknown(f"weights {weights!r:.40}")))


def _aliases(reader: Any, names: Iterable[str]) -> dict[str, Any]:
    return dict.fromkeys(names, reader)


DIALECTS: dict[str, Callable[[Mapping[str, Any]], Scheme]] = {
    **_aliases(_gptq, ("gptq", "gptqmodel", "gptq_marlin")),
    **_aliases(_awq, ("awq", "awq_marlin")),
    **_aliases(_auto_round, ("auto-round", "intel/auto-round", "auto_round")),
    **_aliases(_named(FP8), ("fp8", "fbgemm_fp8", "ptpc_fp8", "w8a8_fp8", "mxfp8")),
    **_aliases(_named(INT8), ("w8a8_int8", "blockwise_int8")),
    **_aliases(_named(NVFP4), ("nvfp4", "modelopt_fp4")),
    "mxfp4": _experts_only(MXFP4, PLAIN),
    "w4afp8": _experts_only(INT4_A8, FP8),
    "experts_int8": _experts_only(WIDE_INT8, PLAIN),
    "compressed-tensors": compressed_tensors,
    "quark": quark,
    "torchao": torchao,
    "bitsandbytes": _bitsandbytes,
    "hqq": _hqq,
    "ascend": _ascend,
    "eetq": _named(WIDE_INT8),
    "fp_quant": _fp_quant,
    "quanto": _quanto,
    "mlx": _mlx,
}
"""Readers of what stands beside ``quant_method``."""
