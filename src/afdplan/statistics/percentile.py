"""How sure is a percentile of values that depend on each other?"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from afdplan.model import parameters as ask
from afdplan.model.estimate import Estimate
from afdplan.statistics.replications import ratio_estimate
from afdplan.statistics.student import student_quantile

__all__ = ["percentile_estimate"]


def percentile_estimate(
    probability: float,
    quantile: Callable[[float], float],
    beyond: npt.ArrayLike,
    totals: npt.ArrayLike,
    *,
    confidence: float = ask.CONFIDENCE.default,
    method: str = "replications",
) -> Estimate:
    """Return a percentile with the interval of the share of values beyond it.

    How sure the share ``q`` beyond the percentile is follows from its spread over independent
    parts; with half-width ``h`` the interval is from ``quantile(p - h)`` to ``quantile(p + h)``.

    Parameters
    ----------
    probability
        Which percentile, p in (0, 1).
    quantile
        Quantile function of all values together.
    beyond, totals
        Values larger than ``quantile(p)``, and all values, of n >= 2 parts that are independent
        (replications) or nearly so (batches).
    confidence
        Coverage, in (0, 1).
    method
        What the parts were, for people.

    Returns
    -------
    Estimate
        `high` is infinite where ``p + h >= 1``: the values say nothing about the upper end.

    Notes
    -----
    Valid as far as the density between the ends is that of the values; asymmetric. At least as
    wide as for independent values, whose share beyond has the variance ``p (1 - p) / n``.

    References
    ----------
    Law, Simulation Modeling and Analysis, 5th ed., section 9.5.2 (proportions), inverted.

    Examples
    --------
    >>> print(percentile_estimate(0.5, lambda p: 10 * p, [400, 500, 600], [1000] * 3))
    5 (2.51586 to 7.48414, 95 %)
    """
    value = quantile(probability)
    share = ratio_estimate(beyond, totals, confidence=confidence)
    # Never surer than as many independent values would be: parts may agree by chance, or because
    # nothing lies beyond in any of them.
    count = max(float(np.asarray(totals, dtype=np.float64).sum()), 1.0)
    parts = np.asarray(totals).size
    independent = math.sqrt(probability * (1 - probability) / count)
    half = max((share.high - share.low) / 2, student_quantile(confidence, parts - 1) * independent)
    upper = probability + half
    return Estimate(
        value=value,
        low=min(quantile(max(probability - half, 0.0)), value),
        high=max(quantile(upper), value) if upper < 1 else math.inf,
        confidence=confidence,
        method=method,
    )
