"""Which sizes does a Hugging Face `config.json` state, and is its architecture one we know?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from afdplan.calibration.architecture import Block, ModelArchitecture
from afdplan.calibration.checkpoint_format import checkpoint_format
from afdplan.calibration.checkpoint_modules import modules_of_model
from afdplan.calibration.config_fields import ConfigFields
from afdplan.calibration.feed_forward_facts import FeedForwardFields, feed_forward_layers
from afdplan.calibration.hybrid_facts import nemotron_h_blocks, searched_blocks
from afdplan.calibration.mixer_facts import MIXERS, unread_layers
from afdplan.errors import InvalidInputError

__all__ = ["KNOWN_ARCHITECTURES", "architecture_from_config"]

NESTED = ("text_config", "llm_config", "language_config", "thinker_config")
"""Where multimodal configs keep their text decoder; they may nest twice."""

_QUANTIZATIONS = ("quantization_config", "compression_config", "quantization")
"""Names of what a tool states of its formats: of today, compressed-tensors' old one, MLX's."""

_OUTSIDE = ("tie_word_embeddings", "torch_dtype", "dtype")
"""What they may say outside of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Family:
    """How one family of configs states its layers.

    Attributes
    ----------
    mixers
        A name of `MIXERS`.
    networks
        Where the sizes of feed-forward networks stand.
    prediction_layers
        Field with the number of multi-token prediction layers.
    blocks
        Makes the round trips where layers are not all of one form; None takes the two above.
    """

    mixers: str = "grouped"
    networks: FeedForwardFields = field(default_factory=FeedForwardFields)
    prediction_layers: tuple[str, ...] = ("num_nextn_predict_layers",)
    blocks: Callable[[ConfigFields], tuple[Block, ...]] | None = None


_ROUTED = FeedForwardFields(
    experts="n_routed_experts",
    shared_experts="n_shared_experts",
    first_dense="first_k_dense_replace",
)
_COUNTED = FeedForwardFields(
    experts="num_experts",
    shared_experts="num_shared_experts",
    first_dense="first_k_dense_replace",
)
_LISTED = FeedForwardFields(experts="n_routed_experts", shared_experts="n_shared_experts")
_SHARED = FeedForwardFields(experts="num_experts", shared_size="shared_expert_intermediate_size")
_LOCAL = FeedForwardFields(experts="num_local_experts", expert_size="intermediate_size")
_ONE_SIZE = FeedForwardFields(experts="num_experts", expert_size="intermediate_size")
_LATENT = _Family(mixers="latent", networks=_ROUTED)
_SPARSE = _Family(mixers="sparse latent", networks=_ROUTED)
_COMPRESSED = _Family(mixers="compressed", networks=_LISTED)
_PLAIN = _Family()
_QWEN = _Family(networks=_SHARED)
_HYBRID_QWEN = _Family(
    mixers="gated delta",
    networks=_SHARED,
    prediction_layers=("mtp_num_hidden_layers", "num_nextn_predict_layers"),
)
_STEP = FeedForwardFields(
    experts="moe_num_experts", experts_per_token="moe_top_k", shared_size="share_expert_dim"
)
_MINIMAX_M3 = _Family(
    mixers="block sparse",
    networks=FeedForwardFields(
        experts="num_local_experts",
        expert_size="intermediate_size",
        shared_size="shared_intermediate_size",
        dense_size="dense_intermediate_size",
    ),
    prediction_layers=("num_nextn_predict_layers", "num_mtp_modules"),
)

