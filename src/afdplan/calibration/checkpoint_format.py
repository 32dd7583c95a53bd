"""In which number formats is a checkpoint, whatever tool wrote it?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from afdplan.calibration.checkpoint_parts import (
    a_part_of_experts,
    is_attention,
    is_experts,
    left_out,
    some_attention,
    some_experts,
)
from afdplan.calibration.precision import PRECISIONS

__all__ = ["CheckpointFormat", "checkpoint_format"]


A_PART = "which leaves a part of the experts in 16 bits"


class CheckpointFormat(NamedTuple):
    """Formats of a checkpoint.

    Attributes
    ----------
    weights
        A name of `PRECISIONS`, that of the experts; None if what is stated is not recognised.
    cache
        Format that the KV cache shall have; None if nothing is said.
    told
        Where it stands, for people; or what was not recognised.
    attention
        Format of attention's projections where the checkpoint says that it differs.
    """

    weights: str | None
    cache: str | None
    told: str
    attention: str | None = None


_ALGORITHMS = {
    "FP8": "fp8",
    "FP8_PB_WO": "fp8",
    "FP8_PER_CHANNEL_PER_TOKEN": "fp8",
    "MXFP8": "fp8",
    "NVFP4": "nvfp4",
    "NVFP4_AWQ": "nvfp4",
    "W4A16_NVFP4": "int4",  # four bits that are widened: bytes of int4, arithmetic of bf16
    "W4A8_AWQ": "int4",
    "W4A16_AWQ": "int4",
    "INT4_AWQ": "int4",
    "W8A8_SQ_PER_CHANNEL": "int8",
    "INT8_SQ": "int8",
}
"""ModelOpt's algorithms."""

_METHODS = {"fp8": "fp8", "fbgemm_fp8": "fp8", "mxfp4": "mxfp4", "mxfp8": "fp8", "nvfp4": "nvfp4"}
"""Methods whose name says all."""


def checkpoint_format(
    config: Mapping[str, Any], quantization: Any, second: Any = None
) -> CheckpointFormat:
    """Return the formats that a checkpoint states.

    Parameters
    ----------
    config
        The text model's object: Ascend's tools write ``quantize`` there, DeepSeek-V4
        ``expert_dtype``.
    quantization
        `quantization_config` of the config; None if there is none.
    second
        `hf_quant_config.json` beside it, where ModelOpt writes; it decides over the first.

    Examples
    --------
    >>> checkpoint_format({}, {"quant_method": "awq", "bits": 4}).weights
    'int4'
    >>> checkpoint_format({}, None, {"quantization": {"quant_algo": "NVFP4"}}).weights
    'nvfp4'
    >>> checkpoint_format({}, {"quant_method": "odd"}).told
    "quant_method 'odd' of quantization_config"
    """
    if isinstance(second, Mapping):
        inner = second.get("quantization")
        stated = inner if isinstance(inner, Mapping) else second
        found = _modelopt(stated, "hf_quant_config.json")
        if found is not None:
            return _in_parts(found, stated, config)
        return CheckpointFormat(None, None, "the quantisation of hf_quant_config.json")
    if quantization is not None:
        return _quantized(config, quantization)
    ascend = config.get("quantize")
    if isinstance(ascend, str):
        name = ascend.lower()
        weights = "int8" if name.startswith("w8a8") else "int4" if name.startswith("w4a") else None
        return CheckpointFormat(weights, None, f"quantize {ascend!r:.40}")
    if ascend is not None:
        return CheckpointFormat(None, None, f"quantize {ascend!r:.40}")
    return CheckpointFormat("bf16", None, "the checkpoint")


def _quantized(config: Mapping[str, Any], quantization: Any) -> CheckpointFormat:
    if not isinstance(quantization, Mapping):
        return CheckpointFormat(None, None, f"quantization_config {quantization!r:.40}")
    told = "quantization_config"
    inner = quantization.get("quantization")
    if isinstance(inner, Mapping):  # ModelOpt's second file, put into the first
        quantization = {**quantization, **inner}
    method = quantization.get("quant_method")
    cache = _cache_scheme(quantization)
    if config.get("expert_dtype") == "fp4" and method == "fp8":
        return CheckpointFormat("mxfp4", cache, "expert_dtype 'fp4'")
    found = _modelopt(quantization, told)
    if found is not None:
        return _in_parts(found, quantization, config)
    weights = None
    if method == "compressed-tensors":
        return _compressed_tensors(quantization, config, cache)
    if method == "quark":
        cache = _quark_cache(quantization) or cache
    if isinstance(method, str):
        weights = _METHODS.get(method) or _DIALECTS.get(method, lambda _: None)(quantization)
    if weights is None:
        unread = f"quant_method {method!r:.40} of {told}" if method is not None else told
        return CheckpointFormat(None, cache, unread)
    return _in_parts(CheckpointFormat(weights, cache, told), quantization, config)


