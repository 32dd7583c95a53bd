"""How long until the first token, and which rate keeps it below its limit?

    time to first token = waiting for a prefill worker + passes + transfer + waiting for a slot

by replaying the arrivals through `afdplan.simulation.service_queue`. The rate that a pool carries
is the largest at which the statistic stays within the limit and neither side is asked for more
than it can do in the long run: a replay alone would end before a slow overflow shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from afdplan.arrays import FloatArray
from afdplan.errors import InfeasibleError
from afdplan.model import plan_parameters as ask
from afdplan.model.parameter import check_fields
from afdplan.model.plan_parameters import PrefillPolicy, Statistic
from afdplan.model.prefill import PrefillModel
from afdplan.planning.held import Deployment
from afdplan.planning.limits import TIE
from afdplan.planning.traffic import Traffic
from afdplan.simulation.service_queue import PromptLine, prefill_finishes, slot_starts

__all__ = ["EXACT", "FirstToken", "FirstTokenLimit", "PrefillPool"]

EXACT = 1e-4
"""Relative distance to which a rate is found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstTokenLimit:
    """What is asked of the time to first token.

    Attributes
    ----------
    time_to_first_token
        Most of the statistic [s].
    first_token_statistic
        Over requests: ``mean``, ``p50``, ``p95`` or ``p99``.
    prefill_policy
        Which waiting prompt is next.
    """

    time_to_first_token: float
    first_token_statistic: Statistic = ask.FIRST_TOKEN_STATISTIC.default
    prefill_policy: PrefillPolicy = ask.PREFILL_POLICY.default

    def __post_init__(self) -> None:
        check_fields(self, (ask.TIME_TO_FIRST_TOKEN, ask.FIRST_TOKEN_STATISTIC, ask.PREFILL_POLICY))

    def of(self, times: FloatArray) -> float:
        """Return the limited statistic of some times [s]."""
        if self.first_token_statistic == "mean":
            return float(times.mean())
        return float(np.quantile(times, int(self.first_token_statistic[1:]) / 100))


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstToken:
    """The times to first token of a replay [s].

    Attributes
    ----------
    mean, p50, p95, p99
        Of the whole.
    queue_mean, queue_p99
        Until a prefill worker takes the prompt (or the pass that it shares) and computes it,
        beyond what the prompt would take alone.
    alone_mean
        The prompt's own passes.
    transfer_mean
        The KV cache under way.
    slot_mean, slot_p99
        Until a slot of the decode side is free.
    utilization
        Arrivals over what the workers can compute in full passes.
    """

    mean: float
    p50: float
    p95: float
    p99: float
    queue_mean: float
    queue_p99: float
    alone_mean: float
    transfer_mean: float
    slot_mean: float
    slot_p99: float
    utilization: float


