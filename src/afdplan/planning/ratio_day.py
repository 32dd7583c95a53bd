"""How does the best ratio move over the day, and what does one fixed ratio cost?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from afdplan.errors import InsufficientDataError
from afdplan.lengths.law import EmpiricalLengths
from afdplan.model.estimate import Estimate
from afdplan.model.trace import Trace
from afdplan.planning.reprovisioning import Reprovisioning, WindowCurve, compare_fixed
from afdplan.theory.problem import MAXIMUM_WORKERS, RatioProblem
from afdplan.theory.ratio import RatioRecommendation
from afdplan.theory.recommend import recommend
from afdplan.theory.solve import solve_ratio
from afdplan.workload.interval import token_load_estimate
from afdplan.workload.parts import TracePart, cut_by_clock

if TYPE_CHECKING:  # the compiler is slow to import
    from afdplan.planning.simulated_ratio import Play

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
        A, and its interval from that of the load; where it is played, the least and the largest A
        that were not told from the best.
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
    play: Play | None = None,
    progress: Callable[[float], None] | None = None,
) -> RatioDay:
    """Return the best ratio of every window of a trace, and what one fixed ratio costs.

    Parameters
    ----------
    problem
        Latency, batch size, F, m and method; its law is replaced by that of each window. Where it
        has no largest A, that is twice what the whole trace considers.
    trace
        With arrivals.
    window_duration
        Length of a window [s]; windows begin at whole multiples by the clock of the trace.
    play
        What to play for a problem and an A, where formulas do not know what is asked. The fixed A
        then are those that some window plays near its best, and all are played in all windows.
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
    See `afdplan.planning.reprovisioning.compare_fixed` for what the cost counts.

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
    if play is not None:
        return _played_day(problem, trace, window_duration, play, progress)
    whole = _answer(problem, trace, None)
    if problem.max_attention_workers is None:
        most = min(2 * whole.curve[-1].attention_workers, MAXIMUM_WORKERS)
        problem = replace(problem, max_attention_workers=most)
    answers = []
    for number, part in enumerate(parts):
        answers.append(_answer(problem, part.trace, token_load_estimate(part.trace)))
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
    bests = [
        (answer.optimal_attention_workers,) * 2
        if (sure := answer.uncertainty) is None
        else (sure.low, sure.high)
        for answer in answers
    ]
    loads = [
        Estimate.exact(answer.mean_token_load)
        if answer.uncertainty is None
        else answer.uncertainty.token_load
        for answer in answers
    ]
    return _day(
        window_duration,
        parts,
        left_out,
        whole.optimal_attention_workers,
        curves,
        loads,
        bests,
        [answer.optimal_attention_workers for answer in answers],
    )


def _played_day(
    problem: RatioProblem,
    trace: Trace,
    window_duration: float,
    play: Play,
    progress: Callable[[float], None] | None,
) -> RatioDay:
    """Return the same by play: every A that some window counts as good is played in all."""
    from afdplan.planning.simulated_ratio import AROUND_SECONDS, PlayedSearch

    def search(requests: Trace) -> PlayedSearch:
        mine = replace(problem, law=EmpiricalLengths(requests))
        solved = solve_ratio(mine, mine.slot_loads())
        between = solved.best, solved.mean_field_ratio
        return PlayedSearch(mine, play, between, seconds=AROUND_SECONDS)

    parts, left_out = cut_by_clock(trace, window_duration)
    fixed = search(trace).best()
    searches = []
    for number, part in enumerate(parts):
        searches.append(search(part.trace))
        if progress is not None:
            progress((number + 1) / (2 * len(parts)))
    common = {fixed} | {one.best() for one in searches}
    curves = []
    for number, (part, one) in enumerate(zip(parts, searches, strict=True)):
        one.play(common)
        curves.append(
            WindowCurve(
                number=number,
                start=None,
                output_tokens=float(part.trace.decode_tokens.sum()),
                objective={a: value.value for a, value in one.objectives().items()},
            )
        )
        if progress is not None:
            progress((len(parts) + number + 1) / (2 * len(parts)))
    return _day(
        window_duration,
        parts,
        left_out,
        fixed,
        curves,
        [token_load_estimate(part.trace) for part in parts],
        [one.as_good() for one in searches],
        [one.best() for one in searches],
    )


def _day(
    window_duration: float,
    parts: Sequence[TracePart],
    left_out: int,
    fixed: int,
    curves: Sequence[WindowCurve],
    loads: Sequence[Estimate],
    ends: Sequence[tuple[int, int]],
    bests: Sequence[int],
) -> RatioDay:
    """Return the day of windows that have been solved or played."""
    comparison = compare_fixed(curves)
    costs = {choice.attention_workers: choice.total_regret for choice in comparison.fixed}
    if fixed not in costs:
        raise InsufficientDataError(
            f"{fixed} attention workers were not evaluated in every window: give a larger "
            "max_attention_workers"
        )
    windows = []
    for part, load, (low, high), best, curve, lost in zip(
        parts, loads, ends, bests, curves, comparison.regrets, strict=True
    ):
        windows.append(
            RatioWindow(
                start=part.name,
                number=part.number,
                requests=part.trace.requests,
                arrival_rate=part.arrival_rate,
                token_load=load,
                optimal_attention_workers=best,
                low=low,
                high=high,
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
    problem: RatioProblem, trace: Trace, token_load: Estimate | None
) -> RatioRecommendation:
    return recommend(
        replace(problem, law=EmpiricalLengths(trace)),
        None if problem.horizon is not None else token_load,
    )
