"""Which sentences about a plan do text and page share?"""

from __future__ import annotations

from afdplan.planning.plan import Plan
from afdplan.report.quantities import counted, rate, time

__all__ = ["headline", "limits_in_words", "what_binds"]


def headline(plan: Plan) -> str:
    """Return the answer in one sentence: what to do comes first."""
    best, unit = plan.recommended, plan.latency.time_unit
    found = (
        f"{best.design} gives {rate(best.tokens_per_second, unit)} on "
        f"{best.design.devices:,} devices"
    )
    first = plan.verdict.reasons[0]
    if plan.verdict.split in ("no", "even"):
        return f"{first[0].upper()}{first[1:]}; the best split, {found}."
    return f"Deploy {found}."


def limits_in_words(plan: Plan) -> tuple[str, ...]:
    """Return what was asked, each limit with its unit."""
    limits, space = plan.limits, plan.space
    words = []
    if limits.devices is not None:
        words.append(counted(limits.devices, "device") + " at most")
    if limits.requests_per_second is not None:
        words.append(f"{limits.requests_per_second:,.6g} requests/s at least")
    if limits.time_per_output_token is not None:
        shown = time(limits.time_per_output_token, plan.latency.time_unit)
        words.append(f"{limits.statistic} time per output token <= {shown}")
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
