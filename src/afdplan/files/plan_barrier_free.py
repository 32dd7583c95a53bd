"""What does a plan file say about the same split without the barrier?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from afdplan.errors import InvalidInputError
from afdplan.model.checks import check_count, check_number

__all__ = ["BarrierFreePlan", "barrier_free_from_document"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BarrierFreePlan:
    """The bundle without a barrier that `plan --execution barrier-free` compared the split with.

    Attributes
    ----------
    attention_workers
        Its own best A, at the F, B and m of the split.
    step_time, step_time_p99
        Of a worker: mean, and 99th percentile over all; None in older plans [s].
    least_calls
        Calls that wait before the FFN pool departs.
    gain
        Throughput per device over the split's with the barrier, less 1.
    """

    attention_workers: int
    step_time: float
    step_time_p99: float | None
    least_calls: int
    gain: float


def barrier_free_from_document(document: dict[str, Any]) -> BarrierFreePlan | None:
    """Return it from a parsed plan; None if the plan compared no modes.

    Raises
    ------
    InvalidInputError
        If it is there and no such comparison.
    """
    modes = document.get("modes")
    if modes is None:
        return None
    if not isinstance(modes, dict):
        raise InvalidInputError(f"modes must be null or an object, got {modes!r:.40}")
    p99 = modes.get("step_time_p99")
    return BarrierFreePlan(
        attention_workers=check_count("modes.attention_workers", modes.get("attention_workers")),
        step_time=check_number("modes.step_time", modes.get("step_time"), strict=True),
        step_time_p99=None
        if p99 is None
        else check_number("modes.step_time_p99", p99, strict=True),
        least_calls=check_count("modes.least_calls", modes.get("least_calls")),
        gain=check_number("modes.gain", modes.get("gain"), -1.0),
    )
