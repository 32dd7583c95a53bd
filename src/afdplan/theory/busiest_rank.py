"""What is the law of the largest of the ranks' counts, when N choices fall on them?

Of N choices rank g gets N_g with mean N p_g. A token's k choices are different experts, so N_g
varies less than independent choices do: as N draws without replacement from a pool vary, which for
one token is the E experts. Overdispersed counts vary phi times as much as independent ones. In all
three cases independent X_g of one family (binomial, Poisson, negative binomial) have the law of the
N_g once they are known to add up to N, so

    P(max_g N_g <= x) = prod_g P(X_g <= x) * P(sum of the truncated X_g = N) / P(sum X_g = N)

(Levin, Annals of Statistics 9, 1981). The last factor is a normal density with Edgeworth's
corrections, from the exact cumulants of the truncated X_g. Two ranks are summed in full instead.
"""

from __future__ import annotations

import numpy as np

from afdplan.arrays import FloatArray, IntArray

__all__ = ["largest_count", "largest_counts"]

Cumulants = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
Law = tuple[FloatArray, FloatArray]

BULK, TAIL, BETWEEN = (32, 14), (8, 4), 6
"""Counts at which a law is taken in its bulk and beyond, and how many are told between two; few
where the ranks have shares of their own."""
TWO_RANKS = 512
"""Counts of one of two ranks."""
REACH, NEAR = 9.0, 6.0
"""Standard deviations that the law of the largest goes out, and within which a rank matters."""
EVEN, TINY = 1e-12, 1e-300


def largest_count(shares: FloatArray, choices: float, dispersion: float = 1.0) -> Law:
    """Return the law of the largest of the ranks' counts.

    Parameters
    ----------
    shares
        p_g >= 0, summing to 1, shape (ranks,).
    choices
        N > 0.
    dispersion
        Variance of a rank's count over that of independent choices, >= 0.

    Returns
    -------
    tuple
        Increasing counts x and ``P(max_g N_g <= x)``, shape (points,).

    Examples
    --------
    Two ranks are exact: 0.729 by the binomial law.

    >>> counts, cumulative = largest_count(np.array([0.5, 0.5]), 100.0)
    >>> round(float(np.interp(55.0, counts, cumulative)), 3)
    0.729
    """
    ranks = np.array([shares.size])
    alike = np.ptp(shares) <= EVEN
    p = shares[None, :1] if alike else shares[None, :]
    ((x, cumulative),) = largest_counts(p, ranks, np.array([choices]), np.array([dispersion]))
    kept = np.append(True, np.diff(x) > 0) & (x < choices)
    return np.append(x[kept], choices), np.append(cumulative[kept], 1.0)


def largest_counts(
    shares: FloatArray, ranks: IntArray, choices: FloatArray, dispersion: FloatArray
) -> list[Law]:
    """Return the laws of `largest_count` of several rows.

    Parameters
    ----------
    shares
        p_g of each row, shape (rows, ranks), or (rows, 1) if the ranks of each are alike.
    ranks, choices, dispersion
        Number of ranks, N, and variance over that of independent choices, shape (rows,).
    """
    sizes = np.sort(shares, axis=1)[:, ::-1]
    alike = shares.shape[1] == 1
    held = ranks if alike else (sizes > 0).sum(axis=1)
    held = np.where(dispersion <= EVEN, 1, held)  # every token takes the same experts
    laws: list[Law] = [
        (np.array([most - 1e-9, most]), np.array([0.0, 1.0])) for most in sizes[:, 0] * choices
    ]
    if (rows := np.flatnonzero(held == 2)).size:
        p = np.repeat(sizes[rows], 2, axis=1) if alike else sizes[rows, :2]
        for row, law in zip(rows, _of_two(p, choices[rows], dispersion[rows]), strict=True):
            laws[row] = law
    if (rows := np.flatnonzero(held > 2)).size:
        found = _of_more(sizes[rows], ranks[rows], choices[rows], dispersion[rows])
        for row, law in zip(rows, found, strict=True):
            laws[row] = law
    return laws


