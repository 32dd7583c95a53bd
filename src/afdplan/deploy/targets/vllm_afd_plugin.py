"""vLLM with the AFD plugin, on GPUs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from afdplan.deploy.connector import Connector
from afdplan.deploy.pairs import ANY_PAIR, BLOCKS, MULTIPLE
from afdplan.deploy.target import Target
from afdplan.deploy.vllm_plugin import DEEPSEEK, PLUGIN_KEYS, plugin_deployment
from afdplan.deploy.vllm_serve import PLACEMENT, SERVE_FLAGS, group_of_ranks

__all__ = ["TARGETS"]

# The plugin's recipes choose model runner v1; 0.30 knows v2 too, with fewer combinations.
RUNNER = {"VLLM_USE_V2_MODEL_RUNNER": "0"}
_NEWEST = Target(
    name="vllm-afd-plugin",
    version="0.30",
    engine="vLLM 0.30.0",
    source="vllm-project/afd-plugin main for vLLM 0.30.0, 2026-11: README, recipes, e2e tests",
    pairs=BLOCKS,
    microbatches=(1, 2),
    models=DEEPSEEK | {"deepseek_v4", "qwen3_moe", "qwen3_5_moe"},
    placement=PLACEMENT,
    flags=SERVE_FLAGS,
    keys=PLUGIN_KEYS | {"afd_process_group_timeout_s"},
    prefills=True,
    unsplit=group_of_ranks,
    split=partial(
        plugin_deployment,
        connector=Connector(name="P2pNcclAFDConnector", may_gate=True, environment=RUNNER),
    ),
)
_BEFORE = replace(_NEWEST, engine="vLLM 0.26.0", pairs=MULTIPLE, models=DEEPSEEK, keys=PLUGIN_KEYS)
TARGETS = (
    _NEWEST,
    replace(
        _BEFORE,
        version="2e4378f",
        source="vllm-project/afd-plugin 2e4378f, 2026-08-08: config.py, P2pNcclAFDConnector guide",
        split=partial(
            plugin_deployment,
            connector=Connector(
                name="P2pNcclAFDConnector",
                may_gate=True,
                ports_per_ffn_rank=1,
                waits=False,
                environment=RUNNER,
            ),
        ),
    ),
    replace(
        _BEFORE,
        version="6fa5b0d",
        source="vllm-project/afd-plugin 6fa5b0d, 2026: config.py, GpuAsyncAFDConnector recipes",
        pairs=ANY_PAIR,
        execution="barrier-free",
        split=partial(
            plugin_deployment,
            connector=Connector(
                name="GpuAsyncAFDConnector",
                barrier_free=True,
                peers="all",
                attention_first=True,
                gates=True,
                extra=lambda m: {"async_moe_ubatching": True} if m == 2 else {},
                dual_batch=False,
                one_node=True,
                overlap_gain=((2048, -0.071), (4096, -0.037), (8192, 0.005)),
                graphs=False,
                waits=False,
                environment=RUNNER,
            ),
        ),
    ),
)
