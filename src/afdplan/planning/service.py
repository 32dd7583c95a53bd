"""What is a whole service: prefill workers in front of a planned decode side?"""

from __future__ import annotations

from dataclasses import dataclass

from afdplan.model.prefill import PrefillModel
from afdplan.model.words import counted
from afdplan.planning.design import PlannedDesign
from afdplan.planning.first_token import FirstToken, PrefillPool
from afdplan.planning.limits import Limits
from afdplan.planning.plan import Plan

__all__ = ["Baseline", "OneMore", "Service", "ServiceCase"]

MATTERS = 1e-3
"""Relative gain from which on a side is said to limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OneMore:
    """One side enlarged by its least step.

    Attributes
    ----------
    side
        ``prefill``, ``attention``, ``FFN`` or ``decode`` (un-split).
    change
        What is added, for people.
    devices
        How many devices that takes.
    rate
        Requests per second that the service then carries.
    gain
        Relative to the recommended service.
    """

    side: str
    change: str
    devices: int
    rate: float
    gain: float

    @property
    def gain_per_device(self) -> float:
        """Gain over the devices added."""
        return self.gain / self.devices


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceCase:
    """The service with a multiple of its prefill workers and of its decode side.

    Attributes
    ----------
    name
        ``1P1D`` is as recommended, ``2P1D`` has twice the prefill workers.
    devices
        Of both sides.
    rate
        Requests per second that it carries.
    limited_by
        ``prefill`` or ``decode``, whichever alone carries less.
    """

    name: str
    devices: int
    rate: float
    limited_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Another way to use devices, under the same limits.

    Attributes
    ----------
    kind
        ``prefill, attention, FFN``, ``prefill, decode`` or ``un-split``.
    deployment
        What is deployed, for people.
    devices
        In use.
    rate
        Requests per second that it carries.
    gain
        What the recommended service carries more on the same budget, or how many fewer devices
        it takes for the wanted rate, relative to its own.
    """

    kind: str
    deployment: str
    devices: int
    rate: float
    gain: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Service:
    """Prefill workers in front of a planned decode side.

    Attributes
    ----------
    plan
        The decode side: what is deployed on its devices, and all that a plan says.
    pool
        The prefill workers' times, arrivals and limit.
    workers
        P, prefill workers.
    rate
        Requests per second that the service carries under all limits.
    first_token
        Times to first token at that rate, or at the wanted one.
    devices
        Devices of the budget; None without one.
    limits
        Of the service.
    steps
        What one step more of each side brings, the most per device first.
    cases
        What doubling either side does.
    unique_fraction
        Of the KV memory of busy slots, what is left where a worker holds shared blocks once; 1
        without any. The decode side was planned with it.
    baselines
        The best with split and with un-split decoding, and without any split.
    """

    plan: Plan
    pool: PrefillPool
    workers: int
    rate: float
    first_token: FirstToken
    devices: int | None
    limits: Limits
    steps: tuple[OneMore, ...] = ()
    cases: tuple[ServiceCase, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    unique_fraction: float = 1.0

    @property
    def model(self) -> PrefillModel:
        """One prefill worker."""
        return self.pool.model

    @property
    def prefill_devices(self) -> int:
        """Devices of all prefill workers."""
        return self.workers * self.model.devices

    @property
    def used_devices(self) -> int:
        """Devices of prefill, attention and FFN together."""
        return self.prefill_devices + self.plan.recommended.devices

    @property
    def idle_devices(self) -> int:
        """Devices of the budget that nothing uses."""
        return 0 if self.devices is None else self.devices - self.used_devices

    @property
    def limited_by(self) -> str:
        """The side whose step brings most per device; empty if none alone brings anything."""
        best = max(self.steps, key=lambda step: step.gain_per_device, default=None)
        return best.side if best is not None and best.gain > MATTERS else ""

    @property
    def ratio(self) -> tuple[int, ...]:
        """Devices of P : A : F, or of P and the ranks of an un-split decode side."""
        chosen = self.plan.recommended
        if isinstance(chosen, PlannedDesign):
            return (self.prefill_devices, *chosen.design.devices_by_side)
        return self.prefill_devices, chosen.devices

    def __str__(self) -> str:
        workers = counted(self.workers, "prefill worker")
        return f"{workers} of {counted(self.model.devices, 'device')} and {self.plan.recommended}"
