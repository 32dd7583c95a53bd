"""How do attention and FFN ranks of vLLM's AFD plugin talk, and what follows for their sizes?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from afdplan.deploy.pairs import PairRule
from afdplan.deploy.words import Variable, Word

__all__ = ["Connector"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector:
    """How attention and FFN ranks of the plugin talk.

    Attributes
    ----------
    name
        As in the configuration object.
    barrier_free
        Whether attention ranks advance on their own.
    peers
        Whose tokens an FFN rank has: ``whole`` those of ceil(A / F) attention ranks, ``sliced``
        the same, and slices of one where A < F; ``all`` where every attention rank sends to
        every FFN rank, so that sizes are alike on both sides.
    attention_first
        Whether rank 0 of its world is attention rank 0, else FFN rank 0.
    gates
        Whether attention ranks choose the experts.
    may_gate
        Whether they can, where a plan asks for it; of the models of `DEEPSEEK`.
    extra
        From m: its own object.
    dual_batch
        Whether m = 2 is the engine's dual batch.
    most_tokens
        Most tokens of a step; None does not limit them.
    one_node
        Whether all ranks of a bundle must be on one node.
    overlap_gain
        Pairs of tokens per step and what m = 2 brought over m = 1 there, as a share of the
        throughput, as measured; empty if nobody said.
    graphs
        Whether decoding runs from captured graphs.
    ports_per_ffn_rank
        Rendezvous ports beyond the first, per FFN rank.
    waits
        Whether the time to wait for the other role can be set; else 120 s are built in.
    environment
        Variables that it needs.
    role_environment
        Likewise, by role.
    all2all
        Transfers within a role; empty leaves them to the engine.
    ubatch_flag
        Whether dual batch must be told its number of parts.
    """

    name: str
    barrier_free: bool = False
    peers: Literal["whole", "sliced", "all"] = "whole"
    attention_first: bool = False
    gates: bool = False
    may_gate: bool = False
    extra: Callable[[int], dict[str, Any]] = lambda m: {}
    dual_batch: bool = True
    most_tokens: int | None = None
    one_node: bool = False
    overlap_gain: tuple[tuple[int, float], ...] = ()
    graphs: bool = True
    ports_per_ffn_rank: int = 0
    waits: bool = True
    environment: Mapping[str, Word] = field(default_factory=dict)
    role_environment: Mapping[str, Mapping[str, Word]] = field(default_factory=dict)
    all2all: str = "allgather_reducescatter"
    ubatch_flag: bool = False

    def host(self) -> Variable:
        """Return the address of rank 0 of its world."""
        return Variable("ATTENTION_HOST" if self.attention_first else "FFN_HOST")

    def ffn_size(self, tokens: int, attention_workers: int, ffn_workers: int) -> int:
        """Return the tokens of the FFN rank that has most, if an attention rank has so many.

        Examples
        --------
        >>> Connector(name="x").ffn_size(10, 7, 2)
        40
        >>> Connector(name="x", peers="sliced").ffn_size(10, 2, 6)
        4
        """
        if self.peers == "all":
            return tokens
        if self.peers == "sliced" and attention_workers < ffn_workers:
            return -(-tokens * attention_workers // ffn_workers)
        return tokens * PairRule.peers(attention_workers, ffn_workers)

    def overlap_pays(self, tokens: int) -> bool:
        """Return whether m = 2 is no slower than m = 1 at so many tokens a step, as measured.

        Examples
        --------
        >>> Connector(name="x", overlap_gain=((2048, -0.1), (4096, 0.1))).overlap_pays(2500)
        False
        """
        if not self.overlap_gain:
            return True
        sizes, gains = zip(*self.overlap_gain, strict=True)
        return bool(np.interp(tokens, sizes, gains) >= 0)
