"""Which ratio is best where the simulator knows what the formulas do not?

Only few ratios can be best: between the optimum of the formulas, whose workers are as unequal as
blind placement leaves them, and that of the mean field, whose workers are equal. A few of them are
played on the same requests, the gaps beside the best are halved until no ratio between could gain
anything to speak of, and the best and its rival are played on until they are told apart or equal.
Whatever a `Scenario` can say is served: placement, KV memory, active slots, scattered times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from afdplan.model import parameters as ask
from afdplan.model.estimate import Estimate
from afdplan.planning.placement_gain import PlacementGain
from afdplan.simulation.paired import Paired, play_paired
from afdplan.simulation.scenario import Scenario
from afdplan.theory.problem import RatioProblem, unknown_placement
from afdplan.theory.ratio import RatioPoint, RatioRecommendation
from afdplan.theory.solve import largest_resource, mean_field_of
from afdplan.theory.step_model import StepModel, step_model

__all__ = ["SimulatedRatio", "simulate_ratio", "simulated_scenario"]

FIRST_RATIOS = 4
REPLICATIONS, DECIDING, MOST_REPLICATIONS = 4, 8, 16
PRECISION = 0.002
"""Relative half-width of a comparison that decides; a narrower one is not looked for."""
GAP = 0.03
"""Neighbouring ratios closer than this share are as good as equal: tops are flat."""
Progress = Callable[[float], None]


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
    replications
        Independent runs behind the closest comparison.
    """

    recommendation: RatioRecommendation
    objectives: dict[int, Estimate]
    gain: PlacementGain
    replications: int


def simulated_scenario(problem: RatioProblem, attention_workers: int, **changes: Any) -> Scenario:
    """Return a problem's bundle to be played; `changes` are fields of `Scenario`."""
    asked = (ask.OVERLAP, *ask.MODE)
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
    scenario_of: Callable[[int], Scenario],
    *,
    max_attention_workers: int | None = None,
    progress: Progress | None = None,
) -> SimulatedRatio:
    """Return the best number of attention workers as played.

    Parameters
    ----------
    problem
        Without what the formulas do not know.
    blind
        Its answer by formula: where the search begins.
    scenario_of
        What to play for each A; saturated.
    max_attention_workers
        Largest A considered.
    progress
        Called with the share done, 0 to 1.
    """
    search = _Played(problem, scenario_of, progress)
    low, high = sorted(
        (blind.optimal_attention_workers, round(blind.mean_field_ratio * problem.ffn_workers))
    )
    limit = max_attention_workers or max(4 * high, 64 * problem.ffn_workers)
    low, high = max(min(low, limit), 1), max(min(high, limit), 1)
    search.play({round(a) for a in np.linspace(low, high, FIRST_RATIOS)})
    while missing := search.around_best(limit):
        search.play(missing)
    best = search.settled()
    stay = blind.optimal_attention_workers
    scenario = scenario_of(stay)
    base = play_paired(replace(scenario, placement="round-robin", placement_window=1), DECIDING)
    here, top = search.played(stay, DECIDING), search.played(best, DECIDING)
    if progress is not None:
        progress(1.0)
    field = mean_field_of(problem, problem.slot_loads())

    def free(count: int) -> float:
        return field.objective(count / problem.ffn_workers, problem.ffn_weight)

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
    )
    return SimulatedRatio(
        recommendation=search.recommendation(blind, best, free(best)),
        objectives={a: search.objective(a) for a in sorted(search.runs)},
        gain=gain,
        replications=min(len(top.parts), len(base.parts)),
    )


class _Played:
    """Numbers of attention workers played so far."""

    def __init__(
        self,
        problem: RatioProblem,
        scenario_of: Callable[[int], Scenario],
        progress: Progress | None,
    ) -> None:
        self.problem = problem
        self.runs: dict[int, Paired] = {}
        self._scenario_of = scenario_of
        self._progress = progress

    def cost(self, attention_workers: int) -> float:
        return attention_workers + self.problem.ffn_weight * self.problem.ffn_workers

    def play(self, workers: set[int]) -> None:
        for count in sorted(workers - self.runs.keys()):
            self.played(count, REPLICATIONS)

    def played(self, count: int, replications: int) -> Paired:
        """Return A = `count` with at least so many replications."""
        run = self.runs.get(count)
        if run is None:
            run = play_paired(self._scenario_of(count), replications)
        elif len(run.parts) < replications:
            run = run.with_more(replications - len(run.parts))
        self.runs[count] = run
        if self._progress is not None:
            done = len(self.runs)
            self._progress(done / (done + 4))
        return run

    def objective(self, count: int) -> Estimate:
        return self.runs[count].throughput.moved(1 / self.cost(count))

    def best(self) -> int:
        return max(self.runs, key=lambda a: (self.objective(a).value, -a))

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

    def recommendation(
        self, blind: RatioRecommendation, best: int, free: float
    ) -> RatioRecommendation:
        """Return the answer in the words of theory, its curve what was played."""
        top = self.objective(best).value
        curve = tuple(self._point(a, top) for a in sorted(self.runs))
        good = [point.attention_workers for point in curve if point.regret < 0.01]
        workers = self.problem.ffn_workers
        resources = self._nearest_model().resources(float(best))
        return replace(
            blind,
            optimal_ratio=best / workers,
            bottleneck=largest_resource(resources),
            resource_times=resources,
            optimal_attention_workers=best,
            bundle=self.problem.bundle(best),
            curve=curve,
            near_equal=(min(good), max(good)),
            barrier_cost=max(1 - top / free, 0.0),
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