def _in_parts(
    found: CheckpointFormat, quantization: Mapping[str, Any], config: Mapping[str, Any]
) -> CheckpointFormat:
    """Return the formats of experts and attention when the tool left one of them in 16 bits."""
    patterns = left_out(quantization)
    if a_part_of_experts(patterns, config):
        return found._replace(weights=None, told=f"{found.told}, {A_PART}")
    experts, attention = is_experts(patterns, config), is_attention(patterns, config)
    if found.weights is None or not (experts or attention):
        return found
    if not experts:
        return found._replace(attention="bf16")
    return CheckpointFormat(
        "bf16",
        found.cache,
        f"{found.told}, which leaves the experts in 16 bits",
        None if attention else found.weights,
    )


def _modelopt(quantization: Mapping[str, Any], told: str) -> CheckpointFormat | None:
    """Return what ModelOpt states: one algorithm, or one per layer of which experts decide."""
    algorithm = quantization.get("quant_algo")
    if not isinstance(algorithm, str):
        return None
    stated = quantization.get("kv_cache_quant_algo")
    cache = {"FP8": "fp8", "NVFP4": "nvfp4", "INT8": "int8"}.get(str(stated))
    cache = cache or _cache_scheme(quantization)
    if algorithm == "MIXED_PRECISION":
        algorithm = _of_experts(quantization.get("quantized_layers"))
        told = f"the experts of {told}"
    weights = _ALGORITHMS.get(algorithm)
    if weights is None:
        return CheckpointFormat(None, cache, f"quant_algo {algorithm!r:.40} of {told}")
    return CheckpointFormat(weights, cache, told)


def _of_experts(layers: Any) -> str:
    """Return the algorithm of most experts; of most layers where none has experts."""
    if not isinstance(layers, Mapping):
        return "MIXED_PRECISION"
    named = {
        str(name): part.get("quant_algo")
        for name, part in layers.items()
        if isinstance(part, Mapping)
    }
    experts = {name: algorithm for name, algorithm in named.items() if "experts" in name}
    experts = {n: a for n, a in experts.items() if "shared_expert" not in n} or experts or named
    counted = Counter(str(algorithm) for algorithm in experts.values())
    return counted.most_common(1)[0][0] if counted else "MIXED_PRECISION"


def _cache_scheme(quantization: Mapping[str, Any]) -> str | None:
    scheme = quantization.get("kv_cache_scheme")
    return _number_format(scheme) if isinstance(scheme, Mapping) else None


def _number_format(part: Mapping[str, Any]) -> str | None:
    """Return the format of ``{num_bits, type}`` as compressed-tensors writes it."""
    bits, kind = part.get("num_bits"), part.get("type")
    if kind == "float":
        return {8: "fp8", 4: "nvfp4" if part.get("group_size") == 16 else "mxfp4"}.get(bits)  # type: ignore[arg-type]
    return {8: "int8", 4: "int4"}.get(bits) if kind == "int" else None  # type: ignore[arg-type]


def _compressed_tensors(
    quantization: Mapping[str, Any], config: Mapping[str, Any], cache: str | None
) -> CheckpointFormat:
    """Return the formats of the groups that target experts and attention; no group: 16 bits."""
    told = "quantization_config"
    unread = CheckpointFormat(None, cache, f"quant_method 'compressed-tensors' of {told}")
    groups = quantization.get("config_groups")
    if not isinstance(groups, Mapping):
        return unread
    patterns = left_out(quantization)
    if a_part_of_experts(patterns, config):
        return unread._replace(told=f"{told}, {A_PART}")
    ignored = is_experts(patterns, config), is_attention(patterns, config)
    named: list[tuple[list[str], str | None]] = []
    for group in groups.values():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        if isinstance(weights, Mapping):
            targets = [str(one) for one in group.get("targets") or ("Linear",)]
            named.append((targets, _group_format(quantization, group, weights)))
    found: list[list[str | None]] = []
    parts = ((is_experts, some_experts), (is_attention, some_attention))
    for is_out, (is_part, is_some) in zip(ignored, parts, strict=True):
        of = [form for targets, form in named if _is_all(targets) or is_part(targets, config)]
        touched = [(targets, form) for targets, form in named if is_some(targets, config)]
        if not of and touched and not is_out:
            # Projection by projection: one format if together they are the whole part.
            forms = {form for _, form in touched}
            together = [target for targets, _ in touched for target in targets]
            if len(forms) > 1 or not is_part(together, config):
                return unread._replace(told=f"the groups of {told}, which differ by projection")
            of = list(forms)
        found.append([] if is_out else of)
    if any(not _is_known(target) for targets, _ in named for target in targets):
        return unread._replace(told=f"a group of {told} that names a class of modules")
    # Experts come in the narrowest group: they are what is worth the effort.
    order = ("nvfp4", "mxfp4", "int4", "fp8", "int8")
    experts, attention = (
        next((name for name in order if name in of), "bf16" if not of else None) for of in found
    )
    if experts is None or any(None in of for of in found):
        return unread
    if experts == "bf16":
        told += ", which leaves the experts in 16 bits"
    usual = PRECISIONS[experts].attention_weights
    return CheckpointFormat(experts, cache, told, attention if attention != usual else None)


