"""How do arrivals compare with what the bundle can finish?"""

from __future__ import annotations

from dataclasses import dataclass

from afdplan.model.estimate import Estimate

__all__ = ["OfferedLoad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedLoad:
    """Arrivals beside what the bundle finishes when it always has enough to do.

    Attributes
    ----------
    arrival_rate
        Requests per time.
    capacity
        Requests per time that leave a saturated bundle, finished or refused, with an interval.
    """

    arrival_rate: float
    capacity: Estimate

    @property
    def is_stable(self) -> bool:
        """Whether the queue stays finite, the interval of the capacity allowed for."""
        return self.arrival_rate < self.capacity.low

    @property
    def utilization(self) -> float:
        """Arrivals over capacity."""
        return self.arrival_rate / self.capacity.value
