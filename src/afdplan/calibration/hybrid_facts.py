"""Which round trips does a config state whose layers are not all of one form?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from afdplan.calibration.architecture import Block, FeedForward, Mixer
from afdplan.calibration.attention import GroupedAttention
from afdplan.calibration.config_fields import ConfigFields
from afdplan.calibration.mixer_facts import grouped_heads, state_value_bytes
from afdplan.calibration.recurrent import StateSpace

__all__ = ["nemotron_h_blocks", "searched_blocks", "together"]

_LETTERS = {"M": "mamba", "*": "attention", "E": "moe", "-": "mlp"}


def together(layers: Sequence[Mixer | FeedForward]) -> tuple[Block, ...]:
    """Return round trips: mixers that follow each other are one stay, and so are networks.

    Examples
    --------
    >>> heads = GroupedAttention(query_heads=8, kv_heads=8, head_size=64)
    >>> a, f = Mixer(heads=heads), FeedForward(dense_size=128)
    >>> [(len(b.mixers), len(b.feed_forward)) for b in together([a, f, a, a, f, f, a])]
    [(1, 1), (2, 2), (1, 0)]
    """
    blocks: list[Block] = []
    mixers: list[Mixer] = []
    networks: list[FeedForward] = []
    for layer in layers:
        if isinstance(layer, FeedForward):
            networks.append(layer)
            continue
        if networks:
            blocks.append(Block(mixers=tuple(mixers), feed_forward=tuple(networks)))
            mixers, networks = [], []
        mixers.append(layer)
    return (*blocks, Block(mixers=tuple(mixers), feed_forward=tuple(networks)))


def nemotron_h_blocks(fields: ConfigFields) -> tuple[Block, ...]:
    """Return Nemotron-H: Mamba-2, attention, experts and dense networks in any order."""
    kinds = _kinds(fields)
    mamba = attention = experts = dense = None
    if "mamba" in kinds:
        mamba = Mixer(
            heads=StateSpace(
                query_heads=fields.count("mamba_num_heads"),
                head_size=fields.count("mamba_head_dim"),
                state_size=fields.count("ssm_state_size"),
                groups=fields.count("n_groups"),
                convolution=fields.count("conv_kernel"),
                state_value_bytes=state_value_bytes(fields),
            )
        )
    if "attention" in kinds:
        attention = Mixer(heads=grouped_heads(fields))
    # Squared ReLU: two matrices, no gate.
    if "moe" in kinds:
        shared = fields.count("moe_shared_expert_intermediate_size", minimum=0, default=0)
        experts = FeedForward(
            dense_size=shared * fields.count("n_shared_experts", minimum=0, default=1),
            experts=fields.count("n_routed_experts"),
            experts_per_token=fields.count("num_experts_per_tok"),
            expert_size=fields.count("moe_intermediate_size"),
            expert_hidden_size=fields.optional("moe_latent_size"),
            matrices=2,
        )
    if "mlp" in kinds:
        dense = FeedForward(dense_size=fields.count("intermediate_size"), matrices=2)
    by_kind = {"mamba": mamba, "attention": attention, "moe": experts, "mlp": dense}
    return together([layer for kind in kinds if (layer := by_kind[kind]) is not None])


def _kinds(fields: ConfigFields) -> list[str]:
    listed = fields.values.get("layers_block_type")
    if listed is None:
        pattern = fields.values.get("hybrid_override_pattern")
        if not isinstance(pattern, str) or not pattern or len(pattern) > 10_000:
            raise fields.fail("hybrid_override_pattern must name each layer by M, *, E or -")
        listed = [_LETTERS.get(letter, letter) for letter in pattern]
    if not isinstance(listed, list) or not 0 < len(listed) <= 10_000:
        raise fields.fail("layers_block_type must list the kind of each layer")
    for kind in listed:
        if kind not in _LETTERS.values():
            known = ", ".join(_LETTERS.values())
            raise fields.fail(f"layers must be {known}, got {kind!r:.80}")
    return listed


def searched_blocks(fields: ConfigFields) -> tuple[Block, ...]:
    """Return a searched architecture (Nemotron-NAS): each layer has sizes of its own, or none."""
    layers = fields.layers
    stated = fields.listed("block_configs", layers)
    if stated is None:
        raise fields.fail("block_configs is missing; a nemotron-nas config must state it")
    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    found: list[Mixer | FeedForward] = []
    for layer in stated:
        attention, network = _part(fields, layer, "attention"), _part(fields, layer, "ffn")
        if attention is not None:
            group = attention.count("n_heads_in_group")
            if heads % group:
                raise fields.fail(f"n_heads_in_group must divide {heads} heads, got {group}")
            found.append(
                Mixer(
                    heads=GroupedAttention(
                        query_heads=heads,
                        kv_heads=heads // group,
                        head_size=fields.count("head_dim", default=max(1, hidden // heads)),
                    ),
                    window=attention.optional("window_length"),
                )
            )
        if network is not None:
            multiple = network.number("ffn_mult", network.values.get("ffn_mult"))
            width = int(2 * multiple * hidden / 3)
            found.append(FeedForward(dense_size=max(256, -(-width // 256) * 256)))
    if not found:
        raise fields.fail("block_configs must state one or more layers that do something")
    return together(found)


def _part(fields: ConfigFields, layer: Any, name: str) -> ConfigFields | None:
    part = layer.get(name) if isinstance(layer, dict) else None
    if not isinstance(part, dict):
        raise fields.fail(f"block_configs must state {name} for each layer")
    if part.get("replace_with_linear") or part.get("sparsify"):
        raise fields.fail(f"block_configs: {name} replaced by a line or sparsified is not read")
    return None if part.get("no_op") else ConfigFields(part, fields.origin)
