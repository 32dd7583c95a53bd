"""Does a bundle without the barrier pay, by how much, and under which boarding rule?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from afdplan.lengths.token_load import SlotLoad
from afdplan.model.boarding import Boarding
from afdplan.model.plan_parameters import STEP_PROBABILITIES
from afdplan.theory.barrier_free import BarrierFreeModel
from afdplan.theory.fresh_times import ffn_times
from afdplan.theory.problem import RatioProblem
from afdplan.theory.ratio import ModeVerdict
from afdplan.theory.solve import RatioSolution, solve_ratio

__all__ = ["compare_modes"]

RULES = 8
"""Numbers of calls tried, spread geometrically from 2 to all calls."""
AROUND = (0.6, 0.8, 1.0, 1.25, 1.6)
"""Attention workers glanced at over the best of a pool that waits for nobody."""
PROMISING = 3
"""Bundles that are played after the glance."""


def compare_modes(
    problem: RatioProblem, slots: tuple[SlotLoad, ...], solved: RatioSolution
) -> ModeVerdict:
    """Return which way to run pays, each with its own best bundle.

    Parameters
    ----------
    problem, slots
        Barrier-free, and `problem.slot_loads()`.
    solved
        Its optimum under the rule that was asked for. Unless that rule says anything, others are
        tried around it.
    """
    barrier = solve_ratio(
        replace(
            problem,
            execution="synchronous",
            least_calls=1,
            longest_wait=None,
            most_tokens=None,
            max_attention_workers=solved.limit,
        ),
        slots,
    )
    model, best = solved.model, solved.best
    assert isinstance(model, BarrierFreeModel)
    if problem.boarding == Boarding():
        model, best = _best_rule(model, best, solved.limit)
    step = model.evaluate(np.array([float(best)]), STEP_PROBABILITIES)
    quantiles: tuple[float | None, ...] = (None, None, None)
    low, high = None, None
    if problem.method != "mean-field":
        quantiles = tuple(map(float, step.quantiles[0]))
        low, high = model.p99_between(best)
    value = _objective(model, best)
    with_barrier = barrier.search.objective(barrier.best)
    gain = value / with_barrier - 1
    play = model.play(best).play
    return ModeVerdict(
        execution="barrier-free" if gain > 0 else "synchronous",
        gain=gain,
        synchronous_attention_workers=barrier.best,
        synchronous_objective=with_barrier,
        synchronous_step_time=barrier.search.point(barrier.best).step_time,
        attention_workers=best,
        objective=value,
        step_time=float(step.mean[0]),
        step_time_p50=quantiles[0],
        step_time_p95=quantiles[1],
        step_time_p99=quantiles[2],
        step_time_p99_low=low,
        step_time_p99_high=high,
        step_time_error=model.stated_error(best),
        least_calls=model.problem.least_calls,
        calls_per_departure=play.calls_per_departure,
        synchronous_ffn_idle_fraction=barrier.search.point(barrier.best).ffn_idle_fraction,
        ffn_idle_fraction=float(step.ffn_idle_fraction[0]),
        barrier_saved=barrier.barrier_cost,
        floor_paid=_per_call(problem, play.calls_per_departure)
        / _per_call(problem, float(barrier.best))
        - 1,
    )


def _best_rule(model: BarrierFreeModel, best: int, limit: int) -> tuple[BarrierFreeModel, int]:
    """Return the model under the best rule of calls, and its attention workers.

    Both go together: a rule of half of the calls wants an even number of workers. A glance at
    many of both says where to look, a climb from there finds the top.
    """
    m = model.problem.microbatches
    near = {round(best * share) for share in AROUND} | {best - 1, best + 1}
    counts = [count for count in sorted(near) if 1 <= count <= limit]
    rules = {round(calls) for calls in np.geomspace(2, max(counts[-1] * m, 2), RULES)}
    models = {1: model} | {least: model.under(least) for least in sorted(rules)}

    def value(one: tuple[int, int]) -> float:
        return _objective(models.setdefault(one[1], model.under(one[1])), one[0])

    pairs = [(a, k) for a in counts for k in sorted(rules) if k <= a * m]
    pairs.sort(key=lambda one: models[one[1]].glance(one[0]), reverse=True)
    top = max([(best, 1), *pairs[:PROMISING]], key=value)
    while top[1] > 1:
        a, k = top
        around = [(a - 1, k), (a + 1, k), (a, k - 1), (a, k + 1)]
        there = [one for one in around if 1 <= one[0] <= limit and 1 <= one[1] <= one[0] * m]
        higher = max([top, *there], key=value)
        if higher == top:
            break
        top = higher
    return models[top[1]], top[0]


def _objective(model: BarrierFreeModel, attention_workers: int) -> float:
    count = np.array([float(attention_workers)])
    steps = model.evaluate(count).mean
    return float(model.objective(count, steps, model.problem.ffn_weight)[0])


def _per_call(problem: RatioProblem, calls: float) -> float:
    """Return the FFN time per call of a departure with so many [time]."""
    tokens = np.array([calls * problem.batch_size / problem.ffn_workers])
    return float(ffn_times(problem.latency, tokens, problem.ffn_workers).mean[0]) / calls
