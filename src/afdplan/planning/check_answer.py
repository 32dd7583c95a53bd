"""Does a plan still stand, and what does it lose: to the barrier, to effects?"""

from __future__ import annotations

from dataclasses import dataclass

from afdplan.errors import InvalidInputError
from afdplan.files.plan_file import PlanFile
from afdplan.lengths.law import LengthLaw
from afdplan.model.estimate import Estimate
from afdplan.planning.check import PlanCheck, Standing, check_plan, problem_of
from afdplan.planning.effect_costs import EffectCost
from afdplan.planning.placement_gain import PlacementGain, placement_gain
from afdplan.planning.plan_effects import running_effects
from afdplan.theory.problem import RatioProblem

__all__ = ["CheckAnswer", "answer_check"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CheckAnswer:
    """All that text, picture and JSON say of a check.

    Attributes
    ----------
    plan
        What runs.
    problem
        Its bundle under today's requests.
    result
        How it stands.
    gain
        What placing requests by load gives back; None where nothing is known.
    effects
        What each departure from the plain bundle costs.
    """

    plan: PlanFile
    problem: RatioProblem
    result: PlanCheck
    gain: PlacementGain | None
    effects: tuple[EffectCost, ...]


def answer_check(
    plan: PlanFile,
    law: LengthLaw,
    *,
    token_load: Estimate | None = None,
    measured_step_time: float | None = None,
    previous: Standing | None = None,
) -> CheckAnswer:
    """Return how a plan stands, and what is told beside it.

    Parameters
    ----------
    plan, law, token_load, measured_step_time, previous
        As of `afdplan.planning.check.check_plan`.

    Raises
    ------
    InvalidInputError
        If the file's number of devices is none.
    """
    result = check_plan(
        plan,
        law,
        token_load=token_load,
        measured_step_time=measured_step_time,
        previous=previous,
    )
    devices = plan.inputs.get("devices")
    if devices is not None and not isinstance(devices, int):
        raise InvalidInputError(
            f"devices of the plan must be an integer, got {devices!r}: plan again"
        )
    problem = problem_of(plan, law)
    bounded = problem.within(devices, plan.attention_devices, plan.ffn_devices)
    gain = placement_gain(bounded, plan.bundle.attention_workers)
    if gain is not None:
        from afdplan.planning.simulated_ratio import with_recovered

        gain = with_recovered(gain, problem)
    return CheckAnswer(
        plan=plan,
        problem=problem,
        result=result,
        gain=gain,
        effects=running_effects(plan, bounded),
    )
