"""What should be deployed, and what is told beside it: play, the barrier, policy, effects?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from afdplan.files.plan_file import plan_from_document
from afdplan.model.failures import Failures
from afdplan.planning.check import regret_of_keeping
from afdplan.planning.effect_costs import EffectCost
from afdplan.planning.limits import Limits
from afdplan.planning.objective import DeviceCost
from afdplan.planning.placement_gain import PlacementGain, placement_gain
from afdplan.planning.plan import Plan
from afdplan.planning.plan_effects import plan_effects
from afdplan.planning.plan_modes import plan_modes
from afdplan.planning.progress import Bars, no_bar
from afdplan.planning.replan import replan
from afdplan.planning.source import LatencySource
from afdplan.planning.space import SearchSpace
from afdplan.planning.whole import Prefill, Whole, plan_whole
from afdplan.theory.problem import RatioProblem
from afdplan.theory.ratio import ModeVerdict
from afdplan.workload.requests import Workload

if TYPE_CHECKING:  # the compiler is slow to import
    from afdplan.planning.plan_around import PlanAround
    from afdplan.planning.service_verify import ServiceVerification
    from afdplan.planning.verify import Verification

__all__ = ["PlanAnswer", "PlanQuestion", "answer_plan", "costs_of_keeping"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlanQuestion:
    """All that `answer_plan` answers.

    Attributes
    ----------
    workload, source, limits, space, cost, prefill, failures
        As of `afdplan.planning.whole.plan_whole`.
    has_verification
        Whether the plan and its service are played.
    has_around
        Whether other batches and short runs are asked for; they take seconds.
    has_modes
        Whether the split is compared with one that runs without the barrier.
    """

    workload: Workload
    source: LatencySource
    limits: Limits
    space: SearchSpace
    cost: DeviceCost
    prefill: Prefill | None = None
    failures: Failures | None = None
    has_verification: bool = False
    has_around: bool = False
    has_modes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlanAnswer:
    """All that text, picture, page and JSON say of a plan.

    Attributes
    ----------
    question
        What was asked.
    whole
        The plan with its service and failures.
    verified
        Its designs as played; empty unless asked for.
    played
        Its service as played; None unless asked for.
    around
        Other batches and short runs; None unless asked for.
    modes
        With the barrier and without; None unless asked for.
    gain
        What placing requests by load gives back; None where nothing is known.
    effects
        What each departure from the plain bundle costs.
    """

    question: PlanQuestion
    whole: Whole
    verified: tuple[Verification, ...]
    played: ServiceVerification | None
    around: PlanAround | None
    modes: ModeVerdict | None
    gain: PlacementGain | None
    effects: tuple[EffectCost, ...]

    @property
    def plan(self) -> Plan:
        """The plan of the decode side."""
        return self.whole.plan


def answer_plan(question: PlanQuestion, bar: Bars = no_bar) -> PlanAnswer:
    """Return the plan and everything that is told beside it.

    Parameters
    ----------
    question
        What is asked.
    bar
        Shows how far long work is.

    Raises
    ------
    InfeasibleError
        If nothing meets the limits.
    """
    workload = question.workload
    with bar("planning") as show:
        whole = plan_whole(
            workload.law,
            question.source,
            question.limits,
            prefill=question.prefill,
            failures=question.failures,
            space=question.space,
            cost=question.cost,
            trace=workload.trace,
            token_load=workload.token_load,
            progress=show,
        )
    plan = whole.plan
    warned = replace(plan, warnings=(*workload.warnings, *plan.warnings))
    # Of the decode side, whose memory may hold shared blocks once.
    source, design = plan.source, plan.split.design
    problem = plan.problem.within(plan.limits.devices, design.attention_devices, design.ffn_devices)
    return PlanAnswer(
        question=question,
        whole=replace(whole, plan=warned),
        verified=_verified(plan, bar) if question.has_verification else (),
        played=_played(whole, source, bar) if question.has_verification else None,
        around=_around(plan, bar) if question.has_around else None,
        modes=plan_modes(plan) if question.has_modes else None,
        gain=_gain(question, problem, design.attention_workers),
        effects=plan_effects(plan, source, problem),
    )


def _verified(plan: Plan, bar: Bars) -> tuple[Verification, ...]:
    from afdplan.planning.verify import verify_plan

    with bar("simulating") as show:
        return verify_plan(plan, progress=show)


def _played(whole: Whole, source: LatencySource, bar: Bars) -> ServiceVerification | None:
    if whole.service is None:
        return None
    from afdplan.planning.service_verify import verify_service

    with bar("playing the service") as show:
        return verify_service(whole.service, source, progress=show)


def _around(plan: Plan, bar: Bars) -> PlanAround:
    from afdplan.planning.plan_around import plan_around

    with bar("other batches") as show:
        return plan_around(plan, show)


def _gain(question: PlanQuestion, problem: RatioProblem, here: int) -> PlacementGain | None:
    """Return it by formula, with short runs where anything is played."""
    gain = placement_gain(problem, here)
    if gain is None or not (question.has_verification or question.has_around):
        return gain
    from afdplan.planning.simulated_ratio import with_recovered

    return with_recovered(gain, problem)


def costs_of_keeping(document: dict[str, Any], answer: PlanAnswer) -> dict[str, float]:
    """Return what `check` compares later requests with, from the plan as its file says it.

    That the file is read also proves that it can be.
    """
    law, plan = answer.question.workload.law, answer.plan
    written = plan_from_document(document)
    found = {"regret": regret_of_keeping(written, law)}
    if plan.basis != "all requests" or plan.planned_limits != plan.limits:
        # What holding in the hardest part costs is no reason to plan again.
        found["replan_regret"] = replan(written, law).regret
    return found
