"""How much has the busiest expert rank to do, over the mean: the second barrier?

Of N choices rank g gets N_g, multinomial with shares p_g; overdispersed by phi, they are
Dirichlet-multinomial. Independent X_g of means N p_g, Poisson (negative binomial of variance
phi N p_g), have that law given that they add up to N, so

    P(max_g N_g <= x) = prod_g P(X_g <= x) * P(sum of the truncated X_g = N) / P(sum X_g = N)

(Levin, Annals of Statistics 9, 1981). Only the middle factor is approximated: the truncated sum is
nearly normal, with an Edgeworth correction for its skewness. The truncated X_g's moments are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from afdplan.model.variation import ExpertLoad

__all__ = ["RankLoad", "largest_count", "rank_load"]

FloatArray = npt.NDArray[np.float64]
POINTS = 64
REACH = 9.0
"""Grid of the largest count, in points, and how many standard deviations it goes out."""
NODES = 24
"""Levels at which a curve is averaged over the law."""
MOST = 2.0**40
TINY = 1e-300
SMALLEST = 1e-15


def largest_count(
    shares: FloatArray, choices: float, overdispersion: float = 1.0
) -> tuple[FloatArray, FloatArray]:
    """Return the law of the largest of the ranks' counts.

    Parameters
    ----------
    shares
        p_g >= 0, summing to 1, shape (ranks,).
    choices
        N > 0.
    overdispersion
        phi >= 1.

    Returns
    -------
    tuple
        Increasing counts x and ``P(max_g N_g <= x)``, shape (points,).

    Examples
    --------
    Two ranks are its worst case: up to 0.05 off near the ends, where the mean is within 1 %.

    >>> counts, cumulative = largest_count(np.array([0.5, 0.5]), 100.0)
    >>> round(float(np.interp(55.0, counts, cumulative)), 2)  # 0.73 by the binomial law
    0.72
    """
    if shares.size == 1:
        return np.array([choices - 1e-9, choices]), np.array([0.0, 1.0])
    p, ranks = np.unique(shares[shares > 0], return_counts=True)
    # Independent counts of this variance have the wanted one when their sum is given.
    wanted = max(min(overdispersion, choices / 2), 1.0)
    phi = 1 + choices * (wanted - 1) / (choices - wanted) if wanted > 1 else 1.0
    means = choices * p
    spread = np.sqrt(phi * means)
    start = max(np.max(means - 1.5 * spread), choices / shares.size) - 1
    end = min(np.max(means + REACH * spread + REACH**2 * phi / 6), choices)
    x = np.unique(np.floor(np.linspace(max(start, 0.0), max(end, 1.0), POINTS)))
    x = np.append(x[x < choices], choices).astype(np.float64)
    held, factors, ratios = (_poisson if phi == 1 else _negative_binomial)(x, means, phi)
    first, second, third = factors[:, None, :] * ratios
    variance = np.maximum(second + first - first**2, 0.0)
    skew = third + 3 * second + first - 3 * first * (second + first) + 2 * first**3
    total, total_variance, total_skew = (
        (part * ranks).sum(axis=1) for part in (first, variance, skew)
    )
    logs = (np.log(held) * ranks).sum(axis=1)
    total_variance = np.maximum(total_variance, 1e-300)
    z = (choices - total) / np.sqrt(total_variance)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        g = total_skew / total_variance**1.5
        edgeworth = np.maximum(1 + g / 6 * (z**3 - 3 * z), 0.0)
        # Against the sum without truncation, which is at its mean.
        ratio = np.sqrt(phi * choices / total_variance) * np.exp(-(z**2) / 2) * edgeworth
        cumulative = np.exp(logs) * ratio
    cumulative[x * shares.size < choices] = 0.0  # the largest is at least the mean
    cumulative = np.minimum(np.maximum.accumulate(np.nan_to_num(cumulative)), 1.0)
    cumulative[-1] = 1.0
    return x, cumulative


def _poisson(
    x: FloatArray, means: FloatArray, phi: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return P(X_g <= x), E of ``X (X - 1) ..`` up to three factors, and what truncation leaves.

    Shapes (points, shares), (3, shares) and (3, points, shares): the i-th factorial moment given
    X <= x is the whole law's, times ``P(X <= x - i) / P(X <= x)``.
    """
    from scipy import special

    held = np.maximum(special.gammaincc(x[:, None] + 1, means), TINY)
    chance = np.exp(x[:, None] * np.log(means) - means - special.gammaln(x + 1)[:, None])
    below, left = [], held
    for i in range(3):
        left = left - chance
        chance = chance * np.maximum(x[:, None] - i, 0.0) / means
        below.append(np.maximum(left, 0.0))
    return held, means ** np.arange(1, 4)[:, None], np.stack(below) / held


