"""When do requests arrive, how fast and bursty, and how do they group into sessions?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.model.trace import Trace

__all__ = ["Arrivals", "Dispersion", "Sessions", "describe_arrivals", "describe_sessions"]

FEWEST_WINDOWS = 20
"""A variance of counts over fewer windows says little."""
WINDOW_SECONDS = (1.0, 10.0, 60.0, 600.0, 3600.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispersion:
    """Variance over mean of the number of arrivals in windows of one length.

    Attributes
    ----------
    window_seconds
        Length of a window [s].
    windows
        Number of whole windows.
    index
        Variance over mean of their counts; 1 for Poisson arrivals at any length.
    """

    window_seconds: float
    windows: int
    index: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Arrival times in numbers.

    Attributes
    ----------
    duration
        From the first to the last arrival [s].
    rate
        ``(n - 1) / duration`` [requests/s]; 0 if all arrive at once.
    interarrival_variation
        Coefficient of variation of the gaps; 1 for Poisson arrivals, 0 for even spacing.
    dispersion
        Over windows of 1 s to 1 h, as far as there are 20 windows with one arrival on average.
    equal_fraction
        Share of requests that arrive at the very time of their predecessor.
    is_evenly_spaced
        Whether all gaps are alike: row numbers or a constant-rate test, not traffic.
    """

    duration: float
    rate: float
    interarrival_variation: float
    dispersion: tuple[Dispersion, ...]
    equal_fraction: float
    is_evenly_spaced: bool


def describe_arrivals(times: FloatArray) -> Arrivals:
    """Return what non-decreasing arrival times [s], shape (n,), n >= 2, say.

    Examples
    --------
    >>> describe_arrivals(np.array([0.0, 1.0, 2.0, 3.0])).is_evenly_spaced
    True
    """
    gaps = np.diff(times)
    duration = float(times[-1] - times[0])
    mean = float(gaps.mean())
    variation = float(gaps.std()) / mean if mean > 0 else 0.0
    return Arrivals(
        duration=duration,
        rate=gaps.size / duration if duration > 0 else 0.0,
        interarrival_variation=variation,
        dispersion=tuple(_dispersions(times - times[0], duration)),
        equal_fraction=float((gaps == 0).mean()),
        is_evenly_spaced=duration > 0 and variation < 1e-6,
    )


def _dispersions(times: FloatArray, duration: float) -> list[Dispersion]:
    found = []
    for seconds in WINDOW_SECONDS:
        windows = int(duration // seconds)
        if windows < FEWEST_WINDOWS or times.size < windows:
            continue
        inside = times[times < windows * seconds]
        counts = np.bincount((inside // seconds).astype(np.int64), minlength=windows)[:windows]
        found.append(
            Dispersion(
                window_seconds=seconds,
                windows=windows,
                index=float(counts.var(ddof=1) / counts.mean()),
            )
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """Sessions (conversations, agents) in numbers.

    Attributes
    ----------
    count
        Number of sessions.
    mean_requests, most_requests
        Requests of the average and of the longest session.
    history_fraction
        Share of follow-up requests whose prompt is at least as long as the prompt and output of
        their predecessor together: the prompt repeats the session so far, which a serving system
        would find in its prefix cache. 0 without follow-up requests.
    """

    count: int
    mean_requests: float
    most_requests: int
    history_fraction: float


def describe_sessions(trace: Trace) -> Sessions | None:
    """Return the sessions of a trace; None if it names none.

    Examples
    --------
    >>> trace = Trace(prompt_tokens=[10, 7, 15], decode_tokens=[5, 1, 5], session_ids=[1, 2, 1])
    >>> describe_sessions(trace)
    Sessions(count=2, mean_requests=1.5, most_requests=2, history_fraction=1.0)
    """
    if trace.session_ids is None:
        return None
    order = np.argsort(trace.session_ids, kind="stable")
    ids = trace.session_ids[order]
    follows = ids[1:] == ids[:-1]
    prompt = trace.prompt_tokens[order]
    whole = prompt + trace.decode_tokens[order]
    repeats = (prompt[1:] >= whole[:-1]) & follows
    sizes = np.unique(ids, return_counts=True)[1]
    return Sessions(
        count=sizes.size,
        mean_requests=trace.requests / sizes.size,
        most_requests=int(sizes.max()),
        history_fraction=float(repeats.sum() / follows.sum()) if follows.any() else 0.0,
    )
