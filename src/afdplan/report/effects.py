"""How is told what each effect costs, and what removing it would bring?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from afdplan.report.page import Section
from afdplan.report.placement import BARRIER
from afdplan.report.quantities import change, counted, sentence, share
from afdplan.report.telling import Fact, Telling

if TYPE_CHECKING:
    from afdplan.planning.effect_costs import EffectCost

__all__ = ["effect_answer", "effect_facts", "effect_sections", "with_effects"]

EFFECT = {
    "experts": "Uneven experts",
    "scatter": "Scatter",
    "occupancy": "Busy transfers",
    "launch": "Launches",
    "fan-in": "Uneven peers",
}
"""What each effect is called."""
NEGLIGIBLE = 0.001
"""Cost below which an effect is not on the first screen."""


def effect_facts(found: Iterable[EffectCost]) -> tuple[Fact, ...]:
    """Return a fact per effect: what it does, what it costs, what removing it would bring."""
    return tuple(
        Fact(
            EFFECT[one.effect],
            f"{_doing(one)}: {_moved(one)}",
            f"costs {share(one.cost)}; without it throughput per cost {change(one.gain)}",
        )
        for one in found
    )


def with_effects(told: Telling, found: Sequence[EffectCost], condition: str = "") -> Telling:
    """Return what is told with the effects in its words, and in one line of its screen.

    `condition` stands behind the names: "if split" where no split is recommended.
    """
    after = f", {condition}" if condition else ""
    facts = [one._replace(name=one.name + after) for one in effect_facts(found)]
    brief = list(told.brief)
    dear = [one for one in sorted(found, key=lambda one: -one.cost) if one.cost >= NEGLIGIBLE]
    if brief and dear:
        costs = ", ".join(f"{EFFECT[one.effect].lower()} {share(one.cost)}" for one in dear)
        names = [fact.name for fact in brief]
        place = names.index(BARRIER) + 1 if BARRIER in names else len(brief)
        brief.insert(place, Fact(f"Effects cost{after}", costs, _best_without(dear[0])))
    return replace(told, words=(*told.words, *facts), brief=tuple(brief))


def effect_answer(found: Iterable[EffectCost]) -> list[dict[str, Any]]:
    """Return what `--json` says under ``effects``."""
    return list(map(asdict, found))


def effect_sections(told: Telling, before: str = "") -> tuple[Section, ...]:
    """Return what a text says of effects, as a section; nothing where it says nothing."""
    names = tuple(EFFECT.values())
    words = tuple(
        sentence(f"{fact.name}: {fact.value}; {fact.remark}")
        for fact in told.words
        if fact.name.startswith(names)
    )
    if not words:
        return ()
    first = (before + words[0], *words[1:])
    return (Section(title="What does each effect cost?", words=first),)


def _doing(one: EffectCost) -> str:
    """Return what the effect does to the bundle."""
    longer = share(one.ffn_longer)
    if one.effect == "experts":
        slowest = "rank" if one.ranks is None else f"of {counted(one.ranks, 'rank')}"
        return f"the slowest {slowest} works {longer} longer"
    if one.effect == "scatter":
        return (
            f"stages scatter afresh, attention by {share(one.attention_scatter)}, the FFN by "
            f"{share(one.ffn_scatter)}"
        )
    if one.effect == "occupancy":
        busy = (("attention", one.attention_longer), ("the FFN", one.ffn_longer))
        sides = ", ".join(f"{side} {share(more)}" for side, more in busy if abs(more) > 1e-9)
        return f"transfers keep workers busy longer, {sides}"
    if one.effect == "launch":
        return f"each launch makes the FFN {longer} longer"
    return f"the FFN worker with most peers works {longer} longer"


def _moved(one: EffectCost) -> str:
    """Return the best number of attention workers without it and the one with it."""
    here, other = one.attention_workers, one.attention_workers_without
    if here == other:
        return f"{counted(here, 'attention worker')} with it as without it"
    return f"{other:,} -> {counted(here, 'attention worker')}"


def _best_without(one: EffectCost) -> str:
    """Return whether the dearest effect moves the best number of attention workers."""
    if one.attention_workers == one.attention_workers_without:
        return f"best A {one.attention_workers:,} without {EFFECT[one.effect].lower()}, too"
    return f"best A {one.attention_workers_without:,} without {EFFECT[one.effect].lower()}"
