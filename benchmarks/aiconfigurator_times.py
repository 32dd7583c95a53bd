"""Which stage times and memory does aiconfigurator's own AFD session use?

Everything is read from its public results: `AFDInferenceSession.run_afd` at one context length
(`osl = 2` is one decode step), then `InferenceSummary.get_per_ops_data`, which is not rounded.
"""

from __future__ import annotations

import copy
import importlib.metadata
from functools import cache
from typing import Any

import numpy as np

from afdplan.model.curve import TabulatedCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import AttentionLayers, Transfer
from afdplan.planning.cache_memory import CacheSpace

__all__ = ["VERSION", "PeerTimes", "missing_peer", "peer_task"]

VERSION = "0.12.0"
GPUS_PER_NODE = 8
SECONDS = 1e-3  # its times are in milliseconds


def missing_peer() -> str | None:
    """Return the line that says what to install, or None if the search is there."""
    mend = f"left out: pip install aiconfigurator=={VERSION}"
    try:
        found = importlib.metadata.version("aiconfigurator")
    except importlib.metadata.PackageNotFoundError:
        return f"{mend} (the AFD search is not in aiconfigurator-core)"
    return None if found == VERSION else f"{mend} (its functions are known by version; got {found})"


def peer_task(model: str, system: str, backend: str, **options: Any) -> Any:
    """Return its task: an AFD decode pool alone, one TPOT limit instead of a front of many."""
    from aiconfigurator.sdk.task_v2 import Task

    return Task(
        serving_mode="afd",
        model_path=model,
        system_name=system,
        backend_name=backend,
        afd_combined_with_pd=False,
        pareto_sweep=False,
        **options,
    )


