"""Which modules of a checkpoint are experts, dense networks and attention, by any tool's names?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from afdplan.calibration.architecture import Block, FeedForward, Mixer
from afdplan.calibration.attention import (
    CompressedAttention,
    GroupedAttention,
    LatentAttention,
)
from afdplan.calibration.checkpoint_rules import Resolver, Stored
from afdplan.calibration.recurrent import DeltaAttention, StateSpace

__all__ = ["Part", "Share", "modules_of_config", "modules_of_model", "shares"]

Part = Literal["experts", "dense", "attention"]
Names = tuple[tuple[str, float], ...]
"""Modules after ``layers.N.`` with what each weighs against the others."""


class Modules(NamedTuple):
    """One part of one layer.

    Attributes
    ----------
    layer
        Its number, from 0.
    part
        Whose format it is.
    parameters
        Of all its modules.
    namings
        How tools may call them, the usual way first.
    """

    layer: int
    part: Part
    parameters: float
    namings: tuple[Names, ...]


class Share(NamedTuple):
    """A format and the parameters that are stored in it."""

    stored: Stored
    parameters: float


_GATED = (
    (("gate_proj", 1.0), ("up_proj", 1.0), ("down_proj", 1.0)),
    (("w1", 1.0), ("w3", 1.0), ("w2", 1.0)),
    (("gate_up_proj", 2.0), ("down_proj", 1.0)),
)
_PLAIN = ((("up_proj", 1.0), ("down_proj", 1.0)),)
_NETWORKS = ("mlp", "feed_forward", "block_sparse_moe", "ffn", "mixer", "moe")
_SHARED = ("shared_experts", "shared_expert", "shared_mlp")


def _under(stems: Sequence[str], projections: Sequence[Names]) -> tuple[Names, ...]:
    return tuple(
        tuple((f"{stem}.{name}", weight) for name, weight in names)
        for stem in stems
        for names in projections
    )


def _experts(matrices: int, count: int, is_beside: bool) -> tuple[Names, ...]:
    """Return the names of a few experts, alone or in one module, in one layer."""
    projections = _GATED if matrices == 3 else _PLAIN
    stems = ("experts", "moe.experts") if is_beside else tuple(f"{n}.experts" for n in _NETWORKS)
    some = sorted({0, count // 2, count - 1})
    alone = tuple(
        tuple((f"{stem}.{expert}.{name}", weight) for expert in some for name, weight in names)
        for stem in stems
        for names in projections
    )
    return alone + _under(stems, projections)


def _network(network: FeedForward, is_beside: bool) -> tuple[Names, ...]:
    projections = _GATED if network.matrices == 3 else _PLAIN
    stems: tuple[str, ...] = _NETWORKS
    if network.experts and not is_beside:
        stems = tuple(f"{name}.{shared}" for shared in _SHARED for name in _NETWORKS)
        stems += ("shared_mlp", "share_expert", "shared_expert")
    return _under(stems, projections)


def _attention(mixer: Mixer, hidden: int) -> tuple[Names, ...]:
    """Return the projections of a layer that mixes tokens, with their sizes."""
    heads = mixer.heads
    match heads:
        case GroupedAttention():
            values = heads.head_size if heads.value_size is None else heads.value_size
            query = heads.query_heads * heads.head_size * (2 if heads.gated else 1)
            keys, rows = heads.kv_heads * heads.head_size, heads.kv_heads * values
            out = heads.query_heads * values
            apart = (("q_proj", query), ("k_proj", keys), ("v_proj", rows), ("o_proj", out))
            fused = (("qkv_proj", query + keys + rows), ("o_proj", out))
            return (
                *_under(("self_attn", "mixer", "attention", "attn"), (apart, fused)),
                *_under(
                    ("attention", "self_attn"),
                    ((("query_key_value", query + keys + rows), ("dense", out)),),
                ),
            )
        case LatentAttention():
            query = heads.query_heads * (heads.plain_key_size + heads.rotary_key_size)
            up = heads.query_heads * (heads.plain_key_size + heads.value_size)
            queries: Names = (("q_proj", hidden * query),)
            if heads.query_rank is not None:
                second = ("q_b_proj", heads.query_rank * query)
                queries = (("q_a_proj", hidden * heads.query_rank), second)
            rest: Names = (
                ("kv_a_proj_with_mqa", hidden * heads.cached_values),
                ("kv_b_proj", up * heads.kv_rank),
                ("o_proj", hidden * heads.query_heads * heads.value_size),
            )
            return _under(("self_attn",), (queries + rest,))
        case CompressedAttention():
            width = heads.query_heads * heads.head_size
            ranks = heads.output_groups * heads.output_rank
            sizes = (
                hidden * heads.query_rank,
                heads.query_rank * width,
                hidden * heads.head_size,
                width // heads.output_groups * ranks,
                hidden * ranks,
            )
            forms = (
                ("wq_a", "wq_b", "wkv", "wo_a", "wo_b"),
                ("q_a_proj", "q_b_proj", "kv_proj", "o_a_proj", "o_b_proj"),
            )
            named = tuple(tuple(zip(form, sizes, strict=True)) for form in forms)
            return _under(("attn", "self_attn"), named)
        case DeltaAttention():
            keys = heads.key_heads * heads.key_size
            values = heads.query_heads * heads.value_size
            output = ("out_proj", values)
            return (
                *_under(
                    ("linear_attn",),
                    (
                        (("in_proj_qkvz", 2 * keys + 2 * values), output),
                        (("in_proj_qkv", 2 * keys + values), ("in_proj_z", values), output),
                    ),
                ),
                *_under(
                    ("self_attn", "linear_attn"),
                    ((("q_proj", keys), ("k_proj", keys), ("v_proj", values), ("o_proj", values)),),
                ),
            )
        case StateSpace():
            inner = heads.query_heads * heads.head_size
            wide = 2 * inner + 2 * heads.groups * heads.state_size
            return _under(("mixer", "mamba"), ((("in_proj", wide), ("out_proj", inner)),))
    return ()


def modules_of_model(
    blocks: Sequence[Block], hidden_size: int, *, apart: bool, model_type: str
) -> tuple[Modules, ...]:
    """Return the parts of every layer of a model.

    Parameters
    ----------
    blocks
        Its round trips.
    hidden_size
        Its width.
    apart
        Whether mixers and networks are layers of their own (Nemotron-H).
    model_type
        Gemma has a dense network beside the experts, under the name that experts have elsewhere.
    """
    beside = model_type.startswith("gemma")
    return tuple(_modules(blocks, hidden_size, apart, beside))


def _modules(blocks: Sequence[Block], hidden: int, apart: bool, beside: bool) -> Iterator[Modules]:
    known: dict[Mixer | FeedForward, list[tuple[Part, float, tuple[Names, ...]]]] = {}
    layer = 0
    for block in blocks:
        parts: tuple[Mixer | FeedForward, ...] = (*block.mixers, *block.feed_forward)
        for part in parts:
            if part not in known:
                known[part] = list(_named(part, hidden, beside))
            yield from (Modules(layer, *one) for one in known[part])
            layer += apart
        layer += not apart


def _named(
    part: Mixer | FeedForward, hidden: int, beside: bool
) -> Iterator[tuple[Part, float, tuple[Names, ...]]]:
    """Yield what a layer is a part of, its parameters and its names."""
    if isinstance(part, Mixer):
        yield "attention", part.parameters(hidden), _attention(part, hidden)
        return
    if part.experts:
        count = part.experts * part.expert_parameters(hidden)
        yield "experts", count, _experts(part.matrices, part.experts, beside)
    if part.dense_size:
        yield "dense", part.matrices * hidden * part.dense_size, _network(part, beside)


def modules_of_config(config: Mapping[str, Any]) -> tuple[Modules, ...]:
    """Return the parts of every layer by a config's numbers of layers and experts alone."""
    stated = config.get("num_hidden_layers")
    layers = stated if isinstance(stated, int) and 0 < stated <= 10_000 else 1
    counts = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    found = [config[key] for key in counts if isinstance(config.get(key), int) and config[key] > 0]
    network = FeedForward(dense_size=64)
    if found:
        network = FeedForward(experts=found[0], experts_per_token=1, expert_size=64)
    heads = GroupedAttention(query_heads=8, kv_heads=8, head_size=64)
    block = Block(mixers=(Mixer(heads=heads),), feed_forward=(network,))
    return modules_of_model(
        (block,) * layers, 64, apart=False, model_type=str(config.get("model_type"))
    )


