"""What keeps the plan from the next larger batch size?"""

from __future__ import annotations

from dataclasses import dataclass, replace

from afdplan.planning.design import PlannedDesign
from afdplan.planning.limits import Limits
from afdplan.planning.search import DesignSearch

__all__ = ["NextBatch", "next_batch"]

MOST_MEMORY = 64.0
"""Times the memory, beyond which nobody asks how much more would do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextBatch:
    """The recommended design with the next larger batch size.

    Attributes
    ----------
    batch_size
        The next candidate [requests].
    forbidden_by
        Limits that it breaks; empty if it is allowed.
    gain
        Relative gain of the score if nothing forbade it.
    reason
        By how much the limits are broken, or what the larger batch would bring, for people.
    """

    batch_size: int
    forbidden_by: tuple[str, ...]
    gain: float
    reason: str

    def __str__(self) -> str:
        return f"batch {self.batch_size} {self.reason}"


def next_batch(search: DesignSearch, best: PlannedDesign, limits: Limits) -> NextBatch | None:
    """Return what the next larger batch size would do; None if no larger one was considered.

    Parameters
    ----------
    search
        That found `best` under `limits`.
    best
        The recommended design: everything but the batch size stays.
    limits
        All of them.
    """
    design = best.design
    size = search.space.next_batch_size(design.batch_size)
    if size is None:
        return None
    other = search.describe(replace(design, batch_size=size), limits)
    forbidden, reasons = [], []
    if other.held_overflow_probability > limits.overflow_probability:
        forbidden.append("KV memory")
        reasons.append(
            f"would overflow the KV memory with probability "
            f"{other.held_overflow_probability:.2g} per worker and step, "
            f"{limits.overflow_probability:g} allowed: {_memory(search, other, limits)}"
        )
    limit, time = limits.time_per_output_token, other.token_time(limits.statistic)
    if limit is not None and not limits.meets(time):
        forbidden.append("time per output token")
        reasons.append(
            f"would take {time * 1e3:.4g} ms per output token ({limits.statistic}), "
            f"{limit * (1 - limits.margin) * 1e3:.4g} ms allowed: "
            f"{time / limit / (1 - limits.margin) - 1:.2%} too long".replace("%", " %")
        )
    gain = other.score / best.score - 1
    if not forbidden:
        shown = f"{abs(gain):.2%}".replace("%", " %")
        reasons.append(f"is allowed and gives {shown} {'more' if gain > 0 else 'less'}")
    return NextBatch(
        batch_size=size,
        forbidden_by=tuple(forbidden),
        gain=gain,
        reason=" and ".join(reasons),
    )


def _memory(search: DesignSearch, other: PlannedDesign, limits: Limits) -> str:
    """Say how much more memory would hold the design."""
    design = other.design
    low, high = 1.0, 2.0

    def fits(factor: float) -> bool:
        memory = search.memories.scaled(factor).of_worker(design.attention_devices)
        requests = design.requests_per_attention_worker
        return (
            memory is None
            or memory.overflow_probability(requests, 1 - limits.margin)
            <= limits.overflow_probability
        )

    while not fits(high) and high < MOST_MEMORY:
        low, high = high, 2 * high
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return f"{high - 1:.2%} more memory would hold it".replace("%", " %")
