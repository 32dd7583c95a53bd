"""What does the simulator see of a recommended bundle that the theory does not tell?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from afdplan.planning.simulated_ratio import Play, simulated_scenario
from afdplan.simulation.result import SimulationResult
from afdplan.simulation.run import simulate
from afdplan.simulation.scenario import Scenario
from afdplan.simulation.timeline import Timeline, record_timeline
from afdplan.theory.problem import RatioProblem

__all__ = ["PlayedBundle", "play_bundles"]

LIVES = 1
"""Requests that every slot finishes: shares of idle time settle soon, their intervals would not."""
RUNS = 2
MOST_SLOTS = 2_000_000
MOST_STAGES = 400_000_000
"""Stages that a run plays at most, a few seconds' worth."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlayedBundle:
    """Short runs of a bundle and of others with another number of attention workers.

    Attributes
    ----------
    chosen
        The run of the bundle in question.
    results
        All runs, that one included, by A.
    timeline
        A few steps of the bundle in question.
    """

    chosen: SimulationResult
    results: tuple[SimulationResult, ...]
    timeline: Timeline


def play_bundles(
    problem: RatioProblem,
    attention_workers: int,
    others: Sequence[int] = (),
    play: Play = simulated_scenario,
) -> PlayedBundle | None:
    """Return short runs of a problem's bundle; None if they would take minutes.

    Requests are drawn from the problem's law, slots are always occupied, and the run is in its
    steady state (where all requests are of one age, they start together).

    Parameters
    ----------
    problem
        All of the bundle but its number of attention workers.
    attention_workers
        A of the bundle in question.
    others
        Further A, for comparison.
    play
        What to play for the problem and an A.

    Examples
    --------
    >>> from afdplan.lengths.law import IndependentLengths
    >>> from afdplan.model.latency import LatencyModel
    >>> latency = LatencyModel.linear(attention=(0.00165, 50.0), ffn=(0.083, 100.0))
    >>> law = IndependentLengths(prompt="geometric:20", decode="geometric:40")
    >>> played = play_bundles(RatioProblem(law=law, latency=latency, batch_size=16), 4, [2, 8])
    >>> [run.scenario.bundle.attention_workers for run in played.results]
    [2, 4, 8]
    """
    counts = sorted({attention_workers, *others})
    if counts[-1] * problem.batch_size * problem.microbatches > MOST_SLOTS:
        return None
    scenarios = [_scenario(problem, count, play) for count in counts]
    if any(_is_too_long(scenario) for scenario in scenarios):
        return None
    results = tuple(simulate(scenario) for scenario in scenarios)
    at = counts.index(attention_workers)
    return PlayedBundle(
        chosen=results[at], results=results, timeline=record_timeline(scenarios[at], steps=3)
    )


def _scenario(problem: RatioProblem, attention_workers: int, play: Play) -> Scenario:
    scenario = play(problem, attention_workers)
    return replace(
        scenario,
        requests_per_worker=LIVES * scenario.bundle.requests_per_attention_worker,
        start="fresh" if problem.phase == "aligned" else "stationary",
        window="all" if problem.phase == "aligned" else "steady",
        replications=RUNS,
    )


def _is_too_long(scenario: Scenario) -> bool:
    bundle, latency = scenario.bundle, scenario.latency
    cells = bundle.attention_workers * scenario.microbatches * latency.layers
    steps = LIVES * scenario.law.mean_decode_tokens / latency.tokens_per_step
    return RUNS * steps * cells > MOST_STAGES
