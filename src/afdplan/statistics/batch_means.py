"""How sure is a mean over one long run, whose steps depend on each other?"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from afdplan.arrays import FloatArray
from afdplan.errors import InsufficientDataError, InvalidInputError
from afdplan.model import parameters as ask
from afdplan.model.estimate import Estimate
from afdplan.statistics.replications import ratio_estimate

__all__ = ["BATCHES", "batch_means", "group", "steps_for_batch_means"]

BATCHES = 20
LIFETIMES = 50


def steps_for_batch_means(mean: float, mean_square: float) -> int:
    """Return how many steps a run needs before batch means may be trusted.

    A slot's load forgets its past over ``E[D^2] / E[D]`` steps (the mean length of the request
    found in a slot); at 10 times that, 95 % intervals cover 80 %, at 50 times what they say.

    Parameters
    ----------
    mean, mean_square
        E[D], E[D^2] of the steps that a request lives.

    Examples
    --------
    >>> steps_for_batch_means(500.0, 2 * 500.0**2)
    50000
    """
    return math.ceil(LIFETIMES * mean_square / mean)


def group(parts: npt.ArrayLike, batches: int = BATCHES) -> FloatArray:
    """Return consecutive parts added up to `batches` (nearly) equal groups, along axis 0.

    Examples
    --------
    >>> group([1.0, 2.0, 3.0, 4.0], 2)
    array([3., 7.])
    """
    values = np.asarray(parts, dtype=np.float64)
    if batches < 1 or len(values) < batches:
        raise InvalidInputError(f"batches must be from 1 to {len(values)} parts, got {batches}")
    edges = np.arange(batches) * len(values) // batches
    return np.asarray(np.add.reduceat(values, edges, axis=0))


def batch_means(
    numerators: npt.ArrayLike,
    denominators: npt.ArrayLike,
    *,
    confidence: float = ask.CONFIDENCE.default,
    batches: int = BATCHES,
) -> Estimate:
    """Return a ratio of sums over one run with the interval of its batches.

    Parameters
    ----------
    numerators, denominators
        Totals of consecutive parts of the run, shape (n,), n >= batches.
    confidence
        Coverage, in (0, 1).
    batches
        Number of batches, >= 2.

    Raises
    ------
    InsufficientDataError
        If there are fewer parts than batches; carries the ratio.

    Notes
    -----
    Valid from `steps_for_batch_means` steps on; the caller knows the steps.

    Examples
    --------
    >>> batch_means([1.0, 3.0, 1.0, 3.0], [1.0, 1.0, 1.0, 1.0], batches=2).value
    2.0
    """
    top = np.asarray(numerators, dtype=np.float64)
    bottom = np.asarray(denominators, dtype=np.float64)
    if top.size < batches:
        value = float(top.sum() / bottom.sum())
        raise InsufficientDataError(
            f"batch means need at least {batches} parts of the run, got {top.size}: run longer",
            Estimate(
                value=value, low=-math.inf, high=math.inf, confidence=confidence, method="none"
            ),
        )
    return ratio_estimate(
        group(top, batches), group(bottom, batches), confidence=confidence, method="batch means"
    )
