"""How is a whole service told: prefill beside decoding, and what failures leave?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import isfinite
from typing import Any

from afdplan.model.estimate import Estimate
from afdplan.planning.failure_plan import FailurePlan
from afdplan.planning.service import Service
from afdplan.planning.service_verify import ServiceVerification
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
from afdplan.report.telling import Fact, Telling

__all__ = [
    "failure_answer",
    "service_answer",
    "verification_answer",
    "verification_told",
    "whole_told",
]


def whole_told(told: Telling, whole: Whole) -> Telling:
    """Return what is said of a plan with what is said of its service and of failures.

    Parameters
    ----------
    told
        What is said of the decode side.
    whole
        The plan with its service and failures; without both, one line says that.
    """
    service, failures = whole.service, whole.failures
    if service is None:
        only = Fact("Prefill", "decode only: prefill and its devices are not counted")
        told = replace(
            told, words=(*told.words, only), brief=(*told.brief[:2], only, *told.brief[2:])
        )
    else:
        answer = service_sentence(service)
        facts = tuple(_service_facts(service))
        told = replace(
            told,
            answer=f"{answer} Decode side: {told.answer}",
            verdict=told.verdict if service.plan.breaches else answer,
            brief=(*facts, *told.brief),
            choice=step_table(service),
            words=(*told.words, *facts),
            tables=(
                *(step_table(service), case_table(service), baseline_table(service)),
                *told.tables,
            ),
            assumptions=(*told.assumptions, *service.model.assumptions, _counted(service)),
        )
    if failures is not None:
        facts = tuple(_failure_facts(failures))
        told = replace(
            told,
            words=(*told.words, *facts),
            brief=(*told.brief[:3], facts[0], *told.brief[3:]),
            tables=(*told.tables, size_table(failures), *loss_table(failures)),
        )
    return told


def verification_told(told: Telling, played: ServiceVerification) -> Telling:
    """Return what is said of a service with how it fared when played end to end."""
    kept = (
        f"{share(played.good_fraction)} keep both limits: {rate(played.goodput, 's', 'requests')}"
    )
    fact = Fact("Played", kept, f"{played.requests:,} requests, decoding: {played.decode}")
    return replace(
        told,
        words=(*told.words, fact),
        brief=(*told.brief[:3], fact, *told.brief[3:]),
        tables=(played_table(played), *told.tables),
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


def verification_answer(played: ServiceVerification | None) -> dict[str, Any] | None:
    """Return the service played end to end, for machines; None if it was not."""
    if played is None:
        return None

    def interval(found: Estimate) -> dict[str, float | None]:
        high = found.high if isfinite(found.high) else None
        return {"value": found.value, "low": found.low, "high": high}

    return {
        "decode": played.decode,
        "requests": played.requests,
        "first_token_p50": interval(played.first_token_p50),
        "first_token_p99": interval(played.first_token_p99),
        "predicted_first_token_p99": played.predicted_p99,
        "token_time_mean": played.token_time_mean,
        "token_time_p99": interval(played.token_time_p99),
        "latency_p50": interval(played.latency_p50),
        "latency_p99": interval(played.latency_p99),
        "good_fraction": played.good_fraction,
        "goodput": played.goodput,
        "agrees": played.agrees,
    }


def _counted(service: Service) -> str:
    return (
        f"time to first token: {service.pool.traffic.name}, scaled to the rate, replayed through "
        "queue, passes, transfer and wait for a slot; requests keep their slot at the mean time "
        "per output token of full bundles"
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
            "Prefix cache", f"{share(service.pool.traffic.cached_fraction)} of prompt tokens"
        )
    if service.idle_devices:
        yield Fact("Idle devices", counted(service.idle_devices, "device"))


def step_table(service: Service) -> TextTable:
    """Return what one step more of each side brings."""
    return TextTable(
        title="One step more of each side, the others kept",
        columns=("side", "step", "devices", "requests/s", "gain", "gain per device"),
        rows=[
            (
                step.side,
                step.change,
                f"{step.devices:,}",
                number(step.rate),
                change(step.gain),
                change(step.gain_per_device),
            )
            for step in service.steps
        ],
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
    return TextTable(
        title="Bundle sizes under failures",
        columns=("largest bundle", "best design", "tokens/s", "kept", "score with failures"),
        rows=[
            (
                f"{size.most_devices:,}",
                str(size.plan.design),
                number(size.plan.tokens_per_second),
                share(size.share),
                number(size.expected_score, 2),
            )
            for size in lost.sizes
        ],
        left=2,
        strong=best,
    )


def loss_table(lost: FailurePlan) -> tuple[TextTable, ...]:
    """Return what the loss of one worker does to a bundle that goes on; nothing if un-split."""
    if not lost.losses:
        return ()
    return (
        TextTable(
            title="A bundle without one worker",
            columns=("lost", "then", "throughput", "TPOT", "limit", "overflow"),
            rows=[
                (
                    loss.lost,
                    loss.change,
                    change(loss.throughput_change),
                    time(loss.time_per_output_token, "s") if loss.time_per_output_token else "-",
                    "met" if loss.meets_limit else "broken",
                    chance(loss.memory_overflow_probability),
                )
                for loss in lost.losses
            ],
            left=2,
        ),
    )


def service_answer(
    service: Service | None, played: ServiceVerification | None = None
) -> dict[str, Any] | None:
    """Return a service for machines; None without one."""
    if service is None:
        return None
    first = service.first_token
    return {
        "prefill_workers": service.workers,
        "prefill_devices_per_worker": service.model.devices,
        "prefill_devices": service.prefill_devices,
        "decode_devices": service.plan.recommended.devices,
        "devices": service.used_devices,
        "idle_devices": service.idle_devices,
        "requests_per_second": service.rate,
        "limited_by": service.limited_by or None,
        "time_to_first_token": {
            "limit": service.pool.limit.time_to_first_token,
            "statistic": service.pool.limit.first_token_statistic,
            "mean": first.mean,
            "p50": first.p50,
            "p95": first.p95,
            "p99": first.p99,
            "queue_mean": first.queue_mean,
            "queue_p99": first.queue_p99,
            "alone_mean": first.alone_mean,
            "transfer_mean": first.transfer_mean,
            "slot_mean": first.slot_mean,
            "slot_p99": first.slot_p99,
        },
        "prefill_utilization": first.utilization,
        "one_more": [
            {
                "side": step.side,
                "change": step.change,
                "devices": step.devices,
                "requests_per_second": step.rate,
                "gain": step.gain,
                "gain_per_device": step.gain_per_device,
            }
            for step in service.steps
        ],
        "cases": [
            {
                "name": case.name,
                "devices": case.devices,
                "requests_per_second": case.rate,
                "limited_by": case.limited_by,
            }
            for case in service.cases
        ],
        "baselines": [
            {
                "kind": one.kind,
                "deployment": one.deployment,
                "devices": one.devices,
                "requests_per_second": one.rate,
                "gain": one.gain,
            }
            for one in service.baselines
        ],
        "arrivals": service.pool.traffic.name,
        "prefill_model": service.model.name,
        "cached_fraction": service.pool.traffic.cached_fraction,
        "verification": verification_answer(played),
    }


def failure_answer(lost: FailurePlan | None) -> dict[str, Any] | None:
    """Return what failures do, for machines; None without any."""
    if lost is None:
        return None
    bundle = lost.bundle
    return {
        "bundle_failures_per_second": bundle.rate,
        "outage": bundle.outage,
        "availability": bundle.availability,
        "share": bundle.share,
        "lost_tokens_per_slot": bundle.lost_tokens,
        "tokens_per_second": lost.tokens_per_second,
        "requests_per_second": lost.requests_per_second,
        "lost_tokens_per_second": lost.lost_tokens_per_second,
        "lost_requests_per_second": lost.lost_requests_per_second,
        "no_spare_probability": lost.no_spare_probability,
        "fewest_spares": lost.fewest_spares,
        "bundle_sizes": [
            {
                "most_devices": size.most_devices,
                "design": str(size.plan.design),
                "tokens_per_second": size.plan.tokens_per_second,
                "share": size.share,
                "objective": size.expected_score,
            }
            for size in lost.sizes
        ],
        "losses": [
            {
                "lost": loss.lost,
                "change": loss.change,
                "throughput_change": loss.throughput_change,
                "time_per_output_token": loss.time_per_output_token,
                "meets_limit": loss.meets_limit,
                "memory_overflow_probability": loss.memory_overflow_probability,
            }
            for loss in lost.losses
        ],
    }
