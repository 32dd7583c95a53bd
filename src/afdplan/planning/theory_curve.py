"""What does the exact theory say beside simulated bundles?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from afdplan.lengths.law import LengthLaw
from afdplan.model import parameters as ask
from afdplan.model.estimate import Estimate
from afdplan.planning.ratio_grid import shown_workers
from afdplan.simulation.scenario import Scenario, Variation
from afdplan.theory.latency_draws import step_time_estimate
from afdplan.theory.problem import RatioProblem
from afdplan.theory.ratio import RatioPoint
from afdplan.theory.recommend import recommend

__all__ = ["step_time_by_draws", "theory_curve"]


def step_time_by_draws(scenario: Scenario, law: LengthLaw) -> Estimate | None:
    """Return the exact step time of full slots with what the latency model's errors leave it.

    Parameters
    ----------
    scenario
        What is played; one with arrivals or other lengths than the law's has no such time.
    law
        Of prompt and decode lengths.
    """
    if scenario.arrivals is not None or scenario.latency.uncertainty is None or scenario.failures:
        return None
    return step_time_estimate(_problem(scenario, law), scenario.bundle.attention_workers)


def theory_curve(
    scenario: Scenario, law: LengthLaw, attention_workers: Sequence[int]
) -> tuple[RatioPoint, ...]:
    """Return the exact curve where it describes what was played; else nothing.

    Parameters
    ----------
    scenario
        One of those that were played.
    law
        Of prompt and decode lengths.
    attention_workers
        Those that were played; the curve has them all.
    """
    is_described = (
        scenario.arrivals is None
        and scenario.failures is None
        and scenario.kv_capacity is None
        and scenario.lengths is law
        and scenario.variation == Variation()
        and scenario.start == "stationary"
    )
    if not is_described:
        return ()
    most = max(16, max(attention_workers) * 5 // 4)
    answer = recommend(
        _problem(
            scenario,
            law,
            max_attention_workers=most,
            **{one.field: getattr(scenario, one.field) for one in ask.MODE},
        )
    )
    every = [point.attention_workers for point in answer.curve]
    shown = set(shown_workers(every, attention_workers))
    return tuple(point for point in answer.curve if point.attention_workers in shown)


def _problem(scenario: Scenario, law: LengthLaw, **asked: Any) -> RatioProblem:
    """Return a scenario's bundle, all but its A."""
    return RatioProblem(
        law=law,
        latency=scenario.latency,
        batch_size=scenario.bundle.batch_size,
        ffn_workers=scenario.bundle.ffn_workers,
        microbatches=scenario.microbatches,
        overlap=scenario.overlap,
        **asked,
    )
