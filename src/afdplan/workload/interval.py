"""How sure is the mean token load that a trace gives?"""

from __future__ import annotations

import dataclasses

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.errors import InsufficientDataError
from afdplan.lengths.law import EmpiricalLengths
from afdplan.model import parameters as ask
from afdplan.model.estimate import Estimate
from afdplan.model.trace import Trace
from afdplan.statistics.bootstrap import RatioBootstrap, bootstrap_ratio

__all__ = ["bootstrap_token_load", "request_loads", "token_load_estimate"]


def request_loads(trace: Trace) -> FloatArray:
    """Return the token-steps of each request, ``D P + D (D - 1) / 2``, shape (n,).

    This is what a request adds to the load of its slot, summed over its D decode steps.

    Examples
    --------
    >>> request_loads(Trace(prompt_tokens=[10], decode_tokens=[3]))  # 10 + 11 + 12
    array([33.])
    """
    decode = trace.decode_tokens.astype(np.float64)
    return decode * (trace.prompt_tokens + (decode - 1) / 2)


def token_load_estimate(
    trace: Trace, confidence: float = ask.CONFIDENCE.default, seed: int = 0, replicates: int = 2000
) -> Estimate:
    """Return the mean token load of a slot with an interval that respects dependence.

    The value is ``sum(D P + D (D - 1)/2) / sum(D)`` and depends on no order. The interval does:
    neighbouring requests, and the requests of one session, are alike; whole sessions (in the
    order of their first arrival), or single requests without sessions, are the units of a
    block bootstrap.

    Parameters
    ----------
    trace
        At least two requests, in the order of arrival.
    confidence
        Coverage wanted, in (0, 1).
    seed, replicates
        Of the bootstrap.

    Raises
    ------
    InsufficientDataError
        If the trace has one request only; carries the value.

    Notes
    -----
    Under 50 ms for 60,000 requests. Coverage is checked in tests/statistical; see
    `afdplan.statistics.bootstrap.bootstrap_ratio` for the method.

    Examples
    --------
    >>> lengths = np.random.default_rng(3).integers(1, 1000, size=(2, 5000))
    >>> trace = Trace(prompt_tokens=lengths[0], decode_tokens=lengths[1])
    >>> estimate = token_load_estimate(trace)
    >>> estimate.low < 499.5 + 333 < estimate.high  # E[P] + (E[D^2]/E[D] - 1)/2
    True
    """
    law = EmpiricalLengths(trace)
    return bootstrap_token_load(trace, law, confidence, seed, replicates).estimate


def bootstrap_token_load(
    trace: Trace,
    law: EmpiricalLengths,
    confidence: float = ask.CONFIDENCE.default,
    seed: int = 0,
    replicates: int = 2000,
) -> RatioBootstrap:
    """Return the estimate together with what dependence has cost; see `token_load_estimate`.

    `law` is that of the trace, whose mean load is exactly rounded.
    """
    exact = law.token_load().mean
    if trace.requests < 2:
        raise InsufficientDataError(
            f"{trace.source}: an interval needs at least 2 requests, got 1: give more requests, "
            "or the lengths as laws (--prompt 100 --decode 10)",
            estimate=exact,
        )
    result = bootstrap_ratio(
        request_loads(trace),
        trace.decode_tokens,
        clusters=trace.session_ids,
        confidence=confidence,
        seed=seed,
        replicates=replicates,
    )
    found = result.estimate
    method = found.method.replace("clusters", "sessions").replace("entries", "requests")
    # The exactly rounded value may differ from the bootstrap's in the last digit.
    estimate = Estimate(
        value=exact,
        low=max(exact - (found.value - found.low), 0.0),  # else rounding may take it below
        high=exact + (found.high - found.value),
        confidence=confidence,
        method=method,
    )
    return dataclasses.replace(result, estimate=estimate)
