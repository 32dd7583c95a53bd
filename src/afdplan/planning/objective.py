"""What does a deployment cost: devices, currency or watts?"""

from __future__ import annotations

from dataclasses import dataclass

from afdplan.model import parameters as ask
from afdplan.model.parameter import check_fields
from afdplan.model.parameters import Per

__all__ = ["DeviceCost", "Per"]


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

    per: Per = ask.PER.default
    attention: float = ask.ATTENTION_DEVICE_COST.default
    ffn: float = ask.FFN_DEVICE_COST.default
    unit: str = "device"

    def __post_init__(self) -> None:
        check_fields(self, ask.COST, "{0.name}")

    def of(self, attention_devices: float, ffn_devices: float) -> float:
        """Return the cost of so many devices of each side."""
        return self.attention * attention_devices + self.ffn * ffn_devices

    @property
    def idle(self) -> float:
        """What a device of the budget costs that no bundle uses: the cheaper of both sides."""
        return min(self.attention, self.ffn)
