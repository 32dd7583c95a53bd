"""In which number formats is a checkpoint, whatever tool wrote it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from afdplan.calibration.checkpoint_dialects import DIALECTS, left_out
from afdplan.calibration.checkpoint_groups import modelopt, number_stored, unknown
from afdplan.calibration.checkpoint_modules import (
    Modules,
    Part,
    Share,
    modules_of_config,
    shares,
)
from afdplan.calibration.checkpoint_rules import PLAIN, Resolver, Rule, Scheme, Stored
from afdplan.calibration.checkpoint_types import OF_CONFIG, check_types, types_of
from afdplan.calibration.precision import PRECISIONS, Precision, format_name

__all__ = ["CheckpointFormat", "checkpoint_format"]

LEAST_SHARE = {"experts": 0.75, "dense": 0.5, "attention": 0.5}
"""Of a part's parameters that the commonest format must have: its arithmetic is taken for all."""

CACHE_KEYS = ("kv_cache_quant_algo", "kv_cache_scheme", "kv_cache_dtype")
"""By which tools state the format of the KV cache."""
_CACHES = {
    **dict.fromkeys(("FP8", "FP8_E4M3", "FP8_E5M2"), "fp8"),
    **dict.fromkeys(("BF16", "BFLOAT16"), "bf16"),
    "NVFP4": "nvfp4",
    "INT8": "int8",
}
_WIDE = ("float32", "torch.float32", "float64")
_SIXTEEN = ("bfloat16", "float16", "half", "torch.bfloat16", "torch.float16", "auto")


class CheckpointFormat(NamedTuple):
    """Formats of a checkpoint.

    Attributes
    ----------
    weights
        A name of `FORMATS`, that of the experts, or of a dense model's networks; None if what is
        stated is not recognised.
    cache
        Format that the KV cache shall have; None if nothing is said.
    told
        Where it stands, for people; or what was not recognised.
    attention
        Format of attention's projections; None as `weights`.
    precision
        Of every part, with bits and arithmetic; None as `weights`.
    cache_unread
        What is said of the KV cache and was not recognised; empty else.
    """

    weights: str | None
    cache: str | None
    told: str
    attention: str | None = None
    precision: Precision | None = None
    cache_unread: str = ""


