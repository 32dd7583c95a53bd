"""Provision attention-FFN disaggregated (AFD) LLM decoding.

The names below are the public interface; each is imported from its room when it is first used,
so that ``import afdplan`` costs nothing.

Examples
--------
>>> import afdplan
>>> requests = afdplan.IndependentLengths(prompt="geometric:100", decode="geometric:500")
>>> latency = afdplan.load_latency("deepseek-v3-ascend-910c")
>>> answer = afdplan.recommend_ratio(requests, latency, batch_size=256)
>>> print(answer)
7 attention workers to 1 FFN (7 to 8 within 1 %), attention-bound, real optimum A/F = 7.205
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from afdplan.errors import AfdplanError
    from afdplan.files.latency_file import load_latency, save_latency
    from afdplan.files.trace_reader import read_trace
    from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
    from afdplan.model.estimate import Estimate
    from afdplan.model.latency import LatencyModel
    from afdplan.model.trace import Trace
    from afdplan.theory.ratio import RatioRecommendation
    from afdplan.theory.recommend import recommend_ratio
    from afdplan.workload.description import describe_workload
    from afdplan.workload.interval import token_load_estimate

__version__ = "0.1.0"

__all__ = [
    "AfdplanError",
    "EmpiricalLengths",
    "Estimate",
    "IndependentLengths",
    "LatencyModel",
    "RatioRecommendation",
    "Trace",
    "describe_workload",
    "load_latency",
    "read_trace",
    "recommend_ratio",
    "save_latency",
    "token_load_estimate",
]

_HOMES = {
    "AfdplanError": "errors",
    "EmpiricalLengths": "lengths.law",
    "Estimate": "model.estimate",
    "IndependentLengths": "lengths.law",
    "LatencyModel": "model.latency",
    "RatioRecommendation": "theory.ratio",
    "Trace": "model.trace",
    "describe_workload": "workload.description",
    "load_latency": "files.latency_file",
    "read_trace": "files.trace_reader",
    "recommend_ratio": "theory.recommend",
    "save_latency": "files.latency_file",
    "token_load_estimate": "workload.interval",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its room at first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'afdplan' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"afdplan.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted({*globals(), *__all__})
