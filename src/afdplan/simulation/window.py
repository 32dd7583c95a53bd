"""Which part of a run counts, and may one run judge itself?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from afdplan.simulation import state as ix
from afdplan.simulation.record import Part
from afdplan.simulation.scenario import Scenario
from afdplan.simulation.tables import token_fraction
from afdplan.statistics.batch_means import BATCHES, steps_for_batch_means
from afdplan.statistics.warmup import warmup_length

__all__ = ["WARM_UP", "Kept", "is_deterministic", "is_long_enough", "keep"]

WARM_UP = "the warm-up takes"
"""How the warning about a long warm-up begins."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The parts of one run that count."""

    parts: list[Part]
    dropped: int


def is_long_enough(scenario: Scenario, parts: list[Part]) -> bool:
    """Say whether batch means of one run may be trusted."""
    law = scenario.law
    longest_seen, share = law.commonest_life()
    if share > 0.5 and longest_seen > 1 and scenario.arrivals is None:
        return False  # equal lives hardly mix: one run does not see the other phases
    if scenario.window != "steady" and scenario.start == "fresh" and scenario.arrivals is None:
        return False  # a transient: only other transients tell how it scatters
    tokens = float(token_fraction(scenario.latency.tokens_per_step))
    needed = steps_for_batch_means(
        law.mean_decode_tokens / tokens, law.mean_squared_decode_tokens / tokens**2
    )
    steps = sum(int(part.integers[ix.STEP]) for part in parts)
    return steps >= needed and len(parts) >= BATCHES


def is_deterministic(scenario: Scenario) -> bool:
    """Say whether replications would all be the same: recorded arrivals, nothing random."""
    stages, experts = scenario.scatter, scenario.expert_load
    scatter = stages.attention + stages.send + stages.ffn + stages.receive
    if experts is not None:
        scatter += experts.imbalance_cv if experts.imbalance is not None else 1.0
    recorded = scenario.arrivals is not None and scenario.arrivals.process == "trace"
    return recorded and scatter == 0 and scenario.failures is None


def keep(scenario: Scenario, runs: list[list[Part]]) -> tuple[list[Kept], tuple[str, ...]]:
    """Return the window of every run."""
    if scenario.window == "all":
        return [Kept(run, 0) for run in runs], ()
    if scenario.window == "first-80":
        return [Kept(run[: max(round(0.8 * len(run)), 1)], 0) for run in runs], ()
    if scenario.start == "stationary":
        return [Kept(run, 0) for run in runs], ()
    length = min(len(run) for run in runs)
    series = np.mean([[_state_of(part) for part in run[:length]] for run in runs], axis=0)
    cut = warmup_length(series)
    warnings: tuple[str, ...] = ()
    if cut >= length // 2 and length >= 4:
        other = "" if scenario.arrivals is not None else ", or start stationary"
        warnings = (f"{WARM_UP} half of the run or more: ask for more requests{other}",)
    return [Kept(run[cut:], cut) for run in runs], warnings


def _state_of(part: Part) -> float:
    """Return requests in the system and KV tokens per time: what a warm-up changes."""
    time = part.floats[ix.CLOCK] or 1.0
    samples = part.integers[ix.KV_SAMPLES] or 1
    requests = (part.floats[ix.ACTIVE_AREA] + part.floats[ix.QUEUE_AREA]) / time
    return float(requests + part.integers[ix.KV_SUM] / samples)
