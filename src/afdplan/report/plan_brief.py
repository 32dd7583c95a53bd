"""What does the short text of a plan say: what to deploy, what holds, what would change it?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from afdplan.planning.colocated import Colocated
from afdplan.planning.design import Design
from afdplan.planning.standing import Standing, standings
from afdplan.report.quantities import (
    chance,
    change,
    counted,
    given_time,
    number,
    rate,
    sentence,
    share,
    stated_time,
    time,
)
from afdplan.report.tables import TextTable
from afdplan.report.telling import Fact

if TYPE_CHECKING:
    from afdplan.planning.held import Deployment
    from afdplan.planning.plan import Plan
    from afdplan.planning.sensitivity import BrokenInput, Sensitivity

__all__ = ["choice_table", "plan_brief", "plan_verdict", "standing_words"]

CHOICES = 3
"""Alternatives that the short text shows."""
CHANGES = 2
"""Changed inputs that it names."""


def plan_verdict(plan: Plan) -> str:
    """Return the verdict in one or two sentences: a broken limit first, then split or not."""
    if not plan.breaches:
        return " ".join(map(sentence, (plan.verdict.reasons[0], *plan.supply[:1])))
    more = len({breach.part for breach in plan.breaches}) - 1
    others = f" (and {counted(more, 'other part')})" if more else ""
    return sentence(
        f"No deployment keeps the limits everywhere: nearest is this, but in {plan.breaches[0]}"
        f"{others}"
    )


def plan_brief(plan: Plan) -> Iterable[Fact]:
    """Yield what to deploy, every limit, and what would change the plan."""
    chosen, unit = plan.recommended, plan.latency.time_unit
    yield Fact("Deploy", f"{chosen}: {counted(chosen.devices, 'device')}")
    yield Fact(
        "Gives",
        rate(chosen.tokens_per_second, unit),
        f"{number(chosen.tokens_per_second_per_device)} per device in use",
    )
    for standing in standings(plan):
        yield standing_words(standing, plan)
    if plan.basis != "all requests":
        yield Fact("Hardest part", plan.basis)
    for words in plan.supply[bool(plan.supply and not plan.breaches) :]:
        yield Fact("Supply", words)
    yield from _would_change(plan)


def standing_words(standing: Standing, plan: Plan) -> Fact:
    """Return how one limit stands, in a line."""
    unit = plan.latency.time_unit
    kept = "kept" if standing.is_kept else "BROKEN"
    where = f" in {standing.part}" if standing.part and standing.part != plan.basis else ""
    margin = f", margin {share(plan.limits.margin)}" if plan.limits.margin else ""
    match standing.limit:
        case "time per output token":
            value = time(standing.value, unit)
            limit = given_time(standing.allowed, unit)
            left = f"{share(standing.left)} left" if standing.left >= 0 else "too long"
            return Fact(
                "TPOT",
                f"{kept}: {value} of {limit} ({plan.limits.statistic})",
                left + margin + where,
            )
        case "KV memory":
            value = f"{chance(standing.value)} of {standing.allowed:g}"
            return Fact(
                "KV memory", f"{kept}: overflow probability {value}", (margin + where).lstrip(", ")
            )
        case "rate":
            value = f"{number(standing.value)} of {number(standing.allowed)} requests/s"
            left = f"{share(standing.left)} spare" if standing.left >= 0 else "too few"
            if standing.left >= 1:  # beside the headline's share of the capacity
                left = f"{number(1 + standing.left)} times as many"
            return Fact("Rate", f"{kept}: {value}", left + margin + where)
    return Fact("Devices", f"{kept}: {int(standing.value):,} of {int(standing.allowed):,}")


def _would_change(plan: Plan) -> Iterable[Fact]:
    # Prices and sensitivities are those of the best split.
    prices = [str(price) for price in plan.binding if price.binds][:CHANGES]
    if not prices and plan.next_batch is not None and plan.kind == "split":
        prices = [str(plan.next_batch)]
    if prices:
        name = "More with" if plan.kind == "split" else "Split gains with"
        yield Fact(name, "; ".join(prices))
    if plan.kind == "un-split":
        return
    told = []
    for broken in plan.surroundings.broken[:CHANGES]:
        found = stated_time(broken.time_per_output_token, plan.latency.time_unit)
        told.append(f"{_input(broken)}: {found}, limit broken")
    if len(told) < CHANGES:
        moved = [one for one in plan.sensitivity if one.meets_limit and one.regret > 0.01]
        moved.sort(key=lambda one: -one.time_per_output_token)
        told += [f"{_input(one)}: best A {one.best_attention_workers:,}" for one in moved]
        told = told[:CHANGES]
    if told:
        yield Fact("Falls with", "; ".join(told))


def _input(one: BrokenInput | Sensitivity) -> str:
    return one.input if "interval" in one.input else f"{one.input} {change(one.change)}"


def choice_table(plan: Plan) -> TextTable:
    """Return the recommendation and the three deployments that are next to it."""
    unit = plan.latency.time_unit
    limited = plan.limits.statistic
    rows = [_row("this", plan.recommended, plan, "")]
    rows += [_row(name, other, plan, breaks) for name, other, breaks in _others(plan)[:CHOICES]]
    return TextTable(
        title="The recommendation, and what to deploy instead",
        columns=(
            "instead",
            "deployment",
            f"tokens/{'s' if unit == 's' else 'time'} per device",
            f"TPOT ({limited})",
            "given up",
            "breaks",
        ),
        rows=rows,
        left=2,
        strong=0,
    )


def _others(plan: Plan) -> list[tuple[str, Deployment, str]]:
    """Return other deployments: the other kind first, then those that give up least."""
    best = plan.best_colocated
    unsplit: list[tuple[str, Deployment, str]] = [
        (f"un-split {one.ranks * one.devices_per_rank} wide", one, "")
        for one in sorted(plan.colocated, key=lambda one: -one.score)
        if one is not plan.recommended
    ]
    if plan.kind == "un-split" and best is not None:
        name, breaks = ("nearest split", "limits") if plan.split_breaks else ("split", "")
        return [(name, plan.split, breaks), *unsplit]
    nearest = plan.surroundings.nearest(CHOICES - len(unsplit[:1]))
    splits: list[tuple[str, Deployment, str]] = [
        (other.change, other.plan, other.breaks)
        for other in sorted(nearest, key=lambda one: (bool(one.breaks), one.regret))
        if other.plan.design != plan.split.design
    ]
    return [*unsplit[:1], *splits]


def _row(name: str, deployment: Deployment, plan: Plan, breaks: str) -> tuple[str, ...]:
    return (
        name,
        _compact(deployment),
        number(deployment.tokens_per_second_per_device),
        time(deployment.token_time(plan.limits.statistic), plan.latency.time_unit),
        share(1 - deployment.score / plan.recommended.score),
        breaks,
    )


def _compact(deployment: Deployment) -> str:
    """Return a deployment in a cell: bundles x A:F, batch size x microbatches."""
    if isinstance(deployment, Colocated):
        size, what = deployment.requests_per_rank, counted(deployment.ranks, "rank")
        return f"{_times(deployment.replicas)}{what}, {size:,} each"
    return _compact_design(deployment.design)


def _compact_design(design: Design) -> str:
    pair = f"{design.attention_workers:,}:{design.ffn_workers:,}"
    tensor = f", TP {design.attention_devices}" if design.attention_devices > 1 else ""
    size = f"B {design.batch_size:,} x {design.microbatches}"
    return f"{_times(design.bundles)}{pair}, {size}{tensor}"


def _times(count: int) -> str:
    return f"{count:,} x " if count > 1 else ""
