"""Does the mean token load move over the trace by more than chance?"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.model.estimate import Estimate
from afdplan.model.trace import Trace
from afdplan.statistics.bootstrap import block_error
from afdplan.workload.interval import request_loads, token_load_estimate
from afdplan.workload.parts import stretches

__all__ = ["Drift", "LoadWindow", "describe_drift"]

MOST_WINDOWS = 12
FEWEST_WINDOWS = 3
FEWEST_REQUESTS = 40
"""Requests that a window needs for an interval of its own."""
WINDOW_BLOCKS = 4
SIGNIFICANCE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadWindow:
    """The mean token load of one stretch of the trace.

    Attributes
    ----------
    start, end
        Seconds since the first arrival, or request numbers (from 0, end excluded) without times.
    requests
        Requests that arrived in it.
    token_load
        Mean token load of a slot that only saw these requests [tokens].
    """

    start: float
    end: float
    requests: int
    token_load: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The mean token load over the trace.

    Attributes
    ----------
    windows
        In order; empty if the trace has too few requests for three windows.
    by_time
        Whether windows are stretches of time; else of requests.
    std
        Standard deviation of the windows' true means, sampling noise taken off [tokens].
    probability
        Chance of such differences between windows if nothing drifted.
    half_width
        Half the interval of the mean token load of the whole trace [tokens].
    """

    windows: tuple[LoadWindow, ...]
    by_time: bool
    std: float
    probability: float
    half_width: float

    @property
    def exceeds_interval(self) -> bool:
        """The declared rule: differences beyond chance (1 %), and std above the half-width."""
        return self.probability < SIGNIFICANCE and self.std > self.half_width


def describe_drift(trace: Trace, overall: Estimate, by_time: bool, seed: int = 0) -> Drift:
    """Return the mean token load by windows, and how much of their spread is no noise.

    With W windows of mean load x_w and standard error s_w, each from four blocks of its own,

        std^2 = max(0, Var(x) - mean(s^2)),       Var(x) with W - 1,
        probability = P(F_{W-1, 3W} >= Var(x) / mean(s^2))

    which is an analysis of variance between and within windows.

    Parameters
    ----------
    trace
        Requests in the order of arrival.
    overall
        Mean token load of the whole trace.
    by_time
        Cut at even times; else at even numbers of requests.
    seed
        Of the bootstrap of each window.

    Notes
    -----
    At most 12 windows, at least 40 requests each: a window of time with fewer is joined with
    the next. Four blocks per window: dependence that reaches beyond a quarter of a window counts
    as drift. Sessions that cross an edge count in both windows.
    """
    edges = _edges(trace, by_time)
    windows: list[LoadWindow] = []
    errors: list[float] = []
    for index, (first, last) in enumerate(itertools.pairwise(edges)):
        window = trace.part(first, last)
        load = token_load_estimate(window, overall.confidence, seed + index, replicates=500)
        start, end = float(first), float(last)
        if by_time and trace.arrival_times is not None:
            start = float(trace.arrival_times[first])
            end = float(trace.arrival_times[min(last, trace.requests - 1)])
        windows.append(LoadWindow(start=start, end=end, requests=last - first, token_load=load))
        errors.append(
            block_error(
                request_loads(window), window.decode_tokens, WINDOW_BLOCKS, window.session_ids
            )
        )
    std, probability = _beyond_noise(
        np.array([w.token_load.value for w in windows]), np.array(errors)
    )
    return Drift(
        windows=tuple(windows),
        by_time=by_time,
        std=std,
        probability=probability,
        half_width=(overall.high - overall.low) / 2,
    )


def _edges(trace: Trace, by_time: bool) -> list[int]:
    """Return the request numbers where windows begin, and the end; a single 0 for none."""
    edges = stretches(trace, MOST_WINDOWS, FEWEST_REQUESTS, by_time=by_time)
    return edges if len(edges) > FEWEST_WINDOWS else [0]


def _beyond_noise(means: FloatArray, errors: FloatArray) -> tuple[float, float]:
    """Return the spread of `means` beyond their `errors`, and the chance of it by noise."""
    if means.size < FEWEST_WINDOWS:
        return 0.0, 1.0
    variance, noise = float(means.var(ddof=1)), float((errors**2).mean())
    if noise == 0.0:
        # Windows without spread inside: any difference is real, rounding apart.
        real = variance > (1e-9 * float(means.mean())) ** 2
        return (math.sqrt(variance), 0.0) if real else (0.0, 1.0)
    from scipy.special import fdtrc

    degrees = means.size - 1, means.size * (WINDOW_BLOCKS - 1)
    probability = float(fdtrc(*degrees, variance / noise))
    return math.sqrt(max(variance - noise, 0.0)), probability
