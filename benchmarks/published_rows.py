"""How is a derived number told beside a published one?"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

__all__ = ["Row", "table"]


@dataclass(frozen=True)
class Row:
    """One derived number beside a published one."""

    group: str
    what: str
    published: float
    derived: float
    unit: str

    @property
    def error(self) -> float:
        return self.derived / self.published - 1


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(rows: list[Row]) -> str:
    """Markdown of one group of rows, its median error below."""
    lines = ["| what | published | derived | error |", "|---|---:|---:|---:|"]
    for row in rows:
        unit = f" {row.unit}" if row.unit else ""
        lines.append(
            f"| {row.what} | {_short(row.published)}{unit} | {_short(row.derived)}{unit} "
            f"| {row.error:+.0%} |".replace("%", " %")
        )
    middle = statistics.median(abs(row.error) for row in rows)
    worst = max(rows, key=lambda row: abs(row.error))
    lines.append("")
    lines.append(
        f"Median absolute error {middle:.0%}; largest {worst.error:+.0%} ({worst.what}).".replace(
            "%", " %"
        )
    )
    return "\n".join(lines)
