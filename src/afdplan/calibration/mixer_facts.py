"""Which attention or recurrent layers does a config state, layer by layer?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from afdplan.calibration.architecture import Mixer
from afdplan.calibration.attention import (
    CompressedAttention,
    GroupedAttention,
    LatentAttention,
    SparseIndexer,
)
from afdplan.calibration.config_fields import ConfigFields
from afdplan.calibration.recurrent import DeltaAttention

__all__ = ["MIXERS", "grouped_heads"]

HEAD_SIZES = {"qwen3": 128, "glm4_moe": 128, "gpt_oss": 64}
"""What the classes of these families take where no head_dim is stated (transformers)."""

HEAD_NORMS = ("qwen3", "gemma4", "bailing_moe_v2", "step3p", "minimax_m")
"""Families whose queries and keys are always normalized head by head; others say so."""


def grouped_heads(
    fields: ConfigFields, *, prefix: str = "", gated: bool = False
) -> GroupedAttention:
    """Return grouped heads; configs without head_dim mean hidden_size / heads."""
    heads = fields.count(f"{prefix}num_attention_heads")
    name = f"{prefix}num_key_value_heads"
    kv_heads = fields.count(name, f"{prefix}num_attention_groups")
    if heads % kv_heads:
        raise fields.fail(
            f"{prefix}num_attention_heads must be a multiple of {name} = {kv_heads}, got {heads}"
        )
    size = fields.optional(f"{prefix}head_dim", f"{prefix}attention_head_dim")
    if size is None:
        size = HEAD_SIZES.get(str(fields.values.get("model_type")))
    if size is None:
        size, rest = divmod(fields.count("hidden_size"), heads)
        if rest or not size:
            raise fields.fail(
                f"{prefix}head_dim is missing, and {prefix}num_attention_heads = {heads} does not "
                "divide hidden_size"
            )
    return GroupedAttention(
        query_heads=heads,
        kv_heads=kv_heads,
        head_size=size,
        value_size=fields.optional(f"{prefix}v_head_dim"),
        query_rank=fields.optional(f"{prefix}share_q_dim"),
        gated=gated,
        head_norms=_has_head_norms(fields),
    )


def _has_head_norms(fields: ConfigFields) -> bool:
    said = fields.values.get("use_qk_norm")
    if said is None:
        return str(fields.values.get("model_type", "")).startswith(HEAD_NORMS)
    return said is True


def _latent_heads(fields: ConfigFields, *, gated: bool = False) -> LatentAttention:
    return LatentAttention(
        query_heads=fields.count("num_attention_heads"),
        query_rank=fields.optional("q_lora_rank"),
        kv_rank=fields.count("kv_lora_rank"),
        plain_key_size=fields.count("qk_nope_head_dim"),
        rotary_key_size=fields.count("qk_rope_head_dim"),
        value_size=fields.count("v_head_dim"),
        gated=gated,
    )


def _kinds(fields: ConfigFields, layers: int, *known: str) -> list[str] | None:
    """Return layer_types if it is stated, each one of `known`."""
    kinds = fields.listed("layer_types", layers)
    for kind in kinds or ():
        if kind not in known:
            raise fields.fail(f"layer_types must be {' or '.join(known)}, got {kind!r:.80}")
    return kinds


_PATTERNS = ("sliding_window_pattern", "_sliding_window_pattern", "global_attn_every_n_layers")
"""Fields that say of how many layers one sees all."""


def _grouped(fields: ConfigFields, layers: int) -> list[Mixer]:
    """Return grouped attention, of which some layers may see a window only."""
    heads = grouped_heads(fields)
    whole = Mixer(heads=heads)
    kinds = _kinds(fields, layers, "full_attention", "sliding_attention")
    window = fields.optional("sliding_window")
    if any(kind != 1 for kind in fields.listed("attn_type_list", layers) or ()):
        raise fields.fail("attn_type_list has layers of linear attention: they are not read")
    # Qwen's classes slide only if they are told to.
    is_qwen = str(fields.values.get("model_type")).startswith("qwen")
    if fields.values.get("use_sliding_window", False if is_qwen else None) is False:
        return [whole] * layers
    if window is None:
        if "sliding_attention" in (kinds or ()):
            raise fields.fail("sliding_window is missing; layer_types has layers that slide")
        return [whole] * layers
    sliding = Mixer(heads=heads, window=window)
    if kinds is None and fields.values.get("model_type") == "gpt_oss":  # every other one slides
        return [(sliding, whole)[layer % 2] for layer in range(layers)]
    stated = [fields.values[name] for name in _PATTERNS if fields.values.get(name) is not None]
    pattern = stated[0] if stated else None
    if kinds is None and pattern is not None:
        return _by_pattern(fields, pattern, whole, sliding, layers)
    if kinds is None:  # Qwen's first layers see all
        first = min(layers, fields.count("max_window_layers", minimum=0, default=0))
        return [whole] * first + [sliding] * (layers - first)
    return [sliding if kind == "sliding_attention" else whole for kind in kinds]


def _by_pattern(
    fields: ConfigFields, pattern: Any, whole: Mixer, sliding: Mixer, layers: int
) -> list[Mixer]:
    """Return layers of which every n-th sees all, or as letters (L, G) say it over and over."""
    if isinstance(pattern, str) and pattern and set(pattern) <= set("LG"):
        return [whole if pattern[i % len(pattern)] == "G" else sliding for i in range(layers)]
    every = fields.count(*_PATTERNS)
    return [sliding if (i + 1) % every else whole for i in range(layers)]


def _latent(fields: ConfigFields, layers: int) -> list[Mixer]:
    if fields.values.get("sliding_window") and fields.values.get("use_sliding_window") is not False:
        raise fields.fail("sliding_window: windows of latent attention are not read")
    return [Mixer(heads=_latent_heads(fields))] * layers


def _sparse_latent(fields: ConfigFields, layers: int) -> list[Mixer]:
    """Return latent attention with an indexer; some layers may reuse what another selected."""
    indexer = SparseIndexer(
        heads=fields.count("index_n_heads"), head_size=fields.count("index_head_dim")
    )
    heads, selected = _latent_heads(fields), fields.count("index_topk")
    full = Mixer(heads=heads, selected_tokens=selected, indexer=indexer)
    shared = Mixer(heads=heads, selected_tokens=selected)
    kinds = fields.listed("indexer_types", layers) or ["full"] * layers
    if not {*map(str, kinds)} <= {"full", "shared"}:
        raise fields.fail("indexer_types must be full or shared")
    return [full if kind == "full" else shared for kind in kinds]


def _compressed(fields: ConfigFields, layers: int) -> list[Mixer]:
    """Return DeepSeek-V4's layers: overlapping and selected (4), dense (more), window (0)."""
    ratios = fields.listed("compress_ratios", layers)
    if ratios is None:
        raise fields.fail("compress_ratios is missing; a deepseek_v4 config must state it")
    window = fields.count("sliding_window")
    found = []
    for ratio in ratios:
        if isinstance(ratio, bool) or not isinstance(ratio, int) or not 0 <= ratio <= 65_536:
            raise fields.fail(f"compress_ratios must be integers >= 0, got {ratio!r:.80}")
        overlaps = ratio == 4
        heads = CompressedAttention(
            query_heads=fields.count("num_attention_heads"),
            head_size=fields.count("head_dim"),
            query_rank=fields.count("q_lora_rank"),
            output_rank=fields.count("o_lora_rank"),
            output_groups=fields.count("o_groups"),
            compressors=4 if overlaps else 2 if ratio else 0,
        )
        if not ratio:
            found.append(Mixer(heads=heads, window=window))
            continue
        indexer = None
        if overlaps:
            indexer = SparseIndexer(
                heads=fields.count("index_n_heads"),
                head_size=fields.count("index_head_dim"),
                compressors=4,
            )
        found.append(
            Mixer(
                heads=heads,
                compression=ratio,
                selected_tokens=fields.count("index_topk") if overlaps else None,
                indexer=indexer,
                local_tokens=window,
            )
        )
    return found


