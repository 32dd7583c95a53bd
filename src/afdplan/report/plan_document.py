"""How is all that was asked of a plan told, in words and JSON?"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from afdplan.planning.plan_modes import has_both_modes, meets_limit
from afdplan.report.around import plan_around_answer
from afdplan.report.effects import effect_answer, with_effects
from afdplan.report.placement import gain_answer, gain_fact
from afdplan.report.plan import plan_told
from afdplan.report.plan_answer import plan_answer
from afdplan.report.plan_modes import mode_facts
from afdplan.report.service import whole_told
from afdplan.report.service_answer import failure_answer, service_answer

if TYPE_CHECKING:
    from afdplan.planning.plan_answer import PlanAnswer
    from afdplan.report.telling import Fact, Telling

__all__ = ["plan_document", "told_plan"]


def told_plan(answer: PlanAnswer, following: str) -> Telling:
    """Return what text and page say; `following` is the command that comes next."""
    question, plan, gain = answer.question, answer.plan, answer.gain
    subject = f"{question.workload.law.name}; {plan.source.name}"
    told = plan_told(plan, subject, answer.verified, following)
    told = whole_told(told, answer.whole, answer.played)
    words = _mode_facts(answer)
    told = replace(
        told, words=(*told.words, *words), brief=(*told.brief, *words) if told.brief else ()
    )
    if gain is not None:
        is_used = gain.placement == plan.space.placement
        said = gain_fact(gain, plan.source.time_unit, is_used=is_used)
        if plan.kind != "split":  # JSON has it, too
            said = said._replace(name="Placement, if split")
        told = replace(told, words=(*told.words, said))
    return with_effects(told, answer.effects, "" if plan.kind == "split" else "if split")


def _mode_facts(answer: PlanAnswer) -> tuple[Fact, ...]:
    plan, modes = answer.plan, answer.modes
    if modes is None and not has_both_modes(plan.space.target):
        return ()
    meets = None if modes is None else meets_limit(plan, modes)
    return mode_facts(modes, meets, plan.limits, plan.source.time_unit)


def plan_document(answer: PlanAnswer) -> dict[str, Any]:
    """Return the names of ``plan --json`` but ``check``, which is of the plan as written."""
    plan, modes = answer.plan, answer.modes
    found = plan_answer(plan, answer.question.workload.law, answer.verified) | {
        "placement_gain": gain_answer(answer.gain),
        "effects": effect_answer(answer.effects),
        "service": service_answer(answer.whole.service, answer.played),
        "failures": failure_answer(answer.whole.failures),
        "modes": None
        if modes is None
        else asdict(modes) | {"meets_limit": meets_limit(plan, modes)},
    }
    if answer.around is not None:
        found["around"] = plan_around_answer(answer.around)
    return found
