"""How does the best ratio move over the day, and what does one fixed ratio cost?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from afdplan.errors import InsufficientDataError
from afdplan.lengths.law import EmpiricalLengths
from afdplan.model.estimate import Estimate
from afdplan.model.trace import Trace
from afdplan.studies.reprovisioning import Reprovisioning, WindowCurve, compare_fixed
from afdplan.theory.problem import RatioProblem
from afdplan.theory.ratio import RatioRecommendation
from afdplan.theory.recommend import recommend
from afdplan.workload.interval import token_load_estimate
from afdplan.workload.parts import cut_by_clock

__all__ = ["RatioDay", "RatioWindow", "ratio_day"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioWindow:
    """The best ratio of one window.

    Attributes
    ----------
    start
        Its beginning by the clock of the trace (hours after the first arrival without one).
    number
        Which window of the clock it is, those left out counted.
    requests, arrival_rate
        How many arrived, and per second.
    token_load
        Mean token load with its interval [tokens].
    optimal_attention_workers, low, high
        A, and its interval from that of the load.
    objective
        Of the best A: output tokens per time and cost.
    regret_of_fixed, regret_of_best_fixed
        Share of it that the fixed A of the whole trace and the best fixed A give up here.
    """

    start: str
    number: int
    requests: int
    arrival_rate: float | None
    token_load: Estimate
    optimal_attention_workers: int
    low: int
    high: int
    objective: float
    regret_of_fixed: float
    regret_of_best_fixed: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RatioDay:
    """The ratio over time, against one that stays.

    Attributes
    ----------
    window_duration
        Length of a window [s].
    windows
        In the order of time.
    left_out
        Windows with too few requests for an answer of their own.
    fixed_attention_workers, cost_of_fixed
        The A that the whole trace asks for, and its extra cost over following the traffic, as a
        share of the cost of following.
    best_fixed_attention_workers, cost_of_best_fixed
        The fixed A that costs least, likewise.
    comparison
        Every fixed A against the traffic.
    """

    window_duration: float
    windows: tuple[RatioWindow, ...]
    left_out: int
    fixed_attention_workers: int
    cost_of_fixed: float
    best_fixed_attention_workers: int
    cost_of_best_fixed: float
    comparison: Reprovisioning


def ratio_day(
    problem: RatioProblem,
    trace: Trace,
    window_duration: float,
    *,
    max_attention_workers: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> RatioDay:
    """Return the best ratio of every window of a trace, and what one fixed ratio costs.

    Parameters
    ----------
    problem
        Latency, batch size, F, m and method; its law is replaced by that of each window.
    trace
        With arrivals.
    window_duration
        Length of a window [s]; windows begin at whole multiples by the clock of the trace.
    max_attention_workers
        Largest A considered; by default what the whole trace considers, twice.
    progress
        Told the share of windows that is done.

    Raises
    ------
    InvalidInputError
        If the trace has no arrivals or too many windows.
    InsufficientDataError
        If no window holds enough requests.

    Notes
    -----
    See `afdplan.studies.reprovisioning.compare_fixed` for what the cost counts.

    Examples
    --------
    >>> import numpy as np
    >>> from afdplan.files.latency_file import load_latency
    >>> rng = np.random.default_rng(1)
    >>> prompt = np.concatenate([rng.geometric(1 / 200, 400), rng.geometric(1 / 4000, 400)])
    >>> trace = Trace(prompt_tokens=prompt, decode_tokens=rng.geometric(1 / 300, 800),
    ...     arrival_times=np.arange(800) * 9.0)
    >>> problem = RatioProblem(law=EmpiricalLengths(trace), batch_size=64,
    ...     latency=load_latency("deepseek-v3-ascend-910c"))
    >>> day = ratio_day(problem, trace, 3600.0)
    >>> first, second = day.windows
    >>> first.optimal_attention_workers < second.optimal_attention_workers
    True
    >>> day.cost_of_best_fixed <= day.cost_of_fixed
    True
    """
    parts, left_out = cut_by_clock(trace, window_duration)
    whole = _answer(problem, trace, None, max_attention_workers)
    most = max_attention_workers or 2 * whole.curve[-1].attention_workers
    answers = []
    for number, part in enumerate(parts):
        answers.append(_answer(problem, part.trace, token_load_estimate(part.trace), most))
        if progress is not None:
            progress((number + 1) / len(parts))
    curves = [
        WindowCurve(
            number=number,
            start=None,
            output_tokens=float(part.trace.decode_tokens.sum()),
            objective={point.attention_workers: point.objective for point in answer.curve},
        )
        for number, (part, answer) in enumerate(zip(parts, answers, strict=True))
    ]
    fixed = whole.optimal_attention_workers
    comparison = compare_fixed(curves)
    costs = {choice.attention_workers: choice.total_regret for choice in comparison.fixed}
    if fixed not in costs:
        raise InsufficientDataError(
            f"{fixed} attention workers were not evaluated in every window: give a larger "
            "max_attention_workers"
        )
    windows = []
    for part, answer, curve, lost in zip(parts, answers, curves, comparison.regrets, strict=True):
        sure = answer.uncertainty
        best = answer.optimal_attention_workers
        windows.append(
            RatioWindow(
                start=part.name,
                number=part.number,
                requests=part.trace.requests,
                arrival_rate=part.arrival_rate,
                token_load=sure.token_load
                if sure is not None
                else Estimate.exact(answer.mean_token_load),
                optimal_attention_workers=best,
                low=best if sure is None else sure.low,
                high=best if sure is None else sure.high,
                objective=curve.objective[best],
                regret_of_fixed=1 - curve.objective[fixed] / max(curve.objective.values()),
                regret_of_best_fixed=lost,
            )
        )
    return RatioDay(
        window_duration=window_duration,
        windows=tuple(windows),
        left_out=left_out,
        fixed_attention_workers=fixed,
        cost_of_fixed=costs[fixed],
        best_fixed_attention_workers=comparison.best_fixed.attention_workers,
        cost_of_best_fixed=comparison.best_fixed.total_regret,
        comparison=comparison,
    )


def _answer(
    problem: RatioProblem, trace: Trace, token_load: Estimate | None, most: int | None
) -> RatioRecommendation:
    return recommend(
        replace(problem, law=EmpiricalLengths(trace)),
        max_attention_workers=most,
        token_load=None if problem.horizon is not None else token_load,
    )
