"""What does one un-split deployment give: its devices, step time, tokens and cost?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from afdplan.model.words import counted
from afdplan.planning.design import StepSummary

__all__ = ["Colocated", "best_colocated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Colocated:
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
    step_time
        Of one output step [s].
    tokens_per_step
        Mean tokens that a request gains per step.
    tokens_per_second, requests_per_second
        Of all groups with all slots busy.
    cost
        Of the devices in use.
    score
        As that of a design: tokens per second and unit of cost.
    memory_overflow_probability
        Chance, per rank and step, that the KV cache does not fit beside both kinds of weights.
    held_overflow_probability
        The same with the margin of the limits taken off the memory.
    """

    replicas: int
    ranks: int
    devices_per_rank: int
    batch_size: int
    two_batch_overlap: bool
    step_time: StepSummary
    tokens_per_step: float
    tokens_per_second: float
    requests_per_second: float
    cost: float
    score: float
    memory_overflow_probability: float
    held_overflow_probability: float

    @property
    def devices(self) -> int:
        """Devices in use."""
        return self.replicas * self.ranks * self.devices_per_rank

    @property
    def slots(self) -> int:
        """Request slots of all groups [requests]."""
        return self.replicas * self.ranks * self.requests_per_rank

    @property
    def time_per_output_token(self) -> float:
        """Mean step time over the tokens of a step [s]."""
        return self.token_time("mean")

    def token_time(self, statistic: str) -> float:
        """Return a statistic of the step time over the tokens of a step [s]."""
        return self.step_time.statistic(statistic) / self.tokens_per_step

    @property
    def requests_per_rank(self) -> int:
        """Request slots of a rank."""
        return self.batch_size * (2 if self.two_batch_overlap else 1)

    @property
    def tokens_per_second_per_device(self) -> float:
        """Per device in use."""
        return self.tokens_per_second / self.devices

    def __str__(self) -> str:
        replicas = f"{self.replicas} x " if self.replicas > 1 else ""
        tensor = f" of TP {self.devices_per_rank}" if self.devices_per_rank > 1 else ""
        overlap = "two-batch overlap" if self.two_batch_overlap else "one batch at a time"
        ranks = f"{replicas}{counted(self.ranks, 'rank')}{tensor}"
        return f"{ranks}, {counted(self.requests_per_rank, 'request')} each, {overlap}"


def best_colocated(widths: Iterable[Colocated]) -> Colocated | None:
    """Return the best of several widths: of those that cost as little, the one that gives most."""
    return max(widths, key=lambda plan: (plan.score, plan.tokens_per_second), default=None)