def _is_all(targets: list[str]) -> bool:
    return any("Linear" in one and not one.startswith("re:") for one in targets)


def _is_known(target: str) -> bool:
    """Tell the name of a module, an expression or a linear class from another class of modules."""
    return target.startswith("re:") or "Linear" in target or not target[:1].isupper()


def _group_format(
    quantization: Mapping[str, Any], group: Mapping[str, Any], weights: Mapping[str, Any]
) -> str | None:
    if str(group.get("format", quantization.get("format"))).startswith("mxfp4"):
        return "mxfp4"
    name = _number_format(weights)
    if "input_activations" in group and group["input_activations"] is None:
        # Widened to 16 bits: four bits are bytes of int4, eight have no name here.
        return {"nvfp4": "int4", "int4": "int4", "mxfp4": "mxfp4"}.get(str(name))
    return name


def _bits(quantization: Mapping[str, Any]) -> str | None:
    """Return the format of integer weights with 16-bit arithmetic, by their bits."""
    bits = quantization.get("bits", quantization.get("w_bit"))
    kind = str(quantization.get("data_type", "int"))  # AutoRound writes other numbers, too
    if not kind.startswith("int"):
        widened = (quantization.get("act_bits") or 16) >= 16
        floats = {"mx_fp": "mxfp4", "nv_fp": "int4" if widened else "nvfp4"}
        if bits == 8 and kind.startswith("mx_fp") and not widened:
            return "fp8"
        return floats.get(kind[:5]) if bits == 4 else None
    return "int4" if bits == 4 else None


_QUARK = {"fp4": "mxfp4", "fp8_e4m3": "fp8", "int8": "int8", "int4": "int4"}


def _quark(quantization: Mapping[str, Any]) -> str | None:
    general = quantization.get("global_quant_config")
    layers = quantization.get("layer_quant_config")
    if isinstance(layers, Mapping):  # experts decide, as in ModelOpt's mixtures
        general = next((part for name, part in layers.items() if ".experts" in name), general)
    return _quark_dtype(general, "weight")


def _quark_dtype(part: Any, of: str) -> str | None:
    tensor = part.get(of) if isinstance(part, Mapping) else None
    steps = tensor if isinstance(tensor, list) else [tensor]
    # Quantised in steps: what lies in memory is the narrowest.
    found = [_QUARK.get(str(one.get("dtype"))) for one in steps if isinstance(one, Mapping)]
    return next((name for name in ("int4", "mxfp4", "fp8", "int8") if name in found), None)


def _quark_cache(quantization: Mapping[str, Any]) -> str | None:
    """Return the format of what the key and value projections put out, as vLLM reads it."""
    export = quantization.get("export")
    group = export.get("kv_cache_group") if isinstance(export, Mapping) else None
    for table in ("kv_cache_quant_config", "layer_quant_config"):
        parts = quantization.get(table)
        if isinstance(parts, Mapping):
            names = group if isinstance(group, list) and group else ["*k_proj", "*v_proj"]
            found = [_quark_dtype(parts.get(name), "output_tensors") for name in names]
            if any(found):
                return next(name for name in found if name)
    return None


def _torchao(quantization: Mapping[str, Any]) -> str | None:
    kind = quantization.get("quant_type")
    if isinstance(kind, Mapping):
        kind = kind.get("default", kind)
        kind = kind.get("_type") if isinstance(kind, Mapping) else kind
    name = str(kind).lower().replace("_", "")
    for part, format_name in (
        ("int4", "int4"),  # before the numbers that it is multiplied in
        ("float8", "fp8"),
        ("nvfp4", "nvfp4"),
        ("mxfp4", "mxfp4"),
        ("int8dynamicactivationint8", "int8"),
    ):
        if part in name and not (part == "float8" and "weightonly" in name):
            return format_name
    return None


def _bitsandbytes(quantization: Mapping[str, Any]) -> str | None:
    return "int4" if quantization.get("load_in_4bit") is True else None


_DIALECTS = {
    "awq": _bits,
    "gptq": _bits,
    "auto-round": _bits,
    "intel/auto-round": _bits,
    "quark": _quark,
    "torchao": _torchao,
    "bitsandbytes": _bitsandbytes,
}
