"""Which deployment is best among those that hold in every part of the trace?

The best one for all requests is held against every part that can be told apart and both ends of
the load's interval. Where it breaks a limit of time or memory, the search is made again for the
part that it breaks most, with a margin if that part had its turn; where only a rate is too small,
for the same requests at a higher rate. So until one holds everywhere; if none is found, the first
one is returned with what it breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from afdplan.errors import InfeasibleError
from afdplan.lengths.law import LengthLaw
from afdplan.model.latency import LatencyModel
from afdplan.planning.colocated import Colocated, best_colocated
from afdplan.planning.colocated_search import ColocatedSearch
from afdplan.planning.design import PlannedDesign
from afdplan.planning.held import Breach, Circumstance, Deployment, HeldPart, hold, limits_in
from afdplan.planning.infeasible import explain_infeasible
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.search import DesignSearch
from afdplan.planning.source import LatencySource
from afdplan.planning.space import SearchSpace
from afdplan.planning.verdict import Verdict, judge

__all__ = ["Holding", "find_holding"]

MOST_TRIES = 6
MEMORY_MARGIN = 0.05
"""Margin added for a part whose KV cache overflows."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Holding:
    """The best split and un-split deployments for some requests, and where they hold.

    Attributes
    ----------
    basis
        The requests that were planned for.
    limits
        Those of these requests.
    search
        That found `split`.
    split, colocated, verdict, latency
        The best split design, the best un-split deployment of every width, which of both is
        recommended, and the stage times of the split design.
    parts, ends
        The recommended deployment in every part of the trace and at both ends of the interval.
    split_breaks
        The limits that no split keeps, in words, if only un-split deployments keep all: `split` is
        the nearest one then. Empty where it keeps them.
    """

    basis: Circumstance
    limits: Limits
    search: DesignSearch
    split: PlannedDesign
    colocated: tuple[Colocated, ...]
    verdict: Verdict
    latency: LatencyModel
    parts: tuple[HeldPart, ...] = ()
    ends: tuple[HeldPart, ...] = ()
    split_breaks: str = ""

    @property
    def recommended(self) -> Deployment:
        """The split design, or the best un-split deployment where a split does not pay."""
        best = best_colocated(self.colocated)
        return self.split if best is None or self.verdict.split == "yes" else best

    @property
    def breaches(self) -> tuple[Breach, ...]:
        """Every limit that is broken somewhere, the gravest first."""
        found = [breach for held in (*self.parts, *self.ends) for breach in held.breaches]
        return tuple(sorted(found, key=lambda breach: -breach.excess))


