"""How long may a step take by all latency models that are as likely as the estimated one?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.lengths.token_load import SlotLoad
from afdplan.model.estimate import Estimate
from afdplan.model.latency import LatencyModel
from afdplan.model.sampling import sample_latency
from afdplan.theory.problem import RatioProblem
from afdplan.theory.step_model import step_model

__all__ = [
    "LATENCY_CONFIDENCE",
    "LATENCY_DRAWS",
    "drawn_interval",
    "drawn_step_times",
    "step_time_estimate",
]


LATENCY_DRAWS, PLAYED_DRAWS = 40, 8
LATENCY_CONFIDENCE = 0.95


def drawn_step_times(
    problem: RatioProblem, slots: tuple[SlotLoad, ...], workers: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the mean step time at each A by the model itself and by each drawn one [time].

    Both have a gaussian barrier, a tenth of the work of the exact one: only what the draws say
    relative to the model itself counts. Shapes (n,) and (draws, n).
    """
    if problem.method == "exact" and problem.phase != "aligned":
        problem = replace(problem, method="gaussian")

    def times(latency: LatencyModel) -> FloatArray:
        return step_model(replace(problem, latency=latency), slots).evaluate(workers).mean

    # Bundles that have to be played are few.
    count = PLAYED_DRAWS if problem.execution == "barrier-free" else LATENCY_DRAWS
    drawn = sample_latency(problem.latency, np.random.default_rng(0), count)
    return times(problem.latency), np.array([times(latency) for latency in drawn])


def drawn_interval(draws: FloatArray) -> FloatArray:
    """Return the ends between which a further draw lies with 95 % chance, shape (2, ...).

    Quantiles at ``p (n + 1)``: those of few draws would be too near to one another.
    """
    tail = (1 - LATENCY_CONFIDENCE) / 2
    ends: FloatArray = np.quantile(draws, (tail, 1 - tail), axis=0, method="weibull")
    return ends


def step_time_estimate(problem: RatioProblem, attention_workers: int) -> Estimate | None:
    """Return the mean step time with the interval that the latency model's errors leave it.

    Parameters
    ----------
    problem
        What was asked.
    attention_workers
        A of the bundle.

    Returns
    -------
    Estimate or None
        None if the model states no uncertainty [time].

    Examples
    --------
    >>> from afdplan.lengths.law import IndependentLengths
    >>> from afdplan.model.latency import LatencyModel
    >>> from afdplan.model.uncertainty import Uncertainty
    >>> model = LatencyModel.linear(attention=(0.0, 10.0), ffn=(0.0, 1.0), uncertainty=Uncertainty(
    ...     coefficients=("attention.intercept",), draws=[[9.0], [10.0], [11.0]]))
    >>> law = IndependentLengths(prompt="fixed:4", decode="fixed:2")
    >>> print(step_time_estimate(RatioProblem(law=law, latency=model, batch_size=4), 2))
    20 (18 to 22, 95 %)
    """
    if problem.latency.uncertainty is None:
        return None
    workers, slots = np.array([float(attention_workers)]), problem.slot_loads()
    quick, drawn = drawn_step_times(problem, slots, workers)
    value = float(step_model(problem, slots).evaluate(workers).mean[0])
    low, high = value * drawn_interval(drawn[:, 0]) / quick[0]
    return Estimate(
        value=value,
        low=min(float(low), value),
        high=max(float(high), value),
        confidence=LATENCY_CONFIDENCE,
        method="draws of the latency model",
    )
