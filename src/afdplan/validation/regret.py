"""What does following each method's recommendation cost, judged by simulation?

Promised and delivered differ by the method's error; the *regret* is the share of the best
simulated throughput that the recommended number of attention workers gives up. All designs see
the same streams of requests (common random numbers).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from afdplan.lengths.law import IndependentLengths, LengthLaw
from afdplan.model.bundle import Bundle
from afdplan.model.curve import RooflineCurve
from afdplan.model.latency import LatencyModel
from afdplan.model.stages import Transfer
from afdplan.simulation.scenario import Scenario
from afdplan.theory.cycle import CycleModel
from afdplan.theory.problem import RatioProblem
from afdplan.theory.recommend import recommend
from afdplan.validation.grid import steps_for
from afdplan.validation.laboratory import Laboratory, Observation
from afdplan.validation.laws import LAWS, shaped_law
from afdplan.validation.regimes import latency_for

__all__ = [
    "BASELINES",
    "RECOMMENDED",
    "RatioCase",
    "RatioResult",
    "Recommendation",
    "balanced_case",
    "judge",
    "observed_around",
    "ratio_cases",
    "recommended",
]

RECOMMENDED = "exact"
BASELINES = {
    "exact": "pipelined, exact barrier: what afdplan recommends",
    "gaussian": "pipelined, normal barrier",
    "mean-field": "pipelined, no barrier",
    "paper's rule": "ideal overlap, no barrier, r* rounded to the best integer",
    "mean lengths": "pipelined, no barrier, theta = mean prompt + mean output - 1",
    "lockstep": "ideal overlap, every request at mean prompt + mean output / 2",
}
_LIMIT = 64
_BATCH_SIZE = 128
_AROUND = (0.87, 1.0, 1.15)
_PRECISION = 0.003
_ROUNDS_OF_SEARCH = 4
Answer = TypeVar("Answer", bound=Any)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RatioCase:
    """A question for `afdplan ratio`.

    Attributes
    ----------
    name
        For people; unique.
    law, latency, batch_size, microbatches
        The question; F = 1 and w = 1.
    """

    name: str
    law: LengthLaw
    latency: LatencyModel
    batch_size: int
    microbatches: int = 2

    def scenario(self, attention_workers: int) -> Scenario:
        """Return the simulation of one answer."""
        tokens = self.latency.tokens_per_step
        steps = steps_for(self.law, tokens)
        slots = self.batch_size * self.microbatches
        return Scenario(
            bundle=Bundle(
                attention_workers=attention_workers,
                batch_size=self.batch_size,
                microbatches=self.microbatches,
            ),
            latency=self.latency,
            lengths=self.law,
            requests_per_worker=max(round(steps * slots * tokens / self.law.mean_decode_tokens), 1),
            precision=_PRECISION,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What one method recommends and what becomes of it.

    Attributes
    ----------
    method
        One of `BASELINES`.
    attention_workers
        Recommended A.
    promised
        Throughput per instance that the method expects [tokens/time].
    delivered
        Throughput per instance in simulation [tokens/time].
    regret
        Share of the best simulated throughput that is given up, >= 0.
    regret_half_width
        Of its interval, from those of both throughputs.
    """

    method: str
    attention_workers: int
    promised: float
    delivered: float
    regret: float
    regret_half_width: float

    @property
    def promise_error(self) -> float:
        """Promised over delivered, minus 1."""
        return self.promised / self.delivered - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioResult:
    """All methods on one case.

    Attributes
    ----------
    name
        Of the case.
    best_attention_workers
        A with the largest simulated throughput among those simulated.
    simulated
        Throughput per instance by A [tokens/time].
    recommendations
        One per method, in the order of `BASELINES`.
    """

    name: str
    best_attention_workers: int
    simulated: dict[int, float]
    recommendations: tuple[Recommendation, ...]

    def of(self, method: str) -> Recommendation:
        """Return the recommendation of one method."""
        return next(r for r in self.recommendations if r.method == method)


def ratio_cases(*, full: bool = False) -> list[RatioCase]:
    """Return the paper's question, and one for each law and for transfers that grow with A.

    Latencies are balanced at 8 workers; at 3 and 24 too, and with three microbatches, if `full`.
    """
    cases = [
        RatioCase(
            name="the paper's baseline",
            law=shaped_law("geometric", 100, 500),
            latency=LatencyModel.linear(
                attention=(0.00165, 50.0), ffn=(0.083, 100.0), transfer=(0.022, 20.0)
            ),
            batch_size=256,
        )
    ]
    for law_name in LAWS:
        law = shaped_law(law_name, 1000, 200)
        for balanced_at in (3, 8, 24) if full else (8,):
            for m in (2, 3) if full else (2,):
                cases.append(balanced_case(law_name, law, balanced_at, m))
    plain = balanced_case("geometric", shaped_law("geometric", 1000, 200), 8, 2)
    # One way takes as long as the mean attention with some seven workers.
    shared = Transfer(curve=RooflineCurve(floor=10.0, slope=0.12), load="aggregate")
    latency = replace(plain.latency, send=shared, receive=shared)
    cases.append(replace(plain, name="transfers that grow with A, B=128 m=2", latency=latency))
    return cases


