"""Which ratio is best where the simulator knows what the formulas do not?

Only few ratios can be best: between the optimum of the formulas, whose workers are as unequal as
blind placement leaves them, and that of the mean field, whose workers are equal. A few of them are
played on the same requests, the gaps beside the best are halved until no ratio between could gain
anything to speak of, and the best and its rival are played on until they are told apart or equal.
Whatever a `Scenario` can say is served: placement, KV memory, active slots, scattered times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from afdplan.errors import UnsupportedError
from afdplan.model import parameters as ask
from afdplan.model.estimate import Estimate
from afdplan.model.parameters import Placement
from afdplan.planning.placement_gain import PlacementGain, Recovered
from afdplan.simulation.paired import MOST_SECONDS, Paired, play_paired
from afdplan.simulation.scenario import Scenario
from afdplan.statistics.replications import ratio_estimate
from afdplan.theory.problem import RatioProblem, unknown_placement
from afdplan.theory.ratio import RatioPoint, RatioRecommendation
from afdplan.theory.solve import equal_loads, largest_resource
from afdplan.theory.step_model import StepModel, step_model

__all__ = [
    "AROUND_SECONDS",
    "Play",
    "PlayedSearch",
    "SimulatedRatio",
    "recovered",
    "simulate_ratio",
    "simulated_scenario",
    "with_recovered",
]

FIRST_RATIOS = 4
REPLICATIONS, DECIDING, MOST_REPLICATIONS = 4, 8, 16
AROUND_SECONDS = MOST_SECONDS / 40
"""Of one run of what stands around an answer."""
PRECISION = 0.002
"""Relative half-width of a comparison that decides; a narrower one is not looked for."""
SAMPLED = 4000
"""Requests that are drawn to see how many the memory holds."""
MOST_LOST = 0.01
"""Share of requests that may not fit the memory."""
LEAST_BARRIER = 0.001
"""Share of the throughput below which there is no barrier to speak of."""
GAP = 0.03
"""Neighbouring ratios closer than this share are as good as equal: tops are flat."""
Progress = Callable[[float], None]
Play = Callable[[RatioProblem, int], Scenario]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedRatio:
    """The best ratio as played, and what it gains over the best ratio of blind placement.

    Attributes
    ----------
    recommendation
        The answer in the words of `recommend`: its curve holds what was played.
    objectives
        Tokens per time and cost of each A played, with intervals.
    gain
        Beside blind placement at the best ratio of the formulas.
    runs
        All that was played, by A.
    """

    recommendation: RatioRecommendation
    objectives: dict[int, Estimate]
    gain: PlacementGain
    runs: dict[int, Paired]


def simulated_scenario(problem: RatioProblem, attention_workers: int, **changes: Any) -> Scenario:
    """Return a problem's bundle to be played; `changes` are fields of `Scenario`."""
    asked = (ask.OVERLAP, ask.PLACEMENT, *ask.MODE)
    known: dict[str, Any] = {one.field: getattr(problem, one.field) for one in asked} | changes
    return Scenario(
        bundle=problem.bundle(attention_workers),
        latency=problem.latency,
        lengths=problem.law,
        **known,
    )


def simulate_ratio(
    problem: RatioProblem,
    blind: RatioRecommendation,
    play: Play,
    *,
    progress: Progress | None = None,
) -> SimulatedRatio:
    """Return the best number of attention workers as played.

    Parameters
    ----------
    problem
        Without what the formulas do not know.
    blind
        Its answer by formula: where the search begins.
    play
        What to play for a problem and an A, saturated: `simulated_scenario` with its changes.
    progress
        Called with the share done, 0 to 1.
    """
    stay = blind.optimal_attention_workers
    said = _room_said(play(problem, stay))
    search = PlayedSearch(problem, play, (stay, blind.mean_field_ratio), progress)
    best = search.settled()
    scenario = play(problem, stay)
    base = play_paired(replace(scenario, placement="round-robin", placement_window=1), DECIDING)
    here, top = search.played(stay, DECIDING), search.played(best, DECIDING)
    if progress is not None:
        progress(1.0)
    free = equal_loads(problem, problem.slot_loads())
    cost, tokens = search.cost(stay), problem.latency.tokens_per_step
    share = base.throughput.moved(1 / cost / free(stay))
    better = search.cost(stay) / search.cost(best)
    gain = PlacementGain(
        placement=scenario.placement,
        placement_window=scenario.placement_window,
        blind_attention_workers=stay,
        attention_workers=best,
        barrier_cost=share.moved(-1.0, 1.0),
        given_back=here.against(base).moved(share.value, -share.value),
        gain=top.against(base, better).moved(1.0, -1.0),
        regret_of_blind=here.against(top, 1 / better).moved(-1.0, 1.0),
        blind_time_per_output_token=base.step_time.value / tokens,
        time_per_output_token=top.step_time.value / tokens,
        recovered=_recovered(base, here, cost * free(stay)),
    )
    return SimulatedRatio(
        recommendation=replace(
            search.recommendation(blind, best, free(best)), warnings=(*blind.warnings, *said)
        ),
        objectives=search.objectives(),
        gain=gain,
        runs=search.runs,
    )