def find_holding(
    law: LengthLaw,
    source: LatencySource,
    limits: Limits,
    space: SearchSpace,
    cost: DeviceCost,
    parts: Sequence[Circumstance],
    ends: Sequence[Circumstance],
    search: DesignSearch | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> Holding:
    """Return the best deployment that holds everywhere; else the best one for all requests.

    A `search` over all requests that was made before keeps what it has computed; `progress` is
    called with the share done, 0 to 1.

    Raises
    ------
    InfeasibleError
        If no design meets the limits even for all requests together.
    """
    whole = Circumstance(name="all requests", law=law)
    everywhere = {where.name: where for where in (*parts, *ends)}
    # One search per part keeps what it has computed; what the source says they share.
    first_search = search or DesignSearch(law, source, space, cost)
    times = first_search.models.times
    searches = {
        name: DesignSearch(where.law, source, space, cost, times=times)
        for name, where in everywhere.items()
    }
    searches[whole.name] = first_search
    first = _best(whole, limits, source, searches[whole.name])
    if first is None:
        raise _refused(whole, limits, source, everywhere, searches)
    progress(0.5)
    current = first = _held(first, limits, parts, ends, searches)
    tried: set[str] = set()
    margin = limits.margin
    for tries in range(MOST_TRIES):
        progress(0.6 + 0.05 * tries)
        if not current.breaches:
            return current
        heavy = [breach for breach in current.breaches if breach.limit != "rate"]
        where = current.basis  # more of the same will do where only a rate is too small
        if heavy:
            worst = next((breach for breach in heavy if breach.part not in tried), heavy[0])
            if worst.part in tried:
                more = MEMORY_MARGIN if worst.limit == "KV memory" else worst.excess
                margin = 1 - (1 - margin) / (1 + min(more, 1.0)) * (1 - 1e-6)
            tried.add(worst.part)
            where = everywhere[worst.part]
        again = replace(_rate_for_all(current, where, limits), margin=margin)
        # Where only the rate rises, more of the same do: nothing dearer is looked at.
        same = where is current.basis and again.margin == current.limits.margin
        known = current.split if same and not current.split_breaks else None
        found = _best(where, again, source, searches[where.name], known)
        if found is None:
            break
        current = _held(found, limits, parts, ends, searches)
    return current if not current.breaches else first


def _refused(
    whole: Circumstance,
    limits: Limits,
    source: LatencySource,
    everywhere: Mapping[str, Circumstance],
    searches: Mapping[str, DesignSearch],
) -> InfeasibleError:
    """Return why nothing holds: told of the part of the trace that asks most; all parts count."""

    def breaks(plan: PlannedDesign, relaxed: Limits) -> str:
        # What is relaxed is relaxed everywhere; a rate, by the same share in every part.
        share = (relaxed.requests_per_second or 1.0) / (inside.requests_per_second or 1.0)
        for name, part in everywhere.items():
            rate = limits_in(part, limits).requests_per_second
            here = replace(relaxed, requests_per_second=rate and rate * share)
            found = hold(plan, replace(part, arrival_rate=None), here, searches[name]).breaches
            if found:
                return str(found[0])
        return ""

    def asked(where: Circumstance) -> float:
        rate = limits_in(where, limits).requests_per_second
        return where.law.token_load().mean * (1.0 if rate is None else rate)

    where = max((whole, *everywhere.values()), key=asked)
    if _best(where, limits_in(where, limits), source, searches[where.name]) is not None:
        where = whole
    inside, told = limits_in(where, limits), "" if where is whole else where.name
    return explain_infeasible(searches[where.name], inside, where=told, breaks=breaks)


def _rate_for_all(current: Holding, where: Circumstance, limits: Limits) -> Limits:
    """Return limits with the rate of some requests at which every part gets its own.

    How many requests the slots finish in one part for each in another is that of `current`.
    """
    if limits.requests_per_second is None:
        return limits
    held = (*current.parts, *current.ends)
    # Requests finished per second where `where` is, and the most that is asked of that anywhere.
    able = {one.part: one.requests_per_second for one in held}
    here = able.get(where.name, current.recommended.requests_per_second)
    goals = [(one.arrival_rate or limits.requests_per_second, able[one.part]) for one in held]
    wanted = max((goal * here / rate for goal, rate in goals), default=0.0)
    if where.name not in able:
        wanted = max(wanted, limits.requests_per_second)
    return replace(limits, requests_per_second=wanted * (1 + 1e-9))


def _best(
    where: Circumstance,
    limits: Limits,
    source: LatencySource,
    search: DesignSearch,
    known: PlannedDesign | None = None,
) -> Holding | None:
    split = search.best(limits, known=known)
    colocated = tuple(ColocatedSearch.of(search).widths(limits))
    breaks = ""
    if split is None:
        refused = explain_infeasible(search, limits, colocated)
        split, breaks = refused.nearest, str(refused).partition(". ")[0]
        if split is None or not colocated:
            return None
    design = split.design
    latency = source.latency(design.attention_devices, design.ffn_workers, design.batch_size)
    verdict = judge(where.law, source, split, colocated, limits, latency)
    if breaks:
        reasons = (f"do not split: {breaks}", *verdict.reasons[1:])
        verdict = replace(
            verdict, split="no", gain=None, narrow_gain=None, interval=None, reasons=reasons
        )
    return Holding(
        basis=where,
        limits=limits,
        search=search,
        split=split,
        colocated=colocated,
        verdict=verdict,
        latency=latency,
        split_breaks=breaks,
    )


def _held(
    found: Holding,
    limits: Limits,
    parts: Sequence[Circumstance],
    ends: Sequence[Circumstance],
    searches: Mapping[str, DesignSearch],
) -> Holding:
    chosen = found.recommended
    return replace(
        found,
        parts=tuple(hold(chosen, where, limits, searches[where.name]) for where in parts),
        ends=tuple(hold(chosen, where, limits, searches[where.name]) for where in ends),
    )
