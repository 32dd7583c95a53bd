"""Which settings does a running server tell: start-up log, /get_server_info, /metrics?"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from afdplan.errors import InvalidInputError
from afdplan.files.document import Source, opened

__all__ = ["RunningSettings", "read_running"]

_VLLM = re.compile(r"non-default args: (\{.*\})")
_VLLM_CACHE = re.compile(r"GPU KV cache size: ([0-9,]+) tokens")
_CACHE_BLOCKS = re.compile(r"^vllm:cache_config_info\{(.*)\}", re.MULTILINE)
_FASTAFD = re.compile(r"global_max_running_req=(\d+) attn_local_max_running_req=(\d+)")
_SGLANG = re.compile(r"server_args=ServerArgs\((.*)\)")
_SGLANG_CACHE = re.compile(r"max_total_num_tokens=(\d+)")
_FIELD = re.compile(r"\b(\w+)=(\d+|True|False)\b")
_ITEM = re.compile(r"'(\w+)': (\d+|True|False)\b")
_ROLE = re.compile(r"(?:'role': |afd_execution_mode=|afd_mode=)'(attention|ffn|host|pool)'")
_ROLES = {"attention": "attention", "ffn": "ffn", "host": "attention", "pool": "ffn"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningSettings:
    """What a server says of itself.

    Attributes
    ----------
    role
        ``attention``, ``ffn``, or ``server`` without a split.
    values
        Numbers and switches by the name of the setting; ``cache_tokens`` is the room for KV cache.
    """

    role: str
    values: Mapping[str, int]


@opened("settings of a running server", InvalidInputError)
def read_running(source: Source) -> RunningSettings:
    """Return the settings in a start-up log, a /get_server_info or a /metrics of a server.

    Raises
    ------
    InvalidInputError
        If the file tells none.
    """
    text = source.text()
    found, role = _told(text)
    numbers = {name: int(value) for name, value in found.items() if isinstance(value, bool | int)}
    if not numbers:
        raise InvalidInputError(
            f"{source}: no settings found: give a start-up log of vLLM, SGLang or FastAFD's "
            "coordinator, SGLang's /get_server_info, or vLLM's /metrics"
        )
    return RunningSettings(role=role, values=numbers)


def _told(text: str) -> tuple[dict[str, Any], str]:
    """Return settings as they stand there, and the role."""
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except ValueError:
            return {}, "server"
        modes = (str(found.get(name)) for name in ("afd_execution_mode", "afd_mode"))
        return dict(found), next((_ROLES[mode] for mode in modes if mode in _ROLES), "server")
    values: dict[str, Any] = {}
    role = "server"
    for line in _VLLM.findall(text)[:1]:
        values |= {name: _number(value) for name, value in _ITEM.findall(line)}
        role = _ROLES.get(next(iter(_ROLE.findall(line)), ""), "server")
    for line in _SGLANG.findall(text)[:1]:
        values |= {name: _number(value) for name, value in _FIELD.findall(line)}
        role = _ROLES.get(next(iter(_ROLE.findall(line)), ""), "server")
    for all_ranks, one_rank in _FASTAFD.findall(text)[-1:]:
        values |= {"max_running_requests": int(all_ranks), "requests_per_rank": int(one_rank)}
        role = "attention"
    for tokens in (*_VLLM_CACHE.findall(text)[:1], *_SGLANG_CACHE.findall(text)[:1]):
        values["cache_tokens"] = int(tokens.replace(",", ""))
    for labels in _CACHE_BLOCKS.findall(text)[:1]:
        told = dict(re.findall(r'(\w+)="(\d+)"', labels))
        if {"block_size", "num_gpu_blocks"} <= set(told):
            values["cache_tokens"] = int(told["block_size"]) * int(told["num_gpu_blocks"])
    return values, role


def _number(text: str) -> int:
    return int(text) if text.isdigit() else int(text == "True")
