"""How does a simulated quantity scatter: its mean, its percentiles, its histogram?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from afdplan.model.estimate import Estimate
from afdplan.simulation.record import Histogram
from afdplan.statistics.batch_means import group
from afdplan.statistics.percentile import percentile_estimate

__all__ = ["Distribution", "distribution_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A quantity that scatters: its mean and percentiles, each with an interval.

    Percentiles are read off a histogram, within 0.05 %; where one lies in the same bin as the
    mean, it is the mean, within 0.1 %. The upper end of their interval is infinite where the run
    is too short to tell.
    """

    mean: Estimate
    p50: Estimate
    p95: Estimate
    p99: Estimate
    histogram: Histogram

    def values(self) -> dict[str, float]:
        """Return mean and percentiles as plain numbers."""
        return {
            "mean": self.mean.value,
            "p50": self.p50.value,
            "p95": self.p95.value,
            "p99": self.p99.value,
        }


def distribution_of(
    mean: Estimate,
    total: Histogram,
    parts: Sequence[Histogram],
    *,
    batches: int,
    confidence: float,
) -> Distribution:
    """Return mean and percentiles of a quantity.

    Parameters
    ----------
    mean
        Its mean.
    total, parts
        Its histogram, of the whole run and of parts that are independent or become so in batches.
    batches
        How many batches the parts are put into.
    confidence
        Of the percentiles' intervals.
    """

    def quantile(probability: float) -> float:
        # A bin's middle may lie beside a mean in the same bin: of a constant they are one value.
        number = total.bin_of(probability)
        if number >= 0:
            low, high = total.edges(np.array([number, number + 1]))
            if low <= mean.value < high:
                return mean.value
        return total.quantile(probability)

    p50, p95, p99 = (
        _percentile(probability, quantile, total, parts, batches=batches, confidence=confidence)
        for probability in (0.50, 0.95, 0.99)
    )
    return Distribution(mean=mean, p50=p50, p95=p95, p99=p99, histogram=total)


def _percentile(
    probability: float,
    quantile: Callable[[float], float],
    total: Histogram,
    parts: Sequence[Histogram],
    *,
    batches: int,
    confidence: float,
) -> Estimate:
    """Return a percentile of all parts, its interval from the share beyond it in batches."""
    if batches < 2:
        value = quantile(probability)
        return Estimate(value=value, low=-np.inf, high=np.inf, confidence=confidence, method="none")
    edge = total.bin_of(probability)
    counts = [[part.count_above(edge), part.counts.sum()] for part in parts]
    beyond, totals = group(counts, batches).T
    return percentile_estimate(
        probability,
        quantile,
        beyond,
        totals,
        confidence=confidence,
        method="share beyond",
    )
