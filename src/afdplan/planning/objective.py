"""What does a deployment cost: devices, currency or watts?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from afdplan.model.checks import check_choice, check_number

__all__ = ["DeviceCost", "Per"]

Per = Literal["device", "currency", "watt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCost:
    """What one device of each side costs, in the unit by which throughput is divided.

    Attributes
    ----------
    per
        ``device``, ``currency`` (rent per hour) or ``watt``.
    attention, ffn
        Of one device of an attention and of an FFN worker, > 0.
    unit
        The unit for people: ``device``, ``USD/h``, ``W``.

    Examples
    --------
    >>> DeviceCost().of(attention_devices=7, ffn_devices=1)
    8.0
    """

    per: Per = "device"
    attention: float = 1.0
    ffn: float = 1.0
    unit: str = "device"

    def __post_init__(self) -> None:
        check_choice("per", self.per, get_args(Per))
        check_number("cost of an attention device", self.attention, strict=True)
        check_number("cost of an FFN device", self.ffn, strict=True)

    def of(self, attention_devices: float, ffn_devices: float) -> float:
        """Return the cost of so many devices of each side."""
        return self.attention * attention_devices + self.ffn * ffn_devices

    @property
    def idle(self) -> float:
        """What a device of the budget costs that no bundle uses: the cheaper of both sides."""
        return min(self.attention, self.ffn)
