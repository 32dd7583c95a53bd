"""What do tools write that give layers or groups of layers a format each?

ModelOpt, compressed-tensors, Quark and torchao, as vLLM and SGLang read them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from afdplan.calibration.checkpoint_rules import PLAIN, Rule, Scheme, Stored

__all__ = [
    "FP8",
    "INT4_A8",
    "INT8",
    "MXFP4",
    "NVFP4",
    "WIDE_INT8",
    "compressed_tensors",
    "integers",
    "mapping",
    "modelopt",
    "number_stored",
    "quark",
    "torchao",
    "unknown",
]

FP8, INT8 = Stored("fp8", 8.0), Stored("int8", 8.0)
NVFP4, MXFP4 = Stored("nvfp4", 4.5), Stored("mxfp4", 4.25)
INT4_A8, WIDE_INT8 = Stored("int4", 4.125, "a8"), Stored("int8", 8.0, "a16")

_ALGORITHMS = {
    "FP8": FP8,
    "FP8_PB_WO": FP8,
    "FP8_PER_CHANNEL_PER_TOKEN": FP8,
    "MXFP8": FP8,
    "NVFP4": NVFP4,
    "NVFP4_AWQ": NVFP4,
    "W4A16_NVFP4": Stored("int4", 4.5),  # four bits that are widened: arithmetic of bf16
    "W4A8_AWQ": INT4_A8,
    "W4A16_AWQ": Stored("int4", 4.125),
    "INT4_AWQ": Stored("int4", 4.125),
    "W8A16": Stored("int8", 8.125, "a16"),
    "W8A8_SQ_PER_CHANNEL": INT8,
    "INT8_SQ": INT8,
}
"""ModelOpt's algorithms."""


def unknown(said: str) -> Stored:
    """Return how a module is stored of which `said` is not known."""
    return Stored("", said=said)


def integers(bits: Any, group: Any, *, zeros: bool = False, scale_bits: float = 16.0) -> Stored:
    """Return integer weights that are widened, with their scales and zero points per group.

    Parameters
    ----------
    bits
        Of a weight.
    group
        Weights that share a scale; not positive where a whole row does.
    zeros
        Whether a group has a zero point of as many bits.
    scale_bits
        Of a scale.
    """
    if not isinstance(bits, int) or isinstance(bits, bool) or bits not in (2, 3, 4, 5, 6, 8, 16):
        return unknown(f"bits {bits!r:.40}")
    if bits == 16:
        return PLAIN
    more = 0.0
    if isinstance(group, int) and group > 0:
        more = (scale_bits + (bits if zeros else 0)) / group
    return Stored(f"int{bits}", bits + more, "a16" if bits == 8 else "")


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a value if it is a table, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def modelopt(quantization: Mapping[str, Any]) -> Scheme | None:
    """Return what ModelOpt states: one algorithm, or one per layer; None without an algorithm."""
    algorithm = quantization.get("quant_algo")
    if not isinstance(algorithm, str):
        return None
    if algorithm != "MIXED_PRECISION":
        return Scheme(_algorithm(algorithm, quantization))
    layers = mapping(quantization.get("quantized_layers"))
    rules = tuple(
        # Of fused experts any one speaks for all of its layer.
        Rule(
            re.sub(r"\.experts\..*", ".experts", str(name)),
            _algorithm(str(mapping(part).get("quant_algo")), mapping(part)),
        )
        for name, part in layers.items()
    )
    # Beside experts of one format, all else may be in that of the method (DeepSeek-V4).
    default = PLAIN
    if quantization.get("quant_method") == "fp8" and quantization.get("moe_quant_algo"):
        default = FP8
    return Scheme(default if rules else unknown("quant_algo 'MIXED_PRECISION'"), rules)


def _algorithm(name: str, part: Mapping[str, Any]) -> Stored:
    stored = _ALGORITHMS.get(name, unknown(f"quant_algo {name!r:.40}"))
    group = part.get("group_size")
    if stored.name == "int4" and "NVFP4" not in name and isinstance(group, int) and group > 0:
        return stored._replace(bits=4 + 16 / group)
    return stored


def number_stored(part: Mapping[str, Any]) -> Stored:
    """Return the format of ``{num_bits, type, group_size}`` as compressed-tensors writes it."""
    bits, kind, group = part.get("num_bits"), part.get("type"), part.get("group_size")
    if kind == "float" and bits == 8:
        return FP8
    if kind == "float" and bits == 4:
        return NVFP4 if group == 16 else MXFP4
    if kind == "int" and bits == 8:
        return INT8
    if kind == "int":
        return integers(bits, group, zeros=part.get("symmetric") is False)
    return unknown(f"weights of {bits!r:.20} bits and type {kind!r:.40}")


def compressed_tensors(quantization: Mapping[str, Any]) -> Scheme:
    """Return groups by name or expression, then the one of all linear modules; none: 16 bits."""
    sparse = mapping(quantization.get("sparsity_config"))
    if sparse.get("format") not in (None, "dense") and sparse.get("sparsity_structure"):
        return Scheme(unknown(f"sparsity_config of format {sparse['format']!r:.40}"))
    groups = quantization.get("config_groups")
    if not isinstance(groups, Mapping):
        return Scheme(unknown("quant_method 'compressed-tensors' without config_groups"))
    default, rules = PLAIN, []
    for group in groups.values():
        weights = mapping(group).get("weights")
        if not isinstance(weights, Mapping):
            continue
        stored = _group_stored(quantization, group, weights)
        targets = group.get("targets") or "Linear"
        for target in map(str, [targets] if isinstance(targets, str) else targets):
            if target.startswith("re:") or ("Linear" not in target and not target[:1].isupper()):
                rules.append(Rule(target, stored))
            elif "Linear" in target:
                default = stored
            else:
                default = unknown(f"a group that names a class of modules, {target!r:.40},")
    return Scheme(default, tuple(rules))


