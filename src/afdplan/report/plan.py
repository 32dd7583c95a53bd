"""How is a plan told to people?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from afdplan.planning.plan import Plan
from afdplan.report.plan_brief import choice_table, plan_brief, plan_verdict
from afdplan.report.quantities import (
    chance,
    change,
    counted,
    given_time,
    number,
    plus_minus,
    rate,
    sentence,
    share,
    stated_time,
    time,
)
from afdplan.report.tables import TextTable
from afdplan.report.telling import Fact, Later, Telling

if TYPE_CHECKING:
    from afdplan.planning.design import PlannedDesign
    from afdplan.planning.plan_grid import PlanCase
    from afdplan.planning.verify import Verification

__all__ = [
    "alternative_table",
    "case_sentence",
    "case_table",
    "colocated_table",
    "front_table",
    "headline",
    "plan_told",
    "quarter_table",
    "sensitivity_table",
    "verification_table",
    "what_binds",
]


def plan_told(
    plan: Plan, subject: str, verified: Sequence[Verification] = (), following: str = ""
) -> Telling:
    """Return what text and page say of a plan.

    Parameters
    ----------
    plan
        What to deploy.
    subject
        The requests and the latency model, for people.
    verified
        Designs that were simulated.
    following
        The command that comes next.
    """
    known = (*colocated_table(plan), *verification_table(plan, verified))
    makers = (
        partial(alternative_table, plan),
        partial(front_table, plan),
        *(partial(_same, table) for table in known),
        partial(sensitivity_table, plan),
        *(partial(_same, table) for table in quarter_table(plan)),
    )
    return Telling(
        subject=subject,
        answer=headline(plan),
        facts=tuple(_facts(plan)),
        words=tuple(_words(plan)),
        tables=Later(*makers),
        warnings=plan.warnings,
        assumptions=plan.assumptions,
        style="red"
        if plan.breaches
        else {"yes": "green", "no": "red", "even": "yellow"}[plan.verdict.split],
        verdict=plan_verdict(plan),
        brief=tuple(plan_brief(plan)),
        choice=choice_table(plan),
        following=following,
    )


def _same(table: TextTable) -> TextTable:
    return table


def headline(plan: Plan) -> str:
    """Return the answer: a broken limit first, then what to deploy, then whether it fits."""
    chosen, unit = plan.recommended, plan.latency.time_unit
    without = ", without a split" if plan.kind == "un-split" else ""
    found = (
        f"{chosen}{without}: {rate(chosen.tokens_per_second, unit)} on "
        f"{counted(chosen.devices, 'device')}"
    )
    said = [f"deploy {found}"]
    if plan.breaches:
        more = len({breach.part for breach in plan.breaches}) - 1
        others = f" (and {counted(more, 'other part')})" if more else ""
        broken = f"No deployment keeps the limits everywhere; in {plan.breaches[0]}{others}"
        said = [broken, f"nearest is {found}"]
    if plan.kind == "un-split":
        # The best split stays in sight: a measurement may say otherwise.
        best, rank = plan.split, "nearest" if plan.split_breaks else "best"
        given = rate(best.tokens_per_second, unit)
        said += [
            plan.verdict.reasons[0],
            f"the {rank} split, {best}, gives {given} on {counted(best.devices, 'device')}",
        ]
    if plan.basis != "all requests":
        said.append(f"planned for {plan.basis}, where the limits are hardest to keep")
    return " ".join(sentence(text) for text in (*said, *plan.supply))


def _limits(plan: Plan) -> tuple[str, ...]:
    limits, space = plan.limits, plan.space
    words = []
    if limits.devices is not None:
        words.append(counted(limits.devices, "device") + " at most")
    if limits.requests_per_second is not None:
        words.append(f"{limits.requests_per_second:,.6g} requests/s at least")
    if limits.time_per_output_token is not None:
        shown = given_time(limits.time_per_output_token, plan.latency.time_unit)
        words.append(f"{limits.statistic} time per output token <= {shown}")
    if plan.limits.margin:
        words.append(f"a margin of {share(plan.limits.margin)} to each")
    if plan.cache is not None:
        words.append(f"KV overflow <= {limits.overflow_probability:g} per worker and step")
    if limits.node_devices > 1:
        words.append(f"whole nodes of {limits.node_devices} devices")
    if space.target.restricts:
        words.append(f"pairs of {space.target.name}")
    return tuple(words)


def what_binds(plan: Plan) -> tuple[str, ...]:
    """Return which limits bind and what relaxing them brings; else why no more is to be had."""
    prices = tuple(f"{price.limit} ({price})" for price in plan.binding if price.binds)
    following = plan.next_batch
    if prices:
        return prices
    if following is None:
        return ("no limit that was relaxed gains; no larger batch was considered",)
    return (f"no limit alone, relaxed as far as was tried; {following}",)


def _facts(plan: Plan) -> Iterable[Fact]:
    best, split, unit = plan.recommended, plan.split, plan.latency.time_unit
    limit = plan.limits.time_per_output_token
    gain = plan.verdict.gain
    yield Fact("Throughput", rate(best.tokens_per_second_per_device, unit), "per device in use")
    yield Fact(
        "Time per output token",
        stated_time(best.token_time(plan.limits.statistic), unit),
        plan.limits.statistic + ("" if limit is None else f", limit {given_time(limit, unit)}"),
    )
    yield Fact(
        "Output step",
        stated_time(best.step_time.mean, unit),
        f"p99 {time(best.step_time.p99, unit)}",
    )
    idle = f"{share(split.attention_idle_fraction)} / {share(split.ffn_idle_fraction)}"
    own = "" if plan.kind == "split" else " of the best split"
    yield Fact("Idle", idle, f"attention / FFN{own}")
    probability = chance(best.memory_overflow_probability).replace("-", "\u2011")  # no break
    yield Fact(
        "KV memory in use",
        f"{share(split.memory_mean_fraction)}{own}" if plan.cache else "not limited",
        f"overflow probability {probability} per worker and step"
        if plan.cache
        else "nobody said how much there is",
    )
    yield Fact(
        "Gain over no split",
        "unknown" if gain is None else change(gain),
        "no baseline is feasible" if gain is None else "against the best width",
    )


def _words(plan: Plan) -> Iterable[Fact]:
    best, unit, spare = plan.split, plan.latency.time_unit, plan.spare
    yield Fact("Limits", "; ".join(_limits(plan)))
    slots = counted(best.design.requests_per_attention_worker, "request")
    devices = counted(best.design.devices, "device")
    yield Fact(
        "Design" if plan.kind == "split" else "Best split",
        f"{best.design}: {devices} in {counted(best.design.bundles, 'bundle')}, {slots} per "
        "attention worker",
    )
    per = plan.cost.unit
    is_budget = plan.limits.devices is not None and plan.limits.requests_per_second is None
    if plan.cost.per == "device" and is_budget:
        per = "device of the budget"
    yield Fact("Objective", f"{rate(best.score, unit)} per {per}")
    if spare is not None:
        text = (
            f"{number(spare.arrival_rate)} requests/s arrive, {number(spare.capacity)} can be "
            f"finished: {share(spare.spare_fraction)} spare"
        )
        if spare.waiting_p99 is not None:
            text += f"; waiting for a slot p99 {time(spare.waiting_p99, 's')}"
        yield Fact("Capacity", text)
    yield Fact("Split?", " ".join(map(sentence, plan.verdict.reasons)))
    yield Fact("What binds", "; ".join(what_binds(plan)))


def case_sentence(case: PlanCase, plan: Plan) -> str:
    """Return the best design at another batch size and number of microbatches."""
    head = f"B = {case.batch_size:,}, m = {case.microbatches}: "
    best, unit = case.best, plan.latency.time_unit
    if best is None:
        return head + f"no design; {case.reason}."
    text = (
        f"{head}{best.design} gives {rate(best.tokens_per_second_per_device, unit)} per device at "
        f"{stated_time(best.token_time(plan.limits.statistic), unit)} per output token "
        f"({plan.limits.statistic})"
    )
    if best.design == plan.split.design:
        return text + (", the recommended design." if plan.kind == "split" else ", the best split.")
    return f"{text}; gives up {share(1 - best.score / plan.split.score)}."


def _head(plan: Plan) -> tuple[str, ...]:
    per = "tokens/s" if plan.latency.time_unit == "s" else "tokens/time"
    return ("design", f"{per} per device in use", f"TPOT ({plan.limits.statistic})", "overflow")


def _row(name: str, planned: PlannedDesign, plan: Plan) -> tuple[str, ...]:
    return (
        name,
        str(planned.design),
        number(planned.tokens_per_second_per_device),
        time(planned.token_time(plan.limits.statistic), plan.latency.time_unit),
        _overflow(planned.memory_overflow_probability, plan),
    )


def _overflow(probability: float, plan: Plan) -> str:
    return chance(probability) if plan.split.memory_mean_fraction > 0 else "-"


def alternative_table(plan: Plan) -> TextTable:
    """Return the recommended design and what changing it gives up."""
    first = "recommended" if plan.kind == "split" else "best split"
    if plan.split_breaks:
        first = "nearest split"
    rows = [(*_row(first, plan.split, plan), share(0.0), "limits" * bool(plan.split_breaks))]
    rows += [
        (*_row(other.change, other.plan, plan), share(other.regret), other.breaks)
        for other in plan.alternatives
    ]
    return TextTable(
        title="The next designs in numbers",
        columns=("change", *_head(plan), "given up", "breaks"),
        rows=rows,
        left=2,
        is_open=True,
        strong=0,
    )


def front_table(plan: Plan) -> TextTable:
    """Return throughput against time per output token, each the exact best."""
    designs = [point.design for point in plan.front]
    best = plan.split.design
    return TextTable(
        title="The front in numbers: throughput against time per output token",
        columns=("point", *_head(plan)),
        rows=[_row(str(k), point, plan) for k, point in enumerate(plan.front, 1)],
        left=2,
        strong=designs.index(best) if best in designs else None,
    )


def colocated_table(plan: Plan) -> tuple[TextTable, ...]:
    """Return what no split gives, for the best of each width; nothing if none is feasible."""
    unit = plan.latency.time_unit
    if not plan.colocated:
        return ()
    return (
        TextTable.of(
            "Without a split: the best of each expert-parallel width",
            plan.colocated,
            {
                "width": lambda other: f"{other.ranks * other.devices_per_rank:,}",
                "deployment": str,
                _head(plan)[1]: lambda other: number(other.tokens_per_second_per_device),
                "step time": lambda other: time(other.step_time.mean, unit),
            },
            left=2,
            strong=next(
                (k for k, one in enumerate(plan.colocated) if one is plan.best_colocated), None
            ),
        ),
    )


def verification_table(plan: Plan, verified: Sequence[Verification]) -> tuple[TextTable, ...]:
    """Return theory beside simulation, which shares no code with it; nothing if none was asked."""
    unit = plan.latency.time_unit
    if not verified:
        return ()
    return (
        TextTable.of(
            "Simulated, independent of the theory",
            verified,
            {
                "design": lambda case: case.name,
                "predicted mean": lambda case: time(case.predicted_mean, unit),
                "simulated mean": lambda case: (
                    f"{time(case.simulated_mean.value, unit)} "
                    f"{plus_minus(case.simulated_mean.relative_half_width)}"
                ),
                "error": lambda case: change(case.mean_error),
                "p99 error": lambda case: change(case.p99_error),
                "verdict": lambda case: "agrees" if case.agrees else "DISAGREES",
            },
            is_open=True,
        ),
    )


def sensitivity_table(plan: Plan) -> TextTable:
    """Return what the plan would be if an input were another."""
    unit = plan.latency.time_unit
    return TextTable.of(
        "If an input were another",
        plan.sensitivity,
        {
            "input": lambda entry: entry.input,
            "change": lambda entry: change(entry.change),
            "throughput": lambda entry: change(entry.throughput_change),
            _head(plan)[2]: lambda entry: time(entry.time_per_output_token, unit),
            "limit": lambda entry: "met" if entry.meets_limit else "broken",
            "best A": lambda entry: f"{entry.best_attention_workers:,}",
            "given up": lambda entry: share(max(entry.regret, 0.0)),
        },
    )


def quarter_table(plan: Plan) -> tuple[TextTable, ...]:
    """Return the recommendation in each part of the trace and at both ends of the interval."""
    unit = plan.latency.time_unit
    if not plan.drift and not plan.interval:
        return ()
    return (
        TextTable.of(
            "The recommendation in each part of the trace",
            (*plan.drift, *plan.interval),
            {
                "part": lambda one: one.part,
                "mean token load": lambda one: number(one.mean_token_load),
                _head(plan)[2]: lambda one: time(one.time_per_output_token, unit),
                "limits": lambda one: (
                    "; ".join(f"{breach.limit} broken" for breach in one.breaches) or "met"
                ),
                "overflow": lambda one: _overflow(one.memory_overflow_probability, plan),
                "requests/s at most": lambda one: number(one.requests_per_second),
                "arrive": lambda one: "-" if one.arrival_rate is None else number(one.arrival_rate),
            },
            is_open=True,
        ),
    )


def case_table(plan: Plan, grid: Sequence[PlanCase]) -> TextTable:
    """Return the best design at other batch sizes and numbers of microbatches."""
    rows: list[tuple[str, ...]] = []
    for case in grid:
        name = f"{case.batch_size:,}, {case.microbatches}"
        if case.best is None:
            rows.append((name, f"none: {case.reason}", "-", "-", "-", "-"))
            continue
        regret = 1 - case.best.score / plan.split.score
        rows.append((*_row(name, case.best, plan), share(regret)))
    return TextTable(
        title="The best design for other batch sizes and microbatches",
        columns=("B, m", *_head(plan), "given up"),
        rows=rows,
        left=2,
    )
