"""By which cost is throughput divided, and what does a deployment cost by it?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from afdplan.model import plan_parameters as ask
from afdplan.model.checks import check_choice, check_number
from afdplan.model.parameter import check_fields

__all__ = ["OBJECTIVES", "DeviceCost", "Objective", "find_objective"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCost:
    """What one device of each side costs, in the unit by which throughput is divided.

    Attributes
    ----------
    per
        An objective of `OBJECTIVES`: ``device``, ``currency`` (rent per hour) or ``watt``.
    attention, ffn
        Of one device of an attention and of an FFN worker, > 0.
    unit
        The unit for people: ``device``, ``USD/h``, ``W``; that of the objective unless given.
    prefill
        Of one device of a prefill worker, > 0; None for that of an attention worker.

    Examples
    --------
    >>> DeviceCost().of(attention_devices=7, ffn_devices=1)
    8.0
    """

    per: str = ask.PER.default
    attention: float = ask.ATTENTION_DEVICE_COST.default
    ffn: float = ask.FFN_DEVICE_COST.default
    unit: str = ""
    prefill: float | None = None

    def __post_init__(self) -> None:
        objective = find_objective(self.per)
        check_fields(self, ask.COST, "{0.name}")
        if self.prefill is not None:
            check_number("prefill", self.prefill, strict=True)
        if not self.unit:
            object.__setattr__(self, "unit", objective.unit)

    def of(self, attention_devices: Any, ffn_devices: Any) -> Any:
        """Return the cost of so many devices of each side, elementwise.

        A subclass may add what does not grow with the devices: the search relies on a fixed cost
        >= 0 and ``attention * attention_devices + ffn * ffn_devices``.
        """
        return self.attention * attention_devices + self.ffn * ffn_devices

    @property
    def of_prefill(self) -> float:
        """Of one device of a prefill worker."""
        return self.attention if self.prefill is None else self.prefill

    @property
    def idle(self) -> float:
        """What a device of the budget costs that no bundle uses: the cheaper of both sides."""
        return min(self.attention, self.ffn)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What a plan maximises: tokens per second and unit of one kind of cost.

    Attributes
    ----------
    name
        As on the command line: ``plan --per NAME``.
    score
        What is maximised, for people.
    unit
        Of the cost, where the hardware states none.
    hardware_field
        Which field of a hardware file states the cost of a device; empty if devices count alike.
    cost
        How the devices of a deployment add up.
    """

    name: str
    score: str
    unit: str
    hardware_field: str = ""
    cost: type[DeviceCost] = DeviceCost


OBJECTIVES: dict[str, Objective] = {
    objective.name: objective
    for objective in (
        Objective(name="device", score="tokens/s per device", unit="device"),
        Objective(
            name="currency",
            score="tokens per unit of money",
            unit="currency/h",
            hardware_field="price_per_hour",
        ),
        Objective(name="watt", score="tokens per joule", unit="W", hardware_field="watts"),
    )
}
"""Everything by which throughput can be divided; whoever adds an entry adds an objective."""


def find_objective(name: str) -> Objective:
    """Return an objective by name.

    Raises
    ------
    InvalidInputError
        If the name is unknown.
    """
    return OBJECTIVES[check_choice("per", name, tuple(OBJECTIVES))]
