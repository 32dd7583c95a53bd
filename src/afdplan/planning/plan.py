"""What should be deployed, what does it give, and is a split worth it at all?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from afdplan.errors import InvalidInputError, TimeUnitError
from afdplan.lengths.law import LengthLaw, check_law
from afdplan.model.answer import Answer
from afdplan.model.estimate import Estimate
from afdplan.model.kinds import check_kind
from afdplan.model.latency import LatencyModel
from afdplan.model.trace import Trace
from afdplan.planning.alternatives import Alternative
from afdplan.planning.binding import ShadowPrice
from afdplan.planning.cache_memory import CacheSpace
from afdplan.planning.colocated import Colocated, best_colocated
from afdplan.planning.design import PlannedDesign
from afdplan.planning.held import Breach, Deployment, HeldPart, circumstances
from afdplan.planning.holding import Holding, find_holding
from afdplan.planning.limits import Limits
from afdplan.planning.next_batch import NextBatch
from afdplan.planning.objective import DeviceCost
from afdplan.planning.search import DesignSearch
from afdplan.planning.sensitivity import Sensitivity
from afdplan.planning.source import LatencySource, source_for
from afdplan.planning.space import SearchSpace
from afdplan.planning.supply import supply_words
from afdplan.planning.surroundings import Surroundings
from afdplan.planning.verdict import Verdict
from afdplan.planning.waiting import SpareCapacity, spare_capacity
from afdplan.theory.problem import RatioProblem
from afdplan.theory.validity import latency_range_warnings, theory_warnings

__all__ = ["Plan", "make_plan"]

MOST_TOKENS = 1e9
"""Tokens per second beyond which no plan is sought."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan(Answer):
    """The answer of the planner.

    Attributes
    ----------
    split
        Best split design under the limits; where none keeps them, the nearest one.
    split_breaks
        The limits that no split keeps, in words; empty where `split` keeps all.
    latency
        Stage times of that design.
    cache
        Room for KV cache on one device of an attention worker; None without a limit.
    colocated
        Best un-split deployment of every expert-parallel width, narrow first; empty if none is
        feasible.
    verdict
        Whether to split, in words and figures.
    spare
        Spare capacity at the known rate of arrivals; None if unknown.
    supply
        Whether the plan is too small or too large for the arrivals, in words; empty if it fits.
    surroundings
        What stands next to the split design.
    basis, law
        The requests that were planned for, in words and as a law: all, or the part of the trace
        (end of the load's interval) under which the limits are hardest to keep.
    drift
        The recommended deployment in each part of the trace that can be told apart.
    interval
        The same at both ends of the interval of the mean token load.
    breaches
        Every limit that the recommended deployment breaks in any of them, the gravest first;
        empty if all hold.
    limits, space, cost, requests, source
        What was asked.
    planned_limits
        The limits under which the requests of `basis` were planned for: at the rate with which
        every part gets its own.
    assumptions
        What was assumed, one sentence each.
    warnings
        What to mistrust, one sentence each.
    """

    split: PlannedDesign
    split_breaks: str
    latency: LatencyModel
    cache: CacheSpace | None
    colocated: tuple[Colocated, ...]
    verdict: Verdict
    spare: SpareCapacity | None
    supply: tuple[str, ...]
    surroundings: Surroundings = field(repr=False)
    basis: str
    law: LengthLaw
    drift: tuple[HeldPart, ...]
    interval: tuple[HeldPart, ...]
    breaches: tuple[Breach, ...]
    limits: Limits
    planned_limits: Limits
    space: SearchSpace
    cost: DeviceCost
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]
    requests: LengthLaw = field(repr=False)
    source: LatencySource = field(repr=False)

    @property
    def alternatives(self) -> tuple[Alternative, ...]:
        """Next legal ratios, other microbatches, batch sizes and FFN workers, with their regret."""
        return self.surroundings.alternatives

    @property
    def front(self) -> tuple[PlannedDesign, ...]:
        """Score against time per output token, every point exact, fastest first."""
        return self.surroundings.front

    @property
    def binding(self) -> tuple[ShadowPrice, ...]:
        """What relaxing each limit would bring, the most precious first."""
        return self.surroundings.binding

    @property
    def next_batch(self) -> NextBatch | None:
        """What the next larger batch size would break or bring; None if none was considered."""
        return self.surroundings.next_batch

    @property
    def sensitivity(self) -> tuple[Sensitivity, ...]:
        """The split design under other inputs."""
        return self.surroundings.sensitivity

    @property
    def evaluated_designs(self) -> int:
        """Designs whose law was computed so far; all others were excluded by bounds."""
        return self.surroundings.search.evaluated

    @property
    def kind(self) -> Literal["split", "un-split"]:
        """Whether the recommendation is the split design or the best un-split deployment."""
        return "un-split" if self.verdict.split != "yes" and self.colocated else "split"

    @property
    def problem(self) -> RatioProblem:
        """The bundle of the best split, all but its A, with the requests that it was found for."""
        design = self.split.design
        return RatioProblem(
            law=self.law,
            latency=self.latency,
            batch_size=design.batch_size,
            ffn_workers=design.ffn_workers,
            microbatches=design.microbatches,
            placement=self.space.placement,
            ffn_weight=(self.cost.ffn * design.ffn_devices)
            / (self.cost.attention * design.attention_devices),
        )

    @property
    def recommended(self) -> Deployment:
        """What to deploy."""
        best = self.best_colocated
        return self.split if self.kind == "split" or best is None else best

    @property
    def is_feasible(self) -> bool:
        """Whether every limit holds in every part of the trace and over the load's interval."""
        return not self.breaches

    @property
    def best_colocated(self) -> Colocated | None:
        """The baseline: the best width."""
        return best_colocated(self.colocated)


