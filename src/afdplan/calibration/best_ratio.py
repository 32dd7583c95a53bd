"""Which ratio does a sweep say is best, at the load at which it was measured?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.calibration.sweep import SweepFit
from afdplan.model.checks import check_number
from afdplan.model.estimate import Estimate
from afdplan.model.sweep import RatioSweep

__all__ = ["BestRatio", "best_ratio"]


REACH = 2.0
"""Ratios up to so many times the highest measured one are looked at: farther out a fit is blind."""
NEAR = 0.01
"""Loss of throughput that is as good as none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BestRatio:
    """The attention workers that give most tokens per device, beside some FFN workers.

    Attributes
    ----------
    attention_workers
        A, with the interval that the draws leave.
    ffn_workers
        F, the fewest measured.
    ffn_weight
        Devices of an FFN worker over those of an attention worker.
    lowest_near, highest_near
        The A within 1 % of the best.
    step_time
        At the best A [s].
    measured
        The best of the A that were measured with this F and load; None if there is none.
    measured_loss
        Share of the throughput per device that it loses.
    batch_size, mean_tokens
        The load for which it holds.
    is_last
        Whether no larger A was looked at: the best may be beyond.
    """

    attention_workers: Estimate
    ffn_workers: float
    ffn_weight: float
    lowest_near: int
    highest_near: int
    step_time: Estimate
    measured: float | None
    measured_loss: float
    batch_size: float
    mean_tokens: float
    is_last: bool


def best_ratio(fit: SweepFit, ffn_weight: float) -> BestRatio | None:
    """Return the best ratio at the largest measured load, up to twice the highest measured A/F.

    None if only one ratio was measured: nothing tells attention and FFN apart.

    Parameters
    ----------
    fit
        The fitted sweep.
    ffn_weight
        Devices of an FFN worker over those of an attention worker, > 0.
    """
    check_number("ffn_weight", ffn_weight, strict=True)
    sweep = fit.sweep
    if np.unique(sweep.attention_workers / sweep.ffn_workers).size == 1:
        return None
    at = int(np.argmax(sweep.attention_tokens * sweep.microbatches))
    f = float(sweep.ffn_workers.min())
    most = max(int(REACH * float((sweep.attention_workers / sweep.ffn_workers).max()) * f), 1)
    workers = np.arange(1, most + 1, dtype=np.float64)

    def points(attention: FloatArray) -> RatioSweep:
        return RatioSweep(
            attention_workers=attention,
            ffn_workers=np.full_like(attention, f),
            batch_size=np.full_like(attention, sweep.batch_size[at]),
            microbatches=np.full_like(attention, sweep.microbatches[at]),
            mean_tokens=np.full_like(attention, sweep.mean_tokens[at]),
            step_times=np.ones_like(attention),
        )

    def worth(attention: FloatArray, step_times: FloatArray) -> FloatArray:
        found: FloatArray = attention / (attention + ffn_weight * f) / step_times
        return found

    steps = fit.predict(points(workers))
    scores = worth(workers, np.array([step.value for step in steps]))
    chosen = int(scores.argmax())
    drawn = workers[worth(workers, fit.form.times(fit.draws, points(workers))).argmax(axis=1)]
    low, high = np.quantile(drawn, [0.025, 0.975], method="inverted_cdf")
    near = workers[scores >= (1 - NEAR) * scores[chosen]]
    alike = (
        (sweep.ffn_workers == f)
        & (sweep.batch_size == sweep.batch_size[at])
        & (sweep.microbatches == sweep.microbatches[at])
        & (sweep.mean_tokens == sweep.mean_tokens[at])
    )
    tried = sweep.attention_workers[alike]
    given = worth(tried, np.array([step.value for step in fit.predict(points(tried))]))
    measured = float(tried[given.argmax()]) if tried.size else None
    loss = max(1 - float(given.max()) / float(scores[chosen]), 0.0) if tried.size else 0.0
    value = float(workers[chosen])
    return BestRatio(
        attention_workers=Estimate(
            value=value,
            low=min(float(low), value),
            high=max(float(high), value),
            confidence=0.95,
            method="posterior draws",
        ),
        ffn_workers=f,
        ffn_weight=ffn_weight,
        lowest_near=int(near[0]),
        highest_near=int(near[-1]),
        step_time=steps[chosen],
        measured=measured,
        measured_loss=loss,
        batch_size=float(sweep.batch_size[at]),
        mean_tokens=float(sweep.mean_tokens[at]),
        is_last=chosen == workers.size - 1,
    )