def _group_stored(
    quantization: Mapping[str, Any], group: Mapping[str, Any], weights: Mapping[str, Any]
) -> Stored:
    written = str(group.get("format", quantization.get("format")))
    if written.startswith("mxfp4"):
        return MXFP4
    if written == "dense":  # saved without packing: the numbers are still wide
        return unknown("format 'dense' of weights that are to be quantised")
    stored = number_stored(weights)
    inputs = group.get("input_activations")
    if "input_activations" in group and inputs is None:
        if stored.name == "nvfp4":
            return Stored("int4", 4.5)  # widened: bytes of four bits, arithmetic of bf16
        if stored.name == "mxfp4":
            return stored
        widened = stored.name in ("fp8", "int8")
        group_size = weights.get("group_size")
        more = 16 / group_size if widened and isinstance(group_size, int) and group_size > 0 else 0
        return stored._replace(bits=stored.bits + more, arithmetic="a16" if widened else "")
    if stored.name == "int4" and mapping(inputs).get("num_bits") == 8:
        return stored._replace(arithmetic="a8")
    return stored


_QUARK = {"int4": Stored("int4", 4.125), "fp4": MXFP4, "fp8_e4m3": FP8, "int8": INT8}


def quark(quantization: Mapping[str, Any]) -> Scheme:
    """Return layers by pattern, then the kind of module, then the global format."""
    default = _quark_stored(quantization.get("global_quant_config"))
    by_type = mapping(quantization.get("layer_type_quant_config"))
    for kind, part in by_type.items():
        if "Linear" in str(kind):
            default = _quark_stored(part)
    rules = tuple(
        Rule(str(name), _quark_stored(part))
        for name, part in mapping(quantization.get("layer_quant_config")).items()
        if mapping(part).get("weight") is not None or "output_tensors" not in mapping(part)
    )
    cache = _quark_cache(quantization)
    return Scheme(default, rules, cache=cache)


def _quark_stored(part: Any) -> Stored:
    tensor = mapping(part).get("weight")
    if tensor is None:
        return PLAIN
    steps = tensor if isinstance(tensor, list) else [tensor]
    names = [str(mapping(one).get("dtype")) for one in steps]
    # Quantised in steps: what lies in memory is the narrowest, products are in the widest.
    found = [name for name in _QUARK if name in names]
    if not found or len(found) < len(set(names)):
        return unknown(f"weights in {' and '.join(names):.60}")
    stored = _QUARK[found[0]]
    return stored._replace(arithmetic="a8") if found[0] == "int4" and len(found) > 1 else stored


def _quark_cache(quantization: Mapping[str, Any]) -> str | None:
    """Return the format of what the key and value projections put out, as vLLM reads it."""
    group = mapping(quantization.get("export")).get("kv_cache_group")
    names = [str(one) for one in group] if isinstance(group, list) else []
    names = names or ["*k_proj", "*v_proj"]
    for table in ("kv_cache_quant_config", "layer_quant_config"):
        parts = mapping(quantization.get(table))
        found = [
            _quark_stored({"weight": mapping(parts.get(name)).get("output_tensors")}).name
            for name in names
            if mapping(parts.get(name)).get("output_tensors") is not None
        ]
        if found:
            return found[0]
    return None


def torchao(quantization: Mapping[str, Any]) -> Scheme:
    """Return one configuration of all, or a table of them by module."""
    kind = quantization.get("quant_type")
    if isinstance(kind, Mapping):
        kind = kind.get("default", kind)
    tables = mapping(mapping(kind).get("_data"))
    for key in ("fqn_to_config", "module_fqn_to_config"):
        table = tables.get(key)
        if isinstance(table, Mapping):
            by_name = {str(name): _torchao_stored(part) for name, part in table.items()}
            default = by_name.pop("_default", PLAIN)
            rules = tuple(Rule(*one) for one in by_name.items())
            return Scheme(default, rules)
    stored = _torchao_stored(kind)
    whole = quantization.get("include_input_output_embeddings") is True
    return Scheme(stored, heads=stored if whole else PLAIN)


def _torchao_stored(kind: Any) -> Stored:
    if kind is None:
        return PLAIN
    data = mapping(mapping(kind).get("_data"))
    said = str(mapping(kind).get("_type", kind) if isinstance(kind, Mapping) else kind)
    name = said.lower().replace("_", "")
    group = data.get(
        "group_size", mapping(mapping(data.get("granularity")).get("_data")).get("group_size")
    )
    if "nvfp4" in name or "mxfp4" in name:
        return NVFP4 if "nvfp4" in name else MXFP4
    weight = data.get("weight_dtype", data.get("dtype"))
    weight = str(mapping(weight).get("_data", weight)).rpartition(".")[2]
    if "weightint4" in name or "activationint4" in name:  # beside the numbers of the products
        return INT4_A8._replace(bits=4 + (16 / group if isinstance(group, int) and group else 0))
    if name.startswith(("int4", "uint4")):
        return integers(4, group if isinstance(group, int) else 128)
    if name.startswith(("intx", "uintx")):
        bits = re.fullmatch(r"u?int(\d)", weight)
        return integers(int(bits[1]), group) if bits else unknown(f"{said:.60}")
    if name.startswith("float8"):
        return FP8._replace(arithmetic="a16" if "weightonly" in name else "")
    if name.startswith("int8"):
        return Stored("int8", 8.0, "a16") if "weightonly" in name else INT8
    return unknown(f"{said:.60}")
