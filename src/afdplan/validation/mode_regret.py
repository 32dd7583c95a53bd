"""Does the way to run a bundle that is said to pay do so, and with the bundle that is said?

Both ways are simulated around what the theory recommends for them. The *regret* of the bundle
without the barrier is the share of the best simulated throughput of that way that the recommended
attention workers and boarding rule give up; that of the *verdict* is the share of the better way's
throughput that is given up by running the bundle in the way that is said to pay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

from afdplan.lengths.law import EmpiricalLengths, LengthLaw
from afdplan.model.bundle import Bundle
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.model.parameters import Execution
from afdplan.model.trace import Trace
from afdplan.simulation.scenario import Scenario
from afdplan.theory.problem import RatioProblem
from afdplan.theory.ratio import ModeVerdict
from afdplan.theory.recommend import recommend
from afdplan.validation.grid import enough_layers, steps_for
from afdplan.validation.laboratory import Laboratory, Observation
from afdplan.validation.laws import LAWS, shaped_law
from afdplan.validation.pool_grid import FLOORS, floored_latency
from afdplan.validation.regret import observed_around

__all__ = ["ModeCase", "ModeDesign", "ModeResult", "judge_modes", "mode_cases", "trace_mode_cases"]

_LIMIT = 64
_BATCH_SIZE = 64
_PRECISION = {False: 0.01, True: 0.005}
"""Of simulations, by whether all cases are played."""
_AROUND = (0.8, 1.0, 1.25)
_LADDER = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ModeDesign:
    """A bundle and how it is run.

    Attributes
    ----------
    execution
        With the barrier or without.
    attention_workers
        A.
    least_calls
        K of the boarding rule; 1 with a barrier.
    """

    execution: Execution
    attention_workers: int
    least_calls: int = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModeCase:
    """A question for `afdplan ratio --execution barrier-free`.

    Attributes
    ----------
    name
        For people; unique.
    law, latency, batch_size, microbatches
        The question; F = 1 and w = 1.
    precision
        Relative half-width of the simulated throughputs.
    """

    name: str
    law: LengthLaw
    latency: LatencyModel
    batch_size: int
    microbatches: int
    precision: float

    def scenario(self, design: ModeDesign) -> Scenario:
        """Return the simulation of one answer."""
        slots = self.batch_size * self.microbatches
        requests = steps_for(self.law) * slots / self.law.mean_decode_tokens
        return Scenario(
            bundle=Bundle(
                attention_workers=design.attention_workers,
                batch_size=self.batch_size,
                microbatches=self.microbatches,
            ),
            latency=self.latency,
            lengths=self.law,
            requests_per_worker=max(round(requests), 1),
            execution=design.execution,
            least_calls=design.least_calls,
            precision=self.precision,
        )

    def answer(self) -> ModeVerdict:
        """Return what the theory says."""
        problem = RatioProblem(
            law=self.law,
            latency=self.latency,
            batch_size=self.batch_size,
            microbatches=self.microbatches,
            execution="barrier-free",
            max_attention_workers=_LIMIT,
        )
        modes = recommend(problem).modes
        assert modes is not None
        return modes


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeResult:
    """The verdict of one case beside its simulations.

    Attributes
    ----------
    name
        Of the case.
    said
        The way that is said to pay.
    expected_gain, gain, gain_half_width
        Throughput without the barrier over that with it, less 1: as the theory says, and between
        the best simulated bundles of both ways.
    synchronous, barrier_free
        The recommended bundles.
    best_synchronous, best_barrier_free
        The best simulated ones.
    regret, regret_half_width
        Of the recommended bundle without the barrier.
    simulated
        How many bundles were.
    """

    name: str
    said: Execution
    expected_gain: float
    gain: float
    gain_half_width: float
    synchronous: ModeDesign
    barrier_free: ModeDesign
    best_synchronous: ModeDesign
    best_barrier_free: ModeDesign
    regret: float
    regret_half_width: float
    simulated: int

    @property
    def verdict_regret(self) -> float:
        """Share of the better way's throughput given up by running the bundle as is said."""
        lost = -self.gain if self.said == "barrier-free" else self.gain / (1 + self.gain)
        return max(lost, 0.0)