def _room_said(scenario: Scenario) -> tuple[str, ...]:
    """Return what a limited memory does to the answer; refuse one that many requests do not fit.

    Raises
    ------
    UnsupportedError
        If so many are refused that the ratio would be that of the short ones.
    """
    room = scenario.kv_capacity
    if room is None:
        return ()
    prompt, decode = scenario.law.sample(np.random.default_rng(0), SAMPLED)
    needed = prompt + decode - 1
    lost = float((needed > room).mean())
    if lost > MOST_LOST:
        raise UnsupportedError(
            f"kv_capacity must hold the requests, got {room:,} tokens: {lost:.3g} of them need "
            f"more, up to {int(needed.max()):,}; give more memory, or leave them out of the trace"
        )
    return (
        "what the barrier costs includes slots that the KV memory keeps empty"
        + (f"; {lost:.2g} of the requests do not fit it and are refused" if lost else ""),
    )


def recovered(
    problem: RatioProblem, attention_workers: int, placement: Placement = "longest-prompt"
) -> Recovered | None:
    """Return what knowing prompts, and knowing outputs too, gives back at one A, by short runs.

    None where no policy compares prompts, where there is no barrier or where it costs too little.
    """
    if problem.execution == "barrier-free" or not placement.startswith("longest"):
        return None
    scenario = simulated_scenario(problem, attention_workers)
    base = play_paired(scenario, DECIDING, AROUND_SECONDS)
    here = play_paired(replace(scenario, placement=placement), DECIDING, AROUND_SECONDS)
    free = equal_loads(problem, problem.slot_loads())
    cost = attention_workers + problem.ffn_weight * problem.ffn_workers
    return _recovered(base, here, cost * free(attention_workers))


def with_recovered(gain: PlacementGain, problem: RatioProblem) -> PlacementGain:
    """Return a gain by formula with what short runs say of known outputs; see `recovered`."""
    blind = replace(problem, placement=ask.PLACEMENT.default)
    known = recovered(blind, gain.blind_attention_workers, gain.placement)
    return replace(gain, recovered=known)


def _recovered(blind: Paired, placed: Paired, free: float) -> Recovered | None:
    """Return it with the throughput of equal loads as `free`, on the requests of both."""
    scenario = placed.scenario
    lost = free - blind.throughputs
    is_known = scenario.execution == "synchronous" and scenario.placement.startswith("longest")
    if not is_known or lost.mean() < LEAST_BARRIER * free:
        return None
    foreseen = replace(scenario, placement="longest-request")
    knowing = play_paired(foreseen, len(blind.parts), blind.seconds)
    prompts, outputs = (
        ratio_estimate(run.throughputs[: lost.size] - blind.throughputs, lost)
        for run in (placed, knowing)
    )
    return Recovered(prompts_only=prompts, outputs_known=outputs)