def balanced_case(
    name: str, law: LengthLaw, balanced_at: int, microbatches: int, *, layers: int = 1
) -> RatioCase:
    """Return the question for a latency model that is balanced at so many workers.

    Parameters
    ----------
    name
        Of the requests, for people.
    law
        Of the requests.
    balanced_at
        A at which mean attention and FFN take the same time.
    microbatches, layers
        Of the bundle and the latency model.
    """
    bundle = Bundle(
        attention_workers=balanced_at, batch_size=_BATCH_SIZE, microbatches=microbatches
    )
    return RatioCase(
        name=f"{name}, balanced at A={balanced_at}, B={_BATCH_SIZE} m={microbatches}",
        law=law,
        latency=latency_for("balanced", law, bundle, layers=layers),
        batch_size=_BATCH_SIZE,
        microbatches=microbatches,
    )


def recommended(case: RatioCase) -> dict[str, tuple[int, float]]:
    """Return A and the promised throughput per instance by method."""
    exact = RatioProblem(
        law=case.law,
        latency=case.latency,
        batch_size=case.batch_size,
        microbatches=case.microbatches,
        max_attention_workers=_LIMIT,
    )
    mean_field = replace(exact, method="mean-field")
    paper = replace(mean_field, overlap="ideal")
    problems = {
        "exact": exact,
        "gaussian": replace(exact, method="gaussian"),
        "mean-field": mean_field,
        "paper's rule": paper,
    }
    answers = {}
    for name, problem in problems.items():
        answer = recommend(problem)
        answers[name] = answer.optimal_attention_workers, answer.best.throughput_per_instance
    prompt, decode = case.law.mean_prompt_tokens, case.law.mean_decode_tokens
    answers["mean lengths"] = _with_mean_load(mean_field, prompt + decode - 1)
    answers["lockstep"] = _with_mean_load(paper, prompt + decode / 2)
    return {name: answers[name] for name in BASELINES}


def _with_mean_load(asked: RatioProblem, mean_load: float) -> tuple[int, float]:
    """Return the mean-field optimum as if every slot always held `mean_load` tokens."""
    law = IndependentLengths(prompt=f"{max(round(mean_load), 1)}", decode="1")
    problem = replace(asked, law=law)
    model = CycleModel(problem, problem.slot_loads())
    workers = np.arange(1.0, _LIMIT + 1)
    throughput = model.objective(workers, model.evaluate(workers).mean, 1.0)
    best = int(throughput.argmax())
    return int(workers[best]), float(throughput[best])


def judge(cases: Sequence[RatioCase], laboratory: Laboratory) -> list[RatioResult]:
    """Return every method's regret on every case.

    Parameters
    ----------
    cases
        Questions.
    laboratory
        Where simulations are played.

    Notes
    -----
    Simulated are all recommended A, and some around the exact one; while the best of them is at
    the edge of those around it, more are added on that side.
    """
    picks = [recommended(case) for case in cases]
    seen = observed_around(
        laboratory,
        [case.scenario for case in cases],
        [_first_candidates(pick) for pick in picks],
        [_neighbours] * len(cases),
    )
    return list(map(_result, cases, picks, seen))


def observed_around(
    laboratory: Laboratory,
    scenarios: Sequence[Callable[[Answer], Scenario]],
    wanted: Sequence[set[Answer]],
    neighbours: Sequence[Callable[[dict[Answer, Observation]], set[Answer]]],
) -> list[dict[Answer, Observation]]:
    """Return what simulation says of answers to each question, and of those next to the best.

    Parameters
    ----------
    laboratory
        Where simulations are run.
    scenarios
        What is played for an answer to each question.
    wanted
        The first answers that are tried.
    neighbours
        Which are next to the best of those that were seen.
    """
    seen: list[dict[Answer, Observation]] = [{} for _ in wanted]
    for _ in range(_ROUNDS_OF_SEARCH):
        tasks = [(k, one) for k, some in enumerate(wanted) for one in sorted(some - set(seen[k]))]
        if not tasks:
            break
        observed = laboratory.observe([scenarios[k](one) for k, one in tasks])
        for (k, one), found in zip(tasks, observed, strict=True):
            seen[k][one] = found
        wanted = [near(found) for near, found in zip(neighbours, seen, strict=True)]
    return seen


def _first_candidates(pick: dict[str, tuple[int, float]]) -> set[int]:
    center = pick[RECOMMENDED][0]
    around = {round(center * factor) for factor in _AROUND} | {center - 1, center + 1}
    return {min(max(a, 1), _LIMIT) for a in around | {a for a, _ in pick.values()}}


def _neighbours(seen: dict[int, Observation]) -> set[int]:
    """Return the numbers next to the best simulated one."""
    best = max(seen, key=lambda a: seen[a].throughput_per_instance.value)
    return {a for a in (best - 1, best + 1) if 1 <= a <= _LIMIT}


def _result(
    case: RatioCase, pick: dict[str, tuple[int, float]], seen: dict[int, Observation]
) -> RatioResult:
    best = max(seen, key=lambda a: seen[a].throughput_per_instance.value)
    top = seen[best].throughput_per_instance
    recommendations = []
    for name, (workers, promised) in pick.items():
        delivered = seen[workers].throughput_per_instance
        widths = (top.relative_half_width, delivered.relative_half_width)
        recommendations.append(
            Recommendation(
                method=name,
                attention_workers=workers,
                promised=promised,
                delivered=delivered.value,
                regret=1 - delivered.value / top.value,
                regret_half_width=0.0 if workers == best else float(np.hypot(*widths)),
            )
        )
    return RatioResult(
        name=case.name,
        best_attention_workers=best,
        simulated={a: seen[a].throughput_per_instance.value for a in sorted(seen)},
        recommendations=tuple(recommendations),
    )
