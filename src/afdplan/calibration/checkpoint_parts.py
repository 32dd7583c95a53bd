"""Which parts of a quantised checkpoint are left in 16 bits, by the lists of its tool?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

__all__ = [
    "a_part_of_experts",
    "is_attention",
    "is_experts",
    "left_out",
    "some_attention",
    "some_experts",
]

_LISTS = (
    "modules_to_not_convert",
    "ignored_layers",
    "ignore",
    "exclude_modules",
    "exclude",
    "llm_int8_skip_modules",
)
_OUTER = ("model", "language_model", "text_model", "thinker", "backbone", "transformer")
"""What stands before ``layers`` in one tool's names and not in another's."""

_SAMPLE = 6
"""Layers that are asked; a list that names some of the others is not about the part."""

_PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
_NETWORKS = (
    *((f"{name}.experts.0", _PROJECTIONS) for name in ("mlp", "feed_forward", "moe")),
    *((f"{name}.experts", ("gate_up_proj", "down_proj")) for name in ("mlp", "feed_forward")),
    ("block_sparse_moe.experts.0", ("w1", "w2", "w3")),
    ("ffn.experts.0", ("w1", "w2", "w3")),
    ("mixer.experts.0", ("up_proj", "down_proj")),
)
_BESIDE = (("experts", ("gate_up_proj", "down_proj")), ("experts.0", _PROJECTIONS))
"""Of Gemma, whose `mlp` is a dense network beside the experts."""
_DENSE = (("mlp", _PROJECTIONS), ("feed_forward", ("w1", "w2", "w3")))
_ATTENTION = (
    ("self_attn", ("q_proj", "k_proj", "v_proj", "o_proj")),
    ("self_attn", ("q_b_proj", "kv_b_proj", "o_proj")),
    ("linear_attn", ("in_proj_qkvz", "out_proj")),
)
_Families = tuple[tuple[str, tuple[str, ...]], ...]


def left_out(quantization: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the patterns of modules that the tool did not quantise, ``re:`` before expressions.

    Examples
    --------
    >>> left_out({"modules_to_not_convert": ["lm_head"], "dynamic": {"-:.*mlp.*": {}}})
    ('lm_head', 're:.*mlp.*')
    """
    found: list[str] = []
    for key in _LISTS:
        listed = quantization.get(key)
        found += [str(one) for one in listed] if isinstance(listed, list | tuple) else []
    rules = quantization.get("dynamic")  # GPTQModel
    if isinstance(rules, Mapping):
        found += [f"re:{rule[2:]}" for rule in map(str, rules) if rule.startswith("-:")]
    extra = quantization.get("extra_config")  # AutoRound
    if isinstance(extra, Mapping):
        for name, part in extra.items():
            bits = part.get("bits") if isinstance(part, Mapping) else None
            if isinstance(bits, int) and bits >= 16:
                found.append(f"re:{name}" if "*" in str(name) else str(name))
    return tuple(found)


def is_experts(patterns: Iterable[str], config: Mapping[str, Any]) -> bool:
    """Return whether patterns name the experts, or the networks of a model that has none.

    Parameters
    ----------
    patterns
        Names of modules, or of what holds them; with ``*``; or expressions after ``re:``.
    config
        The text model's object: how many layers it has, and whether it has experts.

    Examples
    --------
    >>> config = {"num_hidden_layers": 48, "num_experts": 128}
    >>> is_experts(["*mlp*"], config), is_experts(["lm_head", "re:.*mlp.gate$"], config)
    (True, False)
    """
    return _are_named(_networks(config), tuple(patterns), config)


def is_attention(patterns: Iterable[str], config: Mapping[str, Any]) -> bool:
    """Return whether patterns name the projections of attention; as `is_experts`."""
    return _are_named(_ATTENTION, tuple(patterns), config)


def a_part_of_experts(patterns: Iterable[str], config: Mapping[str, Any]) -> bool:
    """Return whether patterns name the experts of some layers only, or some of their projections.

    A few layers at the ends do not count: tools leave those out.
    """
    families, named = _networks(config), tuple(patterns)
    layers = _count(families, named, config, all)
    some = _count(families, named, config, any)
    return _SAMPLE / 3 < layers < _SAMPLE - 1 or (layers == 0 and some > _SAMPLE / 3)


def some_experts(patterns: Iterable[str], config: Mapping[str, Any]) -> bool:
    """Return whether patterns name one or more projections of the experts; as `is_experts`."""
    return _are_named(_networks(config), tuple(patterns), config, whole=any)


def some_attention(patterns: Iterable[str], config: Mapping[str, Any]) -> bool:
    """Return whether patterns name one or more projections of attention; as `is_experts`."""
    return _are_named(_ATTENTION, tuple(patterns), config, whole=any)


def _networks(config: Mapping[str, Any]) -> _Families:
    counts = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    has_experts = any(isinstance(config.get(key), int) and config[key] > 0 for key in counts)
    if has_experts and str(config.get("model_type")).startswith("gemma"):
        return _BESIDE
    return _NETWORKS if has_experts else _DENSE


def _are_named(
    families: _Families,
    patterns: tuple[str, ...],
    config: Mapping[str, Any],
    whole: Callable[[Iterable[bool]], bool] = all,
) -> bool:
    return _count(families, patterns, config, whole) > _SAMPLE / 2


def _count(
    families: _Families,
    patterns: tuple[str, ...],
    config: Mapping[str, Any],
    whole: Callable[[Iterable[bool]], bool],
) -> int:
    """Return in how many of `_SAMPLE` layers, evenly spread, the patterns name the part."""
    layers = config.get("num_hidden_layers")
    last = layers - 1 if isinstance(layers, int) and layers > 0 else 0
    asked = [round(last * k / (_SAMPLE - 1)) for k in range(_SAMPLE)]
    tests = [_test(pattern) for pattern in patterns]

    def named(layer: int) -> bool:
        return any(
            whole(
                any(test(f"layers.{layer}.{part}.{projection}") for test in tests)
                for projection in projections
            )
            for part, projections in families
        )

    return sum(map(named, asked))


def _test(pattern: str) -> Any:
    """Return what says whether a module's name, from ``layers`` on, is one of the pattern's."""
    if pattern.startswith("re:"):
        try:
            expression = re.compile(pattern[3:])
        except re.error:
            return lambda name: False
        return lambda name: any(expression.match(full) for full in _full(name))
    if any(sign in pattern for sign in "*?["):
        return lambda name: any(
            fnmatchcase(full, pattern) or fnmatchcase(full, f"{pattern}.*") for full in _full(name)
        )
    parts = pattern.strip(".").split(".")
    while parts and parts[0] in _OUTER:
        parts = parts[1:]
    run = f".{'.'.join(parts)}." if parts else "."
    return lambda name: run in f".{name}."


def _full(name: str) -> tuple[str, ...]:
    return (
        name,
        f"model.{name}",
        f"language_model.model.{name}",
        f"model.language_model.{name}",
        f"backbone.{name}",
    )