def shares(
    modules: Sequence[Modules], rules: Resolver, default: Stored
) -> dict[Part, tuple[Share, ...]]:
    """Return how the parameters of each part are stored, the commonest format first.

    Tools name modules in several ways: the way counts in which the rules name most.
    """
    kinds: dict[tuple[Part, tuple[Names, ...]], list[Modules]] = {}
    for one in modules:
        kinds.setdefault((one.part, one.namings), []).append(one)
    found: dict[Part, dict[Stored, float]] = {}
    for (part, namings), layers in kinds.items():
        counted = found.setdefault(part, {})
        best: dict[Stored, float] = {default: sum(one.parameters for one in layers)}
        named = 0.0
        for names in () if rules.is_empty else namings:
            touched, stored = _by_names(layers, names, rules, default)
            if touched > named:
                best, named = stored, touched
        for form, parameters in best.items():
            counted[form] = counted.get(form, 0.0) + parameters
    return {
        part: tuple(sorted((Share(*one) for one in forms.items()), key=lambda s: -s.parameters))
        for part, forms in found.items()
    }


def _by_names(
    layers: Sequence[Modules], names: Names, rules: Resolver, default: Stored
) -> tuple[float, dict[Stored, float]]:
    """Return the parameters that rules name under some names, and all by format."""
    sizes: dict[int, float] = {}
    alike: int | None = None
    for one in layers:
        layer = one.layer
        # Layers that no rule tells from others are all alike: the first stands for them.
        if rules.layers is not None and str(layer) not in rules.layers:
            layer = alike = one.layer if alike is None else alike
        sizes[layer] = sizes.get(layer, 0.0) + one.parameters
    touched, whole = 0.0, sum(weight for _, weight in names)
    stored: dict[Stored, float] = {}
    for layer, parameters in sizes.items():
        for name, weight in names:
            size = parameters * weight / whole
            found = rules.of(f"layers.{layer}.{name}")
            touched += size * (found is not None)
            form = default if found is None else found
            stored[form] = stored.get(form, 0.0) + size
    return touched, stored
