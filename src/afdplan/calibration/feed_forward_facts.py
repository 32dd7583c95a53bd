"""Which feed-forward networks does a config state, layer by layer?"""

from __future__ import annotations

from dataclasses import dataclass

from afdplan.calibration.architecture import FeedForward
from afdplan.calibration.config_fields import ConfigFields

__all__ = ["FeedForwardFields", "feed_forward_layers"]

ERNIE_END = "moe_layer_end_index"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedForwardFields:
    """Where one family of configs keeps the sizes of its networks; empty names are not used.

    Attributes
    ----------
    experts, experts_per_token, expert_size
        Routed experts.
    shared_experts, shared_size
        Number of shared experts of `expert_size`, or their total width.
    first_dense, every
        Leading layers without experts; or experts in every such layer.
    dense_size
        Width of a network without experts.
    is_beside
        Whether every layer has the dense network and the experts (Gemma 4).
    latent_size
        Width of the space in which experts work.
    """

    experts: str = ""
    experts_per_token: str = "num_experts_per_tok"
    expert_size: str = "moe_intermediate_size"
    shared_experts: str = ""
    shared_size: str = ""
    first_dense: str = ""
    every: str = ""
    dense_size: str = "intermediate_size"
    is_beside: bool = False
    latent_size: str = ""


def feed_forward_layers(
    fields: ConfigFields, names: FeedForwardFields, layers: int
) -> list[FeedForward]:
    """Return the network of every layer."""
    routed = _routed_layers(fields, names, layers)
    by_kind = {}
    if not all(routed):
        by_kind[False] = FeedForward(dense_size=fields.count(names.dense_size))
    if any(routed):
        by_kind[True] = _expert(fields, names)
    return [by_kind[is_routed] for is_routed in routed]


def _expert(fields: ConfigFields, names: FeedForwardFields) -> FeedForward:
    experts = fields.count(names.experts)
    size = fields.count(names.expert_size)
    chosen = fields.count(names.experts_per_token)
    if chosen > experts:
        raise fields.fail(
            f"{names.experts_per_token} must be at most {names.experts} = {experts}, got {chosen}"
        )
    shared = 0
    if names.shared_experts:
        shared = fields.count(names.shared_experts, minimum=0, default=0) * size
    elif names.shared_size:
        shared = fields.count(names.shared_size, minimum=0, default=0)
    if names.is_beside:
        shared = fields.count(names.dense_size)
    return FeedForward(
        dense_size=shared,
        experts=experts,
        experts_per_token=chosen,
        expert_size=size,
        expert_hidden_size=fields.optional(names.latent_size) if names.latent_size else None,
    )


def _routed_layers(fields: ConfigFields, names: FeedForwardFields, layers: int) -> list[bool]:
    """Return which layers have experts, by whatever field says it."""
    if not names.experts:
        return [False] * layers
    if names.is_beside:
        return [fields.values.get("enable_moe_block") is not False] * layers
    kinds = fields.listed("mlp_layer_types", layers)
    if kinds is not None:
        if not {*map(str, kinds)} <= {"dense", "sparse"}:
            raise fields.fail("mlp_layer_types must be dense or sparse")
        return [kind == "sparse" for kind in kinds]
    if names.first_dense:
        dense = fields.count(names.first_dense, minimum=0)
        if dense > layers:
            raise fields.fail(
                f"{names.first_dense} must be at most num_hidden_layers = {layers}, got {dense}"
            )
        listed = fields.values.get("moe_layer_freq")
        if isinstance(listed, list):
            return [bool(flag) for flag in fields.listed("moe_layer_freq", layers) or ()]
        step = fields.count("moe_layer_freq", default=1)
        if names.first_dense != "moe_layer_start_index":
            return [i >= dense and i % step == 0 for i in range(layers)]
        step, end = fields.count("moe_layer_interval", default=1), fields.values.get(ERNIE_END)
        last = layers - 1 if end in (None, -1) else fields.count(ERNIE_END, minimum=0)
        return [dense <= i <= last and (i + 1) % step == 0 for i in range(layers)]
    if names.every and fields.values.get("moe_layers"):
        return _chosen(fields, "moe_layers", layers)
    if names.every:
        every = fields.count(names.every, default=1)
        return [(i + 1) % every == 0 for i in range(layers)]
    frequency = fields.values.get("moe_layer_freq")
    if isinstance(frequency, list):
        return [bool(flag) for flag in fields.listed("moe_layer_freq", layers) or ()]
    if fields.values.get("moe_layers_enum") is not None:
        return _chosen(fields, "moe_layers_enum", layers)
    only = fields.values.get("mlp_only_layers") or []
    if not isinstance(only, list):
        raise fields.fail(f"mlp_only_layers must be a list, got {only!r:.80}")
    step = fields.count("decoder_sparse_step", default=1)
    return [i not in only and (i + 1) % step == 0 for i in range(layers)]


def _chosen(fields: ConfigFields, name: str, layers: int) -> list[bool]:
    """Return which layers a field lists by their numbers."""
    chosen = fields.values[name]
    try:
        listed = chosen.split(",") if isinstance(chosen, str) else chosen
        numbers = {int(layer) for layer in listed}
    except (TypeError, ValueError):
        raise fields.fail(f"{name} must list layer numbers, got {chosen!r:.80}") from None
    return [i in numbers for i in range(layers)]
