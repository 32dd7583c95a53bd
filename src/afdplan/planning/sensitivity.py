"""How much does the plan depend on what nobody knows exactly?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from afdplan.arrays import IntArray
from afdplan.errors import LatencyModelError
from afdplan.lengths.law import LengthLaw
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel, coefficients_of
from afdplan.planning.design import Design, PlannedDesign
from afdplan.planning.limits import Limits, limited
from afdplan.planning.search import MOST_DEVICES, DesignSearch
from afdplan.planning.space import PairLattice
from afdplan.theory.cycle import StepTimes, stage_times
from afdplan.theory.placement import cycle_model
from afdplan.theory.problem import RatioProblem

__all__ = ["BrokenInput", "Sensitivity", "broken_inputs", "sensitivities"]

CHANGE = 0.10
NEIGHBOURS = 16
"""Numbers of attention workers that are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """The recommended design if one input were another.

    Attributes
    ----------
    input
        Which one, for people.
    change
        Relative change of the input.
    throughput_change
        Relative change of the design's tokens per second.
    time_per_output_token
        The limited statistic under the change [s].
    meets_limit
        Whether the limit on the time per output token still holds.
    best_attention_workers
        A that would then be best under the limits on devices and rate, same F, batch size and
        microbatches, as many bundles as fit.
    regret
        Share of the score that keeping A would lose.
    """

    input: str
    change: float
    throughput_change: float
    time_per_output_token: float
    meets_limit: bool
    best_attention_workers: int
    regret: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenInput:
    """An input that breaks the limit on the time; attributes as of `Sensitivity`."""

    input: str
    change: float
    time_per_output_token: float


def sensitivities(
    search: DesignSearch, best: PlannedDesign, limits: Limits, token_load: Estimate | None
) -> tuple[Sensitivity, ...]:
    """Return what ten percent more of each input does, and both ends of the load's interval.

    Parameters
    ----------
    search
        That found `best`.
    best
        The recommended design.
    limits
        Whose time per output token is watched.
    token_load
        Mean token load with its interval, if known.
    """
    return tuple(
        _sensitivity(search, best, limits, name, change, model, factor)
        for name, change, model, factor in _trials(search, best, token_load)
    )


def broken_inputs(
    search: DesignSearch, best: PlannedDesign, limits: Limits, token_load: Estimate | None
) -> tuple[BrokenInput, ...]:
    """Return the inputs that break the limit on the time of the recommended design, worst first.

    No other design is looked at, which makes it quick; parameters as of `sensitivities`.
    """
    if limits.time_per_output_token is None:
        return ()
    here = np.array([best.design.attention_workers])
    found = []
    for name, change, model, factor in _trials(search, best, token_load):
        times = _step_times(search, best.design, model, factor, limits, here)
        held = float(limited(times)[0]) / best.tokens_per_step
        if not limits.meets(held):
            found.append(BrokenInput(input=name, change=change, time_per_output_token=held))
    return tuple(sorted(found, key=lambda one: -one.time_per_output_token))


def _trials(
    search: DesignSearch, best: PlannedDesign, token_load: Estimate | None
) -> list[tuple[str, float, LatencyModel, float]]:
    """Return name, change, times and factor of the load of each input."""
    design = best.design
    latency = search.source.latency(design.attention_devices, design.ffn_workers, design.batch_size)
    trials: list[tuple[str, float, LatencyModel, float]] = [
        ("mean token load", CHANGE, latency, 1 + CHANGE),
        ("mean token load", -CHANGE, latency, 1 - CHANGE),
    ]
    if token_load is not None and token_load.confidence < 1 and token_load.value > 0:
        for end, name in ((token_load.low, "low"), (token_load.high, "high")):
            factor = end / token_load.value
            shown = f"mean token load, {name} end of its interval"
            trials.append((shown, factor - 1, latency, factor))
    trials += [(name, CHANGE, model, 1.0) for name, model in _slower(latency)]
    return trials


