"""Which bundle size is best if devices fail, and what does the loss of one worker do?

A larger bundle fails more often and loses more. With s the largest bundle considered, the best
score over bundles up to s falls with s, and no bundle of more than n devices keeps more than
1 / (1 + (n + 1) R / M) of its score: sizes are tried from the largest down, until the score alone
of all smaller ones is below the best expected score.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from afdplan.lengths.law import LengthLaw
from afdplan.model.failures import Failures
from afdplan.planning.colocated import Colocated
from afdplan.planning.design import Design, PlannedDesign
from afdplan.planning.held import Deployment
from afdplan.planning.limits import Limits
from afdplan.planning.search import DesignSearch
from afdplan.theory.failures import BundleFailures, bundle_failures, no_spare_probability

__all__ = [
    "BundleChoice",
    "FailurePlan",
    "WorkerLoss",
    "bundle_choice",
    "failure_plan",
    "fewest_spares",
]

NEAR = 1e-4
"""Relative gain of the expected score that is looked for."""
MOST_SIZES = 40
MOST_TRIES = 4
MOST_SPARES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleChoice:
    """The best design with bundles of at most so many devices, under failures.

    Attributes
    ----------
    most_devices
        Of one bundle.
    plan
        The best design without failures among them.
    share
        Of its tokens that failures leave.
    """

    most_devices: int
    plan: PlannedDesign
    share: float

    @property
    def expected_score(self) -> float:
        """Score with failures."""
        return self.plan.score * self.share


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLoss:
    """A bundle that goes on without one worker.

    Attributes
    ----------
    lost
        ``attention`` or ``FFN``.
    change
        How it goes on, for people.
    throughput_change
        Of the bundle's tokens per second, relative; -1 if it stops.
    time_per_output_token
        The limited statistic [s].
    meets_limit
        Whether the limit on it still holds.
    memory_overflow_probability
        Per attention worker and step, with the requests that are kept.
    """

    lost: str
    change: str
    throughput_change: float
    time_per_output_token: float
    meets_limit: bool
    memory_overflow_probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePlan:
    """What failures do to the recommended deployment.

    Attributes
    ----------
    failures
        Times and spares.
    bundle
        One bundle (or group of ranks) of the recommended deployment.
    tokens_per_second, requests_per_second
        Expected, of all of them; no more requests than a service carries without failures.
    lost_tokens_per_second
        Tokens that are made and thrown away.
    lost_requests_per_second
        Requests that begin again, whose prompts are computed once more.
    sizes
        The best designs by largest bundle, the largest first.
    losses
        One attention worker lost, and one FFN worker.
    no_spare_probability
        Chance that a failure finds no spare device.
    fewest_spares
        Spare devices with which that chance is at most one percent (N + 1 if it is 1).
    """

    failures: Failures
    bundle: BundleFailures
    tokens_per_second: float
    requests_per_second: float
    lost_tokens_per_second: float
    lost_requests_per_second: float
    sizes: tuple[BundleChoice, ...]
    losses: tuple[WorkerLoss, ...]
    no_spare_probability: float
    fewest_spares: int


def _sizes_of(plan: Deployment) -> tuple[int, int, int]:
    """Return the number of bundles (or groups), devices and slots of each."""
    if isinstance(plan, Colocated):
        return plan.replicas, plan.devices // plan.replicas, plan.slots // plan.replicas
    design = plan.design
    return design.bundles, design.bundle_devices, plan.slots // design.bundles


def _under(
    plan: Deployment, law: LengthLaw, failures: Failures, limits: Limits, others: int
) -> BundleFailures:
    _, size, _ = _sizes_of(plan)
    devices = (limits.devices or plan.devices) + others
    return bundle_failures(law, plan.time_per_output_token, size, failures, devices)


def bundle_choice(
    search: DesignSearch, limits: Limits, failures: Failures, others: int = 0
) -> tuple[BundleChoice, ...]:
    """Return the best design by largest bundle, largest first; the best expected score is in it.

    Parameters
    ----------
    search
        Over requests, source and space.
    limits
        A wanted rate must be reached with failures: more is planned for.
    failures
        Times and spares.
    others
        Devices beside the decode side that take the same spares: those of prefill.
    """
    found: list[BundleChoice] = []
    most: int | None = search.space.max_bundle_devices
    best = 0.0
    while len(found) < MOST_SIZES:
        choice = _choice(search, limits, failures, most, others)
        if choice is None or choice.plan.score <= best * (1 + NEAR):
            break
        found.append(choice)
        best = max(best, choice.expected_score)
        most = choice.plan.design.bundle_devices - 1
        if most < 2:
            break
    return tuple(found)


def _choice(
    search: DesignSearch, limits: Limits, failures: Failures, most: int | None, others: int
) -> BundleChoice | None:
    space = replace(search.space, max_bundle_devices=most)
    wanted = limits.requests_per_second
    plan = search.best(limits, space)
    if plan is None:
        return None
    share = _under(plan, search.law, failures, limits, others).share
    size = plan.design.bundle_devices if most is None else most
    if wanted is None:
        return BundleChoice(most_devices=size, plan=plan, share=share)
    # More is planned for, so that the rate is reached with failures; then the cost decides.
    for _ in range(MOST_TRIES):
        if plan.requests_per_second * share >= wanted * (1 - NEAR):
            break
        plan = search.best(replace(limits, requests_per_second=wanted / share), space)
        if plan is None:
            return None
        share = _under(plan, search.law, failures, limits, others).share
    score = wanted * search.law.mean_decode_tokens / plan.cost
    return BundleChoice(most_devices=size, plan=replace(plan, score=score / share), share=share)


def fewest_spares(devices: int, failures: Failures, most: float = 0.01) -> int:
    """Return the fewest spare devices with which a failure finds none with chance `most`.

    Examples
    --------
    >>> fewest_spares(64, Failures(device_mtbf=3.6e7, restart=300.0, repair=14_400.0))
    2
    """
    spares = 0
    while spares < MOST_SPARES:
        chance = no_spare_probability(devices, replace(failures, spare_devices=spares))
        if chance <= most:
            break
        spares += 1
    return spares


def failure_plan(
    plan: Deployment,
    search: DesignSearch,
    limits: Limits,
    failures: Failures,
    sizes: tuple[BundleChoice, ...] = (),
    others: int = 0,
) -> FailurePlan:
    """Return what failures do to a deployment.

    Parameters
    ----------
    plan
        The recommended one.
    search
        Over its requests and source.
    limits
        Of the plan.
    failures
        Times and spares.
    sizes
        From `bundle_choice`.
    others
        As there.
    """
    bundles, _, slots = _sizes_of(plan)
    found = _under(plan, search.law, failures, limits, others)
    happening = bundles * found.rate * found.availability
    devices = (limits.devices or plan.devices) + others
    losses = tuple(_losses(plan, search, limits)) if isinstance(plan, PlannedDesign) else ()
    return FailurePlan(
        failures=failures,
        bundle=found,
        tokens_per_second=plan.tokens_per_second * found.share,
        requests_per_second=plan.requests_per_second * found.share,
        lost_tokens_per_second=happening * slots * found.lost_tokens,
        lost_requests_per_second=happening * slots,
        sizes=sizes,
        losses=losses,
        no_spare_probability=no_spare_probability(devices, failures),
        fewest_spares=fewest_spares(devices, failures),
    )


def _losses(plan: PlannedDesign, search: DesignSearch, limits: Limits) -> Iterator[WorkerLoss]:
    design = plan.design
    a, f = design.attention_workers, design.ffn_workers
    one = plan.tokens_per_second / design.bundles

    def told(lost: str, change: str, other: Design) -> WorkerLoss:
        found = search.describe(replace(other, bundles=1), limits)
        time = found.token_time(limits.statistic)
        return WorkerLoss(
            lost=lost,
            change=change,
            throughput_change=found.tokens_per_second / one - 1,
            time_per_output_token=time,
            meets_limit=bool(limits.meets(time)),
            memory_overflow_probability=found.memory_overflow_probability,
        )

    def stops(lost: str, why: str) -> WorkerLoss:
        return WorkerLoss(
            lost=lost,
            change=why,
            throughput_change=-1.0,
            time_per_output_token=0.0,
            meets_limit=False,
            memory_overflow_probability=0.0,
        )

    if a > 1:
        yield told(
            "attention", "its requests begin again", replace(design, attention_workers=a - 1)
        )
        moved = -(-design.batch_size * a // (a - 1))
        others = replace(design, attention_workers=a - 1, batch_size=moved)
        yield told("attention", "its requests move to the others", others)
    else:
        yield stops("attention", "the bundle has no other")
    fewer = [number for number in search.source.ffn_workers(f) if number < f]
    if fewer:
        change = f"experts are spread over {fewer[-1]} FFN workers"
        yield told("FFN", change, replace(design, ffn_workers=fewer[-1]))
    else:
        yield stops("FFN", "the others cannot hold its weights")
