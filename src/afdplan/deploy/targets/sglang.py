"""SGLang: the lanes of srt/afd, and a fork with hosts and a pool."""

from __future__ import annotations

import numpy as np

from afdplan.deploy.pairs import PairRule
from afdplan.deploy.sglang import SERVER_FLAGS, group_of_ranks, lane_deployment, spreads
from afdplan.deploy.sglang_pool import POOL_FLAGS, pool_deployment
from afdplan.deploy.target import Target

__all__ = ["TARGETS"]

LANES = (1, 2, 4, 8, 16, 32)

TARGETS = (
    Target(
        name="sglang",
        version="srt-afd",
        source="SGLang pull request 36258, 2026-11: srt/afd/config.py, profiles.py, contracts.py",
        pairs=PairRule(
            words="FFN ranks must be 1, 2, 4, 8, 16 or 32, an attention worker one device, "
            "attention workers even over nodes of 8, at most 8 nodes",
            test=lambda a, f, da, df: np.isin(f * df, LANES) & spreads(a) & (da == 1),
        ),
        microbatches=(2,),
        models=frozenset({"qwen3_moe", "glm_moe_dsa"}),
        placement="--load-balance-method total_tokens is set for the attention ranks: a request "
        "goes to the rank with the fewest tokens (afdplan calls that fewest-tokens). No switch "
        "gives the longest of several waiting prompts to the lightest rank, and the stages of a "
        "rank are filled by equal counts",
        flags=SERVER_FLAGS,
        keys=frozenset(
            {
                "stages",
                "lanes",
                "attention_lanes",
                "attention_backend",
                "rendezvous_host",
                "rendezvous_port",
                "rendezvous_timeout_seconds",
            }
        ),
        split=lane_deployment,
        unsplit=group_of_ranks,
    ),
    Target(
        name="sglang",
        version="host-pool",
        source="fork of SGLang with host and pool, 2026-11: arg_groups/afd hook and guide on two "
        "machines (--afd-mode, --afd-pool-addr, --afd-min-batch, --afd-max-wait-ms)",
        pairs=PairRule(
            words="there must be one FFN worker, the pool; all workers have one device",
            test=lambda a, f, da, df: (a >= 1) & (f == 1) & (da == df == 1),
        ),
        execution="barrier-free",
        microbatches=(1,),
        models=frozenset({"qwen3_5"}),
        placement="no switch: each host is a server of its own, what stands before them decides",
        flags=POOL_FLAGS,
        split=pool_deployment,
    ),
)
