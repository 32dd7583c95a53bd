"""How is the standing of a running plan told to a person and to a machine?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from afdplan.model.chosen import chosen
from afdplan.planning.colocated import Colocated
from afdplan.report.effects import effect_answer, with_effects
from afdplan.report.placement import gain_answer, gain_fact
from afdplan.report.plan_answer import colocated_answer, design_answer
from afdplan.report.quantities import (
    chance,
    change,
    estimated,
    number,
    sentence,
    share,
    stated_time,
    times,
)
from afdplan.report.telling import Fact, Telling

if TYPE_CHECKING:
    from afdplan.deploy.running import Difference
    from afdplan.model.latency import TimeUnit
    from afdplan.planning.check import PlanCheck
    from afdplan.planning.check_answer import CheckAnswer

__all__ = [
    "check_answer",
    "check_document",
    "check_told",
    "settings_answer",
    "settings_told",
    "told_check",
]

STANDINGS = {
    "stands": ("The plan stands.", "green"),
    "watch": ("Watch: beyond the bounds for the first time.", "yellow"),
    "replan": ("Plan again.", "red"),
}


def check_answer(result: PlanCheck) -> dict[str, Any]:
    """Return the names that ``afdplan check --json`` promises; times in the plan's unit."""
    again = result.replanned
    return {
        **chosen(
            result,
            "standing reasons mean_token_load planned_token_load regret best_attention_workers",
        ),
        "replanned": None
        if again is None or again.best is None
        else {
            **(
                colocated_answer(again.best)
                if isinstance(again.best, Colocated)
                else design_answer(again.best)
            ),
            "gain": again.gain,
            "least_regret_of_keeping": result.replan_regret,
        },
        **chosen(
            result,
            "step_time step_time_interval measured_step_time time_per_output_token "
            "memory_overflow_probability",
        ),
    }


def check_told(
    result: PlanCheck, unit: TimeUnit, warnings: Sequence[str], following: str = ""
) -> Telling:
    """Return what is said of the plan and of today's requests.

    Parameters
    ----------
    result
        What `check_plan` found.
    unit
        Of the plan's times.
    warnings
        One sentence each.
    following
        The command that comes next.
    """
    answer, style = STANDINGS[result.standing]
    return Telling(
        answer=" ".join([answer, *map(sentence, result.reasons)]),
        facts=tuple(_facts(result, unit)),
        warnings=tuple(warnings),
        style=style,
        following=following,
    )


def _facts(result: PlanCheck, unit: TimeUnit) -> Iterable[Fact]:
    yield Fact(
        "Mean token load",
        number(result.mean_token_load),
        f"planned {number(result.planned_token_load)}",
    )
    measured, known = result.measured_step_time, result.step_time_interval
    yield Fact(
        "Step time by the model",
        stated_time(result.step_time, unit) if known is None else estimated(known, times(unit)),
        "" if measured is None else f"measured {stated_time(measured, unit)}",
    )
    yield Fact("Time per output token", stated_time(result.time_per_output_token, unit))
    yield Fact(
        "KV overflow probability", chance(result.memory_overflow_probability), "per worker and step"
    )
    if result.best_attention_workers is not None:
        best = f"best A {result.best_attention_workers:,}"
        yield Fact("Given up by keeping A", share(result.regret), best)
    again = result.replanned
    if again is not None and again.best is not None:
        yield Fact(
            "Planned again", str(again.best), f"{change(again.gain)} over keeping the design"
        )


def settings_answer(differs: tuple[Difference, ...]) -> dict[str, Any]:
    """Return the settings that run otherwise than planned, for ``--json``."""
    return {"settings_that_differ": differs}


def settings_told(differs: tuple[Difference, ...]) -> Telling:
    """Return the settings that run otherwise than planned."""
    if not differs:
        return Telling(answer="The server runs as planned.", style="green")
    return Telling(
        answer="The server runs otherwise than planned.",
        facts=tuple(
            Fact(one.name, f"planned {one.planned:,}, running {one.running:,}") for one in differs
        ),
        style="red",
    )


def check_document(
    answer: CheckAnswer, observed: dict[str, Any], differs: tuple[Difference, ...]
) -> dict[str, Any]:
    """Return the names of ``check --json``: of the standing, and of what stands beside it.

    Parameters
    ----------
    answer
        What was found.
    observed
        What engines say of their requests; empty of a trace.
    differs
        Settings that the server has otherwise.
    """
    return {
        **check_answer(answer.result),
        "placement_gain": gain_answer(answer.gain),
        "effects": effect_answer(answer.effects),
        **observed,
        **settings_answer(differs),
    }


def told_check(
    answer: CheckAnswer,
    warnings: Sequence[str],
    following: str,
    differs: tuple[Difference, ...] | None,
) -> Telling:
    """Return all that is said of a check; `differs` is None where no settings were given."""
    plan, gain = answer.plan, answer.gain
    unit = plan.latency.time_unit
    told = check_told(answer.result, unit, warnings, following)
    if gain is not None:
        is_used = gain.placement == answer.problem.placement
        told = replace(told, words=(*told.words, gain_fact(gain, unit, is_used=is_used)))
    told = with_effects(told, answer.effects, "if split" if plan.recommends_unsplit else "")
    if differs is None:
        return told
    said = settings_told(differs)
    facts = (*told.facts, *said.facts)
    return replace(told, answer=f"{told.answer} {said.answer}", facts=facts)
