"""How is all that was asked of a ratio told: in words, JSON and a picture?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from afdplan.plotting.ratio_figures import NAMES, asked_figures
from afdplan.report.effects import effect_answer, with_effects
from afdplan.report.placement import gain_answer, gain_fact, objectives_answer, with_gain
from afdplan.report.ratio import ratio_answer, ratio_told
from afdplan.report.ratio_day import day_answer, day_fact, day_figure, day_table

if TYPE_CHECKING:
    from afdplan.planning.ratio_answer import RatioAnswer
    from afdplan.plotting.figure import Figure
    from afdplan.report.telling import Telling

__all__ = ["ratio_document", "ratio_heading", "ratio_picture", "told_ratio"]

CERTAINTY = ("Token load", "Latency model")
"""How sure the formulas are of theirs; it is no word about what was played."""


def told_ratio(answer: RatioAnswer) -> Telling:
    """Return what text and page say."""
    question, gain, day = answer.question, answer.gain, answer.day
    problem = question.problem
    trace = question.workload.trace
    told = ratio_told(answer.recommendation, problem, answer.warnings, trace)
    if answer.played is not None:
        told = replace(told, words=tuple(w for w in told.words if w.name not in CERTAINTY))
    if gain is not None:
        is_used = gain.placement == question.placement
        fact = gain_fact(gain, problem.latency.time_unit, is_used=is_used)
        brief = with_gain(told.brief, gain, is_used=is_used)
        told = replace(told, words=(*told.words, fact), brief=brief)
    told = with_effects(told, answer.effects)
    if day is None:
        return told
    fact, table = day_fact(day), day_table(day)
    return replace(
        told,
        words=(fact, *told.words),
        tables=(table, *told.tables),
        brief=(fact, *told.brief),
        choice=table,
    )


def ratio_document(answer: RatioAnswer) -> dict[str, Any]:
    """Return the names of ``ratio --json``: of the answer, and of what stands beside it."""
    found = ratio_answer(answer.recommendation) | {
        "placement_gain": gain_answer(answer.gain),
        "effects": effect_answer(answer.effects),
    }
    if answer.played is not None:
        found["objectives"] = objectives_answer(answer.played)
    if answer.day is not None:
        found["day"] = day_answer(answer.day)
    if answer.around is not None:
        from afdplan.report.around import ratio_around_answer  # it knows plans, too

        found["around"] = ratio_around_answer(answer.around)
    return found


def ratio_heading(answer: RatioAnswer) -> str:
    """Return what stands above the picture."""
    bundle, binds = answer.recommendation.bundle, NAMES[answer.recommendation.bottleneck]
    return (
        f"{bundle.attention_workers} attention : {bundle.ffn_workers} FFN, "
        f"B = {bundle.batch_size}, m = {bundle.microbatches}: {binds} binds"
    )


def ratio_picture(answer: RatioAnswer) -> list[Figure]:
    """Return the charts of the picture."""
    objectives = None if answer.played is None else answer.played.objectives
    problem, around = answer.question.problem, answer.around
    return [
        *([] if answer.day is None else [day_figure(answer.day)]),
        *asked_figures(answer.recommendation, problem, around, objectives),
    ]
