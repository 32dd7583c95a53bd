"""What should be known around a recommended ratio: other batches, wrong inputs, idle causes?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.planning.bottleneck_map import BottleneckMap
from afdplan.planning.played import PlayedBundle, play_bundles
from afdplan.planning.ratio_grid import RatioCase, ratio_grid
from afdplan.planning.ratio_sensitivity import (
    CurveBand,
    RatioSensitivity,
    curve_bands,
    played_band,
    ratio_sensitivity,
)
from afdplan.planning.simulated_ratio import Play, simulated_scenario
from afdplan.simulation.paired import Paired
from afdplan.theory.problem import RatioProblem

__all__ = ["RatioAround", "ratio_around"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RatioAround:
    """All that is told around one recommended ratio, on its page and in its JSON.

    Attributes
    ----------
    cases
        The answers for other batch sizes and microbatches, the asked ones included.
    maps
        What binds there, one map per number of microbatches.
    sensitivities
        What 20 % of each input do, that which moves the throughput most first.
    bands
        Where the curve may lie because an input is not known exactly.
    played
        Short runs of the recommended bundle, of half and of twice as many attention workers;
        None if they would take minutes.
    """

    cases: tuple[RatioCase, ...]
    maps: tuple[BottleneckMap, ...]
    sensitivities: tuple[RatioSensitivity, ...]
    bands: tuple[CurveBand, ...]
    played: PlayedBundle | None


def ratio_around(
    problem: RatioProblem,
    recommended: int,
    *,
    most_requests: int | None = None,
    token_load: Estimate | None = None,
    latency_of: Callable[[int], LatencyModel] | None = None,
    play: Play | None = None,
    runs: Mapping[int, Paired] = MappingProxyType({}),
    progress: Callable[[float], None] = lambda _: None,
) -> RatioAround:
    """Compute what stands around a recommended ratio; this takes seconds.

    Parameters
    ----------
    problem
        What was asked.
    recommended
        The recommended A, >= 1.
    most_requests
        Most request slots of a worker, m B, that its memory holds; None where that is not known.
    token_load
        Mean token load with its interval, if it is not exact.
    latency_of
        Latency model at a batch size, where it depends on it; else that of the problem.
    play
        What to play for a problem and an A, where formulas do not know what is asked.
    runs
        What has been played of the problem itself, by A.
    progress
        Told the share of the other batches that is done.

    Examples
    --------
    >>> from afdplan.lengths.law import IndependentLengths
    >>> latency = LatencyModel.linear(attention=(0.00165, 50.0), ffn=(0.083, 100.0))
    >>> law = IndependentLengths(prompt="geometric:20", decode="geometric:40")
    >>> problem = RatioProblem(law=law, latency=latency, batch_size=16)
    >>> around = ratio_around(problem, 4)
    >>> len(around.cases), around.sensitivities[0].input
    (28, 'FFN time')
    """
    grid = ratio_grid(
        problem,
        most_requests=most_requests,
        latency_of=latency_of,
        play=play,
        runs=runs,
        progress=progress,
    )
    asked = (problem.batch_size, problem.microbatches)
    mine = next(case for case in grid.cases if (case.batch_size, case.microbatches) == asked)
    workers = tuple(point.attention_workers for point in mine.points)
    bands = (
        curve_bands(problem, workers, token_load)
        if mine.objectives is None
        else (played_band(mine.objectives),)
    )
    half, twice = max(recommended // 2, 1), 2 * recommended
    return RatioAround(
        cases=grid.cases,
        maps=grid.maps,
        sensitivities=ratio_sensitivity(problem, recommended, play),
        bands=bands,
        played=play_bundles(problem, recommended, (half, twice), play or simulated_scenario),
    )
