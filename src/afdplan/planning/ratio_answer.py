"""Which ratio is best, and what is told beside it: policy, effects, other batches, the day?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from afdplan.model import parameters as ask
from afdplan.planning.effect_costs import EffectCost, effect_costs
from afdplan.planning.placement_gain import PlacementGain, placement_gain
from afdplan.planning.progress import Bars, no_bar
from afdplan.planning.ratio_question import RatioQuestion
from afdplan.theory.ratio import RatioRecommendation
from afdplan.theory.recommend import recommend

if TYPE_CHECKING:  # the compiler is slow to import
    from afdplan.planning.ratio_around import RatioAround
    from afdplan.planning.ratio_day import RatioDay
    from afdplan.planning.simulated_ratio import Play, SimulatedRatio

__all__ = ["RatioAnswer", "answer_ratio"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RatioAnswer:
    """All that text, picture, page and JSON say of a ratio.

    Attributes
    ----------
    question
        What was asked.
    recommendation
        The best ratio and the curve of all others.
    played
        How it was played; None by formula.
    gain
        What placing requests by load gives back; None where nothing is known.
    effects
        What each departure from the plain bundle costs.
    around
        Other batches, sensitivities, short runs; None unless asked for.
    day
        The ratio over the clock; None unless asked for.
    """

    question: RatioQuestion
    recommendation: RatioRecommendation
    played: SimulatedRatio | None
    gain: PlacementGain | None
    effects: tuple[EffectCost, ...]
    around: RatioAround | None
    day: RatioDay | None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to mistrust, of the requests and of the answer."""
        return (*self.question.workload.warnings, *self.recommendation.warnings)


def answer_ratio(question: RatioQuestion, bar: Bars = no_bar) -> RatioAnswer:
    """Return the best ratio and everything that is told beside it.

    Parameters
    ----------
    question
        What is asked.
    bar
        Shows how far long work is.

    Examples
    --------
    >>> from afdplan.calibration.latency_choice import LatencyChoice
    >>> from afdplan.theory.problem import RatioProblem
    >>> from afdplan.workload.requests import requests_of_laws
    >>> choice = LatencyChoice(latency="deepseek-v3-ascend-910c")
    >>> requests = requests_of_laws("geometric:100", "geometric:500")
    >>> problem = RatioProblem(law=requests.law, latency=choice.resolve(), batch_size=256)
    >>> found = answer_ratio(RatioQuestion(problem=problem, workload=requests, choice=choice))
    >>> found.recommendation.optimal_attention_workers, found.gain.placement
    (7, 'longest-prompt')
    """
    problem, load = question.problem, question.workload.token_load
    # Without a barrier every number of workers is played: of thousands, for many seconds.
    slow = bar if problem.execution == "barrier-free" else no_bar
    with slow("ratios"):
        without = recommend(question.blind, load)
    play = played = None
    answer = without
    if question.played is None:
        if problem.placement != ask.PLACEMENT.default:
            answer = recommend(problem, load)
        gain = _gain(question, without.optimal_attention_workers)
    else:
        from afdplan.planning.simulated_ratio import simulate_ratio, simulated_scenario

        play = partial(simulated_scenario, **question.played)
        with bar("ratios") as show:
            played = simulate_ratio(problem, without, play, progress=show)
        answer = played.recommendation
        gain = played.gain if problem.execution == "synchronous" else None
    best, choice = answer.optimal_attention_workers, question.choice
    derived = None
    if choice.is_derived:
        counts = {"batch_size": problem.batch_size, "ffn_workers": problem.ffn_workers}
        derived = choice.placement(**counts)
    with slow("effects"):
        effects = effect_costs(problem, best, derived=derived)
    return RatioAnswer(
        question=question,
        recommendation=answer,
        played=played,
        gain=gain,
        effects=effects,
        around=_around(question, best, played, play, bar) if question.has_around else None,
        day=_day(question, play, bar),
    )


def _gain(question: RatioQuestion, blind_attention_workers: int) -> PlacementGain | None:
    """Return it by formula, with short runs where what stands around is asked for."""
    policy = "longest-prompt" if question.placement == ask.PLACEMENT.default else question.placement
    gain = placement_gain(question.blind, blind_attention_workers, policy)
    if gain is None or not question.has_around:
        return gain
    from afdplan.planning.simulated_ratio import with_recovered

    return with_recovered(gain, question.blind)


def _around(
    question: RatioQuestion,
    best: int,
    played: SimulatedRatio | None,
    play: Play | None,
    bar: Bars,
) -> RatioAround:
    from afdplan.planning.ratio_around import ratio_around

    with bar("other batches") as show:
        return ratio_around(
            question.problem,
            best,
            most_requests=question.most_requests,
            token_load=question.workload.token_load,
            latency_of=question.latency_of,
            play=play,
            runs={} if played is None else played.runs,
            progress=show,
        )


def _day(question: RatioQuestion, play: Play | None, bar: Bars) -> RatioDay | None:
    trace, duration = question.workload.trace, question.window_duration
    if trace is None or duration is None:
        return None
    from afdplan.planning.ratio_day import ratio_day

    with bar("windows") as show:
        return ratio_day(
            question.problem,
            trace,
            duration,
            play=play,
            progress=show,
        )
