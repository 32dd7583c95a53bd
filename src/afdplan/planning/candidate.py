"""Which of two designs is to be preferred?"""

from __future__ import annotations

from dataclasses import dataclass

from afdplan.planning.design import Design
from afdplan.planning.limits import TIE

__all__ = ["Candidate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A design that was evaluated exactly, in the order of preference."""

    score: float
    design: Design

    def beats(self, other: Candidate | None) -> bool:
        """Return whether this one is to be preferred: score, then fewer devices, smaller batch."""
        if other is None:
            return True
        if abs(self.score - other.score) > TIE * max(abs(self.score), abs(other.score)):
            return self.score > other.score
        return _rank(self.design) < _rank(other.design)


def _rank(design: Design) -> tuple[int, ...]:
    return (
        design.devices,
        design.batch_size,
        design.microbatches,
        design.attention_workers,
        design.ffn_workers,
        design.attention_devices,
    )
