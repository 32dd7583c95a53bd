"""Which flags and keys does the named version of a serving system know?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from afdplan.errors import UnsupportedError

__all__ = ["FASTAFD", "VLLM_AFD_PLUGIN", "AllowList"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowList:
    """Everything that may be emitted for one version of one system.

    Attributes
    ----------
    system, version
        What was read, and at which version.
    source
        Where the flags were read.
    flags
        Command-line flags.
    afd_keys
        Keys of the AFD configuration object; empty if there is none.
    """

    system: str
    version: str
    source: str
    flags: frozenset[str]
    afd_keys: frozenset[str] = frozenset()

    def check(self, arguments: Iterable[str], afd: Mapping[str, object] | None = None) -> None:
        """Raise `UnsupportedError` if an argument or key is unknown to this version.

        Parameters
        ----------
        arguments
            Command line, flags and values apart.
        afd
            AFD configuration object, if the system has one.
        """
        unknown = [a for a in arguments if a.startswith("--") and a not in self.flags]
        unknown += [key for key in afd or {} if key not in self.afd_keys]
        if unknown:
            raise UnsupportedError(
                f"{unknown[0]!r} is not known to {self.system} {self.version}: it must not be "
                "emitted"
            )


VLLM_AFD_PLUGIN = AllowList(
    system="vllm-afd-plugin",
    version="2e4378f (2026-08)",
    source="vllm-project/afd-plugin: P2pNcclAFDConnector guide and GPU recipes; vllm serve",
    flags=frozenset(
        {
            "--host",
            "--port",
            "--headless",
            "--tensor-parallel-size",
            "--data-parallel-size",
            "--data-parallel-size-local",
            "--data-parallel-start-rank",
            "--data-parallel-address",
            "--data-parallel-rpc-port",
            "--enable-expert-parallel",
            "--enforce-eager",
            "--max-num-seqs",
            "--max-num-batched-tokens",
            "--compilation-config",
            "--enable-dbo",
            "--dbo-decode-token-threshold",
            "--dbo-prefill-token-threshold",
            "--additional-config",
        }
    ),
    afd_keys=frozenset(
        {
            "role",
            "connector",
            "host",
            "port",
            "num_attention_ranks",
            "num_ffn_ranks",
            "compute_gate_on_attention",
            "connector_extra_config",
        }
    ),
)

FASTAFD = AllowList(
    system="fastafd",
    version="2026-08",
    source="FastAFD: python/minisgl/server/args.py and its server script",
    flags=frozenset(
        {
            "--mode",
            "--model-path",
            "--host",
            "--port",
            "--launch-backend",
            "--ray-address",
            "--afd-attn-dp-size",
            "--afd-mlp-dp-size",
            "--afd-attn-tp-size",
            "--afd-mlp-tp-size",
            "--afd-mlp-ep-size",
            "--afd-moe-a2a-backend",
            "--afd-moe-runner-backend",
            "--afd-batch-size",
            "--afd-max-batched-tokens",
            "--afd-max-running-requests",
            "--afd-max-new-tokens",
            "--cache-type",
            "--cuda-graph-max-bs",
            "--afd-decode-graph-bs",
            "--afd-num-mb",
            "--afd-device-comm-num-sms",
            "--page-size",
            "--max-seq-len-override",
        }
    ),
)
