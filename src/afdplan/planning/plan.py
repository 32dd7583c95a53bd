"""What should be deployed, what does it give, and is a split worth it at all?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from afdplan.errors import InvalidInputError, TimeUnitError
from afdplan.lengths.law import LengthLaw
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.model.trace import Trace
from afdplan.planning.alternatives import Alternative, alternatives, pareto_front
from afdplan.planning.binding import ShadowPrice, shadow_prices
from afdplan.planning.cache_memory import CacheSpace
from afdplan.planning.colocated import Colocated, ColocatedSearch
from afdplan.planning.design import PlannedDesign
from afdplan.planning.fastest import fastest_design
from afdplan.planning.infeasible import explain_infeasible
from afdplan.planning.limits import Limits
from afdplan.planning.next_batch import NextBatch, next_batch
from afdplan.planning.objective import DeviceCost
from afdplan.planning.search import DesignSearch
from afdplan.planning.sensitivity import DriftWindow, Sensitivity, drift_windows, sensitivities
from afdplan.planning.source import LatencySource
from afdplan.planning.space import SearchSpace
from afdplan.planning.verdict import Verdict, judge
from afdplan.planning.waiting import SpareCapacity, spare_capacity
from afdplan.theory.validity import latency_range_warnings, theory_warnings

__all__ = ["Plan", "make_plan"]

MOST_TOKENS = 1e9
"""Tokens per second beyond which no plan is sought."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """The answer of the planner.

    Attributes
    ----------
    recommended
        Best design under the limits.
    latency
        Stage times of that design.
    cache
        Room for KV cache on one device of an attention worker; None without a limit.
    alternatives
        Next legal ratios, other microbatches, batch sizes and FFN workers, with their regret.
    front
        Score against time per output token, every point exact, fastest first.
    colocated
        Best un-split deployment of every expert-parallel width, narrow first; empty if none is
        feasible.
    verdict
        Whether to split, in words and figures.
    binding
        What relaxing each limit would bring, the most precious first.
    next_batch
        What the next larger batch size would break or bring; None if none was considered.
    spare
        Spare capacity at the known rate of arrivals; None if unknown.
    sensitivity
        The design under other inputs.
    drift
        The design under each quarter of the trace.
    limits, space, cost
        What was asked.
    assumptions
        What was assumed, one sentence each.
    warnings
        What to mistrust, one sentence each.
    evaluated_designs
        Designs whose law was computed; all others were excluded by bounds.
    """

    recommended: PlannedDesign
    latency: LatencyModel
    cache: CacheSpace | None
    alternatives: tuple[Alternative, ...]
    front: tuple[PlannedDesign, ...]
    colocated: tuple[Colocated, ...]
    verdict: Verdict
    binding: tuple[ShadowPrice, ...]
    next_batch: NextBatch | None
    spare: SpareCapacity | None
    sensitivity: tuple[Sensitivity, ...]
    drift: tuple[DriftWindow, ...]
    limits: Limits
    space: SearchSpace
    cost: DeviceCost
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]
    evaluated_designs: int

    @property
    def best_colocated(self) -> Colocated | None:
        """The baseline: the best width."""
        return max(self.colocated, key=lambda plan: plan.score, default=None)


def make_plan(
    law: LengthLaw,
    source: LatencySource,
    limits: Limits,
    *,
    space: SearchSpace | None = None,
    cost: DeviceCost | None = None,
    trace: Trace | None = None,
    token_load: Estimate | None = None,
    progress: Callable[[float], None] | None = None,
) -> Plan:
    """Return the best deployment under the limits, with everything that is needed to judge it.

    Parameters
    ----------
    law
        Joint law of prompt and decode lengths.
    source
        Stage times and memory of candidate designs.
    limits
        Devices or rate, time per output token, overflow probability, nodes.
    space
        Candidates; the default space unless given.
    cost
        Of a device of each side; devices count alike unless given.
    trace
        The trace behind `law`, for arrivals and drift.
    token_load
        Mean token load with its interval.
    progress
        Called with the share done, 0 to 1.

    Raises
    ------
    InfeasibleError
        If no design meets the limits; says which conflict and what is nearest.
    TimeUnitError
        If a limit in seconds meets an abstract time.

    Notes
    -----
    The design is exactly best over the space; see `afdplan.planning.search`. The step times are
    those of the exact pipelined theory with its declared validity.

    Examples
    --------
    >>> from afdplan.lengths.law import IndependentLengths
    >>> from afdplan.planning.source import MeasuredSource
    >>> latency = LatencyModel.linear(attention=(1e-9, 2e-5), ffn=(2e-7, 1e-4), layers=60,
    ...     time_unit="s")
    >>> law = IndependentLengths(prompt="geometric:1000", decode="geometric:300")
    >>> plan = make_plan(law, MeasuredSource(latency, kv_tokens=1e6),
    ...     Limits(devices=16, time_per_output_token=0.03))
    >>> plan.recommended.design.devices <= 16
    True
    """
    if source.time_unit == "abstract" and (
        limits.time_per_output_token is not None or limits.requests_per_second is not None
    ):
        raise TimeUnitError(
            f"limits in seconds need a latency model in seconds, but the unit of "
            f"{source.name!r} is unknown: give a measured latency file or a model and hardware"
        )
    if limits.requests_per_second is not None:
        most = MOST_TOKENS / law.mean_decode_tokens
        if limits.requests_per_second > most:
            raise InvalidInputError(
                f"requests_per_second must be at most {most:.3g} for outputs of "
                f"{law.mean_decode_tokens:,.4g} tokens, got {limits.requests_per_second:.6g}: no "
                "deployment is as large"
            )
    space = space or SearchSpace()
    search = DesignSearch(law, source, space, cost or DeviceCost())
    show = progress or (lambda _: None)
    best = search.best(limits)
    if best is None:
        raise explain_infeasible(search, limits)
    design = best.design
    latency = source.latency(design.attention_devices, design.ffn_workers, design.batch_size)
    fastest = fastest_design(search, limits) or best
    show(0.1)
    colocated = tuple(ColocatedSearch(search).widths(limits))
    show(0.3)
    slots = tuple(search.models.slot_of(kind) for kind in latency.attention)
    warnings = theory_warnings(
        law,
        latency,
        microbatches=design.microbatches,
        attention_workers=design.attention_workers,
    )
    warnings += latency_range_warnings(
        latency, slots, batch_size=design.batch_size, ffn_tokens=design.bundle.ffn_tokens
    )
    if design.batch_size == max(space.batch_sizes) and len(space.batch_sizes) > 1:
        warnings.append(
            f"the largest batch size considered, {design.batch_size}, is best: consider larger ones"
        )
    if source.time_unit == "abstract":
        warnings.append("the unit of time is unknown: 'per second' means per unit of time")
    spare = spare_capacity(best, trace, limits.requests_per_second)
    if spare is not None and spare.spare_fraction < 0.1:
        warnings.append(
            f"only {spare.spare_fraction:.0%} of the capacity is spare: queues grow fast near "
            "full use".replace("%", " %")
        )
    others = alternatives(search, best, limits)
    show(0.5)
    front = pareto_front(search, best, fastest, limits)
    show(0.7)
    binding = shadow_prices(search, best, limits)
    show(0.9)
    return Plan(
        recommended=best,
        latency=latency,
        cache=source.cache(design.attention_devices),
        alternatives=others,
        front=front,
        colocated=colocated,
        verdict=judge(law, source, best, colocated, limits, latency),
        binding=binding,
        next_batch=next_batch(search, best, limits),
        spare=spare,
        sensitivity=sensitivities(search, best, limits, token_load),
        drift=drift_windows(search, best, limits, trace),
        limits=limits,
        space=space,
        cost=search.score.cost,
        assumptions=source.assumptions,
        warnings=tuple(warnings),
        evaluated_designs=search.evaluated,
    )
