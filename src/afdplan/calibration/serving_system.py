"""Where does a serving system let transfers, the router and the shared experts run?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from afdplan.model.parameters import Side, SystemName, TransferPlace

__all__ = ["SYSTEMS", "ServingSystem"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSystem:
    """Habits of one system that change what a stage takes.

    Attributes
    ----------
    transfers
        ``overlapped``: links work while both sides compute; ``in-stage``: the FFN receives, then
        computes, then returns; ``fused``: one kernel does all three, and only the fixed times of
        both ways add to the longer of computing and moving.
    router
        On which side the router and the choice of experts run.
    source
        Who says so.
    shared_experts
        On which side the shared experts run.
    sends_choices
        Whether the choice of experts is counted in what travels to the FFN.
    layout
        How FFN devices share their work: ``expert``, each has experts of its own and the shared
        ones whole, or ``tensor``, each of a node has a slice of all of them.
    moving_processors
        How many of an attention device's processors a kernel of the exchange holds while it waits
        for the experts: the other microbatch computes on the rest. On devices whose number of
        processors is known, where that kernel runs.
    expert_tiles
        Largest mean of rows per expert, and rows of a tile, of a kernel that chooses its tiles by
        it, ascending; empty for kernels as they were measured, see
        `afdplan.calibration.derived_feed_forward.tile_rows`.
    relays
        Whether an attention worker hands its tokens to one FFN device, in bf16, and the FFN devices
        exchange them among each other: the experts are chosen there only.
    relays_scores
        Whether it relays them too where the attention side has the router, which then sends the
        scores of all experts after them; else who chooses the experts sends to them at once.
    dispatches
        Whether an FFN device gets rows of its own experts only, in the layout that decoding kernels
        want (DeepEP's low latency); a prefill worker does not.
    hides_scheduling
        Whether the host prepares the next step while the devices work at this one: then sampling
        and scheduling add nothing to a step.
    """

    transfers: TransferPlace
    router: Side
    source: str
    shared_experts: Side = "ffn"
    sends_choices: bool = False
    layout: Literal["expert", "tensor"] = "expert"
    moving_processors: int = 0
    expert_tiles: tuple[tuple[float, int], ...] = ()
    relays: bool = False
    relays_scores: bool = False
    dispatches: bool = True
    hides_scheduling: bool = False


SYSTEMS: dict[SystemName, ServingSystem] = {
    "any": ServingSystem(
        transfers="overlapped", router="attention", source="assumed: no system was named"
    ),
    "fastafd": ServingSystem(
        transfers="fused",
        router="attention",
        moving_processors=24,
        expert_tiles=((8.5, 16), (16.5, 32), (32.5, 64), (64.5, 96), (96.5, 128), (math.inf, 192)),
        hides_scheduling=True,
        source="FastAFD blog (Hao AI Lab, 2026-07): MegaMoE receives, computes and returns; with "
        "overlap scheduling a step takes 32.8 ms, without 42.6 (Fig. 13). Its code (3c71619): the "
        "attention side's kernel has 24 processors (MINISGL_MEGAMOE_AG_SMS), the experts' the "
        "whole device, in tiles of 16 to 192 rows (heuristics/mega_moe.hpp)",
    ),
    "stepmesh": ServingSystem(
        transfers="overlapped",
        router="ffn",
        layout="tensor",
        source="Step-3 report, arXiv:2507.19427: RDMA from host threads, three microbatches; FFN "
        "tensor parallel in a node",
    ),
    "vllm-afd-plugin": ServingSystem(
        transfers="in-stage",
        router="ffn",
        relays=True,
        relays_scores=True,
        source="vllm-project/afd-plugin (2e4378f), P2pNcclAFDConnector: an FFN rank receives its "
        "own peers in turn, sends on its compute stream; compute_gate_on_attention is off by "
        "default, on it sends the router's scores in a second message to the same rank; FFN ranks "
        "exchange tokens by --all2all-backend",
    ),
    "vllm-afd-ascend": ServingSystem(
        transfers="in-stage",
        router="ffn",
        relays=True,
        source="vllm-project/afd-plugin (2e4378f), CAMP2pAFDConnector: synchronous; A2E brings "
        "bf16 (quant_mode 0) to one FFN rank per attention rank, dispatch and combine follow in "
        "its group (MC2); it refuses compute_gate_on_attention, which the Window and CAMAsync "
        "connectors have: they write to every FFN rank",
    ),
    "xdeepserve": ServingSystem(
        transfers="overlapped",
        router="attention",
        source="xDeepServe, arXiv:2508.02520, section 5: A2E and E2A run beside both sides",
    ),
}
"""Systems by name."""
