"""What would placing requests by load give back of what the barrier costs?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.model import parameters as ask
from afdplan.model.estimate import Estimate
from afdplan.model.parameters import Placement
from afdplan.theory.cycle import CycleModel
from afdplan.theory.placement import STATED_ERROR, cycle_model
from afdplan.theory.problem import RatioProblem, unknown_placement
from afdplan.theory.solve import equal_loads, mean_field_of

__all__ = ["PlacementGain", "Recovered", "placement_gain"]

CANDIDATES = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What of the barrier's cost a placement gives back, as shares of that cost.

    Attributes
    ----------
    prompts_only
        By the policy, which knows prompts and what is held.
    outputs_known
        By the same with every output known to its end (``longest-request``).
    """

    prompts_only: Estimate
    outputs_known: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementGain:
    """A placement at its best ratio beside blind placement.

    Attributes
    ----------
    placement
        The policy.
    placement_window
        K of the waiting requests it looks at.
    blind_attention_workers, attention_workers
        A without it (the best one, or one that runs), and the best with it.
    barrier_cost
        Share of the throughput without a barrier that blind placement loses at its A.
    given_back
        Share of the same that the policy gives back there.
    gain
        Throughput per cost of the best A with it over the A without it, less 1.
    regret_of_blind
        What keeping the blind A gives up with the policy.
    blind_time_per_output_token, time_per_output_token
        Mean time of a step over the tokens it yields, each at its A [time].
    recovered
        How much it matters that outputs are unknown; None unless it was played.
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
    recovered: Recovered | None = None


def placement_gain(
    problem: RatioProblem,
    attention_workers: int,
    placement: Placement = "longest-prompt",
) -> PlacementGain | None:
    """Return what a placement brings by formula, None where there is none.

    Parameters
    ----------
    problem
        Of the bundle; its own placement does not count, nor a largest A below the blind one.
    attention_workers
        The blind A: the best one, or one that runs.
    placement
        To compare.

    Notes
    -----
    Looks at 24 numbers of workers between that A and the optimum of the mean field, where the best
    one with placement lies. Errors are those of the law of placed loads, 1.5 % of a step.
    """
    latency, m = problem.latency, problem.counted_microbatches
    has_barrier = problem.method == "exact" and problem.phase == "random"
    has_barrier &= problem.execution == "synchronous"
    if not has_barrier or unknown_placement(placement, latency, m) is not None:
        return None
    blind = replace(problem, placement=ask.PLACEMENT.default)
    slots, workers, weight = problem.slot_loads(), problem.ffn_workers, problem.ffn_weight
    here, field = attention_workers, mean_field_of(problem, slots)
    most = max(here, problem.max_attention_workers or max(4 * here, 64 * workers))
    there = round(
        workers * field.optimal_ratio(ffn_weight=weight, lowest=1 / workers, highest=most / workers)
    )
    counts = np.rint(np.geomspace(here, max(there, 1), CANDIDATES))
    # Of whole numbers the best may be the next one to where the mean field's top lies.
    counts = np.unique(np.append(counts, [max(there - 1, 1), min(there + 1, most)]))

    def played(model: CycleModel, at: FloatArray) -> tuple[FloatArray, FloatArray]:
        steps = model.evaluate(at).mean
        return steps, model.objective(at, steps, weight)

    steps, objectives = played(cycle_model(replace(problem, placement=placement), slots), counts)
    (blind_step,), (base,) = played(cycle_model(blind, slots), np.array([float(here)]))
    at, kept = int(objectives.argmax()), int(np.flatnonzero(counts == here)[0])
    free = equal_loads(problem, slots)(here)
    top, stay = float(objectives[at]), float(objectives[kept])

    def stated(value: float, error: float) -> Estimate:
        return Estimate(
            value=value, low=value - error, high=value + error, confidence=1.0, method="theory"
        )

    return PlacementGain(
        placement=placement,
        placement_window=1,
        blind_attention_workers=here,
        attention_workers=int(counts[at]),
        barrier_cost=Estimate.exact(max(1 - float(base) / free, 0.0)),
        given_back=stated((stay - float(base)) / free, STATED_ERROR * stay / free),
        gain=stated(top / float(base) - 1, STATED_ERROR * top / float(base)),
        regret_of_blind=stated(1 - stay / top, 0.0),
        blind_time_per_output_token=float(blind_step) / latency.tokens_per_step,
        time_per_output_token=float(steps[at]) / latency.tokens_per_step,
    )
