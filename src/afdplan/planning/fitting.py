"""Which ratio is best in Python, where the memory of named devices must hold the requests?

`recommend_ratio` of the theory knows of no memory; as the commands do, this one refuses requests
that the devices of the latency model do not hold.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from afdplan.lengths.law import LengthLaw, check_law
from afdplan.model import parameters as ask
from afdplan.model.kinds import check_latency
from afdplan.model.latency import LatencyModel
from afdplan.planning.memory_limit import require_memory
from afdplan.theory import recommend

__all__ = ["Fit", "fitting", "recommend_ratio"]

Asked = ParamSpec("Asked")
Found = TypeVar("Found")
Fit = tuple[LengthLaw, LatencyModel, int, int]
"""Requests, stage times, B and m."""


def fitting(solve: Callable[Asked, Found], asked: Callable[..., Fit]) -> Callable[Asked, Found]:
    """Return a function that first refuses what the named devices do not hold."""

    @wraps(solve, assigned=("__name__", "__qualname__", "__doc__"))
    def answer(*args: Asked.args, **given: Asked.kwargs) -> Found:
        fit = asked(*args, **given)
        require_memory(fit[0], fit[1].memory, *fit[2:])
        return solve(*args, **given)

    answer.__module__ = asked.__module__  # where its name is found
    return answer


def _of_ratio(
    law: LengthLaw,
    latency: LatencyModel,
    *,
    batch_size: int,
    microbatches: int = ask.MICROBATCHES.default,
    **_: Any,
) -> Fit:
    check_law(law)
    check_latency(latency)
    return law, latency, batch_size, microbatches


recommend_ratio = fitting(recommend.recommend_ratio, _of_ratio)
