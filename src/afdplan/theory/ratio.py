"""What is the answer to "how many attention workers per FFN worker?", as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from afdplan.model.answer import Answer
from afdplan.model.bundle import Bundle
from afdplan.model.estimate import Estimate
from afdplan.model.parameters import Execution
from afdplan.theory.layer_cycle import Bottleneck

if TYPE_CHECKING:
    from afdplan.theory.problem import RatioProblem

__all__ = [
    "LatencyUncertainty",
    "ModeVerdict",
    "RatioPoint",
    "RatioRecommendation",
    "RatioUncertainty",
    "Replication",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioPoint:
    """What one number of attention workers gives, for the given FFN workers.

    Attributes
    ----------
    attention_workers
        A.
    cycle_time
        tau, mean time per layer and microbatch [time].
    step_time
        Mean time of an output step [time].
    objective
        Output tokens per time unit / (A + w F).
    throughput_per_instance
        Output tokens per time unit / (A + F).
    regret
        Share of the best objective in the curve that is given up, >= 0.
    attention_idle_fraction, ffn_idle_fraction
        eta_A, eta_F.
    """

    attention_workers: int
    cycle_time: float
    step_time: float
    objective: float
    throughput_per_instance: float
    regret: float
    attention_idle_fraction: float
    ffn_idle_fraction: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioUncertainty:
    """How the interval of the mean token load moves the answer.

    Attributes
    ----------
    token_load
        Mean token load with its interval [tokens].
    low, high
        Best integer A if the whole load law is scaled to the interval's lower and upper end.
    largest_regret
        What the recommended A gives up at the worse of the two ends.
    """

    token_load: Estimate
    low: int
    high: int
    largest_regret: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyUncertainty:
    """How the standard errors of a latency model, fitted or derived, move the answer.

    Attributes
    ----------
    low, high
        Ends of the interval of the best integer A over models as likely as the fitted one.
    confidence
        Stated coverage.
    draws
        Models drawn from the covariance of the coefficients.
    mean_regret
        What the recommended A gives up on average over the draws.
    step_time_low, step_time_high
        Ends of the interval of the step time with the recommended A [time].
    """

    low: int
    high: int
    confidence: float
    draws: int
    mean_regret: float
    step_time_low: float
    step_time_high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Replication:
    """The same workers as several smaller bundles, each with its own barrier.

    Attributes
    ----------
    bundles
        Number of bundles.
    attention_workers, ffn_workers
        Of each bundle.
    gain
        Throughput gained over one coupled bundle, as a fraction.
    """

    bundles: int
    attention_workers: int
    ffn_workers: int
    gain: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeVerdict:
    """Whether a bundle without the barrier pays, each way with its own best bundle.

    Attributes
    ----------
    execution
        The way with the larger objective.
    gain
        Objective without the barrier over that with it, less 1.
    synchronous_attention_workers, synchronous_objective, synchronous_step_time
        The best bundle with the barrier, and what it gives.
    attention_workers, objective, step_time
        The best bundle without it under the best rule found.
    step_time_p50, step_time_p95, step_time_p99
        Quantiles of its step over the steps of all workers, heavy ones being slower [time]; None
        for a mean field, which knows no law.
    step_time_p99_low, step_time_p99_high
        Between which the 99th percentile lies.
    step_time_error
        Largest relative error to expect of `step_time`: 3 %, or more where the bundle has two
        rhythms, which is outside the declared validity.
    least_calls
        Of that rule: calls that wait before the pool departs.
    calls_per_departure
        Mean, under that rule.
    synchronous_ffn_idle_fraction, ffn_idle_fraction
        Of the FFN with the barrier and without: calls of other workers fill it, too.
    barrier_saved
        Share of the throughput that the barrier costs the best synchronous bundle.
    floor_paid
        FFN time per token without the barrier over that with it, less 1: weights are read again
        at every departure.
    """

    execution: Execution
    gain: float
    synchronous_attention_workers: int
    synchronous_objective: float
    synchronous_step_time: float
    attention_workers: int
    objective: float
    step_time: float
    step_time_p50: float | None
    step_time_p95: float | None
    step_time_p99: float | None
    step_time_p99_low: float | None
    step_time_p99_high: float | None
    step_time_error: float
    least_calls: int
    calls_per_departure: float
    synchronous_ffn_idle_fraction: float
    ffn_idle_fraction: float
    barrier_saved: float
    floor_paid: float

    def step_statistic(self, statistic: str) -> float:
        """Return the mean of the step, or the quantile of that name [time]."""
        named = {"p50": self.step_time_p50, "p95": self.step_time_p95, "p99": self.step_time_p99}
        return named.get(statistic) or self.step_time


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioRecommendation(Answer):
    """The answer: how many attention workers, why, and what the others cost.

    Attributes
    ----------
    optimal_ratio
        Real A/F that maximises the objective under the chosen method.
    optimal_attention_workers
        Integer A of the curve with the largest objective; of equals the smallest.
    bundle
        The recommended bundle.
    ffn_weight
        w, cost of an FFN worker over an attention worker.
    bottleneck
        The largest of `resource_times`.
    resource_times
        How long attention (slowest worker), communication, FFN and latency (round trip over m)
        take per layer and microbatch at `optimal_ratio` [time].
    attention_bound_ratio, communication_bound_ratio, interior_ratio
        r_A, r_C, r_peak of the mean field; None where the FFN never catches up.
    mean_token_load
        theta of a slot [tokens], averaged over layers if they differ in context window.
    curve
        One point per evaluated A, in increasing order.
    near_equal
        Smallest and largest A around the best with regret below 1 %.
    barrier_cost
        Share of the throughput that the randomness of loads costs at the recommended A.
    step_time_quantiles
        p50, p95, p99 of the step time at the recommended A [time]; None for a mean field, which
        knows no law.
    step_time_p99_between
        Between which p99 lies without the barrier, where it may be far off; None with it.
    mean_field_ratio
        Real A/F that would be best if every worker always held its mean load.
    uncertainty
        None if the load is known exactly.
    latency_uncertainty
        None if the latency model states no standard errors.
    replication
        The best division into smaller bundles, gain or loss; None for one FFN worker.
    modes
        Barrier-free execution beside the synchronous one; None where the latter was asked for.
    warnings
        One sentence each.
    problem
        What was asked.
    """

    optimal_ratio: float
    optimal_attention_workers: int
    bundle: Bundle
    ffn_weight: float
    bottleneck: Bottleneck
    resource_times: dict[Bottleneck, float]
    attention_bound_ratio: float | None
    communication_bound_ratio: float | None
    interior_ratio: float | None
    mean_token_load: float
    curve: tuple[RatioPoint, ...]
    near_equal: tuple[int, int]
    barrier_cost: float
    step_time_quantiles: tuple[float, float, float] | None
    step_time_p99_between: tuple[float, float] | None
    mean_field_ratio: float
    uncertainty: RatioUncertainty | None
    latency_uncertainty: LatencyUncertainty | None
    replication: Replication | None
    modes: ModeVerdict | None
    warnings: tuple[str, ...]
    problem: RatioProblem = field(repr=False, compare=False)

    @property
    def best(self) -> RatioPoint:
        """The recommended point of the curve."""
        return next(p for p in self.curve if p.attention_workers == self.optimal_attention_workers)