def make_plan(
    law: LengthLaw,
    source: LatencySource,
    limits: Limits,
    *,
    space: SearchSpace | None = None,
    cost: DeviceCost | None = None,
    trace: Trace | None = None,
    token_load: Estimate | None = None,
    search: DesignSearch | None = None,
    judges_supply: bool = True,
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
        The trace behind `law`: its arrivals, and its parts, in all of which the limits must hold.
    token_load
        Mean token load with its interval.
    search
        One over the same law, source, space and cost that was made before: it keeps what it has
        computed.
    judges_supply
        Whether to say if the plan is too small or too large for what arrives.
    progress
        Called with the share done, 0 to 1.

    Raises
    ------
    InfeasibleError
        If no deployment, split or not, meets the limits; says which conflict and what is nearest.
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
    >>> plan.recommended.devices <= 16
    True
    """
    check_law(law)
    check_kind("limits", limits, Limits, "Limits(devices=...) or Limits(requests_per_second=...)")
    if not hasattr(source, "colocated"):
        raise InvalidInputError(
            f"source must be a latency source, got {type(source).__name__}: "
            "MeasuredSource(latency) is one, and DerivedSource(placement) of named devices"
        )
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
    space, show = space or SearchSpace(), progress or (lambda _: None)
    source = source_for(space.target, source)
    parts, ends = circumstances(trace, token_load, limits)
    show(0.1)
    found = find_holding(
        law, source, limits, space, cost or DeviceCost(), parts, ends, search, show
    )
    search, best, inside = found.search, found.split, found.limits
    show(0.95)
    spare = spare_capacity(found.recommended, trace, limits.requests_per_second)
    return Plan(
        split=best,
        split_breaks=found.split_breaks,
        latency=found.latency,
        cache=source.cache(best.design.attention_devices),
        colocated=found.colocated,
        verdict=found.verdict,
        spare=spare,
        supply=supply_words(search, found.recommended, limits, spare, found.parts)
        if judges_supply
        else (),
        surroundings=Surroundings(
            search, best, inside, token_load, keeps_limits=not found.split_breaks
        ),
        basis=found.basis.name,
        law=found.basis.law,
        drift=found.parts,
        interval=found.ends,
        breaches=found.breaches,
        limits=limits,
        planned_limits=inside,
        space=space,
        cost=search.score.cost,
        assumptions=source.assumptions,
        warnings=(*_warnings(found, space, source), *_little_spare(spare)),
        requests=law,
        source=source,
    )


def _warnings(found: Holding, space: SearchSpace, source: LatencySource) -> Iterator[str]:
    law, latency, design = found.basis.law, found.latency, found.split.design
    yield from theory_warnings(law, latency, design.bundle)
    slots = tuple(found.search.models.slot_of(kind) for kind in latency.attention)
    yield from latency_range_warnings(
        latency, slots, batch_size=design.batch_size, ffn_tokens=design.bundle.ffn_tokens
    )
    if design.batch_size == max(space.batch_sizes) and len(space.batch_sizes) > 1:
        yield (
            f"the largest batch size considered, {design.batch_size}, is best: consider larger ones"
        )
    if source.time_unit == "abstract":
        yield "the unit of time is unknown: 'per second' means per unit of time"


def _little_spare(spare: SpareCapacity | None) -> Iterator[str]:
    if spare is not None and spare.spare_fraction < 0.1:
        yield (
            f"only {spare.spare_fraction:.0%} of the capacity is spare: queues grow fast near "
            "full use".replace("%", " %")
        )