def checkpoint_format(
    config: Mapping[str, Any],
    quantization: Any,
    second: Any = None,
    modules: Sequence[Modules] | None = None,
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
        `hf_quant_config.json` beside it, where ModelOpt writes. Both must say the same.
    modules
        The parts of every layer; by default as many as `config` states layers.

    Raises
    ------
    InvalidInputError
        If a key is of a type that its tool never writes, or names modules in no usable way.

    Examples
    --------
    >>> checkpoint_format({}, {"quant_method": "awq", "bits": 4}).weights
    'int4'
    >>> checkpoint_format({}, None, {"quantization": {"quant_algo": "NVFP4"}}).weights
    'nvfp4'
    >>> checkpoint_format({}, {"quant_method": "odd"}).told
    "quant_method 'odd' of quantization_config"
    """
    check_types(config, OF_CONFIG, "the model's config")
    parts = modules_of_config(config) if modules is None else modules
    if isinstance(quantization, Mapping):  # some tools write the cache beside it
        quantization = {**_cache_of(config), **quantization}
    first = None if quantization is None else _resolved(_scheme(config, quantization), parts)
    other = None if second is None else _second(second)
    if other is None:
        return first or _resolved(_unquantized(config), parts)
    beside = _resolved(other, parts)
    if other.default == PLAIN and not other.rules:  # it speaks of the cache alone
        whole = first or _resolved(_unquantized(config), parts)
        return _with_cache(whole, beside)
    if first is None:
        return beside
    return _both(first, beside, is_base=_states_rest(quantization))


def _second(second: Any) -> Scheme:
    told = "hf_quant_config.json"
    stated = second.get("quantization", second) if isinstance(second, Mapping) else None
    if not isinstance(stated, Mapping):
        return Scheme(unknown(f"the quantisation of {told}"), told="")
    check_types(stated, types_of("modelopt"), told)
    scheme = modelopt(stated)
    if scheme is None and stated.get("quant_algo") is None and "kv_cache_quant_algo" in stated:
        scheme = Scheme(PLAIN)
    if scheme is None:
        return Scheme(unknown(f"the quantisation of {told}"), told="")
    return _with_common(scheme._replace(told=told), stated)


def _states_rest(quantization: Any) -> bool:
    """Tell a config that also says what the modules are in that the second file leaves out."""
    return isinstance(quantization, Mapping) and "moe_quant_algo" in quantization


def _both(first: CheckpointFormat, second: CheckpointFormat, *, is_base: bool) -> CheckpointFormat:
    """Return what two files say; refused where they differ."""
    names = "quantization_config of config.json and hf_quant_config.json beside it"
    whole = _with_cache(first if is_base else second, second if is_base else first)
    for one, other, what in (
        (first.weights, second.weights, ""),
        (first.attention, second.attention, " for attention"),
    ):
        if one != other and not (is_base and what):
            said = f"{names}, which state {one or 'an unknown format'} and "
            return CheckpointFormat(
                None, whole.cache, f"{said}{other or 'an unknown format'}{what},", None, None,
                whole.cache_unread,
            )  # fmt: skip
    return whole


def _with_cache(whole: CheckpointFormat, other: CheckpointFormat) -> CheckpointFormat:
    """Return formats with the KV cache that another file states; unread where they differ."""
    if whole.cache and other.cache and whole.cache != other.cache:
        said = f"the KV cache, {whole.cache} in one file of the checkpoint and {other.cache} in "
        return whole._replace(cache=None, cache_unread=f"{said}another,")
    cache = whole.cache or other.cache
    return whole._replace(cache=cache, cache_unread=whole.cache_unread or other.cache_unread)


def _unquantized(config: Mapping[str, Any]) -> Scheme:
    return _with_common(_whole(config), _cache_of(config))


def _cache_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a config says of the KV cache outside its quantization_config."""
    return {key: config[key] for key in CACHE_KEYS if key in config}


def _whole(config: Mapping[str, Any]) -> Scheme:
    ascend = config.get("quantize")
    if ascend is not None:
        name = str(ascend).lower()
        eight, four = Stored("int8", 8.0), Stored("int4", 4.125, "a8")
        stored = eight if name.startswith("w8a8") else four if name.startswith("w4a") else None
        return Scheme(stored or unknown(""), told=f"quantize {ascend!r:.40}")
    kind = config.get("dtype", config.get("torch_dtype"))
    if kind in _WIDE:
        return Scheme(PLAIN, told=f"servers load a checkpoint of {kind}")
    if not isinstance(kind, str) or kind in _SIXTEEN:
        return Scheme(PLAIN, told="the checkpoint")
    return Scheme(unknown(f"dtype {kind!r:.40} of the checkpoint"), told="")


def _scheme(config: Mapping[str, Any], quantization: Any) -> Scheme:
    """Return what `quantization_config` states."""
    told = "quantization_config"
    if not isinstance(quantization, Mapping):
        return Scheme(unknown(f"quantization_config {quantization!r:.40}"), told="")
    inner = quantization.get("quantization")
    if isinstance(inner, Mapping):  # ModelOpt's second file, put into the first
        quantization = {**quantization, **inner}
    method = quantization.get("quant_method")
    dialect = method if isinstance(method, str) else ""
    if method is None and quantization.get("quant_algo") is None and "bits" in quantization:
        dialect = "mlx"
    check_types(quantization, types_of(dialect), told)
    reader = DIALECTS.get(dialect)
    scheme = modelopt(quantization)
    if scheme is None and reader is not None:
        scheme = reader(quantization)
    if scheme is None:
        unread = f"quant_method {method!r:.40} of {told}" if method is not None else told
        return _with_common(Scheme(unknown(unread), told=""), quantization)
    if config.get("expert_dtype") == "fp4" and method == "fp8" and not scheme.rules:
        rules = (Rule("experts", Stored("mxfp4", 4.25)),)
        scheme = scheme._replace(rules=rules, told=f"expert_dtype 'fp4' and {told}")
    return _with_common(scheme, quantization)


def _with_common(scheme: Scheme, quantization: Mapping[str, Any]) -> Scheme:
    """Return a scheme with what all tools write alike: modules left out, the KV cache."""
    rules = left_out(quantization)
    if _states_rest(quantization):  # left out of four bits, not of the method's eight
        rules = ()
    cache, unread = scheme.cache, scheme.cache_unread
    stated = next((quantization[key] for key in CACHE_KEYS if key in quantization), None)
    if isinstance(stated, Mapping):
        name = number_stored(stated).name
        cache = name if name in _CACHES.values() else None
    elif isinstance(stated, str):
        cache = _CACHES.get(stated.upper())
    if stated is not None and cache is None and str(stated).upper() not in ("NONE", "AUTO"):
        unread = f"the KV cache's {stated!r:.60}"
    return scheme._replace(rules=(*rules, *scheme.rules), cache=cache, cache_unread=unread)


def _resolved(scheme: Scheme, modules: Sequence[Modules]) -> CheckpointFormat:
    """Return the formats of the parts of a model by the rules of a scheme."""
    rules = Resolver(scheme.rules)
    found = shares(modules, rules, scheme.default)
    failed = CheckpointFormat(None, scheme.cache, scheme.told, cache_unread=scheme.cache_unread)
    names: dict[Part, str] = {}
    for part, stored in found.items():
        name, unread = _of_part(part, stored, scheme.told)
        if unread:
            return failed._replace(told=unread)
        names[part] = name
    main: Part = "experts" if "experts" in names else "dense"
    weights = names.get(main) or names.get("attention", "bf16")
    experts = _base(weights)
    told = scheme.told
    if experts == "bf16" and any(_base(name) != "bf16" for name in names.values()):
        told += f", which leaves the {'experts' if main == 'experts' else 'networks'} in 16 bits"
    heads = [rules.of(name) or scheme.heads for name in ("embed_tokens", "lm_head")]
    embedding, head = (_name(one) if one.name else "bf16" for one in heads)
    attention = names.get("attention", "bf16")
    precision = Precision(
        attention_weights=attention,
        feed_forward_weights=weights,
        dense_weights=names.get("dense"),
        embedding_weights=embedding,
        head_weights=head,
        cache=scheme.cache or "bf16",
        send=_send(weights),
    )
    return CheckpointFormat(
        experts, scheme.cache, told, _base(attention), precision, scheme.cache_unread
    )


def _of_part(part: Part, stored: Sequence[Share], told: str) -> tuple[str, str]:
    """Return the format of a part with its mean bits, or what cannot be read of it."""
    whole = sum(share.parameters for share in stored)
    for share in stored:
        if not share.stored.name and share.parameters:
            return "", f"{share.stored.said} of {told}" if told else share.stored.said
    first = stored[0].stored
    bits = sum(share.parameters * share.stored.bits for share in stored) / whole
    is_mixed = stored[0].parameters < LEAST_SHARE[part] * whole * (1 - 1e-9)
    if is_mixed or (part == "experts" and first == PLAIN and len(stored) > 1):
        words = " and ".join(sorted({share.stored.name for share in stored}))
        more = f"{bits:.3g} bits per weight in the mean"
        if part == "experts" and "bf16" in words:
            more += ", a part of the experts left in 16 bits"
        what = {"experts": "experts", "dense": "dense networks", "attention": "attention"}[part]
        return "", f"{told}, with {what} in {words} ({more}),"
    return format_name(first.name, bits, first.arithmetic), ""


def _name(stored: Stored) -> str:
    return format_name(stored.name, stored.bits, stored.arithmetic)


def _base(name: str) -> str:
    return name.partition(":")[0].removesuffix("a16").removesuffix("a8")


def _send(weights: str) -> str:
    """Return the format in which tokens travel: that of the experts' products."""
    if weights.endswith("a16"):
        return "bf16"
    return "fp8" if weights.endswith("a8") else PRECISIONS.get(_base(weights), Precision()).send
