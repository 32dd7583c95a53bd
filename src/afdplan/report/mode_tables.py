"""Which tables tell whether going without the barrier pays, and what is published of it?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from afdplan.report.published_tables import fact_table
from afdplan.report.quantities import change, plus_minus, share
from afdplan.report.tables import TextTable
from afdplan.validation.pool_published import pool_source

if TYPE_CHECKING:
    from afdplan.validation.mode_regret import ModeDesign, ModeResult
    from afdplan.validation.paper import PaperFact

__all__ = ["mode_table", "pool_table"]


def mode_table(results: Sequence[ModeResult]) -> TextTable:
    """Return what is said of both ways to run a bundle, case by case, and what simulation says."""
    return TextTable.of(
        "Does going without the barrier pay?",
        results,
        {
            "case": lambda one: one.name,
            "said to pay": lambda one: one.said,
            "gain, theory": lambda one: change(one.expected_gain),
            "gain, simulated": lambda one: change(one.gain),
            "interval": lambda one: plus_minus(one.gain_half_width),
            "with: A (best)": lambda one: (
                f"{_design(one.synchronous)} ({_design(one.best_synchronous)})"
            ),
            "without: A, rule (best)": lambda one: (
                f"{_design(one.barrier_free)} ({_design(one.best_barrier_free)})"
            ),
            "regret": lambda one: share(one.regret),
            "regret of the verdict": lambda one: share(one.verdict_regret),
        },
        is_open=True,
        left=2,
        note="Gain: throughput per instance of the best bundle without the barrier over that with "
        "it, minus 1. Rule: calls that the pool waits for. Regret: share of the best simulated "
        "throughput without the barrier given up by the recommended workers and rule; that of the "
        "verdict by running the bundle in the way that is said to pay.",
    )


def _design(one: ModeDesign) -> str:
    if one.execution == "synchronous":
        return f"{one.attention_workers}"
    return f"{one.attention_workers}, {one.least_calls}"


def pool_table(facts: Sequence[PaperFact]) -> TextTable:
    """Return the published figures of a pool without a barrier beside ours."""
    title, setup, source = pool_source()
    return fact_table(
        facts,
        title=title,
        note=f"{setup}. {source}. No band: most is not the pool's "
        "time, which is what the theory knows.",
    )
