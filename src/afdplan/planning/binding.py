"""Which limit binds, and what would relaxing it bring?"""

from __future__ import annotations

from dataclasses import dataclass, replace

from afdplan.deploy.target import ANY
from afdplan.model import plan_parameters as ask
from afdplan.model.words import counted
from afdplan.planning.design import PlannedDesign
from afdplan.planning.limits import Limits
from afdplan.planning.search import DesignSearch

__all__ = ["ShadowPrice", "shadow_prices"]

MATTERS = 1e-3
"""Relative gain from which on a limit is said to bind."""
MOST = int(ask.DEVICES.maximum or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowPrice:
    """What relaxing one limit brings.

    Attributes
    ----------
    limit
        Which one.
    relaxation
        By how much it was relaxed, for people.
    gain
        Relative gain of the score, >= 0 up to rounding: a relaxed limit may still be kept.
    design
        The best design under the relaxed limit, in words.
    """

    limit: str
    relaxation: str
    gain: float
    design: str

    @property
    def binds(self) -> bool:
        """Whether the gain is more than a thousandth."""
        return self.gain > MATTERS

    def __str__(self) -> str:
        gain = f"{self.gain:+.1%}".replace("%", " %")
        return f"{self.relaxation}: {gain}"


def shadow_prices(
    search: DesignSearch, best: PlannedDesign, limits: Limits
) -> tuple[ShadowPrice, ...]:
    """Return what relaxing each limit in turn brings, the most precious first.

    The search runs again under each relaxed limit, over the same candidates.

    Parameters
    ----------
    search
        That found `best` under `limits`.
    best
        The recommended design.
    limits
        All of them.
    """
    space = search.space
    trials: list[tuple[str, str, PlannedDesign | None]] = []
    tpot = limits.time_per_output_token
    if tpot is not None:
        more = max(0.2 * tpot, min(0.01, tpot))
        shown = f"{more * 1e3:.3g} ms more TPOT"
        relaxed = replace(limits, time_per_output_token=tpot + more)
        trials.append(("time per output token", shown, search.best(relaxed, known=best)))
    if search.memories.of_worker(best.design.attention_devices) is not None:
        trials.append(
            ("KV memory", "10 % more KV memory", search.with_memory(1.1).best(limits, known=best))
        )
        if limits.overflow_probability < 0.1:
            relaxed = replace(limits, overflow_probability=10 * limits.overflow_probability)
            shown = f"ten times the overflow probability ({relaxed.overflow_probability:g})"
            trials.append(("overflow probability", shown, search.best(relaxed, known=best)))
    if limits.devices is not None and limits.devices < MOST:
        more_devices = max(limits.devices // 8, limits.node_devices)
        more_devices = min(more_devices, MOST - limits.devices)
        # Any number up to so many more: what is not used is not paid for.
        relaxed = replace(
            limits,
            devices=limits.devices + more_devices,
            optional_devices=limits.optional_devices + more_devices,
        )
        goal = "" if limits.requests_per_second is not None else " (gain per device)"
        shown = f"up to {counted(more_devices, 'more device')}{goal}"
        trials.append(("devices", shown, search.best(relaxed, known=best)))
    if limits.node_devices > 1:
        relaxed = replace(limits, node_devices=1)
        trials.append(
            ("whole nodes", "sharing nodes between both sides", search.best(relaxed, known=best))
        )
    if space.target.restricts:
        free = replace(space, target=replace(ANY, microbatches=space.microbatches))
        shown = f"any pair, not only those of {space.target.name}"
        trials.append(("legal pairs", shown, search.best(limits, free, known=best)))
    prices = [
        ShadowPrice(
            limit=limit,
            relaxation=shown,
            gain=plan.score / best.score - 1,
            design=str(plan.design),
        )
        for limit, shown, plan in trials
        if plan is not None
    ]
    prices.sort(key=lambda price: -price.gain)
    return tuple(prices)
