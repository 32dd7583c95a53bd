"""Which length law is behind the histograms of a running server, and how sure is its load?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from afdplan.errors import InsufficientDataError, InvalidInputError
from afdplan.files.measurements.prometheus import Histogram, ServerMetrics
from afdplan.lengths.discrete import DiscreteLaw
from afdplan.lengths.law import IndependentLengths
from afdplan.model import parameters as ask
from afdplan.model.estimate import Estimate
from afdplan.model.trace import Trace
from afdplan.model.words import counted
from afdplan.statistics.student import student_quantile

__all__ = ["law_of_histogram", "observed_lengths", "observed_load", "observed_trace"]

MAXIMUM_TOKENS = 10_000_000
FEWEST_REQUESTS = 30
"""Finished requests below which a server's histograms say nothing of its load."""
MOST_REQUESTS = 1_000_000
OPEN_SHARE = 0.01
"""Share of samples beyond the last edge that only their sum can place."""


def observed_lengths(metrics: ServerMetrics) -> IndependentLengths:
    """Return prompt and output lengths as independent laws with the exact means of a server.

    A histogram says nothing of how prompt and output go together: their correlation, which a
    trace would show, is taken as zero.
    """
    return IndependentLengths(
        prompt=law_of_histogram(metrics.prompt_tokens, 0, "prompt_tokens"),
        decode=law_of_histogram(metrics.decode_tokens, 1, "generation_tokens"),
    )


def observed_load(metrics: ServerMetrics, confidence: float = ask.CONFIDENCE.default) -> Estimate:
    r"""Return the mean token load of a server's requests with its interval.

    With u = (D - 1) / 2 - E[theta - P], the ratio estimate theta of n requests has the variance
    E[D^2 (Var(P) + u^2)] / (n E[D]^2); what the widths of the buckets leave open of E[D^2] is
    added to both ends.

    Parameters
    ----------
    metrics
        Of the server.
    confidence
        Coverage of the part that is due to chance.

    Raises
    ------
    InsufficientDataError
        If fewer than 30 requests have finished.
    """
    requests = metrics.requests
    if requests < FEWEST_REQUESTS:
        since = "since the last snapshot" if metrics.is_window else "so far"
        raise InsufficientDataError(
            f"only {counted(requests, 'request')} finished {since}: at least {FEWEST_REQUESTS} are "
            "needed to judge their load; wait, or take a longer time"
        )
    laws = observed_lengths(metrics)
    theta = laws.token_load().mean
    lengths, chance = laws.decode.support, laws.decode.probabilities
    apart = laws.mean_prompt_tokens + (lengths - 1) / 2 - theta
    squared = float(np.sum(chance * lengths**2 * (laws.prompt.variance + apart**2)))
    error = np.sqrt(squared / requests) / laws.mean_decode_tokens
    by_chance = student_quantile(confidence, requests - 1) * float(error)
    by_buckets = _second_moment_within(metrics.decode_tokens) / 2 / laws.mean_decode_tokens
    half = by_chance + by_buckets
    # Without the sums each mean may lie anywhere that its buckets allow.
    least, most = (
        observed_lengths(_summed(metrics, share)).token_load().mean for share in (0.25, 0.75)
    )
    return Estimate(
        value=theta,
        low=max(min(theta, least) - half, 0.0),
        high=max(theta, most) + half,
        confidence=confidence,
        method=f"histograms of {requests:,} requests",
    )


def _summed(metrics: ServerMetrics, share: float) -> ServerMetrics:
    """Return metrics in which an unknown sum is that of samples so far up in their buckets."""

    def summed(histogram: Histogram) -> Histogram:
        if histogram.total is not None:
            return histogram
        edges = np.array([0.0, *histogram.edges, 2 * histogram.edges[-1]])
        inside = edges[:-1] + share * np.diff(edges)
        return replace(histogram, total=float(np.array(histogram.counts) @ inside))

    return replace(
        metrics,
        prompt_tokens=summed(metrics.prompt_tokens),
        decode_tokens=summed(metrics.decode_tokens),
    )


def _second_moment_within(histogram: Histogram) -> float:
    """Return how much of E[D^2] is due to the spread that is assumed within half buckets."""
    edges = np.array([0.0, *histogram.edges, 2 * histogram.edges[-1]])
    return float(np.sum(np.array(histogram.counts) * (np.diff(edges) / 2) ** 2 / 12)) / (
        histogram.count
    )


def observed_trace(metrics: ServerMetrics, source: str) -> Trace:
    """Return as many requests as a server has finished, with the lengths of its histograms.

    Prompts and outputs are paired at random (fixed seed): a histogram does not say how they go
    together, which can shift the token load, see the term ``Cov(P, D) / E[D]`` of the workload
    report.

    Parameters
    ----------
    metrics
        Of the server; above a million requests, a million are laid out.
    source
        Where they come from, for people.
    """
    laws = observed_lengths(metrics)
    count = max(min(metrics.requests, MOST_REQUESTS), 1)
    generator = np.random.default_rng(20260121)
    chance = (np.arange(count) + 0.5) / count
    prompt, decode = (
        generator.permutation(
            law.lowest + np.searchsorted(np.cumsum(law.probabilities), chance * (1 - 1e-12))
        )
        for law in (laws.prompt, laws.decode)
    )
    notes = [
        f"{count:,} requests were laid out from histograms of {metrics.requests:,} requests.",
        "Prompts and outputs were paired at random: their correlation is not in a histogram.",
    ]
    return Trace(
        prompt_tokens=prompt,
        decode_tokens=decode,
        source=source,
        format=f"{metrics.system} Prometheus histograms",
        notes=tuple(notes),
        doubts=metrics.notes,
    )


def law_of_histogram(histogram: Histogram, minimum: int, name: str) -> DiscreteLaw:
    """Return a law of integers with the buckets' shares and the histogram's exact mean.

    Within each bucket the lower and the upper half are uniform; one share w of the upper half,
    the same in all buckets, makes the mean exact; without the sum it is one half. What lies beyond
    the last edge is taken to reach twice as far.

    Raises
    ------
    InvalidInputError
        If no law with these buckets has this mean by more than a tenth: the snapshot is
        inconsistent; or if more than 1 % lie beyond the last edge and the sum is unknown.

    Examples
    --------
    >>> law = law_of_histogram(Histogram(edges=(10.0, 20.0), counts=(1.0, 1.0, 0.0), total=22.0),
    ...                        1, "x")
    >>> round(law.mean, 9)
    11.0
    """
    if histogram.mean is None and histogram.counts[-1] > OPEN_SHARE * histogram.count:
        raise InvalidInputError(
            f"{name}: {100 * histogram.counts[-1] / histogram.count:.0f} % lie beyond the last "
            f"bucket's edge {histogram.edges[-1]:g}, how far is not known: give the _sum too"
        )
    edges, whole = [*histogram.edges, 2 * histogram.edges[-1]], histogram.count
    low = float(minimum)
    ranges: list[tuple[int, int, float]] = []
    for edge, count in zip(edges, histogram.counts, strict=True):
        first, last = int(np.ceil(low)), int(np.floor(min(edge, MAXIMUM_TOKENS)))
        if count > 0 and last >= first:
            ranges.append((first, last, count / whole))
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
    mean = (least + most) / 2 if histogram.mean is None else histogram.mean
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