_FAMILIES: dict[str, _Family] = {
    "bailing_moe_v2": _Family(networks=_COUNTED),
    "deepseek_ref": _COMPRESSED,
    "deepseek_v2": _LATENT,
    "deepseek_v3": _LATENT,
    "deepseek_v32": _SPARSE,
    "deepseek_v4": _COMPRESSED,
    "ernie4_5_moe": _Family(
        networks=FeedForwardFields(
            experts="moe_num_experts",
            experts_per_token="moe_k",
            shared_experts="moe_num_shared_experts",
            first_dense="moe_layer_start_index",
        ),
    ),
    "gemma4_text": _Family(
        mixers="global keys",
        networks=FeedForwardFields(
            experts="num_experts", experts_per_token="top_k_experts", is_beside=True
        ),
    ),
    "glm4_moe": _Family(networks=_ROUTED),
    "glm_moe_dsa": _SPARSE,
    "gpt_oss": _Family(networks=_LOCAL),
    "hunyuan_v1_moe": _Family(
        networks=FeedForwardFields(
            experts="num_experts",
            experts_per_token="moe_topk",
            shared_experts="num_shared_expert",
        ),
    ),
    "kimi_k2": _LATENT,
    "kimi_linear": _Family(
        mixers="kimi linear",
        networks=FeedForwardFields(
            experts="num_experts",
            experts_per_token="num_experts_per_token",
            shared_experts="num_shared_experts",
            first_dense="first_k_dense_replace",
            latent_size="routed_expert_hidden_size",
        ),
    ),
    "llama": _PLAIN,
    "llama4_text": _Family(
        mixers="chunked",
        networks=FeedForwardFields(
            experts="num_local_experts",
            expert_size="intermediate_size",
            shared_size="intermediate_size",
            every="interleave_moe_layer_step",
            dense_size="intermediate_size_mlp",
        ),
    ),
    "mimo": _PLAIN,
    "mimo_v2_flash": _Family(mixers="two sizes", networks=_LISTED),
    "minimax_m2": _Family(
        networks=FeedForwardFields(
            experts="num_local_experts",
            expert_size="intermediate_size",
            shared_size="shared_intermediate_size",
        ),
        prediction_layers=("num_mtp_modules",),
    ),
    "minimax_m3": _MINIMAX_M3,
    "minimax_m3_vl": _MINIMAX_M3,
    "mistral": _PLAIN,
    "mixtral": _Family(networks=_LOCAL),
    "nemotron-nas": _Family(blocks=searched_blocks),
    "nemotron_h": _Family(blocks=nemotron_h_blocks),
    "olmoe": _Family(networks=_ONE_SIZE),
    "qwen2": _PLAIN,
    "qwen2_moe": _QWEN,
    "qwen3": _PLAIN,
    "qwen3_5_moe_text": _HYBRID_QWEN,
    "qwen3_5_text": _Family(mixers="gated delta", prediction_layers=_HYBRID_QWEN.prediction_layers),
    "qwen3_moe": _QWEN,
    "qwen3_next": _HYBRID_QWEN,
    "qwen3_omni_moe_text": _QWEN,
    "qwen3_vl_moe_text": _QWEN,
    "qwen3_vl_text": _PLAIN,
    "step3_text": _Family(networks=_STEP),
    "step3p7": _Family(
        networks=FeedForwardFields(
            experts="num_experts",
            shared_size="share_expert_dim",
            first_dense="first_k_dense_replace",
        )
    ),
}

KNOWN_ARCHITECTURES = tuple(_FAMILIES)
"""Values of `model_type` that `architecture_from_config` reads."""

_LOOK_ALIKES = ("deepseek_v3", "glm4_moe", "bailing_moe_v2", "qwen3_moe", "minimax_m2", "mixtral")
"""Families whose fields tell them: a config of another name with all of them is read as theirs."""


