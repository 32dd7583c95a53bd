"""Is every key of a checkpoint's quantization of the type that its tool writes?

A value of another type says nothing; read as nothing, it would change the answer without a word.
Bits of a whole checkpoint are not here: those that read them refuse what they do not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from afdplan.errors import InvalidInputError

__all__ = ["LEFT_OUT", "OF_CONFIG", "check_types", "types_of"]

LEFT_OUT = (
    "modules_to_not_convert",
    "ignored_layers",
    "ignore",
    "exclude_modules",
    "exclude",
    "llm_int8_skip_modules",
    "skip_modules",
    "modules_to_not_quantize",
)
"""Lists of the modules that a tool leaves in 16 bits, in the words of every tool."""

_GROUPS = {
    "config_groups": "table",
    "config_groups.*": "table",
    "config_groups.*.targets": "names",
    "config_groups.*.format": "text",
    "config_groups.*.weights": "table",
    "config_groups.*.input_activations": "table",
    "config_groups.*.*.num_bits": "count",
    "config_groups.*.*.type": "text",
    "config_groups.*.*.group_size": "count",
    "config_groups.*.*.symmetric": "flag",
}
_EVERY_DIALECT = {
    **dict.fromkeys(LEFT_OUT, "names"),
    "kv_cache_scheme.num_bits": "count",
    "kv_cache_scheme.type": "text",
    "kv_cache_scheme.group_size": "count",
    "kv_cache_scheme.symmetric": "flag",
    "quantization": "table",
    "quant_algo": "text",
    "moe_quant_algo": "text",
    "quantized_layers": "table",
    "quantized_layers.*": "table",
    "quantized_layers.*.quant_algo": "text",
    "quantized_layers.*.group_size": "count",
}
"""Type by key; ``*`` stands for any."""
_BITS = {"group_size": "count"}
_BLOCKS = {"block_name_to_quantize": "lists of names"}
_GPTQ = {
    **_BITS,
    **_BLOCKS,
    "lm_head": "flag",
    "modules_in_block_to_quantize": "lists of names",
    "dynamic": "table",
    "dynamic.*": "table",
    "dynamic.*.group_size": "count",
}
_AWQ = {**_BITS, "q_group_size": "count", "zero_point": "flag"}
_ROUND = {"group_size": "counts", "data_type": "text", "act_bits": "count"}
_ROUND |= {"sym": "flag"}
_AUTO_ROUND = {
    **_ROUND,
    **_BLOCKS,
    "to_quant_block_names": "lists of names",
    **{
        f"{table}{key}": kind
        for table in ("extra_config", "layer_config")
        for key, kind in {"": "table", ".*": "table"}.items()
    },
    **{
        f"{table}.*.{key}": kind
        for table in ("extra_config", "layer_config")
        for key, kind in {**_ROUND, "bits": "count"}.items()
    },
}
_QUARK = {
    "global_quant_config": "table",
    "export": "table",
    "export.kv_cache_group": "names",
    "global_quant_config.weight": "tables",
    "global_quant_config.weight.dtype": "text",
    **{
        f"{table}{key}": kind
        for table in ("layer_quant_config", "layer_type_quant_config", "kv_cache_quant_config")
        for key, kind in {
            "": "table",
            ".*": "table",
            ".*.weight": "tables",
            ".*.weight.dtype": "text",
            ".*.output_tensors": "tables",
            ".*.output_tensors.dtype": "text",
        }.items()
    },
}
_HQQ = {
    "quant_config": "table",
    **{
        f"quant_config.{under}weight_quant_params{key}": kind
        for under in ("", "*.")
        for key, kind in {"": "table", ".group_size": "count"}.items()
    },
    "quant_config.group_size": "count",
    "quant_config.*.group_size": "count",
}
_TORCHAO = {
    "quant_type": "text or table",
    "quant_type.default": "text or table",
    "include_input_output_embeddings": "flag",
    **{
        f"quant_type.{under}_data{key}": kind
        for under in ("", "default.")
        for key, kind in {
            "": "table",
            ".group_size": "count",
            ".fqn_to_config": "table",
            ".fqn_to_config.*": "text or table",
            ".fqn_to_config.*._data": "table",
            ".fqn_to_config.*._data.group_size": "count",
            ".module_fqn_to_config": "table",
            ".module_fqn_to_config.*": "text or table",
            ".module_fqn_to_config.*._data": "table",
            ".module_fqn_to_config.*._data.group_size": "count",
        }.items()
    },
}
_OF_DIALECT: Mapping[str, Mapping[str, str]] = {
    **dict.fromkeys(("gptq", "gptqmodel", "gptq_marlin"), _GPTQ),
    **dict.fromkeys(("awq", "awq_marlin"), _AWQ),
    **dict.fromkeys(("auto-round", "intel/auto-round", "auto_round"), _AUTO_ROUND),
    "compressed-tensors": {
        **_GROUPS,
        "format": "text",
        "sparsity_config": "table",
        "sparsity_config.format": "text",
        "sparsity_config.sparsity_structure": "text",
    },
    "quark": _QUARK,
    "torchao": _TORCHAO,
    "bitsandbytes": dict.fromkeys(
        ("load_in_4bit", "load_in_8bit", "bnb_4bit_use_double_quant"), "flag"
    ),
    "hqq": _HQQ,
    "fp_quant": {"forward_dtype": "text"},
    "quanto": {"weights": "text"},
    "mlx": {
        "group_size": "count",
        "mode": "text",
        "*.*": "flag or table",
        "*.group_size": "count",
        "*.mode": "text",
    },
    "modelopt": {"group_size": "count"},
}
"""Type by key, and by method."""

_WORDS = {
    "table": "an object",
    "tables": "an object or a list of them",
    "text": "text",
    "text or table": "text or an object",
    "count": "a whole number",
    "counts": "a whole number or a list of them",
    "flag": "true or false",
    "flag or table": "false or an object",
    "names": "a list of names",
    "lists of names": "a list of names or of lists of them",
}


def types_of(dialect: str) -> Mapping[str, str]:
    """Return the types of a method's keys; of an unknown method those of every dialect alone."""
    return {**_EVERY_DIALECT, **_OF_DIALECT.get(dialect, {})}


