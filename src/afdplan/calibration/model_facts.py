"""Which sizes does a Hugging Face `config.json` state, and is its architecture one we know?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from afdplan.calibration.architecture import (
    Attention,
    GroupedAttention,
    LatentAttention,
    ModelArchitecture,
    SparseIndexer,
)
from afdplan.errors import InvalidInputError

__all__ = ["KNOWN_ARCHITECTURES", "architecture_from_config"]

LARGEST_SIZE = 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fields:
    """Where one family of configs keeps its sizes; empty names are not used by it."""

    attention: str = "grouped"
    kv_heads: str = "num_key_value_heads"
    experts: str = ""
    experts_per_token: str = "num_experts_per_tok"
    expert_size: str = "moe_intermediate_size"
    shared_experts: str = ""
    shared_size: str = ""
    first_dense: str = ""
    indexer: bool = False
    prediction_layers: str = "num_nextn_predict_layers"


_LATENT = _Fields(
    attention="latent",
    experts="n_routed_experts",
    shared_experts="n_shared_experts",
    first_dense="first_k_dense_replace",
)
_SPARSE_LATENT = _Fields(
    attention="latent",
    experts="n_routed_experts",
    shared_experts="n_shared_experts",
    first_dense="first_k_dense_replace",
    indexer=True,
)
_PLAIN = _Fields()
_MODEL_TYPES: dict[str, _Fields] = {
    "deepseek_v3": _LATENT,
    "deepseek_v32": _SPARSE_LATENT,
    "glm4_moe": _Fields(
        experts="n_routed_experts",
        shared_experts="n_shared_experts",
        first_dense="first_k_dense_replace",
    ),
    "glm_moe_dsa": _SPARSE_LATENT,
    "gpt_oss": _Fields(experts="num_local_experts", expert_size="intermediate_size"),
    "kimi_k2": _LATENT,
    "llama": _PLAIN,
    "minimax_m2": _Fields(
        experts="num_local_experts",
        expert_size="intermediate_size",
        shared_size="shared_intermediate_size",
        prediction_layers="num_mtp_modules",
    ),
    "mistral": _PLAIN,
    "mixtral": _Fields(experts="num_local_experts", expert_size="intermediate_size"),
    "qwen2": _PLAIN,
    "qwen3": _PLAIN,
    "qwen3_moe": _Fields(experts="num_experts", shared_size="shared_expert_intermediate_size"),
    "step3_text": _Fields(
        kv_heads="num_attention_groups",
        experts="moe_num_experts",
        experts_per_token="moe_top_k",
        shared_size="share_expert_dim",
    ),
}

KNOWN_ARCHITECTURES = tuple(_MODEL_TYPES)
"""Values of `model_type` that `architecture_from_config` reads."""

_QUANTIZATIONS = {"fp8": "fp8", "mxfp4": "mxfp4"}


class _Config:
    """A config whose fields are named when they are missing or wrong."""

    def __init__(self, values: Mapping[str, Any], origin: str) -> None:
        self.values = values
        self.origin = origin

    def count(self, name: str, minimum: int = 1, default: int | None = None) -> int:
        """Return an integer field, or `default` where the field is absent or null."""
        value = self.values.get(name)
        if value is None:
            if default is not None:
                return default
            raise InvalidInputError(
                f"{self.origin}: {name} is missing; a config of model_type "
                f"{self.values.get('model_type')!r} must state it"
            )
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidInputError(f"{self.origin}: {name} must be an integer, got {value!r:.80}")
        if not minimum <= value <= LARGEST_SIZE:
            raise InvalidInputError(
                f"{self.origin}: {name} must be from {minimum} to {LARGEST_SIZE}, "
                f"got {_shorten(value)}"
            )
        return value

    def optional(self, name: str) -> int | None:
        """Return an integer field, or None where it is absent or null."""
        return None if self.values.get(name) is None else self.count(name)


def _shorten(value: int) -> str:
    return str(value) if abs(value) < 10**18 else "a number of more than 18 digits"


def architecture_from_config(
    config: Mapping[str, Any], name: str = "", origin: str = "config.json"
) -> ModelArchitecture:
    """Return the sizes that a model's `config.json` states.

    Parameters
    ----------
    config
        The object of the file; a multimodal config may nest it under ``text_config``. A key
        ``afdplan`` may hold ``name``, ``source`` and ``published_parameters``.
    name
        Name to use if the config states none.
    origin
        What to call the config in messages, usually its path.

    Raises
    ------
    InvalidInputError
        If `model_type` is unknown (the known ones are listed), or a field that this architecture
        needs is missing or out of its domain (it is named).

    Examples
    --------
    >>> dense = architecture_from_config({
    ...     "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
    ...     "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    ...     "vocab_size": 128256})
    >>> round(dense.total_parameters / 1e9, 2)
    8.03
    """
    facts = config.get("afdplan")
    facts = facts if isinstance(facts, Mapping) else {}
    nested = config.get("text_config")
    if isinstance(nested, Mapping) and config.get("model_type") not in _MODEL_TYPES:
        outer = {k: config[k] for k in ("quantization_config",) if k in config}
        config = {**outer, **nested}
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in _MODEL_TYPES:
        raise InvalidInputError(
            f"{origin}: model_type must be one of {', '.join(KNOWN_ARCHITECTURES)}, "
            f"got {model_type!r:.80}"
        )
    fields = _MODEL_TYPES[model_type]
    reader = _Config(config, origin)
    layers = reader.count("num_hidden_layers")
    if layers > 10_000:
        raise InvalidInputError(f"{origin}: num_hidden_layers must be <= 10000, got {layers}")
    dense_layers = _dense_layers(reader, fields, layers)
    experts = reader.count(fields.experts) if fields.experts and dense_layers < layers else 0
    expert_size = reader.count(fields.expert_size) if experts else 0
    chosen = reader.count(fields.experts_per_token) if experts else 0
    if chosen > experts:
        raise InvalidInputError(
            f"{origin}: {fields.experts_per_token} must be at most {fields.experts} = {experts}, "
            f"got {chosen}"
        )
    shared_size = 0
    if fields.shared_experts:
        shared_size = reader.count(fields.shared_experts, 0, default=0) * expert_size
    elif fields.shared_size:
        shared_size = reader.count(fields.shared_size, 0, default=0)
    windows = _windows(reader, layers)
    return ModelArchitecture(
        name=str(facts.get("name") or name or config.get("_name_or_path") or model_type),
        hidden_size=reader.count("hidden_size"),
        vocabulary_size=reader.count("vocab_size"),
        layers=layers,
        attention=_attention(reader, fields),
        attention_windows=_kinds(windows),
        layer_windows=windows,
        indexer=_indexer(reader) if fields.indexer else None,
        dense_layers=dense_layers,
        dense_size=reader.count("intermediate_size") if dense_layers else 0,
        experts=experts,
        experts_per_token=chosen,
        expert_size=expert_size,
        shared_size=shared_size,
        prediction_layers=reader.count(fields.prediction_layers, 0, default=0),
        tied_embeddings=config.get("tie_word_embeddings") is True,
        precision=_precision(config.get("quantization_config")),
        published_parameters=float(facts.get("published_parameters", 0.0)),
        source=str(facts.get("source") or origin),
    )


def _attention(reader: _Config, fields: _Fields) -> Attention:
    heads = reader.count("num_attention_heads")
    if fields.attention == "latent":
        return LatentAttention(
            query_heads=heads,
            query_rank=reader.optional("q_lora_rank"),
            kv_rank=reader.count("kv_lora_rank"),
            plain_key_size=reader.count("qk_nope_head_dim"),
            rotary_key_size=reader.count("qk_rope_head_dim"),
            value_size=reader.count("v_head_dim"),
        )
    kv_heads = reader.count(fields.kv_heads)
    if heads % kv_heads:
        raise InvalidInputError(
            f"{reader.origin}: num_attention_heads must be a multiple of {fields.kv_heads} = "
            f"{kv_heads}, got {heads}"
        )
    # Configs without head_dim mean hidden_size / heads; transformers does the same.
    default = max(1, reader.count("hidden_size") // heads)
    return GroupedAttention(
        query_heads=heads,
        kv_heads=kv_heads,
        head_size=reader.count("head_dim", default=default),
        query_rank=reader.optional("share_q_dim"),
    )


def _indexer(reader: _Config) -> SparseIndexer:
    return SparseIndexer(
        heads=reader.count("index_n_heads"),
        head_size=reader.count("index_head_dim"),
        selected_tokens=reader.count("index_topk"),
    )


def _dense_layers(reader: _Config, fields: _Fields, layers: int) -> int:
    """Return how many layers have no experts."""
    if not fields.experts:
        return layers
    if fields.first_dense:
        dense = reader.count(fields.first_dense, 0)
        if dense > layers:
            raise InvalidInputError(
                f"{reader.origin}: {fields.first_dense} must be at most num_hidden_layers = "
                f"{layers}, got {dense}"
            )
        return dense
    chosen = reader.values.get("moe_layers_enum")
    if chosen is not None:
        try:
            listed = chosen.split(",") if isinstance(chosen, str) else chosen
            numbers = {int(layer) for layer in listed}
        except (TypeError, ValueError):
            raise InvalidInputError(
                f"{reader.origin}: moe_layers_enum must list layer numbers, got {chosen!r:.80}"
            ) from None
        return layers - len(numbers & set(range(layers)))
    only = reader.values.get("mlp_only_layers") or []
    if not isinstance(only, list):
        raise InvalidInputError(
            f"{reader.origin}: mlp_only_layers must be a list, got {only!r:.80}"
        )
    step = reader.count("decoder_sparse_step", default=1)
    return sum(1 for i in range(layers) if i in only or (i + 1) % step)


def _windows(reader: _Config, layers: int) -> tuple[int | None, ...]:
    """Return how far back each layer reads, in their order."""
    window = reader.optional("sliding_window")
    if window is None or reader.values.get("use_sliding_window") is False:
        return (None,) * layers
    kinds = reader.values.get("layer_types")
    if kinds is None:
        return (window,) * layers
    if not isinstance(kinds, list) or len(kinds) != layers:
        raise InvalidInputError(
            f"{reader.origin}: layer_types must list num_hidden_layers = {layers} kinds"
        )
    unknown = [kind for kind in kinds if kind not in ("full_attention", "sliding_attention")]
    if unknown:
        raise InvalidInputError(
            f"{reader.origin}: layer_types must be full_attention or sliding_attention, "
            f"got {unknown[0]!r:.80}"
        )
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def _kinds(windows: tuple[int | None, ...]) -> tuple[tuple[int, int | None], ...]:
    """Return the kinds of layers and how many there are of each, those without a window first."""
    seen = sorted(set(windows), key=lambda window: window is not None)
    return tuple((windows.count(window), window) for window in seen)


def _precision(quantization: Any) -> str | None:
    """Return the checkpoint's number format; None if it is one we do not recognise."""
    if quantization is None:
        return "bf16"
    if not isinstance(quantization, Mapping):
        return None
    method = quantization.get("quant_method")
    if quantization.get("quant_algo") == "NVFP4":
        return "nvfp4"
    if method in ("awq", "gptq") and quantization.get("bits") == 4:
        return "int4"
    return _QUANTIZATIONS.get(method) if isinstance(method, str) else None