class PeerTimes:
    """A latency source that repeats its times, so that both plan and are judged by the same.

    An attention worker has `attention_devices` (its ``tp_a``), an FFN worker is one node of 8.

    Parameters
    ----------
    task
        Of `peer_task`: model, system and number formats.
    expert_parallel
        Its ``f_moe_ep_size``.
    contexts
        Tokens per request at which attention is read; straight lines between.
    largest_load
        Most tokens of one microbatch on the FFN side, all nodes together.
    """

    time_unit = "s"
    ffn_devices = GPUS_PER_NODE
    least_device_ratio = 0.0
    shares_ffn_times = shares_ffn_latency = False
    assumptions: tuple[str, ...] = ()
    attention_devices = (1, 2, 4, 8)

    def __init__(
        self, task: Any, expert_parallel: int, contexts: tuple[int, ...], largest_load: int
    ) -> None:
        from aiconfigurator.sdk.backends.factory import get_backend

        self.name = f"{task.model_path} on {task.system_name}, EP {expert_parallel}"
        self._database = task._load_database(
            task.system_name, task.backend_name, task.backend_version
        )
        self._model_config = task.build_model_config(role="agg")
        self._model = task.model_path
        self._backend = get_backend(task.backend_name)
        self.expert_parallel = expert_parallel
        self._contexts = contexts
        self._loads = np.unique(np.geomspace(8, largest_load, 24).astype(int) // 8 * 8)
        self.attention_side = cache(self._attention)
        self.ffn_side = cache(self._ffn)
        self.cache = cache(self._cache)

    def run(
        self,
        *,
        nodes: tuple[int, int],
        attention_devices: int,
        requests: int,
        lengths: tuple[int, int],
        microbatches: int = 1,
    ) -> Any:
        """Return the summary of its session for one design.

        Parameters
        ----------
        nodes
            Of the attention and of the FFN side.
        requests
            Per attention worker, all microbatches.
        lengths
            Prompt and decode tokens of every request.
        """
        from aiconfigurator.sdk.config import AFDConfig, RuntimeConfig
        from aiconfigurator.sdk.inference_session import AFDInferenceSession

        afd = AFDConfig(
            n_a_nodes=nodes[0],
            n_f_nodes=nodes[1],
            gpus_per_node=GPUS_PER_NODE,
            tp_a=attention_devices,
            f_moe_ep_size=self.expert_parallel,
            a_batch_size=requests,
            num_microbatches=microbatches,
            pipeline_model="conservative",
            combined_with_pd=False,
        )
        attention, ffn = (copy.deepcopy(self._model_config) for _ in range(2))
        attention.tp_size = attention.moe_tp_size = attention_devices
        ffn.tp_size = afd.tp_f
        ffn.moe_tp_size = afd.tp_f // self.expert_parallel
        ffn.moe_ep_size = self.expert_parallel
        return AFDInferenceSession(
            self._model, attention, ffn, self._database, self._backend, afd
        ).run_afd(
            RuntimeConfig(
                batch_size=afd.n_a_workers * requests, isl=lengths[0], osl=lengths[1], ttft=1e9
            ),
            phase="decode",
        )

    def ffn_workers(self, most: int) -> tuple[int, ...]:
        """Return the numbers of FFN nodes over which its model can be built."""
        return tuple(f for f in (1, 2, 4) if f <= most)

    def latency(self, attention_devices: int, ffn_workers: int, batch_size: int) -> LatencyModel:
        """Return the times of a design; attention at exactly this batch size."""
        ffn, send, receive = self.ffn_side(ffn_workers)
        return LatencyModel(
            name=self.name,
            time_unit="s",
            attention=self.attention(attention_devices, batch_size),
            ffn=ffn,
            send=send,
            receive=receive,
        )

    def attention(self, attention_devices: int, batch_size: int) -> tuple[AttentionLayers, ...]:
        """Return its attention side."""
        layers, curve = self.attention_side(attention_devices, batch_size)
        return (AttentionLayers(curve=curve, layers=layers),)

    def _attention(self, devices: int, batch_size: int) -> tuple[int, TabulatedCurve]:
        """Its time of one layer, local reduction of expert parts included, against T = B s."""
        layers, times = self._layers, []
        for context in self._contexts:
            summary = self.run(
                nodes=(1, 1),
                attention_devices=devices,
                requests=batch_size,
                lengths=(context - 1, 2),
            )
            parts = summary.get_per_ops_data()["decode_a_worker"]
            times.append(sum(parts.values()) / layers * SECONDS)
        loads = [float(batch_size * context) for context in self._contexts]
        return layers, TabulatedCurve(loads=loads, times=np.maximum.accumulate(times))

    def _ffn(self, nodes: int) -> tuple[TabulatedCurve, Transfer, Transfer]:
        """Its time of one layer against the tokens per node, and its transfers."""
        rows = []
        for tokens in self._loads:
            summary = self.run(
                nodes=(1, nodes), attention_devices=1, requests=int(tokens // 8), lengths=(1024, 2)
            )
            data = summary.get_per_ops_data()
            ffn = sum(data["decode_f_worker"].values()) / self._layers
            out = data["comm"]["decode_afd_transfer_a2f"]
            rows.append((tokens / nodes, ffn, tokens // 8, out))
        load, ffn, own, out = np.array(rows, dtype=float).T
        curve = TabulatedCurve(loads=load, times=np.maximum.accumulate(ffn) * SECONDS)
        link = Transfer(
            curve=TabulatedCurve(loads=own, times=np.maximum.accumulate(out) * SECONDS),
            load="worker",
        )
        return curve, link, link

    @property
    def _layers(self) -> int:
        from aiconfigurator.sdk.models import get_model

        if not hasattr(self, "_count"):
            config = copy.deepcopy(self._model_config)
            self._count = int(get_model(self._model, config, self._backend.name.value)._num_layers)
        return self._count

    def _cache(self, devices: int) -> CacheSpace:
        """KV tokens that fit by its own account: total memory, its fraction, its other uses."""
        requests, context = 64, 2048
        data = self.run(
            nodes=(1, 1),
            attention_devices=devices,
            requests=requests,
            lengths=(context - 2, 2),
        ).get_per_ops_data()["memory"]["a_worker"]
        capacity = self._database.system_spec["gpu"]["mem_capacity"] / 2**30
        fraction = self._backend.get_default_free_gpu_memory_fraction(self._database.version)
        others = data["total"] - data["kvcache"]
        if self._backend.memory_fraction_of_free():
            room = (capacity - others) * fraction
        else:
            room = capacity * fraction - others
        return CacheSpace.tokens(room / data["kvcache"] * requests * context)
