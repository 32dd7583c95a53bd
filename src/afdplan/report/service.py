"""How is a whole service told: prefill beside decoding, and what failures leave?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING

from afdplan.planning.failure_plan import FailurePlan
from afdplan.planning.service import Service
from afdplan.planning.verdict import CLEAR
from afdplan.planning.whole import Whole
from afdplan.report.quantities import (
    chance,
    change,
    counted,
    given_time,
    number,
    rate,
    sentence,
    share,
    time,
)
from afdplan.report.tables import TextTable
from afdplan.report.telling import Fact, Later, Telling

if TYPE_CHECKING:
    from afdplan.planning.service_verify import ServiceVerification

__all__ = ["whole_tables", "whole_told"]


def whole_tables(whole: Whole, played: ServiceVerification | None = None) -> list[TextTable]:
    """Return the tables of what stands beside the decode side; none if there is nothing."""
    service, failures = whole.service, whole.failures
    tables = [] if played is None else [played_table(played)]
    if service is not None:
        tables += [step_table(service), case_table(service), baseline_table(service)]
    if failures is not None:
        tables += [size_table(failures), *loss_table(failures)]
    return tables


def whole_told(told: Telling, whole: Whole, played: ServiceVerification | None = None) -> Telling:
    """Return what is said of a plan with what is said of its service and of failures.

    Parameters
    ----------
    told
        What is said of the decode side.
    whole
        The plan with its service and failures; without a service, one line says that.
    played
        How the service fared when it was played end to end; None if it was not.
    """
    service = whole.service
    beside = whole_tables(whole, played)
    if beside:
        told = replace(told, tables=Later.joined(beside, told.tables))
    facts: list[Fact] = []
    if service is None:
        facts = [Fact("Prefill", "decode only: prefill and its devices are not counted")]
    else:
        answer = service_sentence(service)
        facts = [*_service_facts(service)]
        told = replace(
            told,
            answer=f"{answer} Decode side: {told.answer}",
            verdict=told.verdict if service.plan.breaches else answer,
            choice=step_table(service),
            assumptions=(*told.assumptions, *service.model.assumptions, _counted(service)),
        )
    if played is not None:
        kept = f"{share(played.good_fraction)} keep both limits"
        facts.append(
            Fact(
                "Played",
                f"{kept}: {rate(played.goodput, 's', 'requests')}",
                f"{played.requests:,} requests, decoding: {played.decode}",
            )
        )
    lost = [] if whole.failures is None else [*_failure_facts(whole.failures)]
    return replace(
        told,
        words=(*told.words, *facts, *lost),
        brief=(*told.brief[:2], *facts, *lost[:1], *told.brief[2:]),
    )


def played_table(played: ServiceVerification) -> TextTable:
    """Return the percentiles of the service played end to end, with their intervals."""
    named = (
        ("time to first token p50", played.first_token_p50),
        ("time to first token p99", played.first_token_p99),
        ("time per output token p99", played.token_time_p99),
        ("request, arrival to last token, p50", played.latency_p50),
        ("request, arrival to last token, p99", played.latency_p99),
    )
    rows = [
        (
            name,
            time(found.value, "s"),
            time(found.low, "s"),
            time(found.high, "s") if isfinite(found.high) else "not known",
        )
        for name, found in named
    ]
    return TextTable(
        title="The service played from arrival to last token",
        columns=("time", "played", "low", "high"),
        rows=rows,
        note=f"Planned time to first token p99: {time(played.predicted_p99, 's')}.",
        is_open=True,
    )


def _counted(service: Service) -> str:
    cost = service.plan.cost
    priced = (
        ""
        if cost.per == "device"
        else (f"; a prefill device costs {number(cost.of_prefill)} {cost.unit}")
    )
    return (
        f"time to first token: {service.pool.traffic.name}, scaled to the rate, replayed through "
        "queue, passes, transfer and wait for a slot; requests keep their slot at the mean time "
        f"per output token of full bundles{priced}"
    )


def service_sentence(service: Service) -> str:
    """Return how the devices are shared and what they carry, in one or two sentences."""
    limit = service.pool.limit
    sides = ("prefill", "attention", "FFN") if len(service.ratio) == 3 else ("prefill", "decode")
    shared = " : ".join(
        f"{count:,} {side}" for count, side in zip(service.ratio, sides, strict=True)
    )
    text = (
        f"{counted(service.used_devices, 'device')} as {shared} carry "
        f"{rate(service.rate, 's', 'requests')} with a {limit.first_token_statistic} time to first "
        f"token of {time(_held(service), 's')}"
    )
    if service.limited_by:
        text += f"; {service.limited_by} limits the service"
    else:
        text += "; no side alone limits the service"
    alone = next((one for one in service.baselines if one.kind == "un-split"), None)
    if alone is None or alone.gain > -CLEAR:
        return sentence(text)
    more = f"{alone.deployment} on {counted(alone.devices, 'device')}"
    return (
        f"{sentence(text)} Without any split {more} would carry "
        f"{rate(alone.rate, 's', 'requests')}: do not split."
    )


def _held(service: Service) -> float:
    held: float = getattr(service.first_token, service.pool.limit.first_token_statistic)
    return held


def _service_facts(service: Service) -> Iterable[Fact]:
    first, limit, model = service.first_token, service.pool.limit, service.model
    workers = f"{counted(service.workers, 'worker')} of {counted(model.devices, 'device')}"
    yield Fact("Prefill", f"{workers}, {share(first.utilization)} busy", model.name)
    at = service.limits.requests_per_second or service.rate
    yield Fact(
        "First token",
        f"kept: {time(_held(service), 's')} of {given_time(limit.time_to_first_token, 's')} "
        f"({limit.first_token_statistic}) at {rate(at, 's', 'requests')}",
        f"mean {time(first.mean, 's')}: queue {time(first.queue_mean, 's')}, passes "
        f"{time(first.alone_mean, 's')}, transfer {time(first.transfer_mean, 's')}, wait for a "
        f"slot {time(max(first.slot_mean, 0.0), 's')}",
    )
    if service.pool.traffic.cached_fraction:
        yield Fact(
            "Prefix cache",
            f"{share(service.pool.traffic.cached_fraction)} of prompt tokens need no computing",
            "nothing evicted",
        )
    if service.pool.traffic.blocks is not None:
        yield Fact(
            "Shared blocks",
            f"{share(1 - service.unique_fraction)} of the KV memory of decoding saved",
            "requests of one attention worker at the same time hold a block once",
        )
    if service.idle_devices:
        yield Fact("Idle devices", counted(service.idle_devices, "device"))


def step_table(service: Service) -> TextTable:
    """Return what one step more of each side brings."""
    return TextTable.of(
        "One step more of each side, the others kept",
        service.steps,
        {
            "side": lambda step: step.side,
            "step": lambda step: step.change,
            "devices": lambda step: f"{step.devices:,}",
            "requests/s": lambda step: number(step.rate),
            "gain": lambda step: change(step.gain),
            "gain per device": lambda step: change(step.gain_per_device),
        },
        left=2,
        is_open=True,
    )


def case_table(service: Service) -> TextTable:
    """Return what doubling either side does."""
    return TextTable(
        title="Prefill and decode doubled: only the side that limits helps",
        columns=("prefill, decode", "limited by", "devices", "requests/s"),
        rows=[
            (case.name, case.limited_by, f"{case.devices:,}", number(case.rate))
            for case in service.cases
        ],
        left=2,
        strong=0,
    )


def baseline_table(service: Service) -> TextTable:
    """Return the best of every kind of deployment under the same limits."""
    return TextTable(
        title="The best of every kind under the same limits",
        columns=("kind", "deployment", "devices", "requests/s", "recommended over it"),
        rows=[
            (one.kind, one.deployment, f"{one.devices:,}", number(one.rate), change(one.gain))
            for one in service.baselines
        ],
        left=2,
        is_open=True,
    )


def _failure_facts(lost: FailurePlan) -> Iterable[Fact]:
    bundle, failures = lost.bundle, lost.failures
    yield Fact(
        "With failures",
        f"{rate(lost.tokens_per_second, 's')} expected, {share(bundle.share)} of what is without; "
        f"{rate(lost.lost_tokens_per_second, 's')} are made and lost",
    )
    yield Fact(
        "A bundle",
        f"fails every {number(1 / bundle.rate / 3600)} h, for {time(bundle.outage, 's')}, and "
        f"loses {number(bundle.lost_tokens)} tokens of every slot; it works "
        f"{share(bundle.availability)} of the time",
    )
    if failures.repair:
        yield Fact(
            "Spare devices",
            f"{failures.spare_devices:,}: a failure finds none with chance "
            f"{chance(lost.no_spare_probability)}; {lost.fewest_spares:,} keep it below 1 %",
        )


def size_table(lost: FailurePlan) -> TextTable:
    """Return the best design by largest bundle, with and without failures."""
    best = max(range(len(lost.sizes)), key=lambda k: lost.sizes[k].expected_score, default=None)
    return TextTable.of(
        "Bundle sizes under failures",
        lost.sizes,
        {
            "largest bundle": lambda size: f"{size.most_devices:,}",
            "best design": lambda size: str(size.plan.design),
            "tokens/s": lambda size: number(size.plan.tokens_per_second),
            "kept": lambda size: share(size.share),
            "score with failures": lambda size: number(size.expected_score, 2),
        },
        left=2,
        strong=best,
    )


def loss_table(lost: FailurePlan) -> tuple[TextTable, ...]:
    """Return what the loss of one worker does to a bundle that goes on; nothing if un-split."""
    if not lost.losses:
        return ()
    return (
        TextTable.of(
            "A bundle without one worker",
            lost.losses,
            {
                "lost": lambda loss: loss.lost,
                "then": lambda loss: loss.change,
                "throughput": lambda loss: change(loss.throughput_change),
                "TPOT": lambda loss: (
                    time(loss.time_per_output_token, "s") if loss.time_per_output_token else "-"
                ),
                "limit": lambda loss: "met" if loss.meets_limit else "broken",
                "overflow": lambda loss: chance(loss.memory_overflow_probability),
            },
            left=2,
        ),
    )
