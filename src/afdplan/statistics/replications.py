"""What do independent parts of a simulation say about a long-run ratio, and how surely?"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from afdplan.errors import InsufficientDataError
from afdplan.model import parameters as ask
from afdplan.model.estimate import Estimate
from afdplan.statistics.student import student_quantile

__all__ = ["ratio_estimate"]


def ratio_estimate(
    numerators: npt.ArrayLike,
    denominators: npt.ArrayLike,
    *,
    confidence: float = ask.CONFIDENCE.default,
    method: str = "replications",
) -> Estimate:
    """Return ``sum(numerators) / sum(denominators)`` with its interval.

    The interval is ``R +- t s / (sqrt(n) mean(d))`` with residuals ``e_b = n_b - R d_b``,
    ``s^2 = sum(e_b^2) / (n - 1)`` and Student's t with n - 1 degrees of freedom.

    Parameters
    ----------
    numerators, denominators
        Totals of n >= 2 parts that are independent (replications) or nearly so (batches).
    confidence
        Coverage, in (0, 1).
    method
        What the parts were, for people.

    Raises
    ------
    InsufficientDataError
        With fewer than two parts.

    Notes
    -----
    The bias of a ratio is of order 1 / n and is not corrected.

    References
    ----------
    Law, Simulation Modeling and Analysis, 5th ed., section 9.5.

    Examples
    --------
    >>> print(ratio_estimate([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]))
    2 (-0.484138 to 4.48414, 95 %)
    """
    top = np.asarray(numerators, dtype=np.float64)
    bottom = np.asarray(denominators, dtype=np.float64)
    count = top.size
    total = float(bottom.sum())
    if total == 0:
        return Estimate(value=0.0, low=0.0, high=0.0, confidence=confidence, method=method)
    value = float(top.sum()) / total
    if count < 2:
        raise InsufficientDataError(
            f"an interval needs at least 2 independent parts, got {count}: use more replications",
            Estimate(
                value=value, low=-math.inf, high=math.inf, confidence=confidence, method=method
            ),
        )
    residuals = top - value * bottom
    spread = math.sqrt(float(residuals @ residuals) / (count - 1) / count) / (total / count)
    half = student_quantile(confidence, count - 1) * spread
    return Estimate(
        value=value, low=value - half, high=value + half, confidence=confidence, method=method
    )