class PlayedSearch:
    """The best of few numbers of attention workers that are played.

    Parameters
    ----------
    problem
        Without what the formulas do not know.
    play
        What to play for a problem and an A.
    between
        Best A and best real A/F of the mean field by formula: the search begins between them.
    progress
        Called with the share done, 0 to 1.
    runs
        What has been played before, by A.
    seconds
        That a run may take, about.
    """

    def __init__(
        self,
        problem: RatioProblem,
        play: Play,
        between: tuple[int, float],
        progress: Progress | None = None,
        runs: Mapping[int, Paired] = MappingProxyType({}),
        seconds: float = MOST_SECONDS,
    ) -> None:
        self.problem = problem
        self.runs = dict(runs)
        self._play, self._progress, self._seconds = play, progress, seconds
        low, high = sorted((between[0], round(between[1] * problem.ffn_workers)))
        limit = problem.max_attention_workers or max(4 * high, 64 * problem.ffn_workers)
        low, high = max(min(low, limit), 1), max(min(high, limit), 1)
        self.play({round(a) for a in np.linspace(low, high, FIRST_RATIOS)})
        while missing := self.around_best(limit):
            self.play(missing)

    def cost(self, attention_workers: int) -> float:
        """Return A + w F."""
        return attention_workers + self.problem.ffn_weight * self.problem.ffn_workers

    def play(self, workers: set[int]) -> None:
        """Play those of the numbers of workers that have not been."""
        for count in sorted(workers - self.runs.keys()):
            self.played(count, REPLICATIONS)

    def played(self, count: int, replications: int) -> Paired:
        """Return A = `count` with at least so many replications."""
        run = self.runs.get(count)
        if run is not None and len(run.parts) >= replications:
            return run
        if run is None:
            run = play_paired(self._play(self.problem, count), replications, self._seconds)
        else:
            run = run.with_more(replications - len(run.parts))
        self.runs[count] = run
        if self._progress is not None:
            done = len(self.runs)
            self._progress(done / (done + 4))
        return run

    def objective(self, count: int) -> Estimate:
        """Return tokens per time and cost with A = `count`, with its interval."""
        self.played(count, REPLICATIONS)
        return self.runs[count].throughput.moved(1 / self.cost(count))

    def value(self, count: int) -> float:
        """Return the same without its interval."""
        return self.objective(count).value

    def objectives(self) -> dict[int, Estimate]:
        """Return the objective of every A that was played."""
        return {a: self.objective(a) for a in sorted(self.runs)}

    def as_good(self) -> tuple[int, int]:
        """Return the least and the largest A that was not told from the best."""
        best = self.best()
        good = [
            a
            for a, run in self.runs.items()
            if run.against(self.runs[best], self.cost(best) / self.cost(a)).high >= 1
        ]
        return min(good), max(good)

    def best(self) -> int:
        """Return the A with the largest objective; of equals the smallest."""
        return max(self.runs, key=lambda a: (self.value(a), -a))

    def around_best(self, limit: int) -> set[int]:
        """Return what to play next: the middle of wide gaps beside the best, or beyond an end."""
        counts, best = sorted(self.runs), self.best()
        at = counts.index(best)
        wide = max(GAP * best, 1.0)
        missing = set()
        for other in counts[max(at - 1, 0) : at + 2]:
            if abs(other - best) > wide:
                missing.add((other + best) // 2)
        if at == len(counts) - 1 and best < limit:
            missing.add(min(best + max(round(GAP * best), 1), limit))
        if at == 0 and best > 1:
            missing.add(max(best - max(round(GAP * best), 1), 1))
        return missing - self.runs.keys()

    def settled(self) -> int:
        """Return the best once its rival is told from it, or as good."""
        while True:
            best = self.best()
            others = [a for a in self.runs if a != best]
            if not others:
                return best
            rival = max(others, key=lambda a: self.objective(a).value)
            ratio = self.runs[rival].against(self.runs[best], self.cost(best) / self.cost(rival))
            runs = min(len(self.runs[best].parts), len(self.runs[rival].parts))
            clear = ratio.high < 1 or ratio.relative_half_width <= PRECISION
            if clear or runs >= MOST_REPLICATIONS:
                return best
            for count in (best, rival):
                self.played(count, min(2 * runs, MOST_REPLICATIONS))

    def curve(self) -> tuple[RatioPoint, ...]:
        """Return all that was played by A, each with its regret."""
        top = self.value(self.best())
        return tuple(self._point(a, top) for a in sorted(self.runs))

    def near_equal(self) -> tuple[int, int]:
        """Return the smallest and the largest A that was played with a regret below 1 %."""
        good = [point.attention_workers for point in self.curve() if point.regret < 0.01]
        return min(good), max(good)

    def recommendation(
        self, blind: RatioRecommendation, best: int, free: float
    ) -> RatioRecommendation:
        """Return the answer in the words of theory, its curve what was played."""
        workers = self.problem.ffn_workers
        resources = self._nearest_model().resources(float(best))
        return replace(
            blind,
            optimal_ratio=best / workers,
            bottleneck=largest_resource(resources),
            resource_times=resources,
            optimal_attention_workers=best,
            bundle=self.problem.bundle(best),
            curve=self.curve(),
            near_equal=self.near_equal(),
            barrier_cost=max(1 - self.value(best) / free, 0.0),
            step_time_quantiles=self.runs[best].step_time_quantiles,
            uncertainty=None,
            latency_uncertainty=None,
            replication=None,
        )

    def _nearest_model(self) -> StepModel:
        """Return the formulas that come nearest to what is played: balanced loads, or blind."""
        problem, played = self.problem, next(iter(self.runs.values())).scenario.placement
        m = problem.counted_microbatches
        unknown = unknown_placement("longest-prompt", problem.latency, m, problem.execution)
        if played.startswith("longest-prompt") and unknown is None:
            problem = replace(problem, placement="longest-prompt")
        return step_model(problem, problem.slot_loads())

    def _point(self, count: int, top: float) -> RatioPoint:
        run, workers = self.runs[count], self.problem.ffn_workers
        latency, m = self.problem.latency, self.problem.counted_microbatches
        step = run.step_time.value
        value = self.objective(count).value
        return RatioPoint(
            attention_workers=count,
            cycle_time=(step - latency.step_overhead) / (latency.layers * m),
            step_time=step,
            objective=value,
            throughput_per_instance=run.throughput.value / (count + workers),
            regret=max(1 - value / top, 0.0),
            attention_idle_fraction=run.attention_idle_fraction,
            ffn_idle_fraction=run.ffn_idle_fraction,
        )