def _slower(latency: LatencyModel) -> Iterator[tuple[str, LatencyModel]]:
    """Yield the model with each coefficient a tenth larger; the points of a table together."""
    groups: dict[str, dict[str, float]] = {}
    both = latency.send == latency.receive
    for name, value in coefficients_of(latency).items():
        if value == 0 or (both and name.startswith(("send.", "receive."))):
            continue
        head = re.sub(r"\.[a-z_]+\.\d+$", "", name)  # entries of a list move together
        groups.setdefault(head, {})[name] = value * (1 + CHANGE)
    for head, values in groups.items():
        try:
            yield head.replace("_", " "), latency.with_coefficients(values)
        except LatencyModelError:
            continue  # a falling intercept can break the rule of a roofline


def _sensitivity(
    search: DesignSearch,
    best: PlannedDesign,
    limits: Limits,
    name: str,
    change: float,
    latency: LatencyModel,
    factor: float,
) -> Sensitivity:
    design = best.design
    lattice, index = _neighbours(search, design, limits)
    workers = lattice.attention[index]
    times = _step_times(search, design, latency, factor, limits, workers)
    score, _ = search.pairs.scores(design.combination, lattice, index, times.mean, limits)
    at = int(np.searchsorted(workers, design.attention_workers))
    held = float(limited(times)[at]) / best.tokens_per_step
    return Sensitivity(
        input=name,
        change=change,
        throughput_change=best.step_time.mean / float(times.mean[at]) - 1,
        time_per_output_token=held,
        meets_limit=bool(limits.meets(held)),
        best_attention_workers=int(workers[int(np.argmax(score))]),
        regret=float(1 - score[at] / score.max()) if score.max() > 0 else 0.0,
    )


def _neighbours(
    search: DesignSearch, design: Design, limits: Limits
) -> tuple[PairLattice, IntArray]:
    """Return a lattice and which of its A, half to twice the design's, are compared."""
    lattice = search.lattice(
        limits,
        replace(search.space, ffn_workers=(design.ffn_workers,)),
        design.attention_devices,
        limits.devices or MOST_DEVICES,
    )
    own = design.attention_workers
    near = (lattice.attention >= own // 2) & (lattice.attention <= 2 * own)
    index = np.flatnonzero(near)
    at = int(np.searchsorted(lattice.attention[index], own))
    kept = np.round(np.linspace(0, index.size - 1, NEIGHBOURS)).astype(np.int64)
    return lattice, index[np.unique(np.append(kept, at))]


def _step_times(
    search: DesignSearch,
    design: Design,
    latency: LatencyModel,
    factor: float,
    limits: Limits,
    workers: IntArray,
) -> StepTimes:
    """Return the step times of the design with so many attention workers each."""
    problem = replace(_problem(search.law, latency, design), placement=search.space.placement)
    known = search.models.model(design.combination)
    before = known.problem.latency
    sides = [
        (one.attention, one.coupling.attention_occupied(one.send, one.receive, design.batch_size))
        for one in (latency, before)
    ]
    if factor == 1 and sides[0] == sides[1]:
        # Only the shared stages changed: the law of the attention side is known.
        stages = stage_times(problem, workers.astype(np.float64))
        times = known.evaluate_stages(stages, limits.probabilities)
        extra = latency.step_overhead - before.step_overhead
        return replace(times, mean=times.mean + extra, quantiles=times.quantiles + extra)
    model = cycle_model(problem, problem.slot_loads(factor))
    return model.evaluate(workers.astype(np.float64), limits.probabilities)


def _problem(law: LengthLaw, latency: LatencyModel, design: Design) -> RatioProblem:
    return RatioProblem(
        law=law,
        latency=latency,
        batch_size=design.batch_size,
        ffn_workers=design.ffn_workers,
        microbatches=design.microbatches,
    )
