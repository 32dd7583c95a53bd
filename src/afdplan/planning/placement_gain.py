"""What would placing requests by load give back of what the barrier costs?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from afdplan.model.estimate import Estimate
from afdplan.model.parameters import Placement
from afdplan.theory.placement import STATED_ERROR, cycle_model
from afdplan.theory.problem import RatioProblem, unknown_placement
from afdplan.theory.ratio import RatioRecommendation
from afdplan.theory.solve import mean_field_of

__all__ = ["PlacementGain", "placement_gain"]

CANDIDATES = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementGain:
    """A placement beside blind placement, each at its best ratio.

    Attributes
    ----------
    placement
        The policy.
    placement_window
        K of the waiting requests it looks at.
    blind_attention_workers, attention_workers
        Best A without and with it.
    barrier_cost
        Share of the throughput without a barrier that blind placement loses at its best A.
    given_back
        Share of the same that the policy gives back there.
    gain
        Throughput per cost of the best A with it over the best A without it, less 1.
    regret_of_blind
        What keeping the blind A gives up with the policy.
    blind_time_per_output_token, time_per_output_token
        Mean time of a step over the tokens it yields, each at its best A [time].
    """

    placement: Placement
    placement_window: int
    blind_attention_workers: int
    attention_workers: int
    barrier_cost: Estimate
    given_back: Estimate
    gain: Estimate
    regret_of_blind: Estimate
    blind_time_per_output_token: float
    time_per_output_token: float


def placement_gain(
    problem: RatioProblem,
    blind: RatioRecommendation,
    placement: Placement = "longest-prompt",
    *,
    max_attention_workers: int | None = None,
) -> PlacementGain | None:
    """Return what a placement brings by formula, None where there is none.

    Parameters
    ----------
    problem
        With blind placement.
    blind
        Its answer.
    placement
        To compare.
    max_attention_workers
        Largest A considered.

    Notes
    -----
    Looks at 24 numbers of workers between the blind optimum and that of the mean field, where the
    best one with placement lies. Errors are those of the law of placed loads, 1.5 % of a step.
    """
    latency, m = problem.latency, problem.counted_microbatches
    has_barrier = problem.method == "exact" and problem.phase == "random"
    if not has_barrier or unknown_placement(placement, latency, m) is not None:
        return None
    slots, workers, weight = problem.slot_loads(), problem.ffn_workers, problem.ffn_weight
    model = cycle_model(replace(problem, placement=placement), slots)
    here = blind.optimal_attention_workers
    there = max(round(blind.mean_field_ratio * workers), 1)
    if max_attention_workers is not None:
        there = min(there, max_attention_workers)
    counts = np.unique(np.rint(np.geomspace(here, there, CANDIDATES)))
    steps = model.evaluate(counts).mean
    objectives = model.objective(counts, steps, weight)
    at, kept = int(objectives.argmax()), int(np.flatnonzero(counts == here)[0])
    free = mean_field_of(problem, slots).objective(here / workers, weight)
    top, stay, base = float(objectives[at]), float(objectives[kept]), blind.best.objective

    def stated(value: float, error: float) -> Estimate:
        return Estimate(
            value=value, low=value - error, high=value + error, confidence=1.0, method="theory"
        )

    return PlacementGain(
        placement=placement,
        placement_window=1,
        blind_attention_workers=here,
        attention_workers=int(counts[at]),
        barrier_cost=Estimate.exact(blind.barrier_cost),
        given_back=stated((stay - base) / free, STATED_ERROR * stay / free),
        gain=stated(top / base - 1, STATED_ERROR * top / base),
        regret_of_blind=stated(1 - stay / top, 0.0),
        blind_time_per_output_token=blind.best.step_time / latency.tokens_per_step,
        time_per_output_token=float(steps[at]) / latency.tokens_per_step,
    )
