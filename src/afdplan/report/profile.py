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
    rows = [
        (
            f"{point.stage} {point.routing}".strip(),
            f"{point.load:,}",
            f"{point.requests:,}",
            time(point.latency, "s"),
            time(point.spread, "s"),
        )
        for point in (*result.table, *result.other_routing)
    ]
    return Telling(
        subject=f"{facts['model']} on {facts['device_name']} ({facts['device']}, {facts['dtype']})",
        tables=(
            TextTable(
                title="One layer, as measured",
                columns=("stage", "load [tokens]", "requests", "median", "spread"),
                rows=rows,
            ),
        ),
        warnings=tuple(result.warnings),
    )
