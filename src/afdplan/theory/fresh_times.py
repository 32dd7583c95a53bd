"""What do times add that are drawn afresh in every layer and microbatch?

Loads stand still over a round, routing and jitter do not. With Y the round without the FFN's own
floor (frozen, its law known) and ``F = sum_u f_u`` what the FFN works in a round, drawn afresh,

    E[round] = E[max(Y, F)] = E[Y] + E[(F - Y)^+]

over independent Y and F. F is taken as lognormal with its mean and variance: m times the fresh
variance of one microbatch, m^2 times that between layers, each with popular experts of its own. The
trip of one microbatch waits for the longer of its m FFN times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.model.latency import LatencyModel
from afdplan.theory.expert_load import mean_rank_load, rank_load

__all__ = [
    "FfnTimes",
    "excess",
    "ffn_times",
    "larger_mean",
    "least_ffn_mean",
]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FfnTimes:
    """f of n designs: mean, standard deviations afresh and between layers (None: none) [time]."""

    mean: FloatArray
    fresh: FloatArray | None = None
    between: FloatArray | None = None


def ffn_times(
    latency: LatencyModel,
    tokens: FloatArray,
    ffn_workers: IntArray | int,
    own_tokens: FloatArray | None = None,
) -> FfnTimes:
    """Return the FFN times of `tokens` n = A B / F on each of `ffn_workers` F, shape (n,).

    The dense share works on `own_tokens`, n unless given; a launch is constant.
    """
    mean = latency.ffn(tokens)
    launch, dense = latency.coupling.launch, _dense(latency, mean, own_tokens)
    if latency.experts is None and latency.scatter.ffn == 0:
        return FfnTimes(mean=mean + dense + launch)
    fresh, between = np.zeros_like(mean), np.zeros_like(mean)
    if latency.experts is not None:
        busiest = rank_load(latency.experts, tokens * ffn_workers, ffn_workers)
        loads = tokens[:, None] * busiest.quantiles
        slow = latency.ffn(loads.ravel()).reshape(loads.shape)
        each = mean[:, None] + latency.experts.share * (slow - mean[:, None])
        mean, variance = each.mean(axis=1), each.var(axis=1)
        fresh = np.sqrt(variance * busiest.fresh)
        between = np.sqrt(variance * (1 - busiest.fresh))
    mean = mean + dense
    if latency.scatter.ffn > 0:
        cv = latency.scatter.ffn
        fresh = np.sqrt(fresh**2 + cv**2 * (mean**2 + fresh**2 + between**2))
    return FfnTimes(mean=mean + launch, fresh=fresh, between=between)


def least_ffn_mean(
    latency: LatencyModel,
    tokens: FloatArray,
    ffn_workers: IntArray | int,
    own_tokens: FloatArray | None = None,
) -> FloatArray:
    """Return what the mean FFN time of `ffn_times` is at least, shape (n,) [time].

    ``E t_F(n X) >= t_F(n E X)`` for convex t_F, equal if it is linear: one number of X will do.
    """
    experts, mean = latency.experts, latency.ffn(tokens)
    even = mean + _dense(latency, mean, own_tokens) + latency.coupling.launch
    if experts is None:
        return even
    if np.any(np.diff(latency.ffn.segments()[2]) < 0):
        return ffn_times(latency, tokens, ffn_workers, own_tokens).mean
    busiest = mean_rank_load(experts, tokens * ffn_workers, ffn_workers)
    return even + experts.share * (latency.ffn(tokens * busiest) - mean)


def _dense(
    latency: LatencyModel, even: FloatArray, own_tokens: FloatArray | None
) -> FloatArray | float:
    """Return what the dense share takes more for its own tokens than for evenly spread ones."""
    share = latency.coupling.dense_share
    if own_tokens is None or share == 0:
        return 0.0
    more: FloatArray = share * (latency.ffn(own_tokens) - even)
    return more


def excess(mean: FloatArray, std: FloatArray, level: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return ``E[(F - y)^+]`` and ``P(F > y)`` of lognormal F; shapes broadcast.

    Examples
    --------
    >>> [x.round(4).tolist() for x in excess(np.array([1.0]), np.array([0.1]), np.array([1.0]))]
    [[0.0398], [0.4801]]
    """
    from scipy import special

    above, least = np.maximum(level, 1e-300), np.maximum(mean, 1e-300)
    sigma = np.sqrt(np.log1p((std / least) ** 2))
    still = sigma < 1e-9
    width = np.where(still, 1.0, sigma)
    far = (np.log(least / above) + width**2 / 2) / width
    chance = np.where(still, mean > level, special.ndtr(far - width))
    paid = np.where(still, np.maximum(mean - level, 0.0), mean * special.ndtr(far) - level * chance)
    return np.maximum(paid, 0.0), chance


def larger_mean(
    mean: FloatArray, levels: FloatArray, fresh_mean: FloatArray, fresh_std: FloatArray
) -> FloatArray:
    """Return ``E[max(Y, F)]``, shape (n,) [time].

    Parameters
    ----------
    mean, levels
        E[Y], and quantiles of Y at even levels, shapes (n,) and (n, levels) [time].
    fresh_mean, fresh_std
        Of F, shape (n,) [time].
    """
    paid, chance = excess(fresh_mean[:, None], fresh_std[:, None], levels)
    kept = 1 - chance.mean(axis=1)
    # Quantiles at even levels miss a little of the mean; it counts where Y is the larger.
    larger: FloatArray = (levels + paid).mean(axis=1) + (mean - levels.mean(axis=1)) * kept
    return larger
