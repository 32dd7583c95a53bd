"""How many attention workers per FFN worker, and what would every other number cost?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from afdplan.lengths.law import LengthLaw
from afdplan.lengths.token_load import SlotLoad
from afdplan.model import parameters as ask
from afdplan.model.estimate import Estimate
from afdplan.model.kinds import check_kind
from afdplan.model.latency import LatencyModel
from afdplan.model.parameters import Execution, Method, Overlap, Phase, Placement
from afdplan.model.plan_parameters import STEP_PROBABILITIES
from afdplan.model.words import counted
from afdplan.theory.barrier_free import BarrierFreeModel
from afdplan.theory.latency_draws import (
    LATENCY_CONFIDENCE,
    drawn_interval,
    drawn_step_times,
)
from afdplan.theory.modes import compare_modes
from afdplan.theory.problem import MAXIMUM_WORKERS, RatioProblem
from afdplan.theory.ratio import (
    LatencyUncertainty,
    RatioRecommendation,
    RatioUncertainty,
    Replication,
)
from afdplan.theory.search import WorkerSearch
from afdplan.theory.solve import RatioSolution, solve_ratio
from afdplan.theory.step_model import StepModel, step_model
from afdplan.theory.validity import (
    barrier_free_warnings,
    latency_range_warnings,
    theory_warnings,
)

__all__ = ["recommend", "recommend_ratio"]

LATENCY_CANDIDATES = 40
PLAYED_CANDIDATES = 5
MOST_REPLICATIONS = 12


def recommend_ratio(
    law: LengthLaw,
    latency: LatencyModel,
    *,
    batch_size: int,
    ffn_workers: int = ask.FFN_WORKERS.default,
    microbatches: int = ask.MICROBATCHES.default,
    overlap: Overlap = ask.OVERLAP.default,
    method: Method = ask.METHOD.default,
    phase: Phase = ask.PHASE.default,
    ffn_weight: float | None = ask.FFN_WEIGHT.default,
    max_attention_workers: int | None = ask.MAX_ATTENTION_WORKERS.default,
    horizon: int | None = ask.HORIZON.default,
    execution: Execution = ask.EXECUTION.default,
    least_calls: int = ask.LEAST_CALLS.default,
    longest_wait: float | None = ask.LONGEST_WAIT.default,
    most_tokens: int | None = ask.MOST_TOKENS.default,
    placement: Placement = ask.PLACEMENT.default,
    token_load: Estimate | None = None,
) -> RatioRecommendation:
    """Return the attention workers that give the most output tokens per cost, and the whole curve.

    Parameters
    ----------
    law
        Joint law of prompt and decode lengths (P, D).
    latency
        Times of the stages (t_A, t_F, c_out, c_back).
    batch_size
        B, request slots per attention worker and microbatch [requests], >= 1.
    ffn_workers
        F of one bundle, >= 1.
    microbatches
        m in flight, 1 to 8; ignored by ideal overlap.
    overlap
        ``pipelined``, what systems do, or ``ideal``, the paper's perfect overlap.
    method
        ``exact`` barrier by convolution, ``gaussian`` barrier, or ``mean-field`` without barrier.
    phase
        For requests that are all alike: slots of ``random`` or ``aligned`` age.
    ffn_weight
        w, cost of one FFN worker over that of one attention worker, > 0; unless given, their
        devices as the latency model names them, and 1 if it names none.
    max_attention_workers
        Largest A considered; by default 64 F, or more where the mean field's optimum asks for it.
    horizon
        N requests per worker from a fresh start, in place of the steady state (mean field only).
    execution
        ``synchronous`` (a barrier over all attention workers) or ``barrier-free``.
    least_calls, longest_wait, most_tokens
        Boarding rule of the barrier-free pool, see `Boarding`.
    placement
        Which free slot an admitted request gets: ``longest-prompt`` balances the loads.
    token_load
        Mean token load with its interval, to say how sure the answer is.

    Returns
    -------
    RatioRecommendation

    Raises
    ------
    InvalidInputError
        If a number is out of its domain.
    UnsupportedError
        If options exclude each other.

    Notes
    -----
    Validity: exact and pipelined within 1 % of simulation for ``L E[D] >= 200``, m <= 4,
    A <= 64; outside a warning states the error. Barrier-free it is within 3 %. Up to 256
    attention workers every A is evaluated; beyond, a geometric grid and every A around its best.

    References
    ----------
    arXiv:2601.21351; docs/theory/index.md.

    Examples
    --------
    The paper's baseline, with the pipeline of two microbatches that systems run:

    >>> from afdplan.lengths.law import IndependentLengths
    >>> latency = LatencyModel.linear(
    ...     attention=(0.00165, 50.0), ffn=(0.083, 100.0), transfer=(0.022, 20.0))
    >>> law = IndependentLengths(prompt="geometric:100", decode="geometric:500")
    >>> answer = recommend_ratio(law, latency, batch_size=256)
    >>> answer.optimal_attention_workers, answer.near_equal
    (7, (7, 8))
    """
    if token_load is not None:
        check_kind("token_load", token_load, Estimate, "token_load_estimate(trace) gives one")
    problem = RatioProblem(
        law=law,
        latency=latency,
        batch_size=batch_size,
        ffn_workers=ffn_workers,
        microbatches=microbatches,
        overlap=overlap,
        method=method,
        phase=phase,
        ffn_weight=ask.FFN_WEIGHT.default if ffn_weight is None else ffn_weight,
        horizon=horizon,
        execution=execution,
        least_calls=least_calls,
        longest_wait=longest_wait,
        most_tokens=most_tokens,
        placement=placement,
        max_attention_workers=max_attention_workers,
    )
    return recommend(problem, token_load)


def recommend(problem: RatioProblem, token_load: Estimate | None = None) -> RatioRecommendation:
    """Return what `recommend_ratio` does of a problem that has been stated already."""
    slots = problem.slot_loads()
    solved = solve_ratio(problem, slots)
    search, best, limit = solved.search, solved.best, solved.limit
    quantiles = p99_between = None
    if problem.method != "mean-field":  # a mean field has no law
        step = solved.model.evaluate(np.array([float(best)]), STEP_PROBABILITIES)
        median, p95, p99 = map(float, step.quantiles[0])
        quantiles = (median, p95, p99)
        if isinstance(solved.model, BarrierFreeModel):
            p99_between = solved.model.p99_between(best)
    field, modes = solved.mean_field, None
    if problem.execution == "barrier-free":
        modes = compare_modes(problem, slots, solved)
    return RatioRecommendation(
        optimal_ratio=solved.optimal_ratio,
        optimal_attention_workers=best,
        bundle=problem.bundle(best),
        ffn_weight=problem.ffn_weight,
        bottleneck=solved.bottleneck,
        resource_times=solved.resource_times,
        attention_bound_ratio=field.attention_bound_ratio(),
        communication_bound_ratio=field.communication_bound_ratio(),
        interior_ratio=field.interior_ratio(problem.ffn_weight),
        mean_token_load=_over_layers(problem.latency, solved.model.mean_token_loads),
        curve=search.curve(),
        near_equal=search.near_equal(),
        barrier_cost=solved.barrier_cost,
        step_time_quantiles=quantiles,
        step_time_p99_between=p99_between,
        mean_field_ratio=solved.mean_field_ratio,
        uncertainty=_load_uncertainty(problem, search, token_load, limit),
        latency_uncertainty=_latency_uncertainty(problem, slots, solved.model, best, limit),
        replication=_replication(problem, slots, search),
        modes=modes,
        warnings=tuple(_warnings(problem, slots, solved)),
        problem=problem,
    )


LEAST_LOAD = 1e-6
"""Share of the mean load below which a load is not scaled."""


def _over_layers(latency: LatencyModel, loads: tuple[float, ...]) -> float:
    total = sum(k.layers * load for k, load in zip(latency.attention, loads, strict=True))
    return total / latency.layers


def _load_uncertainty(
    problem: RatioProblem, search: WorkerSearch, token_load: Estimate | None, limit: int
) -> RatioUncertainty | None:
    """Solve again with all loads scaled to either end of the interval of the mean load."""
    has_interval = token_load is not None and token_load.confidence < 1.0 and token_load.value > 0
    if token_load is None or not has_interval or problem.horizon is not None:
        return None
    if token_load.value == 0:  # no request holds a token: there is no load to scale
        return None
    chosen = search.best()
    bests, regrets = [], []
    for end in (token_load.low, token_load.high):
        # Few requests may leave an interval that reaches to nothing: next to nothing stands for it.
        slots = problem.slot_loads(max(end / token_load.value, LEAST_LOAD))
        other = WorkerSearch(step_model(problem, slots), limit)
        bests.append(other.best())
        regrets.append(1 - other.objective(chosen) / other.objective(bests[-1]))
    return RatioUncertainty(
        token_load=token_load,
        low=min(bests),
        high=max(bests),
        largest_regret=max(*regrets, 0.0),
    )


def _latency_uncertainty(
    problem: RatioProblem, slots: tuple[SlotLoad, ...], stated: StepModel, best: int, limit: int
) -> LatencyUncertainty | None:
    """Solve again for models as likely as the estimated one, relative to it (`latency_draws`)."""
    if problem.latency.uncertainty is None:
        return None
    # Bundles that have to be played are few.
    candidates = PLAYED_CANDIDATES if stated.whole_numbers else LATENCY_CANDIDATES
    nearby = np.geomspace(max(best / 3, 1), min(3 * best + 2, limit), candidates)
    workers = np.unique(np.append(np.rint(nearby), best))
    quick, drawn = drawn_step_times(problem, slots, workers)
    objective = stated.objective(workers, quick, problem.ffn_weight)
    middle, at = workers[objective.argmax()], int(np.searchsorted(workers, best))
    lost = 1 - float(objective[at] / objective.max())
    objectives = stated.objective(workers, drawn, problem.ffn_weight)
    bests = np.clip(best + workers[objectives.argmax(axis=1)] - middle, 1, limit)
    low, high = drawn_interval(bests)
    regrets = 1 - objectives[:, at] / objectives.max(axis=1)
    step_time = float(stated.evaluate(workers[[at]]).mean[0])
    least, most = drawn_interval(step_time * drawn[:, at] / quick[at])
    return LatencyUncertainty(
        low=int(np.floor(low)),
        high=int(np.ceil(high)),
        confidence=LATENCY_CONFIDENCE,
        draws=len(drawn),
        mean_regret=max(float(np.mean(regrets)) - lost, 0.0),
        step_time_low=float(least),
        step_time_high=float(most),
    )


def _replication(
    problem: RatioProblem, slots: tuple[SlotLoad, ...], search: WorkerSearch
) -> Replication | None:
    """Compare the recommended bundle with about as many workers in several smaller bundles."""
    best, found = search.best(), None
    divisors = [k for k in range(2, problem.ffn_workers + 1) if problem.ffn_workers % k == 0]
    for bundles in divisors[-MOST_REPLICATIONS:]:
        smaller = replace(problem, ffn_workers=problem.ffn_workers // bundles)
        workers = np.unique(np.maximum([best // bundles, -(-best // bundles)], 1)).astype(float)
        model = step_model(smaller, slots)
        objectives = model.objective(workers, model.evaluate(workers).mean, problem.ffn_weight)
        at = int(objectives.argmax())
        gain = float(objectives[at]) / search.objective(best) - 1
        if found is None or gain > found.gain:
            found = Replication(
                bundles=bundles,
                attention_workers=int(workers[at]),
                ffn_workers=smaller.ffn_workers,
                gain=gain,
            )
    return found


def _warnings(
    problem: RatioProblem,
    slots: tuple[SlotLoad, ...],
    solved: RatioSolution,
) -> list[str]:
    warnings = []
    best, limit = solved.best, solved.limit
    tokens = problem.bundle(best).ffn_tokens
    if isinstance(solved.model, BarrierFreeModel):
        warnings += barrier_free_warnings(
            problem.latency, microbatches=problem.microbatches, attention_workers=best
        )
        play = solved.model.play(best).play
        tokens *= play.calls_per_departure / best
        if play.other_rhythm:
            warnings.append(
                f"rounds are {100 * play.other_rhythm:+.1f} % as long where calls do not begin "
                f"together: {best} attention workers have two rhythms, outside the declared "
                f"validity (step times may be {100 * solved.model.stated_error(best):.0f} % off). "
                "Check with afdplan simulate"
            )
    elif problem.overlap == "pipelined" and problem.method != "mean-field":
        warnings += theory_warnings(problem.law, problem.latency, problem.bundle(best))
    if problem.method == "mean-field" and problem.latency.experts is not None:
        warnings.append(
            "the mean field takes the mean time of the slowest FFN rank and finds the real optimum "
            "without it: the exact method has both"
        )
    warnings += latency_range_warnings(
        problem.latency,
        slots,
        batch_size=problem.batch_size,
        ffn_tokens=tokens,
        aligned=problem.phase == "aligned",
    )
    if best == limit == MAXIMUM_WORKERS:
        warnings.append(
            f"throughput still rises at {limit:,} attention workers, the most that are considered: "
            "the FFN is never the limit; check its curve, or give more batch or fewer FFN workers"
        )
    elif best == limit > 1:
        warnings.append(
            f"the best number of attention workers is the largest considered, {limit}: "
            "allow more of them"
        )
    if best == 1:
        warnings.append(
            "one attention worker is already enough for "
            f"{counted(problem.ffn_workers, 'FFN worker')}: "
            "give fewer FFN workers, a larger batch, or do not split"
        )
    if problem.law.is_constant and problem.law.mean_decode_tokens > 1 and problem.phase == "random":
        warnings.append(
            "all requests are alike: ages are taken as random and independent, an average over "
            "many runs; a benchmark that starts its requests together has the phase aligned"
        )
    return warnings
