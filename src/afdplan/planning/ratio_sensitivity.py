"""Which input moves the recommended ratio, and by how much?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from afdplan.lengths.token_load import SlotLoad
from afdplan.model.curve import LinearCurve
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel, coefficients_of
from afdplan.theory.cycle import CycleModel
from afdplan.theory.latency_draws import drawn_interval, drawn_step_times
from afdplan.theory.placement import cycle_model
from afdplan.theory.problem import RatioProblem
from afdplan.theory.search import WorkerSearch
from afdplan.theory.solve import solve_ratio, worker_limit

if TYPE_CHECKING:  # the compiler is slow to import
    from afdplan.planning.simulated_ratio import Play

__all__ = ["CurveBand", "RatioSensitivity", "curve_bands", "played_band", "ratio_sensitivity"]

CHANGE = 0.2
GROUPS = {
    "attention": "attention time",
    "ffn": "FFN time",
    "send": "transfer time, both ways",
    "receive": "transfer time, both ways",
    "step_overhead": "step overhead",
    "launch": "launch of the FFN",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioSensitivity:
    """What 20 % less and 20 % more of one input do.

    Attributes
    ----------
    input
        Which, for people.
    objective_change
        Relative change of the throughput of the recommended bundle, (less, more).
    best
        Best A with less and with more of it.
    regret
        What the recommended A then gives up, (less, more).
    """

    input: str
    objective_change: tuple[float, float]
    best: tuple[int, int]
    regret: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveBand:
    """Where the curve may lie because one input is not known exactly.

    Attributes
    ----------
    cause
        Which input.
    attention_workers
        A, ascending.
    low, high
        Ends of the objective at each A [tokens/time per cost].
    """

    cause: str
    attention_workers: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def ratio_sensitivity(
    problem: RatioProblem, recommended: int, play: Play | None = None
) -> tuple[RatioSensitivity, ...]:
    """Return one entry per input, that which moves the throughput most first.

    Parameters
    ----------
    problem
        What was asked.
    recommended
        The recommended A.
    play
        What to play for a problem and an A, where formulas do not know what is asked. Loads are
        then scaled by the slope of attention: where that is a table, or sees a window, they stay.
    """
    if play is not None:
        return _played_sensitivity(problem, recommended, play)
    slots = problem.slot_loads()
    base = WorkerSearch(cycle_model(problem, slots), recommended).value(recommended)
    searches: dict[str, tuple[WorkerSearch, ...]] = {
        "token load of a slot": tuple(
            _search(problem, problem.slot_loads(1 + sign * CHANGE)) for sign in (-1, 1)
        )
    }
    if problem.horizon is not None:
        searches.clear()  # the mean load over a horizon is no property of the stationary slots
    for name, models in _changed_latencies(problem.latency).items():
        searches[name] = tuple(_search(replace(problem, latency=model), slots) for model in models)
    return _entries(searches, recommended, base)


class _Search(Protocol):
    """What finds the best A: by formula or by play."""

    def best(self) -> int: ...
    def value(self, attention_workers: int) -> float: ...


def _entries(
    searches: Mapping[str, Sequence[_Search]], recommended: int, base: float
) -> tuple[RatioSensitivity, ...]:
    found = []
    for name, (less, more) in searches.items():
        found.append(
            RatioSensitivity(
                input=name,
                objective_change=(
                    less.value(recommended) / base - 1,
                    more.value(recommended) / base - 1,
                ),
                best=(less.best(), more.best()),
                regret=(_regret(less, recommended), _regret(more, recommended)),
            )
        )
    return tuple(sorted(found, key=lambda entry: -max(map(abs, entry.objective_change))))


def _played_sensitivity(
    problem: RatioProblem, recommended: int, play: Play
) -> tuple[RatioSensitivity, ...]:
    """Return the same of what is played, all on the same requests."""
    from afdplan.planning.simulated_ratio import AROUND_SECONDS, PlayedSearch

    slots = problem.slot_loads()
    changed = _changed_latencies(problem.latency)
    loads = _changed_loads(problem.latency)
    if loads is not None:
        changed["token load of a slot"] = loads

    def search(latency: LatencyModel) -> _Search:
        other = replace(problem, latency=latency)
        solved = solve_ratio(other, slots)
        between = solved.best, solved.mean_field_ratio
        return PlayedSearch(other, play, between, seconds=AROUND_SECONDS)

    alone = recommended, recommended / problem.ffn_workers
    one = replace(problem, max_attention_workers=recommended)
    base = PlayedSearch(one, play, alone, seconds=AROUND_SECONDS).value(recommended)
    searches = {name: tuple(map(search, models)) for name, models in changed.items()}
    return _entries(searches, recommended, base)


def _changed_loads(latency: LatencyModel) -> tuple[LatencyModel, LatencyModel] | None:
    """Return models that read 20 % less and more load; None where no slope says the same."""
    if any(
        not isinstance(kind.curve, LinearCurve) or kind.context_window is not None
        for kind in latency.attention
    ):
        return None
    slopes = {
        name: value
        for name, value in coefficients_of(latency).items()
        if name.startswith("attention") and name.endswith("slope")
    }
    return (
        latency.with_coefficients({name: value * (1 - CHANGE) for name, value in slopes.items()}),
        latency.with_coefficients({name: value * (1 + CHANGE) for name, value in slopes.items()}),
    )


def _search(problem: RatioProblem, slots: tuple[SlotLoad, ...]) -> WorkerSearch:
    return WorkerSearch(cycle_model(problem, slots), worker_limit(problem, slots))


def _regret(search: _Search, recommended: int) -> float:
    return max(1 - search.value(recommended) / search.value(search.best()), 0.0)


def _changed_latencies(latency: LatencyModel) -> dict[str, tuple[LatencyModel, LatencyModel]]:
    """Return models with one stage faster and slower; stages that take no time are left out."""
    coefficients = {
        name: value
        for name, value in coefficients_of(latency).items()
        if not name.startswith("transfer.")
    }
    groups: dict[str, dict[str, float]] = {}
    for name, value in coefficients.items():
        groups.setdefault(GROUPS[name.split(".")[0]], {})[name] = value

    def scaled(values: dict[str, float], factor: float) -> LatencyModel:
        return latency.with_coefficients({name: value * factor for name, value in values.items()})

    return {
        group: (scaled(values, 1 - CHANGE), scaled(values, 1 + CHANGE))
        for group, values in groups.items()
        if any(values.values())
    }


def played_band(objectives: Mapping[int, Estimate]) -> CurveBand:
    """Return the 95 % intervals of a played curve."""
    counts = tuple(sorted(objectives))
    return CurveBand(
        cause="interval of the play",
        attention_workers=counts,
        low=tuple(objectives[a].low for a in counts),
        high=tuple(objectives[a].high for a in counts),
    )


def curve_bands(
    problem: RatioProblem, workers: tuple[int, ...], token_load: Estimate | None
) -> tuple[CurveBand, ...]:
    """Return the bands of the curve: one for the token load, one for the latency model.

    Parameters
    ----------
    problem
        What was asked.
    workers
        A where the curve is shown.
    token_load
        Mean token load with its interval, if it is not exact.
    """
    numbers = np.array(workers, dtype=np.float64)
    bands = []

    def objective(model: CycleModel) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return model.objective(numbers, model.evaluate(numbers).mean, problem.ffn_weight)

    has_interval = token_load is not None and token_load.confidence < 1 and token_load.value > 0
    if token_load is not None and has_interval and problem.horizon is None:
        ends = np.array(
            [
                objective(cycle_model(problem, problem.slot_loads(end / token_load.value)))
                for end in (token_load.low, token_load.high)
            ]
        )
        bands.append(_band("token load's interval", workers, ends))
    if problem.latency.uncertainty is not None:
        slots = problem.slot_loads()
        model = cycle_model(problem, slots)
        quick, drawn = drawn_step_times(problem, slots, numbers)
        times = model.evaluate(numbers).mean * drawn / quick
        found = model.objective(numbers, times, problem.ffn_weight)
        bands.append(_band("latency model's errors", workers, drawn_interval(found)))
    return tuple(bands)


def _band(
    cause: str, workers: tuple[int, ...], lines: np.ndarray[tuple[int, int], np.dtype[np.float64]]
) -> CurveBand:
    return CurveBand(
        cause=cause,
        attention_workers=workers,
        low=tuple(lines.min(axis=0).tolist()),
        high=tuple(lines.max(axis=0).tolist()),
    )
