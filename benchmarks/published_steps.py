"""What was published of attention layers, experts, exchanges and whole steps, with its source."""

from __future__ import annotations

# Step-3 report (arXiv:2507.19427), Table 9: microseconds per attention layer with projections,
# 4 GPUs, 256 requests in all, at 8,192 and 32,768 tokens of context.
STEP3_TABLE_9 = {
    ("step-3", "h800-sxm"): (281, 791),
    ("deepseek-v3", "h800-sxm"): (372, 1125),
    ("qwen3-235b-a22b", "h800-sxm"): (382, 1391),
    ("step-3", "h20"): (438, 1452),
    ("deepseek-v3", "h20"): (1252, 4817),
    ("qwen3-235b-a22b", "h20"): (812, 3042),
    ("step-3", "a800-80g"): (531, 1484),
    ("qwen3-235b-a22b", "a800-80g"): (791, 3010),
}
REQUESTS_PER_GPU = 64

# FastAFD blog (Hao AI Lab, 2026-07), Figs. 2-6 and 12: Qwen3-235B-A22B-FP8 on GB200 NVL72.
FASTAFD_MOE_US = {2: 202, 4: 120, 8: 72, 16: 50, 32: 41, 64: 38, 128: 38}
FASTAFD_MFU = {8: 0.016, 128: 0.25, 1024: 0.68, 4096: 0.83}
FASTAFD_DISPATCH_US = {2: 18.6, 4: 20.4, 8: 21.7, 16: 23.1, 32: 23.7, 64: 25.1}
FASTAFD_COMBINE_US = {2: 18.0, 4: 21.6, 8: 24.1, 16: 25.5, 32: 26.9, 64: 27.9}
FASTAFD_REPRODUCED = {7: 2522.64}
"""Tokens per second and GPU, reproduced (github.com/linsj20/FastAFD)."""
FASTAFD_STEP_MS = {3: 32.826, 7: 33.4, 11: 38.0, 15: 44.66, 17: 48.7}
# FastAFD on GB200, github.com/linsj20/FastAFD, CODEX_PROJECT_REPRODUCE.md: by model and thousands
# of tokens of context, nodes to one of experts, requests per GPU and microbatch, tokens per second
# and GPU; reproduced there, but for MiniMax at 16K (FastAFD's README).
FASTAFD_TOKENS = {
    ("qwen3-235b-a22b-fp8", 16): (11, 24, 1395.78),
    ("minimax-m2.5", 8): (17, 36, 2254.44),
    ("minimax-m2.5", 16): (17, 18, 1006.0),
}
# FastAFD blog, Fig. 13: MiniMax-M2.5 FP8 at 8K, by nodes to one of experts, steps of one to four
# microbatches. The batch is not stated; 72 requests per GPU are those of its preset.
FASTAFD_MICROBATCH_MS = {3: (36.2, 30.7, 33.8, 42.2), 7: (38.2, 30.8, 34.0, 42.7)}

# Step-3 report, Table 8: attention GPUs, requests per microbatch, context, cache.
STEP3_STEP_MS = {
    (16, 128, 4096, "fp8"): 47.54,
    (24, 84, 4096, "bf16"): 45.53,
    (32, 64, 8192, "fp8"): 48.43,
}
# vllm-project/afd-plugin, recipe deepseek_v3_2 (CAMP2pAFDConnector): by thousands of tokens of
# context and attention dies (48 and 64 of them stand for 192 and 256 beside 64 expert dies, played
# by 16), tokens per second and die; two microbatches of 14 requests, at 32K of 7. The un-split ones
# are 64 dies with 16 requests, at 32K 8. Steps are upper bounds, all slots taken as busy.
ASCEND_TOKENS = {(16, 192): 220.3, (16, 256): 258.9, (32, 192): 151.4, (32, 256): 183.3}
ASCEND_UNSPLIT_TOKENS = {16: 232.6, 32: 168.2}
ASCEND_DECODED = 512
"""Tokens that a request has decoded on average; outputs are uniform from 512 to 1,536."""
# github.com/linsj20/FastAFD, CODEX_PROJECT_REPRODUCE.md, vLLM wide EP on GB200: by thousands of
# tokens of context, width and requests per GPU, tokens per second and GPU within CUDA spans.
WIDE_EP_TOKENS = {
    "qwen3-235b-a22b-fp8": {
        (8, 4, 64): 1779.83,
        (8, 8, 88): 2271.76,
        (8, 16, 96): 2331.65,
        (8, 32, 101): 2304.92,
        (8, 64, 103): 1811.48,
        (16, 4, 32): 935.76,
        (16, 8, 44): 1094.29,
        (16, 16, 48): 1204.08,
        (16, 32, 50): 1164.91,
        (16, 64, 52): 1126.48,
    },
    "minimax-m2.5": {
        (8, 4, 48): 1512.57,
        (8, 8, 68): 1991.72,
        (8, 16, 74): 2218.89,
        (8, 32, 78): 2162.36,
        (8, 64, 79): 2151.51,
        (16, 4, 24): 735.33,
        (16, 8, 34): 1027.35,
        (16, 16, 37): 1118.73,
        (16, 32, 39): 1051.05,
        (16, 64, 39): 1033.52,
    },
}
# The same by the wall clock, hosts' gaps included; the best of them.
WIDE_EP_WALL_TOKENS = {(8, 8, 88): 1863.75}
# xDeepServe (arXiv:2508.02520), section 7: split and un-split alike, 2,400 tokens/s per chip of two
# dies, 1.9 tokens per step and request: 480 attention dies in three domains with 288 of experts, 96
# requests each in two microbatches; 288 dies with 60.
XDEEPSERVE_STEP_MS = 93.0
XDEEPSERVE_TOKENS = {"split": 1200.0, "unsplit": 1200.0}


def fastafd_step(nodes: int, requests: int, rate: float) -> float:
    """Return the step of two microbatches of so many requests per GPU that gives a rate [ms]."""
    return nodes / (nodes + 1) * 2 * requests / rate * 1e3


def ascend_step(context: int, attention: int, rate: float) -> float:
    """Return the step of the dies that stood for so many, from tokens per second and die [ms]."""
    played = attention // 4
    return played / (played + 16) * 2 * (224 // context) / rate * 1e3
