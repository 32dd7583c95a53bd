"""How are measured stages told to a person?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afdplan.report.quantities import time
from afdplan.report.tables import TextTable
from afdplan.report.telling import Telling

if TYPE_CHECKING:
    from afdplan.calibration.profile import ProfileResult

__all__ = ["profile_told"]


def profile_told(result: ProfileResult) -> Telling:
    """Return what was measured, point by point."""
    facts = result.environment
    return Telling(
        subject=f"{facts['model']} on {facts['device_name']} ({facts['device']}, {facts['dtype']})",
        tables=(
            TextTable.of(
                "One layer, as measured",
                (*result.table, *result.other_routing),
                {
                    "stage": lambda point: f"{point.stage} {point.routing}".strip(),
                    "load [tokens]": lambda point: f"{point.load:,}",
                    "requests": lambda point: f"{point.requests:,}",
                    "median": lambda point: time(point.latency, "s"),
                    "spread": lambda point: time(point.spread, "s"),
                },
            ),
        ),
        warnings=tuple(result.warnings),
    )
