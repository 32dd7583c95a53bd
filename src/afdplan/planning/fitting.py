"""What is answered in Python, where the memory of named devices must hold the requests?

The same functions as below, `recommend_ratio` and `simulate`, which know of no memory; as the
commands do, these refuse requests that the devices of the latency model do not hold.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from afdplan.lengths.law import EmpiricalLengths, LengthLaw
from afdplan.model import parameters as ask
from afdplan.model.latency import LatencyModel
from afdplan.model.trace import Trace
from afdplan.planning.memory_limit import require_memory
from afdplan.simulation import run
from afdplan.simulation.scenario import Scenario
from afdplan.theory import recommend

__all__ = ["recommend_ratio", "simulate"]

Asked = ParamSpec("Asked")
Found = TypeVar("Found")
Fit = tuple[LengthLaw, LatencyModel, int, int]


def _fitting(solve: Callable[Asked, Found], asked: Callable[..., Fit]) -> Callable[Asked, Found]:
    @wraps(solve, assigned=("__name__", "__qualname__", "__doc__"))
    def answer(*args: Asked.args, **given: Asked.kwargs) -> Found:
        fit = asked(*args, **given)
        require_memory(fit[0], fit[1].memory, *fit[2:])
        return solve(*args, **given)

    return answer


def _of_ratio(
    law: LengthLaw,
    latency: LatencyModel,
    *,
    batch_size: int,
    microbatches: int = ask.MICROBATCHES.default,
    **_: Any,
) -> Fit:
    return law, latency, batch_size, microbatches


def _of_scenario(scenario: Scenario, **_: Any) -> Fit:
    lengths, bundle = scenario.lengths, scenario.bundle
    law = EmpiricalLengths(lengths) if isinstance(lengths, Trace) else lengths
    return law, scenario.latency, bundle.batch_size, bundle.microbatches


recommend_ratio = _fitting(recommend.recommend_ratio, _of_ratio)
simulate = _fitting(run.simulate, _of_scenario)