def _chunked(fields: ConfigFields, layers: int) -> list[Mixer]:
    """Return Llama-4's layers: three of four read the chunk in which the token stands."""
    heads = grouped_heads(fields)
    chunk = fields.optional("attention_chunk_size")
    kinds = _kinds(fields, layers, "full_attention", "chunked_attention")
    if kinds is None:
        every = fields.count("no_rope_layer_interval", default=4)
        rotary = (
            fields.listed("no_rope_layers", layers) if fields.values.get("no_rope_layers") else None
        )
        rotary = rotary or [(i + 1) % every for i in range(layers)]
        kinds = ["chunked_attention" if flag else "full_attention" for flag in rotary]
    local = Mixer(heads=heads, window=chunk)
    return [local if kind == "chunked_attention" else Mixer(heads=heads) for kind in kinds]


def _two_sizes(fields: ConfigFields, layers: int) -> list[Mixer]:
    """Return MiMo-V2's layers: sliding ones have head counts of their own."""
    whole = Mixer(heads=grouped_heads(fields))
    sliding = Mixer(
        heads=grouped_heads(fields, prefix="swa_"),
        window=fields.count("sliding_window", "sliding_window_size"),
    )
    pattern = fields.listed("hybrid_layer_pattern", layers)
    if pattern is None:
        raise fields.fail("hybrid_layer_pattern is missing; it says which layers slide")
    return [sliding if entry else whole for entry in pattern]