def _of_more(
    shares: FloatArray, ranks: IntArray, choices: FloatArray, wanted: FloatArray
) -> list[Law]:
    """Return the laws of three ranks or more; shares fall along the second axis."""
    phi, number = _unconditional(choices, wanted)[:, None], choices[:, None]
    means = number * shares
    times = (ranks if shares.shape[1] == 1 else np.ones_like(ranks)).astype(np.float64)[:, None]
    # Ranks that never come near the largest are not truncated.
    away = np.sqrt(phi * means), phi / 6
    ahead = (means - NEAR * away[0]).max(axis=1, keepdims=True)
    near = int((means + NEAR * away[0] + NEAR**2 * away[1] > ahead).sum(axis=1).max())
    end = (means + REACH * away[0] + REACH**2 * away[1]).max(axis=1)
    some, narrow = means[:, :near], wanted[:, None] * (1 - shares[:, :near])
    x = _counts(some, narrow, times, (ahead[:, 0], end), choices / ranks)
    busy, wide = means[:, None, :near], phi[:, :, None]
    held, chance = _held(x[:, :, None], busy, wide)
    rest = means[:, near:].sum(axis=1)[:, None]
    parts = [
        times * part.sum(axis=2) + rest * other
        for part, other in zip(
            _truncated(x[:, :, None], busy, wide, chance), _whole(phi), strict=True
        )
    ]
    logs = times * np.log(held).sum(axis=2)
    whole = [number * part for part in _whole(phi)]
    cumulative = np.exp(logs) * _density(number, *parts) / _density(number, *whole)
    cumulative = np.nan_to_num(cumulative, nan=0.0, posinf=1.0)
    cumulative[x * ranks[:, None] < number] = 0.0  # the largest is at least the mean
    cumulative[x >= number] = 1.0
    cumulative = np.minimum(np.maximum.accumulate(cumulative, axis=1), 1.0)
    return _told_between(x, cumulative)


def _unconditional(choices: FloatArray, wanted: FloatArray) -> FloatArray:
    """Return variance over mean of independent counts that have the wanted one given their sum."""
    most = np.maximum(np.minimum(wanted, choices / 2), 1.0)
    wanted = np.where(wanted > 1, most, wanted)
    phi = 1 + choices * (wanted - 1) / np.maximum(choices - wanted, TINY)
    return np.maximum(np.where(np.abs(wanted - 1) < EVEN, 1.0, phi), 1e-9)


def _counts(
    means: FloatArray, phi: FloatArray, times: FloatArray, ends: Law, least: FloatArray
) -> FloatArray:
    """Return whole counts that span the largest, as dense as can be in its bulk, row by row."""
    from scipy import special

    edges, alike = [], np.maximum(means / np.maximum(phi, 0.01), TINY)
    for level in (np.log(1e-6), -1e-3):  # of independent counts, by Wilson and Hilferty's roots
        below, above = ends
        for _ in range(10):
            middle = (below + above) / 2
            root = np.cbrt((middle[:, None] + 0.5) / np.maximum(means, TINY))
            z = 3 * np.sqrt(alike) * (root - 1) + 1 / (3 * np.sqrt(alike))
            chances = np.maximum(special.ndtr(z), TINY)
            under = (times * np.log(chances)).sum(axis=1) < level
            below, above = np.where(under, middle, below), np.where(under, above, middle)
        edges.append(below)
    size, tail = (sizes[means.shape[1] > 4] for sizes in (BULK, TAIL))
    first = np.floor(np.maximum(edges[0], np.ceil(least) - 1))[:, None]
    bulk = np.maximum(edges[1][:, None] - first, size - 1.0)
    beyond = np.maximum(ends[1][:, None] - first - bulk, tail)
    far = bulk + beyond * (np.arange(1, tail + 1) / tail) ** 2
    steps = np.concatenate([bulk * np.linspace(0, 1, size), far], axis=1)
    counts: FloatArray = first + np.floor(steps + 1e-9)  # of whole steps none falls short by a bit
    return counts


def _told_between(x: FloatArray, cumulative: FloatArray) -> list[Law]:
    """Return laws with points between those known: of neighbours even, else by a normal score."""
    from scipy import special

    part = np.arange(BETWEEN) / BETWEEN

    def between(values: FloatArray) -> FloatArray:
        rising = values[:, :-1, None] + np.diff(values, axis=1)[:, :, None] * part
        return np.append(rising.reshape(len(values), -1), values[:, -1:], axis=1)

    scores = special.ndtri(np.clip(cumulative, 1e-16, 1 - 1e-16))
    next_to = np.append(
        np.repeat(np.diff(x, axis=1) <= 1, BETWEEN, axis=1), np.ones((len(x), 1)), axis=1
    )
    chances = np.where(next_to, between(cumulative), special.ndtr(between(scores)))
    return list(zip(between(x), chances, strict=True))


