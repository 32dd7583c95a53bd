"""How often do devices fail, and how long does a bundle then stand still?"""

from __future__ import annotations

from dataclasses import dataclass

from afdplan.model import plan_parameters as ask
from afdplan.model.parameter import check_fields

__all__ = ["Failures"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """Failures of single devices; each stops its whole bundle or prefill worker.

    Attributes
    ----------
    device_mtbf
        Mean time between failures of one device [s].
    restart
        From a failure until the bundle works again, once all its devices are there [s].
    repair
        Mean time until a failed device is back [s]; 0 counts it within `restart`.
    spare_devices
        Devices that stand by and replace a failed one at once.

    Examples
    --------
    >>> Failures(device_mtbf=3.6e7, restart=300.0).rate(64) * 3.6e7
    64.0
    """

    device_mtbf: float
    restart: float = ask.RESTART.default
    repair: float = ask.REPAIR.default
    spare_devices: int = ask.SPARE_DEVICES.default

    def __post_init__(self) -> None:
        check_fields(self, ask.FAILURES)

    def rate(self, devices: int) -> float:
        """Return the failures per second of so many devices."""
        return devices / self.device_mtbf