def _global_keys(fields: ConfigFields, layers: int) -> list[Mixer]:
    """Return Gemma 4's layers: those that read all have wider heads, fewer keys, no values."""
    if fields.count("num_kv_shared_layers", minimum=0, default=0):
        raise fields.fail("num_kv_shared_layers: layers that share a KV cache are not read")
    sliding = Mixer(heads=grouped_heads(fields), window=fields.count("sliding_window"))
    whole = Mixer(
        heads=GroupedAttention(
            query_heads=fields.count("num_attention_heads"),
            kv_heads=fields.count("num_global_key_value_heads", "num_key_value_heads"),
            head_size=fields.count("global_head_dim", "head_dim"),
            values_are_keys=fields.flag("attention_k_eq_v"),
        )
    )
    kinds = _kinds(fields, layers, "full_attention", "sliding_attention")
    if kinds is None:
        raise fields.fail("layer_types is missing; it says which layers slide")
    return [sliding if kind == "sliding_attention" else whole for kind in kinds]


def _block_sparse(fields: ConfigFields, layers: int) -> list[Mixer]:
    """Return MiniMax-M3's layers: blocks of tokens chosen by a small index."""
    heads = grouped_heads(fields)
    stated = fields.values.get("sparse_attention_config")
    if not isinstance(stated, dict) or not stated.get("use_sparse_attention"):
        return [Mixer(heads=heads)] * layers
    sparse = ConfigFields(stated, fields.origin)
    selected = sparse.count("sparse_topk_blocks") * sparse.count("sparse_block_size")
    indexer = SparseIndexer(
        heads=sparse.count("sparse_num_index_heads"), head_size=sparse.count("sparse_index_dim")
    )
    chosen = Mixer(heads=heads, selected_tokens=selected, indexer=indexer)
    used = sparse.listed("sparse_attention_freq", layers) or [1] * layers
    return [chosen if flag else Mixer(heads=heads) for flag in used]


