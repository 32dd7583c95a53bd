"""Is the plan too small or too large for what arrives, in words for the headline?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from afdplan.planning.colocated_search import ColocatedSearch
from afdplan.planning.held import Deployment, HeldPart
from afdplan.planning.limits import Limits
from afdplan.planning.search import DesignSearch
from afdplan.planning.waiting import SpareCapacity

__all__ = ["supply_words"]

MOST_SPARE = 0.5
"""Share of the capacity that may be spare before the plan is called too large."""
LONG_WAIT = 1.0
"""Seconds until a slot is free (p99) from which on they are told first."""


def supply_words(
    search: DesignSearch,
    recommended: Deployment,
    limits: Limits,
    spare: SpareCapacity | None,
    parts: Sequence[HeldPart],
) -> tuple[str, ...]:
    """Return what the arrivals say of the size of the plan, the gravest first; empty if it fits.

    Parameters
    ----------
    search
        That found the plan, asked for the fewest devices that would do.
    recommended, limits
        What is deployed, under which limits.
    spare
        Arrivals and capacity of all requests; None if unknown.
    parts
        The same in the parts of the trace.
    """
    if spare is None:
        return ()
    return tuple(_words(search, recommended, limits, spare, parts))


def _words(
    search: DesignSearch,
    recommended: Deployment,
    limits: Limits,
    spare: SpareCapacity,
    parts: Sequence[HeldPart],
) -> Iterator[str]:
    busy = [
        part
        for part in parts
        if part.arrival_rate is not None and part.arrival_rate > part.requests_per_second
    ]
    if spare.spare_fraction <= 0:
        yield f"too small: {_arrive(spare.arrival_rate, spare.capacity)}"
    elif busy:
        worst = max(busy, key=lambda part: (part.arrival_rate or 0.0) / part.requests_per_second)
        arrive = _arrive(worst.arrival_rate or 0.0, worst.requests_per_second)
        yield f"too small in {worst.part}: {arrive}"
    if spare.waiting_p99 is not None and spare.waiting_p99 > LONG_WAIT:
        yield f"requests wait up to {spare.waiting_p99:,.3g} s for a slot (p99)"
    if spare.spare_fraction > MOST_SPARE:
        # What would do must do in the busiest part of the trace too.
        rates = [part.arrival_rate for part in parts if part.arrival_rate is not None]
        wanted = replace(limits, requests_per_second=max([spare.arrival_rate, *rates]))
        split = search.best(wanted)
        able = [plan.devices for plan in ColocatedSearch.of(search).widths(wanted)]
        if split is not None:
            able.append(split.devices)
        fewest = min(able, default=recommended.devices)
        nearly_all = spare.spare_fraction >= 0.9995
        part = "over 99.9%" if nearly_all else f"{spare.spare_fraction:.1%}"
        words = f"too large: {part} of its capacity is spare"
        arrive = _arrive(spare.arrival_rate, spare.capacity)
        if fewest < recommended.devices:
            words += f", {fewest:,} of {recommended.devices:,} devices would do ({arrive})"
        else:
            words += f", but nothing smaller holds the limits ({arrive})"
        yield words.replace("%", " %")


def _arrive(arriving: float, capacity: float) -> str:
    return f"{arriving:,.4g} requests/s arrive, {capacity:,.4g} can be finished"
