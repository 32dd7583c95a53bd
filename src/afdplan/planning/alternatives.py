"""Which other designs matter, and what would each cost?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from afdplan.model.words import counted
from afdplan.planning.design import Design, PlannedDesign
from afdplan.planning.limits import TIE, Limits
from afdplan.planning.search import MOST_DEVICES, DesignSearch
from afdplan.planning.space import SearchSpace

__all__ = ["Alternative", "alternatives", "pareto_front"]

FRONT_POINTS = 6
SMALLER_BATCHES = 3
"""Batch sizes tried below that of a design which is near an alternative."""

Kind = Literal["attention_workers", "microbatches", "batch_size", "ffn_workers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Another design, and what it loses.

    Attributes
    ----------
    kind
        What differs first of all: a neighbour in A keeps all but the number of bundles.
    change
        How it differs, for people.
    plan
        What it gives.
    regret
        Share of the recommended score that it loses; negative if it gains by breaking a limit.
    breaks
        The limit that it breaks; empty if none.
    """

    kind: Kind
    change: str
    plan: PlannedDesign
    regret: float
    breaks: str


def alternatives(
    search: DesignSearch, best: PlannedDesign, limits: Limits, nearest: int | None = None
) -> tuple[Alternative, ...]:
    """Return the next legal ratios, other microbatches, other batch sizes and other F.

    Parameters
    ----------
    search
        That found `best` under `limits`.
    best
        The recommended design.
    limits
        All of them.
    nearest
        How many of those that give up least are enough; all of them if None.
    """
    space, design = search.space, best.design
    found: list[Alternative] = []
    for step, word in ((-1, "fewer"), (1, "more")):
        pair = _next_pair(search, space, design, limits, step)
        if pair is not None:
            gap = abs(pair.attention_workers - design.attention_workers)
            words = counted(gap, f"{word} attention worker")
            found.append(_against(search, best, words, pair, limits))
    searches: list[tuple[Kind, str, SearchSpace, Design]] = []
    smaller = [b for b in space.batch_sizes if b < design.batch_size][-1:]
    larger = [b for b in space.batch_sizes if b > design.batch_size][:1]
    for b in smaller + larger:
        near = replace(design, batch_size=b)
        searches.append(("batch_size", f"batch size {b}", replace(space, batch_sizes=(b,)), near))
    for m in (design.microbatches - 1, design.microbatches + 1):
        if m in (1, 2, 3, 4) and (space.target.name == "any" or m in space.target.microbatches):
            narrowed = replace(space, microbatches=(m,))
            as_many = _listed(space, design.microbatches * design.batch_size // m)
            near = replace(design, microbatches=m, batch_size=as_many)
            searches.append(("microbatches", counted(m, "microbatch"), narrowed, near))
    numbers = search.source.ffn_workers(limits.devices or 8 * design.ffn_workers)
    if space.ffn_workers is None and design.ffn_workers in numbers:
        at = numbers.index(design.ffn_workers)
        for other in (at - 1, at + 1):
            if 0 <= other < len(numbers):
                f = numbers[other]
                narrowed = replace(space, ffn_workers=(f,))
                words = f"{counted(f, 'FFN worker')} per bundle"
                near = _same_ratio(search, narrowed, design, limits, f)
                searches.append(("ffn_workers", words, narrowed, near))
    for kind, change, narrowed, near in searches:
        known = _able(search, narrowed, near, limits)
        enough = None if nearest is None else _last_of(found, nearest)
        beaten = enough is not None and (known is None or enough.score > known.score)
        plan = search.best(limits, narrowed, enough if beaten else known)
        # What gives up more than others that are enough is not looked for.
        if plan is not None and not (enough is not None and plan.design == enough.design):
            regret = 1 - plan.score / best.score
            found.append(Alternative(kind=kind, change=change, plan=plan, regret=regret, breaks=""))
    return tuple(found)


def _last_of(found: list[Alternative], nearest: int) -> PlannedDesign | None:
    """Return the plan that gives up most of as many as are enough; None if there are fewer."""
    kept = sorted((one for one in found if not one.breaks), key=lambda one: one.regret)
    return kept[nearest - 1].plan if len(kept) >= nearest else None


def _listed(space: SearchSpace, batch_size: int) -> int:
    """Return the largest batch size of the list that is no larger."""
    return max((b for b in space.batch_sizes if b <= batch_size), default=space.batch_sizes[0])


def _same_ratio(
    search: DesignSearch, space: SearchSpace, design: Design, limits: Limits, ffn_workers: int
) -> Design:
    """Return the design with other FFN workers and the legal A that is next to the same ratio."""
    most = limits.devices or MOST_DEVICES
    a = search.lattice(limits, space, design.attention_devices, most).attention
    goal = design.attention_workers * ffn_workers / design.ffn_workers
    workers = int(a[np.argmin(np.abs(a - goal))]) if a.size else design.attention_workers
    return replace(design, attention_workers=workers, ffn_workers=ffn_workers)


def _able(
    search: DesignSearch, space: SearchSpace, design: Design, limits: Limits
) -> PlannedDesign | None:
    """Return a design near this one that meets the limits, to have something to beat; or None."""
    most = limits.devices or MOST_DEVICES
    lattice = search.lattice(limits, space, design.attention_devices, most)
    legal = (lattice.attention == design.attention_workers) & (lattice.ffn == design.ffn_workers)
    if not legal.any():
        return None
    bundles = int(lattice.most_bundles[legal][0]) or design.bundles
    design = replace(design, bundles=bundles)
    smaller = [b for b in space.batch_sizes if b < design.batch_size][: -SMALLER_BATCHES - 1 : -1]
    for size in (design.batch_size, *smaller):
        plan = search.refilled(replace(design, batch_size=size), limits)
        if (
            plan is not None
            and plan.held_overflow_probability <= limits.overflow_probability
            and limits.meets(plan.token_time(limits.statistic))
        ):
            return plan
    return None


def _next_pair(
    search: DesignSearch, space: SearchSpace, design: Design, limits: Limits, step: int
) -> Design | None:
    """Return the design with the next legal A on one side, refilled to the limits."""
    most = limits.devices or 4 * design.bundle_devices
    lattice = search.lattice(
        limits, replace(space, ffn_workers=(design.ffn_workers,)), design.attention_devices, most
    )
    a = np.unique(lattice.attention)
    a = a[a < design.attention_workers] if step < 0 else a[a > design.attention_workers]
    if not a.size:
        return None
    workers = int(a[-1] if step < 0 else a[0])
    at = int(np.flatnonzero(lattice.attention == workers)[0])
    bundles = int(lattice.most_bundles[at]) or design.bundles
    other = replace(design, attention_workers=workers, bundles=bundles)
    if limits.requests_per_second is not None:
        refilled = search.refilled(other, replace(limits, devices=None))
        other = other if refilled is None else refilled.design
    return other


def _against(
    search: DesignSearch, best: PlannedDesign, change: str, design: Design, limits: Limits
) -> Alternative:
    plan = search.describe(design, limits)
    breaks = ""
    if not limits.meets(plan.token_time(limits.statistic)):
        breaks = "time per output token"
    elif limits.devices is not None and design.devices > limits.devices:
        breaks = "devices"
    return Alternative(
        kind="attention_workers",
        change=change,
        plan=plan,
        regret=1 - plan.score / best.score,
        breaks=breaks,
    )


def pareto_front(
    search: DesignSearch, best: PlannedDesign, fastest: PlannedDesign, limits: Limits
) -> tuple[PlannedDesign, ...]:
    """Return the best score against time per output token, fastest first.

    Every point is the exact optimum under its own limit on the time per output token, at even
    ratios from the fastest design to twice the time of the recommended one; dominated points are
    left out.
    """
    points = {str(best.design): best}
    low, here = (plan.token_time(limits.statistic) for plan in (fastest, best))
    known: PlannedDesign | None = None
    for time in np.geomspace(low * (1 + 1e-6), max(2 * here, low * 1.01), FRONT_POINTS):
        # What meets a limit meets all longer ones.
        if time >= here and (known is None or best.score > known.score):
            known = best
        plan = search.best(replace(limits, time_per_output_token=float(time)), known=known)
        if plan is not None:
            points.setdefault(str(plan.design), plan)
            known = plan
    ordered = sorted(points.values(), key=lambda p: (p.token_time(limits.statistic), -p.score))
    front: list[PlannedDesign] = []
    for plan in ordered:
        if not front or plan.score > front[-1].score * (1 + TIE):
            front.append(plan)
    return tuple(front)
