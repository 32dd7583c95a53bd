"""What does each departure from the plain bundle cost, and what would removing it bring?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from afdplan.arrays import BoolArray, FloatArray, IntArray
from afdplan.calibration.derived import times_of
from afdplan.calibration.placement import Placement
from afdplan.lengths.token_load import SlotLoad
from afdplan.model import plan_parameters as of_plan
from afdplan.model.latency import LatencyModel
from afdplan.model.variation import Scatter
from afdplan.planning.limits import TIE, limited, percentile
from afdplan.theory.problem import RatioProblem
from afdplan.theory.shared_times import shared_times
from afdplan.theory.step_model import step_model

__all__ = ["Effect", "EffectCost", "derived_without", "effect_costs"]

Effect = Literal["experts", "scatter", "occupancy", "launch", "fan-in"]
Played = Callable[[FloatArray], tuple[FloatArray, FloatArray]]
CANDIDATES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectCost:
    """One effect: the bundle with it, and the best bundle without.

    Attributes
    ----------
    effect
        ``experts`` (a slowest rank), ``scatter`` of stages, ``occupancy`` of workers by
        transfers, ``launch``, or ``fan-in`` of the FFN worker with most peers.
    attention_workers
        A at which it is looked at: the best one, or one that runs.
    attention_workers_without
        The best A if only this effect were gone.
    cost
        Share of the throughput per cost that it takes at `attention_workers`.
    gain
        Throughput per cost of the best A without it over that with it, less 1.
    attention_longer, ffn_longer
        By which share the mean job of an attention worker, and of the FFN, is longer through it.
    ranks
        Over which the experts lie; None if nobody said, or of another effect.
    attention_scatter, ffn_scatter
        Coefficients of variation, of the scatter; else 0.
    """

    effect: Effect
    attention_workers: int
    attention_workers_without: int
    cost: float
    gain: float
    attention_longer: float
    ffn_longer: float
    ranks: int | None = None
    attention_scatter: float = 0.0
    ffn_scatter: float = 0.0


def derived_without(placement: Placement) -> dict[Effect, tuple[LatencyModel, int | None]]:
    """Return the times of a derived model without what its curves have inside, and its ranks.

    Experts that are loaded equally; links that work while both sides compute.

    Examples
    --------
    >>> from afdplan.calibration.latency_choice import LatencyChoice
    >>> chosen = LatencyChoice(model="qwen3-30b-a3b", hardware="h100", ffn_devices=4)
    >>> {name: ranks for name, (_, ranks) in derived_without(chosen.placement()).items()}
    {'experts': 4}
    """
    found: dict[Effect, tuple[LatencyModel, int | None]] = {}
    ranks = placement.expert_devices // placement.ffn_slices
    if placement.architecture.experts and ranks > 1:
        even = replace(placement.efficiencies, expert_imbalance=1.0)
        found["experts"] = times_of(replace(placement, efficiencies=even)), ranks
    if placement.system.transfers != "overlapped":
        beside = replace(placement.system, transfers="overlapped")
        found["occupancy"] = times_of(replace(placement, system=beside)), None
    return found


def effect_costs(
    problem: RatioProblem,
    attention_workers: int,
    *,
    derived: Placement | None = None,
    longest_step: float | None = None,
    statistic: of_plan.Statistic = of_plan.STATISTIC.default,
    allowed: Callable[[IntArray], BoolArray] | None = None,
) -> tuple[EffectCost, ...]:
    """Return every effect that the latency model has, in the order of `Effect`.

    Parameters
    ----------
    problem
        Of the bundle; its largest A bounds those considered without an effect, unless A is larger.
    attention_workers
        The best A, or one that runs.
    derived
        The placement, if the times are derived: their curves have effects inside.
    longest_step, statistic
        Step time that no A may exceed, unless `attention_workers` does [time]; and of which
        statistic of its law.
    allowed
        Which A the serving system takes; all unless given.

    Notes
    -----
    Effects meet: two of them together cost less, or more, than the sum. Of a bundle without
    barrier nothing is said. Of many numbers of workers 16 at even ratios are looked at, then those
    around the best of them.

    Examples
    --------
    >>> from afdplan.lengths.law import IndependentLengths
    >>> from afdplan.model.variation import ExpertLoad
    >>> latency = LatencyModel.linear(attention=(0.00165, 50.0), ffn=(0.083, 100.0),
    ...     experts=ExpertLoad(imbalance=1.3))
    >>> law = IndependentLengths(prompt="geometric:100", decode="geometric:500")
    >>> problem = RatioProblem(law=law, latency=latency, batch_size=256)
    >>> (found,) = effect_costs(problem, 5)
    >>> found.effect, found.attention_workers_without, round(found.ffn_longer, 2)
    ('experts', 9, 0.15)
    """
    if problem.execution != "synchronous":
        return ()
    slots, here = problem.slot_loads(), attention_workers
    probabilities = percentile(statistic)

    def player(latency: LatencyModel) -> Played:
        model = step_model(replace(problem, latency=latency), slots)

        def played(counts: FloatArray) -> tuple[FloatArray, FloatArray]:
            times = model.evaluate(counts, probabilities)
            return model.objective(counts, times.mean, problem.ffn_weight), limited(times)

        return played

    (base,), (held,) = player(problem.latency)(np.array([float(here)]))
    bound = np.inf if longest_step is None else max(longest_step, float(held)) * (1 + TIE)
    found = []
    for effect, (without, ranks) in _without(problem.latency, problem.ffn_workers, derived):
        most = max(problem.max_attention_workers or 64 * problem.ffn_workers, here)
        able = np.arange(1, most + 1)
        if allowed is not None:
            able = able[allowed(able)]
        jump = problem.ffn_workers if without.coupling.is_stepped else 0
        best, gained, kept = _best_of(player(without), np.union1d(able, [here]), here, bound, jump)
        one, other = (_jobs(problem, x, here, slots) for x in (problem.latency, without))
        scatter = problem.latency.scatter if effect == "scatter" else Scatter()
        found.append(
            EffectCost(
                effect=effect,
                attention_workers=here,
                attention_workers_without=best,
                cost=1 - float(base) / kept,
                gain=gained / float(base) - 1,
                attention_longer=one[0] / other[0] - 1,
                ffn_longer=one[1] / other[1] - 1,
                ranks=ranks,
                attention_scatter=scatter.attention,
                ffn_scatter=scatter.ffn,
            )
        )
    return tuple(found)


def _best_of(
    played: Played,
    able: IntArray,
    here: int,
    bound: float,
    jump: int,
) -> tuple[int, float, float]:
    """Return the best of some A whose step is short enough, its objective and that at `here`.

    A few at even ratios first, then those between the neighbours of the best, until all of them
    were looked at. Where the curve jumps after each `jump` of A, each has a best of its own: one
    more on both sides.
    """
    known: dict[int, float] = {}
    low, high = 0, able.size - 1
    spread = np.geomspace(1, able.size, CANDIDATES) - 1
    beside: list[int] = []
    while True:
        if high - low < CANDIDATES:
            spread = np.arange(low, high + 1.0)
        counts = np.union1d(able[np.unique(np.rint(spread).astype(np.int64))], [here, *beside])
        new = np.array([float(a) for a in counts.tolist() if a not in known])
        if not new.size:
            break
        objectives, steps = played(new)
        paid = np.where(steps <= bound, objectives, 0.0)
        if here not in known:
            kept = float(objectives[int(np.flatnonzero(new == here)[0])])
        known.update(zip(new.astype(int).tolist(), paid.tolist(), strict=True))
        looked = np.array(sorted(known))
        at = int(np.argmax([known[a] for a in looked.tolist()]))
        ends = looked[max(at - 1, 0)], looked[min(at + 1, looked.size - 1)]
        low = int(np.searchsorted(able, ends[0] - jump))
        high = min(int(np.searchsorted(able, ends[1] + jump)), able.size - 1)
        spread = np.linspace(low, high, CANDIDATES)
        if jump:  # a few at even distances may all miss the last of a tooth
            near = np.searchsorted(able, looked[at]) + np.array([-1, 1])
            beside = able[np.clip(near, 0, able.size - 1)].tolist()
    best = int(looked[at])
    return best, known[best], kept


def _without(
    latency: LatencyModel, ffn_workers: int, derived: Placement | None
) -> Iterator[tuple[Effect, tuple[LatencyModel, int | None]]]:
    """Yield each effect with the times that are left without it, and the ranks of experts."""
    coupling = latency.coupling
    inside: Mapping[Effect, tuple[LatencyModel, int | None]] = (
        {} if derived is None else derived_without(derived)
    )
    if latency.experts is not None:
        stated = latency.experts.imbalance is not None
        ranks = None if stated else latency.experts.ranks(ffn_workers)
        yield "experts", (replace(latency, experts=None), ranks)
    if max(latency.scatter.attention, latency.scatter.ffn) > 0:
        yield "scatter", (replace(latency, scatter=Scatter()), None)
    if coupling.is_occupying:
        free = replace(
            coupling, send_attention=0.0, send_ffn=0.0, receive_attention=0.0, receive_ffn=0.0
        )
        yield "occupancy", (replace(latency, coupling=free), None)
    for effect, (times, ranks) in inside.items():
        yield effect, (replace(times, coupling=coupling), ranks)
    if coupling.launch > 0:
        yield "launch", (replace(latency, coupling=replace(coupling, launch=0.0)), None)
    if coupling.fan_in == "whole":
        even = replace(coupling, fan_in="even", dense_share=0.0)
        yield "fan-in", (replace(latency, coupling=even), None)


def _jobs(
    problem: RatioProblem, latency: LatencyModel, workers: int, slots: tuple[SlotLoad, ...]
) -> tuple[float, float]:
    """Return the mean job of an attention worker and of the FFN, per layer and microbatch."""
    size = problem.batch_size
    loads = zip(latency.attention, problem.mean_token_loads(slots), strict=True)
    attention = sum(kind.layers * float(kind.time(size * load, size)) for kind, load in loads)
    occupied = latency.coupling.attention_occupied(latency.send, latency.receive, size)
    counts = np.array([float(workers)])
    ffn = shared_times(latency, counts, problem.ffn_workers, size).ffn[0]
    return attention / latency.layers + occupied, float(ffn)