OF_CONFIG = dict.fromkeys(("dtype", "torch_dtype", "expert_dtype", "quantize"), "text")
"""Type by key of a config that states formats outside `quantization_config`."""


def check_types(stated: Mapping[str, Any], types: Mapping[str, str], told: str) -> None:
    """Refuse a key whose value is of a type that its tool never writes; null says nothing.

    Parameters
    ----------
    stated
        What a tool wrote.
    types
        Type by key; ``*`` stands for any key.
    told
        Where it stands, for people.

    Raises
    ------
    InvalidInputError
        Naming the key.

    Examples
    --------
    >>> check_types({"ignore": {}}, types_of("fp8"), "quantization_config")
    Traceback (most recent call last):
        ...
    afdplan.errors.InvalidInputError: quantization_config: ignore must be a list of names, ...
    """
    for pattern, kind in types.items():
        for path, value in _found(stated, pattern.split(".")):
            if value is not None and not _is(value, kind):
                raise InvalidInputError(
                    f"{told}: {path:.80} must be {_WORDS[kind]}, got {value!r:.40}: correct it, or "
                    "leave it out"
                )


def _found(value: Any, keys: list[str], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values under a pattern of keys, with their places."""
    if not keys:
        yield path, value
        return
    if isinstance(value, list):
        for one in value:
            yield from _found(one, keys, path)
        return
    if not isinstance(value, Mapping):
        return
    if keys == ["*", "*"] and not path:  # names with a dot in them, side by side with settings
        yield from ((key, one) for key, one in value.items() if "." in key)
        return
    first, *rest = keys
    for key in value if first == "*" else [first] if first in value else []:
        yield from _found(value[key], rest, f"{path}.{key}".lstrip("."))


def _is(value: Any, kind: str) -> bool:
    is_count = isinstance(value, int) and not isinstance(value, bool)
    match kind:
        case "table":
            return isinstance(value, Mapping)
        case "text":
            return isinstance(value, str)
        case "flag":
            return isinstance(value, bool)
        case "count":
            return is_count
        case "text or table":
            return isinstance(value, str | Mapping)
        case "flag or table":
            return isinstance(value, bool | Mapping)
        case "tables":
            several = value if isinstance(value, list) and value else [value]
            return all(isinstance(one, Mapping) for one in several)
        case "counts":
            several = value if isinstance(value, list) and value else [value]
            return all(_is(one, "count") for one in several)
        case "lists of names":
            is_list = isinstance(value, list | tuple)
            return all(_is(one, "names") for one in (value if is_list else [value]))
        case _:
            return isinstance(value, str) or _is_names(value)


def _is_names(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
