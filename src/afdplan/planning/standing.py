"""Which limits does a plan keep, where is each nearest to breaking, and how much is left?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from afdplan.planning.plan import Plan

__all__ = ["Standing", "standings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one limit stands where it is hardest to keep.

    Attributes
    ----------
    limit
        Which one.
    value
        What is held against it [s], [probability], [requests/s], [devices].
    allowed
        Most (of a rate: least) that was asked for; the margin is not taken off.
    left
        Share of `allowed` that is left, or of a rate, spare; negative if the limit is broken.
    part
        The requests under which least is left; the budget of devices knows none.
    is_kept
        Whether it holds everywhere, with the margin.
    """

    limit: Literal["time per output token", "KV memory", "rate", "devices"]
    value: float
    allowed: float
    left: float
    part: str
    is_kept: bool


def standings(plan: Plan) -> tuple[Standing, ...]:
    """Return every limit that was asked for, each where it is hardest to keep.

    Parameters
    ----------
    plan
        What is deployed, with the parts of the trace in which it was tried.
    """
    limits, chosen = plan.limits, plan.recommended
    broken = {breach.limit for breach in plan.breaches}
    held = (*plan.drift, *plan.interval)
    found = []
    if limits.time_per_output_token is not None:
        times = [(chosen.token_time(limits.statistic), plan.basis)]
        times += [(part.time_per_output_token, part.part) for part in held]
        value, where = max(times, key=lambda pair: pair[0])
        allowed = limits.time_per_output_token
        found.append(
            Standing(
                limit="time per output token",
                value=value,
                allowed=allowed,
                left=1 - value / allowed,
                part=where,
                is_kept="time per output token" not in broken,
            )
        )
    if plan.cache is not None:
        chances = [(chosen.memory_overflow_probability, plan.basis)]
        chances += [(part.memory_overflow_probability, part.part) for part in held]
        value, where = max(chances, key=lambda pair: pair[0])
        allowed = limits.overflow_probability
        found.append(
            Standing(
                limit="KV memory",
                value=value,
                allowed=allowed,
                left=1 - value / allowed if allowed else -float(value > 0),
                part=where,
                is_kept="KV memory" not in broken,
            )
        )
    if limits.requests_per_second is not None:
        rates = []
        if plan.basis == "all requests":
            rates.append((chosen.requests_per_second, limits.requests_per_second, plan.basis))
        for part in held:
            here = limits.requests_per_second if part.arrival_rate is None else part.arrival_rate
            rates.append((part.requests_per_second, here, part.part))
        value, allowed, where = min(rates, key=lambda rate: rate[0] / rate[1])
        found.append(
            Standing(
                limit="rate",
                value=value,
                allowed=allowed,
                left=value / allowed - 1,
                part=where,
                is_kept="rate" not in broken,
            )
        )
    if limits.devices is not None:
        left = 1 - chosen.devices / limits.devices
        found.append(
            Standing(
                limit="devices",
                value=chosen.devices,
                allowed=limits.devices,
                left=left,
                part="",
                is_kept=chosen.devices <= limits.devices,
            )
        )
    return tuple(found)