def _negative_binomial(
    x: FloatArray, means: FloatArray, phi: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the same as `_poisson`: the i-th moment truncates a law of size r + i at x - i."""
    from scipy import special

    size = means / (phi - 1)
    i = np.arange(4.0)[:, None, None]
    at = x[None, :, None] - i
    below = special.betainc(size + i, np.maximum(at, 0.0) + 1, 1 / phi) * (at >= 0)
    factors = np.stack([size, size * (size + 1), size * (size + 1) * (size + 2)])
    held = np.maximum(below[0], TINY)
    return held, factors * (phi - 1) ** np.arange(1, 4)[:, None], below[1:] / held


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankLoad:
    """X, load of the busiest rank over the mean, where n designs make their choices.

    Attributes
    ----------
    quantiles
        Of X over all layers, at 24 even levels, shape (n, 24).
    fresh
        Share of the variance of X that is drawn anew in every microbatch; the rest is between
        layers, shape (n,).
    """

    quantiles: FloatArray
    fresh: FloatArray


def rank_load(load: ExpertLoad, requests: FloatArray, ffn_workers: int) -> RankLoad:
    """Return the law of X for microbatches of `requests` A B, shape (n,).

    Examples
    --------
    Chance alone, 2,048 tokens, k = 8, 8 ranks: the busiest has 3 % more than the mean.

    >>> load = ExpertLoad(experts=256, experts_per_token=8)
    >>> round(float(rank_load(load, np.array([2048.0]), 8).quantiles.mean()), 3)
    1.031
    """
    levels = (np.arange(NODES) + 0.5) / NODES
    if load.imbalance is not None:
        beyond: FloatArray = np.ones(NODES)
        if load.imbalance_cv > 0:
            from scipy import special

            shape = load.imbalance_cv**-2
            beyond = np.asarray(special.gammaincinv(shape, levels), dtype=np.float64) / shape
            beyond = beyond + (1 - beyond.mean())
        one = 1 + (load.imbalance - 1) * beyond
        return RankLoad(quantiles=np.tile(one, (requests.size, 1)), fresh=np.ones(requests.size))
    at = np.log2(np.clip(load.choices(1.0) * requests, 1.0, MOST))
    marks = np.arange(int(at.min()), int(at.max()) + 2)
    laws = [_law(load, ffn_workers, int(mark)) for mark in marks]
    rows = np.array([row for row, _ in laws])
    logs = np.stack([np.interp(at, marks, row) for row in rows.T], axis=1)
    return RankLoad(
        quantiles=1 + np.exp(logs), fresh=np.interp(at, marks, [fresh for _, fresh in laws])
    )


@lru_cache(maxsize=4096)
def _law(load: ExpertLoad, ffn_workers: int, mark: int) -> tuple[FloatArray, float]:
    """Return log (X - 1) at each level, and the fresh share, of ``2^mark`` choices."""
    rows, counts = np.unique(load.rank_shares(ffn_workers), axis=0, return_counts=True)
    levels = (np.arange(NODES) + 0.5) / NODES
    each = []
    for row in rows:
        x, cumulative = largest_count(row, 2.0**mark, load.overdispersion)
        # Whole counts: the chance of x is spread over x - 1/2 to x + 1/2.
        counts_at = np.interp(levels, cumulative, x + 0.5 * (row.size > 1))
        each.append(counts_at * (row.size / 2.0**mark))
    values = np.repeat(np.array(each), counts, axis=0)
    within, whole = values.var(axis=1).mean(), values.var()
    logs = np.log(np.maximum(np.quantile(values, levels) - 1, SMALLEST))
    return logs, float(within / whole) if whole > 0 else 1.0
