"""Do the limits hold in every part of the trace, and at both ends of the load's interval?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from afdplan.lengths.law import EmpiricalLengths, LengthLaw
from afdplan.model.estimate import Estimate
from afdplan.model.trace import MAXIMUM_TOKENS, Trace
from afdplan.planning.colocated import Colocated
from afdplan.planning.colocated_search import ColocatedSearch
from afdplan.planning.design import PlannedDesign
from afdplan.planning.limits import TIE, Limits
from afdplan.planning.search import DesignSearch
from afdplan.workload.parts import TracePart, tell_apart

__all__ = [
    "Breach",
    "Circumstance",
    "Deployment",
    "HeldPart",
    "breaches",
    "circumstances",
    "hold",
    "limits_in",
]

Deployment = PlannedDesign | Colocated
"""What can be deployed: a split design, or ranks that do both in turn."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Circumstance:
    """Requests under which a plan must hold.

    Attributes
    ----------
    name
        Which requests, for people.
    law
        Their lengths.
    arrival_rate
        Requests per second, scaled to the stated rate; None if unknown.
    """

    name: str
    law: LengthLaw
    arrival_rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Breach:
    """A limit that a deployment breaks under some requests.

    Attributes
    ----------
    part
        Under which requests.
    limit
        ``time per output token``, ``KV memory`` or ``rate``.
    value
        What is held against it [s], [probability], [requests/s].
    allowed
        Most (of a rate: least) that is allowed, the margin taken off.
    excess
        Relative distance beyond it; of an overflow probability, the probability itself.
    """

    part: str
    limit: Literal["time per output token", "KV memory", "rate"]
    value: float
    allowed: float
    excess: float

    def __str__(self) -> str:
        if self.limit == "time per output token":
            words = (
                f"{self.value * 1e3:.4g} ms per output token, {self.allowed * 1e3:.4g} ms allowed: "
                f"{self.excess:.2g} of it too long"
            )
            if self.excess >= 0.001:
                words = words.replace(f"{self.excess:.2g} of it", f"{self.excess:.1%}")
        elif self.limit == "KV memory":
            words = (
                f"the KV cache overflows with probability {self.value:.2g} per worker and step, "
                f"{self.allowed:g} allowed"
            )
        else:
            words = (
                f"{self.value:,.4g} requests/s can be finished, {self.allowed:,.4g} are needed: "
                f"{self.excess:.1%} too few"
            )
        words = words.replace("%", " %")
        return f"{self.part}: {words}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPart:
    """The recommended deployment under the requests of one part of the trace.

    Attributes
    ----------
    part
        Which one, for people.
    mean_token_load
        theta of these requests [tokens].
    time_per_output_token
        The limited statistic [s].
    meets_limit
        Whether the limit on it still holds.
    memory_overflow_probability
        Per attention worker (or rank) and step.
    requests_per_second
        That can be finished with all slots busy.
    arrival_rate
        That arrive, scaled to the stated rate; None if unknown.
    breaches
        Every limit that is broken.
    """

    part: str
    mean_token_load: float
    time_per_output_token: float
    meets_limit: bool
    memory_overflow_probability: float
    requests_per_second: float
    arrival_rate: float | None
    breaches: tuple[Breach, ...] = field(default=())


def circumstances(
    trace: Trace | None, token_load: Estimate | None, limits: Limits
) -> tuple[tuple[Circumstance, ...], tuple[Circumstance, ...]]:
    """Return the parts of the trace that can be told apart, and the ends of the load's interval.

    Parameters
    ----------
    trace
        All requests in order; None without.
    token_load
        Their mean token load with its interval; None or exact has no ends.
    limits
        Whose rate scales the recorded arrivals.
    """
    parts: tuple[TracePart, ...] = () if trace is None else tell_apart(trace)
    scale = 1.0
    if trace is not None and trace.duration and limits.requests_per_second is not None:
        scale = limits.requests_per_second * trace.duration / (trace.requests - 1)
    stretches = tuple(
        Circumstance(
            name=part.name,
            law=EmpiricalLengths(part.trace),
            arrival_rate=None if part.arrival_rate is None else scale * part.arrival_rate,
        )
        for part in parts
    )
    ends: list[Circumstance] = []
    if trace is not None and token_load is not None and token_load.confidence < 1:
        for end, word in ((token_load.low, "low"), (token_load.high, "high")):
            if end > 0 and token_load.value > 0:
                name = f"{word} end of the load's {token_load.confidence:.0%} interval"
                ends.append(Circumstance(name=name.replace("%", " %"), law=_heavier(trace, end)))
    return stretches, tuple(ends)


