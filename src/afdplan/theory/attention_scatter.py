"""How much later do all attention workers end when each of their jobs is drawn afresh?

A load stands still, a factor of mean 1 is drawn for each worker, microbatch and layer. The barrier
is then over products, of law ``P(a g <= t) = E[G(t / a)]``, and ends later in the mean by

    E[max_j a_j g_j] - E[max_j a_j]
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.model.variation import ScatterLaw
from afdplan.theory.attention_time import TimeLaw

__all__ = ["AttentionScatter", "largest_normal", "scattered"]

FACTORS = 256
FACTOR_REACH = 6.0
"""Points at which a factor is taken, and standard deviations of its logarithm that they span."""

TINY, LEAST_KEPT = 1e-300, 1e-3
EVEN = 16
"""Quantiles at even levels over which means are taken."""
PAIRS, RARE = 48, 1e-7
"""Points and reach of the joint law of two layers."""
SHARED = 0.65
"""How fast slack shares out what fresh attention ends later (docs/theory/fresh-times.md)."""
NEARNESS = (0.30, 0.95, 1.96)
"""By how many standard deviations of one two factors differ, in three equally likely parts."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Jobs:
    """A job of a law: as its load makes it, with a factor, and with two factors, one each time.

    The last is the joint law on an even grid: logarithm of the chance that neither is later.
    """

    still: TimeLaw
    once: TimeLaw
    pair: FloatArray
    spacing: float

    @classmethod
    def of(cls, law: TimeLaw, cv: float, factors: ScatterLaw) -> _Jobs:
        once = scattered(law, cv, factors)
        ends = once.support[np.searchsorted(once.cumulative, (RARE, 1 - RARE))].tolist()
        points = np.linspace(ends[0], ends[1], PAIRS)
        below = _below(points, law, cv, factors)
        with np.errstate(divide="ignore"):
            pair = np.log((below * law.probabilities) @ below.T)
        return cls(still=law, once=once, pair=pair, spacing=float(points[1] - points[0]))

    def barriers(self, workers: FloatArray) -> tuple[FloatArray, ...]:
        """Return by how much factors delay the last of A [time], shape (n, 1), and scatter it.

        Then which share they leave of the variance that loads alone give the last: what the last
        ends of two layers have in common, ``Cov = integral of P(both <=) - P(<=) P(<=)``.
        """
        still, still_std = _last(self.still, workers)
        once, once_std = _last(self.once, workers)
        both = np.exp(workers[:, None, None] * self.pair)
        each = both[:, :, -1]
        common = both.sum(axis=(1, 2)) - each.sum(axis=1) ** 2
        common = np.clip(common[:, None] * self.spacing**2, 0.0, once_std**2)
        kept = common / np.maximum(still_std**2, TINY)
        fresh = np.sqrt(once_std**2 - common)
        return np.maximum(once - still, 0.0), fresh, np.clip(kept, LEAST_KEPT, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AttentionScatter:
    """Fresh factors of the attention jobs of a law.

    Attributes
    ----------
    cv
        Coefficient of variation of a factor, > 0.
    microbatches
        m.
    jobs, means
        A job, and the mean of a worker's m jobs in a round.
    added
        What a job always takes longer, without a factor [time].
    """

    cv: float
    microbatches: int
    jobs: _Jobs
    means: _Jobs
    added: float = 0.0

    @classmethod
    def of(
        cls,
        law: TimeLaw,
        sums: tuple[FloatArray, FloatArray],
        microbatches: int,
        cv: float,
        factors: ScatterLaw,
    ) -> AttentionScatter | None:
        """Return the scatter of jobs of a law whose m together have that of `sums`; None for 0."""
        if cv == 0:
            return None
        law = law.coarsened(FACTORS)
        jobs = means = _Jobs.of(law, cv, factors)
        if microbatches > 1 and law.probabilities.size > 1:
            means = _Jobs.of(_mean_law(*sums, microbatches), cv, factors)
        return cls(cv=cv, microbatches=microbatches, jobs=jobs, means=means)

    def later(self, added: float) -> AttentionScatter:
        """Return the scatter of jobs that always take `added` longer [time]."""
        return replace(self, added=self.added + added)

    def delayed(
        self,
        jobs: FloatArray,
        trips: FloatArray,
        slack: FloatArray,
        levels: FloatArray,
        workers: FloatArray,
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return what jobs and trips take in the mean over factors, and their deviation.

        Parameters
        ----------
        jobs, trips
            Quantiles of the slowest worker's mean job and of the longest trip, shape (n, levels)
            [time].
        slack
            How much longer a round is than a trip, same shape [time].
        levels
            Of all; the last `EVEN` are even.
        workers
            A, shape (n,).

        Returns
        -------
        tuple
            Same shape each [time]; the deviation is of the last end of a job.
        """
        own = self.cv * np.maximum(jobs - self.added, TINY)
        rivals = _Rivals(jobs, levels, workers)
        late, std = rivals.delays(own)
        mean = late[:, -EVEN:].mean(axis=1, keepdims=True)
        mean = np.where(mean > 0, mean, np.inf)
        (each, fresh, kept), (longest, _, kept_trip) = (
            one.barriers(workers) for one in (self.means, self.jobs)
        )
        shared = self.microbatches + SHARED * slack / own
        spread, _ = rivals.delays(own / shared)
        std = std * fresh / np.maximum(std[:, -EVEN:].mean(axis=1, keepdims=True), TINY)
        return (
            _narrowed(jobs, spread * each / mean, 1 / (1 + (1 / kept - 1) / shared)),
            _narrowed(trips, late * longest / mean, kept_trip),
            std,
        )


def _narrowed(still: FloatArray, late: FloatArray, kept: FloatArray) -> FloatArray:
    """Return quantiles that are later, and whose variance is so much of that of the still ones."""
    found = still + late
    middle = found[:, -EVEN:].mean(axis=1, keepdims=True)
    std, before = (x[:, -EVEN:].std(axis=1, keepdims=True) for x in (found, still))
    scale = np.sqrt(kept) * before / np.maximum(std, TINY)
    narrowed: FloatArray = middle + (found - middle) * np.minimum(scale, 1.0)
    return narrowed


class _Rivals:
    """How many workers are about as late as the slowest, at each quantile of its job?

    A job that one heavy worker makes long has few rivals near. Those not farther below it than
    two factors differ number ``ln P(y) - ln P(y - d)``, with P the law of the slowest.
    """

    def __init__(self, jobs: FloatArray, levels: FloatArray, workers: FloatArray) -> None:
        self._jobs, self._logs, self._workers = jobs, np.log(levels[-EVEN:]), workers

    def delays(self, deviations: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean delay and deviation of the last end by factors of such `deviations`."""
        logs, near = self._logs, np.zeros_like(self._jobs)
        away = np.array([0.0, *NEARNESS])[:, None]
        for at, (row, reached) in enumerate(zip(self._jobs, deviations, strict=True)):
            even, far = row[-EVEN:], 2 * NEARNESS[-1] * max(float(reached.max()), TINY)
            # Below the lowest level the law goes on as steeply.
            steep = (logs[1] - logs[0]) / max(even[1] - even[0], 1e-9 * far)
            points, known = np.append(even[0] - far, even), np.append(logs[0] - steep * far, logs)
            here, *below = np.interp(row - away * reached, points, known)
            near[at] = here - np.mean(below, axis=0)
        score, scatter = largest_normal(1 + np.minimum(near, self._workers[:, None] - 1))
        return deviations * score, deviations * scatter


def _last(law: TimeLaw, workers: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mean and deviation of the last of A, shape (n, 1) [time]."""
    with np.errstate(divide="ignore"):
        below = np.exp(workers[:, None] * np.log(law.cumulative))
    chances = np.diff(below, prepend=0.0, axis=1)
    away = law.support - law.mean
    mean = chances @ away
    variance = chances @ away**2 - mean**2
    return (law.mean + mean)[:, None], np.sqrt(np.maximum(variance, 0.0))[:, None]


def _mean_law(times: FloatArray, cumulative: FloatArray, microbatches: int) -> TimeLaw:
    """Return the law of a worker's mean job, from that of the sum of its m."""
    first, last = np.searchsorted(cumulative, (1e-12, 1 - 1e-12))
    low, high = times[max(first - 1, 0)], times[min(last, times.size - 1)]
    if high <= low:
        return TimeLaw(lowest=low / microbatches, spacing=1.0, probabilities=np.ones(1))
    points = np.linspace(low, high, FACTORS)
    middles = np.append((points[1:] + points[:-1]) / 2, high)
    known = np.interp(middles, times, cumulative)
    known[-1] = 1.0
    return TimeLaw(
        lowest=low / microbatches,
        spacing=(points[1] - points[0]) / microbatches,
        probabilities=np.diff(known, prepend=0.0),
    )


def largest_normal(count: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation of the largest of `count` standard normals, real >= 1.

    Examples
    --------
    >>> [x.round(2).tolist() for x in largest_normal(np.array([2.0, 64.0]))]
    [[0.56, 2.34], [0.82, 0.45]]
    """
    counts, mean, std = _normals()
    logs = np.log(count)
    return np.interp(logs, counts, mean), np.interp(logs, counts, std)


@lru_cache(maxsize=1)
def _normals() -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return logarithms of counts, with mean and deviation of the largest of so many normals."""
    from scipy import special

    levels, logs = (np.arange(FACTORS) + 0.5) / FACTORS, np.linspace(0.0, 14.0, 141)
    largest = special.ndtri(np.exp(np.log(levels) / np.exp(logs)[:, None]))
    return logs, largest.mean(axis=1), largest.std(axis=1)


def scattered(law: TimeLaw, cv: float, factors: ScatterLaw = "gamma") -> TimeLaw:
    """Return the law of a time and an independent factor of mean 1, `cv` its scatter."""
    if cv == 0:
        return law
    law = law.coarsened(FACTORS)
    times, logs = np.maximum(law.support, TINY), _reach(cv)
    low, high = float(times[0]) * math.exp(logs[0]), float(times[-1]) * math.exp(logs[-1])
    points = np.linspace(low, high, 4 * FACTORS)  # one level of the law of the round
    edges = np.append(low, (points[1:] + points[:-1]) / 2)
    pmf = np.diff(np.append(_below(edges, law, cv, factors) @ law.probabilities, 1.0))
    pmf[0] += 1 - pmf.sum()
    missed = law.mean - float(pmf @ points)
    return TimeLaw(lowest=low + missed, spacing=points[1] - points[0], probabilities=pmf)


def _reach(cv: float) -> FloatArray:
    """Return logarithms of factors, from one that hardly ever is less to one hardly ever more."""
    sigma = math.sqrt(math.log1p(cv**2))
    return sigma * np.linspace(-FACTOR_REACH, FACTOR_REACH, 8 * FACTORS) - sigma**2 / 2


def _below(points: FloatArray, law: TimeLaw, cv: float, factors: ScatterLaw) -> FloatArray:
    """Return the chance that each time of `law` and a factor are below each of `points`."""
    from scipy import special

    logs = _reach(cv)
    if factors == "gamma":
        below = special.gammainc(cv**-2, cv**-2 * np.exp(logs))
    else:
        sigma = math.sqrt(math.log1p(cv**2))
        below = special.ndtr(logs / sigma + sigma / 2)
    away = np.log(np.maximum(points, TINY))[:, None] - np.log(np.maximum(law.support, TINY))
    found: FloatArray = np.interp(away, logs, below)
    return found
