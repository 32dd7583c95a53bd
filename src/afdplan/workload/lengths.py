"""How are prompt and decode lengths spread, and do they go together?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from afdplan.arrays import FloatArray, IntArray
from afdplan.lengths.discrete import DiscreteLaw

__all__ = ["QUANTILES", "LengthSummary", "correlation", "rank_correlation"]


QUANTILES = (1, 5, 25, 50, 75, 90, 95, 99)
"""Percentages at which lengths are reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthSummary:
    """One length (prompt or decode) in numbers.

    Attributes
    ----------
    mean, std
        Mean and standard deviation [tokens].
    minimum, maximum
        Smallest and largest [tokens].
    quantiles
        Percentage to length: the smallest length that so many per cent do not exceed [tokens].
    shape
        Density on a logarithmic axis from the 1 % to the 99 % quantile, in at most 16 even bins
        of whole tokens; what lies beyond is left out. For small pictures.
    """

    mean: float
    std: float
    minimum: int
    maximum: int
    quantiles: dict[int, int]
    shape: tuple[float, ...]

    @property
    def variation(self) -> float:
        """Coefficient of variation, std over mean; 0 if all lengths are 0."""
        return self.std / self.mean if self.mean else 0.0

    @classmethod
    def of_lengths(cls, lengths: IntArray) -> LengthSummary:
        """Return the summary of observed lengths.

        Examples
        --------
        >>> LengthSummary.of_lengths(np.array([1, 2, 3, 10])).quantiles[50]
        2
        """
        mean = int(lengths.sum()) / lengths.size
        found = np.quantile(lengths, [q / 100 for q in QUANTILES], method="inverted_cdf")
        return cls(
            mean=mean,
            std=math.sqrt(math.fsum((lengths - mean) ** 2) / lengths.size),
            minimum=int(lengths.min()),
            maximum=int(lengths.max()),
            quantiles={q: int(value) for q, value in zip(QUANTILES, found, strict=True)},
            shape=_shape(*np.unique(lengths, return_counts=True), found[0], found[-1]),
        )

    @classmethod
    def of_law(cls, law: DiscreteLaw) -> LengthSummary:
        """Return the summary of a law; its minimum and maximum are the ends of its support."""
        cumulative = np.cumsum(law.probabilities)
        levels = np.array([q / 100 for q in QUANTILES]) * cumulative[-1]
        found = law.lowest + np.searchsorted(cumulative, levels * (1 - 1e-12))
        return cls(
            mean=law.mean,
            std=math.sqrt(law.variance),
            minimum=law.lowest,
            maximum=law.highest,
            quantiles={q: int(value) for q, value in zip(QUANTILES, found, strict=True)},
            shape=_shape(law.support, law.probabilities, found[0], found[-1]),
        )


def correlation(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Return Pearson's correlation; 0 if one side does not vary.

    Examples
    --------
    >>> round(correlation([1, 2, 3], [2, 4, 6]), 12)
    1.0
    """
    x = np.asarray(first, dtype=np.float64)
    y = np.asarray(second, dtype=np.float64)
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return min(max(float(x @ y) / scale, -1.0), 1.0) if scale else 0.0


def rank_correlation(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Return Spearman's correlation: Pearson's of the ranks, equal values sharing their mean.

    Examples
    --------
    >>> round(rank_correlation([1, 2, 3], [1, 10, 1000]), 12)
    1.0
    """
    return correlation(_ranks(first), _ranks(second))


def _ranks(values: npt.ArrayLike) -> FloatArray:
    _, inverse, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: FloatArray = (last - (counts - 1) / 2)[inverse]
    return ranks


def _shape(
    values: npt.ArrayLike, weights: npt.ArrayLike, low: float, high: float
) -> tuple[float, ...]:
    edges = np.unique(np.floor(np.geomspace(max(low, 1.0), max(high, 1.0) + 1, 17))) - 0.5
    counts, _ = np.histogram(np.asarray(values), bins=edges, weights=np.asarray(weights))
    density = counts / np.diff(np.log(edges))
    return tuple((density / density.max()).tolist()) if density.max() > 0 else ()