def _held(x: FloatArray, means: FloatArray, phi: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return ``P(X <= x)`` and ``P(X = x | X <= x)`` of counts whose variance is phi times mean."""
    from scipy import special

    shape = np.broadcast_shapes(x.shape, means.shape)
    held, logs = np.empty((2, *shape))
    for sign in (-1, 0, 1):
        at = np.flatnonzero(np.sign(phi[:, 0, 0] - 1) == sign)
        if not at.size:
            continue
        k, mean, p = x[at], means[at], phi[at]
        if sign == 0:
            held[at] = special.gammaincc(k + 1, mean)
            logs[at] = special.xlogy(k, mean) - mean - special.gammaln(k + 1)
        elif sign > 0:
            size = mean / (p - 1)
            held[at] = special.betainc(size, k + 1, 1 / p)
            ways = special.gammaln(k + size) - special.gammaln(k + 1) - special.gammaln(size)
            logs[at] = ways + k * np.log1p(-1 / p) - size * np.log(p)
        else:  # a pool of mean / (1 - phi), of which each is drawn with chance 1 - phi
            size = mean / (1 - p)
            left = np.maximum(size - k, 0.0)
            held[at] = np.where(left > 0, special.betainc(np.maximum(left, TINY), k + 1, p), 1.0)
            ways = special.gammaln(size + 1) - special.gammaln(k + 1) - special.gammaln(left + 1)
            some = ways + k * np.log1p(-p) + left * np.log(p)
            logs[at] = np.where(left > 0, some, -np.inf)
    held = np.maximum(held, TINY)
    return held, np.minimum(np.exp(logs) / held, 1.0)


def _truncated(x: FloatArray, mean: FloatArray, phi: FloatArray, chance: FloatArray) -> Cumulants:
    """Return the first four cumulants of X given X <= x, with `chance` of x itself.

    ``P(i) = (a + b / i) P(i - 1)`` in all three families, ``a = 1 - 1 / phi``: summed over i <= x,
    times powers of the distance from the mean, it gives one moment after the other.
    """
    a, u = 1 - 1 / phi, x - mean
    one = -phi * (a * u + mean) * chance
    two = phi * (a * one + mean - ((a * u + a + mean) * u + mean) * chance)
    end = ((a * u + 2 * a + mean) * u + a + 2 * mean) * u + mean
    three = phi * (2 * a * two + (a + 2 * mean) * one + mean - end * chance)
    end = (((a * u + 3 * a + mean) * u + 3 * (a + mean)) * u + a + 3 * mean) * u + mean
    four = 3 * a * three + 3 * (a + mean) * two + (a + 3 * mean) * one + mean - end * chance
    variance = np.maximum(two - one**2, 0.0)
    skew = three - 3 * one * two + 2 * one**3
    peak = phi * four - 4 * one * three + 6 * one**2 * two - 3 * one**4 - 3 * variance**2
    return mean + one, variance, skew, peak


def _whole(phi: FloatArray) -> Cumulants:
    """Return the first four cumulants of X over its mean."""
    return np.ones_like(phi), phi, phi * (2 * phi - 1), phi * (6 * phi**2 - 6 * phi + 1)


def _density(
    at: FloatArray, mean: FloatArray, variance: FloatArray, skew: FloatArray, peak: FloatArray
) -> FloatArray:
    """Return root 2 pi times the density of a sum with these cumulants (Edgeworth)."""
    root = np.sqrt(np.maximum(variance, TINY))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        z, g, k = (at - mean) / root, skew / root**3, peak / root**4
        series = 1 + g / 6 * (z**3 - 3 * z) + k / 24 * (z**4 - 6 * z**2 + 3)
        series += g**2 / 72 * (z**6 - 15 * z**4 + 45 * z**2 - 15)
        density: FloatArray = np.exp(-(z**2) / 2) / root * np.maximum(series, 0.0)
    return density


def _of_two(shares: FloatArray, choices: FloatArray, wanted: FloatArray) -> list[Law]:
    """Return the laws of the larger of two counts, of which one leaves the other the rest."""
    phi, number = _unconditional(choices, wanted)[:, None], choices[:, None]
    means = number * shares
    spread = np.sqrt(np.maximum(wanted[:, None], 1.0) * means[:, :1] * shares[:, 1:])
    low = np.maximum(np.floor(means[:, :1] - REACH * spread), 0.0)
    high = np.minimum(np.ceil(means[:, :1] + REACH * spread), number)
    step = np.maximum((high - low) / (TWO_RANKS - 1), 1.0)
    one: FloatArray = low + step * np.arange(float(TWO_RANKS))
    possible = one <= number
    other: FloatArray = np.where(possible, number - one, 0.0)
    logs = np.zeros_like(one)
    for k, mean in ((one, means[:, :1]), (other, means[:, 1:])):
        held, chance = _held(k[:, :, None], mean[:, :, None], phi[:, :, None])
        logs += np.log(np.maximum(held * chance, TINY))[:, :, 0]
    logs = np.where(possible, logs, -np.inf)
    cumulative = np.cumsum(np.exp(logs - logs.max(axis=1, keepdims=True)), axis=1)
    laws = []
    for first, below, width, total in zip(low[:, 0], cumulative, step[:, 0], choices, strict=True):
        # A count stands for its own, or for as many on either side as the steps are apart.
        grid = first + width * np.arange(-1.0, TWO_RANKS) + (width - 1) / 2
        until = np.append(0.0, below / below[-1])
        x = (
            np.ceil(total / 2)
            - 1
            + np.arange(0.0, max(grid[-1], total - grid[0]) - total / 2 + width, width)
        )
        chances = np.interp(x, grid, until) - np.interp(total - x - 1, grid, until)
        laws.append((x, np.maximum(chances, 0.0)))
    return laws
