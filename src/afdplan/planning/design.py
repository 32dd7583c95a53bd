"""What is deployed, and what does it give?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from afdplan.model import parameters as ask
from afdplan.model.bundle import Bundle
from afdplan.model.checks import check_count
from afdplan.model.words import counted
from afdplan.planning.limits import TIE

__all__ = ["Candidate", "Combination", "Deployed", "Design", "PlannedDesign", "StepSummary"]


class Combination(NamedTuple):
    """What the law of the attention side depends on: devices per worker, m and B."""

    attention_devices: int
    microbatches: int
    batch_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Replicated bundles of attention and FFN workers.

    Attributes
    ----------
    bundles
        Independent bundles, each with its own barrier, >= 1.
    attention_workers, ffn_workers
        A and F of one bundle, >= 1.
    batch_size
        B, request slots per attention worker and microbatch, >= 1.
    microbatches
        m in flight, 1 to 8.
    attention_devices, ffn_devices
        Devices of one worker of each side, >= 1.

    Examples
    --------
    >>> design = Design(bundles=2, attention_workers=7, ffn_workers=1, batch_size=48)
    >>> str(design), design.devices, design.slots
    ('2 x (7 attention : 1 FFN), batch 48 x 2 microbatches', 16, 1344)
    """

    bundles: int
    attention_workers: int
    ffn_workers: int
    batch_size: int
    microbatches: int = ask.MICROBATCHES.default
    attention_devices: int = 1
    ffn_devices: int = 1

    def __post_init__(self) -> None:
        for name in ("bundles", "attention_devices", "ffn_devices"):
            object.__setattr__(self, name, check_count(name, getattr(self, name), 1, 1_000_000))
        bundle = self.bundle
        for name in ("attention_workers", "ffn_workers", "batch_size", "microbatches"):
            object.__setattr__(self, name, getattr(bundle, name))

    @property
    def bundle(self) -> Bundle:
        """One of the bundles."""
        return Bundle(
            attention_workers=self.attention_workers,
            ffn_workers=self.ffn_workers,
            batch_size=self.batch_size,
            microbatches=self.microbatches,
        )

    @property
    def combination(self) -> Combination:
        """Devices per attention worker, m and B."""
        return Combination(self.attention_devices, self.microbatches, self.batch_size)

    @property
    def requests_per_attention_worker(self) -> int:
        """S = m B, what serving systems call max-num-seqs [requests]."""
        return self.microbatches * self.batch_size

    @property
    def slots(self) -> int:
        """Request slots of all bundles [requests]."""
        return self.bundles * self.attention_workers * self.requests_per_attention_worker

    @property
    def devices_by_side(self) -> tuple[int, int]:
        """Attention and FFN devices of all bundles."""
        attention = self.attention_workers * self.attention_devices
        return self.bundles * attention, self.bundles * self.ffn_workers * self.ffn_devices

    @property
    def bundle_devices(self) -> int:
        """Devices of one bundle."""
        return self.attention_workers * self.attention_devices + self.ffn_workers * self.ffn_devices

    @property
    def devices(self) -> int:
        """Devices of all bundles."""
        return self.bundles * self.bundle_devices

    def __str__(self) -> str:
        bundles = f"{self.bundles} x " if self.bundles > 1 else ""
        pair = f"({self.attention_workers} attention : {self.ffn_workers} FFN)"
        size = f"batch {self.batch_size} x {counted(self.microbatches, 'microbatch')}"
        if self.microbatches == 1:
            size = f"batch {self.batch_size}, 1 microbatch"
        tensor = "" if self.attention_devices == 1 else f", attention TP {self.attention_devices}"
        return f"{bundles}{pair}, {size}{tensor}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSummary:
    """The law of the step time in numbers [s].

    Attributes
    ----------
    mean, p50, p95, p99
        Mean and percentiles over steps in the long run.
    """

    mean: float
    p50: float
    p95: float
    p99: float

    def statistic(self, name: str) -> float:
        """Return one of them by name."""
        value: float = getattr(self, name)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed(ABC):
    """What any deployment gives, split or not.

    Attributes
    ----------
    step_time
        Of one output step of a bundle, or of a group of ranks [s].
    tokens_per_step
        Mean tokens that a request gains per step.
    tokens_per_second
        Of all bundles or groups.
    requests_per_second
        Requests that they finish per second with all slots busy.
    cost
        Of the devices in use, in the unit of the objective.
    score
        What the search maximises: tokens per second and unit of cost.
    memory_overflow_probability
        Chance, per attention worker or rank and step, that the KV cache does not fit.
    held_overflow_probability
        The same with the margin of the limits taken off the memory: what is held against them.
    """

    step_time: StepSummary
    tokens_per_step: float
    tokens_per_second: float
    requests_per_second: float
    cost: float
    score: float
    memory_overflow_probability: float
    held_overflow_probability: float

    @property
    @abstractmethod
    def devices(self) -> int:
        """Devices in use."""

    @property
    def tokens_per_second_per_device(self) -> float:
        """Per device in use."""
        return self.tokens_per_second / self.devices

    @property
    def time_per_output_token(self) -> float:
        """Mean step time over the tokens of a step [s]."""
        return self.token_time("mean")

    def token_time(self, statistic: str) -> float:
        """Return a statistic of the step time over the tokens of a step [s]."""
        return self.step_time.statistic(statistic) / self.tokens_per_step


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedDesign(Deployed):
    """A design with what it gives.

    Attributes
    ----------
    design
        What is deployed.
    memory_mean_fraction
        Mean share of the KV memory in use; 0 if the memory is not limited.
    attention_idle_fraction, ffn_idle_fraction
        Share of a step in which a worker of that side computes nothing.
    """

    design: Design
    memory_mean_fraction: float
    attention_idle_fraction: float
    ffn_idle_fraction: float

    @property
    def devices(self) -> int:
        """Devices in use."""
        return self.design.devices

    @property
    def slots(self) -> int:
        """Request slots of all bundles [requests]."""
        return self.design.slots

    def __str__(self) -> str:
        return str(self.design)


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
