"""Does a bundle without the barrier pay, by how much, and under which boarding rule?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from afdplan.lengths.token_load import SlotLoad
from afdplan.model.boarding import Boarding
from afdplan.theory.barrier_free import BarrierFreeModel
from afdplan.theory.fresh_times import ffn_times
from afdplan.theory.problem import RatioProblem
from afdplan.theory.ratio import ModeVerdict
from afdplan.theory.search import WorkerSearch
from afdplan.theory.solve import RatioSolution, solve_ratio

__all__ = ["compare_modes"]

RULES = 8
"""Numbers of calls tried, spread geometrically from 2 to all calls."""


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
            problem, execution="synchronous", least_calls=1, longest_wait=None, most_tokens=None
        ),
        slots,
        solved.limit,
    )
    search, best = solved.search, solved.best
    model = solved.model
    if problem.boarding == Boarding():
        calls = best * problem.microbatches
        for least in sorted({round(count) for count in np.geomspace(2, max(calls, 2), RULES)}):
            if least > calls:
                break
            other = BarrierFreeModel(replace(problem, least_calls=least), slots)
            if _objective(other, best) > search.objective(best):
                found = WorkerSearch(other, solved.limit)
                if found.objective(found.best()) > search.objective(search.best()):
                    search, best, model = found, found.best(), other
    with_barrier = barrier.search.objective(barrier.best)
    gain = search.objective(best) / with_barrier - 1
    assert isinstance(model, BarrierFreeModel)
    play = model.play(best).play
    return ModeVerdict(
        execution="barrier-free" if gain > 0 else "synchronous",
        gain=gain,
        synchronous_attention_workers=barrier.best,
        synchronous_objective=with_barrier,
        synchronous_step_time=barrier.search.point(barrier.best).step_time,
        attention_workers=best,
        objective=search.objective(best),
        step_time=search.point(best).step_time,
        least_calls=model.problem.least_calls,
        calls_per_departure=play.calls_per_departure,
        synchronous_ffn_idle_fraction=barrier.search.point(barrier.best).ffn_idle_fraction,
        ffn_idle_fraction=search.point(best).ffn_idle_fraction,
        barrier_saved=barrier.barrier_cost,
        floor_paid=_per_call(problem, play.calls_per_departure)
        / _per_call(problem, float(barrier.best))
        - 1,
    )


def _objective(model: BarrierFreeModel, attention_workers: int) -> float:
    count = np.array([float(attention_workers)])
    steps = model.evaluate(count).mean
    return float(model.objective(count, steps, model.problem.ffn_weight)[0])


def _per_call(problem: RatioProblem, calls: float) -> float:
    """Return the FFN time per call of a departure with so many [time]."""
    tokens = np.array([calls * problem.batch_size / problem.ffn_workers])
    return float(ffn_times(problem.latency, tokens, problem.ffn_workers).mean[0]) / calls