def _heavier(trace: Trace, mean: float) -> LengthLaw:
    """Return the requests with prompts (outputs, if prompts do not matter) of another mean load."""
    prompt, decode = trace.prompt_tokens, trace.decode_tokens
    load = EmpiricalLengths(trace).token_load().mean
    ours = float(prompt @ decode) / float(decode.sum())
    if ours > 0.5 * load and mean > load - ours:
        prompt = np.rint(prompt * (1 + (mean - load) / ours)).astype(np.int64)
    else:
        decode = np.maximum(np.rint(decode * (mean / load)), 1).astype(np.int64)
        prompt = np.rint(prompt * (mean / load)).astype(np.int64)
    most = np.minimum(prompt, MAXIMUM_TOKENS), np.minimum(decode, MAXIMUM_TOKENS)
    return EmpiricalLengths(
        Trace(prompt_tokens=most[0], decode_tokens=most[1], source=trace.source)
    )


def limits_in(where: Circumstance, limits: Limits) -> Limits:
    """Return the limits in a part of the trace: a stated rate is that of the whole trace."""
    if limits.requests_per_second is None or where.arrival_rate is None:
        return limits
    return replace(limits, requests_per_second=where.arrival_rate)


def hold(
    deployment: Deployment, where: Circumstance, limits: Limits, search: DesignSearch
) -> HeldPart:
    """Return a deployment under other requests, with every limit that it then breaks.

    Parameters
    ----------
    deployment
        A split design or an un-split deployment, as planned.
    where
        The requests.
    limits
        All of them, as stated for the whole trace.
    search
        Over these requests, otherwise that of the plan.
    """
    inside = limits_in(where, limits)
    found: Deployment
    if isinstance(deployment, PlannedDesign):
        found = search.describe(deployment.design, inside)
    else:
        found = ColocatedSearch.of(search).again(deployment, inside)
    return HeldPart(
        part=where.name,
        mean_token_load=where.law.token_load().mean,
        time_per_output_token=found.token_time(limits.statistic),
        meets_limit=bool(limits.meets(found.token_time(limits.statistic))),
        memory_overflow_probability=found.memory_overflow_probability,
        requests_per_second=found.requests_per_second,
        arrival_rate=where.arrival_rate,
        breaches=tuple(breaches(found, where.name, inside)),
    )


def breaches(found: Deployment, part: str, limits: Limits) -> Iterator[Breach]:
    """Yield the limits that a deployment breaks, evaluated under the requests of a part."""
    time = found.token_time(limits.statistic)
    if limits.time_per_output_token is not None and not limits.meets(time):
        allowed = limits.time_per_output_token * (1 - limits.margin)
        yield Breach(
            part=part,
            limit="time per output token",
            value=time,
            allowed=allowed,
            excess=time / allowed - 1,
        )
    overflow = found.held_overflow_probability
    if overflow > limits.overflow_probability:
        yield Breach(
            part=part,
            limit="KV memory",
            value=overflow,
            allowed=limits.overflow_probability,
            excess=overflow,
        )
    wanted, rate = limits.wanted_rate, found.requests_per_second
    if wanted is not None and rate < wanted * (1 - TIE):
        yield Breach(part=part, limit="rate", value=rate, allowed=wanted, excess=1 - rate / wanted)
