"""What the systems' own argument parsers take, recorded where they cannot be had at test time.

Facts only, one per flag: its type, or the words it may have. Read in FastAFD 393bc98
(python/minisgl/server/args.py), vLLM 0.26.0 (`vllm serve`, also tried itself, see
test_real_parsers.py), SGLang's pull request 36258 (server_args.py, srt/afd), the guides of its
fork with host and pool, and rtp-llm's page on AFD.
"""

from __future__ import annotations

import argparse
import json
from typing import Any, NoReturn

__all__ = ["parse", "refuses"]

SWITCH, MANY = "switch", "many"
Kind = Any
"""A type, words to choose from, SWITCH, or MANY numbers."""

FASTAFD: dict[str, Kind] = {
    "--mode": ("serve", "afd-serve"),
    "--model-path": str,
    "--host": str,
    "--port": int,
    "--launch-backend": ("mp", "ray"),
    "--ray-address": str,
    "--control-host": str,
    "--cuda-graph-max-bs": int,
    "--page-size": int,
    "--attention-backend": str,
    "--cache-type": ("naive", "radix"),
    "--memory-ratio": float,
    "--max-seq-len-override": int,
    "--afd-attn-dp-size": int,
    "--afd-mlp-dp-size": int,
    "--afd-attn-tp-size": int,
    "--afd-mlp-tp-size": int,
    "--afd-mlp-ep-size": int,
    "--afd-moe-a2a-backend": ("none", "deepep"),
    "--afd-moe-runner-backend": ("auto", "triton", "triton_fp8", "triton_kernel", "deep_gemm"),
    "--afd-batch-size": int,
    "--afd-decode-graph-bs": str,
    "--afd-max-batched-tokens": int,
    "--afd-max-running-requests": int,
    "--afd-device-comm-num-sms": int,
    "--afd-num-mb": int,
}
VLLM: dict[str, Kind] = {
    "--additional-config": json.loads,
    "--all2all-backend": (
        "allgather_reducescatter",
        "deepep_low_latency",
        "deepep_high_throughput",
    ),
    "--api-server-count": int,
    "--compilation-config": json.loads,
    "--cpu-distributed-timeout-seconds": int,
    "--data-parallel-address": str,
    "--data-parallel-rpc-port": int,
    "--data-parallel-size": int,
    "--data-parallel-size-local": int,
    "--data-parallel-start-rank": int,
    "--dbo-decode-token-threshold": int,
    "--dbo-prefill-token-threshold": int,
    "--enable-dbo": SWITCH,
    "--enable-expert-parallel": SWITCH,
    "--enforce-eager": SWITCH,
    "--gpu-memory-utilization": float,
    "--headless": SWITCH,
    "--host": str,
    "--kv-transfer-config": json.loads,
    "--max-cudagraph-capture-size": int,
    "--max-model-len": int,
    "--max-num-batched-tokens": int,
    "--max-num-seqs": int,
    "--port": int,
    "--quantization": str,
    "--tensor-parallel-size": int,
    "--ubatch-size": int,
}
SGLANG: dict[str, Kind] = {
    "--afd-bootstrap-port": int,
    "--afd-config": json.loads,
    "--afd-execution-mode": ("attention", "ffn"),
    "--afd-max-wait-ms": float,
    "--afd-min-batch": int,
    "--afd-mode": ("null", "host", "pool"),
    "--afd-pool-addr": str,
    "--afd-transfer-backend": ("tcp",),
    "--attention-backend": str,
    "--context-length": int,
    "--cuda-graph-backend-decode": ("full", "disabled"),
    "--cuda-graph-backend-prefill": ("full", "disabled"),
    "--cuda-graph-bs-decode": MANY,
    "--deepep-mode": ("auto", "normal", "low_latency"),
    "--dist-init-addr": str,
    "--dp-size": int,
    "--enable-dp-attention": SWITCH,
    "--enable-dp-lm-head": SWITCH,
    "--enable-metrics": SWITCH,
    "--enable-two-batch-overlap": SWITCH,
    "--ep-size": int,
    "--host": str,
    "--load-balance-method": (
        *("auto", "round_robin", "follow_bootstrap_room", "total_requests", "total_tokens"),
    ),
    "--max-running-requests": int,
    "--mem-fraction-static": float,
    "--model-path": str,
    "--moe-a2a-backend": ("none", "deepep"),
    "--nnodes": int,
    "--node-rank": int,
    "--port": int,
    "--quantization": str,
    "--tp-size": int,
}
RTP_LLM: dict[str, Kind] = {
    "--attention_dp_size": int,
    "--attention_tp_size": int,
    "--checkpoint_path": str,
    "--concurrency_limit": int,
    "--dp_size": int,
    "--enable_ffn_disaggregate": int,
    "--enable_layer_micro_batch": int,
    "--max_seq_len": int,
    "--model_type": str,
    "--start_port": int,
    "--world_size": int,
}
# By the words that start the program; what a fork adds to them.
PROGRAMS = {
    ("vllm", "serve"): VLLM,
    ("python", "-m", "minisgl"): FASTAFD,
    ("python", "-m", "sglang.launch_server"): SGLANG,
    ("python", "-m", "rtp_llm.start_server"): RTP_LLM,
}
FORKS: dict[tuple[str, str], dict[str, Kind]] = {
    ("fastafd", "fork-393bc98"): {"--afd-model-placement": ("legacy", "fmha-only")},
}


class RefusedError(Exception):
    """A parser that does not take a line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RefusedError(message)


def parse(words: list[str], name: str, version: str) -> argparse.Namespace:
    """Return what the recorded parser of a program makes of its words; raise `RefusedError`."""
    (start,) = [start for start in PROGRAMS if tuple(words[: len(start)]) == start]
    parser = _Parser(allow_abbrev=False)
    if start == ("vllm", "serve"):
        parser.add_argument("model_tag")
    for flag, kind in (PROGRAMS[start] | FORKS.get((name, version), {})).items():
        if kind == SWITCH:
            parser.add_argument(flag, action="store_true")
        elif kind == MANY:
            parser.add_argument(flag, type=int, nargs="+")
        elif isinstance(kind, tuple):
            parser.add_argument(flag, choices=kind)
        else:
            parser.add_argument(flag, type=kind)
    given = [word for word in words if word.startswith("--")]
    if len(set(given)) != len(given):
        raise RefusedError("a flag is given twice")
    told = parser.parse_args(words[len(start) :])
    if start[-1] == "minisgl":
        _fastafd(told)
    return told


def _fastafd(told: argparse.Namespace) -> None:
    """What FastAFD checks after parsing (`_validate_afd_parallel_args`)."""
    world = told.afd_mlp_dp_size * told.afd_mlp_tp_size
    tensor = sorted((told.afd_attn_tp_size, told.afd_mlp_tp_size))
    if not 1 <= told.afd_num_mb <= told.afd_batch_size:
        raise RefusedError("num_mb must be between 1 and batch size")
    if tensor[1] % tensor[0]:
        raise RefusedError("tensor sizes must be mutually divisible")
    if told.afd_mlp_ep_size not in {1, told.afd_mlp_tp_size, world}:
        raise RefusedError("ep size must be 1, the tensor size or the world")
    if told.cache_type != "naive":
        raise RefusedError("the centralized scheduler takes the naive cache only")


def refuses(words: list[str], name: str, version: str) -> bool:
    """Return whether the recorded parser refuses a line."""
    try:
        parse(words, name, version)
    except RefusedError:
        return True
    return False