def _gated_delta(fields: ConfigFields, layers: int) -> list[Mixer]:
    """Return Qwen3-Next's layers: three of four are linear, the others gated attention."""
    linear = Mixer(
        heads=DeltaAttention(
            query_heads=fields.count("linear_num_value_heads"),
            key_heads=fields.count("linear_num_key_heads"),
            key_size=fields.count("linear_key_head_dim"),
            value_size=fields.count("linear_value_head_dim"),
            convolution=fields.count("linear_conv_kernel_dim"),
            state_value_bytes=state_value_bytes(fields),
        )
    )
    gated = fields.values.get("attn_output_gate") is not False
    whole = Mixer(heads=grouped_heads(fields, gated=gated))
    kinds = _kinds(fields, layers, "full_attention", "linear_attention")
    if kinds is None:
        every = fields.count("full_attention_interval", default=4)
        kinds = ["linear_attention" if (i + 1) % every else "full_attention" for i in range(layers)]
    return [linear if kind == "linear_attention" else whole for kind in kinds]


def _kimi_linear(fields: ConfigFields, layers: int) -> list[Mixer]:
    """Return Kimi Linear's layers: the gated delta rule, and latent attention in some."""
    stated = fields.values.get("linear_attn_config")
    if not isinstance(stated, dict):
        raise fields.fail("linear_attn_config is missing; a kimi_linear config must state it")
    sizes = ConfigFields(stated, fields.origin)
    heads, size = sizes.count("num_heads"), sizes.count("head_dim")
    linear = Mixer(
        heads=DeltaAttention(
            query_heads=heads,
            key_heads=heads,
            key_size=size,
            value_size=size,
            convolution=sizes.count("short_conv_kernel_size"),
            gate_rank=size,
            full_rank_gate=sizes.flag("use_full_rank_gate"),
        )
    )
    whole = Mixer(heads=_latent_heads(fields, gated=fields.flag("mla_use_output_gate")))
    full = stated.get("full_attn_layers")
    if not isinstance(full, list) or not all(isinstance(i, int) for i in full):
        raise fields.fail("full_attn_layers must list layer numbers, counted from 1")
    return [whole if i + 1 in full else linear for i in range(layers)]


def state_value_bytes(fields: ConfigFields) -> int:
    """Return the bytes of one number of a recurrent state: servers keep 32 bits unless told."""
    names = ("mamba_ssm_dtype", "mamba_ssm_cache_dtype")
    stated = next((fields.values[name] for name in names if fields.values.get(name)), "float32")
    return 4 if str(stated).removeprefix("torch.") == "float32" else 2


MIXERS: dict[str, Callable[[ConfigFields, int], list[Mixer]]] = {
    "grouped": _grouped,
    "latent": _latent,
    "sparse latent": _sparse_latent,
    "compressed": _compressed,
    "chunked": _chunked,
    "two sizes": _two_sizes,
    "global keys": _global_keys,
    "block sparse": _block_sparse,
    "gated delta": _gated_delta,
    "kimi linear": _kimi_linear,
}
"""How a family lays out its layers that mix tokens, by name."""


def unread_layers(values: dict[str, Any]) -> str | None:
    """Return a field that speaks of layers which a plain reading would miss; None if none does.

    Examples
    --------
    >>> unread_layers({"mamba_num_heads": 64})
    'mamba_num_heads'
    """
    parts = ("mamba", "ssm", "linear_", "compress", "kda", "rwkv", "index_", "sparse_attention",
             "hybrid", "conv_kernel", "conv_l_cache", "layer_group", "block_configs", "cross_layer",
             "kv_shared", "use_cla", "swa_", "global_head_dim", "num_global_key", "attention_chunk",
             "attn_output_gate", "hc_mult", "sliding_window_layout", "sliding_window_size",
             "attention_window", "window_attn")  # fmt: skip
    for name, value in values.items():
        if name == "compression_config":  # of weights
            continue
        if value and any(part in name.lower() for part in parts):
            return name
    return None
