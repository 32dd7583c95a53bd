"""What does one un-split deployment give: its devices, step time, tokens and cost?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from afdplan.model.words import counted
from afdplan.planning.design import Deployed

__all__ = ["Colocated", "best_colocated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Colocated(Deployed):
    """The best un-split deployment of one expert-parallel width.

    Attributes
    ----------
    replicas
        Independent groups.
    ranks
        W, ranks of a group: data-parallel attention, experts over all.
    devices_per_rank
        Tensor-parallel devices of a rank.
    batch_size
        Requests of a rank and microbatch.
    two_batch_overlap
        Whether two microbatches hide each other's transfers.
    """

    replicas: int
    ranks: int
    devices_per_rank: int
    batch_size: int
    two_batch_overlap: bool

    @property
    def devices(self) -> int:
        """Devices in use."""
        return self.replicas * self.ranks * self.devices_per_rank

    @property
    def slots(self) -> int:
        """Request slots of all groups [requests]."""
        return self.replicas * self.ranks * self.requests_per_rank

    @property
    def requests_per_rank(self) -> int:
        """Request slots of a rank."""
        return self.batch_size * (2 if self.two_batch_overlap else 1)

    def __str__(self) -> str:
        replicas = f"{self.replicas} x " if self.replicas > 1 else ""
        tensor = f" of TP {self.devices_per_rank}" if self.devices_per_rank > 1 else ""
        overlap = "two-batch overlap" if self.two_batch_overlap else "one batch at a time"
        ranks = f"{replicas}{counted(self.ranks, 'rank')}{tensor}"
        return f"{ranks}, {counted(self.requests_per_rank, 'request')} each, {overlap}"


def best_colocated(widths: Iterable[Colocated]) -> Colocated | None:
    """Return the best of several widths: of those that cost as little, the one that gives most."""
    return max(widths, key=lambda plan: (plan.score, plan.tokens_per_second), default=None)
