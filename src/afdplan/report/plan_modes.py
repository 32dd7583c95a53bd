"""What does a plan say of the same split without the barrier?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from afdplan.report.quantities import given_time, stated_time
from afdplan.report.ratio import mode_words, tail_words
from afdplan.report.telling import Fact

if TYPE_CHECKING:
    from afdplan.model.latency import TimeUnit
    from afdplan.planning.limits import Limits
    from afdplan.theory.ratio import ModeVerdict

__all__ = ["mode_facts"]


def mode_facts(
    modes: ModeVerdict | None, meets: bool | None, limits: Limits, unit: TimeUnit
) -> tuple[Fact, ...]:
    """Return which way pays and whether the time per token holds without the barrier.

    Parameters
    ----------
    modes
        Both ways; None if they were not compared.
    meets
        Whether the way without the barrier keeps the limit; None without one.
    limits
        Of the plan.
    unit
        Of times.
    """
    if modes is None:
        return (Fact("Without the barrier", "Not compared: --execution barrier-free does."),)
    if meets is None or limits.time_per_output_token is None:
        return tuple(mode_words(modes, unit))
    statistic, limit = limits.statistic, limits.time_per_output_token
    verdict, *others = mode_words(modes, unit)
    return (
        verdict,
        Fact(
            "Its time per token",
            f"{'Keeps' if meets else 'BREAKS'} the limit of {given_time(limit, unit)} ({statistic} "
            f"over all workers' steps, {stated_time(modes.step_statistic(statistic), unit)} each); "
            "KV cache and rate are those of the split with the barrier"
            + (
                f"; it lies {tail_words(modes, unit)}: check with afdplan simulate."
                if statistic == "p99"
                else "."
            ),
        ),
        *others,
    )
