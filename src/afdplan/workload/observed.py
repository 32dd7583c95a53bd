"""Which length law is behind the histograms of a running server?"""

from __future__ import annotations

import numpy as np

from afdplan.errors import InvalidInputError
from afdplan.files.measurements.prometheus import Histogram, ServerMetrics
from afdplan.lengths.discrete import DiscreteLaw
from afdplan.lengths.law import IndependentLengths

__all__ = ["law_of_histogram", "observed_lengths"]

MAXIMUM_TOKENS = 10_000_000


def observed_lengths(metrics: ServerMetrics) -> IndependentLengths:
    """Return prompt and output lengths as independent laws with the exact means of a server.

    A histogram says nothing of how prompt and output go together: their correlation, which a
    trace would show, is taken as zero.
    """
    return IndependentLengths(
        prompt=law_of_histogram(metrics.prompt_tokens, 0, "prompt_tokens"),
        decode=law_of_histogram(metrics.decode_tokens, 1, "generation_tokens"),
    )


def law_of_histogram(histogram: Histogram, minimum: int, name: str) -> DiscreteLaw:
    """Return a law of integers with the buckets' shares and the histogram's exact mean.

    Within each bucket the lower and the upper half are uniform; one share w of the upper half,
    the same in all buckets, makes the mean exact. What lies beyond the last edge is taken to
    reach twice as far.

    Raises
    ------
    InvalidInputError
        If no law with these buckets has this mean by more than a tenth: the snapshot is
        inconsistent.

    Examples
    --------
    >>> law = law_of_histogram(Histogram(edges=(10.0, 20.0), counts=(1.0, 1.0, 0.0), total=22.0),
    ...                        1, "x")
    >>> round(law.mean, 9)
    11.0
    """
    edges = [*histogram.edges, 2 * histogram.edges[-1]]
    low = float(minimum)
    ranges: list[tuple[int, int, float]] = []
    for edge, count in zip(edges, histogram.counts, strict=True):
        first, last = int(np.ceil(low)), int(np.floor(min(edge, MAXIMUM_TOKENS)))
        if count > 0 and last >= first:
            ranges.append((first, last, count / histogram.count))
        low = max(low, float(np.floor(edge)) + 1)
    if not ranges:
        raise InvalidInputError(f"{name}: no bucket holds lengths >= {minimum}")
    share = sum(weight for *_, weight in ranges)
    halves = []
    for first, last, weight in ranges:
        middle = (first + last + 1) // 2
        lower = (first, max(middle - 1, first))
        upper = (min(middle, last), last)
        halves.append((lower, upper, weight / share))
    least = sum(w * (a[0] + a[1]) / 2 for a, _, w in halves)
    most = sum(w * (b[0] + b[1]) / 2 for _, b, w in halves)
    mean = histogram.mean
    upper_share = 0.5 if most <= least else (mean - least) / (most - least)
    clipped = min(max(upper_share, 0.0), 1.0)
    reached = least + clipped * (most - least)
    if abs(reached - mean) > 0.1 * max(mean, 1.0):
        raise InvalidInputError(
            f"{name}: buckets allow a mean of {least:.4g} to {most:.4g}, the sum says {mean:.4g}: "
            "the snapshot is inconsistent"
        )
    lowest, highest = ranges[0][0], ranges[-1][1]
    pmf = np.zeros(highest - lowest + 1)
    for lower, upper, weight in halves:
        for (first, last), part in ((lower, 1 - clipped), (upper, clipped)):
            pmf[first - lowest : last - lowest + 1] += weight * part / (last - first + 1)
    return DiscreteLaw(lowest=lowest, probabilities=pmf / pmf.sum(), name=name)
