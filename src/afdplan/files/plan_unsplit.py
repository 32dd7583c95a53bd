"""What does a plan file say about serving without a split?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from afdplan.errors import InvalidInputError
from afdplan.model.checks import check_count, check_number

__all__ = ["UnsplitPlan", "recommends_unsplit", "unsplit_from_document"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsplitPlan:
    """The best deployment in which every rank runs attention and its share of the experts.

    Attributes
    ----------
    replicas
        Independent groups.
    ranks
        Data-parallel ranks of a group, experts over all of them.
    devices_per_rank
        Tensor-parallel devices of a rank.
    requests_per_rank
        Request slots of a rank.
    two_batch_overlap
        Whether two halves hide each other's transfers.
    step_time_mean, step_time_p99
        Promised [s].
    tokens_per_second
        Promised, of all groups.
    """

    replicas: int
    ranks: int
    devices_per_rank: int
    requests_per_rank: int
    two_batch_overlap: bool
    step_time_mean: float
    step_time_p99: float
    tokens_per_second: float

    @property
    def devices(self) -> int:
        """Devices in use."""
        return self.replicas * self.ranks * self.devices_per_rank


def recommends_unsplit(document: dict[str, Any]) -> bool:
    """Return whether a parsed plan recommends not to split; older plans always hold a split."""
    best = document.get("recommended")
    kind = best.get("kind", "split") if isinstance(best, dict) else "split"
    if kind not in ("split", "un-split"):
        raise InvalidInputError(f"recommended.kind must be split or un-split, got {kind!r:.40}")
    return bool(kind == "un-split")


def unsplit_from_document(document: dict[str, Any]) -> UnsplitPlan | None:
    """Return the un-split deployment of a parsed plan; None if it has none."""
    found = document.get("colocated")
    if found is None:
        return None
    step = found.get("step_time") if isinstance(found, dict) else None
    if not isinstance(step, dict):
        raise InvalidInputError("colocated must be an object with a step_time, or null")
    overlap = found.get("two_batch_overlap")
    if not isinstance(overlap, bool):
        raise InvalidInputError(
            f"colocated.two_batch_overlap must be a boolean, got {overlap!r:.40}"
        )
    counts = {
        name: check_count(f"colocated.{name}", found.get(name), 1, 1_000_000)
        for name in ("replicas", "ranks", "devices_per_rank", "requests_per_rank")
    }
    return UnsplitPlan(
        **counts,
        two_batch_overlap=overlap,
        step_time_mean=check_number("colocated.step_time.mean", step.get("mean"), strict=True),
        step_time_p99=check_number("colocated.step_time.p99", step.get("p99"), strict=True),
        tokens_per_second=check_number(
            "colocated.tokens_per_second", found.get("tokens_per_second"), strict=True
        ),
    )
