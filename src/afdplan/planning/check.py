"""Does a plan still stand, with today's requests and step times?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from afdplan.calibration.memory import CacheKind
from afdplan.deploy.registry import find_target
from afdplan.errors import AfdplanError
from afdplan.files.plan_file import PlanFile
from afdplan.lengths.law import LengthLaw, check_law
from afdplan.model import parameters as ask
from afdplan.model.answer import Answer
from afdplan.model.estimate import Estimate
from afdplan.model.kinds import check_kind
from afdplan.model.latency import TimeUnit
from afdplan.model.words import counted
from afdplan.planning.cache_memory import CacheMemory, CacheSpace, CacheSums
from afdplan.planning.limits import TIE, limited, percentile
from afdplan.planning.objective import find_objective
from afdplan.planning.replan import Replan, kept_unsplit, replan, stored_cost
from afdplan.planning.score import Score
from afdplan.theory.latency_draws import step_time_estimate
from afdplan.theory.placement import cycle_model
from afdplan.theory.problem import RatioProblem

__all__ = ["PlanCheck", "Standing", "check_plan", "problem_of", "regret_of_keeping"]

Standing = Literal["stands", "watch", "replan"]

LEAVE, RETURN = 0.03, 0.015
"""Regret beyond which a plan falls, and below which it stands again."""
TIME_LEAVE, TIME_RETURN = 0.02, 0.0
"""Excess over the limit on time per output token, likewise."""
STEP_LEAVE, STEP_RETURN = 0.10, 0.07
"""Distance of the measured step time from the model's, likewise."""
LEAST_LOAD = 1e-6
"""Share of the mean load below which a load is not scaled: few requests bound nothing."""
OVERFLOW_LEAVE = 2.0
"""Overflow probability over its limit beyond which a plan falls."""
LEAST_OVERFLOW = 1e-12
"""Where none is allowed: what is less cannot be told from none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCheck(Answer):
    """What today's requests mean for a plan.

    Attributes
    ----------
    standing
        ``stands``; ``watch``, the first time beyond a bound when a state is kept; ``replan``.
    mean_token_load
        theta of the new requests [tokens].
    planned_token_load
        theta that was planned for [tokens].
    regret
        Share of throughput per unit of cost that keeping A loses under the new requests, beyond
        what it lost under the planned ones; with an interval of theta, the least over its ends.
    best_attention_workers
        A that would now be best; same F, batch size and microbatches. None of an un-split plan.
    replanned
        What planning again under the stored limits finds; None if the file does not keep them.
    replan_regret
        Share of the score that keeping the design loses against it; with an interval of theta,
        the least over its ends. None likewise.
    notes
        What the plan file lacks for planning again, one sentence each.
    step_time
        Mean step time under the new requests [s].
    step_time_interval
        The same with what the latency model's errors leave it; None if it states none, or the
        plan runs without a split [s].
    measured_step_time
        Of the running server [s]; None if unknown.
    time_per_output_token
        The limited statistic under the new requests [s].
    memory_overflow_probability
        Per attention worker and step under the new requests.
    reasons
        One sentence each, the gravest first.
    time_unit
        Of the times.
    """

    standing: Standing
    mean_token_load: float
    planned_token_load: float
    regret: float
    best_attention_workers: int | None
    replanned: Replan | None
    replan_regret: float | None
    notes: tuple[str, ...]
    step_time: float
    step_time_interval: Estimate | None
    measured_step_time: float | None
    time_per_output_token: float
    memory_overflow_probability: float
    reasons: tuple[str, ...]
    time_unit: TimeUnit


def check_plan(
    plan: PlanFile,
    law: LengthLaw,
    *,
    token_load: Estimate | None = None,
    measured_step_time: float | None = None,
    previous: Standing | None = None,
) -> PlanCheck:
    """Return whether a plan still stands, with hysteresis.

    Parameters
    ----------
    plan
        What runs.
    law
        Lengths of the new requests.
    token_load
        Their mean load with its interval: a plan falls only if it would fall at both ends.
    measured_step_time
        Mean time between output tokens of the running server [s].
    previous
        Standing at the last check. With it, one check beyond a bound means ``watch`` and two in
        a row ``replan``; a fallen plan stands again only well inside the bounds. Without it,
        one check decides.

    Notes
    -----
    Bounds: regret of A, and of the whole design against one planned again under the stored limits,
    3 % (stands again below 1.5 %), time per output token 2 % over its limit,
    overflow probability twice its limit, measured step 10 % off the model's (7 %).
    """
    check_kind("plan", plan, PlanFile, "read_plan gives one, and plan -o writes its file")
    check_law(law)
    factors = [1.0]
    if token_load is not None and token_load.confidence < 1 and token_load.value > 0:
        ends = (token_load.low, token_load.high)
        factors += [max(end / token_load.value, LEAST_LOAD) for end in ends]
    again, least_again, notes = _again(plan, law, factors)
    unsplit = plan.recommends_unsplit and plan.unsplit is not None and again is not None
    cases = [(_unsplit if unsplit else _under)(plan, law, factor) for factor in factors]
    regret, best, mean, held = cases[0]
    planned_regret = 0.0 if unsplit else plan.planned_regret
    regret = max(regret - planned_regret, 0.0)
    least_regret = max(min(case[0] for case in cases) - planned_regret, 0.0)
    least_held = min(case[3] for case in cases)
    if plan.recommends_unsplit and not unsplit:
        notes += ("the plan recommends not to split: what is checked is its best split",)
    overflow = _overflow(plan, law)
    if unsplit and again is not None:
        overflow = again.kept.memory_overflow_probability
    limit = plan.time_per_output_token
    excess = -1.0 if limit is None else least_held / limit - 1
    tokens = plan.latency.tokens_per_step
    off = 0.0
    if measured_step_time is not None:
        # A server reports time per token: a step brings `tokens_per_step` of them.
        off = measured_step_time * tokens / mean - 1
    too_full = overflow / max(plan.overflow_probability, LEAST_OVERFLOW)
    reasons = []
    if excess > TIME_LEAVE and limit is not None:
        reasons.append(
            f"time per output token ({plan.statistic}) is {held * 1e3:.4g} ms, beyond the limit "
            f"of {limit * 1e3:.4g} ms"
        )
    if too_full > OVERFLOW_LEAVE:
        reasons.append(
            f"KV memory overflows with probability {overflow:.2g} per worker and step, the plan "
            f"allows {plan.overflow_probability:g}: lower the batch size"
        )
    if least_regret > LEAVE:
        reasons.append(
            f"{best} attention workers would now be better than {plan.bundle.attention_workers}: "
            f"{least_regret:.1%} are lost".replace("%", " %")
        )
    if again is not None and again.best is None:
        reasons.append("no design meets the limits of the plan under these requests")
    if again is not None and not again.is_rate_reached:
        reasons.append(
            f"it finishes {again.kept.requests_per_second:,.4g} requests/s at most, "
            f"{plan.inputs['rate']:,.4g} were asked for"
        )
    if again is not None and again.best is not None and least_again > LEAVE:
        reasons.append(
            f"planned again under the same limits, {again.best} on "
            f"{counted(again.best.devices, 'device')} would give {again.gain:.1%} more "
            f"{find_objective(stored_cost(plan).per).score}".replace("%", " %")
        )
    if abs(off) > STEP_LEAVE:
        reasons.append(
            f"measured steps are {abs(off):.0%} {'slower' if off > 0 else 'faster'} than the "
            "model says: calibrate again (or the slots are not full)".replace("%", " %")
        )
    inside = (
        max(least_regret, least_again) <= RETURN
        and excess <= TIME_RETURN
        and too_full <= 1.0
        and abs(off) <= STEP_RETURN
    )
    standing = _standing(beyond=bool(reasons), inside=inside, previous=previous)
    if standing == "replan" and not reasons:
        reasons.append("it fell before and is not well inside the bounds again")
    if not reasons:
        change = law.token_load().mean / plan.mean_token_load - 1 if plan.mean_token_load else 0.0
        words = f"the mean token load changed by {change:+.1%}; keeping "
        if again is None:
            words += f"{plan.bundle.attention_workers} attention workers loses {regret:.1%}"
        else:
            words += f"the design loses {again.regret:.1%} against planning again"
            if plan.planned_replan_regret > 0:
                words += (
                    f" for all requests together, of which {plan.planned_replan_regret:.1%} when "
                    "it was planned: it keeps the limits in every part of the trace"
                )
        reasons.append(words.replace("%", " %"))
    return PlanCheck(
        standing=standing,
        mean_token_load=law.token_load().mean,
        planned_token_load=plan.mean_token_load,
        regret=least_regret,
        best_attention_workers=best,
        replanned=again,
        replan_regret=None if again is None else least_again,
        notes=notes,
        step_time=mean,
        step_time_interval=None
        if unsplit
        else step_time_estimate(problem_of(plan, law), plan.bundle.attention_workers),
        measured_step_time=None if measured_step_time is None else measured_step_time * tokens,
        time_per_output_token=held,
        memory_overflow_probability=overflow,
        reasons=tuple(reasons),
        time_unit=plan.latency.time_unit,
    )


def regret_of_keeping(plan: PlanFile, law: LengthLaw) -> float:
    """Return the share of throughput per unit of cost that keeping A loses under `law`."""
    return _under(plan, law, 1.0)[0]


def _again(
    plan: PlanFile, law: LengthLaw, factors: list[float]
) -> tuple[Replan | None, float, tuple[str, ...]]:
    """Return the plan made again, the least regret over the ends of theta, and what is missing."""
    try:
        again = replan(plan, law)
    except AfdplanError as error:
        note = f"the plan was not made again, other A are all that was compared: {error}"
        return None, 0.0, (note,)
    least = again.regret
    for factor in factors[1:]:
        if least > RETURN:
            least = min(least, replan(plan, law, load_factor=factor).regret)
    return again, max(least - plan.planned_replan_regret, 0.0), again.notes


def _standing(*, beyond: bool, inside: bool, previous: Standing | None) -> Standing:
    if previous is None:
        return "replan" if beyond else "stands"
    if beyond:
        return "watch" if previous == "stands" else "replan"
    if previous == "replan" and not inside:
        return "replan"
    return "stands"


def _unsplit(plan: PlanFile, law: LengthLaw, factor: float) -> tuple[float, None, float, float]:
    """Return the same as `_under` of an un-split deployment, which has no A to be another."""
    kept = kept_unsplit(plan, law, factor)
    return 0.0, None, kept.step_time.mean, kept.token_time(plan.statistic)


def problem_of(plan: PlanFile, law: LengthLaw) -> RatioProblem:
    """Return the bundle that runs, all but its A, with the requests that it sees now."""
    return RatioProblem(
        law=law,
        latency=plan.latency,
        batch_size=plan.bundle.batch_size,
        ffn_workers=plan.bundle.ffn_workers,
        microbatches=plan.bundle.microbatches,
        placement=plan.inputs.get("placement") or ask.PLACEMENT.default,
    )


def _under(plan: PlanFile, law: LengthLaw, factor: float) -> tuple[float, int, float, float]:
    """Return (regret, best A, mean step, limited time per token), all loads times `factor`."""
    bundle = plan.bundle
    rule = find_target(plan.target or "any", plan.target_version)
    most = max(4 * bundle.attention_workers, 16)
    workers = np.unique(
        np.append(
            np.round(np.geomspace(1, most, 160)), np.arange(1, 2 * bundle.attention_workers + 1)
        )
    ).astype(np.int64)
    if workers.size > 512:
        workers = workers[:: workers.size // 256]
    workers = np.union1d(workers, [bundle.attention_workers])
    legal = rule.allows(workers, bundle.ffn_workers, plan.attention_devices, plan.ffn_devices)
    workers = workers[legal | (workers == bundle.attention_workers)]
    problem = problem_of(plan, law)
    times = cycle_model(problem, problem.slot_loads(factor)).evaluate(
        workers.astype(np.float64), percentile(plan.statistic)
    )
    score = Score(cost=stored_cost(plan), tokens_per_request=law.mean_decode_tokens)
    ffn_devices = bundle.ffn_workers * plan.ffn_devices
    objective = score.bound(workers / times.mean, workers * plan.attention_devices, ffn_devices)
    held = limited(times)
    at = int(np.flatnonzero(workers == bundle.attention_workers)[0])
    if plan.time_per_output_token is not None:
        # Another A counts only if it meets the limit, or comes as near as today's.
        bound = max(plan.time_per_output_token * plan.latency.tokens_per_step, float(held[at]))
        objective = np.where(held <= bound * (1 + TIE), objective, 0.0)
    best = int(np.argmax(objective))
    return (
        float(1 - objective[at] / objective[best]),
        int(workers[best]),
        float(times.mean[at]),
        float(held[at]) / plan.latency.tokens_per_step,
    )


def _overflow(plan: PlanFile, law: LengthLaw) -> float:
    if plan.cache_capacity is None:
        return 0.0
    kinds = tuple(CacheKind(amount, window) for amount, window in plan.cache_kinds)
    space = CacheSpace(capacity=plan.cache_capacity, kinds=kinds)
    memory = CacheMemory(CacheSums(law, kinds), space)
    return memory.overflow_probability(plan.bundle.requests_per_attention_worker)
