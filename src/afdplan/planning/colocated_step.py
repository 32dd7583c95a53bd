"""How long is a step of un-split ranks?

The rounds of all layers, each with its barrier over all ranks
(`afdplan.planning.colocated_search`), and what a step takes beside them.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.model.latency import LatencyModel
from afdplan.model.plan_parameters import STEP_PROBABILITIES
from afdplan.planning.design import StepSummary
from afdplan.theory.attention_scatter import scattered
from afdplan.theory.attention_time import TimeLaw
from afdplan.theory.barrier import barrier_mean, barrier_quantile
from afdplan.theory.two_batch import two_batch_round

__all__ = ["unsplit_step"]


def unsplit_step(
    side: LatencyModel,
    laws: Iterable[tuple[int, TimeLaw]],
    ranks: int,
    m: int,
    f: float,
    out: float,
    back: float,
) -> StepSummary:
    """Return mean and percentiles of a step of one group of ranks [time].

    Parameters
    ----------
    side
        Its overhead per step and the scatter of attention are used.
    laws
        Layers and attention time of one rank and microbatch, for each kind of layer.
    ranks, m
        Ranks of the group, and microbatches of each: 1, or 2 that overlap.
    f, out, back
        Experts, dispatch and combine of one microbatch and layer [time].
    """
    step = np.full(1 + len(STEP_PROBABILITIES), side.step_overhead)
    for layers, law in laws:
        frozen = _round(law, ranks, m, f, out, back)
        step += layers * frozen
        if (cv := side.scatter.attention) > 0:
            # Drawn afresh in every layer, so its mean is what a step has of it.
            fresh = scattered(law, cv, side.scatter.law)
            step += layers * (_round(fresh, ranks, m, f, out, back)[0] - frozen[0])
    mean, p50, p95, p99 = (float(t) for t in step)
    return StepSummary(mean=mean, p50=p50, p95=p95, p99=p99)


def _round(law: TimeLaw, ranks: int, m: int, f: float, out: float, back: float) -> FloatArray:
    """Return the mean of a round and its quantiles, shape (1 + probabilities,) [time]."""
    if m == 2:
        found = two_batch_round(
            law, ranks, ffn=f, out=out, back=back, probabilities=STEP_PROBABILITIES
        )
        return np.append(found.mean, found.quantiles[0])
    workers, nothing = np.array([float(ranks)]), np.zeros(1)
    quantiles = [barrier_quantile(law, workers, nothing, p)[0] for p in STEP_PROBABILITIES]
    return np.append(barrier_mean(law, workers, nothing), quantiles) + f + out + back
