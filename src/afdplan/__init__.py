"""Provision attention-FFN disaggregated (AFD) LLM decoding.

The names below are the public interface; each is imported from its room when it is first used,
so that ``import afdplan`` costs nothing. This is the house's face, above all its rooms: here
answers learn who tells them.

Examples
--------
>>> import afdplan
>>> requests = afdplan.IndependentLengths(prompt="geometric:100", decode="geometric:500")
>>> latency = afdplan.load_latency("deepseek-v3-ascend-910c")
>>> answer = afdplan.recommend_ratio(requests, latency, batch_size=256)
>>> print(answer)  # doctest: +NORMALIZE_WHITESPACE
Use 7 attention workers with 1 FFN worker: the slowest attention worker sets the pace, and 7 to 8
are within 1 % of the best.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from afdplan.model.teller import Teller, tell_by
from afdplan.version import __version__ as __version__

if TYPE_CHECKING:
    from afdplan.calibration.derived import derived_model
    from afdplan.errors import AfdplanError
    from afdplan.files.latency_file import load_latency, save_latency
    from afdplan.files.plan_file import read_plan
    from afdplan.files.traces.reader import read_trace
    from afdplan.lengths.law import EmpiricalLengths, IndependentLengths
    from afdplan.model.bundle import Bundle
    from afdplan.model.estimate import Estimate
    from afdplan.model.latency import LatencyModel
    from afdplan.model.trace import Trace
    from afdplan.planning.check import check_plan
    from afdplan.planning.derived_source import DerivedSource
    from afdplan.planning.fitting import recommend_ratio
    from afdplan.planning.fitting_run import simulate
    from afdplan.planning.limits import Limits
    from afdplan.planning.plan import Plan, make_plan
    from afdplan.planning.source import MeasuredSource
    from afdplan.simulation.result import SimulationResult
    from afdplan.simulation.scenario import Scenario
    from afdplan.theory.ratio import RatioRecommendation
    from afdplan.workload.description import describe_workload
    from afdplan.workload.interval import token_load_estimate

__all__ = [
    "AfdplanError",
    "Bundle",
    "DerivedSource",
    "EmpiricalLengths",
    "Estimate",
    "IndependentLengths",
    "LatencyModel",
    "Limits",
    "MeasuredSource",
    "Plan",
    "RatioRecommendation",
    "Scenario",
    "SimulationResult",
    "Trace",
    "check_plan",
    "derived_model",
    "describe_workload",
    "load_latency",
    "make_plan",
    "read_plan",
    "read_trace",
    "recommend_ratio",
    "save_latency",
    "simulate",
    "token_load_estimate",
]

_HOMES = {
    "AfdplanError": "errors",
    "Bundle": "model.bundle",
    "DerivedSource": "planning.derived_source",
    "EmpiricalLengths": "lengths.law",
    "Estimate": "model.estimate",
    "IndependentLengths": "lengths.law",
    "LatencyModel": "model.latency",
    "Limits": "planning.limits",
    "MeasuredSource": "planning.source",
    "Plan": "planning.plan",
    "RatioRecommendation": "theory.ratio",
    "Scenario": "simulation.scenario",
    "SimulationResult": "simulation.result",
    "Trace": "model.trace",
    "check_plan": "planning.check",
    "derived_model": "calibration.derived",
    "describe_workload": "workload.description",
    "load_latency": "files.latency_file",
    "make_plan": "planning.plan",
    "read_plan": "files.plan_file",
    "read_trace": "files.traces.reader",
    "recommend_ratio": "planning.fitting",
    "save_latency": "files.latency_file",
    "simulate": "planning.fitting_run",
    "token_load_estimate": "workload.interval",
}


def _media() -> Teller:
    from afdplan import media

    return media


tell_by(_media)


def __getattr__(name: str) -> Any:
    """Import a public name from its room at first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'afdplan' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"afdplan.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted({*__all__, "__version__"})
