"""Which limits conflict, by how much, and what is the nearest plan that is possible?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from afdplan.errors import InfeasibleError
from afdplan.model.words import counted
from afdplan.planning.colocated import Colocated
from afdplan.planning.colocated_search import ColocatedSearch
from afdplan.planning.design import PlannedDesign
from afdplan.planning.fastest import fastest_design
from afdplan.planning.held import Deployment
from afdplan.planning.limits import Limits
from afdplan.planning.search import DesignSearch

__all__ = ["explain_infeasible"]


class _Way(NamedTuple):
    """One limit relaxed alone: by how much, in words, the limits then, and the plan."""

    excess: float
    words: str
    limits: Limits
    plan: PlannedDesign | None


def _anything(plan: PlannedDesign, limits: Limits) -> str:
    return ""


def explain_infeasible(
    search: DesignSearch,
    limits: Limits,
    able: Sequence[Colocated] | None = None,
    *,
    where: str = "",
    breaks: Callable[[PlannedDesign, Limits], str] = _anything,
) -> InfeasibleError:
    """Return the error that says what conflicts and what the nearest feasible plan is.

    Each limit is dropped alone; where that makes a plan possible, the value that it would have
    to take is computed exactly.

    Parameters
    ----------
    search, limits
        Under which no split was found.
    able
        The un-split deployments that meet the limits, where they are known.
    where
        The requests of `search`, where they are a part of all.
    breaks
        Says what a plan breaks under other requests that count too, the limits relaxed so that it
        is feasible under those of `search`; nothing if it holds there.
    """
    tried = (_time, _devices, _rate, _memory, _nodes)
    ways = [way for one in tried if (way := one(search, limits)) is not None]
    if able is None:
        able = ColocatedSearch.of(search).widths(limits)
    split, without = "plan", ""
    if able:
        best = max(able, key=lambda plan: plan.score)
        split, without = "split", f". Without a split all are met: {_given(best)}"
    else:
        without = "".join(f". Without a split {way}" for way in _unsplit_ways(search, limits))
    if not ways:
        return InfeasibleError(
            f"no {split} meets the limits, and relaxing one alone does not help: "
            f"{_basics(search, limits)}{without}"
        )
    ways.sort(key=lambda way: way.excess)
    nearest = ways[0]
    shown = "; or ".join(way.words for way in ways)
    message = f"no {split} meets all limits{f' in {where}' if where else ''}: {shown}"
    if nearest.plan is not None:
        broken = breaks(nearest.plan, nearest.limits)
        rank = "feasible " if not broken else ""
        message += f". Nearest {rank}{'split' if without else split}: {_given(nearest.plan)}"
        message += broken and f", but in {broken}"
    return InfeasibleError(message + without, nearest.plan)


def _unsplit_ways(search: DesignSearch, limits: Limits) -> Iterator[str]:
    """Yield what an un-split deployment would need of one limit, if the others stay."""
    unsplit = ColocatedSearch.of(search)
    if limits.devices is not None:
        rate = limits.requests_per_second or 1e-12
        found = unsplit.widths(replace(limits, devices=None, requests_per_second=rate))
        fewest = min((plan.devices for plan in found), default=0)
        if fewest > limits.devices:
            yield f"{fewest:,} devices would be needed"
    limit = limits.time_per_output_token
    if limit is not None and unsplit.widths(replace(limits, time_per_output_token=None)):
        low, high = limit, limit
        while not unsplit.widths(replace(limits, time_per_output_token=high)):
            low, high = high, 2 * high
        while high / low > 1.002:
            middle = math.sqrt(low * high)
            met = unsplit.widths(replace(limits, time_per_output_token=middle))
            low, high = (low, middle) if met else (middle, high)
        yield f"{_enough(high * 1e3)} ms would be needed"


def _given(plan: Deployment) -> str:
    """Return a deployment and what it gives."""
    return (
        f"{plan} on {counted(plan.devices, 'device')}, "
        f"{plan.time_per_output_token * 1e3:.4g} ms per token, "
        f"{plan.tokens_per_second:,.0f} tokens/s"
    )


def _enough(value: float, direction: Literal[-1, 1] = 1) -> str:
    """Return a limit in four digits, rounded to the side on which it is met.

    Examples
    --------
    >>> _enough(15.0815), _enough(15.08), _enough(214.09, -1)
    ('15.09', '15.08', '214')
    """
    step = 10.0 ** (math.floor(math.log10(value)) - 3)
    return f"{direction * math.ceil(direction * value / step - 1e-6) * step:,.4g}"


def _more(factor: float) -> str:
    """Return how much more a factor is, in words that stay short."""
    if factor >= 10:
        return f"{factor:,.0f} times"
    digits = 0 if factor >= 1.095 else 1 if factor >= 1.0095 else 2
    return f"{factor - 1:.{digits}%} more".replace("%", " %")


def _time(search: DesignSearch, limits: Limits) -> _Way | None:
    limit = limits.time_per_output_token
    if limit is None:
        return None
    free = search.best(replace(limits, time_per_output_token=None))
    if free is None:
        return None
    fastest = fastest_design(search, limits)
    if fastest is None:
        return None
    least = fastest.token_time(limits.statistic) / (1 - limits.margin)
    if limits.requests_per_second is not None:
        # Bisect for the least time at which the rate is still reached.
        low = max(least, limit)
        high = max(free.token_time(limits.statistic) / (1 - limits.margin), low)
        for _ in range(12):
            middle = (low * high) ** 0.5
            plan = search.best(replace(limits, time_per_output_token=middle))
            low, high = (low, middle) if plan is not None else (middle, high)
        least = high
    relaxed = replace(limits, time_per_output_token=least * (1 + 1e-6))
    text = (
        f"time per output token ({limits.statistic}) of {limit * 1e3:.4g} ms would have to be "
        f"{_enough(least * 1e3)} ms, {_more(least / limit)}"
    )
    return _Way(least / limit - 1, text, relaxed, search.best(relaxed))


def _devices(search: DesignSearch, limits: Limits) -> _Way | None:
    if limits.devices is None:
        return None
    # The fewest devices that give anything (or the rate) under all other limits.
    rate = limits.requests_per_second or 1e-12
    plan = search.best(replace(limits, devices=None, requests_per_second=rate))
    if plan is None or plan.design.devices <= limits.devices:
        return None
    need = plan.design.devices
    # The most that so many devices give, not the least that meets the limits.
    relaxed = replace(limits, devices=need)
    words = f"{need:,} devices would be needed, {limits.devices:,} may be used"
    return _Way(need / limits.devices - 1, words, relaxed, search.best(relaxed) or plan)


def _rate(search: DesignSearch, limits: Limits) -> _Way | None:
    if limits.requests_per_second is None or limits.devices is None:
        return None
    plan = search.best(replace(limits, requests_per_second=None))
    if plan is None:
        return None
    most = plan.requests_per_second / (1 + limits.margin)
    text = (
        f"{limits.requests_per_second:,.6g} requests/s would have to be {_enough(most, -1)} at most"
    )
    relaxed = replace(limits, requests_per_second=most * (1 - 1e-6))
    return _Way(limits.requests_per_second / most - 1, text, relaxed, plan)


def _nodes(search: DesignSearch, limits: Limits) -> _Way | None:
    if limits.node_devices == 1:
        return None
    shared = replace(limits, node_devices=1)
    words = f"nodes of {counted(limits.node_devices, 'device')} would be shared"
    plan = search.best(shared)
    return None if plan is None else _Way(1.0, words, shared, plan)


def _memory(search: DesignSearch, limits: Limits) -> _Way | None:
    if search.best(replace(limits, overflow_probability=1.0)) is None:
        return None
    size, m = min(search.space.batch_sizes), min(search.space.microbatches)
    smallest = size * m
    chances = []
    for devices in search.source.attention_devices:
        memory = search.memories.of_worker(devices)
        if memory is not None:
            chance = memory.overflow_probability(smallest, 1 - limits.margin)
            chances.append((chance, memory.mean_fraction(smallest)))
    chance, share = min(chances, default=(0.0, 0.0))
    if chance <= limits.overflow_probability:  # more requests would help, but fewer fit
        return None
    relaxed = replace(limits, overflow_probability=min(chance * (1 + 1e-9), 1.0))
    text = (
        f"KV memory: {counted(smallest, 'request')} per attention worker already fill {share:.0%} "
        f"of it on average and overflow with probability {chance:.2g}, more than "
        f"{limits.overflow_probability:g}"
    ).replace("%", " %")
    # What overflows for certain does so with any number of requests: no more are asked for.
    space = replace(search.space, batch_sizes=(size,), microbatches=(m,), fills_gaps=False)
    return _Way(0.0, text, relaxed, search.best(relaxed, space))  # no other limit mends it


def _basics(search: DesignSearch, limits: Limits) -> str:
    """Say what no relaxation mends: too few devices for one worker of each side."""
    wanted = search.space.ffn_workers
    if wanted is not None and not set(wanted) & set(search.source.ffn_workers(max(wanted))):
        offered = ", ".join(map(str, search.source.ffn_workers(1024)[:16]))
        return (
            f"ffn_workers {', '.join(map(str, wanted))} neither hold the weights nor share the "
            f"experts evenly; possible are {offered or 'none'}"
        )
    if limits.devices is not None:
        smallest = min(search.source.attention_devices)
        numbers = search.source.ffn_workers(100_000)
        if not numbers:
            return "the FFN weights do not fit on any number of FFN workers; other hardware"
        need = smallest + numbers[0] * search.source.ffn_devices
        if limits.devices < need:
            return (
                f"{limits.devices} devices are fewer than the {need} that one attention worker "
                f"and {numbers[0]} FFN workers with the weights need"
            )
    return "give more devices, a longer time per output token and more memory together"
