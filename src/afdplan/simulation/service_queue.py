"""When does each request get its first token, if recorded arrivals meet a pool of prefill workers?

Every request waits for one of N alike workers. A free worker takes the next waiting prompt, and
with it, unless another worker is idle, those behind it that fit the same pass (at most C tokens
together, all arrived by then); a prompt longer than C has its passes for itself. The cache then
travels to the decode side, where the request waits for one of S slots, first come first served,
and keeps it for its output.

Exact for the arrivals that are given: no law is fitted, nothing is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from afdplan.arrays import FloatArray, IntArray
from afdplan.model.plan_parameters import PrefillPolicy
from afdplan.model.prefill import PrefillModel

__all__ = ["PromptLine", "prefill_finishes", "slot_starts"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PromptLine:
    """Prompts in the order of their arrival, with what they cost a worker, shape (n,) each.

    Attributes
    ----------
    model
        The worker.
    tokens
        To compute, at least 1.
    pair_times
        Of their causal pairs [s].
    alone
        Whole time of each without company [s].
    shares_passes
        Whether waiting prompts share a pass; else one prompt at a time.
    """

    model: PrefillModel
    tokens: FloatArray
    pair_times: FloatArray
    alone: FloatArray
    shares_passes: bool = True

    @classmethod
    def of(
        cls, model: PrefillModel, prompts: IntArray, cached: IntArray, shares_passes: bool = True
    ) -> PromptLine:
        """Return the line of prompts of which a prefix is cached.

        Examples
        --------
        >>> from afdplan.model.curve import LinearCurve
        >>> model = PrefillModel(name="x", compute=LinearCurve(slope=1.0))
        >>> line = PromptLine.of(model, np.array([3, 5]), np.array([0, 4]))
        >>> line.tokens.tolist(), line.alone.tolist()
        ([3.0, 1.0], [3.0, 1.0])
        """
        tokens = np.maximum(prompts - cached, 1).astype(np.float64)
        return cls(
            model=model,
            tokens=tokens,
            pair_times=model.pair_times(tokens, cached),
            alone=model.times(tokens, cached),
            shares_passes=shares_passes,
        )


def prefill_finishes(
    line: PromptLine, arrivals: FloatArray, workers: int, policy: PrefillPolicy = "first-come"
) -> FloatArray:
    """Return when each prompt is computed [s], shape (n,).

    Parameters
    ----------
    line
        Prompts in the order of their arrival.
    arrivals
        Non-decreasing times [s], shape (n,).
    workers
        N, >= 1.
    policy
        ``first-come``, or ``shortest-prompt``: fewest tokens to compute first, without breaking
        off what runs; equal ones as they came.

    Examples
    --------
    >>> from afdplan.model.curve import LinearCurve
    >>> model = PrefillModel(name="x", compute=LinearCurve(slope=1.0), chunk_tokens=4)
    >>> line = PromptLine.of(model, np.array([3, 4, 2, 2]), np.zeros(4, np.int64))
    >>> prefill_finishes(line, np.zeros(4), 1).tolist()  # the last two share a pass
    [3.0, 7.0, 11.0, 11.0]
    """
    from afdplan.simulation.service_kernel import serve

    segments = line.model.compute.segments()
    finishes = np.empty(arrivals.size)
    waiting = np.empty(arrivals.size, np.int64)
    serve(
        arrivals,
        line.tokens,
        line.pair_times,
        line.alone,
        segments.starts,
        segments.values,
        segments.slopes,
        float(line.model.chunk_tokens) if line.shares_passes else 0.0,
        policy == "shortest-prompt",
        np.full(workers, -np.inf),
        waiting,
        finishes,
    )
    return finishes


def slot_starts(ready: FloatArray, holds: FloatArray, slots: int) -> FloatArray:
    """Return when each request gets one of S slots [s], in the order in which they are ready.

    Parameters
    ----------
    ready
        When each may start [s], in any order, shape (n,).
    holds
        How long it keeps its slot [s].
    slots
        S, >= 1.

    Examples
    --------
    >>> slot_starts(np.array([0.0, 1.0, 2.0]), np.full(3, 5.0), 2).tolist()
    [0.0, 1.0, 5.0]
    """
    from afdplan.simulation.service_kernel import occupy

    order = np.argsort(ready, kind="stable")
    starts = np.empty(ready.size)
    occupy(ready[order], holds[order], np.full(min(slots, ready.size), -np.inf), starts)
    found = np.empty(ready.size)
    found[order] = starts
    return found
