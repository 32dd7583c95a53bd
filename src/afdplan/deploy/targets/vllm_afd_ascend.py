"""vLLM-Ascend with the AFD plugin, on NPUs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from afdplan.deploy.connector import Connector
from afdplan.deploy.pairs import EITHER_MULTIPLE, MULTIPLE, WINDOW
from afdplan.deploy.target import Target
from afdplan.deploy.vllm_plugin import DEEPSEEK, PLUGIN_KEYS, plugin_deployment
from afdplan.deploy.vllm_serve import PLACEMENT, SERVE_FLAGS

__all__ = ["TARGETS"]

ENVIRONMENT = {
    "VLLM_PLUGINS": "ascend,afd",
    "VLLM_ASCEND_ENABLE_MLAPO": "1",
    "PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True",
    "HCCL_OP_EXPANSION_MODE": "AIV",
    "HCCL_CONNECT_TIMEOUT": "900",  # the default ends in EI0006 while roles load (issue 229)
}
BUFFERS = {"attention": {"HCCL_BUFFSIZE": "512"}, "ffn": {"HCCL_BUFFSIZE": "2048"}}


def _connector(name: str, **its: Any) -> Connector:
    return Connector(
        name=name,
        waits=False,
        environment=ENVIRONMENT,
        role_environment=BUFFERS,
        ubatch_flag=True,
        all2all="",
        **its,
    )


def _target(version: str, engine: str, source: str) -> Target:
    return Target(
        name="vllm-afd-ascend",
        version=version,
        engine=engine,
        source=source,
        pairs=MULTIPLE,
        microbatches=(1, 2),
        models=DEEPSEEK,
        devices=("ascend",),
        placement=PLACEMENT,
        flags=SERVE_FLAGS,
        keys=PLUGIN_KEYS,
        split=partial(plugin_deployment, connector=_connector("CAMP2pAFDConnector")),
    )


def _window(*, barrier_free: bool) -> Target:
    """Return the Window connector: every attention rank writes to every FFN rank."""
    connector = _connector(
        "WindowAFDConnector",
        barrier_free=barrier_free,
        peers="all",
        gates=True,
        extra=lambda m: {"micro_batch_num": m, "quant_mode": 2},
        most_tokens=512,
    )
    return replace(
        _target(
            f"57bcde1-window{'-async' * barrier_free}",
            "vLLM 0.23.0",
            "vllm-project/afd-plugin 57bcde1 (feat/dsv4-afd-phase1-delivery): Window connector "
            "guide for DeepSeek-V4; no launch recipe, not tried on hardware by its authors",
        ),
        pairs=WINDOW,
        execution="barrier-free" if barrier_free else "synchronous",
        models=frozenset({"deepseek_v4"}),
        split=partial(plugin_deployment, connector=connector),
    )


TARGETS = (
    _target(
        "0.30",
        "vLLM 0.30.0",
        "vllm-project/afd-plugin main for vLLM 0.30.0, 2026-11: README; CAMP2p recipe",
    ),
    _target(
        "2e4378f",
        "vLLM 0.26.0",
        "vllm-project/afd-plugin 2e4378f, 2026-08-08: CAMP2p guide and DeepSeek-V3.2 recipe",
    ),
    replace(
        _target(
            "pr408",
            "vLLM 0.23.0",
            "vllm-project/afd-plugin pull request 408, 2026-10: P2pHccl guide for DeepSeek-V4",
        ),
        pairs=EITHER_MULTIPLE,
        models=frozenset({"deepseek_v4"}),
        split=partial(
            plugin_deployment, connector=_connector("P2pHcclAFDConnector", peers="sliced")
        ),
    ),
    _window(barrier_free=False),
    _window(barrier_free=True),
)