class PrefillPool:
    """Workers of one kind in front of a decode side, asked with any number and rate.

    Parameters
    ----------
    model
        One worker.
    traffic
        Requests in the order of their arrival.
    limit
        Of the time to first token.
    margin
        Share of the limit that is kept away from it.

    Raises
    ------
    InfeasibleError
        If a prompt does not fit a worker, or the limit is below what prompts take alone.
    """

    def __init__(
        self, model: PrefillModel, traffic: Traffic, limit: FirstTokenLimit, margin: float = 0.0
    ) -> None:
        self.model, self.traffic, self.limit = model, traffic, limit
        self._most = limit.time_to_first_token * (1 - margin) * (1 + TIE)
        longest = int(traffic.prompts.max())
        if longest > model.most_tokens:
            raise InfeasibleError(
                f"prefill does not fit: the KV cache of a prompt of {longest:,} tokens needs more "
                f"than the room for {model.most_tokens:,.0f} on {model.name}; give more devices "
                "per worker (--prefill-devices) or a cache of fewer bytes (--kv-precision)"
            )
        self.line = PromptLine.of(model, traffic.prompts, traffic.cached)
        self._transfer = model.transfer_times(traffic.prompts)
        least = limit.of(self.line.alone + self._transfer)
        if least > self._most:
            at = int(self.line.alone.argmax())
            raise InfeasibleError(
                f"--ttft {limit.time_to_first_token:g} s is below what prompts take without any "
                f"waiting: {limit.first_token_statistic} {least:.4g} s on {model.name}, the "
                f"longest ({int(traffic.prompts[at]):,} tokens) {self.line.alone[at]:.4g} s; "
                "give a longer time, faster prefill devices or more of them per worker"
            )

    @cached_property
    def rate_of_worker(self) -> float:
        """Requests per second that one worker computes if prompts always wait."""
        together = np.zeros(self.line.tokens.size)
        done = prefill_finishes(self.line, together, 1, self.limit.prefill_policy)
        return float(done.size / done.max())

    def first_tokens(
        self, workers: int, rate: float, decode: Deployment | None = None
    ) -> FirstToken:
        """Return the times to first token of `workers` at a rate of arrivals [requests/s]."""
        arrivals = self.traffic.at(rate)
        computed, total = self._play(workers, arrivals, decode)
        queue = computed - arrivals - self.line.alone
        slot = total - (computed - arrivals) - self._transfer
        return FirstToken(
            mean=float(total.mean()),
            **{f"p{q}": float(np.quantile(total, q / 100)) for q in (50, 95, 99)},
            queue_mean=float(queue.mean()),
            queue_p99=float(np.quantile(queue, 0.99)),
            alone_mean=float(self.line.alone.mean()),
            transfer_mean=float(self._transfer.mean()),
            slot_mean=float(slot.mean()),
            slot_p99=float(np.quantile(slot, 0.99)),
            utilization=rate / (workers * self.rate_of_worker),
        )

    def ready(self, workers: int, arrivals: FloatArray) -> FloatArray:
        """Return when the cache of each prompt is on the decode side [s], shape (n,)."""
        computed = prefill_finishes(self.line, arrivals, workers, self.limit.prefill_policy)
        return computed + self._transfer

    def carries(self, workers: int, rate: float, decode: Deployment | None = None) -> bool:
        """Return whether the limit holds at a rate, and both sides keep up with it."""
        if rate > self._long_run(workers, decode) * (1 + TIE):
            return False
        _, total = self._play(workers, self.traffic.at(rate), decode)
        return self.limit.of(total) <= self._most

    def most_rate(self, workers: int, decode: Deployment | None = None) -> float:
        """Return the largest rate that is carried [requests/s], to 1e-4; 0 if none is.

        Parameters
        ----------
        workers
            N; 0 carries nothing.
        decode
            Whose slots requests then wait for; None has as many as are needed.
        """
        if workers < 1:
            return 0.0
        high = self._long_run(workers, decode)
        if self.carries(workers, high, decode):
            return high
        low, least = high, 1e-9 * high
        while not self.carries(workers, low, decode):
            low, high = low / 2, low
            if low < least:  # requests that come at one moment wait at any rate
                return 0.0
        while high / low > 1 + EXACT:
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self.carries(workers, middle, decode) else (low, middle)
        return low

    def fewest_workers(self, rate: float, decode: Deployment | None = None) -> int | None:
        """Return the fewest workers that carry a rate; None if the slots do not let any."""
        low = max(math.ceil(rate / self.rate_of_worker * (1 - TIE)), 1) - 1
        most = low + self.traffic.prompts.size
        if not self.carries(most, rate, decode):  # a worker for every prompt: only slots are left
            return None
        high, step = low + 1, 1
        while high < most and not self.carries(high, rate, decode):
            low, high, step = high, min(high + step, most), 2 * step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.carries(middle, rate, decode) else (middle, high)
        return high

    def _long_run(self, workers: int, decode: Deployment | None) -> float:
        able = workers * self.rate_of_worker
        if decode is None:
            return able
        holds = float(self.traffic.decodes.mean()) * decode.time_per_output_token
        return min(able, decode.slots / holds)

    def _play(
        self, workers: int, arrivals: FloatArray, decode: Deployment | None
    ) -> tuple[FloatArray, FloatArray]:
        """Return when each prompt is computed, and its time to first token [s]."""
        computed = prefill_finishes(self.line, arrivals, workers, self.limit.prefill_policy)
        ready = computed + self._transfer
        if decode is not None:
            holds = self.traffic.decodes.astype(np.float64) * decode.time_per_output_token
            ready = slot_starts(ready, holds, decode.slots)
        return computed, ready - arrivals