def mode_cases(*, full: bool = False) -> list[ModeCase]:
    """Return the paper's question, and others over laws, floors of the FFN and microbatches.

    Parameters
    ----------
    full
        Every law with every floor and number of microbatches, batch sizes and workers in turn;
        else four of them, and shorter outputs.
    """
    cases = [
        ModeCase(
            name="the paper's baseline, m=2" if full else "the paper's mean load, m=2",
            law=shaped_law("geometric", *((100, 500) if full else (400, 200))),
            latency=LatencyModel.linear(
                attention=(0.00165, 50.0), ffn=(0.083, 100.0), transfer=(0.022, 20.0)
            ),
            batch_size=256,
            microbatches=2,
            precision=_PRECISION[full],
        )
    ]
    if full:
        every = list(product(LAWS, FLOORS, (1, 2, 3)))
    else:
        every = [
            ("light", 0.5, 1),
            ("geometric", 0.0, 2),
            ("bimodal", 0.2, 3),
        ]
    for k, (law_name, floor, m) in enumerate(every):
        batch_size, workers = (64, 256, 16)[(k + k // 3) % 3], (4, 8, 12)[(k // 2) % 3]
        law = shaped_law(law_name, 1000, 200)
        cases.append(_case(law_name, law, floor, workers, batch_size, m, full=full))
    return cases


def trace_mode_cases(traces: Mapping[str, Trace], *, full: bool = False) -> list[ModeCase]:
    """Return a question for each trace: one microbatch and two in turn, both if `full`."""
    return [
        _case(name, EmpiricalLengths(trace), 0.5, 8, _BATCH_SIZE, m, full=full)
        for k, (name, trace) in enumerate(traces.items())
        for m in ((1, 2) if full else (1 + k % 2,))
    ]


def _case(
    name: str,
    law: LengthLaw,
    floor: float,
    workers: int,
    batch_size: int,
    microbatches: int,
    *,
    full: bool,
) -> ModeCase:
    """Return the question for an FFN that needs as long as attention for one call of each."""
    bundle = Bundle(attention_workers=workers, batch_size=batch_size, microbatches=microbatches)
    return ModeCase(
        name=f"{name}, floor {floor:.0%}, balanced at A={workers}, B={batch_size} m={microbatches}",
        law=law,
        latency=floored_latency(law, bundle, floor, layers=enough_layers(law)),
        batch_size=batch_size,
        microbatches=microbatches,
        precision=_PRECISION[full],
    )


def judge_modes(cases: Sequence[ModeCase], laboratory: Laboratory) -> list[ModeResult]:
    """Return how the verdict and the recommended bundle of every case fare in simulation.

    Notes
    -----
    Simulated are the recommended bundles, others with fewer and more workers and other rules;
    while the best of one way has a neighbour that was not, that is simulated, too.
    """
    answers = [case.answer() for case in cases]
    seen = observed_around(
        laboratory,
        [case.scenario for case in cases],
        [_first(answer, case.microbatches) for case, answer in zip(cases, answers, strict=True)],
        [partial(_neighbours, m=case.microbatches) for case in cases],
    )
    return list(map(_result, cases, answers, seen))


def _picks(answer: ModeVerdict) -> tuple[ModeDesign, ModeDesign]:
    return (
        ModeDesign(execution="synchronous", attention_workers=answer.synchronous_attention_workers),
        ModeDesign(
            execution="barrier-free",
            attention_workers=answer.attention_workers,
            least_calls=answer.least_calls,
        ),
    )


def _first(answer: ModeVerdict, m: int) -> set[ModeDesign]:
    found = set()
    for pick in _picks(answer):
        center = pick.attention_workers
        for count in {round(center * factor) for factor in _AROUND} | {center - 1, center + 1}:
            if 1 <= count <= _LIMIT and pick.least_calls <= count * m:
                found.add(replace(pick, attention_workers=count))
    calls = pick.attention_workers * m
    return found | {
        replace(pick, least_calls=k) for k in (1, 2, calls // 4, calls // 2, calls) if k
    }


def _neighbours(seen: Mapping[ModeDesign, Observation], m: int) -> set[ModeDesign]:
    """Return designs next to the best simulated one of each way."""
    found = set()
    for execution in ("synchronous", "barrier-free"):
        best = _best(seen, execution)
        count, least = best.attention_workers, best.least_calls
        rules = {least}
        if execution == "barrier-free":
            rules |= {max((k for k in _LADDER if k < least), default=1)}
            rules |= {min((k for k in _LADDER if k > least), default=least)}
        near = [(count - 1, least), (count + 1, least), *((count, k) for k in rules)]
        found |= {
            replace(best, attention_workers=a, least_calls=k)
            for a, k in near
            if 1 <= a <= _LIMIT and k <= a * m
        }
    return found


def _best(seen: Mapping[ModeDesign, Observation], execution: str) -> ModeDesign:
    own = [one for one in seen if one.execution == execution]
    return max(own, key=lambda one: seen[one].throughput_per_instance.value)


def _result(
    case: ModeCase, answer: ModeVerdict, seen: Mapping[ModeDesign, Observation]
) -> ModeResult:
    synchronous, barrier_free = _picks(answer)
    with_barrier, without = (_best(seen, way) for way in ("synchronous", "barrier-free"))

    def worth(one: ModeDesign) -> Estimate:
        return seen[one].throughput_per_instance

    def width(*designs: ModeDesign) -> float:
        return math.hypot(*(worth(one).relative_half_width for one in designs))

    return ModeResult(
        name=case.name,
        said=answer.execution,
        expected_gain=answer.gain,
        gain=worth(without).value / worth(with_barrier).value - 1,
        gain_half_width=width(without, with_barrier),
        synchronous=synchronous,
        barrier_free=barrier_free,
        best_synchronous=with_barrier,
        best_barrier_free=without,
        regret=1 - worth(barrier_free).value / worth(without).value,
        regret_half_width=0.0 if barrier_free == without else width(barrier_free, without),
        simulated=len(seen),
    )
