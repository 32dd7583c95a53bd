"""What do forward passes of running ranks say: load, its drift, and what the slowest rank costs?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.errors import InsufficientDataError
from afdplan.files.measurements.fpm import ForwardPasses
from afdplan.model import parameters as ask
from afdplan.model.estimate import Estimate
from afdplan.statistics.student import student_quantile

__all__ = ["Barrier", "PassReport", "describe_passes"]


BLOCKS = 20
FEWEST = 40
"""Passes below which no interval is given."""
WINDOWS = 8
DRIFT = 0.05
"""Range of the load over its mean that is worth a warning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Barrier:
    """What ranks that pass together lose by waiting for the slowest.

    Attributes
    ----------
    passes
        How many passes of all ranks were matched by their time.
    time
        Mean time of the slowest rank over the mean of all: 1 if they wait inside the pass.
    tokens
        Mean KV tokens of the fullest rank over the mean of all.
    requests
        Mean requests of the busiest rank over the mean of all.
    step_time
        Mean time of the slowest rank [s].
    """

    passes: int
    time: float
    tokens: float
    requests: float
    step_time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PassReport:
    """Forward passes described.

    Attributes
    ----------
    passes, ranks
        How many, and of how many ranks.
    token_load
        KV tokens per decoding request, its interval from the means of 20 spans of time.
    mean_requests
        Requests decoded in a pass of a rank.
    mean_time
        Wall time of a pass [s].
    duration
        From the first to the last pass [s]; None if times are not recorded.
    drift
        Token load of each eighth of the time.
    barrier
        None for a single rank, or if passes cannot be matched by time.
    mean_prompt_tokens
        Of the requests whose prefill was seen; None without.
    warnings
        What their reader noticed, and what to mistrust, one sentence each.
    """

    passes: int
    ranks: int
    token_load: Estimate
    mean_requests: float
    mean_time: float
    duration: float | None
    drift: tuple[float, ...]
    barrier: Barrier | None
    mean_prompt_tokens: float | None
    warnings: tuple[str, ...] = ()


def describe_passes(
    passes: ForwardPasses, confidence: float = ask.CONFIDENCE.default
) -> PassReport:
    """Return load, drift and barrier of forward passes.

    Parameters
    ----------
    passes
        What was read.
    confidence
        Coverage of the interval of the load.

    Raises
    ------
    InsufficientDataError
        If there are fewer than 40 passes.
    """
    count = passes.times.size
    if count < FEWEST:
        raise InsufficientDataError(
            f"{passes.source} holds {count} passes that decode: at least {FEWEST} are needed"
        )
    order = np.argsort(passes.ended, kind="stable")
    requests, tokens = passes.requests[order], passes.tokens[order]
    has_times = bool(passes.ended.min() > 0)
    report = PassReport(
        passes=count,
        ranks=len(passes.ranks),
        token_load=_load(requests, tokens, confidence),
        mean_requests=float(requests.mean()),
        mean_time=float(passes.times.mean()),
        duration=float(np.ptp(passes.ended)) if has_times else None,
        drift=tuple(_loads(requests, tokens, WINDOWS).tolist()),
        barrier=_barrier(passes) if has_times and len(passes.ranks) > 1 else None,
        mean_prompt_tokens=passes.prefill_tokens,
    )
    return replace(report, warnings=(*passes.notes, *_warnings(report)))


def _warnings(report: PassReport) -> Iterator[str]:
    low, high = min(report.drift), max(report.drift)
    if high - low > DRIFT * report.token_load.value:
        yield (
            f"the load drifts: from {low:,.0f} to {high:,.0f} tokens per request over eighths of "
            "the time; plan for the time that matters."
        )
    if report.ranks > 1 and report.barrier is None:
        yield "passes of the ranks cannot be matched by time: no barrier is told."


def _loads(requests: FloatArray, tokens: FloatArray, parts: int) -> FloatArray:
    """Return tokens per request of each of so many spans of equally many passes."""
    starts = np.linspace(0, requests.size, parts, endpoint=False).astype(np.int64)
    loads: FloatArray = np.add.reduceat(tokens, starts) / np.add.reduceat(requests, starts)
    return loads


def _load(requests: FloatArray, tokens: FloatArray, confidence: float) -> Estimate:
    value = float(tokens.sum() / requests.sum())
    means = _loads(requests, tokens, BLOCKS)
    half = student_quantile(confidence, BLOCKS - 1) * float(means.std(ddof=1)) / np.sqrt(BLOCKS)
    return Estimate(
        value=value,
        low=max(value - half, 0.0),
        high=value + half,
        confidence=confidence,
        method=f"means of {BLOCKS} spans of time",
    )


def _barrier(passes: ForwardPasses) -> Barrier | None:
    """Return what the slowest costs, over passes that ended together.

    Counters of ranks drift apart, so passes are matched by time: the nearest of each rank, if it
    is nearer than half of the usual distance of two passes.
    """
    own = [np.flatnonzero(passes.rank == rank) for rank in range(len(passes.ranks))]
    own = [at[np.argsort(passes.ended[at], kind="stable")] for at in own]
    lead = max(own, key=len)
    ended = passes.ended[lead]
    gap = float(np.median(np.diff(ended))) if len(ended) > 1 else 0.0
    together = np.ones(len(lead), dtype=np.bool_)
    columns = []
    for at in own:
        times = passes.ended[at]
        right = np.clip(np.searchsorted(times, ended), 0, len(at) - 1)
        left = np.maximum(right - 1, 0)
        is_left = np.abs(times[left] - ended) < np.abs(times[right] - ended)
        nearest = np.where(is_left, left, right)
        together &= np.abs(times[nearest] - ended) <= gap / 2
        columns.append(at[nearest])
    if together.sum() < FEWEST:
        return None
    table = np.stack(columns)[:, together]

    def over_mean(values: FloatArray) -> float:
        return float(values[table].max(axis=0).mean() / values[table].mean())

    return Barrier(
        passes=int(together.sum()),
        time=over_mean(passes.times),
        tokens=over_mean(passes.tokens) if passes.tokens[table].any() else 1.0,
        requests=over_mean(passes.requests),
        step_time=float(passes.times[table].max(axis=0).mean()),
    )