def architecture_from_config(
    config: Mapping[str, Any], name: str = "", origin: str = "config.json"
) -> ModelArchitecture:
    """Return the sizes that a model's `config.json` states.

    Parameters
    ----------
    config
        The object of the file; a multimodal config may nest its text model. A key ``afdplan`` may
        hold ``name``, ``source`` and ``published_parameters``; a key ``hf_quant_config`` what
        stands in the file of that name beside it.
    name
        Name to use if the config states none.
    origin
        What to call the config in messages, usually its path.

    Raises
    ------
    InvalidInputError
        If `model_type` is unknown and its fields are not those of a known one (the known ones are
        listed), or a field that this architecture needs is missing or out of its domain (it is
        named).

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
    text, quantization = _text_model(config)
    family, told_as = _family(text, origin)
    fields = ConfigFields(text, origin)
    decoder_layers, apart = 0, family.blocks is nemotron_h_blocks
    if family.blocks is not None:
        blocks = family.blocks(fields)
        decoder_layers = fields.count("num_hidden_layers", default=len(blocks))
    else:
        layers = fields.layers
        mixers = MIXERS[family.mixers](fields, layers)
        networks = feed_forward_layers(fields, family.networks, layers)
        blocks = tuple(
            Block(mixers=(mixer,), feed_forward=(network,))
            for mixer, network in zip(mixers, networks, strict=True)
        )
    formats = checkpoint_format(
        text,
        quantization,
        config.get("hf_quant_config"),
        modules_of_model(
            blocks, fields.count("hidden_size"), apart=apart, model_type=str(text["model_type"])
        ),
    )
    published = fields.number("published_parameters", facts.get("published_parameters", 0.0))
    return ModelArchitecture(
        name=str(facts.get("name") or name or config.get("_name_or_path") or text["model_type"]),
        hidden_size=fields.count("hidden_size"),
        vocabulary_size=fields.count("vocab_size"),
        blocks=blocks,
        decoder_layers=decoder_layers,
        prediction_layers=fields.count(*family.prediction_layers, minimum=0, default=0),
        tied_embeddings=text.get("tie_word_embeddings") is True,
        precision=formats.weights,
        cache_precision=formats.cache,
        cache_unread=formats.cache_unread,
        attention_precision=formats.attention,
        stored=formats.precision,
        precision_source=formats.told,
        published_parameters=published,
        source=str(facts.get("source") or origin),
        notes=() if told_as is None else (told_as,),
    )


def _text_model(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], Any]:
    """Return the text model's object, however deep it is nested, and the quantisation."""
    quantization = _quantization(config)
    for _ in range(3):
        if str(config.get("model_type")) in _FAMILIES and "hidden_size" in config:
            break
        inner = next((config[key] for key in NESTED if isinstance(config.get(key), Mapping)), None)
        if inner is None:
            break
        # Some nest the sizes and leave the type outside.
        outer = {key: config[key] for key in _OUTSIDE if config.get(key) is not None}
        config = {"model_type": config.get("model_type"), **outer, **inner}
        quantization = _quantization(inner) or quantization
    return config, quantization


def _quantization(config: Mapping[str, Any]) -> Any:
    """Return what a config says of its quantisation, under any of its names; None for nothing."""
    stated = [config[key] for key in _QUANTIZATIONS if config.get(key) not in (None, False)]
    if len(stated) > 1 and any(one != stated[0] for one in stated):
        return f"of {' and '.join(key for key in _QUANTIZATIONS if config.get(key))}, which differ"
    return stated[0] if stated else None


def _family(config: Mapping[str, Any], origin: str) -> tuple[_Family, str | None]:
    """Return the family of a config, and what to say if it goes by another name."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise _unknown(model_type, origin)
    if model_type in _FAMILIES:
        family = _FAMILIES[model_type]
        is_plain = family.blocks is None and family.mixers in ("grouped", "latent")
        special = unread_layers(dict(config)) if is_plain else None
        if special is not None:
            raise InvalidInputError(
                f"{origin}: {special} speaks of layers that a {model_type} model does not have: "
                "its model_type is another one's, or it is newer than this version"
            )
        return family, None
    for known in _LOOK_ALIKES:
        names = _FAMILIES[known].networks
        needed = {names.experts, names.experts_per_token, names.expert_size, names.first_dense}
        needed |= {"kv_lora_rank"} if known == "deepseek_v3" else {"num_key_value_heads"}
        if unread_layers(dict(config)) is not None or _unread_networks(config, names):
            continue
        if needed - {""} <= config.keys():
            return _FAMILIES[known], (
                f"model_type {model_type:.40} is not known: read as {known}, whose fields it has"
            )
    raise _unknown(model_type, origin)


def _unread_networks(config: Mapping[str, Any], names: FeedForwardFields) -> bool:
    """Return whether a config speaks of shared experts or dense layers that `names` passes over."""
    told = {key for key, value in config.items() if value and not isinstance(value, bool)}
    shared = {key for key in told if "shared_expert" in key or key == "shared_intermediate_size"}
    dense = told & {"first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"}
    # Where experts stand, of what width they are, and how many of them do nothing.
    where = ("moe_layer", "moe_every", "expert_layer", "interleave", "latent", "zero_expert",
             "routed_expert_hidden")  # fmt: skip
    known = {"moe_layer_freq", "moe_layers_enum", "mlp_layer_types", "interleaved"}
    strange = any(part in key for key in told - known for part in where)
    return bool(
        strange
        or (shared and not shared & {names.shared_experts, names.shared_size})
        or (dense and names.first_dense not in dense)
    )


def _unknown(model_type: Any, origin: str) -> InvalidInputError:
    return InvalidInputError(
        f"{origin}: model_type must be one of {', '.join(KNOWN_ARCHITECTURES)}, "
        f"got {model_type!r:.60}"
    )
